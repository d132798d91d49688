/* Submitters: who may connect, what breaks the rules, what a message may be, and that one who stalls or vanishes costs nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "queue_keeper.h"
#include "process.h"
#include "queue/reader.h"

static struct channel c;
static char octets[QUEUE_FRAME_MAX + 1];

#define ENVELOPE "Fs@x\0Ta@y\0"

static const stralloc *starved;	/* for which there is no memory */

int __real_stralloc_catb(stralloc *sa, const char *s, size_t len);
int __wrap_stralloc_catb(stralloc *sa, const char *s, size_t len);
int
__wrap_stralloc_catb(stralloc *sa, const char *s, size_t len)
{
	return sa != starved && __real_stralloc_catb(sa, s, len);
}

static int
set_up(void **state)
{
	starved = NULL;
	keeper_set_up(state);
	memset(octets, 'x', sizeof octets);
	keeper_connect(&c, &keeper.submit_listener);
	return 0;
}

static int
tear_down(void **state)
{
	channel_free(&c);
	return keeper_tear_down(state);
}

/* What became of it, without waiting: the type of the frame, 0 nothing, -1 hung up. */
static int
heard(void)
{
	struct channel_frame f;

	submit_free_dead(&keeper);
	return keeper_hears(&c, &f);
}

static void
say(char type, const char *s, size_t len)
{
	keeper_say(&c, type, s, len);
	keeper_events();
}

/* --- connections ----------------------------------------------------------------------------- */

static void
another_user_may_have_so_many_connections(void **state)
{
	struct channel all[SUBMITTERS_UID_MAX], other;
	struct channel_frame f;

	(void)state;
	keeper_peer = 5000;
	for (int i = 0; i < SUBMITTERS_UID_MAX; i++) {
		keeper_connect(&all[i], &keeper.submit_listener);
		assert_int_equal(keeper_hears(&all[i], &f), 0);
	}
	keeper_connect(&other, &keeper.submit_listener);
	assert_int_equal(keeper_hears(&other, &f), -1);
	channel_free(&other);
	for (uid_t uid = 5001; uid >= 1001; uid -= uid == 5001 ? 3998 : 1) {	/* another user, and those of the mail system */
		keeper_peer = uid;
		keeper_connect(&other, &keeper.submit_listener);
		assert_int_equal(keeper_hears(&other, &f), 0);
		channel_free(&other);
	}
	channel_free(&all[0]);
	keeper_events();
	submit_free_dead(&keeper);
	keeper_peer = 5000;
	keeper_connect(&all[0], &keeper.submit_listener);
	assert_int_equal(keeper_hears(&all[0], &f), 0);
	for (int i = 0; i < SUBMITTERS_UID_MAX; i++)
		channel_free(&all[i]);
}

static void
all_together_have_a_limit_too(void **state)
{
	struct channel last, more;
	struct channel_frame f;
	unsigned int few = keeper.submitters_len;

	(void)state;
	keeper_peer = keeper.qmails;
	keeper.submitters_len = SUBMITTERS_MAX - 1;
	keeper_connect(&last, &keeper.submit_listener);
	assert_int_equal(keeper_hears(&last, &f), 0);
	keeper_connect(&more, &keeper.submit_listener);
	assert_int_equal(keeper_hears(&more, &f), -1);
	keeper.submitters_len = few + 1;
	channel_free(&last);
	channel_free(&more);
}

static void
who_cannot_be_served_is_cut_off_and_the_log_says_so(void **state)
{
	struct channel other;
	struct channel_frame f;

	(void)state;
	keeper_peer_is_unknown = 1;
	keeper_connect(&other, &keeper.submit_listener);
	assert_int_equal(keeper_hears(&other, &f), -1);
	assert_string_equal(keeper_said, "unable to serve a connection, it is closed");
	channel_free(&other);
}

/* So many sessions of qmaild's, in the midst of a message; a descriptor for each would be too many here. */
static void
add_sessions(unsigned int n)
{
	while (n--) {
		struct submitter *s = calloc(1, sizeof *s);

		assert_non_null(s);
		*s = (struct submitter){ .source.fd = -1, .report.fd = -1, .uid = keeper.qmaild, .next = keeper.submitters };
		channel_init(&s->channel, -1, 0);
		channel_init(&s->report_channel, -1, 0);
		channel_init(&s->relay, -1, 0);
		s->next->previous = s;
		keeper.submitters = s;
		keeper.submitters_len++;
	}
}

/* Clients of the network that take their time leave room for mail of this host. */
static void
the_network_has_not_all_connections(void **state)
{
	const uid_t others[] = { 5000, keeper.qmails, keeper.alias, 0 };
	struct channel more;
	struct channel_frame f;

	(void)state;
	add_sessions(SUBMITTERS_NETWORK_MAX);
	keeper_peer = keeper.qmaild;
	keeper_connect(&more, &keeper.submit_listener);
	assert_int_equal(keeper_hears(&more, &f), -1);
	channel_free(&more);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		keeper_peer = others[i];
		keeper_connect(&more, &keeper.submit_listener);
		assert_int_equal(keeper_hears(&more, &f), 0);
		channel_free(&more);
	}
}

static void
without_a_descriptor_the_keeper_accepts_later(void **state)
{
	struct channel later;
	struct channel_frame f;
	struct rlimit old, low;
	int probe = dup(0);	/* the next one, which the connection itself takes */

	(void)state;
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){ .rlim_cur = (rlim_t)probe + 1, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	keeper_connect(&later, &keeper.submit_listener);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(keeper.accepting, 0);
	assert_int_equal(keeper.submitters_len, 1);
	assert_string_equal(keeper_said, "no descriptor or memory for another connection");
	keeper_said[0] = '\0';
	submit_run_short(&keeper);
	assert_string_equal(keeper_said, "");	/* it was said */
	submit_accept(&keeper, &keeper.submit_listener, EPOLLIN);
	submit_run_short(&keeper);
	assert_string_equal(keeper_said, "no descriptor or memory for another connection");
	assert_int_equal(keeper.submitters_len, 2);
	assert_int_equal(keeper_hears(&later, &f), 0);
	channel_free(&later);
}

static void
nobody_to_accept_is_no_trouble(void **state)
{
	(void)state;
	submit_accept(&keeper, &keeper.submit_listener, EPOLLIN);
	assert_int_equal(keeper.accepting, 1);
	assert_int_equal(keeper.submitters_len, 1);
	assert_string_equal(keeper_said, "");
}

static void
who_is_idle_or_stalls_is_cut_off(void **state)
{
	(void)state;
	keeper.now_ms += 1000 * SUBMIT_IDLE;
	submit_expire(&keeper);
	assert_int_equal(heard(), 0);
	say(SUBMIT_MESSAGE, octets, 1);	/* now it has begun */
	keeper.now_ms += 1000 * (uint64_t)SUBMIT_STALL;
	submit_expire(&keeper);
	assert_int_equal(heard(), 0);
	keeper.now_ms++;
	submit_expire(&keeper);
	assert_int_equal(heard(), -1);
	assert_int_equal(keeper.submitters_len, 0);
	channel_free(&c);
	keeper_connect(&c, &keeper.submit_listener);
	keeper.now_ms += 1000 * SUBMIT_IDLE + 1;
	submit_expire(&keeper);
	assert_int_equal(heard(), -1);
}

static void
who_waits_for_the_answer_is_not(void **state)
{
	(void)state;
	keeper_submit(&c, 10);
	keeper.now_ms += 1000 * (uint64_t)SUBMIT_STALL + 1;
	submit_expire(&keeper);
	assert_int_equal(heard(), 0);
}

/* --- rules --------------------------------------------------------------------------------------- */

static void
what_breaks_the_rules(void **state)
{
	static const struct { char type; size_t len; int after_envelope; } rows[] = {
		{ 'z', 0, 0 }, { SUBMIT_RESULT, 17, 0 }, { SUBMIT_END, 1, 0 }, { SUBMIT_MESSAGE, 1, 1 }, { SUBMIT_MESSAGE, QUEUE_FRAME_MAX + 1, 0 },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (rows[i].after_envelope)
			say(SUBMIT_ENVELOPE, "F", 1);
		say(rows[i].type, octets, rows[i].len);
		assert_string_equal(keeper_said, "a submitter broke the protocol; uid");
		assert_int_equal(heard(), -1);
		tear_down(state);
		set_up(state);
	}
	say(SUBMIT_MESSAGE, octets, QUEUE_FRAME_MAX);	/* this one does not */
	assert_int_equal(heard(), 0);
}

static void
an_envelope_that_is_not_one_is_refused_and_the_next_message_taken(void **state)
{
	static char address[QUEUE_ADDRESS_MAX + 3];
	static const struct { const char *s; size_t len; unsigned int code; } rows[] = {
		{ "", 0, QUEUE_ENVELOPE }, { "Fs", 2, QUEUE_ENVELOPE }, { ENVELOPE, sizeof ENVELOPE - 1, QUEUE_ENVELOPE },
		{ ENVELOPE "\0x", sizeof ENVELOPE + 1, QUEUE_ENVELOPE }, { "Ta@y", 4, QUEUE_ENVELOPE },
		{ address, sizeof address, QUEUE_ADDRESS_TOO_LONG },
	};

	(void)state;
	memset(address, 'a', sizeof address);
	address[0] = 'F';
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		say(SUBMIT_MESSAGE, octets, 10);
		say(SUBMIT_ENVELOPE, rows[i].s, rows[i].len);
		say(SUBMIT_END, "", 0);
		assert_true(keeper_answered(&c, rows[i].code, NULL));
		assert_null(keeper.complete);
	}
	keeper_submit(&c, 10);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, NULL));
}

static void
the_rest_of_a_refused_message_takes_no_memory(void **state)
{
	struct submitter *s = keeper.submitters;

	(void)state;
	say(SUBMIT_MESSAGE, octets, 100000);
	say(SUBMIT_ENVELOPE, "X", 1);
	assert_int_equal(s->message.a + s->envelope.a, 0);
	for (int i = 0; i < 200; i++)
		say(SUBMIT_ENVELOPE, octets, QUEUE_FRAME_MAX);
	assert_int_equal(s->message.a + s->envelope.a, 0);
	assert_true(s->channel.in.a < 4 * QUEUE_FRAME_MAX);
	assert_int_equal(keeper.large_len, 0);
	say(SUBMIT_END, "", 0);
	assert_true(keeper_answered(&c, QUEUE_ENVELOPE, NULL));
}

static void
without_memory_a_message_is_refused_and_the_log_says_so(void **state)
{
	const stralloc *parts[] = { &keeper.submitters->message, &keeper.submitters->envelope };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		starved = parts[i];
		keeper_said[0] = '\0';
		keeper_submit(&c, 10);
		assert_true(keeper_answered(&c, QUEUE_NO_MEMORY, NULL));
		assert_string_equal(keeper_said, "no memory for a message, it is refused; uid");
	}
	starved = NULL;
	keeper_submit(&c, 10);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, NULL));
}

static void
room_for_a_large_message_is_given_back(void **state)
{
	struct submitter *s = keeper.submitters;

	(void)state;
	keeper_submit(&c, 200000);
	flush_turn(&keeper);
	assert_int_equal(s->message.a, 0);
	keeper_submit(&c, 1000);
	flush_turn(&keeper);
	assert_true(s->message.a >= 1000);
}

/* --- complete messages ------------------------------------------------------------------------------- */

static void
message_and_envelope_of_exactly_the_limit_go_into_the_ring(void **state)
{
	struct submitter *s = keeper.submitters;

	(void)state;
	keeper_submit(&c, QUEUE_INLINE_MAX - sizeof ENVELOPE);
	assert_int_equal(s->state, SUBMIT_IS_COMPLETE);
	assert_ptr_equal(keeper.complete, s);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, NULL));
	keeper_forks_fail = 1;
	keeper_submit(&c, QUEUE_INLINE_MAX - sizeof ENVELOPE + 1);
	assert_int_equal(s->state, SUBMIT_IS_LARGE);
	assert_int_equal(s->source.watched, 0);	/* until there is a child for it */
}

static void
the_record_is_what_was_submitted_with_a_received_field(void **state)
{
	struct reader reader = reader_of(&keeper.ring);
	char received[200], *end;
	stralloc got = STRALLOC_ZERO;
	struct message *m;
	uint64_t number;
	uint32_t at;

	(void)state;
	say(SUBMIT_MESSAGE, "Subject: x\n", 11);
	say(SUBMIT_MESSAGE, "\nbody\0\n", 7);
	for (size_t i = 0; i < sizeof ENVELOPE; i++)	/* octet by octet */
		say(SUBMIT_ENVELOPE, &ENVELOPE[i], 1);
	say(SUBMIT_END, "", 0);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	assert_true(ledger_find(&keeper.ledger, number, &m));
	assert_int_equal(reader_ring(&reader, number, &m->place, &got, &at), READER_OK);
	assert_memory_equal(got.s + RECORD_MESSAGE_HEADER, ENVELOPE, sizeof ENVELOPE);
	submit_received_field(received, sizeof received, &keeper, 12345, number, 0);
	end = strchr(received, ';');
	assert_memory_equal(got.s + at, received, (size_t)(end - received));
	end = memchr(got.s + at, '\n', got.len - at);
	assert_int_equal(got.s + got.len - end - 1, 18);
	assert_memory_equal(end + 1, "Subject: x\n\nbody\0\n", 18);
	stralloc_free(&got);
}

static void
the_received_field_says_who_called(void **state)
{
	static const struct { uid_t uid; const char *want; } rows[] = {
		{ 0, "Received: (qmail 77 invoked by uid 0); 1 Jan 1970 00:00:00 -0000\n" },
		{ 4294967294u, "Received: (qmail 77 invoked by uid 4294967294); 1 Jan 1970 00:00:00 -0000\n" },
		{ 1001, "Received: (qmail 77 invoked by alias); 1 Jan 1970 00:00:00 -0000\n" },
		{ 1002, "Received: (qmail 77 invoked from network); 1 Jan 1970 00:00:00 -0000\n" },
		{ 1003, "Received: (qmail 77 invoked for bounce); 1 Jan 1970 00:00:00 -0000\n" },
	};
	char s[200];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(submit_received_field(s, sizeof s, &keeper, rows[i].uid, 77, 0), strlen(rows[i].want));
		assert_string_equal(s, rows[i].want);
	}
}

static void
a_message_said_before_the_answer_to_the_one_before_waits(void **state)
{
	uint64_t first, second;

	(void)state;
	keeper_submit(&c, 10);
	keeper_submit(&c, 20);
	assert_int_equal(keeper.submitters->source.watched, 0);	/* the loop does not turn for it */
	assert_int_equal(heard(), 0);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, &first));
	assert_int_equal(heard(), 0);
	keeper_events();
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, &second));
	assert_int_equal(second, first + 1);
}

static void
who_hangs_up_after_the_end_has_said_it(void **state)
{
	struct message *m;

	(void)state;
	keeper_submit(&c, 10);
	channel_free(&c);
	keeper_events();
	flush_turn(&keeper);
	keeper_events();
	submit_free_dead(&keeper);
	assert_int_equal(keeper.submitters_len, 0);
	assert_true(ledger_find(&keeper.ledger, keeper.first_number, &m));
}

static void
who_hangs_up_before_the_end_leaves_nothing(void **state)
{
	(void)state;
	say(SUBMIT_MESSAGE, octets, 10);
	say(SUBMIT_ENVELOPE, ENVELOPE, sizeof ENVELOPE);
	channel_free(&c);
	keeper_events();
	submit_free_dead(&keeper);
	flush_turn(&keeper);
	assert_int_equal(keeper.submitters_len, 0);
	assert_int_equal(keeper.ledger.used, 0);
	assert_int_equal(keeper.next_number, keeper.first_number);
}

static void
who_has_no_room_for_an_answer_is_gone(void **state)
{
	struct submitter *s = keeper.submitters;

	(void)state;
	keeper_submit(&c, 10);
	while (send(s->source.fd, octets, sizeof octets, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	flush_turn(&keeper);
	assert_int_equal(s->state, SUBMIT_IS_DEAD);
	assert_int_equal(keeper.ledger.used, 1);	/* its message is not */
	assert_string_equal(keeper_said, "unable to give an answer, its connection is closed; uid");
}

static void
who_waits_for_no_answer_is_not_worth_a_line(void **state)
{
	struct submitter *s = keeper.submitters;

	(void)state;
	keeper_submit(&c, 10);
	channel_free(&c);
	keeper_said[0] = '\0';
	flush_turn(&keeper);
	assert_int_equal(s->state, SUBMIT_IS_DEAD);
	assert_int_equal(keeper.ledger.used, 1);
	assert_string_equal(keeper_said, "");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(another_user_may_have_so_many_connections), TEST(all_together_have_a_limit_too), TEST(who_cannot_be_served_is_cut_off_and_the_log_says_so),
		TEST(the_network_has_not_all_connections), TEST(without_a_descriptor_the_keeper_accepts_later), TEST(nobody_to_accept_is_no_trouble), TEST(who_is_idle_or_stalls_is_cut_off),
		TEST(who_waits_for_the_answer_is_not), TEST(what_breaks_the_rules),
		TEST(an_envelope_that_is_not_one_is_refused_and_the_next_message_taken), TEST(the_rest_of_a_refused_message_takes_no_memory),
		TEST(without_memory_a_message_is_refused_and_the_log_says_so),
		TEST(room_for_a_large_message_is_given_back), TEST(message_and_envelope_of_exactly_the_limit_go_into_the_ring),
		TEST(the_record_is_what_was_submitted_with_a_received_field), TEST(the_received_field_says_who_called),
		TEST(a_message_said_before_the_answer_to_the_one_before_waits), TEST(who_hangs_up_after_the_end_has_said_it),
		TEST(who_hangs_up_before_the_end_leaves_nothing), TEST(who_has_no_room_for_an_answer_is_gone), TEST(who_waits_for_no_answer_is_not_worth_a_line),
	};

	return cmocka_run_group_tests_name("submit", tests, NULL, NULL);
}
