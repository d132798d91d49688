/* A connection that goes from the parent to a process that is free. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "handover.h"

static int shared[2], pair[2];

static int
set_up(void **state)
{
	(void)state;
	return !handover_share(shared) || !handover_pair(pair);
}

static int
tear_down(void **state)
{
	(void)state;
	close(shared[0]);
	close(shared[1]);
	close(pair[0]);
	return 0;
}

/* Whether both descriptors are of one file. */
static int
is_same(int a, int b)
{
	struct stat x, y;

	assert_int_equal(fstat(a, &x), 0);
	assert_int_equal(fstat(b, &y), 0);
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void
a_process_that_is_free_gets_a_connection(void **state)
{
	struct handover said = { .with_local = 1 }, heard;
	int end = -1, connection[2], got = -1, back = -1;
	pid_t who = 0;

	(void)state;
	said.remote.port = 12345;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection), 0);
	assert_int_equal(handover_hear(shared[0], &who, &end), 0);
	assert_int_equal(handover_ask(shared[1], pair[1]), 1);
	assert_int_equal(handover_hear(shared[0], &who, &end), 1);
	assert_int_equal(who, getpid());
	assert_true(end >= 0);
	assert_int_equal(handover_send(end, connection[0], &said), 1);
	assert_int_equal(handover_receive(pair[0], &heard, &got, &back), 1);
	assert_memory_equal(&heard, &said, sizeof said);
	assert_true(is_same(got, connection[0]) && is_same(back, end));
	assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC && fcntl(back, F_GETFD) & FD_CLOEXEC);
	close(got);
	close(back);
	close(end);
	close(connection[0]);
	close(connection[1]);
}

static void
the_parent_closes_its_end(void **state)
{
	struct handover heard;
	int end, got, back;
	pid_t who;

	(void)state;
	assert_int_equal(handover_ask(shared[1], pair[1]), 1);
	assert_int_equal(handover_hear(shared[0], &who, &end), 1);
	close(end);
	assert_int_equal(handover_receive(pair[0], &heard, &got, &back), 0);
}

static void
a_word_without_a_descriptor(void **state)
{
	pid_t who = 0;
	int end = 0;

	(void)state;
	assert_int_equal(send(shared[1], "x", 1, 0), 1);
	assert_int_equal(handover_hear(shared[0], &who, &end), 1);
	assert_int_equal(who, getpid());
	assert_int_equal(end, -1);
	who = 0;
	handover_start(shared[1]);
	assert_int_equal(handover_hear(shared[0], &who, &end), 1);
	assert_int_equal(who, getpid());
	assert_int_equal(end, -1);
	close(pair[1]);
}

static void
octets_that_are_no_connection(void **state)
{
	struct handover heard = { .with_local = 0 };
	int got, back;

	(void)state;
	assert_int_equal(send(pair[1], &heard, sizeof heard - 1, 0), sizeof heard - 1);
	assert_int_equal(handover_receive(pair[0], &heard, &got, &back), 0);
	assert_int_equal(send(pair[1], &heard, sizeof heard, 0), sizeof heard);
	assert_int_equal(handover_receive(pair[0], &heard, &got, &back), 0);
	close(pair[1]);
}

static void
a_process_that_is_gone(void **state)
{
	struct handover said = { .with_local = 0 };
	int end;
	pid_t who;

	(void)state;
	assert_int_equal(handover_ask(shared[1], pair[1]), 1);
	assert_int_equal(handover_hear(shared[0], &who, &end), 1);
	shutdown(pair[0], SHUT_RDWR);
	assert_int_equal(handover_send(end, STDIN_FILENO, &said), 0);
	close(end);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_process_that_is_free_gets_a_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_parent_closes_its_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_word_without_a_descriptor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(octets_that_are_no_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_process_that_is_gone, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
