/* Frames and descriptors over a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "channel.h"
#include "monotonic.h"
#include "slow_to_close.h"
#include "unsendable.h"

static struct channel a, b;

static int
open_pair(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	channel_init(&a, fd[0], 1000000);
	channel_init(&b, fd[1], 1000000);
	return 0;
}

static int
close_pair(void **state)
{
	(void)state;
	channel_free(&a);
	channel_free(&b);
	return 0;
}

static void
next_is(char type, const char *s)
{
	struct channel_frame f;

	while (channel_next(&b, &f) == 0)
		assert_int_equal(channel_receive(&b), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(f.len, strlen(s));
	assert_memory_equal(f.s, s, f.len);
}

static void
frames_in_order(void **state)
{
	(void)state;
	assert_true(channel_put1(&a, 'x', "one", 3));
	assert_true(channel_put1(&a, 'y', "", 0));
	assert_int_equal(channel_flush(&a), 1);
	next_is('x', "one");
	next_is('y', "");
}

static void
what_a_burst_needed_is_given_back(void **state)
{
	static const char octets[2048];

	(void)state;
	assert_true(channel_put1(&a, 'x', "one", 3));
	assert_int_equal(channel_flush_lean(&a), 1);
	assert_non_null(a.out.s);
	assert_true(stralloc_ready(&a.out, 2 * CHANNEL_KEPT));
	assert_true(channel_put1(&a, 'y', octets, sizeof octets));
	assert_int_equal(channel_flush_lean(&a), 1);
	assert_null(a.out.s);
	next_is('x', "one");
}

static void
frame_in_pieces(void **state)
{
	struct channel_frame f;

	(void)state;
	for (const char *s = "\0\0\0\2zab", *end = s + 7; s < end; s++) {
		assert_int_equal(channel_next(&b, &f), 0);
		assert_int_equal(write(a.fd, s, 1), 1);
		assert_int_equal(channel_receive(&b), 1);
	}
	next_is('z', "ab");
}

static void
frame_above_the_limit(void **state)
{
	struct channel_frame f;

	(void)state;
	assert_int_equal(write(a.fd, "\x7f\xff\xff\xffz", 5), 5);
	assert_int_equal(channel_receive(&b), 1);
	assert_int_equal(channel_next(&b, &f), -1);
	assert_int_equal(errno, EPROTO);
}

static void
large_frames_and_a_slow_reader(void **state)
{
	char *s = malloc(700000);
	struct channel_frame f;
	int r, frames = 0;

	(void)state;
	memset(s, 'm', 700000);
	for (int i = 0; i < 3; i++)
		assert_true(channel_put1(&a, 'm', s, 700000));
	free(s);
	while (frames < 3) {
		assert_true(channel_flush(&a) >= 0);
		while ((r = channel_next(&b, &f)) == 1) {
			assert_int_equal(f.len, 700000);
			frames++;
		}
		assert_int_equal(r, 0);
		if (frames < 3)
			assert_int_equal(channel_receive(&b), 1);
	}
	assert_int_equal(channel_unsent(&a), 0);
}

static void
descriptors_come_with_their_frames(void **state)
{
	char s[4] = { 0 };
	int fd;

	(void)state;
	for (int i = 0; i < 3; i++) {
		char name[2] = { (char)('0' + i) };
		int p[2];

		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		assert_int_equal(write(p[1], name, 1), 1);
		close(p[1]);
		assert_true(channel_put1(&a, 'p', "plain", 5));
		assert_true(channel_put_fd(&a, 'd', name, 1, p[0]));
	}
	assert_int_equal(channel_flush(&a), 1);
	for (int i = 0; i < 3; i++) {
		char name[2] = { (char)('0' + i) };

		next_is('p', "plain");
		next_is('d', name);
		assert_true((fd = channel_take_fd(&b)) >= 0);
		assert_int_equal(read(fd, s, 1), 1);
		assert_int_equal(s[0], name[0]);
		close(fd);
	}
	assert_int_equal(channel_take_fd(&b), -1);
}

static void
flood_of_descriptors(void **state)	/* row L3 of hostile-inputs */
{
	int r = 1;

	(void)state;
	for (int i = 0; i < 40 && r == 1; i++) {
		assert_true(channel_put_fd(&a, 'd', "", 0, dup(a.fd)));
		assert_int_equal(channel_flush(&a), 1);
		r = channel_receive(&b);
	}
	assert_int_equal(r, -1);
	assert_int_equal(errno, EPROTO);
}

static void
without_memory_it_is_tried_again(void **state)
{
	(void)state;
	assert_true(channel_put1(&a, 'x', "one", 3));
	unsendable = a.fd;
	unsendable_times = 3;
	assert_int_equal(channel_flush(&a), 1);
	assert_int_equal(unsendable_times, 0);
	next_is('x', "one");
	assert_true(channel_put1(&a, 'y', "two", 3));
	unsendable_times = -1;
	assert_int_equal(channel_flush(&a), -1);	/* after a second */
	assert_int_equal(errno, ENOMEM);
	unsendable = -1;
	assert_int_equal(channel_unsent(&a), CHANNEL_HEADER + 3);
}

static void
peer_goes_away(void **state)
{
	struct channel_frame f;

	(void)state;
	assert_int_equal(write(a.fd, "\0\0\0\5zab", 7), 7);
	channel_free(&a);
	assert_int_equal(channel_receive(&b), 1);
	assert_int_equal(channel_next(&b, &f), 0);
	assert_int_equal(channel_receive(&b), -1);
	assert_true(channel_put1(&b, 'x', "one", 3));
	assert_int_equal(channel_flush(&b), -1);
	assert_int_equal(errno, EPIPE);
}

/* And nobody waits for it to be closed: neither who reads, nor who closes what was not read. */
static void
a_guarded_channel_takes_no_descriptor(void **state)
{
	struct channel_frame f;
	uint64_t begun = monotonic_ms();
	int peer[2];

	(void)state;
	channel_guard(&b);
	assert_int_equal(channel_receive(&b), 0);
	assert_true(channel_put1(&a, 'x', "one", 3) && channel_flush(&a) == 1);
	assert_int_equal(channel_receive(&b), 1);
	assert_int_equal(channel_next(&b, &f), 1);
	peer[0] = slow_to_close_pass(a.fd);
	peer[1] = slow_to_close_pass(a.fd);
	assert_int_equal(channel_receive(&b), -1);
	assert_int_equal(errno, EPROTO);
	channel_free(&b);
	assert_true(monotonic_ms() - begun < 1000);
	close(peer[0]);
	close(peer[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(frames_in_order, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(what_a_burst_needed_is_given_back, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(frame_in_pieces, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(frame_above_the_limit, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(large_frames_and_a_slow_reader, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(descriptors_come_with_their_frames, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(flood_of_descriptors, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(a_guarded_channel_takes_no_descriptor, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(without_memory_it_is_tried_again, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(peer_goes_away, open_pair, close_pair),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
