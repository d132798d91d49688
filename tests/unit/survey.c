/* Children that read the directories: what they make of each name that may lie there, what they say of a message, and what the
 * keeper does with one that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue_keeper.h"
#include "queue/digest.h"

enum { FIRST = 1000, OLD = 500 };	/* of this keeper; a message of an earlier one */

#define ENVELOPE "Fs@x\0Ta@y\0Tb@y\0"
#define MESSAGE "Subject: x\n\nbody\n"

static struct channel c, s;	/* a submitter, qmail-send */
static struct channel_frame f;

static int
set_up(void **state)
{
	keeper_set_up(state);
	keeper.scanned = 0;
	keeper_connect(&c, &keeper.submit_listener);
	channel_init(&s, -1, 0);
	return 0;
}

static int
tear_down(void **state)
{
	channel_free(&c);
	channel_free(&s);
	return keeper_tear_down(state);
}

/* --- files ------------------------------------------------------------------------------------------ */

static void
make_mess(uint64_t number, size_t len)
{
	char path[INFO_PATH_MAX];

	info_path(path, "mess", number);
	assert_int_equal(writer_make_file(path, MESSAGE, len), 1);
}

static void
make_info(uint64_t number)
{
	struct info info = { .number = number, .birth = 1, .size = sizeof MESSAGE - 1, .recipients = 2, .envelope = ENVELOPE,
		.envelope_len = sizeof ENVELOPE, .outcomes_len = 1 };
	stralloc file = STRALLOC_ZERO, outcomes = STRALLOC_ZERO;
	char path[INFO_PATH_MAX];

	digest_of(info.digest, MESSAGE, sizeof MESSAGE - 1);
	assert_true(info_outcome_put(&outcomes, &(struct info_outcome){ 0, OUTCOME_FAILED, "old", 3 }));
	info.outcomes = outcomes.s;
	assert_true(info_encode(&file, &info, outcomes.len));
	info_path(path, "info", number);
	assert_int_equal(writer_make_file(path, file.s, file.len), 1);
	stralloc_free(&file);
	stralloc_free(&outcomes);
}

static void
make_both(uint64_t number)
{
	make_mess(number, sizeof MESSAGE - 1);
	make_info(number);
}

/* --- the scan of the start ------------------------------------------------------------------------------ */

/* Handles events until no child reads any more. */
static void
children_end(void)
{
	while (keeper.surveys)
		keeper_event();
}

static void
scan(void)
{
	assert_int_equal(survey_scan(&keeper), 1);
	children_end();
}

/* The job that is wanted for number, 0 none. */
static char
job_for(uint64_t number)
{
	for (size_t i = 0; i < keeper.wanted_len; i++)
		if (keeper.wanted[i].number == number)
			return keeper.wanted[i].job;
	return 0;
}

static int
is_live(uint64_t number)
{
	struct message *m;

	return ledger_find(&keeper.ledger, number, &m) && !(m && m->ended);
}

static void
what_the_names_are(void **state)
{
	struct message *m;

	(void)state;
	make_both(OLD);
	make_both(OLD + 1);
	make_info(OLD + 2);			/* an info without its message: damage */
	make_both(OLD + 3);
	make_mess(OLD + 3, 3);			/* or with a shorter one */
	make_both(OLD + 4);
	assert_int_equal(writer_make_file("queue/info/21/504", "nonsense", 8), 1);
	make_mess(OLD + 5, 3);			/* a message without info: rubbish */
	make_both(FIRST);			/* not of an earlier keeper */
	make_mess(FIRST + 1, 3);
	assert_int_equal(writer_make_file("queue/info/0/507", "in another folder", 17), 1);
	assert_int_equal(writer_make_file("queue/mess/1/x", "no number", 9), 1);
	assert_int_equal(writer_make_file("queue/mess/1/0024", "nor this", 8), 1);
	scan();
	assert_true(keeper.scanned);
	for (uint64_t n = OLD; n < OLD + 2; n++) {
		assert_true(ledger_find(&keeper.ledger, n, &m));
		assert_null(m);
	}
	for (uint64_t n = OLD + 2; n < OLD + 5; n++) {
		assert_true(is_live(n));	/* until a writer has looked */
		assert_int_equal(job_for(n), WRITER_VERIFY);
	}
	assert_false(is_live(OLD + 5));
	assert_int_equal(job_for(OLD + 5), WRITER_UNLINK);
	assert_int_equal(keeper.ledger.used, 6);
	assert_int_equal(keeper.wanted_len, 4);
}

static int
io_error(int fd)
{
	(void)fd;
	errno = EIO;
	return -1;
}

static void
a_scan_that_fails_decides_nothing_and_is_tried_again(void **state)
{
	(void)state;
	make_both(OLD);
	make_mess(OLD + 5, 3);
	keeper_fsync = io_error;	/* a name that is absent has to be absent after a power cut too */
	scan();
	assert_string_equal(keeper_said, "the scan of the queue failed, trying again");
	assert_false(keeper.scanned);
	assert_int_equal(keeper.wanted_len, 0);
	keeper_fsync = NULL;
	assert_int_equal(rename("queue/mess/22", "queue/mess/away"), 0);	/* after all infos */
	scan();
	assert_false(keeper.scanned);
	assert_int_equal(rename("queue/mess/away", "queue/mess/22"), 0);
	scan();
	assert_true(keeper.scanned);
	assert_true(is_live(OLD));
	assert_int_equal(job_for(OLD + 5), WRITER_UNLINK);
	assert_int_equal(keeper.wanted_len, 1);
}

static void
one_scan_at_a_time_and_none_after_it(void **state)
{
	(void)state;
	keeper_forks_fail = 1;
	assert_int_equal(survey_scan(&keeper), 0);
	assert_null(keeper.surveys);
	keeper_forks_fail = 0;
	assert_int_equal(survey_scan(&keeper), 1);
	assert_int_equal(survey_scan(&keeper), 1);
	assert_null(keeper.surveys->next);
	children_end();
	assert_int_equal(survey_scan(&keeper), 1);
	assert_null(keeper.surveys);
}

static uint64_t
accepted(void)
{
	uint64_t number;

	keeper_submit(&c, 10);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	return number;
}

/* A message in the ring with a number of an earlier keeper. */
static struct message *
in_the_ring(uint64_t number)
{
	uint64_t next = keeper.next_number;
	struct message *m;

	keeper.next_number = number;
	assert_int_equal(accepted(), number);
	keeper.next_number = next;
	assert_true(ledger_find(&keeper.ledger, number, &m));
	return m;
}

static void
the_ring_has_the_last_word(void **state)
{
	struct message *m = in_the_ring(OLD), *ended = in_the_ring(OLD + 1), *gone = in_the_ring(OLD + 2);

	(void)state;
	make_both(OLD);
	make_both(OLD + 1);
	ledger_end(&keeper.ledger, ended, ended->batch);
	ledger_end(&keeper.ledger, gone, gone->batch);
	scan();
	assert_true(m->files && m->batch && !m->moved);
	assert_true(ended->files);
	assert_int_equal(job_for(OLD + 1), WRITER_UNLINK);	/* what the power cut left */
	assert_false(is_live(OLD + 2));
	assert_int_equal(keeper.ledger.used, 2);
	assert_int_equal(keeper.wanted_len, 1);
}

/* --- what is said of a message ------------------------------------------------------------------------------- */

/* The state of recipient 0 in what was said, and its text; then nothing of it is left. */
static void
assert_recipient(char want, const char *text)
{
	const char *at = s.out.s + CHANNEL_HEADER + QUEUE_NOTICE_PACK;

	at += strlen(at) + 1 + CHANNEL_HEADER;
	assert_int_equal(at[4], want);
	assert_string_equal(at + 5, "a@y");
	assert_string_equal(at + 5 + 4, text);
	s.out.len = 0;
}

/* Success of recipient 0 of OLD, reported by a qmail-send that comes and goes, and in the ring. */
static const struct outcome *
reported(void)
{
	struct channel reporter;
	struct message *m;
	char octets[16];

	keeper_peer = keeper.qmails;
	keeper_connect(&reporter, &keeper.send_listener);
	uint64_pack_big(octets, OLD);
	memcpy(octets + 8, "\0\0\0\0Snew", 8);
	keeper_say(&reporter, SEND_DONE, octets, sizeof octets);
	keeper_events();
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	channel_free(&reporter);
	keeper_events();
	assert_true(ledger_find(&keeper.ledger, OLD, &m));
	return &m->outcomes[0];
}

/* OLD, with its outcome in the info, is known to a keeper whose scan has ended. */
static void
with_old(void)
{
	keeper.scanned = 1;
	make_both(OLD);
	assert_true(ledger_add_moved(&keeper.ledger, OLD));
}

static void
spoil(uint64_t offset, const char *with)
{
	assert_int_equal(pwrite(keeper.ring.fd, with, 1, (off_t)offset), 1);
}

static void
outcomes_in_the_ring_come_after_those_of_the_info(void **state)
{
	const struct outcome *o;

	(void)state;
	with_old();
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), 1);
	assert_recipient('D', "old");
	o = reported();
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), 1);
	assert_recipient('S', "new");
	spoil(o->offset, "!");
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), -1);	/* not an old state for a new one */
	assert_int_equal(errno, EPROTO);
}

/* A child may reach a message when what it remembers of the ring has been written over. */
static void
an_outcome_of_another_message_is_none_of_this_one(void **state)
{
	const struct outcome *o;

	(void)state;
	with_old();
	o = reported();
	spoil(o->offset + 8, "!");	/* its number */
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), -1);
	assert_int_equal(s.out.len, 0);
}

static void
files_that_are_no_message_are_not_said(void **state)
{
	(void)state;
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), 0);
	make_info(OLD);
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), 0);
	make_mess(OLD, 3);
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), 0);
	assert_int_equal(unlink("queue/mess/17/500"), 0);
	assert_int_equal(mkdir("queue/mess/17/500", 0700), 0);
	assert_int_equal(survey_say(&s, OLD, &keeper, 0), 0);
	assert_int_equal(s.out.len, 0);
}

static void
a_record_that_is_damaged_is_not_said(void **state)
{
	struct message *m = in_the_ring(OLD);

	(void)state;
	assert_int_equal(survey_say_ring(&s, &keeper, m, 0), 1);
	s.out.len = 0;
	assert_int_equal(pwrite(keeper.ring.fd, "!", 1, (off_t)(m->place.offset + m->place.len - 1)), 1);
	assert_int_equal(survey_say_ring(&s, &keeper, m, 0), 0);
	close(keeper.ring.fd);
	keeper.ring.fd = open("/", O_RDONLY | O_CLOEXEC);	/* not even read */
	assert_int_equal(survey_say_ring(&s, &keeper, m, 0), -1);
	assert_int_equal(s.out.len, 0);
}

/* --- lists ------------------------------------------------------------------------------------------------------ */

static void
connect_send(void)
{
	keeper_peer = keeper.qmails;
	keeper_connect(&s, &keeper.send_listener);
	keeper_say(&s, SEND_LIST, "", 0);
	keeper_events();
	notices_pump(&keeper);
}

/* What qmail-send hears, until there is no more: how many messages, and whether the list ended. */
static void
assert_list(int messages, int over)
{
	int n = 0, all = 0;

	notices_pump(&keeper);
	for (int heard; (heard = keeper_hears(&s, &f)) > 0; ) {
		n += heard == NOTICE_MESSAGE;
		all += heard == NOTICE_ALL;
	}
	assert_int_equal(n, messages);
	assert_int_equal(all, over);
}

static void
a_list_of_what_waits(void **state)
{
	(void)state;
	keeper.scanned = 1;
	assert_int_equal(survey_later(&keeper, OLD), 1);	/* for nobody */
	assert_int_equal(keeper.later_len, 0);
	for (uint64_t n = OLD; n < OLD + 100; n++) {
		make_both(n);
		assert_true(ledger_add_moved(&keeper.ledger, n));
	}
	connect_send();
	assert_int_equal(keeper.later_len, 100);
	survey_start_later(&keeper);
	assert_int_equal(keeper.later_len, 0);
	assert_int_equal(survey_later(&keeper, OLD), 1);
	survey_start_later(&keeper);	/* one child at a time */
	assert_int_equal(keeper.later_len, 1);
	assert_null(keeper.surveys->next);
	children_end();
	assert_list(100, 0);
	survey_start_later(&keeper);
	children_end();
	assert_list(1, 1);
}

static void
what_ended_meanwhile_is_not_told(void **state)
{
	(void)state;
	keeper.scanned = 1;
	make_both(OLD);
	make_both(OLD + 1);
	assert_true(ledger_add_moved(&keeper.ledger, OLD) && ledger_add_moved(&keeper.ledger, OLD + 1));
	connect_send();
	survey_start_later(&keeper);
	ledger_remove(&keeper.ledger, OLD);
	children_end();
	assert_list(1, 1);
}

static void
a_list_that_fails_has_to_be_asked_for_again(void **state)
{
	(void)state;
	with_old();
	connect_send();
	for (int i = 0; i < 100000; i++)	/* more than it can say before somebody reads */
		assert_int_equal(survey_later(&keeper, OLD), 1);
	survey_start_later(&keeper);
	assert_int_equal(kill(keeper_child, SIGKILL), 0);
	children_end();
	assert_string_equal(keeper_said, "a list of waiting messages failed, qmail-send has to ask again");
	channel_free(&s);
	connect_send();
	keeper_forks_fail = 1;
	survey_start_later(&keeper);
	assert_string_equal(keeper_said, "unable to fork for a list of waiting messages");
	assert_int_equal(keeper.send.fd, -1);
	assert_int_equal(keeper.later_len, 0);
	assert_null(keeper.surveys);
	keeper_forks_fail = 0;
	channel_free(&s);
	connect_send();
	survey_start_later(&keeper);
	children_end();
	assert_list(1, 1);
}

static void
a_child_waits_while_qmail_send_does_not_read(void **state)
{
	(void)state;
	with_old();
	connect_send();
	survey_start_later(&keeper);
	while (!notices_full(&keeper))
		assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
	keeper_event();
	assert_int_equal(keeper.surveys->source.watched, 0);
	assert_int_equal(keeper.surveys->channel.in.len, 0);
	while (notices_full(&keeper)) {
		notices_pump(&keeper);
		while (keeper_hears(&s, &f) > 0)
			;
	}
	notices_pump(&keeper);
	assert_true(keeper.surveys->source.watched);
	children_end();
	notices_pump(&keeper);
	assert_int_equal(keeper.list_running, 0);
}

/* The scan says what it knew at its fork: the recipient would be delivered to once more. */
static void
what_became_of_a_message_since_the_scan_began_is_told_with_it(void **state)
{
	int types[3];

	(void)state;
	make_both(OLD);
	assert_int_equal(survey_scan(&keeper), 1);
	reported();
	connect_send();
	children_end();
	for (int told = 0; told < 2; told++) {	/* by the scan, which has to be silent; then by a list */
		notices_pump(&keeper);
		survey_start_later(&keeper);
		children_end();
	}
	notices_pump(&keeper);
	assert_int_equal(keeper_hears(&s, &f), NOTICE_HELLO);
	for (int i = 0; i < 3; i++) {
		types[i] = keeper_hears(&s, &f);
		if (types[i] == NOTICE_RCPT)
			assert_int_equal(f.s[4], OUTCOME_SUCCEEDED);
	}
	assert_true(types[0] == NOTICE_MESSAGE && types[1] == NOTICE_RCPT && types[2] == NOTICE_OVER);
	assert_list(0, 1);
}

static void
a_list_ends_with_the_connection_that_asked_for_it(void **state)
{
	struct survey *old;

	(void)state;
	with_old();
	connect_send();
	for (int i = 0; i < 100000; i++)	/* more than it can say before somebody reads */
		assert_int_equal(survey_later(&keeper, OLD), 1);
	survey_start_later(&keeper);
	old = keeper.surveys;
	channel_free(&s);
	keeper_said[0] = '\0';
	connect_send();
	survey_start_later(&keeper);	/* does not wait for it */
	assert_ptr_not_equal(keeper.surveys, old);
	children_end();
	assert_string_equal(keeper_said, "");
	assert_list(1, 1);
}

/* What a list says may be older than the ring is by then, and a disk may fail for a moment: mail must not wait for the next list. */
static void
what_a_list_could_not_say_is_told_later(void **state)
{
	const struct outcome *o;

	(void)state;
	keeper.scanned = 1;
	make_both(OLD);
	make_both(OLD + 1);
	assert_true(ledger_add_moved(&keeper.ledger, OLD) && ledger_add_moved(&keeper.ledger, OLD + 1));
	o = reported();
	connect_send();
	spoil(o->offset, "!");
	for (int i = 0; i < 2; i++) {
		survey_start_later(&keeper);
		children_end();
		assert_string_equal(keeper_said, "unable to tell qmail-send of it now, it is told later: message");
		assert_int_equal(job_for(OLD), WRITER_VERIFY);
		assert_list(!i, 0);	/* the other one */
		keeper.now_ms += 1000 * SAY_RETRY - 1;
		notices_pump(&keeper);
		assert_int_equal(keeper.later_len, 0);
		keeper.now_ms++;
		notices_pump(&keeper);
		assert_int_equal(keeper.later_len, 1);
	}
	spoil(o->offset, "D");
	survey_start_later(&keeper);
	children_end();
	assert_list(1, 1);
}

static void
what_was_set_aside_meanwhile_is_not_told_later(void **state)
{
	(void)state;
	keeper.scanned = 1;
	make_info(OLD);
	assert_true(ledger_add_moved(&keeper.ledger, OLD));
	connect_send();
	survey_start_later(&keeper);
	children_end();
	assert_list(0, 0);
	ledger_remove(&keeper.ledger, OLD);
	keeper.now_ms += 1000 * SAY_RETRY;
	assert_list(0, 1);
}

/* Without its end the tail would never move again. */
static void
a_scan_that_waits_for_qmail_send_goes_on_when_that_has_gone(void **state)
{
	(void)state;
	make_both(OLD);
	connect_send();
	assert_int_equal(survey_scan(&keeper), 1);
	while (!notices_full(&keeper))
		assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
	keeper_event();
	assert_int_equal(keeper.surveys->source.watched, 0);
	notices_close(&keeper);
	assert_true(keeper.surveys->source.watched);
	children_end();
	assert_true(keeper.scanned);
	assert_true(is_live(OLD));
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_the_names_are), TEST(a_scan_that_fails_decides_nothing_and_is_tried_again),
		TEST(one_scan_at_a_time_and_none_after_it), TEST(the_ring_has_the_last_word), TEST(outcomes_in_the_ring_come_after_those_of_the_info),
		TEST(an_outcome_of_another_message_is_none_of_this_one), TEST(what_a_list_could_not_say_is_told_later),
		TEST(what_became_of_a_message_since_the_scan_began_is_told_with_it), TEST(a_list_ends_with_the_connection_that_asked_for_it),
		TEST(what_was_set_aside_meanwhile_is_not_told_later),
		TEST(files_that_are_no_message_are_not_said), TEST(a_record_that_is_damaged_is_not_said), TEST(a_list_of_what_waits),
		TEST(what_ended_meanwhile_is_not_told), TEST(a_list_that_fails_has_to_be_asked_for_again),
		TEST(a_child_waits_while_qmail_send_does_not_read), TEST(a_scan_that_waits_for_qmail_send_goes_on_when_that_has_gone),
	};

	return cmocka_run_group_tests_name("survey", tests, NULL, NULL);
}
