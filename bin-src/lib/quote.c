#include <string.h>
#include "quote.h"

/* RFC 5322 section 3.2.3, RFC 6532 section 3.2 */
static int
is_atext(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c >= 128 ||
	    (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static int
is_dot_atom(const char *s, size_t len)
{
	if (len == 0 || s[0] == '.' || s[len - 1] == '.')
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '.' ? s[i - 1] == '.' : !is_atext((unsigned char)s[i]))
			return 0;
	}
	return 1;
}

static char
without_line_end(char c)
{
	return c == '\n' || c == '\r' || c == '\0' ? '_' : c;
}

static int
add_plain(stralloc *to, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!stralloc_append(to, without_line_end(s[i])))
			return 0;
	}
	return 1;
}

static int
add_quoted(stralloc *to, const char *s, size_t len)
{
	if (!stralloc_append(to, '"'))
		return 0;
	for (size_t i = 0; i < len; i++) {
		if ((s[i] == '"' || s[i] == '\\') && !stralloc_append(to, '\\'))
			return 0;
		if (!stralloc_append(to, without_line_end(s[i])))
			return 0;
	}
	return stralloc_append(to, '"');
}

int
quote_address(stralloc *to, const char *s, size_t len)
{
	const char *at = memrchr(s, '@', len);
	size_t local = at ? (size_t)(at - s) : len;

	if (len == 0)
		return 1;
	if (!(is_dot_atom(s, local) ? add_plain(to, s, local) : add_quoted(to, s, local)))
		return 0;
	return add_plain(to, s + local, len - local);
}
