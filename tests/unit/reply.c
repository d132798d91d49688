/* Replies to SMTP clients: RFC 5321 section 4.2, RFC 2034; texts of other programs are hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/reply.h"

static const struct reply_row {
	const char *rule; unsigned int code; const char *enhanced, *text, *plain, *extended;
} rows[] = {
	{ "fine", 250, "2.1.0", "ok", "250 ok\r\n", "250 2.1.0 ok\r\n" },
	{ "no code", 354, "", "go ahead", "354 go ahead\r\n", "354 go ahead\r\n" },
	{ "refused", 553, "5.7.1", "no", "553 no (#5.7.1)\r\n", "553 5.7.1 no (#5.7.1)\r\n" },
	{ "a code of its own", 554, "5.3.0", "no (#5.1.3)", "554 no (#5.1.3)\r\n", "554 5.1.3 no (#5.1.3)\r\n" },
	{ "one of another class", 554, "5.3.0", "no (#4.1.3)", "554 no (#4.1.3) (#5.3.0)\r\n", "554 5.3.0 no (#4.1.3) (#5.3.0)\r\n" },
	{ "one that is none", 554, "5.3.0", "no (#5.x)", "554 no (#5.x) (#5.3.0)\r\n", "554 5.3.0 no (#5.x) (#5.3.0)\r\n" },
	{ "one that is cut", 554, "5.3.0", "no (#5)", "554 no (#5) (#5.3.0)\r\n", "554 5.3.0 no (#5) (#5.3.0)\r\n" },
	{ "dots only", 554, "5.3.0", "no (#5....)", "554 no (#5....) (#5.3.0)\r\n", "554 5.3.0 no (#5....) (#5.3.0)\r\n" },
	{ "a parenthesis only", 554, "5.3.0", ")", "554 ) (#5.3.0)\r\n", "554 5.3.0 ) (#5.3.0)\r\n" },
	{ "empty", 451, "4.3.0", "", "451  (#4.3.0)\r\n", "451 4.3.0  (#4.3.0)\r\n" },
	{ "controls and 8 bits", 451, "4.3.0", "a\x1b[1m\xff\t", "451 a?[1m?? (#4.3.0)\r\n", "451 4.3.0 a?[1m?? (#4.3.0)\r\n" },
	{ "a second line", 451, "4.3.0", "a\r\n250 ok", "451 a (#4.3.0)\r\n", "451 4.3.0 a (#4.3.0)\r\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
reply_row(void **state)
{
	const struct reply_row *row = *state;

	for (int extended = 0; extended < 2; extended++) {
		struct reply r = { .fd = -1, .is_extended = extended };
		const char *want = extended ? row->extended : row->plain;

		reply_put(&r, row->code, row->enhanced, row->text);
		assert_int_equal(r.len, strlen(want));
		assert_memory_equal(r.out, want, r.len);
	}
}

static void
long_texts(void **state)
{
	struct reply r = { .fd = -1, .is_extended = 1 };
	char text[5000];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	reply_put(&r, 554, "5.3.0", text);
	assert_true(r.len <= 512);
	r.len = 0;
	reply_line(&r, 220, ' ', text);
	assert_true(r.len <= 512);
}

static void
nobody_reads(void **state)
{
	struct reply r = { .fd = -1 };

	(void)state;
	for (int i = 0; i < 1000; i++)
		reply_put(&r, 250, "2.0.0", "ok");
	assert_true(r.is_broken);
	assert_true(r.len <= REPLY_SIZE);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = reply_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(long_texts);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(nobody_reads);
	return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
