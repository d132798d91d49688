#include <string.h>
#include <strings.h>
#include <skalibs/types.h>
#include <skalibs/uint64.h>
#include "domain.h"
#include "queue/envelope.h"
#include "quote.h"
#include "session.h"
#include "smtp_command.h"
#include "utf8.h"

/* --- addresses ------------------------------------------------------------------- */

int
smtp_command_is_ascii(const char *address)
{
	while (*address && (unsigned char)*address < 128)
		address++;
	return !*address;
}

int
smtp_command_can_carry(const char *address)
{
	const char *at = strrchr(address, '@');

	if (strlen(address) > SMTP_COMMAND_ADDRESS_MAX)
		return 0;
	for (const char *s = address; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 32 || c == 127 || (at && s > at && (c == ' ' || strchr("<>\"\\(),;", c))))
			return 0;
	}
	return 1;
}

/* The domain of an address that is not ASCII, in the letters of the DNS. 0: the local-part is not ASCII, or the domain has none. */
static int
ascii_domain(char ascii[DOMAIN_MAX + 1], const char *address)
{
	const char *at = strrchr(address, '@');

	for (const char *s = address; at && s < at; s++)
		if ((unsigned char)*s > 127)
			return 0;
	return at && domain_to_ascii(ascii, at + 1);
}

int
smtp_command_needs_utf8(const char *address)
{
	char ascii[DOMAIN_MAX + 1];

	return !smtp_command_is_ascii(address) && !ascii_domain(ascii, address);
}

static int
add_address(stralloc *to, const char *address, unsigned int extensions)
{
	char ascii[DOMAIN_MAX + 1];

	if (extensions & SESSION_SMTPUTF8 || smtp_command_is_ascii(address) || !ascii_domain(ascii, address))
		return quote_address(to, address, strlen(address));
	return quote_address(to, address, (size_t)(strrchr(address, '@') + 1 - address)) && stralloc_cats(to, ascii);
}

static int
add_path(stralloc *to, const char *command, const char *address, unsigned int extensions)
{
	return stralloc_cats(to, command) && stralloc_append(to, '<') && add_address(to, address, extensions) &&
	    stralloc_append(to, '>');
}

/* --- parameters -------------------------------------------------------------------- */

static int
is_any(const char *s, size_t len, const char *const *words)
{
	for (; *words; words++)
		if (strlen(*words) == len && strncasecmp(s, *words, len) == 0)
			return 1;
	return 0;
}

/* xtext of RFC 3461 section 4, or of RFC 6533 section 3 where the server has SMTPUTF8: no blank, no '=', nothing that
 * ends a line. */
static int
is_xtext(const char *s, size_t len, unsigned int extensions)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 33 || c == '=' || c == 127 || (c > 127 && !(extensions & SESSION_SMTPUTF8)))
			return 0;
	}
	return len > 0;
}

static int
is_ret(const char *s, size_t len, unsigned int extensions)
{
	static const char *const words[] = { "FULL", "HDRS", NULL };

	(void)extensions;
	return is_any(s, len, words);
}

static int
is_envid(const char *s, size_t len, unsigned int extensions)
{
	size_t octets = 0;

	for (size_t i = 0; i < len; i += s[i] == '+' ? 3 : 1)
		octets++;
	return octets <= SMTP_COMMAND_ENVID_MAX && is_xtext(s, len, extensions & ~(unsigned int)SESSION_SMTPUTF8);
}

/* NEVER, or a list of the others. */
static int
is_notify(const char *s, size_t len, unsigned int extensions)
{
	static const char *const words[] = { "SUCCESS", "FAILURE", "DELAY", NULL }, *const never[] = { "NEVER", NULL };
	const char *comma;

	(void)extensions;
	if (is_any(s, len, never))
		return 1;
	while ((comma = memchr(s, ',', len))) {
		if (!is_any(s, (size_t)(comma - s), words))
			return 0;
		len -= (size_t)(comma + 1 - s);
		s = comma + 1;
	}
	return is_any(s, len, words);
}

/* addr-type ';' xtext */
static int
is_orcpt(const char *s, size_t len, unsigned int extensions)
{
	const char *semicolon = memchr(s, ';', len);

	return semicolon && semicolon > s && semicolon + 1 < s + len && len <= SMTP_COMMAND_ORCPT_MAX &&
	    is_xtext(s, len, extensions);
}

typedef int is_value(const char *s, size_t len, unsigned int extensions);

/* " KEYWORD=value", if it is among the parameters and makes sense. keyword: with '='. */
static int
add_parameter(stralloc *to, const char *parameters, const char *keyword, is_value *makes_sense, unsigned int extensions)
{
	size_t len = 0;
	const char *value = envelope_parameter(parameters, keyword, &len);

	if (!value || !makes_sense(value, len, extensions))
		return 1;
	return stralloc_append(to, ' ') && stralloc_cats(to, keyword) && stralloc_catb(to, value, len);
}

/* The address of type utf-8 that the len octets are, in ASCII: utf-8-addr-xtext of RFC 6533 section 3, which needs no SMTPUTF8.
 * Returns 1, -1 on lack of memory, or 0: it is none, or too long. to may have more then. */
static int
add_utf8_address(stralloc *to, const char *s, size_t len)
{
	size_t start = to->len;

	for (size_t n; len; s += n, len -= n) {
		char embedded[UTF8_EMBEDDED_MAX];

		n = utf8_length(s, len);
		if (!n)
			return 0;
		if (n == 1 ? !stralloc_append(to, *s) : !stralloc_catb(to, embedded, utf8_embedded(embedded, s, n)))
			return -1;
	}
	return to->len - start <= SMTP_COMMAND_ORCPT_MAX - strlen("utf-8;");
}

/* ORCPT, where one of type utf-8 has to be ASCII and is not. The others are add_parameter's. */
static int
add_orcpt(stralloc *to, const char *parameters, unsigned int extensions)
{
	static const char type[] = "utf-8;";
	size_t len = 0, type_len = sizeof type - 1, start = to->len;
	const char *value = envelope_parameter(parameters, "ORCPT=", &len);
	int r;

	if (!value || len <= type_len || strncasecmp(value, type, type_len) != 0 || is_orcpt(value, len, extensions) ||
	    !is_orcpt(value, len, extensions | SESSION_SMTPUTF8))
		return add_parameter(to, parameters, "ORCPT=", is_orcpt, extensions);
	r = stralloc_cats(to, " ORCPT=") && stralloc_cats(to, type) ? add_utf8_address(to, value + type_len, len - type_len) : -1;
	if (r == 0)
		to->len = start;
	return r >= 0;
}

int
smtp_command_has(const char *parameters, const char *keyword)
{
	size_t len;

	return envelope_parameter(parameters, keyword, &len) != NULL;
}

/* --- commands ------------------------------------------------------------------------- */

static int
add_number(stralloc *to, const char *before, uint64_t n)
{
	char digits[UINT64_FMT];

	return stralloc_cats(to, before) && stralloc_catb(to, digits, uint64_fmt(digits, n));
}

static int
is_declared_8bit(const char *parameters)
{
	size_t len = 0;
	const char *type = envelope_parameter(parameters, "BODY=", &len);

	return type && len == 8 && memcmp(type, "8BITMIME", 8) == 0;
}

int
smtp_command_mail(stralloc *to, const struct smtp_command_mail *m)
{
	/* qmail's sender of a double bounce is no path, and bounces no more than the null one */
	const char *sender = strcmp(m->sender, "#@[]") == 0 ? "" : m->sender;
	int ok = add_path(to, "MAIL FROM:", sender, m->extensions);

	if (m->extensions & SESSION_SIZE)
		ok = ok && add_number(to, " SIZE=", m->size);
	if (m->extensions & SESSION_8BITMIME && (m->has_8bit || is_declared_8bit(m->parameters)))
		ok = ok && stralloc_cats(to, " BODY=8BITMIME");
	if (m->extensions & SESSION_SMTPUTF8 && m->wants_utf8)
		ok = ok && stralloc_cats(to, " SMTPUTF8");
	if (m->extensions & SESSION_DSN)
		ok = ok && add_parameter(to, m->parameters, "RET=", is_ret, m->extensions) &&
		    add_parameter(to, m->parameters, "ENVID=", is_envid, m->extensions);
	return ok && stralloc_cats(to, "\r\n");
}

int
smtp_command_rcpt(stralloc *to, const char *address, const char *parameters, unsigned int extensions)
{
	int ok = add_path(to, "RCPT TO:", address, extensions);

	if (extensions & SESSION_DSN)
		ok = ok && add_parameter(to, parameters, "NOTIFY=", is_notify, extensions) &&
		    add_orcpt(to, parameters, extensions);
	return ok && stralloc_cats(to, "\r\n");
}

int
smtp_command_bdat(stralloc *to, uint64_t size, int is_last)
{
	return add_number(to, "BDAT ", size) && stralloc_cats(to, is_last ? " LAST\r\n" : "\r\n");
}
