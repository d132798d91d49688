/* How much which account may send within an hour. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/smtpd/account_limits.h"
#include "directory.h"

static struct account_limits limits;

static const struct row { const char *rule, *account; unsigned long messages, recipients; } rows[] = {
	{ "an account of its own", "ana@a.test", 5, 6 },
	{ "in other letters", "Ana@A.test", 5, 6 },
	{ "the first line counts", "luis@a.test", 7, 8 },
	{ "all of a domain", "eve@a.test", 9, 10 },
	{ "and of none below", "eve@sub.a.test", 20, 30 },
	{ "any number", "list@b.test", 0, 0 },
	{ "messages only", "few@b.test", 1, 30 },
	{ "recipients only", "many@b.test", 20, 90000 },
	{ "neither", "same@b.test", 20, 30 },
	{ "all that begin so", "job-7@b.test", 2, 3 },
	{ "a user of this machine", "eve", 4, 4 },
	{ "more than the most", "huge@b.test", ACCOUNT_LIMITS_MAX, ACCOUNT_LIMITS_MAX },
	{ "nobody's line", "x@c.test", 20, 30 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;
	struct allowance_limits is = account_limits_of(&limits, row->account);

	assert_int_equal(is.messages, row->messages);
	assert_int_equal(is.recipients, row->recipients);
}

static int
read_all(void **state)
{
	const char *file;

	directory_make(state);
	directory_write("control/submissionmessages", "20\n");
	directory_write("control/submissionrecipients", "30\n");
	directory_write("control/submissionlimits", "# others\nana@a.test:5:6\nluis@a.test:7:8\nluis@a.test:1:1\n@a.test:9:10  \nlist@b.test:0:0\n"
	    "few@b.test:1:\nmany@b.test::90000\nsame@b.test::\njob-*@b.test:2:3\neve:4:4\nhuge@b.test:1000000001:18446744073709551615\n");
	return !account_limits_read(&limits, &file);
}

static int
end(void **state)
{
	account_limits_free(&limits);
	return directory_remove(state);
}

/* --- files --------------------------------------------------------------------------------------------------------------- */

static const char *const malformed[] = {
	"ana@a.test", "ana@a.test:5", "ana@a.test:5:6:7", "ana@a.test:five:6", "ana@a.test:5:-6", "ana@a.test: 5:6", ":5:6", "ana@a.test:5 :6",
	"ana@a.test:5:99999999999999999999",
};
enum { MALFORMED = sizeof malformed / sizeof *malformed };

static void
what_makes_no_sense_is_no_file(void **state)
{
	struct account_limits l = { .table = STRALLOC_ZERO };
	char text[128];
	const char *file;

	snprintf(text, sizeof text, "luis@a.test:5:6\n%s\n", (const char *)*state);
	directory_write("control/submissionlimits", text);
	assert_int_equal(account_limits_read(&l, &file), 0);
	assert_int_equal(errno, EINVAL);
	assert_string_equal(file, "control/submissionlimits");
	assert_null(l.table.s);
}

static void
what_cannot_be_read(void **state)
{
	static const char *const files[] = { "control/submissionmessages", "control/submissionrecipients", "control/submissionlimits" };
	struct account_limits l = { .table = STRALLOC_ZERO };
	const char *file;

	(void)state;
	for (unsigned int i = 0; i < sizeof files / sizeof *files; i++) {
		unlink(files[i]);
		assert_int_equal(mkdir(files[i], 0700), 0);
		assert_int_equal(account_limits_read(&l, &file), 0);
		assert_string_equal(file, files[i]);
		assert_int_equal(rmdir(files[i]), 0);
	}
}

static void
without_files(void **state)
{
	struct account_limits l = { .table = STRALLOC_ZERO };
	struct allowance_limits is;
	const char *file;

	(void)state;
	assert_int_equal(account_limits_read(&l, &file), 1);
	is = account_limits_of(&l, "ana@a.test");
	assert_int_equal(is.messages, ACCOUNT_LIMITS_MESSAGES);
	assert_int_equal(is.recipients, ACCOUNT_LIMITS_RECIPIENTS);
	account_limits_free(&l);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + MALFORMED + 2];
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = row_is_right, .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < MALFORMED; i++)
		tests[n++] = (struct CMUnitTest){ .name = malformed[i], .test_func = what_makes_no_sense_is_no_file,
		    .initial_state = (void *)(uintptr_t)malformed[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(what_cannot_be_read);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(without_files);
	return _cmocka_run_group_tests("account_limits", tests, n, read_all, end);
}
