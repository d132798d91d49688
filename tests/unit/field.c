/* Header fields and header lines of a message, in memory and in a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/local/field.h"
#include "bin-src/local/message.h"

static const struct row { const char *rule, *message, *name; char separator; int r; const char *want; } rows[] = {
	{ "plain", "Subject: a b\n\n", "subject", 0, 1, "a b" },
	{ "no blank", "Subject:a\n\n", "subject", 0, 1, "a" },
	{ "blanks before the colon", "Subject \t: a\n\n", "subject", 0, 1, "a" },
	{ "letter case", "SUBJECT: A\n\n", "subject", 0, 1, "A" },
	{ "trailing blanks and CR", "Subject: a \t\r\n\n", "subject", 0, 1, "a" },
	{ "folded", "Subject: a\n\tb\n c\nX: y\n\n", "subject", 0, 1, "a\tb c" },
	{ "folded at once", "Subject:\n a\n\n", "subject", 0, 1, "a" },
	{ "continuation of another", "X: y\n Subject: a\nSubject: b\n\n", "subject", 0, 1, "b" },
	{ "empty", "Subject:\nX: y\n\n", "subject", 0, 1, "" },
	{ "longer name", "Subjects: a\n\n", "subject", 0, 0, "" },
	{ "shorter name", "Subj: a\n\n", "subject", 0, 0, "" },
	{ "in the body", "X: y\n\nSubject: a\n", "subject", 0, 0, "" },
	{ "first of two", "To: a\nTo: b\n\n", "to", 0, 1, "a" },
	{ "all of two", "To: a\nX: y\nTo: b\n c\n\n", "to", ',', 1, "a,b c" },
	{ "no end of the header", "X: y\nTo: a", "to", 0, 1, "a" },
	{ "no message", "", "to", 0, 0, "" },
	{ "name without a colon", "To\nTo: a\n\n", "to", 0, 1, "a" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
field_row(void **state)
{
	const struct row *row = *state;
	stralloc body = STRALLOC_ZERO;
	struct message m = { .octets = row->message, .size = strlen(row->message), .fd = -1 };
	FILE *file = tmpfile();

	assert_non_null(file);
	fputs(row->message, file);
	fflush(file);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(field_get(&body, &m, row->name, row->separator), row->r);
		assert_int_equal(body.len, strlen(row->want));
		if (body.len)
			assert_memory_equal(body.s, row->want, body.len);
		assert_int_equal(message_of_file(&m, fileno(file)), 1);
	}
	fclose(file);
	stralloc_free(&body);
}

static void
nul_is_left_out(void **state)
{
	struct message m = { .octets = "To: a\0b\n\n", .size = 9, .fd = -1 };
	stralloc body = STRALLOC_ZERO;

	(void)state;
	assert_int_equal(field_get(&body, &m, "to", 0), 1);
	assert_int_equal(body.len, 2);
	assert_memory_equal(body.s, "ab", 2);
	stralloc_free(&body);
}

static void
long_body_is_cut(void **state)
{
	static char text[4 * FIELD_MAX];
	struct message m = { .octets = text, .size = sizeof text, .fd = -1 };
	stralloc body = STRALLOC_ZERO;

	(void)state;
	memset(text, 'x', sizeof text);
	snprintf(text, sizeof text, "To:");
	text[3] = ' ';
	assert_int_equal(field_get(&body, &m, "to", 0), 1);
	assert_int_equal(body.len, FIELD_MAX);
	stralloc_free(&body);
}

static const struct loop_row { const char *rule, *message; int r; } loops[] = {
	{ "line in the header", "A: b\nDelivered-To: x@h\n\n", 1 },
	{ "first line", "Delivered-To: x@h\nA: b\n\n", 1 },
	{ "last line without newline", "A: b\nDelivered-To: x@h", 1 },
	{ "other letter case", "delivered-to: x@h\n\n", 0 },
	{ "other recipient", "Delivered-To: X@h\n\n", 0 },
	{ "longer", "Delivered-To: x@h.\n\n", 0 },
	{ "shorter", "Delivered-To: x@\n\n", 0 },
	{ "continuation", "A: b\n Delivered-To: x@h\n\n", 0 },
	{ "in the body", "A: b\n\nDelivered-To: x@h\n", 0 },
	{ "no message", "", 0 },
};
enum { LOOPS = sizeof loops / sizeof *loops };

static void
loop_row(void **state)
{
	const struct loop_row *row = *state;
	struct message m = { .octets = row->message, .size = strlen(row->message), .fd = -1 };

	assert_int_equal(message_has_header_line(&m, "Delivered-To: x@h", 17), row->r);
}

/* Each program gets a file of its own, read-only, at its start. */
static void
files_for_programs(void **state)
{
	struct message m = { .octets = "hello", .size = 5, .fd = -1 };
	char got[8];
	int a, b;

	(void)state;
	a = message_open(&m);
	b = message_open(&m);
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(read(a, got, sizeof got), 5);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(read(b, got, sizeof got), 5);
	assert_int_equal(lseek(a, 0, SEEK_SET), 0);
	assert_int_equal(write(a, "x", 1), -1);
	close(a);
	close(b);
}

static void
pipe_is_no_message(void **state)
{
	struct message m;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(message_of_file(&m, ends[0]), 0);
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + LOOPS + 4];
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = field_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < LOOPS; i++)
		tests[n++] = (struct CMUnitTest){ .name = loops[i].rule, .test_func = loop_row,
		    .initial_state = (void *)(uintptr_t)&loops[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(nul_is_left_out);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(long_body_is_cut);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(files_for_programs);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(pipe_is_no_message);
	return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
