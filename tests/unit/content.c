/* Mail data of DATA and BDAT: RFC 5321 sections 2.3.8 and 4.5.2, RFC 3030; hostile inputs S1, S2, S6, S15. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/content.h"

#define TEXT(s) s, sizeof s - 1

enum want { FINE = 0, BARE_LF = 1, BARE_CR = 2, OPEN = 4 };	/* OPEN: the data has not ended */

/* octets: what is sent; message: what comes out, if it is FINE; rest: octets that were not taken. */
static const struct content_row {
	const char *rule, *octets; size_t len;
	const char *message; size_t message_len;
	unsigned int want; size_t rest;
} rows[] = {
	{ "a message", TEXT("a\r\nb\r\n.\r\n"), TEXT("a\nb\n"), FINE, 0 },
	{ "an empty message", TEXT(".\r\n"), TEXT(""), FINE, 0 },
	{ "a command behind it", TEXT("a\r\n.\r\nQUIT\r\n"), TEXT("a\n"), FINE, 6 },
	{ "dots", TEXT("..\r\n...\r\n.a\r\na.\r\n.\r\n"), TEXT(".\n..\na\na.\n"), FINE, 0 },
	{ "NUL and 8 bits stay", TEXT("\0\xff\r\n.\r\n"), TEXT("\0\xff\n"), FINE, 0 },
	{ "not at its end", TEXT("a\r\n"), TEXT("a\n"), OPEN, 0 },
	{ "not at its end, dot", TEXT("a\r\n."), TEXT("a\n"), OPEN, 0 },
	{ "not at its end, CR", TEXT("a\r\n.\r"), TEXT("a\n"), OPEN, 0 },
	{ "smuggling: LF . LF", TEXT("a\n.\nMAIL FROM:<x>\r\n"), TEXT(""), BARE_LF | OPEN, 0 },
	{ "smuggling: CR . CR", TEXT("a\r.\rMAIL FROM:<x>\r\n"), TEXT(""), BARE_CR | OPEN, 0 },
	{ "smuggling: CR . LF", TEXT("a\r.\nMAIL\r\n"), TEXT(""), BARE_CR | BARE_LF | OPEN, 0 },
	{ "smuggling: LF . CR", TEXT("a\n.\rMAIL\r\n"), TEXT(""), BARE_CR | BARE_LF | OPEN, 0 },
	{ "smuggling: LF . CR LF", TEXT("a\n.\r\nMAIL\r\n"), TEXT(""), BARE_LF | OPEN, 0 },
	{ "smuggling: CR LF . LF", TEXT("a\r\n.\nMAIL\r\n"), TEXT(""), BARE_LF | OPEN, 0 },
	{ "smuggling: CR . CR LF", TEXT("a\r.\r\nMAIL\r\n"), TEXT(""), BARE_CR | OPEN, 0 },
	{ "smuggling: CR LF . CR", TEXT("a\r\n.\rMAIL\r\n"), TEXT(""), BARE_CR | OPEN, 0 },
	{ "smuggling: CR LF NUL . CR LF", TEXT("a\r\n\0.\r\nMAIL\r\n"), TEXT("a\n\0.\nMAIL\n"), OPEN, 0 },
	{ "smuggling: CR LF . NUL CR LF", TEXT("a\r\n.\0\r\nMAIL\r\n"), TEXT("a\n\0\nMAIL\n"), OPEN, 0 },
	{ "smuggling: CR LF . CR CR LF", TEXT("a\r\n.\r\r\nMAIL\r\n"), TEXT(""), BARE_CR | OPEN, 0 },
	{ "smuggling: CR CR LF . CR CR LF", TEXT("a\r\r\n.\r\r\nMAIL\r\n"), TEXT(""), BARE_CR | OPEN, 0 },
	{ "CR CR LF . CR LF ends, and is refused", TEXT("a\r\r\n.\r\nMAIL\r\n"), TEXT(""), BARE_CR, 6 },
	{ "a bare LF, then the true end", TEXT("a\n.\nb\r\n.\r\n"), TEXT(""), BARE_LF, 0 },
	{ "LF CR", TEXT("a\n\rb\r\n.\r\n"), TEXT(""), BARE_LF | BARE_CR, 0 },
};
enum { ROWS = sizeof rows / sizeof *rows };

/* Feeds a row in pieces of size octets. */
static void
feed_row(const struct content_row *row, size_t size)
{
	struct content c;
	char message[256], *out = message;
	size_t taken = 0;

	content_start(&c, 1);
	while (taken < row->len && c.state != CONTENT_END) {
		size_t n = row->len - taken < size ? row->len - taken : size, used, len;
		char *s = memcpy(test_malloc(n), row->octets + taken, n);

		len = content_take(&c, s, n, &used);
		memcpy(out, s, len);
		out += len;
		taken += used;
		assert_true(used == n || c.state == CONTENT_END);
		test_free(s);
	}
	assert_int_equal(c.has_bare_lf, !!(row->want & BARE_LF));
	assert_int_equal(c.has_bare_cr, !!(row->want & BARE_CR));
	assert_int_equal(c.state != CONTENT_END, !!(row->want & OPEN));
	assert_int_equal(row->len - taken, row->rest);
	if (content_is_condemned(&c))
		return;
	assert_int_equal(out - message, row->message_len);
	assert_int_equal(c.octets, row->message_len);
	assert_memory_equal(message, row->message, row->message_len);
}

static void
data_row(void **state)
{
	const struct content_row *row = *state;

	for (size_t size = 1; size <= row->len; size++)
		feed_row(row, size);
}

static void
chunks(void **state)
{
	struct content c;
	char s[] = ".\r\n..a\r\n.\r", t[] = "\nb\r\n";
	size_t used;

	(void)state;
	content_start(&c, 0);
	assert_int_equal(content_take(&c, s, 10, &used), 7);
	assert_memory_equal(s, ".\n..a\n.", 7);
	assert_int_equal(content_take(&c, t, 4, &used), 3);
	assert_memory_equal(t, "\nb\n", 3);
	content_finish(&c);
	assert_false(content_is_condemned(&c));
	assert_int_equal(c.octets, 10);
}

static void
chunk_ends_in_cr(void **state)
{
	struct content c;
	char s[] = "a\r";
	size_t used;

	(void)state;
	content_start(&c, 0);
	content_take(&c, s, 2, &used);
	assert_false(content_is_condemned(&c));
	content_finish(&c);
	assert_true(c.has_bare_cr);
}

static void
hops(void **state)
{
	static const char text[] = "Received: a\r\n\treceived\r\nRECEIVED-SPF: b\r\ndelivered-To: c\r\nDelivere: d\r\nX: Received\r\n"
	    "Deliveredx\r\nReceive\r\n\r\nReceived: in the body\r\n";

	(void)state;
	for (size_t size = 1; size < sizeof text; size++) {
		struct content c;

		content_start(&c, 1);
		for (size_t at = 0; at < sizeof text - 1; at += size) {
			char s[sizeof text];
			size_t used, n = sizeof text - 1 - at < size ? sizeof text - 1 - at : size;

			memcpy(s, text + at, n);
			content_take(&c, s, n, &used);
		}
		assert_int_equal(c.hops, 4);
	}
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 3];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = data_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(chunks);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(chunk_ends_in_cr);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(hops);
	return cmocka_run_group_tests_name("content", tests, NULL, NULL);
}
