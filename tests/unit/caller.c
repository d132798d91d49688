/* What qmail-queue has to do with its caller: reading that ends the program where it fails, and a limit of time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/queue/caller.h"
#include "directory.h"
#include "process.h"
#include "queue/protocol.h"

static int input[2];

static int
set_up(void **state)
{
	(void)state;
	return pipe2(input, O_CLOEXEC);
}

static int
tear_down(void **state)
{
	(void)state;
	close(input[0]);
	return 0;
}

static void
it_reads_what_is_there_up_to_len(void **state)
{
	char s[4] = "";

	(void)state;
	assert_int_equal(write(input[1], "abcde", 5), 5);
	assert_int_equal(caller_read(input[0], s, 3), 3);	/* and waits for no more */
	assert_memory_equal(s, "abc", 4);
	assert_int_equal(caller_read(input[0], s, 4), 2);
	close(input[1]);
	assert_int_equal(caller_read(input[0], s, 4), 0);
}

static void
read_a_directory(void *data)
{
	char s[4];

	(void)data;
	caller_read(open(".", O_RDONLY | O_CLOEXEC), s, sizeof s);
}

static void
read_nothing_open(void *data)
{
	char s[4];

	(void)data;
	caller_read(-1, s, sizeof s);
}

static void
an_error_ends_the_program(void **state)
{
	(void)state;
	close(input[1]);
	assert_int_equal(process_run(read_a_directory, NULL), QUEUE_READ);
	assert_int_equal(process_run(read_nothing_open, NULL), QUEUE_READ);
}

static void
on_alarm(int sig)
{
	(void)sig;
	if (write(input[1], "x", 1) != 1)
		_exit(1);
}

/* A signal interrupts the read before the only octet is there. */
static void
a_signal_does_not(void **state)
{
	struct sigaction action = { .sa_handler = on_alarm }, old;	/* without SA_RESTART */
	char s[4];

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	alarm(1);
	assert_int_equal(caller_read(input[0], s, sizeof s), 1);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	close(input[1]);
}

static void
wait_beyond_the_limit(void *data)
{
	char s[4];

	(void)data;
	caller_limit(1);
	caller_read(input[0], s, sizeof s);
}

static void
a_limit_of_time_ends_the_program(void **state)
{
	(void)state;
	assert_int_equal(process_run(wait_beyond_the_limit, NULL), QUEUE_TIMEOUT);
	close(input[1]);
}

static void
end_in_time(void *data)
{
	(void)data;
	caller_limit(600);
}

static void
who_ends_in_time_does_so(void **state)
{
	(void)state;
	assert_int_equal(process_run(end_in_time, NULL), PROCESS_WENT_ON);
	close(input[1]);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(it_reads_what_is_there_up_to_len), TEST(an_error_ends_the_program), TEST(a_signal_does_not),
		TEST(a_limit_of_time_ends_the_program), TEST(who_ends_in_time_does_so),
	};

	return cmocka_run_group_tests_name("caller", tests, directory_make, directory_remove);
}
