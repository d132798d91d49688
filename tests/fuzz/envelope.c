/* Envelopes as qmail-queue reads them, given any octets, in pieces of any length. */
#include <assert.h>
#include <skalibs/stralloc.h>
#include "given.h"
#include "queue/envelope.h"
#include "queue/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* Checks in pieces. Returns the code; *used: octets that were taken. */
static unsigned int
check(struct envelope_check *c, const char *s, size_t len, size_t piece, size_t *used)
{
	unsigned int code = QUEUE_OK;

	*c = (struct envelope_check){ .state = ENVELOPE_START };
	for (*used = 0; *used < len && c->state != ENVELOPE_COMPLETE; ) {
		size_t some = len - *used < piece ? len - *used : piece, n;

		code = envelope_check(c, s + *used, some, &n);
		if (code)
			return code;
		assert(n <= some && (n == some || c->state == ENVELOPE_COMPLETE));
		*used += n;
	}
	return code;
}

/* A record of an envelope as it was. */
static void
put(stralloc *to, char kind, const char *s)
{
	assert(stralloc_append(to, kind) && stralloc_catb(to, s, strlen(s) + 1));
}

/* Every keyword is found, with its value. */
static void
check_parameters(const char *parameters)
{
	size_t words = 1, found = 0, len;
	static const char *const keywords[] = { "RET=", "ENVID=", "BODY=", "SMTPUTF8", "NOTIFY=", "ORCPT=" };

	assert(strlen(parameters) <= QUEUE_PARAMETERS_MAX);
	for (const char *s = parameters; *s; s++)
		words += *s == ' ';
	for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
		const char *value = envelope_parameter(parameters, keywords[i], &len);

		found += value != NULL;
		if (value) {
			assert(value >= parameters + strlen(keywords[i]) && memcmp(value - strlen(keywords[i]), keywords[i], strlen(keywords[i])) == 0);
			assert(value[len] == '\0' || value[len] == ' ');
			assert((keywords[i][strlen(keywords[i]) - 1] == '=') == (len > 0));
		}
	}
	assert(found == words);
}

/* Written out again from what its readers see, it is the same. */
static void
read_again(const struct envelope_check *c, const char *s, size_t len)
{
	static stralloc again;
	const char *address = envelope_sender(s);
	uint32_t recipients = 0;

	again.len = 0;
	for (char kind = 'F'; address; kind = 'T') {
		const char *parameters = envelope_parameters(address);

		recipients += kind == 'T';
		assert(strlen(address) <= QUEUE_ADDRESS_MAX);
		put(&again, kind, address);
		if (parameters) {
			check_parameters(parameters);
			put(&again, 'P', parameters);
		}
		address = envelope_next(address);
	}
	assert(stralloc_0(&again) && again.len == len && memcmp(again.s, s, len) == 0 && recipients == c->recipients);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct envelope_check whole, pieces;
	size_t used = 0, other = 0;
	char *s = given_copy(octets, len);
	unsigned int code = check(&whole, s, len, len + 1, &used);

	for (size_t piece = 1; piece < 9; piece += 3) {
		assert(check(&pieces, s, len, piece, &other) == code);
		assert(code || (other == used && pieces.state == whole.state && pieces.total == whole.total && pieces.recipients == whole.recipients));
	}
	if (!code && whole.state == ENVELOPE_COMPLETE) {
		char *exact = given_copy(s, used);

		assert(whole.total == used);
		read_again(&whole, exact, used);
		free(exact);
	}
	free(s);
	return 0;
}
