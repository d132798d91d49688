/* utf8: characters in UTF-8 (RFC 3629), and their form in ASCII within addresses of reports (RFC 6533 section 3). */
#ifndef UTF8_H
#define UTF8_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Whether some octet is above 127: what is there is not ASCII, and perhaps not UTF-8 either. */
static inline int
utf8_is_8bit(const char *s, size_t len)
{
	unsigned char all = 0;

	for (size_t i = 0; i < len; i++)
		all |= (unsigned char)s[i];
	return all > 127;
}

/* Puts '?' in the place of each octet above 127. */
static inline void
utf8_hide_8bit(char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] > 127)
			s[i] = '?';
}

enum { UTF8_EMBEDDED_MAX = 10 };	/* "\x{10FFFF}" */

/* Octets of the character at s, which has len > 0 octets, RFC 3629 section 4; 0 if there is none. */
static inline size_t
utf8_length(const char *s, size_t len)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t n = u[0] < 0x80 ? 1 : u[0] < 0xc2 ? 0 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : u[0] < 0xf5 ? 4 : 0;

	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
	    (u[0] == 0xf4 && u[1] > 0x8f))
		return 0;
	return n;
}

/* Whether all of it is characters. */
static inline int
utf8_is_valid(const char *s, size_t len)
{
	for (size_t n; len; s += n, len -= n)
		if (!(n = utf8_length(s, len)))
			return 0;
	return 1;
}

/* EmbeddedUnicodeChar of RFC 6533 section 3 for the character at s, of which utf8_length says that it has n octets. Returns how
 * many octets of out it has. */
static inline size_t
utf8_embedded(char out[UTF8_EMBEDDED_MAX], const char *s, size_t n)
{
	static const char hex[] = "0123456789ABCDEF";
	uint32_t c = (unsigned char)*s;
	char digits[6];
	size_t i = sizeof digits, len;

	c &= n == 2 ? 0x1f : n == 3 ? 0x0f : n == 4 ? 0x07 : 0x7f;
	for (size_t k = 1; k < n; k++)
		c = c << 6 | ((unsigned char)s[k] & 0x3f);
	do
		digits[--i] = hex[c & 15];
	while (c >>= 4);
	if (sizeof digits - i < 2)
		digits[--i] = '0';
	len = sizeof digits - i;
	memcpy(out, "\\x{", 3);
	memcpy(out + 3, digits + i, len);
	out[3 + len] = '}';
	return len + 4;
}

#endif
