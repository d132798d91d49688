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
#define ROW(rule, octets, code, complete, recipients) { rule, octets, sizeof octets - 1, code, complete, recipients, 0 }
	ROW("parameters of the sender", "Fa\0PBODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\0Tb\0\0", QUEUE_OK, 1, 1),
	ROW("parameters of recipients", "Fa\0Tb\0PNOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@h\0Tc\0Td\0PNOTIFY=NEVER\0\0",
	    QUEUE_OK, 1, 3),
	ROW("parameters of sender and recipient", "F\0PSMTPUTF8\0T\0PNOTIFY=NEVER\0\0", QUEUE_OK, 1, 1),
	ROW("UTF-8 in a value", "Fa\0Tb\0PORCPT=utf-8;\303\240@h\0\0", QUEUE_OK, 1, 1),
	ROW("truncated in parameters", "Fa\0PRET=FU", QUEUE_OK, 0, 0),
	ROW("parameters before the sender", "PRET=FULL\0Fa\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("parameters twice", "Fa\0PRET=FULL\0PENVID=a\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("parameters twice, recipient", "Fa\0Tb\0PNOTIFY=NEVER\0PORCPT=rfc822;b\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("empty parameters", "Fa\0P\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("lower-case keyword", "Fa\0Pret=FULL\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("unknown keyword", "Fa\0PSIZE=1\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("longer unknown keyword", "Fa\0PSMTPUTF88\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("beginning of a keyword", "Fa\0PRE=FULL\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("keyword twice", "Fa\0PRET=FULL RET=HDRS\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("recipient's keyword after the sender", "Fa\0PNOTIFY=NEVER\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("sender's keyword after a recipient", "Fa\0Tb\0PRET=FULL\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("no value", "Fa\0PRET\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("empty value", "Fa\0PRET=\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("empty value before another", "Fa\0PRET= ENVID=a\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("value where none is", "Fa\0PSMTPUTF8=1\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("two blanks", "Fa\0PRET=FULL  ENVID=a\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("blank first", "Fa\0P RET=FULL\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("blank last", "Fa\0PRET=FULL \0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("line end in a value", "Fa\0PENVID=a\nb\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("tab in a value", "Fa\0PENVID=a\tb\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("DEL in a value", "Fa\0PENVID=a\177\0\0", QUEUE_ENVELOPE, 0, 0),
	ROW("'=' in a value", "Fa\0PENVID=a=b\0\0", QUEUE_ENVELOPE, 0, 0),
#undef ROW
};
enum { ROWS = sizeof rows / sizeof *rows, EXTRA = 5 };

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
longest_parameters(void **state)
{
	(void)state;
	for (size_t len = QUEUE_PARAMETERS_MAX; len <= QUEUE_PARAMETERS_MAX + 1; len++) {
		struct envelope_check c = { .state = ENVELOPE_START };
		char *s = test_malloc(len + 5);
		size_t used;

		memset(s, 'a', len + 5);
		memcpy(s, "F\0PENVID=", 9);
		s[3 + len] = s[4 + len] = '\0';
		assert_int_equal(envelope_check(&c, s, len + 5, &used),
		    len > QUEUE_PARAMETERS_MAX ? QUEUE_REFUSED : QUEUE_OK);
		test_free(s);
	}
}

static void
parameters_of_addresses(void **state)
{
	const char *a = envelope_sender("Fs\0PRET=HDRS SMTPUTF8\0Tone\0Ttwo\0PORCPT=rfc822;two NOTIFY=NEVER\0Tthree\0\0"), *value;
	size_t len = 0;

	(void)state;
	value = envelope_parameter(envelope_parameters(a), "RET=", &len);
	assert_int_equal(len, 4);
	assert_memory_equal(value, "HDRS", 4);
	assert_non_null(envelope_parameter(envelope_parameters(a), "SMTPUTF8", &len));
	assert_null(envelope_parameter(envelope_parameters(a), "ENVID=", &len));
	assert_string_equal(a = envelope_next(a), "one");
	assert_null(envelope_parameters(a));
	assert_null(envelope_parameter(NULL, "ORCPT=", &len));
	assert_string_equal(a = envelope_next(a), "two");
	value = envelope_parameter(envelope_parameters(a), "NOTIFY=", &len);
	assert_int_equal(len, 5);
	assert_memory_equal(value, "NEVER", 5);
	assert_string_equal(a = envelope_next(a), "three");
	assert_null(envelope_next(a));
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
	struct CMUnitTest tests[ROWS + EXTRA] = {
		cmocka_unit_test(longest_address),
		cmocka_unit_test(longest_parameters),
		cmocka_unit_test(parameters_of_addresses),
		cmocka_unit_test(too_many_recipients),
		cmocka_unit_test(addresses_in_order),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i + EXTRA] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = check_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
