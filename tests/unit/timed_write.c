/* timed_write: what a client that does not read, or is gone, costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include "timed_write.h"

enum { TIMEOUT_MS = 50, MANY = 16 << 20 };	/* MANY: more octets than a socket takes */

static void
begin(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	timed_write_start(fd[0], TIMEOUT_MS);
}

static void
end(int fd[2])
{
	close(fd[0]);
	close(fd[1]);
}

static void
all_octets(void **state)
{
	int fd[2];
	char got[8];

	(void)state;
	begin(fd);
	assert_int_equal(timed_write(fd[0], "hello", 5, 0), 1);	/* what fits needs no time */
	assert_int_equal(timed_write(fd[0], "", 0, 0), 1);
	assert_int_equal(read(fd[1], got, sizeof got), 5);
	assert_memory_equal(got, "hello", 5);
	end(fd);
}

static void
nobody_reads(void **state)
{
	int fd[2];
	char *octets = test_calloc(1, MANY);

	(void)state;
	begin(fd);
	assert_int_equal(timed_write(fd[0], octets, MANY, monotonic_ms() + 60000), 0);
	end(fd);
	test_free(octets);
}

static void
the_client_is_gone(void **state)
{
	int fd[2];

	(void)state;
	begin(fd);
	close(fd[1]);
	assert_int_equal(timed_write(fd[0], "x", 1, UINT64_MAX), 0);
	close(fd[0]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_octets),
		cmocka_unit_test(nobody_reads),
		cmocka_unit_test(the_client_is_gone),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("timed_write", tests, NULL, NULL);
}
