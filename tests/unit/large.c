/* A message too large for the ring: its files, who answers when, and that nothing of it stays where it came to no end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "queue_keeper.h"
#include "queue/reader.h"

enum { SIZE = 300000 };

static struct channel c, send_side;
static struct channel_frame f;
static char octets[QUEUE_FRAME_MAX];

#define ENVELOPE "Fs@x\0Ta@y\0"

static int
set_up(void **state)
{
	keeper_set_up(state);
	memset(octets, 'x', sizeof octets);
	keeper_connect(&c, &keeper.submit_listener);
	channel_init(&send_side, -1, 0);
	return 0;
}

static int
tear_down(void **state)
{
	channel_free(&c);
	channel_free(&send_side);
	return keeper_tear_down(state);
}

/* Says so much of a message that it is large. */
static void
begin(struct channel *from)
{
	for (int i = 0; i < 3; i++) {
		keeper_say(from, SUBMIT_MESSAGE, octets, SIZE / 3);
		keeper_events();
	}
}

/* Says the rest, which the child may have to read before there is room. */
static void
end(struct channel *from, const char *envelope, size_t len)
{
	for (size_t n; len; envelope += n, len -= n) {
		n = len < QUEUE_FRAME_MAX ? len : QUEUE_FRAME_MAX;
		assert_true(channel_put1(from, SUBMIT_ENVELOPE, envelope, n));
	}
	assert_true(channel_put1(from, SUBMIT_END, "", 0));
	while (channel_flush(from) == 0)
		;
}

/* Handles events until the children that make messages have ended. */
static void
children_end(void)
{
	while (keeper.large_len)
		keeper_event();
	submit_free_dead(&keeper);
}

/* How many files there are of messages, made or being made. */
static int
files(void)
{
	char path[INFO_PATH_MAX];
	int n = 0;

	for (unsigned int i = 0; i <= 2 * QUEUE_SPLIT; i++) {
		const struct dirent *d;
		DIR *dir;

		if (i < 2 * QUEUE_SPLIT)
			info_folder(path, i % 2 ? "info" : "mess", i / 2);
		else
			strcpy(path, "queue/new");
		dir = opendir(path);
		assert_non_null(dir);
		while ((d = readdir(dir)))
			n += d->d_name[0] != '.';
		closedir(dir);
	}
	return n;
}

/* Lets the writers remove what was abandoned. */
static void
writers_finish(void)
{
	assert_true(writers_start(&keeper));
	writers_turn(&keeper);
	while (keeper.writers[0].jobs_len || keeper.writers[1].jobs_len)
		keeper_event();
	assert_int_equal(keeper.wanted_len, 0);
}

/* Nothing remains of a message that came to no end, once the writers have been there. */
static void
assert_nothing_stays(void)
{
	writers_finish();
	assert_int_equal(files(), 0);
	assert_int_equal(keeper.ledger.used, 0);
}

static void
it_has_files_when_it_is_answered(void **state)
{
	stralloc got = STRALLOC_ZERO;
	struct message *m;
	uint64_t number;
	char received[200];
	size_t len;

	(void)state;
	begin(&c);
	assert_int_equal(keeper.large_len, 1);
	assert_int_equal(keeper.submitters->source.watched, 0);	/* the connection is the child's now */
	assert_int_equal(keeper.submitters->message.a, 0);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	assert_int_equal(keeper_hears(&c, &f), 0);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	assert_true(number < keeper.ring.limit);	/* a number in a file name */
	assert_true(ledger_find(&keeper.ledger, number, &m));
	assert_null(m);
	assert_int_equal(reader_file_whole(number, &got, 1 << 20), READER_OK);
	len = submit_received_field(received, sizeof received, &keeper, 12345, number, 0);
	assert_memory_equal(got.s, received, strlen("Received: (qmail "));
	assert_true(got.len >= SIZE + len - 10 && got.len <= SIZE + len + 10);	/* the date varies */
	assert_memory_equal(got.s + got.len - SIZE, octets, SIZE / 3);
	stralloc_free(&got);
	keeper_submit(&c, 10);	/* the next on the same connection */
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, NULL));
}

static void
qmail_send_is_told_of_it(void **state)
{
	uint64_t number, told;

	(void)state;
	keeper_peer = keeper.qmails;
	keeper_connect(&send_side, &keeper.send_listener);
	keeper_say(&send_side, SEND_LIST, "", 0);
	keeper_events();
	notices_pump(&keeper);
	begin(&c);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	notices_pump(&keeper);
	assert_int_equal(keeper_hears(&send_side, &f), NOTICE_HELLO);
	assert_int_equal(keeper_hears(&send_side, &f), NOTICE_ALL);
	assert_int_equal(keeper_hears(&send_side, &f), NOTICE_MESSAGE);
	uint64_unpack_big(f.s, &told);
	assert_int_equal(told, number);
	assert_int_equal(keeper_hears(&send_side, &f), NOTICE_RCPT);
	assert_int_equal(keeper_hears(&send_side, &f), NOTICE_OVER);
	assert_int_equal(keeper.later_len, 0);
}

/* What any user submits must not fill the keeper's memory: it is told from its files, when there is room. */
static void
what_qmail_send_has_no_room_for_is_told_later(void **state)
{
	enum { MANY = SEND_UNSENT_MAX / 6 + 1 };	/* recipients: 6 octets is the least that is said of one */
	static char many[2 * MANY + 3] = "F";

	(void)state;
	for (int i = 0; i < MANY; i++)
		many[2 + 2 * i] = 'T';
	keeper_peer = keeper.qmails;
	keeper_connect(&send_side, &keeper.send_listener);
	keeper_say(&send_side, SEND_LIST, "", 0);
	keeper_events();
	notices_pump(&keeper);
	begin(&c);
	end(&c, many, sizeof many);
	children_end();
	assert_int_equal(keeper.later_len, 1);
	while (!notices_full(&keeper))
		assert_true(channel_put1(&keeper.send_channel, NOTICE_HELLO, "", 0));
	begin(&c);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_int_equal(keeper.later_len, 2);
	assert_int_equal(keeper.submitters->relay.out.a, 0);
	assert_true(channel_unsent(&keeper.send_channel) < SEND_UNSENT_MAX + 100);
	assert_true(keeper_answered(&c, QUEUE_OK, NULL) && keeper_answered(&c, QUEUE_OK, NULL));
}

static void
a_submitter_that_vanishes_leaves_nothing(void **state)
{
	(void)state;
	begin(&c);
	channel_free(&c);
	children_end();
	assert_string_equal(keeper_said, "a large message was given up before its end");
	assert_int_equal(keeper.submitters_len, 0);
	assert_nothing_stays();
}

static void
a_submitter_that_breaks_the_rules_leaves_nothing(void **state)
{
	static const struct { char type; size_t len; } rows[] = { { 'z', 0 }, { SUBMIT_END, 1 }, { SUBMIT_MESSAGE, 1 } };

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(&c);
		keeper_say(&c, SUBMIT_ENVELOPE, "F", 1);
		keeper_say(&c, rows[i].type, octets, rows[i].len);
		children_end();
		assert_int_equal(keeper_hears(&c, &f), -1);
		assert_nothing_stays();
		tear_down(state);
		set_up(state);
	}
}

static void
a_child_that_is_killed_leaves_nothing(void **state)
{
	(void)state;
	begin(&c);
	assert_int_equal(kill(keeper_child, SIGKILL), 0);
	children_end();
	assert_int_equal(keeper_hears(&c, &f), -1);
	assert_nothing_stays();
}

static void
an_envelope_that_is_not_one_is_answered_and_leaves_nothing(void **state)
{
	(void)state;
	begin(&c);
	end(&c, ENVELOPE, sizeof ENVELOPE - 1);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_ENVELOPE, NULL));
	begin(&c);
	end(&c, ENVELOPE "\0x", sizeof ENVELOPE + 1);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_ENVELOPE, NULL));
	assert_nothing_stays();
}

static int
io_error(int fd)
{
	(void)fd;
	errno = EIO;
	return -1;
}

static int
io_error_of_a_folder(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? io_error(fd) : 0;
}

/* A message whose files cannot be made, since flushes fail as flush says. */
static void
submit_in_vain(int (*flush)(int fd))
{
	keeper_fsync = flush;
	begin(&c);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_WRITE, NULL));
}

static void
a_flush_that_fails_is_temporary_and_leaves_nothing(void **state)
{
	(void)state;
	submit_in_vain(io_error);
	submit_in_vain(io_error_of_a_folder);
	keeper_fsync = NULL;
	assert_nothing_stays();
}

static int
io_error_of_an_info_folder(int fd)
{
	char link[40], target[200] = "";

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return readlink(link, target, sizeof target - 1) > 0 && strstr(target, "queue/info/") ? io_error(fd) : 0;
}

/* After a power cut that would be damage; the writers remove both in their order. */
static void
no_info_is_left_without_its_message(void **state)
{
	(void)state;
	submit_in_vain(io_error_of_an_info_folder);
	assert_int_equal(files(), 2);
	keeper_fsync = NULL;
	assert_nothing_stays();
}

static void
a_full_disk_is_temporary_and_leaves_nothing(void **state)
{
	struct rlimit old, low;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){ .rlim_cur = SIZE - 1, .rlim_max = old.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	begin(&c);	/* the child has the limit */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_WRITE, NULL));
	assert_nothing_stays();
}

static void
one_more_than_there_are_children_for_waits(void **state)
{
	struct channel all[LARGE_MAX], more;

	(void)state;
	keeper_peer = keeper.qmails;
	for (int i = 0; i < LARGE_MAX; i++) {
		keeper_connect(&all[i], &keeper.submit_listener);
		begin(&all[i]);
	}
	assert_int_equal(keeper.large_len, LARGE_MAX);
	keeper_connect(&more, &keeper.submit_listener);
	begin(&more);
	assert_int_equal(keeper.large_len, LARGE_MAX);
	end(&all[3], ENVELOPE, sizeof ENVELOPE);
	while (!keeper_answered(&all[3], QUEUE_OK, NULL))
		keeper_event();
	assert_int_equal(keeper.large_len, LARGE_MAX);	/* its turn */
	end(&more, ENVELOPE, sizeof ENVELOPE);
	while (!keeper_answered(&more, QUEUE_OK, NULL))
		keeper_event();
	for (int i = 0; i < LARGE_MAX; i++)
		channel_free(&all[i]);
	channel_free(&more);
	children_end();
}

/* However many clients of the network are slow, this host's own mail has a child, and theirs when one of them is done. */
static void
the_network_has_not_all_the_children(void **state)
{
	struct channel all[LARGE_NETWORK_MAX + 1], other;

	(void)state;
	keeper_peer = keeper.qmaild;
	for (int i = 0; i <= LARGE_NETWORK_MAX; i++) {
		keeper_connect(&all[i], &keeper.submit_listener);
		begin(&all[i]);
	}
	assert_int_equal(keeper.large_len, LARGE_NETWORK_MAX);
	keeper_peer = 54321;
	keeper_connect(&other, &keeper.submit_listener);
	begin(&other);
	assert_int_equal(keeper.large_len, LARGE_NETWORK_MAX + 1);
	end(&other, ENVELOPE, sizeof ENVELOPE);
	while (!keeper_answered(&other, QUEUE_OK, NULL))
		keeper_event();
	assert_int_equal(keeper.large_len, LARGE_NETWORK_MAX);
	end(&all[5], ENVELOPE, sizeof ENVELOPE);
	while (!keeper_answered(&all[5], QUEUE_OK, NULL))
		keeper_event();
	assert_int_equal(keeper.large_len, LARGE_NETWORK_MAX);	/* the turn of the last one */
	for (int i = 0; i <= LARGE_NETWORK_MAX; i++)
		channel_free(&all[i]);
	channel_free(&other);
	children_end();
}

/* And who waits for his own has nobody behind him wait. */
static void
a_user_has_not_all_the_children(void **state)
{
	struct channel all[LARGE_UID_MAX + 1], other;

	(void)state;
	keeper_peer = 12345;
	for (int i = 0; i <= LARGE_UID_MAX; i++) {
		keeper_connect(&all[i], &keeper.submit_listener);
		begin(&all[i]);
	}
	assert_int_equal(keeper.large_len, LARGE_UID_MAX);
	keeper_peer = 54321;
	keeper_connect(&other, &keeper.submit_listener);
	begin(&other);
	assert_int_equal(keeper.large_len, LARGE_UID_MAX + 1);
	submit_expire(&keeper);
	assert_int_equal(keeper.large_len, LARGE_UID_MAX + 1);
	end(&all[5], ENVELOPE, sizeof ENVELOPE);
	while (!keeper_answered(&all[5], QUEUE_OK, NULL))
		keeper_event();
	assert_int_equal(keeper.large_len, LARGE_UID_MAX + 1);	/* the turn of his last one */
	for (int i = 0; i <= LARGE_UID_MAX; i++)
		channel_free(&all[i]);
	channel_free(&other);
	children_end();
}

static void
one_for_which_no_child_comes_free_is_refused_for_now(void **state)
{
	(void)state;
	keeper_forks_fail = 1;
	begin(&c);
	keeper.now_ms += 1000 * ROOM_WAIT;
	submit_expire(&keeper);
	assert_string_equal(keeper_said, "unable to fork for a large message");
	keeper.now_ms++;
	submit_expire(&keeper);
	assert_string_equal(keeper_said, "no process is free for a large message, it is refused; uid");
	end(&c, ENVELOPE, sizeof ENVELOPE);
	keeper_events();
	assert_true(keeper_answered(&c, QUEUE_TIMEOUT, NULL));
	keeper_forks_fail = 0;
	keeper_submit(&c, 10);	/* the connection is good for the next */
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, NULL));
}

static void
a_number_is_below_the_limit_that_is_on_disk(void **state)
{
	uint64_t number, limit = keeper.ring.limit, batch = keeper.ring.next;

	(void)state;
	keeper.next_number = limit - 1;
	begin(&c);
	assert_int_equal(keeper.ring.next, batch);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	assert_int_equal(number, limit - 1);
	begin(&c);	/* has to raise it first */
	assert_int_equal(keeper.ring.next, batch + 1);
	assert_true(keeper.ring.limit > limit);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	assert_int_equal(number, limit);
}

static void
one_that_could_not_start_is_started_later(void **state)
{
	struct channel other;

	(void)state;
	keeper_forks_fail = 1;
	begin(&c);
	assert_int_equal(keeper.large_len, 0);
	keeper_forks_fail = 0;
	submit_expire(&keeper);	/* what the loop does now and then: there is no other child that would end */
	assert_int_equal(keeper.large_len, 1);
	keeper.next_number = keeper.ring.limit;
	keeper_fdatasync = io_error;
	keeper_connect(&other, &keeper.submit_listener);
	begin(&other);
	assert_int_equal(keeper.large_len, 1);
	keeper_fdatasync = NULL;
	submit_expire(&keeper);
	assert_int_equal(keeper.large_len, 2);
	end(&other, ENVELOPE, sizeof ENVELOPE);
	end(&c, ENVELOPE, sizeof ENVELOPE);
	children_end();
	assert_true(keeper_answered(&c, QUEUE_OK, NULL) && keeper_answered(&other, QUEUE_OK, NULL));
	channel_free(&other);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(it_has_files_when_it_is_answered), TEST(qmail_send_is_told_of_it), TEST(what_qmail_send_has_no_room_for_is_told_later),
		TEST(a_submitter_that_vanishes_leaves_nothing),
		TEST(a_submitter_that_breaks_the_rules_leaves_nothing), TEST(a_child_that_is_killed_leaves_nothing),
		TEST(an_envelope_that_is_not_one_is_answered_and_leaves_nothing), TEST(a_flush_that_fails_is_temporary_and_leaves_nothing),
		TEST(no_info_is_left_without_its_message), TEST(a_full_disk_is_temporary_and_leaves_nothing), TEST(one_more_than_there_are_children_for_waits),
		TEST(the_network_has_not_all_the_children), TEST(a_user_has_not_all_the_children), TEST(one_for_which_no_child_comes_free_is_refused_for_now),
		TEST(a_number_is_below_the_limit_that_is_on_disk), TEST(one_that_could_not_start_is_started_later),
	};

	return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
