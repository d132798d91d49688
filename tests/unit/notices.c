/* qmail-send's connection: who may have it, what is told when, what of it is kept while nobody reads, and reports that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue_keeper.h"

enum { FIRST = 1000 };

static struct channel c, s, other;	/* a submitter, qmail-send, another one */
static struct channel_frame f;

static int no_memory;	/* for frames and reports */

void *__real_realloc(void *old, size_t len);
void *__wrap_realloc(void *old, size_t len);
void *
__wrap_realloc(void *old, size_t len)
{
	errno = ENOMEM;
	return no_memory ? NULL : __real_realloc(old, len);
}

int __real_channel_put(struct channel *to, char type, const struct iovec *v, unsigned int n);
int __wrap_channel_put(struct channel *to, char type, const struct iovec *v, unsigned int n);
int
__wrap_channel_put(struct channel *to, char type, const struct iovec *v, unsigned int n)
{
	errno = ENOMEM;
	return no_memory ? 0 : __real_channel_put(to, type, v, n);
}

int __real_channel_put1(struct channel *to, char type, const void *octets, size_t len);
int __wrap_channel_put1(struct channel *to, char type, const void *octets, size_t len);
int
__wrap_channel_put1(struct channel *to, char type, const void *octets, size_t len)
{
	errno = ENOMEM;
	return no_memory ? 0 : __real_channel_put1(to, type, octets, len);
}

static int
set_up(void **state)
{
	keeper_set_up(state);
	keeper_connect(&c, &keeper.submit_listener);
	channel_init(&s, -1, 0);
	channel_init(&other, -1, 0);
	return 0;
}

static int
tear_down(void **state)
{
	channel_free(&c);
	channel_free(&s);
	channel_free(&other);
	keeper_events();	/* who has not said anything yet is nowhere but in the loop */
	return keeper_tear_down(state);
}

static void
connect_as(struct channel *channel, uid_t uid)
{
	keeper_peer = uid;
	keeper_connect(channel, &keeper.send_listener);
}

/* A number in the frame, at octet offset at. */
static uint64_t
number_at(size_t at)
{
	uint64_t n;

	assert_true(f.len >= at + 8);
	uint64_unpack_big(f.s + at, &n);
	return n;
}

static void
assert_hears(int type)
{
	notices_pump(&keeper);
	assert_int_equal(keeper_hears(&s, &f), type);
}

static void
say(char type, const char *octets, size_t len)
{
	keeper_say(&s, type, octets, len);
	keeper_events();
}

/* A connection that has said SEND_LIST, with all that this brings. */
static void
connect_send(void)
{
	connect_as(&s, keeper.qmails);
	say(SEND_LIST, "", 0);
	notices_pump(&keeper);
	while (keeper_hears(&s, &f) > 0)
		;
}

static uint64_t
accepted(size_t len)
{
	uint64_t number;

	keeper_submit(&c, len);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	return number;
}

static void
assert_told(uint64_t number)
{
	assert_hears(NOTICE_MESSAGE);
	assert_int_equal(number_at(0), number);
	assert_hears(NOTICE_RCPT);
	assert_hears(NOTICE_OVER);
	assert_int_equal(number_at(0), number);
}

/* --- connections ----------------------------------------------------------------------------------- */

static void
only_qmail_send_root_and_the_keepers_own_user_may_connect(void **state)
{
	const struct { uid_t uid; int may; } rows[] = { { 1003, 1 }, { 0, 1 }, { geteuid(), 1 }, { 1002, 0 }, { 1001, 0 }, { 4711, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		connect_as(&s, rows[i].uid);
		assert_int_equal(keeper_hears(&s, &f), rows[i].may ? NOTICE_HELLO : -1);
		channel_free(&s);
		keeper_events();
	}
}

static void
hello_says_until_when_there_may_have_been_attempts(void **state)
{
	uint64_t now;

	(void)state;
	keeper.tried_until = 1234567890;
	connect_as(&s, keeper.qmails);
	assert_hears(NOTICE_HELLO);
	assert_int_equal(number_at(0), 1234567890);
	say(SEND_LIST, "", 0);
	connect_as(&other, keeper.qmails);	/* while one is there, until now */
	assert_int_equal(keeper_hears(&other, &f), NOTICE_HELLO);
	now = number_at(0);
	assert_true(now > 1234567890);
	notices_close(&keeper);
	assert_true(keeper.tried_until >= now);
}

static void
a_connection_that_says_list_replaces_the_one_before(void **state)
{
	(void)state;
	connect_send();
	connect_as(&other, keeper.qmails);
	assert_hears(0);	/* not yet */
	keeper_say(&other, SEND_LIST, "", 0);
	keeper_events();
	assert_hears(-1);
	channel_free(&s);
	s = other;
	channel_init(&other, -1, 0);
	assert_hears(NOTICE_HELLO);
	assert_hears(NOTICE_ALL);
	assert_told(accepted(10));
}

/* It was closed for a survey that failed, say, whose event came first. */
static void
an_event_of_a_connection_that_was_closed_in_the_same_turn_is_nothing(void **state)
{
	(void)state;
	connect_send();
	notices_close(&keeper);
	keeper.send.ready(&keeper, &keeper.send, EPOLLIN);
	assert_null(keeper.send_channel.in.s);
}

static void
who_hangs_up_or_talks_nonsense_before_its_first_frame_replaces_nobody(void **state)
{
	(void)state;
	connect_send();
	for (int i = 0; i < 2; i++) {
		connect_as(&other, keeper.qmails);
		if (i)
			assert_int_equal(write(other.fd, "\0\0\0\0", 4), 4);	/* nor in the middle of it */
		keeper_events();
		channel_free(&other);
		keeper_events();
	}
	assert_told(accepted(10));
}

/* --- what is told --------------------------------------------------------------------------------------- */

static void
nothing_is_told_before_the_list_and_all_of_it_once(void **state)
{
	(void)state;
	connect_as(&s, keeper.qmails);
	assert_hears(NOTICE_HELLO);
	accepted(10);
	accepted(10);
	assert_hears(0);
	say(SEND_LIST, "", 0);
	assert_told(FIRST);
	assert_told(FIRST + 1);
	assert_hears(NOTICE_ALL);
	assert_told(accepted(10));
	assert_hears(0);
}

static void
the_list_ends_when_the_directories_are_read(void **state)
{
	(void)state;
	keeper.scanned = 0;
	connect_as(&s, keeper.qmails);
	say(SEND_LIST, "", 0);
	assert_hears(NOTICE_HELLO);
	assert_hears(0);
	keeper.scanned = 1;
	assert_hears(NOTICE_ALL);
	assert_hears(0);
}

static void
say_report(char type, uint64_t number, char result, size_t text)
{
	static char octets[13 + QUEUE_TEXT_MAX + 1];

	uint64_pack_big(octets, number);
	uint32_pack_big(octets + 8, 0);
	octets[12] = result;
	memset(octets + 13, 't', sizeof octets - 13);
	say(type, octets, type == SEND_DONE ? 13 + text : 8);
}

static void
reports_from_before_the_list_are_flushed_first(void **state)
{
	(void)state;
	accepted(10);
	accepted(10);
	connect_as(&s, keeper.qmails);
	assert_hears(NOTICE_HELLO);
	say_report(SEND_END, FIRST, 0, 0);	/* repeated, from the time of an earlier keeper */
	say(SEND_LIST, "", 0);
	assert_hears(0);
	flush_turn(&keeper);	/* does not wait for more */
	assert_hears(NOTICE_CONFIRM);
	assert_told(FIRST + 1);
	assert_hears(NOTICE_ALL);
}

static void
while_nobody_reads_only_numbers_are_kept(void **state)
{
	const struct record r = { .envelope = "Fs@x\0Ta@y\0\0", .recipients = 1 };
	const struct queue_place place = { .kind = PLACE_RING };

	(void)state;
	connect_send();
	for (uint64_t n = 1; !keeper.tell_len; n++)
		notices_tell(&keeper, n, &r, &place);
	assert_true(notices_full(&keeper));
	accepted(10);
	accepted(10);
	assert_int_equal(keeper.tell_len, 3);
	assert_in_range(channel_unsent(&keeper.send_channel), SEND_UNSENT_MAX, SEND_UNSENT_MAX + 1000);
}

static void
a_list_that_is_asked_for_again_is_owed_once(void **state)
{
	(void)state;
	accepted(10);
	accepted(10);
	assert_true(ledger_add_moved(&keeper.ledger, 5));
	connect_send();
	for (int i = 0; i < 3; i++) {
		while (!notices_full(&keeper))
			assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
		keeper.list_wanted = 1;
		notices_pump(&keeper);
	}
	assert_int_equal(keeper.tell_len, 2);
	assert_int_equal(keeper.later_len, 1);
}

static void
what_was_put_off_is_told_later_but_what_has_ended(void **state)
{
	struct message *m;

	(void)state;
	connect_send();
	while (!notices_full(&keeper))
		assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
	accepted(10);
	accepted(10);
	accepted(10);
	assert_int_equal(keeper.tell_len, 3);
	assert_true(ledger_find(&keeper.ledger, FIRST + 1, &m));
	m->ended = 1;
	do
		notices_pump(&keeper);
	while (keeper_hears(&s, &f) == NOTICE_HELLO);
	assert_int_equal(f.type, NOTICE_MESSAGE);
	assert_int_equal(number_at(0), FIRST);
	assert_hears(NOTICE_RCPT);
	assert_hears(NOTICE_OVER);
	assert_told(FIRST + 2);
	assert_hears(0);
	assert_int_equal(keeper.tell_room, 0);	/* and its memory is given back */
}

/* Connecting anew would not help: the next list would come to the same place. */
static void
what_cannot_be_read_is_told_later_and_the_connection_stays(void **state)
{
	int ring = keeper.ring.fd;

	(void)state;
	accepted(10);
	connect_as(&s, keeper.qmails);
	keeper.ring.fd = open("/", O_RDONLY | O_CLOEXEC);
	say(SEND_LIST, "", 0);
	assert_hears(NOTICE_HELLO);
	assert_hears(0);
	assert_int_equal(keeper.wanted_len, 1);	/* a writer says what is the matter with it */
	close(keeper.ring.fd);
	keeper.ring.fd = ring;
	assert_told(accepted(10));
	keeper.now_ms += 1000 * SAY_RETRY;
	assert_told(FIRST);
	assert_hears(NOTICE_ALL);
}

static void
without_memory_qmail_send_has_to_connect_anew(void **state)
{
	(void)state;
	accepted(10);
	connect_as(&s, keeper.qmails);
	say(SEND_LIST, "", 0);
	no_memory = 1;
	notices_pump(&keeper);
	no_memory = 0;
	assert_string_equal(keeper_said, "no memory for qmail-send's notices, it has to connect anew");
	assert_int_equal(keeper.send.fd, -1);
}

/* --- a message ---------------------------------------------------------------------------------------------- */

/* The frames of a message, in c's buffer: what a recipient's entry is. */
static void
assert_entries(const char *envelope, uint32_t recipients, const struct info_outcome *o, uint32_t len, int with_done,
    const char *want, size_t want_len)
{
	struct queue_notice n = { .number = 7, .recipients = recipients, .sender = "s" };
	const char *at;

	assert_true(notices_put(&other, &n, envelope, o, len, with_done));
	at = other.out.s + CHANNEL_HEADER + QUEUE_NOTICE_PACK;
	at += strlen(at) + 1;
	if (want_len) {
		at += CHANNEL_HEADER;
		assert_memory_equal(at, want, want_len);
	}
	assert_int_equal(other.out.s + other.out.len - at, want_len + CHANNEL_HEADER + 8);
	other.out.len = 0;
}

#define ENTRIES(s) s, sizeof s - 1

static void
what_is_said_of_recipients(void **state)
{
	static const char envelope[] = "Fs\0Ta\0Tb\0PNOTIFY=NEVER\0";
	static const struct info_outcome outcomes[] = {
		{ 0, OUTCOME_DELAYED, "", 0 }, { 1, OUTCOME_FAILED, "no", 2 }, { 0, OUTCOME_DONE, "", 0 }, { 1, OUTCOME_SUCCEEDED, "yes", 3 },
		{ 2, OUTCOME_FAILED, "of nobody", 9 }, { UINT32_MAX, OUTCOME_FAILED, "of nobody", 9 },
	};

	(void)state;
	assert_entries(envelope, 2, NULL, 0, 0, ENTRIES("\0\0\0\0Ta\0" "\0\0\0\1tb\0NOTIFY=NEVER\0"));
	assert_entries(envelope, 2, outcomes, 1, 0, ENTRIES("\0\0\0\0Wa\0" "\0\0\0\1tb\0NOTIFY=NEVER\0"));
	assert_entries(envelope, 2, outcomes, 2, 0, ENTRIES("\0\0\0\0Wa\0" "\0\0\0\1db\0NOTIFY=NEVER\0no\0"));
	assert_entries(envelope, 2, outcomes, 3, 0, ENTRIES("\0\0\0\1db\0NOTIFY=NEVER\0no\0"));
	assert_entries(envelope, 2, outcomes, 3, 1, ENTRIES("\0\0\0\0Ka\0" "\0\0\0\1db\0NOTIFY=NEVER\0no\0"));
	assert_entries(envelope, 2, outcomes, 6, 0, ENTRIES("\0\0\0\1sb\0NOTIFY=NEVER\0yes\0"));
	assert_entries("Fs\0\0", 0, NULL, 0, 0, ENTRIES(""));
}

/* What follows it would be read as the next entry. */
static void
a_text_ends_at_its_first_nul(void **state)
{
	static const struct info_outcome outcomes[] = { { 0, OUTCOME_FAILED, "no\0\0\0\0\7Tx", 9 }, { 1, OUTCOME_SUCCEEDED, "yes\0", 4 } };

	(void)state;
	assert_entries("Fs\0Ta\0Tb\0", 2, outcomes, 2, 0, ENTRIES("\0\0\0\0Da\0no\0" "\0\0\0\1Sb\0yes\0"));
}

static void
no_frame_is_longer_than_qmail_send_takes(void **state)
{
	enum { RECIPIENTS = 200 };
	static struct info_outcome outcomes[RECIPIENTS];
	static char text[QUEUE_TEXT_MAX];
	struct queue_notice n = { .number = 7, .recipients = RECIPIENTS, .sender = "s" };
	char address[QUEUE_ADDRESS_MAX + 2] = "T";
	stralloc envelope = STRALLOC_ZERO;
	uint32_t seen = 0;
	size_t at = 0;

	(void)state;
	memset(address + 1, 'a', QUEUE_ADDRESS_MAX);
	memset(text, 't', sizeof text);
	assert_true(stralloc_catb(&envelope, "Fs", 3));
	for (uint32_t i = 0; i < RECIPIENTS; i++) {
		assert_true(stralloc_catb(&envelope, address, sizeof address));
		outcomes[i] = (struct info_outcome){ i, OUTCOME_FAILED, text, sizeof text };
	}
	assert_true(stralloc_0(&envelope));
	assert_true(notices_put(&other, &n, envelope.s, outcomes, RECIPIENTS, 0));
	while (at < other.out.len) {
		uint32_t len;

		uint32_unpack_big(other.out.s + at, &len);
		assert_true(len <= QUEUE_FRAME_MAX);
		if (other.out.s[at + 4] == NOTICE_RCPT) {
			assert_int_equal(len % (5 + QUEUE_ADDRESS_MAX + 1 + QUEUE_TEXT_MAX + 1), 0);	/* whole entries */
			seen += len / (5 + QUEUE_ADDRESS_MAX + 1 + QUEUE_TEXT_MAX + 1);
		}
		at += CHANNEL_HEADER + len;
	}
	assert_int_equal(seen, RECIPIENTS);
	stralloc_free(&envelope);
}

/* --- what children say ------------------------------------------------------------------------------------- */

static void
relay(struct channel *whole, char type, uint64_t number)
{
	char octets[8];

	uint64_pack_big(octets, number);
	notices_relay(&keeper, whole, &(struct channel_frame){ .type = type, .s = octets, .len = sizeof octets });
}

static void
messages_of_two_children_are_passed_on_whole(void **state)
{
	struct channel a, b;

	(void)state;
	channel_init(&a, -1, 0);
	channel_init(&b, -1, 0);
	connect_send();
	for (uint64_t n = 1; n <= 4; n++)
		assert_true(ledger_add_moved(&keeper.ledger, n));
	relay(&a, NOTICE_RCPT, 1);	/* its beginning is missing */
	relay(&a, NOTICE_OVER, 1);
	relay(&a, NOTICE_MESSAGE, 2);
	relay(&b, NOTICE_MESSAGE, 3);
	relay(&a, NOTICE_RCPT, 2);
	relay(&b, NOTICE_RCPT, 3);
	relay(&b, NOTICE_OVER, 3);
	relay(&a, NOTICE_OVER, 2);
	relay(&a, NOTICE_MESSAGE, 4);
	ledger_message(&keeper.ledger, 4)->ended = 1;	/* while it was being said */
	relay(&a, NOTICE_OVER, 4);
	relay(&a, NOTICE_MESSAGE, 5);	/* gone */
	relay(&a, NOTICE_OVER, 5);
	for (uint64_t n = 3; n >= 2; n--) {
		assert_hears(NOTICE_MESSAGE);
		assert_int_equal(number_at(0), n);
		assert_hears(NOTICE_RCPT);
		assert_int_equal(number_at(0), n);
		assert_hears(NOTICE_OVER);
	}
	assert_hears(0);
	notices_close(&keeper);
	relay(&a, NOTICE_MESSAGE, 2);
	assert_int_equal(a.out.a + b.out.a, 0);	/* nothing is kept for nobody */
}

/* What a qmail-send that connects anew is told of the message comes from the list: its recipients would be missing here. */
static void
a_message_that_found_no_memory_is_not_passed_on_without_its_middle(void **state)
{
	struct channel a;

	(void)state;
	channel_init(&a, -1, 0);
	connect_send();
	assert_true(ledger_add_moved(&keeper.ledger, 1));
	relay(&a, NOTICE_MESSAGE, 1);
	no_memory = 1;
	relay(&a, NOTICE_RCPT, 1);
	no_memory = 0;
	assert_int_equal(keeper.send.fd, -1);
	channel_free(&s);
	connect_send();
	relay(&a, NOTICE_RCPT, 1);
	relay(&a, NOTICE_OVER, 1);
	assert_hears(0);
	assert_int_equal(keeper.later_len, 1);	/* it is listed */
	relay(&a, NOTICE_MESSAGE, 1);
	relay(&a, NOTICE_OVER, 1);
	assert_hears(NOTICE_MESSAGE);
}

/* --- reports ------------------------------------------------------------------------------------------------- */

static void
reports_that_are_malformed_end_the_connection(void **state)
{
	static const struct { char type; const char *octets; size_t len; } rows[] = {
		{ SEND_END, "\0\0\0\0\0\0\3", 7 }, { SEND_END, "\0\0\0\0\0\0\0\0", 8 },
		{ SEND_DONE, "\0\0\0\0\0\0\3\350\0\0\0\0", 12 }, { SEND_DONE, "\0\0\0\0\0\0\3\350\0\0\0\0X", 13 },
		{ SEND_DONE, "\0\0\0\0\0\0\3\350\377\377\377\377K", 13 }, { SEND_DONE, "\0\0\0\0\0\0\0\0\0\0\0\0K", 13 },
		{ SEND_WHERE, "\0\0\0\0\0\0\3", 7 }, { SEND_DAMAGED, "", 0 }, { SEND_DEFERRED, "\0", 1 }, { NOTICE_ALL, "", 0 }, { 'z', "", 0 },
	};

	(void)state;
	accepted(10);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		connect_send();
		say(rows[i].type, rows[i].octets, rows[i].len);
		assert_string_equal(keeper_said, "qmail-send broke the protocol");
		assert_hears(-1);
		assert_int_equal(keeper.send.fd, -1);
		assert_int_equal(keeper.reports_len, 0);
		channel_free(&s);
	}
}

static void
a_text_of_exactly_the_limit_is_taken(void **state)
{
	(void)state;
	accepted(10);
	connect_send();
	say_report(SEND_DONE, FIRST, OUTCOME_FAILED, QUEUE_TEXT_MAX);
	assert_int_equal(keeper.reports_len, 1);
	assert_hears(0);
	say_report(SEND_DONE, FIRST, OUTCOME_FAILED, QUEUE_TEXT_MAX + 1);
	assert_int_equal(keeper.reports_len, 1);
	assert_hears(-1);
}

static void
a_number_that_is_gone_is_confirmed_at_once(void **state)
{
	uint32_t index;

	(void)state;
	connect_send();
	say_report(SEND_DONE, 77, OUTCOME_DONE, 0);
	say_report(SEND_END, 77, 0, 0);
	assert_int_equal(keeper.reports_len, 0);
	assert_hears(NOTICE_CONFIRM);
	assert_int_equal(number_at(0), 77);
	assert_int_equal(f.len, 12);
	uint32_unpack_big(f.s + 8, &index);
	assert_int_equal(index, 0);
	assert_hears(NOTICE_CONFIRM);
	uint32_unpack_big(f.s + 8, &index);
	assert_int_equal(index, QUEUE_INDEX_END);
}

static void
a_number_that_may_yet_be_found_is_recorded(void **state)
{
	(void)state;
	keeper.scanned = 0;
	connect_send();
	say_report(SEND_END, FIRST - 1, 0, 0);
	assert_int_equal(keeper.reports_len, 1);
	assert_hears(0);
	say_report(SEND_END, FIRST, 0, 0);	/* this keeper never gave it */
	assert_int_equal(keeper.reports_len, 1);
	assert_hears(NOTICE_CONFIRM);
}

static void
reports_outlive_the_connection(void **state)
{
	(void)state;
	accepted(10);
	connect_send();
	say_report(SEND_END, FIRST, 0, 0);
	channel_free(&s);
	keeper_events();
	assert_int_equal(keeper.send.fd, -1);
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);	/* there is nobody to confirm to */
	assert_int_equal(keeper.ledger.used, 0);
}

/* Qmail-send says it again, and until then the next one is told of the message. */
static void
an_end_that_found_no_memory_has_not_been_said(void **state)
{
	(void)state;
	accepted(10);
	connect_send();
	assert_int_equal(write(s.fd, "\0\0\0\10X\0\0\0\0\0\0\3\350", 13), 13);
	no_memory = 1;
	keeper_events();
	no_memory = 0;
	assert_int_equal(keeper.send.fd, -1);
	assert_int_equal(keeper.reports_len, 0);
	channel_free(&s);
	connect_as(&s, keeper.qmails);
	say(SEND_LIST, "", 0);
	assert_hears(NOTICE_HELLO);
	assert_told(FIRST);
}

/* Says a frame over and over, as often as there is room for it. Returns how often. */
static size_t
say_all_that_fits(const char *frame, size_t len)
{
	static char octets[CHANNEL_READ];
	size_t said = 0;
	ssize_t r = 1;

	for (size_t i = 0; i < sizeof octets; i++)
		octets[i] = frame[i % len];
	/* if it is heard without end, until that can be seen */
	for (int i = 0; i < 400 && r > 0; i++) {
		r = write(s.fd, octets + said % len, sizeof octets - len);
		said += r > 0 ? (size_t)r : 0;
		keeper_events();
		notices_flush(&keeper);
	}
	return said / len;
}

/* Frames of a type that come while the keeper's turns go on, until so many have come. */
static void
hear_so_many(int type, size_t n)
{
	while (n) {
		int heard = keeper_hears(&s, &f);

		assert_true(heard == 0 || heard == type);
		n -= heard == type;
		if (heard)
			continue;
		keeper.now_ms += OUTCOME_WAIT_MS;
		flush_turn(&keeper);
		notices_pump(&keeper);
		if (!channel_unsent(&keeper.send_channel))
			keeper_events();
	}
}

static void
who_reads_no_answers_is_not_heard_meanwhile(void **state)
{
	size_t n;

	(void)state;
	connect_send();
	n = say_all_that_fits("\0\0\0\10?\0\0\0\0\0\0\0M", 13);
	assert_in_range(channel_unsent(&keeper.send_channel), SEND_UNSENT_MAX, 2 * SEND_UNSENT_MAX);
	hear_so_many(NOTICE_PLACE, n);
}

static void
who_reports_more_than_is_flushed_is_not_heard_meanwhile(void **state)
{
	size_t n;

	(void)state;
	accepted(10);
	connect_send();
	n = say_all_that_fits("\0\0\0\15D\0\0\0\0\0\0\3\350\0\0\0\0K", 18);
	assert_in_range(keeper.reports_len, REPORTS_MAX, REPORTS_MAX + CHANNEL_READ / 18);
	hear_so_many(NOTICE_CONFIRM, n);
	assert_hears(0);
}

/* --- questions ------------------------------------------------------------------------------------------------ */

static void
where_a_message_is(void **state)
{
	static const struct { uint64_t number; enum queue_place_kind kind; } rows[] = {
		{ FIRST, PLACE_RING }, { 5, PLACE_FILE }, { FIRST + 1, PLACE_NONE }, { 77, PLACE_NONE }, { 6, PLACE_NONE },
	};
	struct queue_place place;
	struct message *m;
	char octets[8];

	(void)state;
	connect_send();
	accepted(10);
	accepted(10);
	notices_pump(&keeper);
	while (keeper_hears(&s, &f) > 0)
		;
	assert_true(ledger_add_moved(&keeper.ledger, 5));
	assert_non_null(ledger_message(&keeper.ledger, 6));	/* only its outcomes were seen */
	assert_true(ledger_find(&keeper.ledger, FIRST + 1, &m));
	m->ended = 1;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_pack_big(octets, rows[i].number);
		say(SEND_WHERE, octets, sizeof octets);
		assert_hears(NOTICE_PLACE);
		assert_int_equal(number_at(0), rows[i].number);
		assert_int_equal(f.len, 8 + QUEUE_PLACE_PACK);
		assert_true(queue_place_unpack(&place, f.s + 8));
		assert_int_equal(place.kind, rows[i].kind);
	}
	assert_true(ledger_find(&keeper.ledger, FIRST, &m));
	uint64_pack_big(octets, FIRST);
	say(SEND_DEFERRED, octets, sizeof octets);
	say(SEND_DEFERRED, octets, sizeof octets);
	assert_int_equal(keeper.wanted_len, 1);	/* one move */
	assert_true(m->deferred);
	assert_hears(0);	/* never confirmed */
}

/* Before a writer has put it into a file, too. */
static void
a_new_qmail_send_hears_that_a_message_was_deferred(void **state)
{
	struct queue_notice n;
	char octets[8];

	(void)state;
	connect_send();
	accepted(10);
	uint64_pack_big(octets, FIRST);
	say(SEND_DEFERRED, octets, sizeof octets);
	channel_free(&s);
	connect_as(&s, keeper.qmails);
	say(SEND_LIST, "", 0);
	assert_hears(NOTICE_HELLO);
	assert_hears(NOTICE_MESSAGE);
	assert_true(queue_notice_unpack(&n, f.s, (uint32_t)f.len));
	assert_int_equal(n.tried, 1);
}

/* --- readers ----------------------------------------------------------------------------------------------------- */

static void
a_reader_gets_its_list_and_changes_nothing(void **state)
{
	static const char frames[] = { NOTICE_MESSAGE, NOTICE_RCPT, NOTICE_OVER, NOTICE_ALL };

	(void)state;
	connect_send();
	accepted(10);
	keeper.scanned = 0;
	connect_as(&other, keeper.qmails);
	keeper_say(&other, SEND_READ, "", 0);
	keeper_events();
	assert_int_equal(keeper_hears(&other, &f), NOTICE_HELLO);
	assert_int_equal(keeper_hears(&other, &f), 0);	/* until the directories are read */
	keeper.scanned = 1;
	notices_answer_readers(&keeper);
	assert_told(FIRST);	/* qmail-send is still there */
	assert_int_equal(fcntl(other.fd, F_SETFL, 0), 0);	/* waits for the child */
	for (size_t i = 0; i < sizeof frames; i++)
		assert_int_equal(keeper_hears(&other, &f), frames[i]);
	assert_int_equal(keeper_hears(&other, &f), -1);
}

/* Else a qmail-qread whose output nobody reads would keep the lock, and all connections open, for minutes. */
static void
who_answers_a_reader_is_a_child_as_any_other(void **state)
{
	(void)state;
	accepted(10);
	connect_as(&other, keeper.qmails);
	keeper_child = 0;
	keeper_say(&other, SEND_READ, "", 0);
	keeper_event();
	assert_true(keeper_child > 0);
	assert_int_equal(keeper.newcomers_len, 1);	/* it counts until the child has ended */
	assert_int_equal(fcntl(other.fd, F_SETFL, 0), 0);	/* waits for the child */
	for (int heard = 0; heard != NOTICE_ALL; heard = keeper_hears(&other, &f))
		assert_true(heard >= 0);
	assert_int_equal(keeper_hears(&other, &f), -1);
	channel_free(&other);
	keeper_event();
	assert_null(keeper.newcomers);
	keeper_forks_fail = 1;
	connect_as(&other, keeper.qmails);
	keeper_say(&other, SEND_READ, "", 0);
	keeper_events();
	assert_string_equal(keeper_said, "unable to fork for a reader");
	assert_int_equal(keeper_hears(&other, &f), NOTICE_HELLO);
	assert_int_equal(keeper_hears(&other, &f), -1);
	assert_null(keeper.newcomers);
}

static void
who_says_nothing_has_a_bound(void **state)
{
	struct channel silent[NEWCOMERS_MAX];

	(void)state;
	keeper.scanned = 0;
	for (int i = 0; i < NEWCOMERS_MAX; i++)
		connect_as(&silent[i], keeper.qmails);
	connect_as(&other, keeper.qmails);
	assert_string_equal(keeper_said, "too many connections to qmail-send's socket; uid");
	assert_int_equal(keeper_hears(&other, &f), -1);
	channel_free(&silent[0]);
	channel_free(&silent[1]);
	keeper_events();
	connect_as(&silent[0], keeper.qmails);
	keeper_say(&silent[0], SEND_READ, "", 0);
	keeper_events();
	keeper.now_ms += 1000 * NEWCOMER_SILENT;
	notices_expire(&keeper);
	assert_int_equal(keeper.newcomers_len, NEWCOMERS_MAX - 1);
	keeper.now_ms++;
	notices_expire(&keeper);
	assert_int_equal(keeper.newcomers_len, 1);	/* who asked waits for the answer */
	connect_send();
	assert_true(keeper.listing);
	notices_answer_readers(&keeper);
	keeper_event();
	assert_null(keeper.newcomers);
	for (int i = 0; i < NEWCOMERS_MAX; i++)
		channel_free(&silent[i]);
}

/* The scan may take long, or fail again and again: meanwhile qmail-send has to find a place. */
static void
readers_that_wait_leave_a_place_for_qmail_send(void **state)
{
	struct channel waiting[NEWCOMERS_MAX];

	(void)state;
	keeper.scanned = 0;
	for (int i = 0; i < NEWCOMERS_MAX; i++) {
		connect_as(&waiting[i], keeper.qmails);
		keeper_say(&waiting[i], SEND_READ, "", 0);
		keeper_events();
	}
	assert_string_equal(keeper_said, "too many readers, one is refused");
	assert_int_equal(keeper.newcomers_len, NEWCOMERS_MAX - 1);
	assert_int_equal(keeper_hears(&waiting[NEWCOMERS_MAX - 1], &f), NOTICE_HELLO);
	assert_int_equal(keeper_hears(&waiting[NEWCOMERS_MAX - 1], &f), -1);
	connect_send();
	assert_true(keeper.listing);
	for (int i = 0; i < NEWCOMERS_MAX; i++)
		channel_free(&waiting[i]);
}

static void
a_reader_that_gives_up_while_it_waits_is_gone(void **state)
{
	(void)state;
	keeper.scanned = 0;
	for (int i = 0; i < 2; i++) {
		connect_as(&other, keeper.qmails);
		keeper_say(&other, SEND_READ, "", 0);
		if (i)
			keeper_events();	/* else it has gone when its frame is read */
		channel_free(&other);
		keeper_events();
		assert_null(keeper.newcomers);
	}
}

/* --- in a stream ------------------------------------------------------------------------------ */

/* As the loop does after a turn in which something was said. */
static void
begin_gathering(void)
{
	connect_send();
	assert_true(keeper.has_told);
	keeper.tell_from = keeper.now_ms + TELL_GATHER_MS;
}

static void
what_comes_soon_after_something_was_said_is_gathered(void **state)
{
	uint64_t number, at;

	(void)state;
	begin_gathering();
	assert_false(notices_due(&keeper, &at));
	number = accepted(10);
	assert_hears(0);
	accepted(10);
	assert_hears(0);
	assert_true(notices_due(&keeper, &at));
	assert_int_equal(at, keeper.tell_from);
	keeper.now_ms = at;
	assert_told(number);
	assert_false(notices_due(&keeper, &at));
}

static void
who_asked_does_not_wait(void **state)
{
	char octets[8];

	(void)state;
	begin_gathering();
	uint64_pack_big(octets, 5);
	say(SEND_WHERE, octets, sizeof octets);
	assert_hears(NOTICE_PLACE);
}

static void
what_is_gathered_is_bounded(void **state)
{
	(void)state;
	begin_gathering();
	for (size_t len = 0; len < TELL_HELD_MAX; len += 4) {	/* at least */
		if (channel_unsent(&keeper.send_channel) < TELL_HELD_MAX)
			assert_hears(0);
		assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
	}
	assert_hears(NOTICE_HELLO);
}

static void
whoever_reads_slowly_is_told_when_there_is_room(void **state)
{
	uint64_t at;

	(void)state;
	connect_send();
	while (!notices_full(&keeper))
		assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
	notices_flush(&keeper);
	assert_true(keeper.send.watched & EPOLLOUT);
	assert_false(notices_due(&keeper, &at));	/* the socket says when */
	keeper.tell_from = keeper.now_ms + TELL_GATHER_MS;
	for (int left = SEND_UNSENT_MAX; left > 0; left -= CHANNEL_HEADER)
		assert_hears(NOTICE_HELLO);
	assert_false(channel_unsent(&keeper.send_channel));
	assert_in_range(keeper.send_channel.out.a, 0, CHANNEL_KEPT);	/* the memory is given back */
}

static void
at_the_end_all_is_said(void **state)
{
	(void)state;
	begin_gathering();
	accepted(10);
	keeper.stop = 1;
	assert_hears(NOTICE_MESSAGE);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(only_qmail_send_root_and_the_keepers_own_user_may_connect), TEST(hello_says_until_when_there_may_have_been_attempts),
		TEST(a_connection_that_says_list_replaces_the_one_before),
		TEST(an_event_of_a_connection_that_was_closed_in_the_same_turn_is_nothing),
		TEST(who_hangs_up_or_talks_nonsense_before_its_first_frame_replaces_nobody),
		TEST(nothing_is_told_before_the_list_and_all_of_it_once), TEST(the_list_ends_when_the_directories_are_read),
		TEST(reports_from_before_the_list_are_flushed_first), TEST(while_nobody_reads_only_numbers_are_kept),
		TEST(a_list_that_is_asked_for_again_is_owed_once), TEST(what_was_put_off_is_told_later_but_what_has_ended),
		TEST(what_cannot_be_read_is_told_later_and_the_connection_stays), TEST(without_memory_qmail_send_has_to_connect_anew),
		TEST(what_is_said_of_recipients), TEST(a_text_ends_at_its_first_nul),
		TEST(no_frame_is_longer_than_qmail_send_takes), TEST(messages_of_two_children_are_passed_on_whole),
		TEST(a_message_that_found_no_memory_is_not_passed_on_without_its_middle),
		TEST(reports_that_are_malformed_end_the_connection), TEST(a_text_of_exactly_the_limit_is_taken),
		TEST(a_number_that_is_gone_is_confirmed_at_once), TEST(a_number_that_may_yet_be_found_is_recorded),
		TEST(reports_outlive_the_connection), TEST(an_end_that_found_no_memory_has_not_been_said),
		TEST(who_reads_no_answers_is_not_heard_meanwhile), TEST(who_reports_more_than_is_flushed_is_not_heard_meanwhile),
		TEST(where_a_message_is), TEST(a_new_qmail_send_hears_that_a_message_was_deferred), TEST(a_reader_gets_its_list_and_changes_nothing),
		TEST(who_answers_a_reader_is_a_child_as_any_other), TEST(who_says_nothing_has_a_bound),
		TEST(readers_that_wait_leave_a_place_for_qmail_send), TEST(a_reader_that_gives_up_while_it_waits_is_gone),
		TEST(what_comes_soon_after_something_was_said_is_gathered), TEST(who_asked_does_not_wait), TEST(what_is_gathered_is_bounded),
		TEST(whoever_reads_slowly_is_told_when_there_is_room), TEST(at_the_end_all_is_said),
	};

	return cmocka_run_group_tests_name("notices", tests, NULL, NULL);
}
