/* An SMTP session from its greeting to its end, with servers that say anything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/remote/session.h"
#include "server.h"

enum { STEPS_MAX = 5, TIMEOUT = 20 };

static struct session session;
static const char *refused;

static enum session_result
opens(const struct server_step *steps)
{
	return session_open(&session, server_start(steps), &refused);
}

static int
set_up(void **state)
{
	(void)state;
	memset(&session, 0, sizeof session);
	session.helo = "me.test";
	session.timeout = TIMEOUT;
	connection_init(&session.connection, -1);
	refused = "";
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	connection_close(&session.connection);
	server_end();
	return 0;
}

/* --- the beginning --------------------------------------------------------------------------------------------- */

#define HI "220 hi\r\n"
#define EHLO "EHLO me.test\r\n"
#define HELO "HELO me.test\r\n"

/* refused: what was, with SESSION_REFUSED; error: errno, with SESSION_LOST. told: all that the server heard. */
static const struct row {
	const char *rule;
	struct server_step steps[STEPS_MAX];
	enum session_result result;
	const char *refused;
	int error;
	const char *told;
} rows[] = {
	{ "EHLO", { { "", HI }, { EHLO, "250 me\r\n" } }, SESSION_READY, "", 0, EHLO },
	{ "a greeting of several lines", { { "", "220-hi\r\n220-no advertising\r\n220\r\n" }, { EHLO, "250 me\r\n" } }, SESSION_READY, "", 0, EHLO },
	{ "HELO where EHLO is refused", { { "", HI }, { EHLO, "502 what\r\n" }, { HELO, "250 me\r\n" } }, SESSION_READY, "", 0, EHLO HELO },
	{ "HELO where EHLO is refused as others refuse mail", { { "", HI }, { EHLO, "550 no\r\n" }, { HELO, "250 me\r\n" } }, SESSION_READY, "", 0, EHLO HELO },
	{ "no HELO where EHLO is deferred", { { "", HI }, { EHLO, "451 later\r\n" } }, SESSION_REFUSED, "my name", 0, EHLO "QUIT\r\n" },
	{ "HELO is refused as well", { { "", HI }, { EHLO, "550 no\r\n" }, { HELO, "550 no\r\n" } }, SESSION_REFUSED, "my name", 0, EHLO HELO "QUIT\r\n" },
	{ "another success is none", { { "", HI }, { EHLO, "220 hi\r\n" } }, SESSION_REFUSED, "my name", 0, EHLO "QUIT\r\n" },
	{ "it greets with a failure", { { "", "554 no\r\n" } }, SESSION_REFUSED, "greeting", 0, "QUIT\r\n" },
	{ "it greets with another success", { { "", "250 ok\r\n" } }, SESSION_REFUSED, "greeting", 0, "QUIT\r\n" },
	{ "it greets twice", { { "", HI HI } }, SESSION_LOST, "", EPROTO, "" },
	{ "it answers before it is asked", { { "", HI "250 me\r\n" } }, SESSION_LOST, "", EPROTO, "" },
	{ "it answers twice", { { "", HI }, { EHLO, "250 me\r\n250 ok\r\n" } }, SESSION_LOST, "", EPROTO, EHLO },
	{ "it refuses EHLO and something else", { { "", HI }, { EHLO, "502 what\r\n250 me\r\n" } }, SESSION_LOST, "", EPROTO, EHLO },
	{ "it speaks no SMTP", { { "", "SSH-2.0-x\r\n" } }, SESSION_LOST, "", EPROTO, "" },
	{ "it closes at once", { { "", NULL } }, SESSION_LOST, "", ECONNRESET, "" },
	{ "it closes in the midst of its greeting", { { "", "220-hi\r\n" }, { "", NULL } }, SESSION_LOST, "", ECONNRESET, "" },
	{ "it closes instead of an answer", { { "", HI }, { EHLO, NULL } }, SESSION_LOST, "", ECONNRESET, EHLO },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	assert_int_equal(opens(row->steps), row->result);
	if (row->result == SESSION_LOST)
		assert_int_equal(errno, row->error);
	assert_string_equal(refused, row->refused);
	assert_int_equal(session.connection.fd >= 0, row->result == SESSION_READY);
	connection_close(&session.connection);
	assert_string_equal(server_end(), row->told);
}

static void
a_server_that_says_nothing_is_waited_for_no_longer_than_it_may(void **state)
{
	static const struct server_step silent[] = { { 0 } };

	(void)state;
	session.timeout = 0;
	assert_int_equal(opens(silent), SESSION_LOST);
	assert_int_equal(errno, ETIMEDOUT);
}

static void
a_session_owns_its_descriptor_whatever_the_end(void **state)
{
	static const struct server_step refuses[] = { { "", "554 no\r\n" }, { 0 } };
	int fd;

	(void)state;
	fd = server_start(refuses);
	assert_int_equal(session_open(&session, fd, &refused), SESSION_REFUSED);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_string_equal(session.reply.text, "554 no\n");	/* is still there to be told */
}

/* --- extensions -------------------------------------------------------------------------------------------------- */

enum {
	SIZE = SESSION_SIZE, PIPELINING = SESSION_PIPELINING, MIME = SESSION_8BITMIME,
	ALL = SESSION_PIPELINING | SESSION_SIZE | SESSION_8BITMIME | SESSION_SMTPUTF8 | SESSION_DSN | SESSION_CHUNKING,
};

/* lines: of the reply to EHLO, behind the first. */
static const struct extensions_row {
	const char *rule, *lines;
	unsigned int extensions;
	uint64_t size_max;
	unsigned int recipients_max, messages_max, domains_max;
} extensions[] = {
	{ "all of them", "250-PIPELINING\r\n250-SIZE 100\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 CHUNKING\r\n", ALL, 100, 100, 0, 0 },
	{ "in any case", "250-pipelining\r\n250 8BitMime\r\n", PIPELINING | MIME, 0, 100, 0, 0 },
	{ "a word that only begins so", "250-PIPELININGX\r\n250-8BITMIM\r\n250 XSIZE 5\r\n", 0, 0, 100, 0, 0 },
	{ "a word that is not the first", "250 X PIPELINING\r\n", 0, 0, 100, 0, 0 },
	{ "blanks", "250   SIZE   7  \r\n", SIZE, 7, 100, 0, 0 },
	{ "a size that is none", "250 SIZE huge\r\n", SIZE, 0, 100, 0, 0 },
	{ "a size that is nearly one", "250 SIZE 10M\r\n", SIZE, 0, 100, 0, 0 },
	{ "a negative size", "250 SIZE -1\r\n", SIZE, 0, 100, 0, 0 },
	{ "no size", "250 SIZE\r\n", SIZE, 0, 100, 0, 0 },
	{ "a size of 64 bits", "250 SIZE 18446744073709551599\r\n", SIZE, UINT64_C(18446744073709551599), 100, 0, 0 },
	{ "a size above 64 bits", "250 SIZE 18446744073709551616\r\n", SIZE, 0, 100, 0, 0 },
	{ "limits", "250 LIMITS MAILMAX=5 RCPTMAX=7 XMAX=2\r\n", 0, 0, 7, 5, 0 },
	{ "limits in any case", "250 limits mailmax=5 rcptmax=7\r\n", 0, 0, 7, 5, 0 },
	{ "domains", "250 LIMITS RCPTDOMAINMAX=1 RCPTMAX=7\r\n", 0, 0, 7, 0, 1 },
	{ "more domains than are counted", "250 LIMITS RCPTDOMAINMAX=999999\r\n", 0, 0, 100, 0, 100 },
	{ "a limit of domains that is none", "250 LIMITS RCPTDOMAINMAX=0 RCPTDOMAINMAX=x RCPTDOMAINMAX= RCPTDOMAINMAX\r\n", 0, 0, 100, 0, 0 },
	{ "a limit above ours", "250 LIMITS RCPTMAX=101\r\n", 0, 0, 100, 0, 0 },
	{ "no recipients", "250 LIMITS RCPTMAX=0\r\n", 0, 0, 100, 0, 0 },
	{ "limits that are none", "250 LIMITS RCPTMAX= MAILMAX=x RCPTMAX=1x MAILMAX=-1 MAILMAX\r\n", 0, 0, 100, 0, 0 },
	{ "a limit that says nothing", "250 LIMITS MAILMAX=1000001\r\n", 0, 0, 100, 0, 0 },
	{ "the largest limit that does", "250 LIMITS MAILMAX=1000000\r\n", 0, 0, 100, 1000000, 0 },
	{ "empty lines", "250-\r\n250 \r\n", 0, 0, 100, 0, 0 },
};
enum { EXTENSIONS = sizeof extensions / sizeof *extensions };

static void
extensions_are_right(void **state)
{
	const struct extensions_row *row = *state;
	const struct server_step steps[] = { { "", HI }, { EHLO, "250-me PIPELINING\r\n" }, { "", row->lines }, { 0 } };

	assert_int_equal(opens(steps), SESSION_READY);
	assert_int_equal(session.extensions, row->extensions);
	assert_int_equal(session.size_max, row->size_max);
	assert_int_equal(session.recipients_max, row->recipients_max);
	assert_int_equal(session.messages_max, row->messages_max);
	assert_int_equal(session.domains_max, row->domains_max);
}

static void
what_one_server_said_is_not_of_the_next(void **state)
{
	static const struct server_step first[] = { { "", HI }, { EHLO, "250-me\r\n250-SIZE 5\r\n250 LIMITS MAILMAX=1 RCPTMAX=1 RCPTDOMAINMAX=1\r\n" }, { 0 } };
	static const struct server_step second[] = { { "", HI }, { EHLO, "502 what\r\n" }, { HELO, "250-me\r\n250 DSN\r\n" }, { 0 } };

	(void)state;
	assert_int_equal(opens(first), SESSION_READY);
	session.messages = 1;
	session.needs_reset = 1;
	assert_int_equal(session_take_domain(&session, "x.test"), 1);
	assert_int_equal(session_take_domain(&session, "y.test"), 0);
	assert_int_equal(session_take_domain(&session, "X.Test"), 1);
	session_quit(&session);
	server_end();
	assert_int_equal(opens(second), SESSION_READY);
	assert_int_equal(session.extensions | session.size_max | session.messages_max | session.messages, 0);
	assert_int_equal(session.recipients_max, SESSION_RECIPIENTS_MAX);
	assert_int_equal(session.domains_max | session.domains_len, 0);
	assert_int_equal(session.needs_reset, 0);
}

/* --- time, and the end --------------------------------------------------------------------------------------------- */

static const struct server_step answers[] = { { "", HI }, { EHLO, "250 me\r\n" }, { "NOOP\r\n", "250 ok\r\n" }, { 0 } };

static int
say(const char *command)
{
	struct iovec v = { .iov_base = (void *)(uintptr_t)command, .iov_len = strlen(command) };

	return session_write(&session, &v, 1);
}

static void
a_reply_counts_against_the_time_of_its_group(void **state)
{
	(void)state;
	assert_int_equal(opens(answers), SESSION_READY);
	session_begin(&session, 0);
	assert_int_equal(session_reply(&session), 0);	/* though timeout is far away */
	assert_int_equal(errno, ETIMEDOUT);
}

static void
a_reply_counts_against_its_own_time_as_well(void **state)
{
	(void)state;
	assert_int_equal(opens(answers), SESSION_READY);
	session_begin(&session, 1000);
	session.timeout = 0;
	assert_int_equal(session_reply(&session), 0);
	assert_int_equal(errno, ETIMEDOUT);
}

static void
a_session_is_usable_until_it_has_taken_its_messages(void **state)
{
	(void)state;
	assert_false(session_is_usable(&session));
	assert_int_equal(opens(answers), SESSION_READY);
	session.messages = 5;
	assert_true(session_is_usable(&session));
	session.messages_max = 6;
	assert_true(session_is_usable(&session));
	session.messages = 6;
	assert_false(session_is_usable(&session));
}

static void
a_server_that_says_more_than_it_was_asked_is_not_used_again(void **state)
{
	static const struct server_step talks[] = { { "", HI }, { EHLO, "250 me\r\n" }, { "NOOP\r\n", "250 ok\r\n250 ok\r\n" }, { 0 } };

	(void)state;
	assert_int_equal(opens(talks), SESSION_READY);
	assert_true(session_is_usable(&session));
	assert_int_equal(say("NOOP\r\n"), 1);
	assert_int_equal(session_reply(&session), 1);
	assert_false(session_is_usable(&session));
}

static void
QUIT_is_said_once_and_closes(void **state)
{
	(void)state;
	assert_int_equal(opens(answers), SESSION_READY);
	session_quit(&session);
	assert_int_equal(session.connection.fd, -1);
	session_quit(&session);
	assert_string_equal(server_end(), EHLO "QUIT\r\n");
}

/* One who reads nothing would hold it up for ever. */
static void
QUIT_does_not_wait_for_a_server_that_does_not_read(void **state)
{
	static char octets[65536];
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	while (send(fd[0], octets, sizeof octets, MSG_NOSIGNAL) > 0)
		;
	connection_init(&session.connection, fd[0]);
	session_quit(&session);
	assert_int_equal(fcntl(fd[0], F_GETFD), -1);
	close(fd[1]);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest others[] = {
		TEST(a_server_that_says_nothing_is_waited_for_no_longer_than_it_may), TEST(a_session_owns_its_descriptor_whatever_the_end),
		TEST(what_one_server_said_is_not_of_the_next), TEST(a_reply_counts_against_the_time_of_its_group),
		TEST(a_reply_counts_against_its_own_time_as_well), TEST(a_session_is_usable_until_it_has_taken_its_messages),
		TEST(a_server_that_says_more_than_it_was_asked_is_not_used_again), TEST(QUIT_is_said_once_and_closes),
		TEST(QUIT_does_not_wait_for_a_server_that_does_not_read),
	};
	struct CMUnitTest tests[ROWS + EXTENSIONS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, set_up, tear_down, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < EXTENSIONS; i++)
		tests[ROWS + i] = (struct CMUnitTest){ extensions[i].rule, extensions_are_right, set_up, tear_down,
		    (void *)(uintptr_t)&extensions[i] };
	memcpy(tests + ROWS + EXTENSIONS, others, sizeof others);
	return cmocka_run_group_tests_name("remote_session", tests, NULL, NULL);
}
