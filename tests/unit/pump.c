/* A connection of two pipes that becomes one socket. The pump runs in a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bin-src/pop3d/pump.h"

enum { LARGE = 300 * 1000 };	/* more than pipes, sockets and buffers hold */

static int client_in, client_out, session;	/* our ends: what the client reads and writes, and the socket */
static pid_t pump;

static int
set_up(void **state)
{
	int in[2], out[2], pair[2];

	(void)state;
	if (pipe(in) < 0 || pipe(out) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -1;
	pump = fork();
	if (pump == 0) {
		close(in[1]), close(out[0]), close(pair[0]);
		pump_run(in[0], out[1], pair[1]);
		_exit(0);
	}
	close(in[0]), close(out[1]), close(pair[1]);
	client_out = in[1];
	client_in = out[0];
	session = pair[0];
	return 0;
}

static void
end(int *fd)
{
	close(*fd);
	*fd = -1;
}

static void
is_over(void)
{
	int status;

	assert_int_equal(waitpid(pump, &status, 0), pump);
	assert_int_equal(status, 0);
	pump = -1;
}

static int
tear_down(void **state)
{
	(void)state;
	close(client_in);
	close(client_out);
	close(session);
	if (pump > 0) {
		kill(pump, SIGKILL);
		waitpid(pump, NULL, 0);
	}
	return 0;
}

static void
expect(int fd, const char *want)
{
	char got[100];
	size_t len = 0, n = strlen(want);
	ssize_t r;

	while (len < n && (r = read(fd, got + len, n - len)) > 0)
		len += (size_t)r;
	assert_int_equal(len, n);
	assert_memory_equal(got, want, n);
}

static void
say(int fd, const char *s)
{
	assert_int_equal(write(fd, s, strlen(s)), strlen(s));
}

static void
both_ways(void **state)
{
	(void)state;
	say(client_out, "STAT\r\n");
	expect(session, "STAT\r\n");
	say(session, "+OK 0 0\r\n");
	expect(client_in, "+OK 0 0\r\n");
	end(&session);
	is_over();
}

static void
what_a_session_said_last_goes_out(void **state)
{
	char octet;

	(void)state;
	say(session, "+OK bye\r\n");
	end(&session);
	is_over();
	expect(client_in, "+OK bye\r\n");
	assert_int_equal(read(client_in, &octet, 1), 0);
}

static void
the_end_of_the_client_comes_after_its_octets(void **state)
{
	char octet;

	(void)state;
	say(client_out, "QUIT\r\n");
	end(&client_out);
	expect(session, "QUIT\r\n");
	assert_int_equal(read(session, &octet, 1), 0);
	say(session, "+OK\r\n");
	expect(client_in, "+OK\r\n");
	end(&session);
	is_over();
}

static void
a_client_that_is_gone(void **state)
{
	(void)state;
	end(&client_in);
	say(session, "+OK\r\n");
	is_over();
}

/* A process writes them, so that nobody waits for himself. */
static void
large(int from, int to, int *other)
{
	static char s[LARGE], got[LARGE];
	size_t len = 0;
	ssize_t r;
	pid_t writer;

	for (size_t i = 0; i < sizeof s; i++)
		s[i] = (char)(i % 251);
	writer = fork();
	if (writer == 0) {
		for (size_t at = 0; at < sizeof s && (r = write(from, s + at, sizeof s - at)) > 0; at += (size_t)r)
			;
		_exit(0);
	}
	end(other);
	while (len < sizeof got && (r = read(to, got + len, sizeof got - len)) > 0)
		len += (size_t)r;
	assert_int_equal(len, sizeof s);
	assert_memory_equal(got, s, sizeof s);
	assert_int_equal(waitpid(writer, NULL, 0), writer);
}

static void
much_to_the_client(void **state)
{
	(void)state;
	large(session, client_in, &session);
	is_over();
}

static void
much_from_the_client(void **state)
{
	char octet;

	(void)state;
	large(client_out, session, &client_out);
	assert_int_equal(read(session, &octet, 1), 0);
	end(&session);
	is_over();
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(both_ways), TEST(what_a_session_said_last_goes_out), TEST(the_end_of_the_client_comes_after_its_octets), TEST(a_client_that_is_gone),
		TEST(much_to_the_client), TEST(much_from_the_client),
	};

	signal(SIGPIPE, SIG_IGN);
	alarm(60);
	return cmocka_run_group_tests_name("pump", tests, NULL, NULL);
}
