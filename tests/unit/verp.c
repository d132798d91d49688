/* Variable envelope return paths: interfaces section 6.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "bin-src/send/verp.h"

static const struct row { const char *rule, *sender, *recipient, *want, *back; int is; } rows[] = {
	{ "a sender of its own for each recipient", "owner-@h-@[]", "bob@d.org", "owner-bob=d.org@h", "owner-@h", 1 },
	{ "recipient without @", "owner-@h-@[]", "bob", "owner-@h-@[]", "owner-@h", 1 },
	{ "the last @ of the recipient counts", "o-@h-@[]", "\"a@b\"@d", "o-\"a@b\"=d@h", "o-@h", 1 },
	{ "an ordinary sender", "ann@h", "bob@d", "ann@h", "ann@h", 0 },
	{ "the null sender", "", "bob@d", "", "", 0 },
	{ "a double bounce", "#@[]", "bob@d", "#@[]", "#@[]", 0 },
	{ "no host before the mark", "owner-@[]", "bob@d", "owner-@[]", "owner", 0 },
	{ "nothing before the mark", "-@[]", "bob@d", "-@[]", "-@[]", 0 },
	{ "empty list name", "@h-@[]", "bob@d", "bob=d@h", "@h", 1 },
};

static void
run_row(void **state)
{
	const struct row *row = *state;
	stralloc out = STRALLOC_ZERO;

	assert_int_equal(verp_is(row->sender), row->is);
	assert_int_equal(verp_sender(&out, row->sender, row->recipient), 1);
	assert_string_equal(out.s, row->want);
	assert_int_equal(verp_return(&out, row->sender), 1);
	assert_string_equal(out.s, row->back);
	stralloc_free(&out);
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = run_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("verp", tests, NULL, NULL);
}
