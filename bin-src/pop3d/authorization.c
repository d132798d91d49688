#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "authorization.h"
#include "login_protocol.h"
#include "monotonic.h"
#include "peer.h"
#include "timed_write.h"

enum {
	LINGER_MS = 2000,	/* after our own close, until the client has read why */
	LOG_MAX = 1000, SHOWN_MAX = 200,
};

static void
say(struct authorization *a, const char *text)
{
	output_text(&a->out, text);
}

/* A command that leads to nothing. */
static void
fail(struct authorization *a, const char *text)
{
	say(a, text);
	if (++a->errors == AUTHORIZATION_ERRORS_MAX)
		a->end = AUTHORIZATION_REFUSED;
}

/* Whether a login may be tried now. */
static int
may_log_in(const struct authorization *a)
{
	return a->is_encrypted || !a->settings->needs_tls;
}

static int
may_start_tls(const struct authorization *a)
{
	return !a->is_encrypted && a->settings->offers_tls;
}

/* --- lines ------------------------------------------------------------------------------------------------- */

static void
flush(void *data)
{
	output_flush(&((struct authorization *)data)->out);
}

static void
rest(void *data)
{
	(void)data;
}

/* What reading a line came to, but for a line. */
static void
no_line(struct authorization *a, enum input_result r)
{
	switch (r) {
	case INPUT_TOO_LONG:
		fail(a, "-ERR line too long\r\n");
		return;
	case INPUT_NUL:
		fail(a, "-ERR a command has no NUL in it\r\n");
		return;
	case INPUT_BARE:
		fail(a, "-ERR a line ends with CR LF\r\n");
		return;
	case INPUT_BARE_PIPELINED:
	case INPUT_FLOOD:
		say(a, "-ERR a line ends with CR LF, and neither stands alone\r\n");
		a->end = AUTHORIZATION_REFUSED;
		return;
	case INPUT_STOPPING:
		say(a, "-ERR [SYS/TEMP] this server stops now\r\n");
		a->end = AUTHORIZATION_STOPPED;
		return;
	case INPUT_TIMEOUT:
	case INPUT_SESSION_OVER:
		a->end = AUTHORIZATION_TIMEOUT;
		return;
	default:
		a->end = AUTHORIZATION_CLOSED;
	}
}

/* The next line, NULL: there is none, and that was answered. */
static char *
take_line(struct authorization *a)
{
	char *line;
	size_t len;
	enum input_result r = input_line(&a->in, &line, &len);

	if (r == INPUT_OK)
		return line;
	no_line(a, r);
	return NULL;
}

/* --- logins -------------------------------------------------------------------------------------------------- */

static void
end_login(struct authorization *a, enum authorization_answer answer)
{
	switch (answer) {
	case AUTHORIZATION_RIGHT:
		a->end = AUTHORIZATION_LOGGED_IN;
		return;
	case AUTHORIZATION_WRONG:
		say(a, "-ERR [AUTH] authorization failed\r\n");
		a->end = AUTHORIZATION_FAILED;
		return;
	case AUTHORIZATION_UNKNOWN:
		say(a, "-ERR [SYS/TEMP] unable to check logins now\r\n");
		a->end = AUTHORIZATION_TROUBLE;
		return;
	default:
		a->end = AUTHORIZATION_TROUBLE;
	}
}

/* The one try. What was said before is written first: from then on the session speaks. */
static void
log_in(struct authorization *a, const char *login, const char *secret)
{
	enum authorization_answer answer;

	output_flush(&a->out);
	timed_write_start(a->out.fd, 0);
	snprintf(a->login, sizeof a->login, "%s", login);
	if (a->is_utf8)
		setenv(LOGIN_UTF8, "1", 1);
	answer = a->settings->login(a->settings->data, a->in.fd, login, secret, a->challenge);
	explicit_bzero(a->in.buffer, a->in.end);
	input_forget(&a->in);
	sasl_forget(&a->sasl);
	if (answer == AUTHORIZATION_WRONG || answer == AUTHORIZATION_UNKNOWN)
		output_start(&a->out);
	end_login(a, answer);
}

static void
run_user(struct authorization *a, char *argument)
{
	if (!may_log_in(a)) {
		fail(a, "-ERR begin TLS first, with STLS\r\n");
		return;
	}
	snprintf(a->user, sizeof a->user, "%s", argument);
	say(a, "+OK\r\n");
}

static void
run_pass(struct authorization *a, char *argument)
{
	if (!*a->user)
		fail(a, "-ERR USER comes first\r\n");
	else
		log_in(a, a->user, argument);
}

/* RFC 1939 section 7: name, blank, digest. */
static void
run_apop(struct authorization *a, char *argument)
{
	char *blank = strchr(argument, ' ');

	if (!*a->challenge)
		fail(a, "-ERR unknown command\r\n");
	else if (!may_log_in(a))
		fail(a, "-ERR begin TLS first, with STLS\r\n");
	else if (!blank || blank == argument || !blank[1])
		fail(a, "-ERR a name and a digest, please\r\n");
	else {
		*blank = '\0';
		log_in(a, argument, blank + 1);
	}
}

/* RFC 5034 section 4. */
static void
converse(struct authorization *a, enum sasl_result r)
{
	char *line;

	while (r == SASL_CHALLENGE) {
		say(a, "+ ");
		say(a, a->sasl.challenge);
		say(a, "\r\n");
		line = take_line(a);
		if (!line)
			return;
		r = sasl_take(&a->sasl, line);
	}
	if (r == SASL_DONE)
		log_in(a, a->sasl.login, a->sasl.secret);
	else
		fail(a, r == SASL_CANCELLED ? "-ERR cancelled\r\n" : r == SASL_FOREIGN ? "-ERR [AUTH] nobody acts for another here\r\n" :
		    "-ERR malformed response\r\n");
	sasl_forget(&a->sasl);
}

static void
run_auth(struct authorization *a, char *argument)
{
	char *initial = strchr(argument, ' ');
	enum sasl_mechanism m;

	if (initial)
		*initial++ = '\0';
	if (!may_log_in(a))
		fail(a, "-ERR begin TLS first, with STLS\r\n");
	else if (!*argument)	/* as clients asked before RFC 5034 */
		say(a, "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n");
	else if (!sasl_find(&m, argument))
		fail(a, "-ERR this mechanism is not known\r\n");
	else
		converse(a, sasl_begin(&a->sasl, m, initial));
}

/* --- TLS ------------------------------------------------------------------------------------------------------ */

/* Reads and forgets what has come. Returns 1, or 0: it goes on and on. */
static int
throw_away(const struct authorization *a)
{
	char octets[4096];
	ssize_t n;

	for (size_t thrown = 0; thrown <= AUTHORIZATION_THROWN_MAX; thrown += (size_t)n) {
		n = recv(a->in.fd, octets, sizeof octets, MSG_DONTWAIT);
		if (n <= 0)
			return 1;
	}
	return 0;
}

static int
reach_tls(struct authorization *a)
{
	return a->front || tls_engine_reach(&a->engine, -1);
}

/* Returns the plain end of TLS, or -1. */
static int
shake_hands(struct authorization *a)
{
	static const char *const alpn[] = { "pop3", NULL };

	if (!a->front)
		return tls_engine_start(&a->engine, a->in.fd, alpn);
	if (!server_tls_start_ucspi(a->front)) {
		snprintf(a->engine.text, sizeof a->engine.text, "%.*s", TLS_ENGINE_TEXT_MAX, a->front->text);
		return -1;
	}
	a->engine = a->front->engine;
	return a->front->in;
}

/* It was reached; the client begins now. */
static void
start_tls(struct authorization *a)
{
	int plain = shake_hands(a);

	if (plain < 0) {
		a->end = AUTHORIZATION_NO_TLS;
		return;
	}
	close(a->in.fd);
	if (a->out.fd != a->in.fd)
		close(a->out.fd);
	tls_engine_tell(&a->engine);
	a->in.fd = a->out.fd = plain;
	input_start(&a->in);
	output_start(&a->out);
	a->user[0] = '\0';
	a->is_utf8 = 0;
	a->is_encrypted = 1;
}

static void
run_stls(struct authorization *a, char *argument)
{
	(void)argument;
	if (!may_start_tls(a)) {
		fail(a, a->is_encrypted ? "-ERR TLS is there already\r\n" : "-ERR there is no TLS here\r\n");
		return;
	}
	if (!reach_tls(a)) {
		fail(a, "-ERR [SYS/TEMP] TLS cannot begin now\r\n");
		return;
	}
	if (!throw_away(a)) {
		say(a, "-ERR nothing comes between STLS and the handshake\r\n");
		a->end = AUTHORIZATION_REFUSED;
		return;
	}
	say(a, "+OK begin now\r\n");
	output_flush(&a->out);
	start_tls(a);
}

/* --- CAPA, UTF8, NOOP, QUIT -------------------------------------------------------------------------------------- */

static void
run_capa(struct authorization *a, char *argument)
{
	(void)argument;
	say(a, "+OK\r\n");
	if (may_log_in(a))
		capabilities_say_logins(&a->out);
	if (may_start_tls(a))
		say(a, "STLS\r\n");
	capabilities_say(&a->settings->capabilities, &a->out);
	say(a, ".\r\n");
}

static void
run_fine(struct authorization *a, char *argument)
{
	(void)argument;
	say(a, "+OK\r\n");
}

/* RFC 6856 section 2.1: for the messages; logins are octets here anyway. */
static void
run_utf8(struct authorization *a, char *argument)
{
	a->is_utf8 = 1;
	run_fine(a, argument);
}

static void
run_quit(struct authorization *a, char *argument)
{
	run_fine(a, argument);
	a->end = AUTHORIZATION_QUIT;
}

/* --- the session -------------------------------------------------------------------------------------------------- */

static const struct command {
	const char *verb;
	int needs_argument, takes_argument;
	void (*run)(struct authorization *a, char *argument);
} commands[] = {
	{ "USER", 1, 1, run_user },
	{ "PASS", 1, 1, run_pass },
	{ "APOP", 1, 1, run_apop },
	{ "AUTH", 0, 1, run_auth },
	{ "STLS", 0, 0, run_stls },
	{ "CAPA", 0, 0, run_capa },
	{ "UTF8", 0, 0, run_utf8 },
	{ "NOOP", 0, 0, run_fine },
	{ "QUIT", 0, 0, run_quit },
	{ NULL, 0, 0, NULL },
};

/* What is behind the first blank is the argument, further blanks included: a password may have some. */
static void
take_command(struct authorization *a)
{
	char *line = take_line(a), *argument;
	const struct command *c = commands;

	if (!line)
		return;
	a->commands++;
	argument = line + strcspn(line, " ");
	if (*argument)
		*argument++ = '\0';
	while (c->verb && strcasecmp(c->verb, line) != 0)
		c++;
	if (!c->verb)
		fail(a, "-ERR authorization first\r\n");
	else if ((c->needs_argument && !*argument) || (!c->takes_argument && *argument))
		fail(a, "-ERR wrong number of arguments\r\n");
	else
		c->run(a, argument);
}

static void
start(struct authorization *a, int in, int out, int (*is_stopping)(void))
{
	uint64_t timeout = a->settings->timeout * 1000;

	a->end = AUTHORIZATION_GOES_ON;
	a->engine.control = -1;
	a->in.fd = in;
	a->in.is_exact = 1;
	a->in.timeout_ms = a->out.timeout_ms = timeout;
	a->in.session_end = a->out.session_end = monotonic_ms() + timeout;
	a->in.flush = flush;
	a->in.rest = rest;
	a->in.is_stopping = is_stopping;
	a->in.data = a;
	a->out.fd = out;
	input_start(&a->in);
	output_start(&a->out);
	if (a->settings->host)
		snprintf(a->challenge, sizeof a->challenge, "<%ld.%lld@%s>", (long)getpid(), (long long)time(NULL), a->settings->host);
}

static void
greet(struct authorization *a)
{
	say(a, "+OK ");
	say(a, *a->challenge ? a->challenge : "POP3 server ready");
	say(a, "\r\n");
}

/* A close with octets unread would be a reset, which could take the reply away. */
static void
linger(struct authorization *a)
{
	shutdown(a->out.fd, SHUT_WR);
	input_drain(&a->in, LINGER_MS);
}

enum authorization_end
authorization_run(struct authorization *a, int in, int out, int (*is_stopping)(void))
{
	start(a, in, out, is_stopping);
	if (a->settings->starts_tls) {
		if (reach_tls(a))
			start_tls(a);
		else
			a->end = AUTHORIZATION_NO_TLS;
	}
	if (a->end == AUTHORIZATION_GOES_ON)
		greet(a);
	while (a->end == AUTHORIZATION_GOES_ON) {
		take_command(a);
		if (a->out.is_broken)
			a->end = AUTHORIZATION_CLOSED;
	}
	if (a->end != AUTHORIZATION_LOGGED_IN && a->end != AUTHORIZATION_NO_TLS)
		output_flush(&a->out);
	if (a->end == AUTHORIZATION_FAILED || a->end == AUTHORIZATION_TROUBLE || a->end == AUTHORIZATION_REFUSED)
		linger(a);
	return a->end;
}

/* --- the log -------------------------------------------------------------------------------------------------------- */

/* A login as it may stand in a log. */
static const char *
shown(char to[SHOWN_MAX + 1], const char *login)
{
	size_t n = 0;

	for (; n < SHOWN_MAX && login[n]; n++)
		to[n] = login[n] > ' ' && login[n] < 127 ? login[n] : '?';
	to[n] = '\0';
	return n ? to : "-";
}

/* Writes a line that snprintf has made. */
static void
write_line(const char *line, int len)
{
	ssize_t r = len > 0 && len < LOG_MAX ? write(STDERR_FILENO, line, (size_t)len) : 0;

	(void)r;
}

void
authorization_log(const struct authorization *a)
{
	static const char *const ends[] = { "goes-on", "quit", "logged-in", "failed", "trouble", "closed", "timeout", "stopped", "refused", "no-tls" };
	int is_without = a->end == AUTHORIZATION_NO_TLS;
	char line[LOG_MAX], user[SHOWN_MAX + 1];
	struct peer peer;

	peer_read(&peer);
	write_line(line, snprintf(line, sizeof line, "qmail-popup: %s: ip=%s user=%s tls=%s commands=%u%s%s\n", ends[a->end], peer.ip,
	    shown(user, a->login), !a->is_encrypted ? "-" : *a->engine.protocol ? a->engine.protocol : "outside", a->commands,
	    is_without ? " why=" : "", is_without ? a->engine.text : ""));
}

void
authorization_log_failure(const char *login)
{
	char line[LOG_MAX], user[SHOWN_MAX + 1];
	struct peer peer;

	peer_read(&peer);
	write_line(line, snprintf(line, sizeof line, "qmail-popup: login failed: ip=%s user=%s for=session reason=wrong\n", peer.ip,
	    shown(user, login)));
}
