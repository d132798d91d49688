#include <string.h>
#include "queue/envelope.h"
#include "queue/protocol.h"

/* RFC 3461 sections 4.1 to 4.4, RFC 6152 section 2, RFC 6531 section 3.4 */
static const struct keyword {
	const char *name;	/* with its '=' if it takes a value */
	char kind;		/* of the address that it may follow */
} keywords[] = {
	{ "RET=", 'F' }, { "ENVID=", 'F' }, { "BODY=", 'F' }, { "SMTPUTF8", 'F' }, { "NOTIFY=", 'T' }, { "ORCPT=", 'T' },
};
enum { KEYWORDS = sizeof keywords / sizeof *keywords };

/* A keyword has been read as far as the octet end: '=', ' ' or NUL. Returns 1 if it may stand here. */
static int
take_keyword(struct envelope_check *c, char end)
{
	for (unsigned int i = 0; i < KEYWORDS; i++) {
		size_t len = strlen(keywords[i].name);
		int has_value = keywords[i].name[len - 1] == '=';

		len -= has_value ? 1u : 0;
		if (len != c->keyword_len || memcmp(keywords[i].name, c->keyword, len))
			continue;
		if (c->seen & 1u << i || has_value != (end == '=') || (keywords[i].kind == 'F') != (c->recipients == 0))
			return 0;
		c->seen |= (uint8_t)(1u << i);
		c->value_len = 0;
		c->state = end == '=' ? ENVELOPE_VALUE : end ? ENVELOPE_KEYWORD : ENVELOPE_NEXT;
		c->keyword_len = 0;
		return 1;
	}
	return 0;
}

/* An octet of parameters: 1, or 0 if it cannot stand here. */
static int
take_parameter_octet(struct envelope_check *c, char octet)
{
	if (c->state == ENVELOPE_KEYWORD) {
		if (octet == '=' || octet == ' ' || !octet)
			return take_keyword(c, octet);
		if (c->keyword_len == ENVELOPE_KEYWORD_MAX)
			return 0;
		c->keyword[c->keyword_len++] = octet;
		return 1;
	}
	if (octet == ' ' || !octet) {
		c->state = octet ? ENVELOPE_KEYWORD : ENVELOPE_NEXT;
		return c->value_len != 0;
	}
	/* esmtp-value: RFC 5321 section 4.1.2, RFC 6531 section 3.3 */
	c->value_len = 1;
	return (unsigned char)octet > 32 && octet != 127 && octet != '=';
}

static unsigned int
check_parameters(struct envelope_check *c, const char *s, size_t len, size_t *used)
{
	size_t i = 0;

	while (i < len && c->state != ENVELOPE_NEXT) {
		if (s[i] && c->address_len++ == QUEUE_PARAMETERS_MAX)
			return QUEUE_REFUSED;
		if (!take_parameter_octet(c, s[i++]))
			return QUEUE_ENVELOPE;
	}
	*used = i;
	return QUEUE_OK;
}

static unsigned int
check_address(struct envelope_check *c, const char *s, size_t len, size_t *used)
{
	const char *nul = memchr(s, '\0', len);
	size_t n = nul ? (size_t)(nul - s) : len;

	c->address_len += n;
	if (c->address_len > QUEUE_ADDRESS_MAX)
		return QUEUE_ADDRESS_TOO_LONG;
	if (nul) {
		n++;
		c->state = ENVELOPE_NEXT;
		c->takes_parameters = 1;
	}
	*used = n;
	return QUEUE_OK;
}

/* The first octet of a record. */
static unsigned int
check_kind(struct envelope_check *c, char kind)
{
	int takes_parameters = c->takes_parameters;

	c->takes_parameters = 0;
	c->address_len = 0;
	if (c->state == ENVELOPE_NEXT && !kind) {
		c->state = ENVELOPE_COMPLETE;
		return QUEUE_OK;
	}
	if (c->state == ENVELOPE_NEXT && kind == 'P' && takes_parameters) {
		c->state = ENVELOPE_KEYWORD;
		c->seen = c->keyword_len = 0;
		return QUEUE_OK;
	}
	if (kind != (c->state == ENVELOPE_START ? 'F' : 'T'))
		return QUEUE_ENVELOPE;
	c->recipients += kind == 'T';
	c->state = ENVELOPE_ADDRESS;
	return QUEUE_OK;
}

unsigned int
envelope_check(struct envelope_check *c, const char *s, size_t len, size_t *used)
{
	size_t i = 0;

	while (i < len && c->state != ENVELOPE_COMPLETE) {
		unsigned int code;
		size_t n = 1;

		if (c->total == QUEUE_ENVELOPE_MAX)
			return QUEUE_REFUSED;
		if (c->state == ENVELOPE_ADDRESS)
			code = check_address(c, s + i, len - i, &n);
		else if (c->state == ENVELOPE_KEYWORD || c->state == ENVELOPE_VALUE)
			code = check_parameters(c, s + i, len - i, &n);
		else
			code = check_kind(c, s[i]);
		if (code)
			return code;
		i += n;
		c->total += n;
		if (c->total > QUEUE_ENVELOPE_MAX)
			return QUEUE_REFUSED;
	}
	*used = i;
	return QUEUE_OK;
}

const char *
envelope_sender(const char *envelope)
{
	return envelope + 1;
}

/* The octet that begins the record after the one whose octets start at s. */
static const char *
next_record(const char *s)
{
	return s + strlen(s) + 1;
}

const char *
envelope_next(const char *address)
{
	address = next_record(address);
	if (*address == 'P')
		address = next_record(address);
	return *address == 'T' ? address + 1 : NULL;
}

const char *
envelope_parameters(const char *address)
{
	address = next_record(address);
	return *address == 'P' ? address + 1 : NULL;
}

const char *
envelope_parameter(const char *parameters, const char *keyword, size_t *len)
{
	size_t n = strlen(keyword);

	while (parameters && *parameters) {
		const char *end = strchrnul(parameters, ' ');

		if ((size_t)(end - parameters) >= n && memcmp(parameters, keyword, n) == 0 &&
		    (keyword[n - 1] == '=' || parameters + n == end)) {
			*len = (size_t)(end - parameters) - n;
			return parameters + n;
		}
		parameters = *end ? end + 1 : end;
	}
	return NULL;
}
