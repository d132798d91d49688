/* A POP3 session after the login: RFC 1939 sections 5 to 7, RFC 2449; hostile inputs P11. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/pop3d/session.h"
#include "directory.h"

enum { MOST = 60000 };	/* octets that a session of a test says: its socket holds them */

static const struct session_settings defaults = { .timeout = 60, .session = 3600, .capabilities = { .expire = CAPABILITIES_EXPIRE_NEVER } };

static int
make_box(void **state)
{
	(void)state;
	if (mkdir("box", 0700) || mkdir("box/new", 0700) || mkdir("box/cur", 0700) || mkdir("box/tmp", 0700))
		return 1;
	directory_write("box/new/1.a,S=12", "a: b\n\n.one\n\n");
	directory_write("box/cur/2.b,S=20,W=23:2,S", "c: d\n\nfirst\nsecond\n");
	directory_write("box/new/3.c,S=3", "end");
	return 0;
}

static int
remove_box(void **state)
{
	(void)state;
	return system("rm -r box");
}

static int
is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* Runs a session in which the client says len octets and closes; *got is what it is told. */
static enum session_end
run(const struct session_settings *settings, const char *says, size_t len, char got[MOST])
{
	struct maildrop m = { .directory = -1 };
	struct session *s = test_calloc(1, sizeof *s);
	enum session_end end;
	ssize_t n, all = 0;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(send(fd[0], says, len, 0), len);
	shutdown(fd[0], SHUT_WR);
	assert_int_equal(maildrop_open(&m, "box"), 1);
	assert_int_equal(maildrop_list(&m), 1);
	s->settings = settings;
	s->maildrop = &m;
	end = session_run(s, fd[1], fd[1]);
	close(fd[1]);
	while ((n = read(fd[0], got + all, (size_t)(MOST - 1 - all))) > 0)
		all += n;
	got[all] = '\0';
	close(fd[0]);
	maildrop_close(&m);
	test_free(s);
	return end;
}

/* --- commands and their replies ----------------------------------------------------- */

#define GREETING "+OK 3 messages (38 octets)\r\n"
#define LISTING "+OK 3 messages (38 octets)\r\n"
#define MESSAGE_1 "a: b\r\n\r\n..one\r\n\r\n.\r\n"
#define NO_NUMBER "-ERR a message has a number\r\n"
#define NO_MESSAGE "-ERR no such message\r\n"
#define ARGUMENTS "-ERR wrong number of arguments\r\n"
#define MARKED "-ERR this message is marked as deleted\r\n"
#define TOO_LATE "-ERR this command comes before the login\r\n"

/* Nothing but the replies to these commands, between the greeting and the end of the connection. */
static const struct row { const char *rule, *says, *want; } rows[] = {
	{ "STAT", "STAT\r\n", "+OK 3 38\r\n" },
	{ "STAT right after DELE", "DELE 2\r\nSTAT\r\n", "+OK\r\n+OK 2 15\r\n" },
	{ "LIST", "LIST\r\n", LISTING "1 12\r\n2 23\r\n3 3\r\n.\r\n" },
	{ "LIST leaves out what is deleted", "DELE 2\r\nLIST\r\n", "+OK\r\n+OK 2 messages (15 octets)\r\n1 12\r\n3 3\r\n.\r\n" },
	{ "LIST of one", "LIST 2\r\n", "+OK 2 23\r\n" },
	{ "UIDL", "UIDL\r\n", LISTING "1 1.a,S=12\r\n2 2.b,S=20,W=23\r\n3 3.c,S=3\r\n.\r\n" },
	{ "UIDL of one", "UIDL 3\r\n", "+OK 3 3.c,S=3\r\n" },
	{ "RETR", "RETR 1\r\n", "+OK 12 octets\r\n" MESSAGE_1 },
	{ "RETR without a final newline", "RETR 3\r\n", "+OK 3 octets\r\nend\r\n.\r\n" },
	{ "TOP", "TOP 2 1\r\n", "+OK\r\nc: d\r\n\r\nfirst\r\n.\r\n" },
	{ "TOP of the header section", "TOP 2 0\r\n", "+OK\r\nc: d\r\n\r\n.\r\n" },
	{ "TOP of more lines than there are", "TOP 1 18446744073709551616\r\n", "+OK\r\n" MESSAGE_1 },
	{ "TOP without a number of lines", "TOP 1\r\n", ARGUMENTS },
	{ "TOP of -1 lines", "TOP 1 -1\r\n", "-ERR a number of lines comes second\r\n" },
	{ "DELE twice", "DELE 1\r\nDELE 1\r\n", "+OK\r\n" MARKED },
	{ "a deleted message is not to be had", "DELE 1\r\nRETR 1\r\nTOP 1 0\r\nLIST 1\r\nUIDL 1\r\n",
	    "+OK\r\n" MARKED MARKED MARKED MARKED },
	{ "RSET", "DELE 1\r\nDELE 2\r\nRSET\r\nSTAT\r\n", "+OK\r\n+OK\r\n" LISTING "+OK 3 38\r\n" },
	{ "LAST", "LAST\r\nRETR 3\r\nLAST\r\nDELE 2\r\nDELE 1\r\nLAST\r\nRSET\r\nLAST\r\n",
	    "+OK 0\r\n+OK 3 octets\r\nend\r\n.\r\n+OK 0\r\n+OK\r\n+OK\r\n+OK 2\r\n" LISTING "+OK 0\r\n" },
	{ "NOOP", "NOOP\r\n", "+OK\r\n" },
	{ "number 0", "RETR 0\r\nDELE 0\r\nTOP 0 1\r\nLIST 0\r\nUIDL 0\r\n", NO_MESSAGE NO_MESSAGE NO_MESSAGE NO_MESSAGE NO_MESSAGE },
	{ "a number too high", "RETR 4\r\n", NO_MESSAGE },
	{ "a number that would wrap", "RETR 18446744073709551617\r\nUIDL 4294967297\r\n", NO_MESSAGE NO_MESSAGE },
	{ "a number of many digits", "RETR 1000000000000000000000000000000000000000001\r\n", NO_MESSAGE },
	{ "a negative number", "RETR -1\r\nLIST -1\r\n", NO_NUMBER NO_NUMBER },
	{ "no number", "RETR one\r\nRETR 1x\r\nRETR +1\r\nRETR 1.0\r\n", NO_NUMBER NO_NUMBER NO_NUMBER NO_NUMBER },
	{ "no argument", "RETR\r\nDELE\r\nRETR \r\n", ARGUMENTS ARGUMENTS ARGUMENTS },
	{ "too many arguments", "RETR 1 2\r\nSTAT 1\r\nLIST 1 2\r\nTOP 1 2 3\r\nQUIT now\r\n",
	    ARGUMENTS ARGUMENTS ARGUMENTS ARGUMENTS ARGUMENTS },
	{ "letters of any case", "stat\r\nLiSt 3\r\n", "+OK 3 38\r\n+OK 3 3\r\n" },
	{ "more blanks", "LIST  3 \r\n \tSTAT\t\r\n", "+OK 3 3\r\n+OK 3 38\r\n" },
	{ "unknown", "FOO\r\n\r\nSTATX\r\nSTA\r\n",
	    "-ERR unknown command\r\n-ERR unknown command\r\n-ERR unknown command\r\n-ERR unknown command\r\n" },
	{ "what belongs before the login", "USER ana\r\nPASS a b c d\r\nAPOP x y\r\nAUTH PLAIN\r\nSTLS\r\nUTF8\r\n",
	    TOO_LATE TOO_LATE TOO_LATE TOO_LATE TOO_LATE TOO_LATE },
	{ "CAPA", "CAPA\r\n", "+OK\r\nUSER\r\nSASL PLAIN LOGIN\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\n"
	    "EXPIRE NEVER\r\nIMPLEMENTATION tambo\r\n.\r\n" },
	{ "a line without end", "STAT\r\nDELE 1", "+OK 3 38\r\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
session_row(void **state)
{
	const struct row *row = *state;
	char got[MOST], want[2000];

	assert_int_equal(run(&defaults, row->says, strlen(row->says), got), SESSION_CLOSED);
	snprintf(want, sizeof want, GREETING "%s", row->want);
	assert_string_equal(got, want);
	/* without QUIT nothing has changed */
	assert_true(is_there("box/new/1.a,S=12") && is_there("box/cur/2.b,S=20,W=23:2,S") && is_there("box/new/3.c,S=3"));
}

/* --- others ------------------------------------------------------------------------------ */

#define SAYS(s) s, sizeof s - 1

static void
what_is_configured(void **state)
{
	struct session_settings settings = defaults;
	char got[MOST];

	(void)state;
	settings.capabilities.expire = 0;
	settings.capabilities.login_delay = 900;
	run(&settings, SAYS("CAPA\r\n"), got);
	assert_non_null(strstr(got, "\r\nEXPIRE 0\r\nLOGIN-DELAY 900\r\n"));
}

static void
quit(void **state)
{
	char got[MOST];

	(void)state;
	assert_int_equal(run(&defaults, SAYS("DELE 2\r\nQUIT\r\nSTAT\r\n"), got), SESSION_QUIT);
	assert_string_equal(got, GREETING "+OK\r\n+OK\r\n");
	assert_true(is_there("box/cur/1.a,S=12:2,") && is_there("box/cur/3.c,S=3:2,") && !is_there("box/cur/2.b,S=20,W=23:2,S"));
	assert_int_equal(run(&defaults, SAYS("UIDL\r\nQUIT\r\n"), got), SESSION_QUIT);
	assert_string_equal(got, "+OK 2 messages (15 octets)\r\n+OK 2 messages (15 octets)\r\n1 1.a,S=12\r\n2 3.c,S=3\r\n.\r\n+OK\r\n");
}

static void
quit_and_what_cannot_be_removed(void **state)
{
	struct maildrop m = { .directory = -1 };
	struct session *s = test_calloc(1, sizeof *s);
	char got[100] = "";
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(maildrop_open(&m, "box"), 1);
	assert_int_equal(maildrop_list(&m), 1);
	assert_int_equal(unlink("box/new/3.c,S=3") | mkdir("box/new/3.c,S=3", 0700), 0);
	s->settings = &defaults;
	s->maildrop = &m;
	assert_int_equal(send(fd[0], "DELE 3\r\nDELE 1\r\nQUIT\r\n", 22, 0), 22);
	assert_int_equal(session_run(s, fd[1], fd[1]), SESSION_QUIT);
	assert_int_equal(s->deleted, 1);
	close(fd[1]);
	assert_true(recv(fd[0], got, sizeof got - 1, MSG_WAITALL) > 0);
	assert_string_equal(got, GREETING "+OK\r\n+OK\r\n-ERR [SYS/TEMP] some deleted messages were not removed\r\n");
	close(fd[0]);
	maildrop_close(&m);
	test_free(s);
}

/* Who did not get the replies to what was said before QUIT has the messages left. */
static void
quit_of_a_client_that_is_gone(void **state)
{
	struct maildrop m = { .directory = -1 };
	struct session *s = test_calloc(1, sizeof *s);
	int in[2], out[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, in) | socketpair(AF_UNIX, SOCK_STREAM, 0, out), 0);
	assert_int_equal(send(in[0], "RETR 1\r\nDELE 1\r\nQUIT\r\n", 22, 0), 22);
	close(out[0]);
	assert_int_equal(maildrop_open(&m, "box"), 1);
	assert_int_equal(maildrop_list(&m), 1);
	s->settings = &defaults;
	s->maildrop = &m;
	assert_int_equal(session_run(s, in[1], out[1]), SESSION_CLOSED);
	assert_true(is_there("box/new/1.a,S=12") && is_there("box/new/3.c,S=3"));
	close(in[0]);
	close(in[1]);
	close(out[1]);
	maildrop_close(&m);
	test_free(s);
}

static void
a_message_that_vanished(void **state)
{
	struct maildrop m = { .directory = -1 };
	struct session *s = test_calloc(1, sizeof *s);
	static const char says[] = "RETR 1\r\nTOP 1 0\r\nLIST 1\r\nDELE 1\r\nRETR 3\r\nQUIT\r\n";
	char got[1000] = "";
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(maildrop_open(&m, "box"), 1);
	assert_int_equal(maildrop_list(&m), 1);
	assert_int_equal(unlink("box/new/1.a,S=12"), 0);
	s->settings = &defaults;
	s->maildrop = &m;
	assert_int_equal(send(fd[0], says, sizeof says - 1, 0), sizeof says - 1);
	assert_int_equal(session_run(s, fd[1], fd[1]), SESSION_QUIT);
	close(fd[1]);
	assert_true(recv(fd[0], got, sizeof got - 1, MSG_WAITALL) > 0);
	assert_string_equal(got, GREETING "-ERR this message is gone\r\n-ERR this message is gone\r\n+OK 1 12\r\n+OK\r\n"
	    "+OK 3 octets\r\nend\r\n.\r\n+OK\r\n");
	close(fd[0]);
	maildrop_close(&m);
	test_free(s);
}

static void
lines_that_are_none(void **state)
{
	char got[MOST], long_line[6000];

	(void)state;
	assert_int_equal(run(&defaults, SAYS("ST\0AT\r\nNOOP\r\n"), got), SESSION_CLOSED);
	assert_string_equal(got, GREETING "-ERR a command has no NUL in it\r\n+OK\r\n");
	memset(long_line, 'x', sizeof long_line);
	memcpy(long_line + sizeof long_line - 8, "\r\nNOOP\r\n", 8);
	assert_int_equal(run(&defaults, long_line, sizeof long_line, got), SESSION_CLOSED);
	assert_string_equal(got, GREETING "-ERR line too long\r\n+OK\r\n");
	assert_int_equal(run(&defaults, SAYS("DELE 1\nQUIT\r\n"), got), SESSION_REFUSED);
	assert_string_equal(got, GREETING "-ERR a line ends with CR LF, and neither stands alone\r\n");
	assert_true(is_there("box/new/1.a,S=12"));
}

/* RFC 1939 section 3: no reply, and nothing is removed. */
static void
a_client_that_says_nothing(void **state)
{
	const struct session_settings none = { .timeout = 0, .session = 3600 }, over = { .timeout = 60, .session = 0 };
	char got[MOST];

	(void)state;
	assert_int_equal(run(&none, SAYS(""), got), SESSION_TIMEOUT);
	assert_string_equal(got, GREETING);
	assert_int_equal(run(&over, SAYS(""), got), SESSION_OVER);
}

#define TEST(t) { #t, t, make_box, remove_box, NULL }

int
main(void)
{
	const struct CMUnitTest others[] = {
		TEST(what_is_configured), TEST(quit), TEST(quit_and_what_cannot_be_removed), TEST(quit_of_a_client_that_is_gone),
		TEST(a_message_that_vanished), TEST(lines_that_are_none), TEST(a_client_that_says_nothing),
	};
	enum { OTHERS = sizeof others / sizeof *others };
	struct CMUnitTest tests[ROWS + OTHERS];
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ rows[i].rule, session_row, make_box, remove_box, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < OTHERS; i++)
		tests[n++] = others[i];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("pop3_session", tests, directory_make, directory_remove);
}
