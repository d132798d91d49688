/* What the keeper says of its queue, and what of it is no listing. The keeper is the other end of a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include "bin-src/queue/listing.h"
#include "directory.h"
#include "process.h"

static struct listing l;
static struct listing_item item;
static struct channel keeper;
static unsigned int descriptors;

static int
set_up(void **state)
{
	int ends[2];

	(void)state;
	descriptors = process_descriptors();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	l = (struct listing){ .in_message = 0 };
	channel_init(&l.keeper, ends[0], QUEUE_FRAME_MAX);
	channel_init(&keeper, ends[1], QUEUE_FRAME_MAX);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	listing_close(&l);
	channel_free(&keeper);
	assert_int_equal(process_descriptors(), descriptors);
	return 0;
}

static void
says(char type, const char *s, size_t len)
{
	assert_true(channel_put1(&keeper, type, s, len));
	assert_int_equal(channel_flush(&keeper), 1);
}

static void
says_message(uint64_t number, const char *sender)
{
	struct queue_notice n = { .number = number, .birth = 2, .size = 3, .uid = 4, .recipients = 5 };
	char s[QUEUE_NOTICE_PACK + 40];

	queue_notice_pack(s, &n);
	strcpy(s + QUEUE_NOTICE_PACK, sender);
	says(NOTICE_MESSAGE, s, QUEUE_NOTICE_PACK + strlen(sender) + 1);
}

static enum listing_kind
next(void)
{
	return listing_next(&l, &item);
}

/* A literal with its octets, without the NUL that ends it. */
#define FRAME(s) s, sizeof s - 1
#define INDEX(n) "\0\0\0" n

static void
messages_their_recipients_and_the_end(void **state)
{
	(void)state;
	says(NOTICE_HELLO, FRAME("12345678"));
	says_message(7, "s@x");
	says(NOTICE_RCPT, FRAME(INDEX("\0") "Ta@y\0" INDEX("\3") "Kb@y\0" INDEX("\4") "Dc@y\0why\0"));
	says(NOTICE_RCPT, FRAME(""));
	says(NOTICE_RCPT, FRAME("\1\2\3\4Td@y\0"));
	says(NOTICE_OVER, FRAME("12345678"));
	says_message(8, "");
	says(NOTICE_OVER, FRAME(""));
	says(NOTICE_ALL, FRAME(""));
	assert_int_equal(next(), LISTING_MESSAGE);
	assert_int_equal(item.notice.number, 7);
	assert_int_equal(item.notice.uid, 4);
	assert_string_equal(item.notice.sender, "s@x");
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(next(), LISTING_RECIPIENT);
		assert_int_equal(item.recipient.index, i ? i + 2 : 0);
		assert_int_equal(item.recipient.state, "TKD"[i]);
		assert_string_equal(item.recipient.address, i == 0 ? "a@y" : i == 1 ? "b@y" : "c@y");
		assert_string_equal(item.recipient.text, i == 2 ? "why" : "");
	}
	assert_int_equal(next(), LISTING_RECIPIENT);
	assert_int_equal(item.recipient.index, 0x01020304);
	assert_int_equal(next(), LISTING_OVER);
	assert_int_equal(next(), LISTING_MESSAGE);
	assert_string_equal(item.notice.sender, "");
	assert_int_equal(next(), LISTING_OVER);
	assert_int_equal(next(), LISTING_ALL);
}

static void
states_and_what_comes_with_them(void **state)
{
	static const struct { const char *s; size_t len; char state; const char *text; } rows[] = {
		{ FRAME(INDEX("\0") "Ta\0"), 'T', "" }, { FRAME(INDEX("\0") "Wa\0"), 'T', "" },
		{ FRAME(INDEX("\0") "Ka\0"), 'K', "" }, { FRAME(INDEX("\0") "Sa\0text\0"), 'K', NULL },
		{ FRAME(INDEX("\0") "Da\0text\0"), 'D', "text" }, { FRAME(INDEX("\0") "ta\0NOTIFY=NEVER\0"), 'T', "" },
		{ FRAME(INDEX("\0") "wa\0NOTIFY=NEVER\0"), 'T', "" }, { FRAME(INDEX("\0") "ka\0NOTIFY=NEVER\0"), 'K', "" },
		{ FRAME(INDEX("\0") "da\0NOTIFY=NEVER\0text\0"), 'D', "text" }, { FRAME(INDEX("\0") "sa\0NOTIFY=NEVER\0text\0"), 'K', NULL },
	};

	(void)state;
	says_message(7, "s@x");
	assert_int_equal(next(), LISTING_MESSAGE);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		says(NOTICE_RCPT, rows[i].s, rows[i].len);
		assert_int_equal(next(), LISTING_RECIPIENT);
		assert_int_equal(item.recipient.state, rows[i].state);
		assert_string_equal(item.recipient.address, "a");
		if (rows[i].text)
			assert_string_equal(item.recipient.text, rows[i].text);
	}
	says(NOTICE_OVER, FRAME(""));	/* each frame was used up */
	assert_int_equal(next(), LISTING_OVER);
}

static void
recipients_that_are_malformed(void **state)
{
	static const struct { const char *s; size_t len; } rows[] = {
		{ FRAME("\0") }, { FRAME(INDEX("\0")) }, { FRAME(INDEX("\0") "T") }, { FRAME(INDEX("\0") "Ta@y") },
		{ FRAME(INDEX("\0") "Xa@y\0") }, { FRAME(INDEX("\0") "\0a@y\0") }, { FRAME(INDEX("\0") "\377a@y\0") },
		{ FRAME(INDEX("\0") "xa@y\0P\0") }, { FRAME(INDEX("\0") "ta@y\0") }, { FRAME(INDEX("\0") "ta@y\0P") },
		{ FRAME(INDEX("\0") "Da@y\0") }, { FRAME(INDEX("\0") "Da@y\0text") }, { FRAME(INDEX("\0") "da@y\0P\0") },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		says_message(7, "s@x");
		says(NOTICE_RCPT, rows[i].s, rows[i].len);
		assert_int_equal(next(), LISTING_MESSAGE);
		errno = 0;
		assert_int_equal(next(), LISTING_TROUBLE);
		assert_int_equal(errno, EPROTO);
		tear_down(state);
		set_up(state);
	}
}

static void
frames_out_of_order(void **state)
{
	static const char outside[] = { NOTICE_RCPT, NOTICE_OVER, NOTICE_CONFIRM, NOTICE_PLACE, 'z' },
	    inside[] = { NOTICE_MESSAGE, NOTICE_ALL, NOTICE_CONFIRM, NOTICE_PLACE, 'z' };

	for (size_t i = 0; i < sizeof outside; i++)
		for (int in_message = 0; in_message < 2; in_message++) {
			if (in_message) {
				says_message(7, "s@x");
				assert_int_equal(next(), LISTING_MESSAGE);
			}
			if (in_message && inside[i] == NOTICE_MESSAGE)
				says_message(8, "s@x");
			else
				says((in_message ? inside : outside)[i], FRAME(""));
			errno = 0;
			assert_int_equal(next(), LISTING_TROUBLE);
			assert_int_equal(errno, EPROTO);
			tear_down(state);
			set_up(state);
		}
}

static void
a_keeper_that_ends(void **state)
{
	(void)state;
	says_message(7, "s@x");
	assert_int_equal(write(keeper.fd, "\0\0\0\5R\0\0", 7), 7);	/* in the middle of a frame */
	assert_int_equal(shutdown(keeper.fd, SHUT_RDWR), 0);
	assert_int_equal(next(), LISTING_MESSAGE);
	assert_int_equal(next(), LISTING_TROUBLE);
	assert_int_equal(errno, ECONNRESET);
}

static void
frames_at_the_limit_and_one_octet_above(void **state)
{
	static char s[QUEUE_FRAME_MAX + 1];

	(void)state;
	says_message(7, "s@x");
	assert_int_equal(next(), LISTING_MESSAGE);
	memset(s, 'a', sizeof s);
	memcpy(s, INDEX("\0") "T", 5);
	s[QUEUE_FRAME_MAX - 1] = '\0';
	says(NOTICE_RCPT, s, QUEUE_FRAME_MAX);
	assert_int_equal(next(), LISTING_RECIPIENT);
	assert_int_equal(strlen(item.recipient.address), QUEUE_FRAME_MAX - 6);
	uint32_pack_big(s, QUEUE_FRAME_MAX + 1);
	s[4] = NOTICE_RCPT;
	assert_int_equal(write(keeper.fd, s, CHANNEL_HEADER), CHANNEL_HEADER);
	errno = 0;
	assert_int_equal(next(), LISTING_TROUBLE);
	assert_int_equal(errno, EPROTO);
}

/* --- opening -------------------------------------------------------------------------------- */

static void
it_asks_as_a_reader(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SEND_SOCKET };
	char s[CHANNEL_HEADER + 1];
	int listener, fd;

	tear_down(state);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(listing_open(&l), 1);
	fd = accept(listener, NULL, NULL);
	assert_int_equal(read(fd, s, sizeof s), CHANNEL_HEADER);
	assert_memory_equal(s, "\0\0\0\0Q", CHANNEL_HEADER);
	close(fd);
	close(listener);
}

static void
no_keeper_is_said_with_its_reason(void **state)
{
	tear_down(state);
	errno = 0;
	assert_int_equal(listing_open(&l), 0);
	assert_int_equal(errno, ECONNREFUSED);	/* left behind by the test before */
	assert_int_equal(l.keeper.fd, -1);
	assert_int_equal(unlink(QUEUE_SEND_SOCKET), 0);
	assert_int_equal(listing_open(&l), 0);
	assert_int_equal(errno, ENOENT);
}

static int
make(void **state)
{
	return directory_make(state) || mkdir("queue", 0700);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(messages_their_recipients_and_the_end), TEST(states_and_what_comes_with_them), TEST(recipients_that_are_malformed),
		TEST(frames_out_of_order), TEST(a_keeper_that_ends), TEST(frames_at_the_limit_and_one_octet_above),
		TEST(it_asks_as_a_reader), TEST(no_keeper_is_said_with_its_reason),
	};

	return cmocka_run_group_tests_name("listing", tests, make, directory_remove);
}
