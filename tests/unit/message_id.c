/* Message identifiers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "message_id.h"

static void
check(time_t when, uint64_t serial, const char *want)
{
	stralloc s = STRALLOC_ZERO;

	assert_true(message_id_append(&s, when, serial, "h.test", 6) && stralloc_0(&s));
	assert_string_equal(s.s, want);
	stralloc_free(&s);
}

static void
form(void **state)
{
	(void)state;
	check(1709210096, 7, "<20240229123456.7.qmail@h.test>");
	check(0, UINT64_MAX, "<19700101000000.18446744073709551615.qmail@h.test>");
}

static void
time_out_of_range(void **state)
{
	(void)state;
	check((time_t)1 << 60, 1, "<19700101000000.1.qmail@h.test>");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(form), cmocka_unit_test(time_out_of_range) };

	return cmocka_run_group_tests_name("message_id", tests, NULL, NULL);
}
