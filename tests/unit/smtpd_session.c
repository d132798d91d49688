/* Whole sessions on descriptors 0 and 1: how they begin and end, and what is said last. The client is a script of server.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "directory.h"
#include "server.h"
#include "smtpd.h"
#include "queued.h"

static const char *said;	/* by the session */

/* Both descriptors are the connection meanwhile: nothing is asserted here. */
static enum session_end
run_on(int connection)
{
	int in = dup(STDIN_FILENO), out = dup(STDOUT_FILENO);
	enum session_end end;

	fflush(stdout);
	dup2(connection, STDIN_FILENO);
	dup2(connection, STDOUT_FILENO);
	end = session_run(smtpd);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	close(in);
	close(out);
	return end;
}

static enum session_end
runs(const struct server_step *client)
{
	int connection = server_start(client);
	enum session_end r;

	assert_int_equal(fcntl(connection, F_SETFL, 0), 0);	/* sessions wait */
	r = run_on(connection);
	close(connection);
	said = server_end();
	smtpd->in.fd = -1;
	return r;
}

static int
begin(void **state)
{
	smtpd_begin(state);
	close(smtpd->in.fd);
	return 0;
}

static int
end(void **state)
{
	unsetenv("RELAYCLIENT");
	server_end();
	return smtpd_end(state);
}

static void
expect_said(const char *want)
{
	assert_string_equal(said, want);
}

/* --- ends ------------------------------------------------------------------------------------------------------------ */

#define HI "220 me.test ESMTP\r\n"
#define LINE_END "500 a line ends with CR LF (#5.5.2)\r\n"
#define BARE "500 a line ends with CR LF, and neither stands alone (#5.5.2)\r\n"
#define OK "250 ok\r\n"

/* octets: sent after the greeting; then the client waits, or closes. */
static const struct row { const char *rule, *octets; int closes; enum session_end end; const char *reason, *said; unsigned long errors; } rows[] = {
	{ "QUIT", "QUIT\r\n", 0, SESSION_QUIT, "", HI "221 me.test\r\n", 0 },
	{ "what follows QUIT is not run", "QUIT\r\nNOOP\r\n", 0, SESSION_QUIT, "", HI "221 me.test\r\n", 0 },
	{ "a line that is not whole is none", "QUIT", 1, SESSION_CLOSED, "", HI, 0 },
	{ "a bare LF within a group", "NOOP\nQUIT\r\n", 0, SESSION_REFUSED, "bare CR or LF in commands", HI BARE, 0 },
	{ "a bare CR", "NOOP\rQUIT\r\n", 0, SESSION_REFUSED, "bare CR or LF in commands", HI BARE, 0 },
	{ "CR CR LF", "NOOP\r\r\n", 0, SESSION_REFUSED, "bare CR or LF in commands", HI BARE, 0 },
	{ "a record of TLS", "\x16\x03\x01\r\n", 0, SESSION_REFUSED, "TLS without STARTTLS", HI "500 this port speaks SMTP, not TLS (#5.5.1)\r\n", 0 },
	{ "its octet later on is a word", "NOOP\r\n\x16\r\nQUIT\r\n", 0, SESSION_QUIT, "", HI OK "502 unimplemented (#5.5.1)\r\n221 me.test\r\n", 1 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;
	struct server_step client[] = { { "\r\n", row->octets }, { row->closes ? "" : NULL, NULL }, { 0 } };

	assert_int_equal(runs(client), row->end);
	assert_string_equal(smtpd->reason, row->reason);
	assert_int_equal(smtpd->errors, row->errors);
	expect_said(row->said);
}

static const struct server_step silent[] = { { 0 } };

static void
a_client_that_says_nothing(void **state)
{
	(void)state;
	smtpd->settings->numbers[NUMBER_TIMEOUT] = 0;
	assert_int_equal(runs(silent), SESSION_TIMEOUT);
	expect_said(HI "451 timeout (#4.4.2)\r\n");
}

/* Milliseconds that a session in a process of its own lets its client be silent. */
static uint64_t
silence_in_another_process(void)
{
	static const struct server_step client[] = { { "\r\n", "QUIT\r\n" }, { 0 } };
	int ends[2], wstat;
	uint64_t ms = 0;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		runs(client);
		_exit(write(ends[1], &smtpd->in.timeout_ms, sizeof ms) != sizeof ms);
	}
	assert_int_equal(read(ends[0], &ms, sizeof ms), sizeof ms);
	assert_int_equal(waitpid(pid, &wstat, 0), pid);
	close(ends[0]);
	close(ends[1]);
	return ms;
}

static void
each_process_waits_up_to_a_tenth_longer(void **state)
{
	uint64_t first, ms;
	int others = 0;

	(void)state;
	smtpd->settings->numbers[NUMBER_TIMEOUT] = 300;
	first = silence_in_another_process();
	for (int i = 0; i < 5; i++) {
		ms = silence_in_another_process();
		assert_in_range(ms, 300000, 330000);
		others += ms != first;
	}
	assert_int_equal(others, 5);
}

static void
a_session_that_lasts_too_long(void **state)
{
	(void)state;
	smtpd->settings->numbers[NUMBER_SESSION] = 0;
	assert_int_equal(runs(silent), SESSION_OVER);
	expect_said(HI "421 the session has lasted too long (#4.4.2)\r\n");
}

/* Commands that have come already take no longer than the session may last. */
static void
a_group_of_commands_that_lasts_too_long(void **state)
{
	static const struct server_step client[] = { { "\r\n", "MAIL FROM:<s@x.test>\r\nRCPT TO:<a@me.test>\r\nRCPT TO:<a@me.test>\r\n"
		"RCPT TO:<a@me.test>\r\nNOOP\r\n" }, { 0 } };

	(void)state;
	smtpd->settings->numbers[NUMBER_SESSION] = smtpd->settings->numbers[NUMBER_TARPITCOUNT] = smtpd->settings->numbers[NUMBER_TARPITDELAY] = 1;
	assert_int_equal(runs(client), SESSION_OVER);
	expect_said(HI "250 ok\r\n250 ok\r\n250 ok\r\n421 the session has lasted too long (#4.4.2)\r\n");
}

static void
a_server_that_is_being_stopped(void **state)
{
	(void)state;
	smtpd_is_stopping = 1;
	assert_int_equal(runs(silent), SESSION_STOPPED);
	expect_said(HI "421 the server is being stopped (#4.3.2)\r\n");
}

static void
a_transaction_is_given_up_with_its_session(void **state)
{
	static const struct server_step client[] = { { "\r\n", "EHLO x.test\r\n" }, { "\r\n250 LIMITS MAILMAX=100000 RCPTMAX=1000\r\n",
		"MAIL FROM:<s@x.test>\r\nRCPT TO:<a@me.test>\r\nBDAT 3\r\na\r\n" }, { "octets received\r\n", NULL } };

	(void)state;
	assert_int_equal(runs(client), SESSION_CLOSED);
	assert_int_equal(queued.abandoned, 1);
	assert_int_equal(queued.ended, 0);
	assert_int_equal(smtpd->phase, PHASE_IDLE);
}

/* --- lines ------------------------------------------------------------------------------------------------------------- */

/* "NOOP", blanks, and CRLF: len octets, then QUIT. */
static enum session_end
runs_line_of(size_t len)
{
	char *octets = test_malloc(len + 7);
	const struct server_step client[] = { { "\r\n", octets }, { 0 } };
	enum session_end r;

	memset(octets, ' ', len);
	memcpy(octets, "NOOP", 4);
	memcpy(octets + len - 2, "\r\nQUIT\r\n", 9);
	r = runs(client);
	test_free(octets);
	return r;
}

static void
the_longest_line(void **state)
{
	(void)state;
	assert_int_equal(runs_line_of(INPUT_LINE_MAX), SESSION_QUIT);
	expect_said(HI OK "221 me.test\r\n");
}

static void
a_line_of_one_octet_more(void **state)
{
	(void)state;
	assert_int_equal(runs_line_of(INPUT_LINE_MAX + 1), SESSION_QUIT);
	expect_said(HI "500 line too long (#5.5.2)\r\n221 me.test\r\n");
	assert_int_equal(smtpd->errors, 1);
}

static void
a_line_without_end(void **state)
{
	(void)state;
	assert_int_equal(runs_line_of(INPUT_ENDLESS + 3), SESSION_REFUSED);
	assert_string_equal(smtpd->reason, "line without end");
}

static void
a_bare_LF_that_nothing_follows_is_an_error_of_form(void **state)
{
	static const struct server_step client[] = { { "\r\n", "NOOP\n" }, { LINE_END, "QUIT\r\n" }, { 0 } };

	(void)state;
	assert_int_equal(runs(client), SESSION_QUIT);
	expect_said(HI LINE_END "221 me.test\r\n");
	assert_int_equal(smtpd->errors, 1);
}

/* --- the greeting ------------------------------------------------------------------------------------------------------ */

static const struct server_step hasty[] = { { "", "QUIT\r\n" }, { 0 } };

static void
who_speaks_before_the_greeting_is_not_greeted(void **state)
{
	(void)state;
	smtpd->settings->numbers[NUMBER_GREETDELAY] = 60;
	assert_int_equal(runs(hasty), SESSION_REFUSED);
	assert_string_equal(smtpd->reason, "spoke before the greeting");
	expect_said("554 you spoke before the greeting (#5.5.1)\r\n");
}

static void
who_only_closes_has_not_spoken(void **state)
{
	static const struct server_step client[] = { { "", NULL }, { 0 } };

	(void)state;
	smtpd->settings->numbers[NUMBER_GREETDELAY] = 60;
	assert_int_equal(runs(client), SESSION_CLOSED);
	assert_string_equal(smtpd->reason, "");
	expect_said("");
}

static void
who_may_relay_is_greeted_at_once(void **state)
{
	(void)state;
	setenv("RELAYCLIENT", "", 1);
	smtpd->settings->numbers[NUMBER_GREETDELAY] = 60;
	assert_int_equal(runs(hasty), SESSION_QUIT);
	expect_said(HI "221 me.test\r\n");
}

static void
a_long_greeting_is_one_line(void **state)
{
	struct settings *s = smtpd->settings;
	stralloc greeting = STRALLOC_ZERO;
	size_t len;

	(void)state;
	while (greeting.len < 1000)
		assert_true(stralloc_cats(&greeting, "me.test "));
	assert_true(stralloc_0(&greeting));
	greeting.len--;
	s->greeting = greeting;
	s->numbers[NUMBER_TIMEOUT] = 0;
	assert_int_equal(runs(silent), SESSION_TIMEOUT);
	len = strcspn(said, "\r");
	assert_in_range(len, 400, 510);
	assert_memory_equal(said + len - 6, " ESMTP\r\n", 8);
	stralloc_free(&greeting);
}

/* --- one after another --------------------------------------------------------------------------------------------------- */

static void
a_session_knows_nothing_of_the_one_before(void **state)
{
	static const struct server_step first[] = { { "\r\n", "EHLO x.test\r\n" }, { "RCPTMAX=1000\r\n", "X\r\nMAIL FROM:<s@x.test>\r\nRCPT TO:<a@y.test>\r\n"
		"RCPT TO:<a@me.test>\r\nQUIT\r\n" }, { 0 } };

	(void)state;
	assert_int_equal(runs(first), SESSION_QUIT);
	assert_int_equal(smtpd->errors, 1);
	assert_int_equal(smtpd->refused, 1);
	assert_int_equal(smtpd->recipients, 1);
	smtpd_logged();
	setenv("RELAYCLIENT", "", 1);
	assert_int_equal(runs(hasty), SESSION_QUIT);
	expect_said(HI "221 me.test\r\n");	/* without enhanced codes */
	assert_int_equal(smtpd->errors + smtpd->refused + smtpd->recipients + smtpd->mails, 0);
	assert_int_equal(smtpd->refused_lately + smtpd->idle + smtpd->excess, 0);
	assert_int_equal(smtpd->commands, 1);
	assert_int_equal(smtpd->helo.len, 0);
	assert_non_null(smtpd->relayclient);
}

/* --- TLS ------------------------------------------------------------------------------------------------------------------ */

#define READY "220 2.0.0 ready to start TLS\r\n"
#define EHLO_END "RCPTMAX=1000\r\n"

static void
STARTTLS_in_a_session(void **state)
{
	static const struct server_step client[] = { { "\r\n", "EHLO x.test\r\n" }, { EHLO_END, "STARTTLS\r\n" }, { READY, "NOOP\r\nMAIL FROM:<s@x.test>\r\n" },
		{ "(#5.5.1)\r\n", NULL } };

	(void)state;
	smtpd->tls->by = SERVER_TLS_ENGINE;
	smtpd_tls.end = "TLS ended: it broke";
	assert_int_equal(runs(client), SESSION_CLOSED);
	assert_string_equal(smtpd->reason, "TLS ended: it broke");
	assert_int_equal(smtpd->is_tls, 1);
	assert_string_equal(strstr(said, READY), READY OK "503 EHLO first (#5.5.1)\r\n");
}

/* Row S3. */
static void
what_came_with_STARTTLS_is_not_run(void **state)
{
	static const struct server_step client[] = { { "\r\n", "STARTTLS\r\nRSET\r\nMAIL FROM:<evil@x.test>\r\n" }, { 0 } };

	(void)state;
	smtpd->tls->by = SERVER_TLS_ENGINE;
	assert_int_equal(runs(client), SESSION_REFUSED);
	expect_said(HI "503 you did not wait for the reply to this command (#5.5.1)\r\n");
	assert_int_equal(smtpd_tls.started, 0);
}

static const struct server_step quits[] = { { "\r\n", "QUIT\r\n" }, { 0 } };

static void
TLS_at_once(void **state)
{
	(void)state;
	smtpd->is_immediate = 1;
	assert_int_equal(runs(quits), SESSION_QUIT);
	assert_int_equal(smtpd_tls.started, 1);
	assert_int_equal(smtpd->is_tls, 1);
	expect_said(HI "221 me.test\r\n");
}

/* Nothing is said in the clear. */
static void
TLS_at_once_that_there_is_none(void **state)
{
	(void)state;
	smtpd->is_immediate = 1;
	smtpd_tls.is_there = 0;
	assert_int_equal(runs(silent), SESSION_BROKEN);
	assert_string_equal(smtpd->reason, "no TLS: busy");
	expect_said("");
}

static void
TLS_at_once_that_fails(void **state)
{
	(void)state;
	smtpd->is_immediate = 1;
	smtpd_tls.succeeds = 0;
	assert_int_equal(runs(silent), SESSION_REFUSED);
	assert_string_equal(smtpd->reason, "no TLS: too slow");
	expect_said("");
}

/* By a server in front. */
static void
TLS_that_is_on_already(void **state)
{
	(void)state;
	smtpd->is_immediate = smtpd->tls->is_on = smtpd->tls->is_required = 1;
	assert_int_equal(runs(quits), SESSION_QUIT);
	assert_int_equal(smtpd_tls.started, 0);
	assert_int_equal(smtpd->is_tls, 1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest others[] = {
		TEST(a_client_that_says_nothing), TEST(each_process_waits_up_to_a_tenth_longer),
		TEST(a_session_that_lasts_too_long), TEST(a_group_of_commands_that_lasts_too_long), TEST(a_server_that_is_being_stopped),
		TEST(a_transaction_is_given_up_with_its_session),
		TEST(the_longest_line), TEST(a_line_of_one_octet_more), TEST(a_line_without_end), TEST(a_bare_LF_that_nothing_follows_is_an_error_of_form),
		TEST(who_speaks_before_the_greeting_is_not_greeted), TEST(who_only_closes_has_not_spoken), TEST(who_may_relay_is_greeted_at_once), TEST(a_long_greeting_is_one_line),
		TEST(a_session_knows_nothing_of_the_one_before), TEST(STARTTLS_in_a_session), TEST(what_came_with_STARTTLS_is_not_run), TEST(TLS_at_once),
		TEST(TLS_at_once_that_there_is_none), TEST(TLS_at_once_that_fails), TEST(TLS_that_is_on_already),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, begin, end, (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	signal(SIGPIPE, SIG_IGN);	/* as the program does */
	return cmocka_run_group_tests_name("smtpd_session", tests, smtpd_home, directory_remove);
}
