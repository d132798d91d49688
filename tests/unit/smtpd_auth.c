/* AUTH in a session: which words are answered how, when a login counts, and what it changes; row S11 of the hostile inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "directory.h"
#include "login_client.h"
#include "login_runner.h"
#include "smtpd.h"
#include "bin-src/smtpd/submission.h"
#include "queued.h"

/* What stands in for qmail-authd and for a program: ana's secret is "x", bob cannot be known. */
static char asked[64];
static char told[64];		/* what qmail-submitd was asked, letter first */
static enum submission_answer verdict, share;
static int submission;		/* the connection to it, -1: it is away */
static int code;	/* of the program */

enum login_client_answer __wrap_login_client_check(struct login_client *c, int home, const char *login, const char *secret,
    const char *challenge, int to);
int __wrap_login_runner_run(int runner, int connection, const char *login, const char *secret, const char *challenge, int wait_ms);

enum login_client_answer
__wrap_login_client_check(struct login_client *c, int home, const char *login, const char *secret, const char *challenge, int to)
{
	assert_int_equal(home, -1);
	assert_int_equal(to, submission);
	assert_string_equal(challenge, "");
	snprintf(asked, sizeof asked, "%s/%s", login, secret);
	strcpy(c->account, "ana@me.test");
	strcpy(c->text, "away");
	return strcmp(login, "bob") == 0 ? LOGIN_CLIENT_UNKNOWN : strcmp(asked, "ana/x") == 0 ? LOGIN_CLIENT_RIGHT : LOGIN_CLIENT_WRONG;
}

int
__wrap_login_runner_run(int runner, int connection, const char *login, const char *secret, const char *challenge, int wait_ms)
{
	assert_int_equal(runner, 50);
	assert_int_equal(connection, -1);
	assert_int_equal(wait_ms, AUTH_PROGRAM_MS);
	assert_string_equal(challenge, "");
	snprintf(asked, sizeof asked, "%s/%s", login, secret);
	return code;
}

int __wrap_submission_connect(void);
enum submission_answer __wrap_submission_sender(int fd, const char *sender, char text[SUBMISSION_TEXT_MAX + 1]);
enum submission_answer __wrap_submission_message(int fd, unsigned long recipients, char text[SUBMISSION_TEXT_MAX + 1]);

int
__wrap_submission_connect(void)
{
	return submission;
}

enum submission_answer
__wrap_submission_sender(int fd, const char *sender, char text[SUBMISSION_TEXT_MAX + 1])
{
	assert_int_equal(fd, submission);
	snprintf(told, sizeof told, "S%s", sender);
	strcpy(text, "because");
	return verdict;
}

enum submission_answer
__wrap_submission_message(int fd, unsigned long recipients, char text[SUBMISSION_TEXT_MAX + 1])
{
	assert_int_equal(fd, submission);
	snprintf(told, sizeof told, "M%lu", recipients);
	strcpy(text, "because");
	return share;
}

static int
begin(void **state)
{
	submission = open("/dev/null", O_RDONLY | O_CLOEXEC);	/* of which only the number counts */
	verdict = share = SUBMISSION_YES;
	told[0] = '\0';
	smtpd_begin(state);
	smtpd_auth->is_on = smtpd_auth->needs_tls = 1;
	smtpd->is_tls = 1;
	asked[0] = '\0';
	return 0;
}

static int
end(void **state)
{
	if (smtpd->submission < 0 && submission >= 0 && fcntl(submission, F_GETFD) >= 0)
		close(submission);
	auth_end(smtpd);
	return smtpd_end(state);
}

static void
expect(const char *lines, const char *want)
{
	const char *got = smtpd_says(lines);

	if (strncmp(got, want, strlen(want)) != 0)
		fail_msg("%s: %s, not %s", lines, got, want);
}

#define EHLO "EHLO x.test|"
#define ANA "AGFuYQB4"		/* NUL ana NUL x */
#define MAIL "MAIL FROM:<s@x.test>"

/* --- exchanges --------------------------------------------------------------------------------------------------------- */

/* lines as for smtpd_says; sent: what the client has sent behind the last one; asked: about which login and secret. */
static const struct row { const char *rule, *lines, *sent, *want, *asked; } rows[] = {
	{ "PLAIN at once", EHLO "AUTH PLAIN " ANA, "", "235 2.7.0 authentication succeeded", "ana/x" },
	{ "in any case", EHLO "auth plain " ANA, "", "235 ", "ana/x" },
	{ "PLAIN when asked", EHLO "AUTH PLAIN", ANA "\r\n", "334 \r\n235 2.7.0 ", "ana/x" },
	{ "LOGIN", EHLO "AUTH LOGIN", "YW5h\r\neA==\r\n", "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n235 ", "ana/x" },
	{ "LOGIN with its name at once", EHLO "AUTH LOGIN YW5h", "eA==\r\n", "334 UGFzc3dvcmQ6\r\n235 ", "ana/x" },
	{ "S11: a secret of one octet that is wrong", EHLO "AUTH PLAIN AGFuYQB5", "", "535 5.7.8 authentication failed", "ana/y" },
	{ "who is nobody", EHLO "AUTH PLAIN AGV2ZQB4", "", "535 5.7.8 ", "eve/x" },
	{ "it cannot be known", EHLO "AUTH PLAIN AGJvYgB4", "", "454 4.7.0 unable to check logins now (#4.7.0)", "bob/x" },
	{ "S11: a login with a meaning to LDAP", EHLO "AUTH PLAIN ACopKHVpZD0qAHg=", "", "535 ", "*)(uid=*/x" },
	{ "S11: to SQL", EHLO "AUTH PLAIN ACcgT1IgMT0xIC0tAHg=", "", "535 ", "' OR 1=1 --/x" },
	{ "S11: to printf", EHLO "AUTH PLAIN ACVzJW4leAB4", "", "535 ", "%s%n%x/x" },
	{ "S11: of no characters", EHLO "AUTH PLAIN AP/+AHg=", "", "535 ", "\xff\xfe/x" },
	{ "for somebody else", EHLO "AUTH PLAIN ZXZlAGFuYQB4", "", "535 5.7.8 nobody acts for another here", "" },
	{ "for oneself", EHLO "AUTH PLAIN YW5hAGFuYQB4", "", "235 ", "ana/x" },
	{ "no mechanism", EHLO "AUTH", "", "501 5.5.4 syntax: AUTH ", "" },
	{ "another mechanism", EHLO "AUTH CRAM-MD5", "", "504 5.5.4 this mechanism is not known", "" },
	{ "a mechanism that goes on", EHLO "AUTH PLAINS " ANA, "", "504 ", "" },
	{ "S11: cancelled", EHLO "AUTH PLAIN", "*\r\n", "334 \r\n501 5.7.0 authentication cancelled", "" },
	{ "S11: cancelled at the second question", EHLO "AUTH LOGIN", "YW5h\r\n*\r\n", "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n501 5.7.0 ", "" },
	{ "S11: cancelled at once", EHLO "AUTH PLAIN *", "", "501 5.7.0 ", "" },
	{ "S11: no base64", EHLO "AUTH PLAIN !", "", "501 5.5.2 malformed response", "" },
	{ "S11: an initial response that is empty", EHLO "AUTH PLAIN =", "", "501 5.5.2 ", "" },
	{ "S11: a response that is empty", EHLO "AUTH PLAIN", "\r\n", "334 \r\n501 5.5.2 ", "" },
	{ "S11: padding alone", EHLO "AUTH PLAIN", "====\r\n", "334 \r\n501 5.5.2 ", "" },
	{ "S11: a part that is missing", EHLO "AUTH PLAIN YW5h", "", "501 5.5.2 ", "" },
	{ "S11: a NUL in the secret", EHLO "AUTH PLAIN AGFuYQB4AHk=", "", "501 5.5.2 ", "" },
	{ "two responses in one", EHLO "AUTH PLAIN " ANA " " ANA, "", "501 5.5.2 ", "" },
	{ "two blanks", EHLO "AUTH PLAIN  " ANA, "", "501 5.5.2 ", "" },
	{ "a bare LF, and more", EHLO "AUTH PLAIN", ANA "\nNOOP\r\n", "334 \r\n500 5.5.2 ", "" },
	{ "S3: a command behind the response", EHLO "AUTH PLAIN", ANA "\r\n" MAIL "\r\n", "334 \r\n503 5.5.1 you did not wait for the reply", "" },
	{ "S3: a command behind the second response", EHLO "AUTH LOGIN", "YW5h\r\neA==\r\n" MAIL "\r\n",
	    "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n503 5.5.1 ", "" },
	{ "twice", EHLO "AUTH PLAIN " ANA "|AUTH PLAIN " ANA, "", "503 5.5.1 you have logged in already", "ana/x" },
	{ "twice, with EHLO between", EHLO "AUTH PLAIN " ANA "|" EHLO "AUTH PLAIN " ANA, "", "503 5.5.1 ", "ana/x" },
	{ "within a transaction", EHLO MAIL "|AUTH PLAIN " ANA, "", "503 5.5.1 not within a mail transaction", "" },
	{ "after RSET", EHLO MAIL "|RSET|AUTH PLAIN " ANA, "", "235 ", "ana/x" },
	{ "between chunks", EHLO MAIL "|RCPT TO:<a@me.test>|BDAT 0|AUTH PLAIN " ANA, "", "503 5.5.1 ", "" },
	{ "without EHLO", "AUTH PLAIN " ANA, "", "503 EHLO first (#5.5.1)", "" },
	{ "after HELO", "HELO x.test|AUTH PLAIN " ANA, "", "503 EHLO first", "" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;
	const char *last = strrchr(row->lines, '|');
	char first[256];

	/* what is sent behind the last line must not be there before it */
	snprintf(first, sizeof first, "%.*s", last ? (int)(last - row->lines) : 0, row->lines);
	if (*first)
		smtpd_says(first);
	smtpd_sends(row->sent, strlen(row->sent));
	expect(last ? last + 1 : row->lines, row->want);
	assert_string_equal(asked, row->asked);
	assert_int_equal(smtpd->is_authenticated, strncmp(row->rule, "twice", 5) == 0 || strstr(row->want, "235 ") != NULL);
}

/* --- lines ---------------------------------------------------------------------------------------------------------------- */

static void
S11_a_response_above_the_bound(void **state)
{
	static char line[12290];

	(void)state;
	memset(line, 'A', 12286);
	strcpy(line + 12286, "\r\n");
	smtpd_says("EHLO x.test");
	smtpd_sends(line, 12288);
	expect("AUTH PLAIN", "334 \r\n500 5.5.6 the line is too long");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
}

static void
S11_a_response_with_a_NUL(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test");
	smtpd_sends("AG\0uYQB4\r\n", 10);
	expect("AUTH PLAIN", "334 \r\n501 5.5.2 malformed response");
}

static void
who_closes_instead_of_an_answer(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test");
	smtpd_closes();
	expect("AUTH PLAIN", "334 ");
	assert_int_equal(smtpd->end, SESSION_CLOSED);
	assert_false(smtpd->is_authenticated);
}

static void
what_does_not_wait_for_the_reply(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test");
	smtpd->in.end = 1;	/* an octet has come */
	expect("AUTH PLAIN " ANA, "503 5.5.1 you did not wait for the reply to this command");
	assert_string_equal(asked, "");
	assert_int_equal(smtpd->end, SESSION_REFUSED);
}

static void
secrets_do_not_stay_in_the_input(void **state)
{
	static const char secret[] = "AGFuYQB4";

	(void)state;
	smtpd_says("EHLO x.test");
	smtpd_sends("AGFuYQB4\r\n", 10);
	expect("AUTH PLAIN", "334 \r\n235 ");
	assert_null(memmem(smtpd->in.buffer, sizeof smtpd->in.buffer, secret, sizeof secret - 1));
}

/* --- when --------------------------------------------------------------------------------------------------------------------- */

static void
set(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

static void
what_the_environment_says(void **state)
{
	static const struct { const char *smtpauth, *forcetls; int is_on, is_required, needs_tls; } wants[] = {
		{ NULL, NULL, 0, 0, 1 }, { "-", NULL, 0, 0, 1 }, { "0", NULL, 0, 0, 1 }, { "", NULL, 1, 0, 1 }, { "1", NULL, 1, 0, 1 },
		{ "+cram", NULL, 1, 0, 1 }, { "cram", NULL, 0, 0, 1 }, { "!", NULL, 1, 1, 1 }, { "!+cram", NULL, 1, 1, 1 },
		{ "", "0", 1, 0, 0 }, { "", "1", 1, 0, 1 }, { "", "", 1, 0, 1 },
	};
	struct auth a;

	(void)state;
	for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
		set("SMTPAUTH", wants[i].smtpauth);
		set("FORCETLS", wants[i].forcetls);
		assert_int_equal(auth_start(&a, NULL, -1), 1);
		assert_int_equal(a.is_on, wants[i].is_on);
		assert_int_equal(a.is_required, wants[i].is_required);
		assert_int_equal(a.needs_tls, wants[i].needs_tls);
		assert_int_equal(a.runner, -1);
	}
	set("SMTPAUTH", NULL);
	set("FORCETLS", NULL);
}

static void
EHLO_offers_it_where_it_may_be_used(void **state)
{
	(void)state;
	assert_non_null(strstr(smtpd_says("EHLO x.test"), "\r\n250-AUTH PLAIN LOGIN\r\n"));
	assert_null(strstr(smtpd_says(EHLO "AUTH PLAIN " ANA "|EHLO x.test"), "AUTH"));
	end(state);
	begin(state);
	smtpd->is_tls = 0;
	assert_null(strstr(smtpd_says("EHLO x.test"), "AUTH"));
	smtpd_auth->needs_tls = 0;
	assert_non_null(strstr(smtpd_says("EHLO x.test"), "\r\n250-AUTH PLAIN LOGIN\r\n"));
	smtpd_auth->is_on = 0;
	assert_null(strstr(smtpd_says("EHLO x.test"), "AUTH"));
}

static void
not_without_TLS(void **state)
{
	(void)state;
	smtpd->is_tls = 0;
	expect(EHLO "AUTH PLAIN " ANA, "538 5.7.11 encryption is required: STARTTLS first");
	smtpd->tls->is_required = 1;
	expect("AUTH PLAIN " ANA, "538 5.7.11 ");
	assert_string_equal(asked, "");
	smtpd_auth->needs_tls = 0;
	expect("AUTH PLAIN " ANA, "235 ");
}

static void
not_where_it_is_off(void **state)
{
	(void)state;
	smtpd_auth->is_on = 0;
	expect(EHLO "AUTH PLAIN " ANA, "502 5.5.1 unimplemented");
}

static void
too_many_failures(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test");
	for (int i = 1; i < AUTH_FAILURES_MAX; i++)
		expect("AUTH PLAIN AGFuYQB5", "535 ");
	expect("AUTH PLAIN AGFuYQB5", "421 4.7.0 authentication failed too often");
	assert_int_equal(smtpd->end, SESSION_REFUSED);
	assert_string_equal(smtpd->reason, "too many failed logins");
}

static void
what_cannot_be_known_is_no_failure(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test");
	for (int i = 0; i < 2 * AUTH_FAILURES_MAX; i++)
		expect("AUTH PLAIN AGJvYgB4", "454 ");
	expect("AUTH PLAIN " ANA, "235 ");
	assert_non_null(strstr(smtpd_logged(), " command=AUTH argument=<bob> reason=\"away\"\n"));
}

/* --- what it brings --------------------------------------------------------------------------------------------------------------- */

#define FAR "|" MAIL "|RCPT TO:<a@far.test>"

static void
who_has_logged_in_may_relay(void **state)
{
	(void)state;
	expect("EHLO x.test" FAR, "553 ");
	expect("EHLO x.test|AUTH PLAIN " ANA FAR, "250 2.1.5 ok");
	smtpd_sends("x\r\n.\r\n", 6);
	expect("DATA", "354 go ahead\r\n250 ");
	assert_non_null(strstr(queued.message, " (ana@me.test@192.0.2.1)\n"));
	assert_non_null(strstr(smtpd_logged(), " auth=ana@me.test relay=yes from=<s@x.test> "));
}

static void
what_is_submitted_is_completed(void **state)
{
	static const char data[] = "To: a\r\nBcc: b\r\n\r\n..x\r\n.\r\n";

	(void)state;
	smtpd_says(EHLO MAIL "|RCPT TO:<a@me.test>");
	smtpd_sends(data, sizeof data - 1);
	smtpd_says("DATA");
	assert_non_null(strstr(queued.message, "\nTo: a\nBcc: b\n\n.x\n"));	/* a stranger's mail is as it was */
	smtpd_says("AUTH PLAIN " ANA "|" MAIL "|RCPT TO:<a@me.test>");
	smtpd_sends(data, sizeof data - 1);
	smtpd_says("DATA");
	assert_non_null(strstr(queued.message, "\nTo: a\nDate: "));
	assert_non_null(strstr(queued.message, ".qmail@me.test>\n\n.x\n"));
	assert_null(strstr(queued.message, "Bcc"));
}

static void
a_failure_lets_nobody_relay(void **state)
{
	(void)state;
	expect(EHLO "AUTH PLAIN AGFuYQB5" FAR, "553 ");
	expect("AUTH PLAIN AGJvYgB4" FAR, "553 ");
}

static void
the_value_of_RELAYCLIENT_stays(void **state)
{
	(void)state;
	smtpd->relayclient = "@via.test";
	smtpd_says(EHLO "AUTH PLAIN " ANA);
	assert_string_equal(smtpd->relayclient, "@via.test");
}

static void
EHLO_forgets_no_login(void **state)
{
	(void)state;
	expect(EHLO "AUTH PLAIN " ANA "|EHLO x.test" FAR, "250 ");
}

static void
STARTTLS_forgets_it(void **state)
{
	(void)state;
	smtpd->is_tls = smtpd_auth->needs_tls = 0;
	smtpd->tls->by = SERVER_TLS_ENGINE;
	expect(EHLO "AUTH PLAIN " ANA, "235 ");
	smtpd_says("STARTTLS");
	assert_int_equal(smtpd->submission, -1);
	assert_true(smtpd->is_tls);
	assert_false(smtpd->is_authenticated);
	assert_string_equal(smtpd->peer.info, "");
	expect("EHLO x.test" FAR, "553 ");
}

static void
MAIL_needs_it_where_it_is_required(void **state)
{
	(void)state;
	smtpd_auth->is_required = 1;
	smtpd->relayclient = "";	/* whatever the rules say of the address */
	expect(EHLO MAIL, "530 5.7.0 authentication is required (#5.7.0)");
	expect("RCPT TO:<a@me.test>", "503 ");
	expect("BDAT 0 LAST", "503 ");
	expect("AUTH PLAIN " ANA "|" MAIL, "250 ");
}

static void
and_TLS_first(void **state)
{
	(void)state;
	smtpd_auth->is_required = 1;
	smtpd->is_tls = 0;
	expect(EHLO MAIL, "530 5.7.0 must issue a STARTTLS command first (#5.7.0)");
}

/* --- whose senders, and how many messages -------------------------------------------------------------------------------------- */

static void
what_qmail_submitd_says_of_a_sender(void **state)
{
	static const struct { enum submission_answer answer; const char *want; enum session_end end; } wants[] = {
		{ SUBMISSION_YES, "250 2.1.0 ok", SESSION_GOES_ON },
		{ SUBMISSION_NO, "553 5.7.1 because (#5.7.1)", SESSION_GOES_ON },
		{ SUBMISSION_FULL, "450 4.7.1 because (#4.7.1)", SESSION_GOES_ON },
		{ SUBMISSION_UNKNOWN, "421 4.3.0 unable to check what you may send (#4.3.0)", SESSION_BROKEN },
	};

	for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
		end(state);
		begin(state);
		verdict = wants[i].answer;
		expect(EHLO "AUTH PLAIN " ANA "|" MAIL, wants[i].want);
		assert_string_equal(told, "Ss@x.test");
		assert_int_equal(smtpd->end, wants[i].end);
		assert_int_equal(smtpd->phase, wants[i].answer == SUBMISSION_YES ? PHASE_SENDER : PHASE_IDLE);
	}
}

#define TRANSACTION EHLO "AUTH PLAIN " ANA "|" MAIL "|RCPT TO:<a@far.test>|RCPT TO:<b@far.test>"

static void
a_message_is_asked_about_with_its_recipients(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	smtpd_sends("x\r\n.\r\n", 6);
	expect("DATA", "354 go ahead\r\n250 ");
	assert_string_equal(told, "M2");
}

static void
a_message_too_many(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	share = SUBMISSION_FULL;
	expect("DATA", "450 4.7.1 because (#4.7.1)");
	assert_int_equal(queued.ended, 0);
	assert_non_null(strstr(smtpd_logged(), " recipients=2 size=0 result=deferred reason=\"because\"\n"));
	share = SUBMISSION_YES;
	expect("DATA", "503 ");
}

/* It has no size: none of its octets came, and those of the one before do not count. */
static void
a_message_too_many_behind_another(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	smtpd_sends("x\r\n.\r\n", 6);
	expect("DATA", "354 go ahead\r\n250 ");
	share = SUBMISSION_FULL;
	smtpd_says(MAIL "|RCPT TO:<a@far.test>");
	expect("DATA", "450 ");
	assert_non_null(strstr(smtpd_logged(), " size=0 result=deferred "));
	smtpd_says(MAIL "|RCPT TO:<a@far.test>");
	smtpd_sends("abc", 3);
	expect("BDAT 3 LAST", "450 ");
	assert_non_null(strstr(smtpd_logged(), " size=0 result=deferred "));
}

static void
a_message_too_many_in_chunks(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	share = SUBMISSION_FULL;
	smtpd_sends("abcNOOP\r\n", 9);
	expect("BDAT 3", "450 4.7.1 because (#4.7.1)");
	expect("BDAT 0 LAST", "503 5.5.1 this message was refused");
	assert_int_equal(queued.ended, 0);
	assert_false(queued.is_open);
}

static void
a_message_too_many_in_one_chunk(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	share = SUBMISSION_FULL;
	smtpd_sends("abc", 3);
	expect("BDAT 3 LAST", "450 4.7.1 because (#4.7.1)");
	assert_true(input_is_empty(&smtpd->in));
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	assert_int_equal(queued.ended, 0);
}

/* What control/submissionauthors demands, what qmail-submitd says of an address, and the last that it was told. */
static const struct author_row {
	const char *rule;
	enum submission_answer verdict;
	unsigned int demand;
	const char *message, *want, *told;
} authors[] = {
#define EVES "From: eve@x.test\r\n"
	{ "an author who is not asked about", SUBMISSION_NO, AUTHORS_ANY, EVES, "250 ", "M1" },
	{ "an author of the login", SUBMISSION_YES, AUTHORS_FROM, EVES, "250 ", "Seve@x.test" },
	{ "another's author", SUBMISSION_NO, AUTHORS_FROM, EVES, "550 5.7.1 sorry, who this message is from does not belong to your login", "Seve@x.test" },
	{ "an author that cannot be known", SUBMISSION_UNKNOWN, AUTHORS_FROM, EVES, "421 4.3.0 unable to check who this message is from", "Seve@x.test" },
	{ "no author", SUBMISSION_YES, AUTHORS_FROM, "To: b@x.test\r\n", "550 ", "M1" },
	{ "no header", SUBMISSION_YES, AUTHORS_SENDER, "", "550 ", "M1" },
	{ "an author in the body", SUBMISSION_YES, AUTHORS_FROM, "Subject: x\r\n\r\n" EVES, "550 ", "M1" },
	{ "a mailbox's line", SUBMISSION_YES, AUTHORS_FROM, "From eve@x.test: x\r\nTo: a\r\n", "550 ", "M1" },
	{ "who has sent it", SUBMISSION_YES, AUTHORS_SENDER, EVES "sender : bo@x.test\r\n", "250 ", "Sbo@x.test" },
	{ "a Sender that does not count", SUBMISSION_NO, AUTHORS_FROM, EVES "Sender: bo@x.test\r\n", "550 ", "Seve@x.test" },
	{ "a Resent-Sender", SUBMISSION_YES, AUTHORS_SENDER, "Resent-Sender: bo@x.test\r\n" EVES, "250 ", "Seve@x.test" },
};
enum { AUTHORS = sizeof authors / sizeof *authors };

static void
author_is_right(void **state)
{
	const struct author_row *row = *state;
	char want[128];

	smtpd->settings->numbers[NUMBER_AUTHORS] = row->demand;
	smtpd_says(EHLO "AUTH PLAIN " ANA "|" MAIL "|RCPT TO:<a@far.test>");
	verdict = row->verdict;
	smtpd_sends(row->message, strlen(row->message));
	smtpd_sends("\r\n.\r\n", 5);
	snprintf(want, sizeof want, "354 go ahead\r\n%s", row->want);
	expect("DATA", want);
	assert_string_equal(told, row->told);
	assert_int_equal(queued.ended, *row->want == '2');
	assert_false(*row->want != '2' && queued.is_open);
	/* an answer that comes yet would be one to the next question */
	assert_int_equal(smtpd->end, row->verdict == SUBMISSION_UNKNOWN ? SESSION_BROKEN : SESSION_GOES_ON);
	smtpd->settings->numbers[NUMBER_AUTHORS] = AUTHORS_ANY;
}

/* The next one is looked at anew. */
static void
an_author_of_the_message_before(void **state)
{
	(void)state;
	smtpd->settings->numbers[NUMBER_AUTHORS] = AUTHORS_FROM;
	smtpd_says(EHLO "AUTH PLAIN " ANA "|" MAIL "|RCPT TO:<a@far.test>");
	smtpd_sends(EVES "\r\n", 20);
	expect("BDAT 20 LAST", "250 ");
	smtpd_says(MAIL "|RCPT TO:<a@far.test>");
	smtpd_sends("\r\n", 2);
	expect("BDAT 2 LAST", "550 5.7.1 ");
	smtpd_says(MAIL "|RCPT TO:<a@far.test>");
	smtpd_sends(EVES "\r\n", 20);
	expect("BDAT 20 LAST", "250 ");
	assert_int_equal(queued.ended, 2);
	smtpd->settings->numbers[NUMBER_AUTHORS] = AUTHORS_ANY;
}

static void
without_qmail_submitd_nobody_logs_in(void **state)
{
	(void)state;
	close(submission);
	submission = -1;
	expect(EHLO "AUTH PLAIN " ANA, "454 4.7.0 unable to check logins now");
	assert_string_equal(asked, "");
}

static void
who_has_not_logged_in_is_not_asked_about(void **state)
{
	(void)state;
	verdict = share = SUBMISSION_NO;
	expect(EHLO MAIL "|RCPT TO:<a@me.test>", "250 ");
	smtpd_sends("x\r\n.\r\n", 6);
	expect("DATA", "354 go ahead\r\n250 ");
	assert_string_equal(told, "");
}

static void
FORCEAUTHMAILFROM_0_asks_about_no_sender(void **state)
{
	(void)state;
	smtpd_auth->owns_sender = 0;
	verdict = SUBMISSION_NO;
	expect(EHLO "AUTH PLAIN " ANA "|" MAIL, "250 ");
	assert_string_equal(told, "");
}

static void
what_a_program_has_checked(void **state)
{
	static const struct { int owns; const char *line, *want; } wants[] = {
		{ -1, MAIL, "250 " }, { 0, MAIL, "250 " }, { 1, MAIL, "553 5.7.1 sorry, this sender is not your login" },
		{ 1, "MAIL FROM:<ana>", "250 " }, { 1, "MAIL FROM:<ANA>", "250 " },
	};

	(void)state;
	smtpd_auth->runner = 50;
	code = 0;
	smtpd_says(EHLO "AUTH PLAIN " ANA);
	for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
		smtpd_auth->owns_sender = wants[i].owns;
		expect(wants[i].line, wants[i].want);
	}
	assert_string_equal(told, "");
}

/* --- programs ------------------------------------------------------------------------------------------------------------------------- */

static void
what_a_program_says(void **state)
{
	static const struct { int code; const char *want; } wants[] = {
		{ 0, "235 " }, { 1, "535 " }, { 20, "535 " }, { 2, "454 " }, { 100, "454 " }, { 111, "454 " }, { -1, "454 " },
	};

	for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
		end(state);
		begin(state);
		smtpd_auth->runner = 50;
		code = wants[i].code;
		expect(EHLO "AUTH PLAIN " ANA, wants[i].want);
		assert_string_equal(asked, "ana/x");
		assert_int_equal(strstr(smtpd_logged(), "qmail-smtpd: login failed: ip=192.0.2.1 user=ana for=check reason=wrong\n") != NULL,
		    wants[i].want[0] == '5');
	}
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	struct CMUnitTest tests[ROWS + AUTHORS + 30] = {
		test(S11_a_response_above_the_bound),
		test(S11_a_response_with_a_NUL),
		test(who_closes_instead_of_an_answer),
		test(what_does_not_wait_for_the_reply),
		test(secrets_do_not_stay_in_the_input),
		test(what_the_environment_says),
		test(EHLO_offers_it_where_it_may_be_used),
		test(not_without_TLS),
		test(not_where_it_is_off),
		test(too_many_failures),
		test(what_cannot_be_known_is_no_failure),
		test(who_has_logged_in_may_relay),
		test(a_failure_lets_nobody_relay),
		test(the_value_of_RELAYCLIENT_stays),
		test(EHLO_forgets_no_login),
		test(STARTTLS_forgets_it),
		test(MAIL_needs_it_where_it_is_required),
		test(and_TLS_first),
		test(what_a_program_says),
		test(what_is_submitted_is_completed),
		test(what_qmail_submitd_says_of_a_sender),
		test(a_message_is_asked_about_with_its_recipients),
		test(a_message_too_many),
		test(a_message_too_many_behind_another),
		test(a_message_too_many_in_chunks),
		test(a_message_too_many_in_one_chunk),
		test(without_qmail_submitd_nobody_logs_in),
		test(who_has_not_logged_in_is_not_asked_about),
		test(FORCEAUTHMAILFROM_0_asks_about_no_sender),
		test(what_a_program_has_checked),
		test(an_author_of_the_message_before),
	};
	size_t n = 30;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = row_is_right, .setup_func = begin, .teardown_func = end,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < AUTHORS; i++)
		tests[n++] = (struct CMUnitTest){ .name = authors[i].rule, .test_func = author_is_right, .setup_func = begin, .teardown_func = end,
		    .initial_state = (void *)(uintptr_t)&authors[i] };
	return _cmocka_run_group_tests("smtpd_auth", tests, n, smtpd_home, directory_remove);
}
