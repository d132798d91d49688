/* The heap of times, against a sorted list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "bin-src/send/heap.h"

enum { ITEMS = 300, STEPS = 20000 };

struct item { int64_t when; uint32_t at; };

static void
check_first(const struct heap *h, const struct item *items)
{
	int64_t when = 0, least = INT64_MAX;
	struct item *first = heap_first(h, &when);
	uint32_t count = 0;

	for (unsigned int i = 0; i < ITEMS; i++)
		if (items[i].at) {
			count++;
			if (items[i].when < least)
				least = items[i].when;
		}
	assert_int_equal(h->len, count);
	if (!count) {
		assert_null(first);
		return;
	}
	assert_int_equal(when, least);
	assert_int_equal(first->when, least);
}

static void
like_a_sorted_list(void **state)
{
	static struct item items[ITEMS];
	struct heap h;

	(void)state;
	srand(1);
	heap_init(&h, offsetof(struct item, at));
	for (unsigned int step = 0; step < STEPS; step++) {
		struct item *item = &items[rand() % ITEMS];

		if (rand() % 3 == 0)
			heap_remove(&h, item);
		else {
			assert_int_equal(heap_reserve(&h, h.len + 1), 1);
			item->when = rand() % 100 - 50;
			heap_put(&h, item, item->when);
		}
		check_first(&h, items);
	}
	heap_free(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(like_a_sorted_list) };

	return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
