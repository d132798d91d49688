/* qmail-send's end of the connection to the keeper: what it takes from it, and what it says again to a new one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "bin-src/send/keeper.h"
#include "bin-src/send/pass.h"
#include "directory.h"
#include "sending.h"

enum { RETRY_MS = 20, RETRY_MS_MAX = 1000 };

/* Memory is short at the next frame; tests/unit/units.mk. */
int __wrap_channel_put(struct channel *c, char type, const struct iovec *v, unsigned int n);
int __real_channel_put(struct channel *c, char type, const struct iovec *v, unsigned int n);
static int no_memory;

int
__wrap_channel_put(struct channel *c, char type, const struct iovec *v, unsigned int n)
{
	if (!no_memory)
		return __real_channel_put(c, type, v, n);
	no_memory = 0;
	errno = ENOMEM;
	return 0;
}

/* --- what the keeper says ----------------------------------------------------------- */

static void
say_hello(void)
{
	sending_say(&sending_keeper, NOTICE_HELLO, "\0\0\0\0\0\0\0\1", 8);
	assert_int_equal(loop_wait(&sending->loop, 0), 1);
	keeper_flush(sending);
}

/* The keeper is another one now. */
static void
new_keeper(void)
{
	channel_free(&sending_keeper);
	assert_int_equal(loop_wait(&sending->loop, 0), 1);
	sending_later(RETRY_MS_MAX);
	sending_accept();
}

/* Puts the notice of a message into s; returns its octets. */
static size_t
notice(char *s, uint64_t number, enum queue_place_kind kind)
{
	struct queue_notice n = { .number = number, .birth = (uint64_t)sending->now, .size = 10, .recipients = 1, .tried = 1,
		.place = { .kind = kind, .offset = 4096 * number, .len = 60, .message_at = 50 } };

	queue_notice_pack(s, &n);
	memcpy(s + QUEUE_NOTICE_PACK, "s@x", 4);
	return QUEUE_NOTICE_PACK + 4;
}

static void
say_notice(uint64_t number, enum queue_place_kind kind)
{
	char s[QUEUE_NOTICE_PACK + 4];

	sending_say(&sending_keeper, NOTICE_MESSAGE, s, notice(s, number, kind));
}

static void
say_over(uint64_t number)
{
	char s[8];

	uint64_pack_big(s, number);
	sending_say(&sending_keeper, NOTICE_OVER, s, sizeof s);
}

#define ONE "\0\0\0\0Ta@far.example\0"

static void
say_message(uint64_t number)
{
	say_notice(number, PLACE_RING);
	sending_say(&sending_keeper, NOTICE_RCPT, ONE, sizeof ONE - 1);
	say_over(number);
}

static void
hear(void)
{
	assert_int_equal(loop_wait(&sending->loop, 0), 1);
	keeper_flush(sending);
}

static void
assert_lost(void)
{
	struct channel_frame f;

	while (sending_heard(&sending_keeper, &f) == 1)
		;
	assert_int_equal(sending_heard(&sending_keeper, &f), -1);
	assert_int_equal(sending->keeper.channel.fd, -1);
	assert_int_equal(sending->keeper.source.fd, -1);
}

/* A recipient of a message, done and told so. */
static struct message *
with_an_outcome(void)
{
	struct message *m = sending_message(7, "s@x", "a@far.example", "b@far.example", NULL);

	recipient_set(&m->recipients[0], RECIPIENT_DONE, NULL);
	keeper_tell_recipient(sending, m, &m->recipients[0]);
	keeper_flush(sending);
	return m;
}

/* --- connecting ------------------------------------------------------------------------ */

static void
tries_are_further_and_further_apart(void **state)
{
	static const int64_t pauses[] = { 20, 40, 80, 160, 320, 640, 1000, 1000 };

	(void)state;
	assert_int_equal(unlink(QUEUE_SEND_SOCKET), 0);
	for (unsigned int i = 0; i < sizeof pauses / sizeof *pauses; i++) {
		assert_int_equal(keeper_tick(sending), sending->clock + pauses[i]);
		sending_later(pauses[i] - 1);
		assert_int_equal(keeper_tick(sending), sending->clock + 1);
		sending_later(1);
	}
	assert_int_equal(sending_logged("warning: unable to connect to qmail-queued: No such file or directory; trying again\n"), 1);
}

static void
a_whole_list_makes_the_pauses_short_again(void **state)
{
	(void)state;
	sending->keeper.retry_ms = RETRY_MS_MAX;
	sending_accept();
	assert_int_equal(keeper_tick(sending), INT64_MAX);
	/* one that only accepts, or greets, does not */
	channel_free(&sending_keeper);
	hear();
	assert_int_equal(keeper_tick(sending), sending->clock + RETRY_MS_MAX);
	new_keeper();
	say_hello();
	channel_free(&sending_keeper);
	hear();
	assert_int_equal(keeper_tick(sending), sending->clock + RETRY_MS_MAX);
	new_keeper();
	say_hello();
	sending_say(&sending_keeper, NOTICE_ALL, "", 0);
	hear();
	channel_free(&sending_keeper);
	hear();
	assert_int_equal(keeper_tick(sending), sending->clock + RETRY_MS);
}

static void
a_loss_is_logged_once(void **state)
{
	(void)state;
	sending_connect();
	new_keeper();
	new_keeper();
	new_keeper();
	assert_int_equal(sending_logged("warning: lost qmail-queued: it closed the connection; trying again\n"), 1);
	say_hello();
	new_keeper();
	assert_int_equal(sending_logged("warning: lost qmail-queued"), 1);
	say_hello();
	sending_say(&sending_keeper, NOTICE_ALL, "", 0);
	hear();
	new_keeper();
	assert_int_equal(sending_logged("warning: lost qmail-queued"), 2);
}

static void
nothing_is_said_before_hello(void **state)
{
	struct message *m;

	(void)state;
	sending_accept();
	m = with_an_outcome();
	keeper_tell_deferred(sending, m);
	sending_expect_nothing(&sending_keeper);
	assert_int_equal(sending->keeper.open, 1);
	say_hello();
	sending_expect_outcome(7, 0, OUTCOME_DONE);
	sending_expect(&sending_keeper, SEND_LIST);
	sending_expect_nothing(&sending_keeper);
}

/* --- outcomes -------------------------------------------------------------------------------- */

static void
an_outcome_is_kept_until_confirmed(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = with_an_outcome();
	sending_expect_outcome(7, 0, OUTCOME_DONE);
	for (int i = 0; i < 3; i++) {
		new_keeper();
		say_hello();
		sending_expect_outcome(7, 0, OUTCOME_DONE);
		sending_expect(&sending_keeper, SEND_LIST);
		assert_int_equal(sending->keeper.open, 1);
	}
	sending_confirm(7, 0);
	hear();
	assert_int_equal(sending->keeper.open, 0);
	assert_int_equal(m->recipients[0].unconfirmed, 0);
	new_keeper();
	say_hello();
	sending_expect(&sending_keeper, SEND_LIST);
}

static void
an_end_is_kept_until_confirmed(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = with_an_outcome();
	keeper_tell_end(sending, m);
	keeper_flush(sending);
	sending_expect_outcome(7, 0, OUTCOME_DONE);
	sending_expect_about(SEND_END, 7);
	new_keeper();
	say_hello();
	sending_expect_outcome(7, 0, OUTCOME_DONE);
	sending_expect_about(SEND_END, 7);
	sending_expect(&sending_keeper, SEND_LIST);
	/* what has ended is not lost because it is not named */
	sending_say(&sending_keeper, NOTICE_ALL, "", 0);
	hear();
	assert_non_null(message_find(&sending->messages, 7));
	/* the end says more than an outcome that is not confirmed */
	sending_confirm(7, QUEUE_INDEX_END);
	hear();
	assert_null(message_find(&sending->messages, 7));
	assert_int_equal(sending->keeper.open, 0);
}

/* Each is confirmed; to a new keeper the last one says it all. */
static void
several_outcomes_of_a_recipient(void **state)
{
	struct message *m;
	struct recipient *r;

	(void)state;
	sending_connect();
	m = sending_message(7, "s@x", "a@far.example", NULL);
	r = &m->recipients[0];
	r->was_delayed = 1;
	keeper_tell_recipient(sending, m, r);
	recipient_set(r, RECIPIENT_SUCCEEDED, text_new("dwell", 5));
	keeper_tell_recipient(sending, m, r);
	recipient_set(r, RECIPIENT_DONE, NULL);
	keeper_tell_recipient(sending, m, r);
	keeper_flush(sending);
	assert_string_equal(sending_expect_outcome(7, 0, OUTCOME_DELAYED), "");
	assert_string_equal(sending_expect_outcome(7, 0, OUTCOME_SUCCEEDED), "dwell");
	assert_string_equal(sending_expect_outcome(7, 0, OUTCOME_DONE), "");
	assert_int_equal(sending->keeper.open, 3);
	sending_confirm(7, 0);
	hear();
	assert_int_equal(sending->keeper.open, 2);
	new_keeper();
	say_hello();
	sending_expect_outcome(7, 0, OUTCOME_DONE);
	sending_expect(&sending_keeper, SEND_LIST);
	assert_int_equal(sending->keeper.open, 1);
	sending_confirm(7, 0);
	hear();
	assert_int_equal(sending->keeper.open, 0);
	assert_int_equal(r->unconfirmed, 0);
}

static void
confirmations_of_what_was_not_said_change_nothing(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = with_an_outcome();
	sending_confirm(8, 0);
	sending_confirm(8, QUEUE_INDEX_END);
	sending_confirm(7, 1);
	sending_confirm(7, 2);
	sending_confirm(7, QUEUE_INDEX_END);
	hear();
	assert_int_equal(sending->keeper.open, 1);
	assert_ptr_equal(message_find(&sending->messages, 7), m);
	sending_confirm(7, 0);
	sending_confirm(7, 0);
	hear();
	assert_int_equal(sending->keeper.open, 0);
	assert_int_equal(m->recipients[0].unconfirmed, 0);
}

static void
a_text_is_cut_at_its_limit(void **state)
{
	static char text[QUEUE_TEXT_MAX + 1];
	struct message *m;

	(void)state;
	sending_connect();
	m = sending_message(7, "s@x", "a@far.example", NULL);
	memset(text, 'x', sizeof text);
	for (size_t len = QUEUE_TEXT_MAX - 1; len <= QUEUE_TEXT_MAX + 1; len++) {
		recipient_set(&m->recipients[0], RECIPIENT_FAILED, text_new(text, len));
		keeper_tell_recipient(sending, m, &m->recipients[0]);
		keeper_flush(sending);
		assert_int_equal(strlen(sending_expect_outcome(7, 0, OUTCOME_FAILED)),
		    len < QUEUE_TEXT_MAX ? len : QUEUE_TEXT_MAX);
	}
}

static void
without_memory_a_new_connection_says_it_all(void **state)
{
	(void)state;
	sending_connect();
	no_memory = 1;
	with_an_outcome();
	assert_lost();
	assert_int_equal(sending_logged("warning: lost qmail-queued: Out of memory; trying again\n") +
	    sending_logged("warning: lost qmail-queued: Cannot allocate memory; trying again\n"), 1);
	assert_int_equal(sending->keeper.open, 1);
	/* and once more, in the middle of that */
	sending_later(RETRY_MS_MAX);
	sending_accept();
	no_memory = 1;
	say_hello();
	assert_lost();
	sending_later(RETRY_MS_MAX);
	sending_accept();
	say_hello();
	sending_expect_outcome(7, 0, OUTCOME_DONE);
	sending_expect(&sending_keeper, SEND_LIST);
	assert_int_equal(sending->keeper.open, 1);
}

/* --- messages ------------------------------------------------------------------------------------ */

static void
a_message_in_pieces(void **state)
{
	static const char recipients[] = "\0\0\0\1Wb@y\0" "\0\0\0\0ta@x\0NOTIFY=NEVER\0" "\0\0\0\2Dc@z\0no\n\0";
	char s[3 * CHANNEL_HEADER + QUEUE_NOTICE_PACK + 4 + sizeof recipients - 1 + 8] = { 0 }, *p = s;
	struct message *m;
	size_t len;

	(void)state;
	sending_connect();
	len = notice(p + CHANNEL_HEADER, 9, PLACE_RING);
	uint32_pack_big(p, (uint32_t)len);
	p[4] = NOTICE_MESSAGE;
	p += CHANNEL_HEADER + len;
	uint32_pack_big(p, sizeof recipients - 1);
	p[4] = NOTICE_RCPT;
	memcpy(p + CHANNEL_HEADER, recipients, sizeof recipients - 1);
	p += CHANNEL_HEADER + sizeof recipients - 1;
	uint32_pack_big(p, 8);
	p[4] = NOTICE_OVER;
	uint64_pack_big(p + CHANNEL_HEADER, 9);
	for (size_t i = 0; i < sizeof s; i++) {
		assert_null(message_find(&sending->messages, 9));
		assert_int_equal(write(sending_keeper.fd, s + i, 1), 1);
		hear();
	}
	m = message_find(&sending->messages, 9);
	assert_non_null(m);
	assert_int_equal(m->recipients_len, 3);
	assert_int_equal(m->todo, 2);
	assert_string_equal(recipient_address(&m->recipients[0]), "a@x");
	assert_string_equal(recipient_parameters(&m->recipients[0]), "NOTIFY=NEVER");
	assert_int_equal(m->recipients[0].was_delayed, 0);
	assert_int_equal(m->recipients[1].was_delayed, 1);
	assert_int_equal(m->recipients[2].state, RECIPIENT_FAILED);
	assert_memory_equal(m->recipients[2].text->s, "no\n", 3);
	assert_int_equal(m->place->offset, 4096 * 9);
}

static void
a_keeper_that_vanishes_within_a_message(void **state)
{
	(void)state;
	sending_connect();
	say_notice(9, PLACE_RING);
	sending_say(&sending_keeper, NOTICE_RCPT, ONE, sizeof ONE - 1);
	hear();
	new_keeper();
	say_hello();
	assert_int_equal(sending->messages.count, 0);
	say_message(9);
	hear();
	assert_int_equal(message_find(&sending->messages, 9)->recipients_len, 1);
}

static void
a_message_ends_once(void **state)
{
	(void)state;
	sending_connect();
	say_message(9);
	hear();
	say_over(9);
	hear();
	assert_lost();
	assert_int_equal(sending->messages.count, 1);
	assert_string_equal(message_sender(message_find(&sending->messages, 9)), "s@x");
}

static void
recipients_of_no_message(void **state)
{
	(void)state;
	sending_connect();
	sending_say(&sending_keeper, NOTICE_RCPT, ONE, sizeof ONE - 1);
	say_over(0);
	hear();
	assert_lost();
	assert_int_equal(sending->messages.count, 0);
}

static void
what_a_new_keeper_does_not_name_is_forgotten(void **state)
{
	struct message *busy;

	(void)state;
	sending_connect();
	say_message(1);
	say_message(2);
	say_message(3);
	hear();
	busy = message_find(&sending->messages, 3);
	busy->active_remote = 1;	/* in a job */
	busy->todo = 1;
	new_keeper();
	say_hello();
	say_message(2);
	hear();
	assert_int_equal(sending->messages.count, 3);
	sending_say(&sending_keeper, NOTICE_ALL, "", 0);
	hear();
	assert_int_equal(sending_logged("warning: forgetting msg 1: it is no longer in the queue\n"), 1);
	assert_null(message_find(&sending->messages, 1));
	assert_int_equal(message_find(&sending->messages, 2)->is_lost, 0);
	assert_int_equal(busy->is_lost, 1);
	/* the keeper may name it again before it is free */
	say_message(3);
	hear();
	assert_int_equal(busy->is_lost, 0);
	assert_int_equal(sending->messages.count, 2);
}

static void
a_message_that_is_named_again(void **state)
{
	static const char others[] = "\0\0\0\0Tother@far.example\0" "\0\0\0\1Tmore@far.example";
	struct message *m;

	(void)state;
	sending_connect();
	say_message(9);
	hear();
	m = message_find(&sending->messages, 9);
	say_notice(9, PLACE_FILE);
	sending_say(&sending_keeper, NOTICE_RCPT, others, sizeof others);
	say_over(9);
	hear();
	assert_ptr_equal(message_find(&sending->messages, 9), m);
	assert_null(m->place);
	assert_int_equal(m->recipients_len, 1);
	assert_string_equal(recipient_address(&m->recipients[0]), "a@far.example");
}

/* A new keeper that knows of no attempt at a message that was deferred hears it again, but not of one being attempted. */
static void
a_deferral_is_said_again_to_who_does_not_know(void **state)
{
	struct message *m;
	char s[QUEUE_NOTICE_PACK + 4];
	size_t len;

	(void)state;
	sending_connect();
	say_message(9);
	hear();
	m = message_find(&sending->messages, 9);
	assert_int_equal(m->was_told, 1);
	new_keeper();
	say_hello();
	sending_expect(&sending_keeper, SEND_LIST);
	say_message(9);
	hear();
	sending_expect_nothing(&sending_keeper);
	len = notice(s, 9, PLACE_RING);
	s[28 + 4] = 0;	/* not tried */
	sending_say(&sending_keeper, NOTICE_MESSAGE, s, len);
	hear();
	sending_expect_about(SEND_DEFERRED, 9);
	m->active_remote = 1;
	sending_say(&sending_keeper, NOTICE_MESSAGE, s, len);
	hear();
	sending_expect_nothing(&sending_keeper);
	assert_int_equal(m->was_told, 0);	/* the end of the attempt says it */
}

/* --- places ------------------------------------------------------------------------------------------ */

static void
say_place(uint64_t number, enum queue_place_kind kind)
{
	struct queue_place place = { .kind = kind, .offset = 8192 };
	char s[8 + QUEUE_PLACE_PACK];

	uint64_pack_big(s, number);
	queue_place_pack(s + 8, &place);
	sending_say(&sending_keeper, NOTICE_PLACE, s, sizeof s);
	hear();
}

static void
only_a_place_that_was_asked_for_is_taken(void **state)
{
	struct channel_frame f;
	struct queue_place told;
	struct message *m;

	(void)state;
	sending_connect();
	say_message(9);
	hear();
	m = message_find(&sending->messages, 9);
	say_place(9, PLACE_NONE);
	say_place(10, PLACE_NONE);
	assert_int_equal(m->is_lost, 0);
	assert_int_equal(m->place->offset, 4096 * 9);
	keeper_ask_place(sending, m);
	keeper_flush(sending);
	sending_expect_about(SEND_WHERE, 9);
	say_place(9, PLACE_RING);
	assert_int_equal(m->place->offset, 8192);
	assert_int_equal(m->is_sought, 0);
	/* the second time in a row: what was told is not so */
	m->misfits = 1;
	keeper_ask_place(sending, m);
	keeper_flush(sending);
	f = sending_expect(&sending_keeper, SEND_DAMAGED);
	assert_int_equal(f.len, 8 + QUEUE_PLACE_PACK);
	assert_int_equal(queue_place_unpack(&told, f.s + 8), 1);
	assert_int_equal(told.kind, PLACE_RING);
	assert_int_equal(told.offset, 8192);
	say_place(9, PLACE_FILE);
	assert_null(m->place);
	keeper_ask_place(sending, m);
	keeper_flush(sending);
	f = sending_expect(&sending_keeper, SEND_DAMAGED);
	assert_int_equal(f.s[8], PLACE_FILE);
	say_place(9, PLACE_NONE);
	assert_null(message_find(&sending->messages, 9));
	assert_int_equal(sending_logged("alert: msg 9 is damaged and was set aside\n"), 1);
}

/* The question is lost with the keeper; the new one's list answers it. */
static void
a_question_to_a_keeper_that_vanished(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	say_message(9);
	hear();
	m = message_find(&sending->messages, 9);
	keeper_ask_place(sending, m);
	new_keeper();
	say_hello();
	assert_int_equal(m->is_sought, 1);
	say_message(9);
	hear();
	assert_int_equal(m->is_sought, 0);
}

/* --- nonsense ------------------------------------------------------------------------------------------- */

#define PAYLOAD(s) s, sizeof s - 1
static char too_long[QUEUE_FRAME_MAX + 1];

/* What ends the connection; first: it is said in the place of hello. */
static const struct row { const char *rule; char type; const char *s; size_t len; int first; } rows[] = {
	{ "hello without its time", NOTICE_HELLO, PAYLOAD("\0\0\0\0\0\0\0"), 1 },
	{ "hello with more", NOTICE_HELLO, PAYLOAD("\0\0\0\0\0\0\0\1\1"), 1 },
	{ "a list before hello", NOTICE_ALL, PAYLOAD(""), 1 },
	{ "a confirmation before hello", NOTICE_CONFIRM, PAYLOAD("\0\0\0\0\0\0\0\1\0\0\0\0"), 1 },
	{ "a second hello", NOTICE_HELLO, PAYLOAD("\0\0\0\0\0\0\0\1"), 0 },
	{ "what only qmail-send says", SEND_LIST, PAYLOAD(""), 0 },
	{ "an unknown word", 'z', PAYLOAD(""), 0 },
	{ "a frame that is too long by one", NOTICE_RCPT, too_long, sizeof too_long, 0 },
	{ "a notice that is cut", NOTICE_MESSAGE, PAYLOAD("\0\0\0\0\0\0\0\1"), 0 },
	{ "an end without a number", NOTICE_OVER, PAYLOAD("\0\0\0\0\0\0\0"), 0 },
	{ "the end of another message", NOTICE_OVER, PAYLOAD("\0\0\0\0\0\0\0\2"), 0 },
	{ "a confirmation that is cut", NOTICE_CONFIRM, PAYLOAD("\0\0\0\0\0\0\0\1\0\0\0"), 0 },
	{ "a place that is cut", NOTICE_PLACE, PAYLOAD("\0\0\0\0\0\0\0\1\1"), 0 },
	{ "a recipient without state", NOTICE_RCPT, PAYLOAD("\0\0\0\0"), 0 },
	{ "a recipient without address", NOTICE_RCPT, PAYLOAD("\0\0\0\0T"), 0 },
	{ "an address without end", NOTICE_RCPT, PAYLOAD("\0\0\0\0Ta@x"), 0 },
	{ "a recipient that is done", NOTICE_RCPT, PAYLOAD("\0\0\0\0Ka@x\0"), 0 },
	{ "a state that is none", NOTICE_RCPT, PAYLOAD("\0\0\0\0\0a@x\0"), 0 },
	{ "a failure without text", NOTICE_RCPT, PAYLOAD("\0\0\0\0Da@x\0"), 0 },
	{ "a success whose text has no end", NOTICE_RCPT, PAYLOAD("\0\0\0\0Sa@x\0fine"), 0 },
	{ "no parameters where some were announced", NOTICE_RCPT, PAYLOAD("\0\0\0\0ta@x\0"), 0 },
	{ "a text where parameters were announced", NOTICE_RCPT, PAYLOAD("\0\0\0\0da@x\0P=1\0"), 0 },
	{ "one that is whole, and half of one", NOTICE_RCPT, PAYLOAD(ONE "\0\0\0"), 0 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
nonsense_row(void **state)
{
	const struct row *row = *state;

	if (row->first)
		sending_accept();
	else {
		sending_connect();
		say_notice(1, PLACE_RING);
	}
	assert_int_equal(channel_put1(&sending_keeper, row->type, row->s, row->len), 1);
	while (channel_flush(&sending_keeper) == 0)
		hear();
	hear();
	assert_lost();
	assert_int_equal(sending_logged("warning: lost qmail-queued: Protocol error; trying again\n"), 1);
	assert_int_equal(sending->messages.count, 0);
	/* the next one begins from the start */
	sending_later(RETRY_MS_MAX);
	sending_connect();
	say_message(1);
	hear();
	assert_int_equal(message_find(&sending->messages, 1)->recipients_len, 1);
}

/* --- limits ------------------------------------------------------------------------------------------------ */

static void
it_is_behind_at_its_limits(void **state)
{
	static const char octets[QUEUE_FRAME_MAX];
	struct channel *c = &sending->keeper.channel;

	(void)state;
	sending_connect();
	sending->keeper.open = SEND_OPEN_MAX - 1;
	assert_int_equal(keeper_is_behind(sending), 0);
	sending->keeper.open++;
	assert_int_equal(keeper_is_behind(sending), 1);
	sending->keeper.open = 0;
	while (SEND_UNSENT_MAX - channel_unsent(c) > sizeof octets + CHANNEL_HEADER)
		assert_int_equal(channel_put1(c, 'x', octets, sizeof octets), 1);
	assert_int_equal(channel_put1(c, 'x', octets, SEND_UNSENT_MAX - channel_unsent(c) - CHANNEL_HEADER - 1), 1);
	assert_int_equal(keeper_is_behind(sending), 0);
	c->out.len++;
	assert_int_equal(keeper_is_behind(sending), 1);
	c->out.len = 0;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, sending_begin, sending_end)
	static const struct CMUnitTest tests[] = {
		TEST(tries_are_further_and_further_apart), TEST(a_whole_list_makes_the_pauses_short_again),
		TEST(a_loss_is_logged_once), TEST(nothing_is_said_before_hello),
		TEST(an_outcome_is_kept_until_confirmed), TEST(an_end_is_kept_until_confirmed),
		TEST(several_outcomes_of_a_recipient), TEST(confirmations_of_what_was_not_said_change_nothing),
		TEST(a_text_is_cut_at_its_limit), TEST(without_memory_a_new_connection_says_it_all),
		TEST(a_message_in_pieces), TEST(a_keeper_that_vanishes_within_a_message),
		TEST(a_message_ends_once), TEST(recipients_of_no_message),
		TEST(what_a_new_keeper_does_not_name_is_forgotten), TEST(a_message_that_is_named_again),
		TEST(a_deferral_is_said_again_to_who_does_not_know), TEST(only_a_place_that_was_asked_for_is_taken),
		TEST(a_question_to_a_keeper_that_vanished), TEST(it_is_behind_at_its_limits),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ rows[i].rule, nonsense_row, sending_begin, sending_end,
		    (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("keeper", all, sending_home, directory_remove);
}
