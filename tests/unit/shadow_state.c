/* Which accounts of the shadow file may be used, on day 20000. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "bin-src/users/shadow_state.h"

static const struct row { const char *rule; long changed, max, expire; int valid; } rows[] = {
	{ "nothing is said", -1, -1, -1, 1 },
	{ "as useradd makes it", 19000, 99999, -1, 1 },
	{ "an account that expires tomorrow", 19000, 99999, 20001, 1 },
	{ "an account that expires today", 19000, 99999, 20000, 0 },
	{ "an account that has expired", 19000, 99999, 1, 0 },
	{ "an account that never was valid", 19000, 99999, 0, 0 },
	{ "a password's last day", 19990, 10, -1, 1 },
	{ "a password that is too old", 19989, 10, -1, 0 },
	{ "a password for a day", 20000, 0, -1, 1 },
	{ "a password to be changed first", 0, 99999, -1, 0 },
	{ "a password that does not get old", 19000, -1, -1, 1 },
	{ "no day of change", -1, 10, -1, 1 },
	{ "changed in the future", 20010, 5, -1, 1 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
valid_row(void **state)
{
	const struct row *row = *state;
	const struct spwd sp = { .sp_lstchg = row->changed, .sp_max = row->max, .sp_expire = row->expire };

	assert_int_equal(shadow_state_is_valid(&sp, 20000), row->valid);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = valid_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("shadow_state", tests, NULL, NULL);
}
