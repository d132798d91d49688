/* The process that runs a checkpassword program for a network server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpassword.h"
#include "directory.h"
#include "login_runner.h"

static int here, runner;

/* A runner of a script, in the current directory. */
static void
start(const char *script, unsigned int tries)
{
	static char *const argv[] = { (char *)(uintptr_t)"./check", NULL };

	directory_write_script("check", script);
	here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	runner = login_runner_start(argv, here, tries);
	assert_true(runner >= 0);
}

static void
finish(void)
{
	close(runner);
	close(here);
	assert_true(wait(NULL) > 0);
}

static const char octets[] = "ana\0secret\0<1>";

static int
try_secret(const char *secret, int connection, int wait_ms)
{
	return login_runner_run(runner, connection, "ana", secret, "<1>", wait_ms);
}

static void
codes(void **state)
{
	static const struct { const char *script; int want; } rows[] = {
		{ "#!/bin/sh\nexit 0\n", 0 }, { "#!/bin/sh\nexit 1\n", 1 }, { "#!/bin/sh\nexit 111\n", 111 }, { "#!/bin/sh\nexit 200\n", 200 },
		{ "#!/bin/sh\nkill -9 $$\n", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		start(rows[i].script, 1);
		assert_int_equal(try_secret("secret", -1, -1), rows[i].want);
		finish();
	}
}

static void
codes_though_children_are_ignored(void **state)
{
	signal(SIGCHLD, SIG_IGN);
	start("#!/bin/sh\nexit 1\n", 1);
	signal(SIGCHLD, SIG_DFL);
	(void)state;
	assert_int_equal(try_secret("secret", -1, -1), 1);
	finish();
}

static void
what_the_program_finds(void **state)
{
	int connection[2];
	char got[20];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection), 0);
	start("#!/bin/sh\ncat <&3 >given\nread -r line\necho \"$line too\"\n", 1);
	assert_int_equal(write(connection[1], "hello\n", 6), 6);
	assert_int_equal(try_secret("secret", connection[0], -1), 0);
	assert_int_equal(read(connection[1], got, sizeof got), 10);
	assert_memory_equal(got, "hello too\n", 10);
	directory_assert_file("given", octets, sizeof octets);
	close(connection[0]);
	close(connection[1]);
	finish();
}

/* What the session has come to since the runner was started; nothing else, and nothing that is not fine. */
static void
variables(void **state)
{
	(void)state;
	setenv("TCPREMOTEIP", "192.0.2.1", 1);
	start("#!/bin/sh\nrm -f given\necho \"$SSL_PROTOCOL $SSL_CIPHER $POP3UTF8 $TCPREMOTEIP\" >given\ncat <&3 >>given\n", 2);
	setenv("TCPREMOTEIP", "192.0.2.2", 1);
	setenv("SSL_PROTOCOL", "TLSv1.2", 1);
	setenv("SSL_CIPHER", "a b", 1);
	setenv("POP3UTF8", "1", 1);
	assert_int_equal(try_secret("secret", -1, -1), 0);
	directory_assert_file("given", "TLSv1.2  1 192.0.2.1\nana\0secret\0<1>", 21 + sizeof octets);
	unsetenv("SSL_PROTOCOL");
	unsetenv("SSL_CIPHER");
	unsetenv("POP3UTF8");
	assert_int_equal(try_secret("secret", -1, -1), 0);
	directory_assert_file("given", "   192.0.2.1\nana\0secret\0<1>", 13 + sizeof octets);
	unsetenv("TCPREMOTEIP");
	finish();
}

/* Packets of a process that was taken over. */
static void
what_is_no_packet_of_ours(void **state)
{
	static const struct { const char *octets; size_t len; const char *want; } rows[] = {
#define PACKET(s) s, sizeof(s) - 1
		{ PACKET("ana\0secret\0"), NULL }, { PACKET("ana\0secret\0<1>"), NULL }, { PACKET("ana\0secret\0<1>\0POP3UTF8=1"), NULL },
		{ PACKET("ana\0secret\0<1>\0PATH=/evil\0TCPREMOTEIP=192.0.2.2\0POP3UTF8=1\0"), "1 \n" },
		{ PACKET("ana\0secret\0<1>\0POP3UTF8\0=1\0\0SSL_CIPHER=$(x)\0SSL_CIPHER=x\0"), " x\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char code = 'x';

		start("#!/bin/sh\necho \"$POP3UTF8 $SSL_CIPHER$TCPREMOTEIP\" >given\n", 1);
		assert_int_equal(send(runner, rows[i].octets, rows[i].len, 0), rows[i].len);
		assert_int_equal(recv(runner, &code, 1, 0), rows[i].want ? 1 : 0);
		if (rows[i].want) {
			assert_int_equal(code, 0);
			directory_assert_file("given", rows[i].want, strlen(rows[i].want));
		}
		finish();
	}
}

/* Who has taken the asking process over has one try. */
static void
once(void **state)
{
	(void)state;
	start("#!/bin/sh\necho >>tries\nexit 1\n", 1);
	assert_int_equal(try_secret("secret", -1, -1), 1);
	assert_int_equal(try_secret("secret", -1, -1), -1);
	directory_assert_file("tries", "\n", 1);
	finish();
}

static void
as_often_as_it_may(void **state)
{
	(void)state;
	start("#!/bin/sh\necho >>tries\nexit 1\n", 2);
	assert_int_equal(try_secret("secret", -1, -1), 1);
	assert_int_equal(try_secret("secret", -1, -1), 1);
	assert_int_equal(try_secret("secret", -1, -1), -1);
	directory_assert_file("tries", "\n\n", 2);
	finish();
}

/* Login, secret and challenge, with their NULs. */
static void
the_longest_secret_and_one_octet_more(void **state)
{
	char secret[LOGIN_RUNNER_MAX] = "";

	(void)state;
	start("#!/bin/sh\nwc -c <&3 >>given\n", 2);
	memset(secret, 'x', LOGIN_RUNNER_MAX - 9);
	assert_int_equal(try_secret(secret, -1, -1), 0);
	directory_assert_file("given", "512\n", 4);
	secret[LOGIN_RUNNER_MAX - 9] = 'x';
	assert_int_equal(try_secret(secret, -1, -1), CHECKPASSWORD_WRONG);
	directory_assert_file("given", "512\n", 4);
	finish();
}

/* A program may serve a session over the connection; that has no limit here. */
static void
a_session_that_does_not_end(void **state)
{
	int connection[2];
	char got[20];

	(void)state;
	start("#!/bin/sh\nread -r line\necho \"$line too\"\n", 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection), 0);
	assert_int_equal(try_secret("secret", connection[0], 1), -1);
	assert_int_equal(write(connection[1], "hello\n", 6), 6);
	assert_int_equal(read(connection[1], got, sizeof got), 10);
	close(connection[0]);
	close(connection[1]);
	finish();
}

/* It answers all the same, later, and its answer is not one to the next question. */
static void
an_answer_that_came_too_late(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	start("#!/bin/sh\nsleep .3\ntest -e right && exit 1\n>right\n", 2);
	assert_int_equal(try_secret("right", null, 1), -1);
	assert_int_equal(try_secret("wrong", null, -1), -1);
	finish();
	close(null);
	assert_int_equal(access("right", F_OK), 0);
}

/* --- what hangs -------------------------------------------------------------------------------------------------------- */

/* A runner, which has with its program and what that one starts the other end of a pipe, as 8. Returns ours. */
static int
start_with_pipe(const char *script)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(dup2(ends[1], 8), 8);
	close(ends[1]);
	start(script, 2);
	close(8);
	return ends[0];
}

/* Nobody has its other end any more: within 5 seconds. */
static void
assert_end(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char octet;

	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read(fd, &octet, 1), 0);
	close(fd);
}

static void
a_check_that_hangs_when_its_time_is_over(void **state)
{
	int reader = start_with_pipe("#!/bin/sh\nsleep 60 &\nsleep 60\n");

	(void)state;
	assert_int_equal(try_secret("secret", -1, 1), -1);
	assert_int_equal(try_secret("secret", -1, -1), -1);
	assert_end(reader);
	finish();
}

static void
a_check_that_hangs_when_who_asked_has_ended(void **state)
{
	int reader = start_with_pipe("#!/bin/sh\nsleep 60 &\necho >&8\nsleep 60\n");
	char octet;

	(void)state;
	assert_int_equal(send(runner, octets, sizeof octets, 0), sizeof octets);
	assert_int_equal(read(reader, &octet, 1), 1);
	shutdown(runner, SHUT_RDWR);	/* as its end does */
	assert_end(reader);
	finish();
}

/* The connection ends with who asks, whatever the runner does. */
static void
the_runner_has_no_connection(void **state)
{
	int kept[2] = { fcntl(0, F_DUPFD_CLOEXEC, 3), fcntl(1, F_DUPFD_CLOEXEC, 3) }, connection[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection), 0);
	for (int fd = 0; fd < 2; fd++)
		dup2(connection[0], fd);
	close(connection[0]);
	start("#!/bin/sh\nfound=$(readlink /proc/$$/fd/0 /proc/$$/fd/1)\necho \"$found\" >given\n", 1);
	for (int fd = 0; fd < 2; fd++) {
		dup2(kept[fd], fd);
		close(kept[fd]);
	}
	assert_end(connection[1]);
	assert_int_equal(try_secret("secret", -1, -1), 0);
	directory_assert_file("given", "/dev/null\n/dev/null\n", 20);
	finish();
}

static void
nobody_asks(void **state)
{
	(void)state;
	start("#!/bin/sh\necho >>tries\n", 1);
	finish();
	assert_int_equal(access("tries", F_OK), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(codes, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(codes_though_children_are_ignored, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(what_the_program_finds, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(variables, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(what_is_no_packet_of_ours, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(once, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(as_often_as_it_may, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(the_longest_secret_and_one_octet_more, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(a_session_that_does_not_end, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(an_answer_that_came_too_late, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(a_check_that_hangs_when_its_time_is_over, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(a_check_that_hangs_when_who_asked_has_ended, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(the_runner_has_no_connection, directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(nobody_asks, directory_make, directory_remove),
	};

	return cmocka_run_group_tests_name("login_runner", tests, NULL, NULL);
}
