/* Which envelope senders belong to a login. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/smtpd/senders.h"
#include "directory.h"

static struct senders senders;

static const struct row { const char *rule, *login, *sender; int want; } rows[] = {
	{ "the null sender", "eve@b.test", "", 1 },
	{ "its own", "ana@a.test", "ana@a.test", 1 },
	{ "in other letters", "ana@a.test", "Ana@A.Test", 1 },
	{ "another's", "eve@b.test", "ana@a.test", 0 },
	{ "of another domain", "eve@b.test", "eve@a.test", 0 },
	{ "that begins so", "eve@b.test", "eve@b.test.evil", 0 },
	{ "that ends so", "eve@b.test", "xeve@b.test", 0 },
	{ "an extension", "eve@b.test", "eve-x@b.test", 0 },
	{ "without a domain", "eve@b.test", "eve", 0 },
	{ "a user of this machine", "eve", "eve@local.test", 1 },
	{ "in a domain of it, in other letters", "eve", "Eve@LOCAL.test", 1 },
	{ "without its domain", "eve", "eve", 1 },
	{ "in another's domain", "eve", "eve@b.test", 0 },
	{ "another user of this machine", "eve", "ana@local.test", 0 },
	{ "two signs", "eve", "eve@local.test@b.test", 0 },
	{ "a domain without a user", "eve", "@local.test", 0 },
	{ "an address of the table", "ana@a.test", "sales@a.test", 1 },
	{ "in other letters there", "ANA@a.test", "Sales@a.TEST", 1 },
	{ "a second one", "ana@a.test", "info@c.test", 1 },
	{ "not for another", "luis@a.test", "sales@a.test", 0 },
	{ "any of a domain", "boss@a.test", "anybody@a.test", 1 },
	{ "and of no other one", "boss@a.test", "anybody@sub.a.test", 0 },
	{ "nor one that ends so", "boss@a.test", "x@y@xa.test", 0 },
	{ "any at all", "list@a.test", "whoever@d.test", 1 },
	{ "all of a domain", "x@staff.test", "news@staff.test", 1 },
	{ "and of no domain below", "x@y.staff.test", "news@staff.test", 0 },
	{ "all", "eve@b.test", "survey@a.test", 1 },
	{ "all that begin so", "ana@a.test", "ana-list@a.test", 1 },
	{ "and nothing behind", "ana@a.test", "ana-@a.test", 1 },
	{ "but not in another domain", "ana@a.test", "ana-list@b.test", 0 },
	{ "with a sign in it", "ana@a.test", "ana-x@b.test@a.test", 1 },
	{ "nor what is shorter", "ana@a.test", "an@a.test", 0 },
	{ "a line without a colon", "broken@a.test", "broken@b.test", 0 },
	{ "an empty login", "", "x@empty.test", 0 },
	{ "an empty sender matches nothing", "none@a.test", "x@a.test", 0 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	assert_int_equal(senders_has(&senders, row->login, row->sender), row->want);
}

static int
read_all(void **state)
{
	const char *file;

	directory_make(state);
	directory_write("control/locals", "local.test\n");
	directory_write("control/me", "me.test\n");
	directory_write("control/submissionsenders", "# who else\nana@a.test:sales@a.test\nana@a.test:info@c.test\nboss@a.test:@a.test\n"
	    "list@a.test:*\n@staff.test:news@staff.test\n*:survey@a.test\nana@a.test:ana-*@a.test\nbroken@a.test\n:x@empty.test\nnone@a.test:\n");
	return !senders_read(&senders, &file);
}

static int
end(void **state)
{
	senders_free(&senders);
	return directory_remove(state);
}

static void
me_stands_in_for_locals(void **state)
{
	struct senders s = { .table = STRALLOC_ZERO };
	const char *file;

	(void)state;
	assert_int_equal(rename("control/locals", "control/other"), 0);
	assert_int_equal(senders_read(&s, &file), 1);
	assert_true(senders_has(&s, "eve", "eve@me.test"));
	assert_false(senders_has(&s, "eve", "eve@local.test"));
	senders_free(&s);
	assert_int_equal(rename("control/other", "control/locals"), 0);
}

static void
what_cannot_be_read_changes_nothing(void **state)
{
	const char *file;

	(void)state;
	assert_int_equal(unlink("control/submissionsenders"), 0);
	assert_int_equal(mkdir("control/submissionsenders", 0700), 0);
	assert_int_equal(senders_read(&senders, &file), 0);
	assert_string_equal(file, "control/submissionsenders");
	assert_true(senders_has(&senders, "ana@a.test", "sales@a.test"));
	assert_int_equal(rmdir("control/submissionsenders"), 0);
}

static void
without_a_table(void **state)
{
	const char *file;

	(void)state;
	assert_int_equal(senders_read(&senders, &file), 1);
	assert_false(senders_has(&senders, "ana@a.test", "sales@a.test"));
	assert_true(senders_has(&senders, "ana@a.test", "ana@a.test"));
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 3];
	size_t n = 0;

	for (; n < ROWS; n++)
		tests[n] = (struct CMUnitTest){ .name = rows[n].rule, .test_func = row_is_right, .initial_state = (void *)(uintptr_t)&rows[n] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(me_stands_in_for_locals);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(what_cannot_be_read_changes_nothing);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(without_a_table);
	return _cmocka_run_group_tests("senders", tests, n, read_all, end);
}
