/* When a message is tried again: interfaces section 6.3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "bin-src/send/schedule.h"

static const struct next_row { const char *rule; int64_t birth, now; enum route_channel channel; int64_t want; } next_rows[] = {
	{ "remote, at age 0: after 400 s", 1000, 1000, ROUTE_REMOTE, 1400 },
	{ "remote, at 400: 1600", 1000, 1400, ROUTE_REMOTE, 2600 },
	{ "remote, at 1600: 3600", 1000, 2600, ROUTE_REMOTE, 4600 },
	{ "remote, late by 40 s: the root is floored", 1000, 1440, ROUTE_REMOTE, 2600 },
	{ "remote, late by 41 s: the next root", 1000, 1441, ROUTE_REMOTE, 1000 + 41 * 41 },
	{ "local, at age 0: after 100 s", 1000, 1000, ROUTE_LOCAL, 1100 },
	{ "local, at 100: 400", 1000, 1100, ROUTE_LOCAL, 1400 },
	{ "local, at 400: 900", 1000, 1400, ROUTE_LOCAL, 1900 },
	{ "born in the future counts as born now", 5000, 1000, ROUTE_REMOTE, 1400 },
	{ "after a week", 0, 604800, ROUTE_REMOTE, 797 * 797 },
	{ "negative clock", -1000, -1000, ROUTE_LOCAL, -900 },
};

static void
next_row(void **state)
{
	const struct next_row *row = *state;

	assert_int_equal(schedule_next(row->birth, row->now, row->channel), row->want);
}

static const struct next_row resume_rows[] = {
	{ "resume: tried at age 0", 1000, 1000, ROUTE_REMOTE, 1400 },
	{ "resume: tried just before a time", 1000, 1399, ROUTE_REMOTE, 1400 },
	{ "resume: tried at a time, so the one after it", 1000, 1400, ROUTE_REMOTE, 2600 },
	{ "resume: tried between", 1000, 2000, ROUTE_REMOTE, 2600 },
	{ "resume: local", 1000, 1100, ROUTE_LOCAL, 1400 },
	{ "resume: tried before its birth", 1000, 500, ROUTE_LOCAL, 600 },
};

static void
resume_row(void **state)
{
	const struct next_row *row = *state;

	assert_int_equal(schedule_resume(row->birth, row->now, row->channel), row->want);
}

static void
root_is_exact(void **state)
{
	(void)state;
	for (uint64_t root = 0; root < 70000; root++) {
		assert_int_equal(schedule_root(root * root), root);
		assert_int_equal(schedule_root(root * root + 2 * root), root);
	}
	for (uint64_t root = UINT32_MAX; root > UINT32_MAX - 1000; root--) {
		assert_int_equal(schedule_root(root * root), root);
		assert_int_equal(schedule_root(root * root - 1), root - 1);
	}
	assert_int_equal(schedule_root(UINT64_MAX), UINT32_MAX);
}

static void
resume_is_what_next_would_have_given(void **state)
{
	int64_t due = 0;

	(void)state;
	while (due < 700000) {
		int64_t next = schedule_next(0, due, ROUTE_REMOTE);

		for (int64_t t = due; t < next; t += 97)
			assert_int_equal(schedule_resume(0, t, ROUTE_REMOTE), next);
		due = next;
	}
}

static void
over_after_the_lifetime(void **state)
{
	(void)state;
	assert_int_equal(schedule_is_over(1000, 1600, 600), 0);
	assert_int_equal(schedule_is_over(1000, 1601, 600), 1);
	assert_int_equal(schedule_is_over(9000, 1000, 0), 0);
	assert_int_equal(schedule_is_over(1000, 1001, 0), 1);
}

int
main(void)
{
	enum { NEXT = sizeof next_rows / sizeof *next_rows, RESUME = sizeof resume_rows / sizeof *resume_rows };
	struct CMUnitTest tests[NEXT + RESUME + 3];
	size_t n = 0;

	for (size_t i = 0; i < NEXT; i++)
		tests[n++] = (struct CMUnitTest){ .name = next_rows[i].rule, .test_func = next_row,
		    .initial_state = (void *)(uintptr_t)&next_rows[i] };
	for (size_t i = 0; i < RESUME; i++)
		tests[n++] = (struct CMUnitTest){ .name = resume_rows[i].rule, .test_func = resume_row,
		    .initial_state = (void *)(uintptr_t)&resume_rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(root_is_exact);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(resume_is_what_next_would_have_given);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(over_after_the_lifetime);
	return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
