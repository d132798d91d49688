#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "listener.h"
#include "monotonic.h"
#include "recipient.h"
#include "session.h"

enum { LINGER_MS = 2000 };	/* after our own close, until the client has read the reason */

/* --- forgetting ------------------------------------------------------------------ */

void
session_reset(struct session *s)
{
	delivery_abandon(s);
	s->phase = PHASE_IDLE;
	s->mail.sender.len = s->mail.sender_parameters.len = s->mail.recipients.len = 0;
	s->mail.count = 0;
	s->mail.content.octets = 0;
	s->mail.is_bad_sender = s->mail.is_smtputf8 = s->mail.has_excess = 0;
	s->mail.has_failed = s->mail.is_too_large = s->mail.has_no_memory = 0;
}

void
session_forget(struct session *s)
{
	session_reset(s);
	s->helo.len = 0;
	s->is_extended = s->reply.is_extended = 0;
}

void
session_free(struct session *s)
{
	stralloc_free(&s->mail.sender);
	stralloc_free(&s->mail.sender_parameters);
	stralloc_free(&s->mail.recipients);
	stralloc_free(&s->helo);
	stralloc_free(&s->login);
	author_free(&s->author);
}

/* --- ends ------------------------------------------------------------------------- */

void
session_close(struct session *s, enum session_end end, const char *reason)
{
	s->end = end;
	s->reason = reason;
}

void
session_close_input(struct session *s, enum input_result r)
{
	switch (r) {
	case INPUT_CLOSED:
		session_close(s, SESSION_CLOSED, s->is_tls ? server_tls_end(s->tls) : "");
		break;
	case INPUT_TIMEOUT:
		reply_put(&s->reply, 451, "4.4.2", "timeout");
		session_close(s, SESSION_TIMEOUT, "");
		break;
	case INPUT_SESSION_OVER:
		reply_put(&s->reply, 421, "4.4.2", "the session has lasted too long");
		session_close(s, SESSION_OVER, "");
		break;
	case INPUT_STOPPING:
		reply_put(&s->reply, 421, "4.3.2", "the server is being stopped");
		session_close(s, SESSION_STOPPED, "");
		break;
	case INPUT_FLOOD:
		reply_put(&s->reply, 500, "5.5.2", "line too long");
		session_close(s, SESSION_REFUSED, "line without end");
		break;
	default:
		reply_put(&s->reply, 500, "5.5.2", "a line ends with CR LF, and neither stands alone");
		session_close(s, SESSION_REFUSED, "bare CR or LF in commands");
	}
}

void
session_refuse_haste(struct session *s)
{
	reply_put(&s->reply, 503, "5.5.1", "you did not wait for the reply to this command");
	session_close(s, SESSION_REFUSED, "did not wait for a reply");
}

void
session_count_error(struct session *s)
{
	if (++s->errors <= s->settings->numbers[NUMBER_MAXERRORS] || s->end != SESSION_GOES_ON)
		return;
	reply_put(&s->reply, 421, "4.7.0", "too many errors");
	session_close(s, SESSION_REFUSED, "too many errors");
}

void
session_count_refusal(struct session *s)
{
	unsigned long most = s->settings->numbers[NUMBER_BRTLIMIT];

	s->refused++;
	if (++s->refused_lately <= most || !most || s->end != SESSION_GOES_ON)
		return;
	reply_put(&s->reply, 421, "4.7.1", "too many refused recipients");
	session_close(s, SESSION_REFUSED, "too many refused recipients");
}

/* --- a connection ------------------------------------------------------------------ */

static void
flush(void *data)
{
	struct session *s = data;

	reply_flush(&s->reply);
	session_log_gather(s);
}

static void
begin_connection(struct session *s)
{
	input_start(&s->in);
	reply_start(&s->reply);
	session_forget(s);
	auth_forget(s);
}

void
session_protect(struct session *s)
{
	static const char *const protocols[] = { "smtp", "esmtp", NULL };

	flush(s);
	if (s->reply.is_broken)
		return;
	if (!server_tls_start(s->tls, protocols)) {
		session_close(s, SESSION_REFUSED, s->tls->text);
		return;
	}
	tls_engine_tell(&s->tls->engine);
	begin_connection(s);
	s->is_tls = 1;
}

/* TLS that does not wait to be asked for. Where there is none, nothing can be said. */
static void
protect_at_once(struct session *s)
{
	if (server_tls_reach(s->tls))
		session_protect(s);
	else
		session_close(s, SESSION_BROKEN, s->tls->text);
}

/* --- the loop --------------------------------------------------------------------- */

static void
rest(void *data)
{
	struct session *s = data;

	if (!s->is_submitting)
		queue_client_rest(s->queue);
}

/* Something came before the greeting: words, or only the end. */
static void
refuse_early(struct session *s)
{
	enum input_result r = input_data(&s->in);

	if (r != INPUT_OK) {
		session_close_input(s, r);
		return;
	}
	reply_put(&s->reply, 554, "5.5.1", "you spoke before the greeting");
	session_close(s, SESSION_REFUSED, "spoke before the greeting");
}

/* The greeting, and before it the time that a client has to be silent (RFC 5321 section 3.1). */
static void
greet(struct session *s)
{
	unsigned long delay = s->settings->numbers[NUMBER_GREETDELAY];
	char line[REPLY_TEXT_MAX];

	if (delay && !s->relayclient && !s->auth->is_required && input_comes(&s->in, delay * 1000)) {
		refuse_early(s);
		return;
	}
	snprintf(line, sizeof line, "%.*s ESMTP", REPLY_TEXT_MAX - 10, s->settings->greeting.s);
	reply_line(&s->reply, 220, ' ', line);
}

/* What a TLS client, which has mistaken the port, begins with (RFC 8446 section 5.1: a handshake record). */
static int
is_tls_record(const struct input *in)
{
	return in->buffer[in->start] == 22;
}

static void
take_command(struct session *s)
{
	enum input_result r = INPUT_OK;
	char *line;
	size_t len;

	if (s->commands == 0) {
		r = input_data(&s->in);
		if (r == INPUT_OK && is_tls_record(&s->in)) {
			reply_put(&s->reply, 500, "5.5.1", "this port speaks SMTP, not TLS");
			session_close(s, SESSION_REFUSED, "TLS without STARTTLS");
			return;
		}
	}
	if (r == INPUT_OK)
		r = input_line(&s->in, &line, &len);
	switch (r) {
	case INPUT_OK:
		s->commands++;
		if (listener_is_stopping() && !s->is_submitting)
			session_close_input(s, INPUT_STOPPING);
		else if (monotonic_ms() >= s->in.session_end)	/* a group of commands may take long, each */
			session_close_input(s, INPUT_SESSION_OVER);
		else
			command_run(s, line, len);
		return;
	case INPUT_TOO_LONG:
		reply_put(&s->reply, 500, "5.5.2", "line too long");
		session_count_error(s);
		return;
	case INPUT_NUL:
		reply_put(&s->reply, 500, "5.5.2", "a command has no NUL in it");
		session_count_error(s);
		return;
	case INPUT_BARE:
		reply_put(&s->reply, 500, "5.5.2", "a line ends with CR LF");
		session_count_error(s);
		return;
	default:
		session_close_input(s, r);
	}
}

/* The last reply has to arrive before a reset can overtake it. */
static void
say_good_bye(struct session *s)
{
	reply_flush(&s->reply);
	if (s->end == SESSION_CLOSED || s->end == SESSION_QUIT || s->reply.is_broken)
		return;
	shutdown(s->reply.fd, SHUT_WR);
	input_drain(&s->in, LINGER_MS);
}

/* Up to a tenth longer, another part of it in each process. Sessions that began together would end together, and who comes
 * just then would wait for all of them. */
static uint64_t
spread(uint64_t ms, pid_t pid)
{
	return ms + (ms / 10 * ((uint32_t)pid * UINT32_C(2654435761)) >> 32);
}

static void
start(struct session *s)
{
	uint64_t timeout = (uint64_t)s->settings->numbers[NUMBER_TIMEOUT] * 1000;

	s->started = monotonic_ms();
	s->pid = getpid();
	s->phase = PHASE_IDLE;
	s->end = SESSION_GOES_ON;
	s->reason = s->dns_lists = "";
	s->commands = s->messages = s->mails = s->recipients = s->refused = s->errors = 0;
	s->idle = s->refused_lately = s->excess = 0;
	s->octets = 0;
	s->failures = 0;
	s->is_authenticated = 0;
	s->submission = -1;
	peer_read(&s->peer);
	s->in.fd = STDIN_FILENO;
	s->in.timeout_ms = spread(timeout, s->pid);
	s->in.session_end = s->started + (uint64_t)s->settings->numbers[NUMBER_SESSION] * 1000;
	s->in.flush = flush;
	s->in.rest = rest;
	s->in.is_stopping = listener_is_stopping;
	s->in.data = s;
	s->reply.fd = STDOUT_FILENO;
	s->reply.timeout_ms = timeout;
	s->is_tls = s->tls->is_on;
	begin_connection(s);
}

enum session_end
session_run(struct session *s)
{
	start(s);
	if (s->is_immediate && !s->is_tls)
		protect_at_once(s);
	if (s->end == SESSION_GOES_ON)
		greet(s);
	while (s->end == SESSION_GOES_ON) {
		take_command(s);
		if (s->reply.is_broken)
			session_close(s, SESSION_CLOSED, "the client does not read");
	}
	session_reset(s);
	auth_end(s);
	say_good_bye(s);
	return s->end;
}
