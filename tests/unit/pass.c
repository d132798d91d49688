/* Attempts at a message: when one is due, what an outcome leads to, and how many recipients one turn takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/send/keeper.h"
#include "bin-src/send/octets.h"
#include "bin-src/send/pass.h"
#include "directory.h"
#include "sending.h"
#include "stored.h"

/* A message whose pass has begun: its recipients are busy. */
static struct message *
begun(const char *sender, const char *a, const char *b)
{
	struct message *m;

	sending_connect();
	m = sending_message(1, sender, a, b, NULL);
	sending_attempt();
	return m;
}

/* The same with one recipient and its parameters. */
static struct message *
begun_with(const char *sender, const char *parameters)
{
	struct message *m;

	sending_connect();
	sending_draft(1, sender);
	sending_recipient("a@far.example", parameters);
	m = sending_new();
	sending_attempt();
	return m;
}

static void
outcome(struct message *m, uint32_t i, enum route_channel channel, char letter, const char *text)
{
	pass_outcome(sending, &m->recipients[i], channel, letter, text, strlen(text));
	keeper_flush(sending);
}

static struct destination *
far(void)
{
	return destination_get(&sending->destinations, ROUTE_REMOTE, "far.example", 11);
}

/* --- outcomes -------------------------------------------------------------------------- */

static void
of_the_last_success_the_end_says_enough(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	outcome(m, 1, ROUTE_REMOTE, 'K', "");
	sending_expect_outcome(1, 1, OUTCOME_DONE);
	outcome(m, 0, ROUTE_REMOTE, 'k', "");
	sending_expect_about(SEND_END, 1);
	sending_expect_nothing(&sending_keeper);
	assert_int_equal(sending->keeper.open, 2);
	/* the message is kept until that is confirmed */
	sending_confirm(1, QUEUE_INDEX_END);
	assert_int_equal(loop_wait(&sending->loop, 0), 1);
	assert_null(message_find(&sending->messages, 1));
	assert_int_equal(sending->keeper.open, 0);
}

static void
after_a_failure_each_success_is_told(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	outcome(m, 0, ROUTE_REMOTE, 'D', "no");
	assert_string_equal(sending_expect_outcome(1, 0, OUTCOME_FAILED), "no");
	outcome(m, 1, ROUTE_REMOTE, 'K', "");
	sending_expect_outcome(1, 1, OUTCOME_DONE);
	sending_expect_nothing(&sending_keeper);	/* it ends after its bounce */
	assert_int_equal(m->in_bounce, 1);
}

static void
a_deferral_is_told_once_a_message(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	sending_expect_nothing(&sending_keeper);
	outcome(m, 1, ROUTE_REMOTE, 'Z', "later");
	sending_expect_about(SEND_DEFERRED, 1);
	sending_later(400 * 1000);
	sending_attempt();
	assert_int_equal(m->active_remote, 2);
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	outcome(m, 1, ROUTE_REMOTE, 'Z', "later");
	sending_expect_nothing(&sending_keeper);
}

/* With what the sender wants to hear of a recipient; letter: the outcome. */
static const struct notify_row {
	const char *rule, *sender, *parameters;
	char letter;
	enum recipient_state state;
	char told;	/* enum queue_outcome, 0: nothing but the end */
	const char *text;
} notify_rows[] = {
	{ "a success that is wanted is kept for its report", "s@x", "NOTIFY=SUCCESS", 'K', RECIPIENT_SUCCEEDED, OUTCOME_SUCCEEDED, "rfine" },
	{ "one that the next host reports is done", "s@x", "NOTIFY=SUCCESS", 'k', RECIPIENT_DONE, 0, "" },
	{ "one that is not wanted is done", "s@x", "NOTIFY=FAILURE", 'K', RECIPIENT_DONE, 0, "" },
	{ "the null sender hears of no success", "", "NOTIFY=SUCCESS", 'K', RECIPIENT_DONE, 0, "" },
	{ "nor does a bounce's", "#@[]", "NOTIFY=SUCCESS", 'K', RECIPIENT_DONE, 0, "" },
	{ "a failure that is not wanted is told nobody", "s@x", "NOTIFY=NEVER", 'D', RECIPIENT_DONE, 0, "" },
	{ "a failure beside a wanted success", "s@x", "NOTIFY=SUCCESS", 'D', RECIPIENT_DONE, 0, "" },
	{ "a failure that is wanted", "s@x", "NOTIFY=SUCCESS,FAILURE", 'D', RECIPIENT_FAILED, OUTCOME_FAILED, "fine" },
};
enum { NOTIFY_ROWS = sizeof notify_rows / sizeof *notify_rows };

static void
notify_row(void **state)
{
	const struct notify_row *row = *state;
	struct message *m = begun_with(row->sender, row->parameters);

	outcome(m, 0, ROUTE_REMOTE, row->letter, "fine");
	assert_int_equal(m->recipients[0].state, row->state);
	if (row->told)
		assert_string_equal(sending_expect_outcome(1, 0, row->told), row->text);
	else
		sending_expect_about(SEND_END, 1);
	sending_expect_nothing(&sending_keeper);
}

/* The longest text still leaves room for what is added to it. */
static void
too_old_is_a_failure_with_a_sentence(void **state)
{
	static char text[QUEUE_TEXT_MAX + 1];
	size_t len = QUEUE_TEXT_MAX - strlen(bounce_too_long) - 1;
	struct message *m;
	const char *told;

	(void)state;
	memset(text, 'x', QUEUE_TEXT_MAX);
	sending->lifetime = 100;
	m = begun("s@x", "a@far.example", "b@far.example");
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	outcome(m, 1, ROUTE_REMOTE, 'Z', "later");
	sending_expect_about(SEND_DEFERRED, 1);
	sending_later(400 * 1000);
	sending_attempt();
	outcome(m, 0, ROUTE_REMOTE, 'Z', text);
	told = sending_expect_outcome(1, 0, OUTCOME_FAILED);
	assert_int_equal(strlen(told), QUEUE_TEXT_MAX);
	assert_memory_equal(told, text, len);
	assert_int_equal(told[len], '\n');
	assert_string_equal(told + len + 1, bounce_too_long);
	outcome(m, 1, ROUTE_REMOTE, 'Z', "no answer\n");
	told = sending_expect_outcome(1, 1, OUTCOME_FAILED);
	assert_memory_equal(told, "no answer\n", 10);
	assert_string_equal(told + 10, bounce_too_long);
}

/* --- times --------------------------------------------------------------------------------- */

static void
channels_have_times_of_their_own(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "ana@here.example");

	(void)state;
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	assert_int_equal(m->due[ROUTE_REMOTE], m->birth + 400);
	assert_int_equal(pass_next(sending), m->birth + 400);	/* the local one is under way */
	outcome(m, 1, ROUTE_LOCAL, 'Z', "later");
	assert_int_equal(m->due[ROUTE_LOCAL], m->birth + 100);
	assert_int_equal(pass_next(sending), m->birth + 100);
	sending_later(100 * 1000 - 1000);
	sending_attempt();
	assert_int_equal(m->active_local + m->active_remote, 0);
	sending_later(1000);
	sending_attempt();
	assert_int_equal(m->active_local, 1);
	assert_int_equal(m->active_remote, 0);
	/* its time is reckoned from its start, unless that has gone by */
	sending_later(350 * 1000);
	outcome(m, 1, ROUTE_LOCAL, 'Z', "later");
	assert_int_equal(m->due[ROUTE_LOCAL], m->birth + (21 + 10) * (21 + 10));
}

static void
of_one_second_the_lower_number_is_first(void **state)
{
	static const uint64_t numbers[] = { 5, 3, 9, 4 };

	(void)state;
	sending_connect();
	for (unsigned int i = 0; i < 4; i++)
		sending_message(numbers[i], "s@x", "a@far.example", NULL);
	pass_run(sending);
	assert_int_equal(far()->queued, 4);
	assert_int_equal(recipient_message(destination_take(far()))->number, 3);
	assert_int_equal(recipient_message(destination_take(far()))->number, 4);
	assert_int_equal(recipient_message(destination_take(far()))->number, 5);
	assert_int_equal(recipient_message(destination_take(far()))->number, 9);
}

static void
a_hurry_makes_all_due_but_what_is_under_way(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "ana@here.example");
	int64_t due = m->due[ROUTE_LOCAL];

	(void)state;
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	pass_hurry(sending);
	assert_int_equal(m->due[ROUTE_REMOTE], sending->now);
	assert_int_equal(m->due[ROUTE_LOCAL], due);
	sending_attempt();
	assert_int_equal(m->active_remote, 1);
	assert_int_equal(m->active_local, 1);
}

static void
a_clock_that_is_set_back_makes_nobody_wait_longer(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "ana@here.example");
	int64_t due = m->due[ROUTE_LOCAL], next;

	(void)state;
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	next = pass_next(sending);
	pass_set_back(sending, 86400);
	assert_int_equal(pass_next(sending), next - 86400);
	assert_int_equal(m->due[ROUTE_REMOTE], next - 86400);
	assert_int_equal(m->due[ROUTE_LOCAL], due - 86400);
	m->due[ROUTE_LOCAL] = MESSAGE_NEVER;
	pass_set_back(sending, 1);
	assert_true(m->due[ROUTE_LOCAL] == MESSAGE_NEVER);
}

/* --- what could not be attempted ----------------------------------------------------------------- */

static void
unreadable_octets_are_tried_again_soon(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	pass_return(sending, &m->recipients[0], ROUTE_REMOTE);
	pass_return(sending, &m->recipients[1], ROUTE_REMOTE);
	assert_int_equal(m->due[ROUTE_REMOTE], sending->now + SEND_SYSTEM_RETRY);
	keeper_flush(sending);
	sending_expect_nothing(&sending_keeper);	/* nothing was attempted */
	sending_later(SEND_SYSTEM_RETRY * 1000);
	sending_attempt();
	assert_int_equal(m->active_remote, 2);
}

static void
who_belongs_elsewhere_is_routed_anew_at_once(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	pass_reroute(sending, &m->recipients[0], ROUTE_REMOTE);
	outcome(m, 1, ROUTE_REMOTE, 'K', "");
	assert_int_equal(m->due[ROUTE_REMOTE], sending->now);
	sending_attempt();
	assert_int_equal(m->active_remote, 1);
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	assert_true(m->due[ROUTE_REMOTE] > sending->now);
}

static void
octets_that_are_sought_wait_for_the_answer(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	m->is_sought = 1;
	pass_return(sending, &m->recipients[0], ROUTE_REMOTE);
	outcome(m, 1, ROUTE_REMOTE, 'K', "");
	assert_int_equal(m->due[ROUTE_REMOTE], MESSAGE_NEVER);
	assert_int_equal(pass_next(sending), INT64_MAX);
	pass_found(sending, m);
	assert_int_equal(pass_next(sending), sending->now);
	sending_attempt();
	assert_int_equal(m->active_remote, 1);
}

/* --- messages that are lost ------------------------------------------------------------------------- */

static void
a_lost_one_is_forgotten_with_its_last_outcome(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	m->is_lost = 1;
	pass_forget_lost(sending);
	outcome(m, 0, ROUTE_REMOTE, 'D', "no");
	assert_int_equal(sending->keeper.open, 1);
	outcome(m, 1, ROUTE_REMOTE, 'Z', "later");
	assert_null(message_find(&sending->messages, 1));
	assert_int_equal(sending->keeper.open, 0);
	assert_int_equal(pass_next(sending), INT64_MAX);
}

static void
a_lost_one_waits_for_the_child_that_reports(void **state)
{
	struct message *m = begun_with("s@x", "NOTIFY=SUCCESS");

	(void)state;
	outcome(m, 0, ROUTE_REMOTE, 'K', "");
	assert_int_equal(m->in_report, 1);
	m->is_lost = 1;
	pass_forget_lost(sending);
	assert_ptr_equal(message_find(&sending->messages, 1), m);
	pass_not_reported(sending, m);
	assert_null(message_find(&sending->messages, 1));
	assert_int_equal(sending->keeper.open, 0);
}

/* --- reports ------------------------------------------------------------------------------------------ */

/* The report names what had succeeded when its child was started; what succeeds meanwhile is for another one. */
static void
what_succeeds_during_a_report_is_reported_next(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	sending_draft(1, "s@x");
	sending_recipient("a@far.example", "NOTIFY=SUCCESS");
	sending_recipient("b@far.example", "NOTIFY=SUCCESS");
	m = sending_new();
	sending_attempt();
	outcome(m, 0, ROUTE_REMOTE, 'K', "");
	sending_expect_outcome(1, 0, OUTCOME_SUCCEEDED);
	outcome(m, 1, ROUTE_REMOTE, 'Z', "later");
	assert_int_equal(m->in_report, 1);
	sending_expect_about(SEND_DEFERRED, 1);
	m->recipients[0].in_report = 1;	/* its child is started */
	sending_later(400 * 1000);
	sending_attempt();
	outcome(m, 1, ROUTE_REMOTE, 'K', "");
	sending_expect_outcome(1, 1, OUTCOME_SUCCEEDED);
	sending_expect_nothing(&sending_keeper);
	pass_reported(sending, m);
	keeper_flush(sending);
	sending_expect_outcome(1, 0, OUTCOME_DONE);
	assert_int_equal(m->in_report, 1);
	assert_int_equal(m->recipients[1].state, RECIPIENT_SUCCEEDED);
	m->recipients[1].in_report = 1;
	pass_reported(sending, m);
	keeper_flush(sending);
	sending_expect_about(SEND_END, 1);
}

static void
a_delay_is_reported_once_and_at_its_age(void **state)
{
	struct message *m;

	(void)state;
	sending->delay_notice = 400;
	m = begun_with("s@x", "NOTIFY=DELAY,FAILURE");
	sending_later(399 * 1000);
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	assert_int_equal(m->recipients[0].state, RECIPIENT_TODO);
	sending_expect_about(SEND_DEFERRED, 1);
	sending_later(1000);
	sending_attempt();
	outcome(m, 0, ROUTE_REMOTE, 'Z', "much later");
	assert_int_equal(m->recipients[0].state, RECIPIENT_DELAYED);
	assert_int_equal(m->in_report, 1);
	m->is_delay_report = 1;
	m->recipients[0].in_report = 1;
	pass_reported(sending, m);
	keeper_flush(sending);
	sending_expect_outcome(1, 0, OUTCOME_DELAYED);
	sending_later(1200 * 1000);
	sending_attempt();
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	assert_int_equal(m->recipients[0].state, RECIPIENT_TODO);
	assert_int_equal(m->in_report + m->owes_report, 0);
}

/* A delay that is over before its report was made says nothing. */
static void
an_outcome_says_more_than_a_delay(void **state)
{
	struct message *m;

	(void)state;
	sending->delay_notice = 1;
	m = begun_with("s@x", "NOTIFY=DELAY");
	sending_later(1000);
	outcome(m, 0, ROUTE_REMOTE, 'Z', "later");
	sending_expect_about(SEND_DEFERRED, 1);
	m->is_delay_report = 1;
	m->recipients[0].in_report = 1;
	sending_later(400 * 1000);
	sending_attempt();
	outcome(m, 0, ROUTE_REMOTE, 'K', "");
	sending_expect_outcome(1, 0, OUTCOME_DONE);
	pass_reported(sending, m);
	keeper_flush(sending);
	sending_expect_about(SEND_END, 1);
	sending_expect_nothing(&sending_keeper);
}

/* --- while leaving --------------------------------------------------------------------------------------- */

static void
nothing_is_begun_while_leaving(void **state)
{
	struct message *m = begun("s@x", "a@far.example", "b@far.example");

	(void)state;
	sending->is_leaving = 1;
	outcome(m, 0, ROUTE_REMOTE, 'D', "no");
	outcome(m, 1, ROUTE_REMOTE, 'D', "no");
	sending_expect_outcome(1, 0, OUTCOME_FAILED);
	sending_expect_outcome(1, 1, OUTCOME_FAILED);
	sending_expect_nothing(&sending_keeper);	/* the bounce is made at the next start */
	assert_int_equal(m->in_bounce, 0);
	assert_int_equal(sending->bouncer.waiting.len, 0);
	sending_message(2, "s@x", "a@far.example", NULL);
	assert_int_equal(pass_run(sending), 0);
	assert_int_equal(message_find(&sending->messages, 2)->active_remote, 0);
}

/* --- how much a turn takes ----------------------------------------------------------------------------------- */

/* A message to count recipients of one domain. */
static struct message *
to_many(uint64_t number, uint32_t count, const char *domain)
{
	char address[40];

	sending_draft(number, "s@x");
	for (uint32_t i = 0; i < count; i++) {
		snprintf(address, sizeof address, "%u@%s", i, domain);
		sending_recipient(address, NULL);
	}
	return sending_new();
}

static void
a_slice_is_routed_at_once(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = to_many(1, PASS_SLICE, "far.example");
	assert_int_equal(pass_run(sending), 0);
	assert_null(sending->spreads);
	assert_int_equal(m->active_remote, PASS_SLICE);
	assert_int_equal(m->active_local, 0);
	m = to_many(2, PASS_SLICE + 1, "far.example");
	assert_int_equal(pass_run(sending), 0);
	assert_null(sending->spreads);
	assert_int_equal(m->active_remote, PASS_SLICE + 1);
}

static void
a_turn_takes_so_many_and_others_have_their_slices(void **state)
{
	struct destination *large, *other;
	unsigned int turns;

	(void)state;
	sending_connect();
	to_many(1, 4 * PASS_TURN, "large.example");
	assert_int_equal(pass_run(sending), 1);
	large = destination_get(&sending->destinations, ROUTE_REMOTE, "large.example", 13);
	assert_in_range(large->queued, PASS_TURN - PASS_SLICE, PASS_TURN);
	to_many(2, 2 * PASS_SLICE, "other.example");
	to_many(3, 1, "far.example");
	assert_int_equal(pass_run(sending), 1);
	other = destination_get(&sending->destinations, ROUTE_REMOTE, "other.example", 13);
	assert_int_equal(other->queued, 2 * PASS_SLICE);
	assert_int_equal(far()->queued, 1);
	assert_true(large->queued < 2 * PASS_TURN);
	for (turns = 2; pass_run(sending); turns++)
		;
	assert_in_range(turns, 4, 5);
	assert_int_equal(large->queued, 4 * PASS_TURN);
}

/* While recipients are still being routed, the first outcomes do not end the pass. */
static void
a_pass_ends_after_its_last_recipient(void **state)
{
	struct message *m;
	struct recipient *r;

	(void)state;
	sending_connect();
	m = to_many(1, PASS_TURN + PASS_SLICE, "far.example");
	assert_int_equal(pass_run(sending), 1);
	while ((r = destination_take(far())))
		pass_outcome(sending, r, ROUTE_REMOTE, 'K', "", 0);
	assert_int_equal(m->in_pass, 3);
	assert_int_equal(m->active_remote, 1);
	assert_int_equal(pass_run(sending), 0);
	assert_int_equal(m->in_pass, 1 << ROUTE_REMOTE);
	while ((r = destination_take(far())))
		pass_outcome(sending, r, ROUTE_REMOTE, 'K', "", 0);
	assert_int_equal(m->in_pass, 0);
	assert_int_equal(m->is_ended, 1);
}

/* Of the last success nothing is told but the end, so that has to be told as well before qmail-send goes. */
static void
a_pass_that_is_being_spread_ends_with_qmail_send(void **state)
{
	struct message *m;
	struct recipient *r;

	(void)state;
	sending_connect();
	m = to_many(1, 2 * PASS_TURN, "far.example");
	while (pass_run(sending) || far()->queued)
		while ((r = destination_take(far())))
			pass_outcome(sending, r, ROUTE_REMOTE, r == &m->recipients[0] ? 'Z' : 'K', "", 0);
	assert_int_equal(m->in_pass, 0);
	sending_later(INT64_C(10000000));
	assert_int_equal(pass_run(sending), 1);
	pass_outcome(sending, destination_take(far()), ROUTE_REMOTE, 'K', "", 0);
	assert_int_equal(m->todo, 0);
	assert_int_equal(m->is_ended, 0);
	sending->is_leaving = 1;
	assert_int_equal(pass_run(sending), 0);
	assert_int_equal(m->is_ended, 1);
}

static void
none_is_begun_while_the_keeper_is_behind(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = sending_message(1, "s@x", "@here.example", NULL);	/* taken for nobody at once */
	sending->keeper.open = SEND_OPEN_MAX;
	assert_int_equal(pass_run(sending), 0);
	assert_int_equal(m->todo, 1);
	sending->keeper.open--;
	pass_run(sending);
	assert_int_equal(m->todo, 0);
}

/* --- new messages ------------------------------------------------------------------------------------------ */

static void
one_without_recipients_ends_at_once(void **state)
{
	(void)state;
	sending_connect();
	sending_message(1, "s@x", NULL);
	keeper_flush(sending);
	sending_expect_about(SEND_END, 1);
}

static void
one_that_was_tried_waits_for_its_time(void **state)
{
	struct queue_notice n = { .number = 1, .tried = 1 };
	struct message *m;

	(void)state;
	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", NULL);
	sending->keeper.last_tried = sending->now + 399;
	pass_new(sending, m, &n);
	assert_int_equal(m->due[ROUTE_REMOTE], m->birth + 400);
	sending->keeper.last_tried = sending->now + 400;
	pass_new(sending, m, &n);
	assert_int_equal(m->due[ROUTE_REMOTE], m->birth + 1600);
	assert_int_equal(sending_logged("new msg 1\n"), 1);
}

static void
a_large_one_is_checked_before_its_pass(void **state)
{
	static char large[JOB_INLINE_MAX + 1];
	struct message *m;

	(void)state;
	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", NULL);
	m->size = JOB_INLINE_MAX;
	sending_attempt();
	assert_int_equal(m->active_remote, 1);	/* small enough */
	m = sending_message(2, "s@x", "a@far.example", NULL);
	m->size = sizeof large;
	stored_in_files(2, large, large, sizeof large);
	sending_attempt();
	assert_int_equal(m->active_remote, 0);
	assert_int_equal(pass_next(sending), INT64_MAX);
	pass_hurry(sending);	/* who is being checked comes back by itself */
	assert_int_equal(pass_next(sending), INT64_MAX);
	while (octets_check(sending))
		;
	sending_attempt();
	assert_int_equal(m->active_remote, 1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, sending_begin, sending_end)
	static const struct CMUnitTest tests[] = {
		TEST(of_the_last_success_the_end_says_enough), TEST(after_a_failure_each_success_is_told),
		TEST(a_deferral_is_told_once_a_message), TEST(too_old_is_a_failure_with_a_sentence),
		TEST(channels_have_times_of_their_own), TEST(of_one_second_the_lower_number_is_first),
		TEST(a_hurry_makes_all_due_but_what_is_under_way), TEST(a_clock_that_is_set_back_makes_nobody_wait_longer),
		TEST(unreadable_octets_are_tried_again_soon), TEST(who_belongs_elsewhere_is_routed_anew_at_once),
		TEST(octets_that_are_sought_wait_for_the_answer), TEST(a_lost_one_is_forgotten_with_its_last_outcome),
		TEST(a_lost_one_waits_for_the_child_that_reports), TEST(what_succeeds_during_a_report_is_reported_next),
		TEST(a_delay_is_reported_once_and_at_its_age), TEST(an_outcome_says_more_than_a_delay),
		TEST(nothing_is_begun_while_leaving), TEST(a_slice_is_routed_at_once),
		TEST(a_turn_takes_so_many_and_others_have_their_slices), TEST(a_pass_ends_after_its_last_recipient),
		TEST(a_pass_that_is_being_spread_ends_with_qmail_send), TEST(none_is_begun_while_the_keeper_is_behind),
		TEST(one_without_recipients_ends_at_once), TEST(one_that_was_tried_waits_for_its_time),
		TEST(a_large_one_is_checked_before_its_pass),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + NOTIFY_ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < NOTIFY_ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ notify_rows[i].rule, notify_row, sending_begin, sending_end,
		    (void *)(uintptr_t)&notify_rows[i] };
	return cmocka_run_group_tests_name("pass", all, sending_home, directory_remove);
}
