/* One batch: its order, what is said when, and what remains of one that failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue_keeper.h"

static struct channel a, b, send_side;
static struct channel_frame f;
static unsigned int flushes;
static int flush_error;		/* errno with which the next flushes fail, 0: they succeed */
static void (*at_flush)(void);	/* looks at what is true before the flush has ended */

static int
flush(int fd)
{
	(void)fd;
	flushes++;
	if (at_flush)
		at_flush();
	errno = flush_error;
	return flush_error ? -1 : 0;
}

ssize_t __real_pwrite(int fd, const void *s, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *s, size_t len, off_t offset);
static size_t write_most = SIZE_MAX;	/* octets that a write takes; 0: it fails */

ssize_t
__wrap_pwrite(int fd, const void *s, size_t len, off_t offset)
{
	if (!write_most) {
		errno = ENOSPC;
		return -1;
	}
	return __real_pwrite(fd, s, len < write_most ? len : write_most, offset);
}

static int
set_up(void **state)
{
	flush_error = 0;
	at_flush = NULL;
	write_most = SIZE_MAX;
	keeper_set_up(state);
	keeper_connect(&a, &keeper.submit_listener);
	keeper_connect(&b, &keeper.submit_listener);
	channel_init(&send_side, -1, 0);
	flushes = 0;
	keeper_fdatasync = flush;
	return 0;
}

static int
tear_down(void **state)
{
	channel_free(&a);
	channel_free(&b);
	channel_free(&send_side);
	return keeper_tear_down(state);
}

/* A message that is in the ring. Returns its number. */
static uint64_t
accepted(size_t len)
{
	uint64_t number;

	keeper_submit(&a, len);
	flush_turn(&keeper);
	assert_true(keeper_answered(&a, QUEUE_OK, &number));
	return number;
}

/* qmail-send, which has heard HELLO. */
static void
connect_send(void)
{
	keeper_peer = keeper.qmails;
	keeper_connect(&send_side, &keeper.send_listener);
	assert_int_equal(keeper_hears(&send_side, &f), NOTICE_HELLO);
}

/* Reports the end of a message, or that its recipient is done. */
static void
report(char type, uint64_t number)
{
	char s[13];

	uint64_pack_big(s, number);
	uint32_pack_big(s + 8, 0);
	s[12] = OUTCOME_DONE;
	keeper_say(&send_side, type, s, type == SEND_END ? 8 : 13);
	keeper_events();
}

/* What qmail-send hears now: 1 if it is the confirmation of a report about number. */
static int
confirmed(uint64_t number)
{
	uint64_t got;

	notices_pump(&keeper);
	if (keeper_hears(&send_side, &f) != NOTICE_CONFIRM)
		return 0;
	uint64_unpack_big(f.s, &got);
	return got == number;
}

/* --- what is said, and when ----------------------------------------------------------------------- */

static void
nobody_has_heard(void)
{
	assert_int_equal(keeper_hears(&a, &f), 0);
	assert_int_equal(keeper_hears(&b, &f), 0);
	if (send_side.fd >= 0) {
		notices_pump(&keeper);
		assert_int_equal(keeper_hears(&send_side, &f), 0);
	}
}

static void
nothing_is_answered_told_or_confirmed_before_the_flush(void **state)
{
	uint64_t first, second, done = accepted(10);

	(void)state;
	connect_send();
	report(SEND_END, done);
	keeper_submit(&a, 10);
	keeper_submit(&b, 20);
	keeper.now_ms += OUTCOME_WAIT_MS;
	at_flush = nobody_has_heard;
	flushes = 0;
	flush_turn(&keeper);
	assert_int_equal(flushes, 1);	/* one for all */
	assert_true(keeper_answered(&a, QUEUE_OK, &first));
	assert_true(keeper_answered(&b, QUEUE_OK, &second));
	assert_int_equal(second, first + 1);
	assert_true(confirmed(done));
}

/* Nobody would ever let go of it: the ring would be full one day. */
static void
what_is_reported_of_a_message_that_went_meanwhile_holds_no_tail(void **state)
{
	uint64_t gone = accepted(10);
	uint32_t block;

	(void)state;
	connect_send();
	report(SEND_DONE, gone);
	ledger_remove(&keeper.ledger, gone);	/* a writer set it aside */
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	assert_true(confirmed(gone));
	assert_int_equal(keeper.ledger.used, 0);
	assert_int_equal(ledger_tail(&keeper.ledger, &block), 0);
}

static enum record_type seen[10];
static int seen_len;

static int
see_batch(void *data, uint64_t number, uint32_t block, uint32_t blocks)
{
	(void)data, (void)number, (void)block, (void)blocks;
	seen_len = 0;
	return 1;
}

static int
see_record(void *data, uint64_t batch, uint64_t offset, const char *s, uint32_t len, const char digest[QUEUE_KEYED_DIGEST])
{
	struct record r;

	(void)data, (void)batch, (void)offset, (void)digest;
	assert_true(record_parse(&r, s, len));
	assert_true(seen_len < 10);
	seen[seen_len++] = r.type;
	return 1;
}

static void
reports_stand_before_messages_in_the_order_they_came(void **state)
{
	const struct ring_listener listener = { .batch = see_batch, .record = see_record };
	char path[RING_PATH_MAX], id[RING_ID];
	uint64_t done = accepted(10);
	struct ring ring;

	(void)state;
	connect_send();
	keeper_submit(&b, 10);
	report(SEND_DONE, done);
	report(SEND_END, done);
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	assert_int_equal(ring_find(path, id), 1);
	assert_int_equal(ring_open(&ring, path, id, &listener), 1);	/* as the next keeper will read it */
	ring_close(&ring);
	assert_int_equal(seen_len, 3);
	assert_int_equal(seen[0], RECORD_OUTCOME);
	assert_int_equal(seen[1], RECORD_END);
	assert_int_equal(seen[2], RECORD_MESSAGE);
}

static void
writes_that_take_less_are_gone_on_with(void **state)
{
	struct message *m;
	uint64_t number;

	(void)state;
	write_most = 1000;
	number = accepted(100000);
	assert_true(ledger_find(&keeper.ledger, number, &m));
	assert_int_equal(survey_say_ring(&send_side, &keeper, m, 0), 1);	/* its digest is right */
}

/* --- a batch that failed ----------------------------------------------------------------------------- */

static void
one_that_fails(int by_write)
{
	uint64_t done = accepted(10), next = keeper.ring.next, number;
	uint32_t head = keeper.ring.head;
	struct message *m;

	connect_send();
	report(SEND_DONE, done);
	keeper_submit(&a, 10);
	keeper_submit(&b, 20);
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_error = by_write ? 0 : EIO;
	write_most = by_write ? 0 : SIZE_MAX;
	flush_turn(&keeper);
	assert_string_equal(keeper_said, "unable to write or flush the journal");
	assert_true(keeper_answered(&a, QUEUE_WRITE, &number));
	assert_int_equal(number, 0);
	assert_true(keeper_answered(&b, QUEUE_WRITE, NULL));
	assert_false(confirmed(done));
	assert_int_equal(keeper.reports_len, 1);
	assert_int_equal(keeper.ledger.used, 1);
	assert_int_equal(keeper.ring.next, next);
	assert_int_equal(keeper.ring.head, head);
	/* the next takes its place and number, but no message's number again */
	flush_error = 0;
	write_most = SIZE_MAX;
	number = accepted(30);
	assert_int_equal(number, done + 3);
	assert_int_equal(keeper.ring.next, next + 1);
	assert_true(confirmed(done));
	assert_true(ledger_find(&keeper.ledger, done, &m));
	assert_int_equal(m->outcomes_len, 1);
	assert_int_equal(m->outcomes_promised, 0);
}

static void
a_flush_that_failed(void **state)
{
	(void)state;
	one_that_fails(0);
}

static void
a_write_that_failed(void **state)
{
	(void)state;
	one_that_fails(1);
}

/* --- when ------------------------------------------------------------------------------------------------ */

static void
reports_alone_wait_a_while(void **state)
{
	uint64_t done = accepted(10), at = 0;

	(void)state;
	assert_int_equal(flush_due(&keeper, &at), 0);
	connect_send();
	report(SEND_DONE, done);
	assert_int_equal(flush_due(&keeper, &at), 1);
	assert_int_equal(at, keeper.now_ms + OUTCOME_WAIT_MS);
	keeper.now_ms += OUTCOME_WAIT_MS - 1;
	flush_turn(&keeper);
	assert_false(confirmed(done));
	keeper.now_ms++;
	flush_turn(&keeper);
	assert_true(confirmed(done));
	assert_int_equal(flush_due(&keeper, &at), 0);
}

static void
many_reports_or_a_stop_do_not_wait(void **state)
{
	uint64_t done = accepted(10);

	(void)state;
	connect_send();
	for (int i = 0; i < 999; i++)
		report(SEND_DONE, done);
	flush_turn(&keeper);
	assert_int_equal(keeper.reports_len, 999);
	report(SEND_DONE, done);
	flush_turn(&keeper);
	assert_int_equal(keeper.reports_len, 0);
	report(SEND_DONE, done);
	keeper.stop = 1;
	flush_turn(&keeper);
	assert_int_equal(keeper.reports_len, 0);
}

/* Says messages without waiting for answers. */
static void
say_ahead(struct channel *c, int messages)
{
	for (int i = 0; i < messages; i++) {
		assert_true(channel_put1(c, SUBMIT_ENVELOPE, "F\0T@y\0", 7));
		assert_true(channel_put1(c, SUBMIT_END, "", 0));
	}
	assert_int_equal(channel_flush(c), 1);
	keeper_events();
}

static void
who_does_not_wait_for_answers_takes_no_turn_for_himself(void **state)
{
	uint64_t at = 0;
	int answers = 0;

	(void)state;
	say_ahead(&a, 100);
	keeper_submit(&b, 10);
	flush_turn(&keeper);
	assert_in_range(flushes, 1, 9);
	assert_true(keeper_answered(&b, QUEUE_OK, NULL));
	assert_int_equal(flush_due(&keeper, &at), 1);	/* the next turn is due at once */
	assert_int_equal(at, keeper.now_ms);
	for (; keeper.complete; flush_turn(&keeper))
		while (keeper_answered(&a, QUEUE_OK, NULL))
			answers++;
	while (keeper_answered(&a, QUEUE_OK, NULL))
		answers++;
	assert_int_equal(answers, 100);
	/* no turn follows a stop */
	say_ahead(&a, 100);
	keeper.stop = 1;
	flush_turn(&keeper);
	assert_null(keeper.complete);
}

static void
who_does_not_wait_for_answers_hears_of_each_message_that_failed(void **state)
{
	int answers = 0;

	(void)state;
	say_ahead(&a, 3);
	flush_error = EIO;
	for (int turn = 0; turn < 10; turn++) {
		flush_turn(&keeper);
		answers += keeper_answered(&a, QUEUE_WRITE, NULL);
	}
	assert_int_equal(answers, 3);
}

/* --- room --------------------------------------------------------------------------------------------------- */

static void
a_batch_takes_at_most_a_sixteenth_of_the_ring(void **state)
{
	struct channel third;
	uint32_t start = keeper.ring.head;

	(void)state;
	keeper_connect(&third, &keeper.submit_listener);
	keeper_submit(&a, 200000);
	keeper_submit(&b, 200000);
	keeper_submit(&third, 200000);
	flush_turn(&keeper);
	assert_int_equal(flushes, 2);
	assert_true(keeper_answered(&a, QUEUE_OK, NULL) && keeper_answered(&b, QUEUE_OK, NULL) && keeper_answered(&third, QUEUE_OK, NULL));
	assert_true(keeper.ring.head - start <= 2 * ring_blocks(&keeper.ring) / 16);
	channel_free(&third);
}

/* Fills the part of the ring that is for messages; the last one, of b, waits. Returns how many went in. */
static int
fill(void)
{
	int n = 0;

	for (;; n++) {
		keeper_submit(&b, 250000);
		flush_turn(&keeper);
		if (!keeper_answered(&b, QUEUE_OK, NULL))
			return n;
	}
}

static void
a_quarter_of_the_ring_is_left_to_what_became_of_messages(void **state)
{
	int n = fill();

	(void)state;
	assert_true(n > 20);
	assert_true(ring_blocks(&keeper.ring) - ring_used(&keeper.ring) >= ring_blocks(&keeper.ring) / 4);
	connect_send();
	for (int i = 0; i < 100; i++)
		report(SEND_DONE, keeper.first_number + 1);
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	assert_true(confirmed(keeper.first_number + 1));
	assert_int_equal(keeper_hears(&b, &f), 0);
	report(SEND_END, keeper.first_number);	/* of the oldest: now there is room */
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	assert_true(keeper_answered(&b, QUEUE_OK, NULL));
}

static void
a_message_waits_for_room_for_a_time(void **state)
{
	uint64_t at = 0;

	(void)state;
	fill();
	assert_int_equal(flush_due(&keeper, &at), 1);
	assert_true(at > keeper.now_ms);	/* and not at once, again and again */
	keeper.now_ms += 1000 * ROOM_WAIT;
	flush_turn(&keeper);
	assert_int_equal(keeper_hears(&b, &f), 0);
	keeper.now_ms++;
	flush_turn(&keeper);
	assert_true(keeper_answered(&b, QUEUE_WRITE, NULL));
	assert_null(keeper.complete);
	assert_ptr_equal(keeper.complete_end, &keeper.complete);
}

static void
where_no_room_will_come_it_does_not_wait(void **state)
{
	(void)state;
	fill();
	keeper.disk_trouble = 1;
	flush_turn(&keeper);
	assert_true(keeper_answered(&b, QUEUE_WRITE, NULL));
}

static void
until_the_directories_are_read_the_tail_stays(void **state)
{
	uint64_t done, tail;

	(void)state;
	keeper.scanned = 0;
	done = accepted(10);
	tail = keeper.ring.tail;
	connect_send();
	report(SEND_END, done);
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	accepted(10);
	assert_int_equal(keeper.ring.tail, tail);
	keeper.scanned = 1;
	accepted(10);
	assert_true(keeper.ring.tail > tail);
}

static void
the_last_blocks_are_for_a_batch_that_moves_the_tail(void **state)
{
	uint64_t next = keeper.ring.next;

	(void)state;
	/* two blocks are free, and nothing but the last batch is needed */
	keeper.ring.tail = next - 1;
	keeper.ring.tail_block = (keeper.ring.head + 2) % ring_blocks(&keeper.ring);
	assert_int_equal(flush_empty(&keeper), 0);
	keeper.ring.tail = next - 2;
	assert_int_equal(flush_empty(&keeper), 1);
	assert_int_equal(keeper.ring.tail, next);
	assert_int_equal(ring_used(&keeper.ring), 1);
	keeper.ring.tail_block = keeper.ring.head;	/* full: not even that */
	keeper.ring.tail = 1;
	assert_int_equal(flush_empty(&keeper), 0);
}

static void
the_limit_in_the_header_is_above_every_number_given_out(void **state)
{
	(void)state;
	for (int i = 0; i < 600; i++)
		assert_true(accepted(1) < keeper.ring.limit);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_answered_told_or_confirmed_before_the_flush), TEST(what_is_reported_of_a_message_that_went_meanwhile_holds_no_tail),
		TEST(reports_stand_before_messages_in_the_order_they_came),
		TEST(writes_that_take_less_are_gone_on_with), TEST(a_flush_that_failed), TEST(a_write_that_failed), TEST(reports_alone_wait_a_while),
		TEST(many_reports_or_a_stop_do_not_wait), TEST(who_does_not_wait_for_answers_takes_no_turn_for_himself),
		TEST(who_does_not_wait_for_answers_hears_of_each_message_that_failed),
		TEST(a_batch_takes_at_most_a_sixteenth_of_the_ring),
		TEST(a_quarter_of_the_ring_is_left_to_what_became_of_messages), TEST(a_message_waits_for_room_for_a_time),
		TEST(where_no_room_will_come_it_does_not_wait), TEST(until_the_directories_are_read_the_tail_stays),
		TEST(the_last_blocks_are_for_a_batch_that_moves_the_tail), TEST(the_limit_in_the_header_is_above_every_number_given_out),
	};

	return cmocka_run_group_tests_name("flush", tests, NULL, NULL);
}
