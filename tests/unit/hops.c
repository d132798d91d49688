/* Lines that count as hops, in one piece and octet by octet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/smtpd/hops.h"

static const struct row { const char *rule, *message; unsigned int hops; } rows[] = {
	{ "no header", "\nReceived: x\n", 0 },
	{ "a hop", "Received: x\n\n", 1 },
	{ "in any case", "rEcEiVeD: x\nDELIVERED-TO: x\n\n", 2 },
	{ "two kinds", "Received: x\nDelivered-To: y\nSubject: z\n\n", 2 },
	{ "a field that begins so", "Received-SPF: x\n\n", 1 },
	{ "not within a line", "Subject: Received\n Received: x\n\n", 0 },
	{ "a name that ends early", "Receive\n\nReceived: x\n", 0 },
	{ "not in the body", "Subject: x\n\nReceived: y\n", 0 },
	{ "an empty line with CR", "Received: x\r\n\r\nReceived: y\r\n", 1 },
	{ "a line without end does not count yet", "Received: x", 0 },
	{ "a header that does not end", "Received: x\nReceived: y\n", 2 },
};

static void
hops_row(void **state)
{
	const struct row *row = *state;
	struct hops whole = { .count = 0 }, octets = { .count = 0 };
	size_t len = strlen(row->message);

	hops_watch(&whole, row->message, len);
	for (size_t i = 0; i < len; i++)
		hops_watch(&octets, row->message + i, 1);
	assert_int_equal(whole.count, row->hops);
	assert_int_equal(octets.count, row->hops);
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, hops_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("hops", tests, NULL, NULL);
}
