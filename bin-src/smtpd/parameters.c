#include <string.h>
#include <strings.h>
#include "parameters.h"
#include "path.h"

/* One parameter: keyword, and what stands behind "=". */
struct parameter {
	const char *value;	/* NULL: no "=" */
	size_t len;
};

typedef enum parameters_result taker(struct parameters *p, const struct parameter *q);

static int
is_value(const struct parameter *q, const char *wanted)
{
	return q->value && q->len == strlen(wanted) && strncasecmp(q->value, wanted, q->len) == 0;
}

/* Adds "KEYWORD=value" or "KEYWORD" to the text. */
static enum parameters_result
hand_on(struct parameters *p, const char *keyword, const char *value, size_t len)
{
	size_t n = strlen(keyword);

	if (p->len + n + len + 2 > PARAMETERS_TEXT_MAX)
		return PARAMETERS_MALFORMED;
	if (p->len)
		p->text[p->len++] = ' ';
	memcpy(p->text + p->len, keyword, n);
	p->len += n;
	if (value) {
		p->text[p->len++] = '=';
		memcpy(p->text + p->len, value, len);
		p->len += len;
	}
	p->text[p->len] = '\0';
	return PARAMETERS_OK;
}

static enum parameters_result
take_size(struct parameters *p, const struct parameter *q)
{
	const uint64_t most = UINT64_C(1) << 63;

	if (!q->len || q->len > 20)	/* RFC 1870 section 3: 1*20DIGIT */
		return PARAMETERS_MALFORMED;
	p->has_size = 1;
	for (size_t i = 0; i < q->len; i++) {
		unsigned int digit = (unsigned char)q->value[i] - (unsigned int)'0';

		if (digit > 9)
			return PARAMETERS_MALFORMED;
		p->size = p->size > (most - digit) / 10 ? most : p->size * 10 + digit;
	}
	return PARAMETERS_OK;
}

static enum parameters_result
take_body(struct parameters *p, const struct parameter *q)
{
	p->is_8bit = is_value(q, "8BITMIME");
	if (p->is_8bit)
		return hand_on(p, "BODY", "8BITMIME", 8);
	if (is_value(q, "7BIT"))
		return hand_on(p, "BODY", "7BIT", 4);
	return q->len ? PARAMETERS_UNKNOWN : PARAMETERS_MALFORMED;	/* BINARYMIME is not offered */
}

static enum parameters_result
take_smtputf8(struct parameters *p, const struct parameter *q)
{
	if (q->value)
		return PARAMETERS_MALFORMED;
	p->is_smtputf8 = 1;
	return hand_on(p, "SMTPUTF8", NULL, 0);
}

static enum parameters_result
take_ret(struct parameters *p, const struct parameter *q)
{
	if (is_value(q, "FULL"))
		return hand_on(p, "RET", "FULL", 4);
	if (is_value(q, "HDRS"))
		return hand_on(p, "RET", "HDRS", 4);
	return PARAMETERS_MALFORMED;
}

static int
hexadecimal(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Octets that an xtext (RFC 3461 section 4) stands for; -1 if it is none, or if a control or an octet above 126 is in it. */
static int
xtext_length(const char *s, size_t len)
{
	int n = 0;

	for (size_t i = 0; i < len; i++, n++) {
		int o = (unsigned char)s[i];

		if (o < 33 || o > 126 || o == '=')
			return -1;
		if (o != '+')
			continue;
		if (len - i < 3 || hexadecimal(s[i + 1]) < 0 || hexadecimal(s[i + 2]) < 0)
			return -1;
		o = hexadecimal(s[i + 1]) * 16 + hexadecimal(s[i + 2]);
		if (o < 32 || o > 126)
			return -1;
		i += 2;
	}
	return n;
}

static enum parameters_result
take_envid(struct parameters *p, const struct parameter *q)
{
	int n = q->value ? xtext_length(q->value, q->len) : 0;

	return n < 1 || n > PARAMETERS_ENVID_MAX ? PARAMETERS_MALFORMED : hand_on(p, "ENVID", q->value, q->len);
}

/* RFC 4954 section 5: whom somebody else calls the author. Nobody here asks, so it is looked at, and forgotten. */
static enum parameters_result
take_auth(struct parameters *p, const struct parameter *q)
{
	(void)p;
	return !q->value || q->len > PARAMETERS_AUTH_MAX || xtext_length(q->value, q->len) < 1 ? PARAMETERS_MALFORMED : PARAMETERS_OK;
}

/* One of the words of NOTIFY at the start of s: its number, or -1. */
static int
notify_word(const char *s, size_t len)
{
	static const char *const words[] = { "NEVER", "SUCCESS", "FAILURE", "DELAY" };

	for (int i = 0; i < 4; i++)
		if (len == strlen(words[i]) && strncasecmp(s, words[i], len) == 0)
			return i;
	return -1;
}

static enum parameters_result
take_notify(struct parameters *p, const struct parameter *q)
{
	static const char *const forms[] = { NULL, "SUCCESS", "FAILURE", "SUCCESS,FAILURE", "DELAY", "SUCCESS,DELAY", "FAILURE,DELAY",
		"SUCCESS,FAILURE,DELAY" };
	const char *s = q->value, *end = s ? s + q->len : NULL;
	unsigned int seen = 0;

	if (is_value(q, "NEVER"))
		return hand_on(p, "NOTIFY", "NEVER", 5);
	while (s) {
		const char *comma = memchr(s, ',', (size_t)(end - s));
		int word = notify_word(s, (size_t)((comma ? comma : end) - s));

		if (word < 1)
			return PARAMETERS_MALFORMED;
		seen |= 1u << (word - 1);
		s = comma ? comma + 1 : NULL;
	}
	return seen ? hand_on(p, "NOTIFY", forms[seen], strlen(forms[seen])) : PARAMETERS_MALFORMED;
}

/* utf-8-addr-xtext or utf-8-addr-unitext of RFC 6533 section 3, so far as it matters: printable, valid UTF-8, and every
 * escape is \x{HEX} of a character that is no control. */
static int
is_utf8_address(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		unsigned long code = 0;

		n = (unsigned char)s[i] > 127 ? path_utf8(s + i, len - i) : 1;
		if (n == 0 || s[i] == ' ' || s[i] == '=' || s[i] == '+' || (unsigned char)s[i] < 32 || s[i] == 127)
			return 0;
		if (s[i] != '\\')
			continue;
		if (len - i < 6 || s[i + 1] != 'x' || s[i + 2] != '{')
			return 0;
		for (n = 3; n < 9 && i + n < len && hexadecimal(s[i + n]) >= 0; n++)
			code = code * 16 + (unsigned long)hexadecimal(s[i + n]);
		if (i + n >= len || s[i + n++] != '}' || code < 32 || (code >= 127 && code < 160) || code > 0x10ffff)
			return 0;
	}
	return len > 0;
}

static int
is_atom_octet(int o)
{
	return (o >= 'a' && o <= 'z') || (o >= 'A' && o <= 'Z') || (o >= '0' && o <= '9') || o == '-';
}

static enum parameters_result
take_orcpt(struct parameters *p, const struct parameter *q)
{
	const char *semicolon = q->value ? memchr(q->value, ';', q->len) : NULL, *address;
	size_t type, len;

	if (!semicolon || q->len > PARAMETERS_ORCPT_MAX)
		return PARAMETERS_MALFORMED;
	type = (size_t)(semicolon - q->value);
	for (size_t i = 0; i < type; i++)
		if (!is_atom_octet((unsigned char)q->value[i]))
			return PARAMETERS_MALFORMED;
	address = semicolon + 1;
	len = q->len - type - 1;
	if (type == 0 || (type == 5 && strncasecmp(q->value, "utf-8", 5) == 0 ? !is_utf8_address(address, len) : xtext_length(address, len) < 1))
		return PARAMETERS_MALFORMED;
	return hand_on(p, "ORCPT", q->value, q->len);
}

static const struct row {
	const char *keyword;
	enum parameters_command command;
	taker *take;
} rows[] = {
	{ "SIZE", PARAMETERS_MAIL, take_size },
	{ "BODY", PARAMETERS_MAIL, take_body },
	{ "SMTPUTF8", PARAMETERS_MAIL, take_smtputf8 },
	{ "RET", PARAMETERS_MAIL, take_ret },
	{ "ENVID", PARAMETERS_MAIL, take_envid },
	{ "AUTH", PARAMETERS_MAIL, take_auth },
	{ "NOTIFY", PARAMETERS_RCPT, take_notify },
	{ "ORCPT", PARAMETERS_RCPT, take_orcpt },
};
enum { ROWS = sizeof rows / sizeof *rows };

static enum parameters_result
take_parameter(struct parameters *p, const char *s, size_t len, enum parameters_command command, unsigned int *seen)
{
	const char *equals = memchr(s, '=', len);
	size_t n = equals ? (size_t)(equals - s) : len;
	struct parameter q = { .value = equals ? equals + 1 : NULL, .len = equals ? len - n - 1 : 0 };

	for (unsigned int i = 0; i < ROWS; i++) {
		if (rows[i].command != command || strlen(rows[i].keyword) != n || strncasecmp(rows[i].keyword, s, n) != 0)
			continue;
		if (*seen & 1u << i)
			return PARAMETERS_MALFORMED;
		*seen |= 1u << i;
		return rows[i].take(p, &q);
	}
	return PARAMETERS_UNKNOWN;
}

enum parameters_result
parameters_parse(struct parameters *p, const char *s, size_t len, enum parameters_command command)
{
	const char *end = s + len;
	unsigned int seen = 0;

	*p = (struct parameters){ .len = 0 };
	for (;;) {
		const char *start;
		enum parameters_result r;

		while (s < end && (*s == ' ' || *s == '\t'))
			s++;
		if (s == end)
			return PARAMETERS_OK;
		for (start = s; s < end && *s != ' ' && *s != '\t'; s++)
			;
		r = take_parameter(p, start, (size_t)(s - start), command, &seen);
		if (r != PARAMETERS_OK)
			return r;
	}
}
