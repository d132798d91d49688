#include <string.h>
#include <strings.h>
#include "sasl.h"

/* --- base64: RFC 4648 section 4 ------------------------------------------------------------------------------ */

static int
value_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Decodes four characters into to, which has room for three octets. Returns how many it made, or -1. */
static int
decode_group(char *to, const char *s, int is_last)
{
	int padding = !is_last || s[3] != '=' ? 0 : s[2] == '=' ? 2 : 1;
	unsigned int bits = 0;

	for (int i = 0; i < 4; i++) {
		int value = i < 4 - padding ? value_of(s[i]) : 0;

		if (value < 0)
			return -1;
		bits = bits << 6 | (unsigned int)value;
	}
	/* the bits that are left over are 0: there is one way to write a thing */
	if (bits & ((1U << 8 * padding) - 1))
		return -1;
	for (int i = 0; i < 3 - padding; i++)
		to[i] = (char)(bits >> (16 - 8 * i));
	return 3 - padding;
}

/* Decodes a line into to, which gets a NUL behind it. Returns the number of octets, or -1: it is no base64, or too long. */
static int
decode(char to[SASL_MAX + 1], const char *line)
{
	size_t len = strlen(line), n = 0;

	if (len % 4 || len / 4 * 3 > SASL_MAX)
		return -1;
	for (size_t i = 0; i < len; i += 4) {
		int made = decode_group(to + n, line + i, i + 4 == len);

		if (made < 0)
			return -1;
		n += (size_t)made;
	}
	to[n] = '\0';
	return (int)n;
}

/* --- the mechanisms ------------------------------------------------------------------------------------------- */

int
sasl_find(enum sasl_mechanism *m, const char *name)
{
	static const char *const names[] = { [SASL_PLAIN] = "PLAIN", [SASL_LOGIN] = "LOGIN" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcasecmp(name, names[i]) == 0) {
			*m = (enum sasl_mechanism)i;
			return 1;
		}
	return 0;
}

/* RFC 4616 section 2: authorization identity NUL authentication identity NUL password. */
static enum sasl_result
take_plain(struct sasl *s, const char *line)
{
	int len = decode(s->first, line);
	const char *end, *login, *secret;

	if (len < 0)
		return SASL_MALFORMED;
	end = s->first + len;
	login = s->first + strlen(s->first) + 1;
	secret = login <= end ? login + strlen(login) + 1 : login;
	if (secret > end || secret + strlen(secret) != end || !*login || !*secret)
		return SASL_MALFORMED;
	if (*s->first && strcmp(s->first, login) != 0)
		return SASL_FOREIGN;
	s->login = login;
	s->secret = secret;
	return SASL_DONE;
}

static enum sasl_result
ask(struct sasl *s, const char *challenge)
{
	s->challenge = challenge;
	return SASL_CHALLENGE;
}

/* Two questions, "Username:" and "Password:". */
static enum sasl_result
take_login(struct sasl *s, const char *line)
{
	char *to = s->steps == 1 ? s->first : s->second;
	int len = decode(to, line);

	if (len <= 0 || strlen(to) != (size_t)len)
		return SASL_MALFORMED;
	if (s->steps == 1)
		return ask(s, "UGFzc3dvcmQ6");
	s->login = s->first;
	s->secret = s->second;
	return SASL_DONE;
}

enum sasl_result
sasl_take(struct sasl *s, const char *line)
{
	if (strcmp(line, "*") == 0)
		return SASL_CANCELLED;
	s->steps++;
	return s->mechanism == SASL_PLAIN ? take_plain(s, line) : take_login(s, line);
}

enum sasl_result
sasl_begin(struct sasl *s, enum sasl_mechanism m, const char *initial)
{
	s->mechanism = m;
	s->steps = 0;
	s->login = s->secret = NULL;
	if (initial)
		return sasl_take(s, strcmp(initial, "=") == 0 ? "" : initial);
	return ask(s, m == SASL_PLAIN ? "" : "VXNlcm5hbWU6");
}

void
sasl_forget(struct sasl *s)
{
	explicit_bzero(s, sizeof *s);
}
