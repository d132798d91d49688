/* The lines that a delivery puts before a message: interfaces sections 8.4, 8.6 and 8.7, and 24 number 13. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/local/trace.h"

enum kind { RETURN_PATH, FROM, DELIVERED };
static const struct row { const char *rule; enum kind kind; const char *a, *b, *want; } rows[] = {
	{ "Return-Path", RETURN_PATH, "ann@a.example", NULL, "Return-Path: <ann@a.example>\n" },
	{ "Return-Path: null sender", RETURN_PATH, "", NULL, "Return-Path: <>\n" },
	{ "Return-Path: double bounce", RETURN_PATH, "#@[]", NULL, "Return-Path: <#@[]>\n" },
	{ "Return-Path: blank needs quotes", RETURN_PATH, "a b@h", NULL, "Return-Path: <\"a b\"@h>\n" },
	{ "Return-Path: quote and backslash", RETURN_PATH, "a\"\\@h", NULL, "Return-Path: <\"a\\\"\\\\\"@h>\n" },
	{ "Return-Path: last @ divides", RETURN_PATH, "a@b@h", NULL, "Return-Path: <\"a@b\"@h>\n" },
	{ "Return-Path: dots at odd places", RETURN_PATH, ".a..b.@h", NULL, "Return-Path: <\".a..b.\"@h>\n" },
	{ "Return-Path: empty local part", RETURN_PATH, "@h", NULL, "Return-Path: <\"\"@h>\n" },
	{ "Return-Path: no @", RETURN_PATH, "ann", NULL, "Return-Path: <ann>\n" },
	{ "Return-Path: UTF-8 is plain", RETURN_PATH, "j\xc3\xb8rn@h", NULL, "Return-Path: <j\xc3\xb8rn@h>\n" },
	{ "Return-Path: newline becomes _", RETURN_PATH, "a\nb@h\nX: y", NULL, "Return-Path: <\"a_b\"@h_X: y>\n" },
	{ "Return-Path: VERP", RETURN_PATH, "l-owner-@h-@[]", NULL, "Return-Path: <\"l-owner-@h-\"@[]>\n" },
	{ "Delivered-To", DELIVERED, "Ann-x", "a.example", "Delivered-To: Ann-x@a.example\n" },
	{ "Delivered-To: newline becomes _", DELIVERED, "a\nb", "h\n", "Delivered-To: a_b@h_\n" },
	{ "From line", FROM, "ann@h", NULL, "From ann@h Thu Jan  1 00:00:01 1970\n" },
	{ "From line: null sender", FROM, "", NULL, "From MAILER-DAEMON Thu Jan  1 00:00:01 1970\n" },
	{ "From line: blanks become dashes", FROM, "a b\tc\nd@h", NULL, "From a-b-c-d@h Thu Jan  1 00:00:01 1970\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
trace_row(void **state)
{
	const struct row *row = *state;
	stralloc line = STRALLOC_ZERO;

	assert_int_equal(1, row->kind == RETURN_PATH ? trace_return_path(&line, row->a) :
	    row->kind == FROM ? trace_from_line(&line, row->a, 1) : trace_delivered_to(&line, row->a, row->b));
	assert_int_equal(stralloc_0(&line), 1);
	assert_string_equal(line.s, row->want);
	stralloc_free(&line);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = trace_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
