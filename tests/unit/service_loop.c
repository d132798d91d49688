/* How a service of one process waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "directory.h"
#include "held_signals.h"
#include "monotonic.h"
#include "service_loop.h"
#include "service_socket.h"

#define PATH "folder/socket"

static struct service_loop loop;
static struct pollfd polled[3];
static struct service_users users;
static int callers[2], pipes[2];
static volatile sig_atomic_t signals;

static void
on_signal(int sig)
{
	signals += sig == SIGUSR1 ? 1 : 100;
}

static int
set_up(void **state)
{
	static const int taken[] = { SIGUSR1, SIGUSR2, 0 };

	directory_make(state);
	signals = 0;
	memset(&loop, 0, sizeof loop);
	users.len = 0;
	service_users_put(&users, geteuid());
	loop.polled = polled;
	loop.listener = service_socket_listen(PATH);
	callers[0] = callers[1] = -1;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(held_signals_take(taken, on_signal, &loop.outside), 1);
	return loop.listener < 0;
}

static int
tear_down(void **state)
{
	sigset_t taken;

	for (int i = 0; i < 2; i++) {
		if (callers[i] >= 0)
			close(callers[i]);
		close(pipes[i]);
	}
	close(loop.listener);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&taken);
	sigaddset(&taken, SIGUSR1);
	sigaddset(&taken, SIGUSR2);
	sigprocmask(SIG_UNBLOCK, &taken, NULL);
	return directory_remove(state);
}

static void
call(int i)
{
	callers[i] = service_socket_connect(-1, PATH, 0);
	assert_true(callers[i] >= 0);
}

/* Takes one who calls within the time that a test may need. */
static int
accept_one(void)
{
	assert_int_equal(service_loop_wait(&loop, 0, 1, monotonic_ms() + 30000), 1);
	return service_loop_accept(&loop, &users);
}

static void
a_caller(void **state)
{
	char octet;
	int fd;

	(void)state;
	call(0);
	fd = accept_one();
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &octet, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_int_equal(service_loop_wait(&loop, 0, 1, 0), 1);
	assert_int_equal(service_loop_accept(&loop, &users), -1);
}

/* One a turn, so that those who are there are looked at in between. */
static void
two_callers(void **state)
{
	int fd;

	(void)state;
	call(0);
	call(1);
	for (int i = 0; i < 2; i++) {
		fd = accept_one();
		assert_true(fd >= 0);
		close(fd);
	}
}

static void
another_user(void **state)
{
	char octet;

	(void)state;
	users.uids[0]++;
	call(0);
	assert_int_equal(accept_one(), -1);
	assert_int_equal(service_socket_wait(callers[0], monotonic_ms() + 30000), 1);
	assert_int_equal(recv(callers[0], &octet, 1, 0), 0);
}

/* It waits at the socket. */
static void
a_caller_when_no_more_are_taken(void **state)
{
	int fd;

	(void)state;
	call(0);
	assert_int_equal(service_loop_wait(&loop, 0, 0, 0), 1);
	assert_int_equal(service_loop_accept(&loop, &users), -1);
	fd = accept_one();
	assert_true(fd >= 0);
	close(fd);
}

/* The listener is not looked at for a while, or the service would run in circles. */
static void
no_descriptor_for_a_caller(void **state)
{
	struct rlimit before, none = { 0, 0 };
	int fd;

	(void)state;
	call(0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(service_loop_wait(&loop, 0, 1, monotonic_ms() + 30000), 1);
	none.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	fd = service_loop_accept(&loop, &users);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(fd, -1);
	assert_true(loop.paused_until > 0);
	loop.paused_until = UINT64_MAX;
	assert_int_equal(service_loop_wait(&loop, 0, 1, 0), 1);
	assert_false(loop.has_caller);
	/* its end wakes the service, which would wait for longer */
	loop.paused_until = monotonic_ms() + 1;
	while ((fd = accept_one()) < 0)
		assert_false(loop.has_caller);
	close(fd);
}

static void
what_callers_say(void **state)
{
	(void)state;
	polled[0] = (struct pollfd){ .fd = pipes[0], .events = POLLIN, .revents = POLLERR };
	polled[1] = (struct pollfd){ .fd = pipes[1], .events = POLLOUT };
	assert_int_equal(service_loop_wait(&loop, 1, 1, 0), 1);
	assert_int_equal(polled[0].revents, 0);
	polled[1] = (struct pollfd){ .fd = pipes[1], .events = POLLOUT };
	assert_int_equal(write(pipes[1], "x", 1), 1);
	assert_int_equal(service_loop_wait(&loop, 2, 1, monotonic_ms() + 30000), 1);
	assert_int_equal(polled[0].revents, POLLIN);
	assert_int_equal(polled[1].revents, POLLOUT);
	assert_int_equal(service_loop_accept(&loop, &users), -1);
}

/* While it waits, and not before; nothing else has come then. */
static void
signals_come_while_it_waits(void **state)
{
	(void)state;
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(raise(SIGUSR2), 0);
	assert_int_equal(signals, 0);
	polled[0] = (struct pollfd){ .fd = pipes[0], .events = POLLIN, .revents = POLLIN };
	assert_int_equal(service_loop_wait(&loop, 1, 1, monotonic_ms() + 30000), 1);
	assert_int_equal(signals, 101);
	assert_int_equal(polled[0].revents, 0);
	assert_int_equal(service_loop_accept(&loop, &users), -1);
}

static void
signals_come_though_there_is_always_something_to_do(void **state)
{
	(void)state;
	polled[0] = (struct pollfd){ .fd = pipes[1], .events = POLLOUT };
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(service_loop_wait(&loop, 1, 1, monotonic_ms() + 30000), 1);
	assert_int_equal(polled[0].revents, POLLOUT);
	assert_int_equal(signals, 1);
}

static void
programs_start_with_the_signals_of_before(void **state)
{
	(void)state;
	assert_false(sigismember(&loop.outside, SIGUSR1) || sigismember(&loop.outside, SIGUSR2));
	assert_ptr_equal(signal(SIGPIPE, SIG_IGN), SIG_IGN);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_caller), TEST(two_callers), TEST(another_user), TEST(a_caller_when_no_more_are_taken), TEST(no_descriptor_for_a_caller),
		TEST(what_callers_say), TEST(signals_come_while_it_waits),
		TEST(signals_come_though_there_is_always_something_to_do), TEST(programs_start_with_the_signals_of_before),
	};

	return cmocka_run_group_tests_name("service_loop", tests, NULL, NULL);
}
