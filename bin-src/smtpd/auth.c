#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "auth.h"
#include "author.h"
#include "checkpassword.h"
#include "exitcode.h"
#include "login_client.h"
#include "login_runner.h"
#include "sasl.h"
#include "session.h"
#include "stralloc_set.h"
#include "submission.h"

/* --- what is offered --------------------------------------------------------------------- */

int
auth_start(struct auth *a, char *const *programs, int directory)
{
	const char *wanted = getenv("SMTPAUTH"), *force = getenv("FORCETLS"), *owns = getenv("FORCEAUTHMAILFROM");

	*a = (struct auth){ .runner = -1, .owns_sender = owns && *owns ? strcmp(owns, "0") != 0 : -1 };
	a->is_required = wanted && *wanted == '!';
	a->is_on = wanted ? strcmp(wanted, "-") != 0 && strcmp(wanted, "0") != 0 && strcmp(wanted, "cram") != 0 : programs != NULL;
	a->needs_tls = !force || strcmp(force, "0") != 0;
	if (!a->is_on || !programs)
		return 1;
	a->runner = login_runner_start(programs, directory, AUTH_TRIES_MAX);
	return a->runner >= 0;
}

static int
may_log_in(const struct session *s)
{
	return s->auth->is_on && (s->is_tls || !s->auth->needs_tls);
}

int
auth_is_offered(const struct session *s)
{
	return may_log_in(s) && !s->is_authenticated;
}

const char *
auth_lacks(const struct session *s)
{
	if (!s->auth->is_required || s->is_authenticated)
		return NULL;
	return may_log_in(s) ? "authentication is required" : "must issue a STARTTLS command first";
}

void
auth_end(struct session *s)
{
	if (s->submission >= 0)
		close(s->submission);
	s->submission = -1;
}

void
auth_forget(struct session *s)
{
	auth_end(s);
	s->login.len = 0;
	s->relayclient = getenv("RELAYCLIENT");
	if (s->is_authenticated)
		peer_read(&s->peer);
	s->is_authenticated = 0;
}

/* --- a login ------------------------------------------------------------------------------- */

/* Writes a refusal, and counts it. */
static void
refuse(struct session *s, unsigned int code, const char *enhanced, const char *text)
{
	reply_put(&s->reply, code, enhanced, text);
	session_count_error(s);
}

/* The line that fail2ban reads, in the words of qmail-authd, which writes its own. */
static void
log_failure(struct session *s, const char *login)
{
	if (s->auth->runner >= 0)
		session_log_failure(s, login);
}

static void
answer_wrong(struct session *s, const char *login)
{
	log_failure(s, login);
	if (++s->failures < AUTH_FAILURES_MAX) {
		refuse(s, 535, "5.7.8", "authentication failed");
		return;
	}
	reply_put(&s->reply, 421, "4.7.0", "authentication failed too often");
	session_close(s, SESSION_REFUSED, "too many failed logins");
}

static void
answer_unknown(struct session *s, const char *login, const char *why)
{
	refuse(s, 454, "4.7.0", "unable to check logins now");
	session_log_refusal(s, "AUTH", login, why);
}

static void
answer_right(struct session *s, const char *account)
{
	if (!stralloc_setb(&s->login, account, strlen(account) + 1)) {
		answer_unknown(s, account, "out of memory");
		return;
	}
	s->is_authenticated = 1;
	snprintf(s->peer.info, sizeof s->peer.info, "%.*s", PEER_INFO_MAX - 1, account);
	if (!s->relayclient)
		s->relayclient = "";
	reply_put(&s->reply, 235, "2.7.0", "authentication succeeded");
}

static void
ask_program(struct session *s, const char *login, const char *secret)
{
	int code = login_runner_run(s->auth->runner, -1, login, secret, "", AUTH_PROGRAM_MS);

	if (code == EXIT_OK)
		answer_right(s, login);
	else if (checkpassword_says_wrong(code))
		answer_wrong(s, login);
	else
		answer_unknown(s, login, "the checkpassword program does not say");
}

static void
ask_keeper(struct session *s, const char *login, const char *secret)
{
	struct login_client c;

	s->submission = submission_connect();
	if (s->submission < 0) {
		answer_unknown(s, login, "unable to reach qmail-submitd");
		return;
	}
	switch (login_client_check(&c, -1, login, secret, "", s->submission)) {
	case LOGIN_CLIENT_RIGHT:
		answer_right(s, c.account);
		break;
	case LOGIN_CLIENT_WRONG:
		answer_wrong(s, login);
		break;
	case LOGIN_CLIENT_UNKNOWN:
		answer_unknown(s, login, c.text);
	}
	if (!s->is_authenticated)
		auth_end(s);
}

/* --- the exchange --------------------------------------------------------------------------- */

/* The client's next line; NULL: there is none, which was answered. */
static char *
take_response(struct session *s, size_t *len)
{
	char *line;
	enum input_result r = input_line(&s->in, &line, len);

	switch (r) {
	case INPUT_OK:
		return line;
	case INPUT_TOO_LONG:
		refuse(s, 500, "5.5.6", "the line is too long");
		return NULL;
	case INPUT_NUL:
	case INPUT_BARE:
		refuse(s, 501, "5.5.2", "malformed response");
		return NULL;
	default:
		session_close_input(s, r);
		return NULL;
	}
}

/* Until the client has said it all; 1, or 0: there is no login, which was answered. */
static int
converse(struct session *s, struct sasl *sasl, enum sasl_result r)
{
	while (r == SASL_CHALLENGE) {
		size_t len;
		char *line;

		/* cppcheck-suppress uninitvar ; SASL_CHALLENGE says that there is one */
		reply_line(&s->reply, 334, ' ', sasl->challenge);
		line = take_response(s, &len);
		if (!line)
			return 0;
		r = sasl_take(sasl, line);
		explicit_bzero(line, len);
	}
	if (r == SASL_CANCELLED)
		refuse(s, 501, "5.7.0", "authentication cancelled");
	else if (r == SASL_MALFORMED)
		refuse(s, 501, "5.5.2", "malformed response");
	else if (r == SASL_FOREIGN)
		refuse(s, 535, "5.7.8", "nobody acts for another here");
	return r == SASL_DONE;
}

static void
log_in(struct session *s, enum sasl_mechanism m, const char *initial)
{
	struct sasl sasl;

	if (converse(s, &sasl, sasl_begin(&sasl, m, initial))) {
		/* what is behind the last response would be taken for said after the login (RFC 4954 section 4) */
		if (!input_is_empty(&s->in))
			session_refuse_haste(s);
		else if (s->auth->runner >= 0)
			ask_program(s, sasl.login, sasl.secret);
		else
			ask_keeper(s, sasl.login, sasl.secret);
	}
	sasl_forget(&sasl);
}

void
auth_run(struct session *s, char *arg)
{
	size_t word = strcspn(arg, " ");
	char *initial = arg[word] ? arg + word + 1 : NULL;
	enum sasl_mechanism m;

	arg[word] = '\0';
	if (!s->auth->is_on)
		refuse(s, 502, "5.5.1", "unimplemented");
	else if (s->is_authenticated)
		refuse(s, 503, "5.5.1", "you have logged in already");
	else if (s->phase != PHASE_IDLE)
		refuse(s, 503, "5.5.1", "not within a mail transaction");
	else if (!s->is_extended)
		refuse(s, 503, "5.5.1", "EHLO first");
	else if (!may_log_in(s))
		refuse(s, 538, "5.7.11", "encryption is required: STARTTLS first");
	else if (!*arg)
		refuse(s, 501, "5.5.4", "syntax: AUTH mechanism [initial-response]");
	else if (!sasl_find(&m, arg))
		refuse(s, 504, "5.5.4", "this mechanism is not known");
	else
		log_in(s, m, initial);
	if (initial)
		explicit_bzero(initial, strlen(initial));
}

/* --- after it ---------------------------------------------------------------------------------- */

/* Nothing more may be asked of qmail-submitd: an answer that comes yet would be taken for one to that. */
static void
lose_submission(struct session *s)
{
	session_close(s, SESSION_BROKEN, "qmail-submitd does not answer");
}

/* Answers what qmail-submitd does not allow. */
static int
judge(struct session *s, enum submission_answer answer, const char *text)
{
	switch (answer) {
	case SUBMISSION_YES:
		return 1;
	case SUBMISSION_NO:
		reply_put(&s->reply, 553, "5.7.1", text);
		return 0;
	case SUBMISSION_FULL:
		reply_put(&s->reply, 450, "4.7.1", text);
		return 0;
	default:
		reply_put(&s->reply, 421, "4.3.0", "unable to check what you may send");
		lose_submission(s);
		return 0;
	}
}

/* Whether an address belongs to who has logged in, and else why not. */
static enum submission_answer
own(const struct session *s, const char *address, char text[SUBMISSION_TEXT_MAX + 1])
{
	if (s->auth->owns_sender == 0)
		return SUBMISSION_YES;
	if (s->submission >= 0)
		return submission_sender(s->submission, address, text);
	if (s->auth->owns_sender < 0 || strcasecmp(address, s->login.s) == 0)
		return SUBMISSION_YES;
	snprintf(text, SUBMISSION_TEXT_MAX + 1, "sorry, this sender is not your login");
	return SUBMISSION_NO;
}

int
auth_takes_sender(struct session *s, const char *sender)
{
	char text[SUBMISSION_TEXT_MAX + 1];

	return !s->is_authenticated || judge(s, own(s, sender, text), text);
}

static enum submission_answer
owns_author(void *data, const char *address)
{
	char text[SUBMISSION_TEXT_MAX + 1];
	enum submission_answer answer = own(data, address, text);

	if (answer == SUBMISSION_UNKNOWN)
		lose_submission(data);
	return answer;
}

enum submission_answer
auth_judges_author(struct session *s)
{
	unsigned long demand = s->settings->numbers[NUMBER_AUTHORS];

	if (!s->is_authenticated || demand == AUTHORS_ANY)
		return SUBMISSION_YES;
	return author_judge(&s->author, demand == AUTHORS_SENDER, owns_author, s);
}

int
auth_takes_message(struct session *s)
{
	char text[SUBMISSION_TEXT_MAX + 1];

	if (s->submission < 0 || judge(s, submission_message(s->submission, s->mail.count, text), text))
		return 1;
	session_log_message(s, "deferred", 0, s->reply.last);
	return 0;
}
