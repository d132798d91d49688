/* The ledger: when the tail may move. Each test is one need of queue/README.md, "The tail waits for three things". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "../../bin-src/queue/ledger.h"

static struct ledger l;

static int
open_ledger(void **state)
{
	(void)state;
	assert_true(ledger_init(&l));
	return 0;
}

static int
close_ledger(void **state)
{
	(void)state;
	struct message *m;
	uint64_t number;

	/* a removal may put a later one where the walk has been */
	while (l.used > 0)
		for (size_t at = 0; ledger_walk(&l, &at, &number, &m); )
			ledger_remove(&l, number);
	free(l.slots);
	free(l.batches);
	return 0;
}

static uint64_t
tail(void)
{
	uint32_t block;

	return ledger_tail(&l, &block);
}

static struct message *
message_in_ring(uint64_t number, uint64_t batch)
{
	struct message *m;

	assert_true(ledger_batch(&l, batch, (uint32_t)batch * 2));
	m = ledger_message(&l, number);
	assert_non_null(m);
	ledger_record(&l, m, batch, &(struct queue_place){ .kind = PLACE_RING, .len = 100, .message_at = 40 });
	return m;
}

static void
outcome(struct message *m, uint64_t batch, uint32_t recipient)
{
	assert_true(ledger_batch(&l, batch, (uint32_t)batch * 2));
	assert_true(ledger_outcome_room(m));
	ledger_outcome(&l, m, &(struct outcome){ .batch = batch, .recipient = recipient, .result = 'K' });
}

static void
record_of_a_live_message(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	message_in_ring(2, 11);
	assert_int_equal(tail(), 10);
	assert_true(ledger_batch(&l, 12, 24));
	ledger_end(&l, m, 12);
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 11);
	assert_false(ledger_find(&l, 1, &m));
}

static void
moved_message_is_a_mere_number(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	m->job = 1;
	m->outcomes_in_job = m->outcomes_len;
	ledger_moved(&l, m);
	m->job = 0;
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 0);
	assert_true(ledger_find(&l, 1, &m));
	assert_null(m);
	m = ledger_message(&l, 1);
	assert_true(m->moved && m->files && m->known);
}

static void
deferral_that_no_info_has(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	m->job = 1;
	m->deferred = 1;	/* while the writer is at it */
	ledger_moved(&l, m);
	m->job = 0;
	ledger_settle(&l, m, 1);
	assert_true(ledger_find(&l, 1, &m));
	assert_non_null(m);
	assert_int_equal(tail(), 0);
	m->deferred_in_job = 1;
	ledger_moved(&l, m);
	ledger_settle(&l, m, 1);
	assert_true(ledger_find(&l, 1, &m));
	assert_null(m);
}

static void
outcome_that_no_info_has(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	outcome(m, 11, 0);
	m->outcomes_in_job = m->outcomes_len;
	m->job = 1;
	outcome(m, 12, 1);	/* while the writer is at it */
	ledger_moved(&l, m);
	m->job = 0;
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 12);
	assert_int_equal(m->outcomes_len, 1);
	assert_int_equal(m->outcomes[0].recipient, 1);
	m->outcomes_in_job = 1;
	ledger_moved(&l, m);
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 0);
}

static void
end_whose_files_may_be_there(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	m->files = 1;
	m->job = 1;
	assert_true(ledger_batch(&l, 11, 22));
	ledger_end(&l, m, 11);
	ledger_moved(&l, m);	/* the move that was on its way */
	m->job = 0;
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 11);
	m->files = 0;
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 0);
	assert_false(ledger_find(&l, 1, &m));
}

static void
what_a_job_reads_stays_till_it_is_done(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	outcome(m, 11, 0);
	m->files = m->job = 1;
	m->outcomes_in_job = 1;
	assert_true(ledger_batch(&l, 12, 24));
	ledger_end(&l, m, 12);
	assert_int_equal(tail(), 10);
	ledger_moved(&l, m);
	assert_int_equal(tail(), 12);
}

static void
what_a_job_that_failed_read_goes_with_the_message(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	m->job = 1;
	assert_true(ledger_batch(&l, 11, 22));
	ledger_end(&l, m, 11);
	assert_int_equal(tail(), 10);
	m->job = 0;
	ledger_settle(&l, m, 1);
	assert_int_equal(tail(), 0);
}

static void
before_the_scan_nothing_is_forgotten(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	assert_true(ledger_batch(&l, 11, 22));
	ledger_end(&l, m, 11);
	ledger_settle(&l, m, 0);
	assert_int_equal(tail(), 11);
	m = ledger_message(&l, 2);	/* an outcome of a message not seen yet */
	outcome(m, 12, 0);
	ledger_settle(&l, m, 0);
	assert_true(ledger_find(&l, 2, &m));
	ledger_settle(&l, m, 1);	/* no file has that number */
	assert_false(ledger_find(&l, 2, &m));
}

static void
lists_are_in_order_of_what_holds_the_tail(void **state)
{
	struct message *a = message_in_ring(1, 10), *b = message_in_ring(2, 11), *c = message_in_ring(3, 12);

	(void)state;
	assert_ptr_equal(l.oldest[LIST_RING], a);
	assert_ptr_equal(a->newer, b);
	outcome(b, 13, 0);
	ledger_moved(&l, b);
	assert_ptr_equal(a->newer, c);
	assert_ptr_equal(l.oldest[LIST_OUTCOMES], b);
	outcome(a, 14, 0);
	ledger_moved(&l, a);
	assert_ptr_equal(b->newer, a);
	assert_ptr_equal(l.oldest[LIST_RING], c);
	assert_int_equal(l.unmoved, 1);
}

static void
many_outcomes_in_one_batch(void **state)
{
	struct message *m = message_in_ring(1, 10);

	(void)state;
	/* all room is promised before the batch is flushed, all outcomes are noted after */
	for (int i = 0; i < 100; i++)
		assert_true(ledger_outcome_room(m));
	assert_true(ledger_batch(&l, 11, 22));
	for (uint32_t i = 0; i < 100; i++)
		ledger_outcome(&l, m, &(struct outcome){ .batch = 11, .recipient = i, .result = 'D' });
	assert_int_equal(m->outcomes_len, 100);
	assert_int_equal(m->outcomes_promised, 0);
	assert_int_equal(m->outcomes[99].recipient, 99);
}

static void
many_numbers(void **state)
{
	struct message *m;

	(void)state;
	for (uint64_t n = 1; n <= 100000; n++)
		assert_true(ledger_add_moved(&l, n * 23));
	for (uint64_t n = 1; n <= 100000; n += 2)
		ledger_remove(&l, n * 23);
	for (uint64_t n = 1; n <= 100000; n++)
		assert_int_equal(ledger_find(&l, n * 23, &m), n % 2 == 0);
	assert_int_equal(l.used, 50000);
}

static void
batches_from_a_high_number(void **state)
{
	uint64_t first = UINT64_C(1) << 40;

	(void)state;
	for (uint64_t n = first; n < first + 1000; n++) {
		message_in_ring(n, n);
		assert_int_equal(tail(), first);
	}
	assert_true(l.batches_len < 10000);
	for (uint64_t n = first; n < first + 1000; n++) {
		ledger_remove(&l, n);
		ledger_forget_before(&l, tail());
	}
	assert_int_equal(tail(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(record_of_a_live_message, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(moved_message_is_a_mere_number, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(deferral_that_no_info_has, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(outcome_that_no_info_has, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(end_whose_files_may_be_there, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(what_a_job_reads_stays_till_it_is_done, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(what_a_job_that_failed_read_goes_with_the_message, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(before_the_scan_nothing_is_forgotten, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(lists_are_in_order_of_what_holds_the_tail, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(many_outcomes_in_one_batch, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(many_numbers, open_ledger, close_ledger),
		cmocka_unit_test_setup_teardown(batches_from_a_high_number, open_ledger, close_ledger),
	};

	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
