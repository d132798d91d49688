/* New octets in the place of old ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "stralloc_set.h"

static void
nothing_takes_the_place_of_something(void **state)
{
	stralloc text = STRALLOC_ZERO;

	(void)state;
	assert_int_equal(stralloc_sets(&text, "somebody else's"), 1);
	assert_int_equal(stralloc_setb(&text, "x", 0), 1);
	assert_int_equal(text.len, 0);
	assert_int_equal(stralloc_sets(&text, "longer than what was there before"), 1);
	assert_int_equal(stralloc_sets(&text, ""), 1);
	assert_int_equal(text.len, 0);
	stralloc_free(&text);
}

static void
something_takes_the_place(void **state)
{
	stralloc text = STRALLOC_ZERO;

	(void)state;
	assert_int_equal(stralloc_setb(&text, "a\0b", 3), 1);
	assert_int_equal(text.len, 3);
	assert_memory_equal(text.s, "a\0b", 3);
	assert_int_equal(stralloc_sets(&text, "c"), 1);
	assert_int_equal(text.len, 1);
	assert_int_equal(text.s[0], 'c');
	stralloc_free(&text);
}

/* Octets that can be pointed at, also where there are none. */
static void
a_new_one_has_room(void **state)
{
	stralloc text = STRALLOC_ZERO;

	(void)state;
	assert_int_equal(stralloc_setb(&text, NULL, 0), 1);
	assert_non_null(text.s);
	assert_int_equal(text.len, 0);
	stralloc_free(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_takes_the_place_of_something),
		cmocka_unit_test(something_takes_the_place),
		cmocka_unit_test(a_new_one_has_room),
	};

	return cmocka_run_group_tests_name("stralloc_set", tests, NULL, NULL);
}
