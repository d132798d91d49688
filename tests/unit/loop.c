/* Many descriptors at once: who is called, in which turn, and when signals are let in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "bin-src/send/loop.h"

enum { PAIRS = 300 };	/* more than one turn takes */

static struct loop loop;
static int context;
static struct pair {
	struct loop_source source;
	int other;		/* the end that is written to */
	unsigned int calls;
	uint32_t events;
	struct pair *victim;	/* is removed when this one is called */
} pairs[PAIRS];

/* epoll_ctl as the module calls it; tests/unit/units.mk */
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
static unsigned int controls;

int
__wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	controls++;
	return __real_epoll_ctl(epoll, operation, fd, event);
}

static void
ready(void *given, void *owner, uint32_t events)
{
	struct pair *p = owner;

	assert_ptr_equal(given, &context);
	p->calls++;
	p->events = events;
	if (p->victim)
		loop_remove(&loop, &p->victim->source);
}

static void
watch(unsigned int i, uint32_t events)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	pairs[i] = (struct pair){ .source = { .fd = ends[0], .ready = ready, .owner = &pairs[i] }, .other = ends[1] };
	assert_int_equal(loop_add(&loop, &pairs[i].source, events), 1);
}

static void
wake(unsigned int i)
{
	assert_int_equal(write(pairs[i].other, "x", 1), 1);
}

static int
set_up(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < PAIRS; i++)
		pairs[i] = (struct pair){ .source.fd = -1, .other = -1 };
	return !loop_init(&loop, &context);
}

static int
tear_down(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < PAIRS; i++) {
		int fd = pairs[i].source.fd;

		loop_remove(&loop, &pairs[i].source);
		if (fd >= 0)
			close(fd);
		if (pairs[i].other >= 0)
			close(pairs[i].other);
	}
	return close(loop.fd);
}

/* --- sources ------------------------------------------------------------------------- */

static void
only_what_is_ready_is_called(void **state)
{
	(void)state;
	watch(0, EPOLLIN);
	watch(1, EPOLLIN);
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].calls + pairs[1].calls, 0);
	wake(1);
	assert_int_equal(loop_wait(&loop, -1), 1);
	assert_int_equal(pairs[0].calls, 0);
	assert_int_equal(pairs[1].calls, 1);
	assert_int_equal(pairs[1].events, EPOLLIN);
}

static void
awake(void *given)
{
	assert_ptr_equal(given, &context);
	assert_int_equal(pairs[0].calls, 0);
	context++;
}

/* Whoever is called looks at a clock that was read after the wait. */
static void
awake_comes_before_what_is_ready(void **state)
{
	(void)state;
	watch(0, EPOLLIN);
	wake(0);
	context = 0;
	loop.awake = awake;
	assert_int_equal(loop_wait(&loop, -1), 1);
	assert_int_equal(context, 1);
	assert_int_equal(pairs[0].calls, 1);
}

/* Both are ready, and whichever comes first removes the other. */
static void
what_an_earlier_one_of_the_turn_removed_is_not_called(void **state)
{
	int fd[2];

	(void)state;
	watch(0, EPOLLIN);
	watch(1, EPOLLIN);
	fd[0] = pairs[0].source.fd;
	fd[1] = pairs[1].source.fd;
	pairs[0].victim = &pairs[1];
	pairs[1].victim = &pairs[0];
	wake(0);
	wake(1);
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].calls + pairs[1].calls, 1);
	close(pairs[0].source.fd < 0 ? fd[0] : fd[1]);
}

static void
one_may_remove_itself(void **state)
{
	int fd;

	(void)state;
	watch(0, EPOLLIN);
	fd = pairs[0].source.fd;
	pairs[0].victim = &pairs[0];
	wake(0);
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].source.fd, -1);
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].calls, 1);
	close(fd);
}

static void
more_than_a_turn_takes_are_all_served(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < PAIRS; i++) {
		watch(i, EPOLLIN);
		wake(i);
	}
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(loop_wait(&loop, 0), 1);
	for (unsigned int i = 0; i < PAIRS; i++)
		assert_in_range(pairs[i].calls, 1, 2);
}

static void
events_that_are_not_waited_for_any_more(void **state)
{
	(void)state;
	watch(0, EPOLLIN);
	wake(0);
	loop_change(&loop, &pairs[0].source, 0);
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].calls, 0);
	loop_change(&loop, &pairs[0].source, EPOLLIN);
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].calls, 1);
}

/* Who waits for nothing still hears that the other end is gone. */
static void
an_end_is_always_told(void **state)
{
	(void)state;
	watch(0, 0);
	close(pairs[0].other);
	pairs[0].other = -1;
	assert_int_equal(loop_wait(&loop, 0), 1);
	assert_int_equal(pairs[0].events, EPOLLHUP);
}

static void
a_change_that_changes_nothing_is_cheap(void **state)
{
	(void)state;
	watch(0, EPOLLIN);
	controls = 0;
	loop_change(&loop, &pairs[0].source, EPOLLIN);
	assert_int_equal(controls, 0);
	loop_change(&loop, &pairs[0].source, EPOLLIN | EPOLLOUT);
	assert_int_equal(controls, 1);
}

static void
what_is_not_watched_may_be_removed_and_changed(void **state)
{
	struct loop_source none = { .fd = -1 };

	(void)state;
	controls = 0;
	loop_remove(&loop, &none);
	loop_change(&loop, &none, EPOLLIN);
	assert_int_equal(controls, 0);
	assert_int_equal(none.fd, -1);
}

/* A plain file is always ready: epoll takes none. */
static void
what_cannot_be_watched_is_said(void **state)
{
	char path[] = "/tmp/tambo-unit-XXXXXX";
	struct loop_source file = { .fd = mkstemp(path), .ready = ready };
	int fd = file.fd;

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(loop_add(&loop, &file, EPOLLIN), 0);
	assert_int_equal(errno, EPERM);
	close(fd);
}

static void
the_highest_descriptor_is_remembered(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(loop.highest, loop.fd);
	watch(0, EPOLLIN);
	watch(1, EPOLLIN);
	fd = pairs[1].source.fd;
	assert_true(fd > pairs[0].source.fd);
	assert_int_equal(loop.highest, fd);
	loop_remove(&loop, &pairs[1].source);
	close(fd);
	assert_int_equal(loop.highest, fd);
}

/* --- signals --------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void
on_signal(int sig)
{
	(void)sig;
	caught++;
}

static void
blocked_signals_are_let_in_while_waiting_only(void **state)
{
	struct sigaction action = { .sa_handler = on_signal }, old;
	sigset_t set, before;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaction(SIGUSR1, &action, &old);
	sigprocmask(SIG_BLOCK, &set, &before);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(caught, 0);
	assert_int_equal(loop_wait(&loop, -1), 1);	/* and it is no error */
	assert_int_equal(caught, 1);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(caught, 1);
	assert_int_equal(loop_wait(&loop, -1), 1);
	watch(0, EPOLLIN);
	wake(0);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(loop_wait(&loop, -1), 1);	/* something else is ready at once */
	assert_int_equal(pairs[0].calls, 1);
	assert_int_equal(caught, 3);
	loop_change(&loop, &pairs[0].source, 0);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(loop_wait(&loop, 0), 1);	/* nothing is ready, and it may not wait */
	assert_int_equal(caught, 4);
	sigaction(SIGUSR1, &old, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static void
trouble_with_waiting_is_said(void **state)
{
	struct loop closed = { .fd = -1 };

	(void)state;
	assert_int_equal(loop_wait(&closed, 0), 0);
	assert_int_equal(errno, EBADF);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(only_what_is_ready_is_called), TEST(awake_comes_before_what_is_ready), TEST(what_an_earlier_one_of_the_turn_removed_is_not_called),
		TEST(one_may_remove_itself), TEST(more_than_a_turn_takes_are_all_served),
		TEST(events_that_are_not_waited_for_any_more), TEST(an_end_is_always_told),
		TEST(a_change_that_changes_nothing_is_cheap), TEST(what_is_not_watched_may_be_removed_and_changed),
		TEST(what_cannot_be_watched_is_said), TEST(the_highest_descriptor_is_remembered),
		TEST(blocked_signals_are_let_in_while_waiting_only), TEST(trouble_with_waiting_is_said),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
