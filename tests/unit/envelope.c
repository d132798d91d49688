/* The envelope of qmail-queue, in pieces of every size: interfaces section 5.1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "queue/envelope.h"
#include "queue/protocol.h"

static const struct row {
	const char *rule, *octets;
	size_t len;
	unsigned int code;
	int complete;
	uint32_t recipients;
	size_t rest;	/* octets behind the envelope */
} rows[] = {
	{ "sender and two recipients", "Fa@b\0Tc@d\0Te@f\0\0", 16, QUEUE_OK, 1, 2, 0 },
	{ "null sender", "F\0Tc@d\0\0", 8, QUEUE_OK, 1, 1, 0 },
	{ "no recipient is allowed", "Fa\0\0", 4, QUEUE_OK, 1, 0, 0 },
	{ "empty recipient", "Fa\0T\0\0", 6, QUEUE_OK, 1, 1, 0 },
	{ "octets behind the end", "Fa\0\0xyz", 7, QUEUE_OK, 1, 0, 3 },
	{ "S13: truncated", "Fa\0Tb", 5, QUEUE_OK, 0, 1, 0 },
	{ "no octet at all", "", 0, QUEUE_OK, 0, 0, 0 },
	{ "wrong first letter", "Ta\0\0", 4, QUEUE_ENVELOPE, 0, 0, 0 },
	{ "wrong letter between addresses", "Fa\0Xb\0\0", 7, QUEUE_ENVELOPE, 0, 0, 0 },
	{ "NUL first", "\0", 1, QUEUE_ENVELOPE, 0, 0, 0 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
check_row(void **state)
{
	const struct row *row = *state;

	for (size_t piece = 1; piece <= row->len + 1; piece++) {
		struct envelope_check c = { .state = ENVELOPE_START };
		size_t at = 0, used = 0;
		unsigned int code = QUEUE_OK;

		while (at < row->len && code == QUEUE_OK && c.state != ENVELOPE_COMPLETE) {
			size_t n = row->len - at < piece ? row->len - at : piece;
			char *s = memcpy(test_malloc(n), row->octets + at, n);	/* exact size: ASan sees over-reads */

			code = envelope_check(&c, s, n, &used);
			test_free(s);
			at += used;
		}
		assert_int_equal(code, row->code);
		assert_int_equal(c.state == ENVELOPE_COMPLETE, row->complete);
		if (code == QUEUE_OK) {
			assert_int_equal(c.recipients, row->recipients);
			if (row->complete)
				assert_int_equal(row->len - at, row->rest);
		}
	}
}

static void
longest_address(void **state)
{
	for (size_t len = QUEUE_ADDRESS_MAX; len <= QUEUE_ADDRESS_MAX + 1; len++) {
		struct envelope_check c = { .state = ENVELOPE_START };
		char *s = test_malloc(len + 3);
		size_t used;

		(void)state;
		memset(s, 'a', len + 3);
		s[0] = 'F';
		s[len + 1] = s[len + 2] = '\0';
		assert_int_equal(envelope_check(&c, s, len + 3, &used),
		    len > QUEUE_ADDRESS_MAX ? QUEUE_ADDRESS_TOO_LONG : QUEUE_OK);
		test_free(s);
	}
}

static void
too_many_recipients(void **state)	/* S12: 10^6 recipients and more, bounded */
{
	struct envelope_check c = { .state = ENVELOPE_START };
	char address[64];
	size_t used;
	unsigned int code = envelope_check(&c, "F\0", 2, &used);

	(void)state;
	memset(address, 'a', sizeof address);
	address[0] = 'T';
	address[sizeof address - 1] = '\0';
	while (code == QUEUE_OK && c.total <= QUEUE_ENVELOPE_MAX)
		code = envelope_check(&c, address, sizeof address, &used);
	assert_int_equal(code, QUEUE_REFUSED);
}

static void
addresses_in_order(void **state)
{
	const char *a = envelope_sender("Fsender\0Tone\0T\0Tthree\0\0");

	(void)state;
	assert_string_equal(a, "sender");
	assert_string_equal(a = envelope_next(a), "one");
	assert_string_equal(a = envelope_next(a), "");
	assert_string_equal(a = envelope_next(a), "three");
	assert_null(envelope_next(a));
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 3] = {
		cmocka_unit_test(longest_address),
		cmocka_unit_test(too_many_recipients),
		cmocka_unit_test(addresses_in_order),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i + 3] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = check_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
