/* The users who may ask a service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "service_users.h"

static void
those_who_were_added_and_nobody_else(void **state)
{
	struct service_users u = { .len = 0 };

	(void)state;
	assert_false(service_users_have(&u, 0));
	assert_true(service_users_add(&u, "1000"));
	assert_true(service_users_put(&u, 7));
	assert_true(service_users_have(&u, 1000) && service_users_have(&u, 7));
	assert_false(service_users_have(&u, 0) || service_users_have(&u, 100));
}

static void
what_is_no_number(void **state)
{
	static const char *const words[] = { "", "ana", "7x", "-1", "4294967296" };
	struct service_users u = { .len = 0 };

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		assert_false(service_users_add(&u, words[i]));
	assert_int_equal(u.len, 0);
}

static void
one_too_many(void **state)
{
	struct service_users u = { .len = 0 };

	(void)state;
	for (uid_t i = 0; i < SERVICE_USERS_MAX; i++)
		assert_true(service_users_put(&u, i));
	assert_false(service_users_put(&u, 9) || service_users_add(&u, "9"));
	assert_false(service_users_have(&u, 9));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(those_who_were_added_and_nobody_else), cmocka_unit_test(what_is_no_number), cmocka_unit_test(one_too_many),
	};

	return cmocka_run_group_tests_name("service_users", tests, NULL, NULL);
}
