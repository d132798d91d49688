/* POP3 before the login: replies to commands, and which login is tried; TLS by a UCSPI-TLS server, which is played here, while
 * tests/system/test_popup.py has that of qmail-tlsd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/pop3d/authorization.h"

enum { MOST = 4000 };

static char tried[AUTHORIZATION_LOGIN_MAX], left[100];
static enum authorization_answer answer;

/* Notes what is handed over, and what of the connection nobody has read. */
static enum authorization_answer
log_in(void *data, int connection, const char *login, const char *secret, const char *challenge)
{
	ssize_t n = recv(connection, left, sizeof left - 1, MSG_DONTWAIT);

	(void)data;
	left[n > 0 ? n : 0] = '\0';
	snprintf(tried, sizeof tried, "%s/%s/%s%s", login, secret, *challenge ? "challenge" : "", getenv("POP3UTF8") ? "utf8" : "");
	unsetenv("POP3UTF8");
	return answer;
}

static const struct authorization_settings plain = { .capabilities = { .expire = CAPABILITIES_EXPIRE_NEVER }, .timeout = 60, .login = log_in };

/* Runs a session whose client says octets and then nothing more; got: what it is told. */
static enum authorization_end
run(const struct authorization_settings *settings, const char *octets, char got[MOST])
{
	static struct authorization a;
	enum authorization_end end;
	size_t n = 0;
	ssize_t r;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(write(fd[1], octets, strlen(octets)), strlen(octets));
	shutdown(fd[1], SHUT_WR);
	memset(&a, 0, sizeof a);
	a.settings = settings;
	tried[0] = left[0] = '\0';
	end = authorization_run(&a, fd[0], fd[0], NULL);
	close(fd[0]);
	while ((r = read(fd[1], got + n, MOST - 1 - n)) > 0)
		n += (size_t)r;
	got[n] = '\0';
	close(fd[1]);
	return end;
}

#define HI "+OK POP3 server ready\r\n"
#define OK "+OK\r\n"
#define ERR(s) "-ERR " s "\r\n"

/* want: behind the greeting; tried: the login; left: what the session finds. */
static const struct row { const char *rule, *octets, *want, *tried, *left; enum authorization_end end; } rows[] = {
	{ "USER and PASS", "USER ana\r\nPASS x y \r\n", OK, "ana/x y /", "", AUTHORIZATION_LOGGED_IN },
	{ "what is behind PASS", "USER ana\r\nPASS x\r\nSTAT\r\nQU", OK, "ana/x/", "STAT\r\nQU", AUTHORIZATION_LOGGED_IN },
	{ "the last USER counts", "USER a\r\nUSER b\r\nPASS x\r\n", OK OK, "b/x/", "", AUTHORIZATION_LOGGED_IN },
	{ "PASS alone", "PASS x\r\n", ERR("USER comes first"), "", "", AUTHORIZATION_CLOSED },
	{ "no argument", "USER\r\nUSER \r\nPASS\r\n", ERR("wrong number of arguments") ERR("wrong number of arguments") ERR("wrong number of arguments"),
	    "", "", AUTHORIZATION_CLOSED },
	{ "an argument too many", "QUIT x\r\nNOOP x\r\n", ERR("wrong number of arguments") ERR("wrong number of arguments"), "", "", AUTHORIZATION_CLOSED },
	{ "NOOP, UTF8, QUIT", "noop\r\nutf8\r\nquit\r\nNOOP\r\n", OK OK OK, "", "", AUTHORIZATION_QUIT },
	{ "UTF8 is told to the session", "UTF8\r\nUSER ana\r\nPASS x\r\n", OK OK, "ana/x/utf8", "", AUTHORIZATION_LOGGED_IN },
	{ "UTF8 with an argument is none", "UTF8 x\r\nUSER ana\r\nPASS x\r\n", ERR("wrong number of arguments") OK, "ana/x/", "", AUTHORIZATION_LOGGED_IN },
	{ "APOP without a challenge", "APOP ana x\r\n", ERR("unknown command"), "", "", AUTHORIZATION_CLOSED },
	{ "AUTH PLAIN", "AUTH PLAIN AGFuYQB4\r\nSTAT\r\n", "", "ana/x/", "STAT\r\n", AUTHORIZATION_LOGGED_IN },
	{ "AUTH LOGIN", "AUTH LOGIN\r\nYW5h\r\neA==\r\nSTAT\r\n", "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n", "ana/x/", "STAT\r\n", AUTHORIZATION_LOGGED_IN },
	{ "AUTH cancelled", "AUTH PLAIN\r\n*\r\nQUIT\r\n", "+ \r\n" ERR("cancelled") OK, "", "", AUTHORIZATION_QUIT },
	{ "AUTH and the end", "AUTH PLAIN\r\n", "+ \r\n", "", "", AUTHORIZATION_CLOSED },
	{ "AUTH, which ones", "AUTH\r\n", "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n", "", "", AUTHORIZATION_CLOSED },
	{ "AUTH, another one", "AUTH GSSAPI\r\n", ERR("this mechanism is not known"), "", "", AUTHORIZATION_CLOSED },
	{ "STLS where there is none", "STLS\r\n", ERR("there is no TLS here"), "", "", AUTHORIZATION_CLOSED },
	{ "CAPA", "CAPA\r\n", "+OK\r\nUSER\r\nSASL PLAIN LOGIN\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\n"
	    "EXPIRE NEVER\r\nIMPLEMENTATION tambo\r\n.\r\n", "", "", AUTHORIZATION_CLOSED },
	{ "another command", "STAT\r\n\r\n", ERR("authorization first") ERR("authorization first"), "", "", AUTHORIZATION_CLOSED },
	{ "bare LF", "USER ana\nPASS x\r\n", ERR("a line ends with CR LF, and neither stands alone"), "", "", AUTHORIZATION_REFUSED },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
octets_row(void **state)
{
	const struct row *row = *state;
	char got[MOST];

	answer = AUTHORIZATION_RIGHT;
	assert_int_equal(run(&plain, row->octets, got), row->end);
	assert_memory_equal(got, HI, strlen(HI));
	assert_string_equal(got + strlen(HI), row->want);
	assert_string_equal(tried, row->tried);
	assert_string_equal(left, row->left);
}

static void
answers(void **state)
{
	char got[MOST];

	(void)state;
	answer = AUTHORIZATION_WRONG;
	assert_int_equal(run(&plain, "USER a\r\nPASS b\r\nUSER a\r\nPASS c\r\n", got), AUTHORIZATION_FAILED);
	assert_string_equal(got, HI OK ERR("[AUTH] authorization failed"));
	answer = AUTHORIZATION_UNKNOWN;
	assert_int_equal(run(&plain, "USER a\r\nPASS b\r\n", got), AUTHORIZATION_TROUBLE);
	assert_string_equal(got, HI OK ERR("[SYS/TEMP] unable to check logins now"));
	answer = AUTHORIZATION_LOST;
	assert_int_equal(run(&plain, "USER a\r\nPASS b\r\n", got), AUTHORIZATION_TROUBLE);
	assert_string_equal(got, HI OK);
}

static void
a_challenge(void **state)
{
	struct authorization_settings settings = plain;
	char got[MOST], want[100];

	(void)state;
	settings.host = "h.example";
	answer = AUTHORIZATION_RIGHT;
	assert_int_equal(run(&settings, "APOP ana\r\nAPOP ana 0123\r\n", got), AUTHORIZATION_LOGGED_IN);
	assert_string_equal(tried, "ana/0123/challenge");
	snprintf(want, sizeof want, "+OK <%ld.", (long)getpid());
	assert_memory_equal(got, want, strlen(want));
	assert_non_null(strstr(got, "@h.example>\r\n" ERR("a name and a digest, please")));
}

/* Nothing that would make a client send its password. */
static void
tls_is_needed(void **state)
{
	struct authorization_settings settings = plain;
	char got[MOST];

	(void)state;
	settings.needs_tls = settings.offers_tls = 1;
	settings.host = "h.example";
	run(&settings, "CAPA\r\nUSER ana\r\nPASS x\r\nAPOP ana x\r\nAUTH PLAIN AGFuYQB4\r\nAUTH\r\n", got);
	assert_null(strstr(got, "\r\nUSER\r\n"));
	assert_null(strstr(got, "SASL"));
	assert_null(strstr(got, "PLAIN"));
	assert_non_null(strstr(got, "+OK\r\nSTLS\r\nTOP\r\n"));
	assert_non_null(strstr(got, ERR("begin TLS first, with STLS") ERR("USER comes first") ERR("begin TLS first, with STLS")
	    ERR("begin TLS first, with STLS") ERR("begin TLS first, with STLS")));
	assert_string_equal(tried, "");
}

static void
errors_without_end(void **state)
{
	char octets[3 * AUTHORIZATION_ERRORS_MAX * 4] = "", got[MOST];
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 2 * AUTHORIZATION_ERRORS_MAX; i++)
		strcat(octets, "x\r\n");
	assert_int_equal(run(&plain, octets, got), AUTHORIZATION_REFUSED);
	for (const char *s = got; (s = strstr(s, "-ERR")); s++)
		n++;
	assert_int_equal(n, AUTHORIZATION_ERRORS_MAX);
}

/* --- a UCSPI-TLS server in front ------------------------------------------------------------------------------------------ */

static const struct front_row {
	const char *rule, *clear, *variables;
	size_t variables_len;
	const char *within, *want, *want_within, *tried;
	enum authorization_end end;
	int begins;
} front_rows[] = {
	{ "STLS", "USER eve\r\nSTLS\r\nPASS x\r\n", "SSL_PROTOCOL=TLSv1.3\0", 22, "PASS x\r\nUSER ana\r\nPASS x\r\n", HI OK "+OK begin now\r\n",
	    ERR("USER comes first") OK, "ana/x/", AUTHORIZATION_LOGGED_IN, 0 },
	{ "no STLS within", "STLS\r\n", "\0\0", 2, "CAPA\r\nSTLS\r\nQUIT\r\n", HI "+OK begin now\r\n", NULL, "", AUTHORIZATION_QUIT, 0 },
	{ "a handshake that fails", "STLS\r\nUSER ana\r\nPASS x\r\n", NULL, 0, "USER ana\r\nPASS x\r\n", HI "+OK begin now\r\n", "", "", AUTHORIZATION_NO_TLS, 0 },
	{ "from the first octet", "", "\0\0", 2, "USER ana\r\nPASS x\r\n", "", HI OK, "ana/x/", AUTHORIZATION_LOGGED_IN, 1 },
	{ "not asked", "QUIT\r\n", NULL, 0, "USER ana\r\nPASS x\r\n", HI OK, "", "", AUTHORIZATION_QUIT, 0 },
};
enum { FRONT_ROWS = sizeof front_rows / sizeof *front_rows };

/* All that comes on fd, which is closed. */
static const char *
rest_of(int fd, char got[MOST])
{
	size_t n = 0;
	ssize_t r;

	while ((r = recv(fd, got + n, MOST - 1 - n, 0)) > 0)
		n += (size_t)r;
	got[n] = '\0';
	close(fd);
	return got;
}

/* Nothing of what came in clear text counts, and nothing is said there once TLS began. */
static void
front_row_is_right(void **state)
{
	static struct authorization a;
	const struct front_row *row = *state;
	struct authorization_settings settings = plain;
	struct server_tls front = { .by = SERVER_TLS_UCSPI, .engine.control = -1 };
	int clear[2], within[2], control[2];
	char got[MOST], letter = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, clear) | socketpair(AF_UNIX, SOCK_STREAM, 0, within) |
	    socketpair(AF_UNIX, SOCK_STREAM, 0, control), 0);
	front.in = front.out = within[0];
	front.control = control[0];
	assert_int_equal(send(clear[1], row->clear, strlen(row->clear), 0), strlen(row->clear));
	assert_int_equal(send(within[1], row->within, strlen(row->within), 0), strlen(row->within));
	if (row->variables)
		assert_int_equal(send(control[1], row->variables, row->variables_len, 0), row->variables_len);
	else
		shutdown(control[1], SHUT_WR);
	settings.offers_tls = 1;
	settings.starts_tls = row->begins;
	memset(&a, 0, sizeof a);
	a.settings = &settings;
	a.front = &front;
	tried[0] = '\0';
	answer = AUTHORIZATION_RIGHT;
	assert_int_equal(authorization_run(&a, clear[0], clear[0], NULL), row->end);
	recv(control[1], &letter, 1, MSG_DONTWAIT);
	assert_int_equal(letter, row->end == AUTHORIZATION_QUIT && !row->variables ? 0 : 'Y');
	if (!a.is_encrypted)
		close(clear[0]);
	close(within[0]);
	assert_string_equal(rest_of(clear[1], got), row->want);
	rest_of(within[1], got);
	if (row->want_within)
		assert_string_equal(got, row->want_within);
	else {
		assert_null(strstr(got, "\r\nSTLS"));
		assert_non_null(strstr(got, ERR("TLS is there already")));
	}
	assert_string_equal(tried, row->tried);
	close(control[1]);
	if (front.control >= 0)
		close(front.control);
}

/* It is not read to its end, which need not come. */
static void
a_flood_behind_STLS(void **state)
{
	static char octets[2 * AUTHORIZATION_THROWN_MAX] = "STLS\r\n";
	struct server_tls front = { .by = SERVER_TLS_UCSPI, .engine.control = -1, .in = -1, .out = -1, .control = -1 };
	struct authorization_settings settings = plain;
	static struct authorization a;
	char got[MOST];
	int fd[2];

	(void)state;
	settings.offers_tls = 1;
	a.settings = &settings;
	a.front = &front;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(send(fd[1], octets, sizeof octets, MSG_DONTWAIT), sizeof octets);
	shutdown(fd[1], SHUT_WR);
	assert_int_equal(authorization_run(&a, fd[0], fd[0], NULL), AUTHORIZATION_REFUSED);
	close(fd[0]);
	assert_string_equal(rest_of(fd[1], got), HI ERR("nothing comes between STLS and the handshake"));
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 5 + FRONT_ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = octets_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(answers);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(a_challenge);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(tls_is_needed);
	tests[ROWS + 3] = (struct CMUnitTest)cmocka_unit_test(errors_without_end);
	tests[ROWS + 4] = (struct CMUnitTest)cmocka_unit_test(a_flood_behind_STLS);
	for (size_t i = 0; i < FRONT_ROWS; i++)
		tests[ROWS + 5 + i] = (struct CMUnitTest){ .name = front_rows[i].rule, .test_func = front_row_is_right, .initial_state = (void *)(uintptr_t)&front_rows[i] };
	return cmocka_run_group_tests_name("authorization", tests, NULL, NULL);
}
