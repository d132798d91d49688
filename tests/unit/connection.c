/* Octets to and from a server that is at the other end of a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "bin-src/remote/connection.h"
#include "monotonic.h"

enum { SOON_MS = 30, LATER_MS = 20000 };

static struct connection c;
static struct smtp_reply reply;
static int server;

static int
set_up(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	connection_init(&c, fd[0]);
	server = fd[1];
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	connection_close(&c);
	close(server);
	return 0;
}

static void
says(const char *s)
{
	assert_int_equal(send(server, s, strlen(s), MSG_NOSIGNAL), strlen(s));
}

static int
reads(uint64_t ms)
{
	return connection_reply(&c, &reply, monotonic_ms() + ms);
}

static void
replies_one_after_another(void **state)
{
	(void)state;
	says("250-one\r\n250 two\r\n354 go\r\n25");
	assert_int_equal(reads(LATER_MS), 1);
	assert_int_equal(reply.code, 250);
	assert_int_equal(connection_has_input(&c), 1);
	assert_int_equal(reads(LATER_MS), 1);
	assert_int_equal(reply.code, 354);
	says("0 ok\r\n");
	assert_int_equal(reads(LATER_MS), 1);
	assert_int_equal(reply.code, 250);
	assert_int_equal(connection_has_input(&c), 0);
}

static void
a_server_that_says_nothing(void **state)
{
	(void)state;
	assert_int_equal(reads(SOON_MS), 0);
	assert_int_equal(errno, ETIMEDOUT);
}

static void
a_reply_that_does_not_end(void **state)
{
	(void)state;
	says("250-one\r\n250");
	assert_int_equal(reads(SOON_MS), 0);
	assert_int_equal(errno, ETIMEDOUT);
}

static void
a_deadline_that_has_passed_takes_what_is_there(void **state)
{
	(void)state;
	says("250 ok\r\n");
	assert_int_equal(connection_reply(&c, &reply, 0), 1);
}

static void
nonsense(void **state)
{
	(void)state;
	says("hello\r\n");
	assert_int_equal(reads(LATER_MS), 0);
	assert_int_equal(errno, EPROTO);
}

static void
a_server_that_closes(void **state)
{
	(void)state;
	says("250-one\r\n");
	shutdown(server, SHUT_WR);
	assert_int_equal(reads(LATER_MS), 0);
	assert_int_equal(errno, ECONNRESET);
}

static void
writes_vectors_in_order(void **state)
{
	struct iovec v[4] = { { (char *)(uintptr_t)"", 0 }, { (char *)(uintptr_t)"MAIL ", 5 }, { (char *)(uintptr_t)"", 0 },
		{ (char *)(uintptr_t)"FROM", 4 } };
	char s[20];

	(void)state;
	assert_int_equal(connection_write(&c, v, 4, monotonic_ms() + LATER_MS), 1);
	assert_int_equal(recv(server, s, sizeof s, 0), 9);
	assert_memory_equal(s, "MAIL FROM", 9);
}

static void
a_server_that_does_not_read(void **state)
{
	static char much[8 << 20];
	struct iovec v = { much, sizeof much };

	(void)state;
	assert_int_equal(connection_write(&c, &v, 1, monotonic_ms() + SOON_MS), 0);
	assert_int_equal(errno, ETIMEDOUT);
}

/* RFC 2920 section 3.1: what it says while it does not read is taken in, and is there afterwards. */
static void
a_server_that_talks_and_does_not_read(void **state)
{
	static char much[8 << 20];
	struct iovec v = { much, sizeof much };

	(void)state;
	says("421 too much\r\n");
	assert_int_equal(connection_write(&c, &v, 1, monotonic_ms() + SOON_MS), 0);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(connection_has_input(&c), 1);
	assert_int_equal(connection_reply(&c, &reply, 0), 1);
	assert_int_equal(reply.code, 421);
}

static void
a_server_that_floods_while_we_write(void **state)
{
	static char much[8 << 20], flood[CONNECTION_IN_MAX + 10000];
	struct iovec v = { much, sizeof much };

	(void)state;
	memset(flood, '2', sizeof flood);
	assert_int_equal(send(server, flood, sizeof flood, MSG_NOSIGNAL), sizeof flood);
	assert_int_equal(connection_write(&c, &v, 1, monotonic_ms() + LATER_MS), 0);
	assert_int_equal(errno, EPROTO);
}

static void
a_server_that_is_gone(void **state)
{
	struct iovec v = { (char *)(uintptr_t)"QUIT", 4 };

	(void)state;
	close(server);
	server = -1;
	assert_int_equal(connection_write(&c, &v, 1, monotonic_ms() + LATER_MS), 0);
	assert_int_equal(errno, EPIPE);
}

/* One look, which reads nothing. */
static void
what_has_come_to_the_socket_is_seen(void **state)
{
	(void)state;
	assert_int_equal(connection_is_quiet(&c), 1);
	says("2");
	assert_int_equal(connection_is_quiet(&c), 0);
	assert_int_equal(connection_has_input(&c), 0);
	says("50 ok\r\n2");
	assert_int_equal(reads(LATER_MS), 1);
	assert_int_equal(connection_is_quiet(&c), 0);
}

static void
the_end_is_no_quiet(void **state)
{
	(void)state;
	shutdown(server, SHUT_WR);
	assert_int_equal(connection_is_quiet(&c), 0);
	close(server);
	server = -1;
	assert_int_equal(connection_is_quiet(&c), 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(replies_one_after_another), TEST(a_server_that_says_nothing), TEST(a_reply_that_does_not_end),
		TEST(a_deadline_that_has_passed_takes_what_is_there), TEST(nonsense), TEST(a_server_that_closes),
		TEST(writes_vectors_in_order), TEST(a_server_that_does_not_read), TEST(a_server_that_talks_and_does_not_read),
		TEST(a_server_that_floods_while_we_write), TEST(a_server_that_is_gone),
		TEST(what_has_come_to_the_socket_is_seen), TEST(the_end_is_no_quiet),
	};

	return cmocka_run_group_tests_name("connection", tests, NULL, NULL);
}
