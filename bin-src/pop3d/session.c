#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "monotonic.h"
#include "peer.h"
#include "session.h"

enum {
	LINGER_MS = 2000,	/* after our own close, until the client has read why */
	USER_MAX = 200,		/* octets of a login in the log */
	LOG_MAX = 1000,
};

static void
flush(void *data)
{
	struct session *s = data;

	output_flush(&s->out);
}

static void
rest(void *data)
{
	(void)data;
}

static void
start(struct session *s, int in, int out)
{
	uint64_t timeout = s->settings->timeout * 1000;

	s->started = monotonic_ms();
	s->end = SESSION_GOES_ON;
	s->in.fd = in;
	s->in.timeout_ms = s->out.timeout_ms = timeout;
	s->in.session_end = s->out.session_end = s->started + s->settings->session * 1000;
	s->in.flush = flush;
	s->in.rest = rest;
	s->in.data = s;
	s->out.fd = out;
	input_start(&s->in);
	output_start(&s->out);
}

/* The reply to the command that was the login. */
static void
greet(struct session *s)
{
	output_text(&s->out, "+OK ");
	output_number(&s->out, s->maildrop->left);
	output_text(&s->out, " messages (");
	output_number(&s->out, s->maildrop->octets);
	output_text(&s->out, " octets)\r\n");
}

/* What reading a command came to, but for a line. */
static void
no_command(struct session *s, enum input_result r)
{
	switch (r) {
	case INPUT_TOO_LONG:
		output_text(&s->out, "-ERR line too long\r\n");
		return;
	case INPUT_NUL:
		output_text(&s->out, "-ERR a command has no NUL in it\r\n");
		return;
	case INPUT_BARE:
		output_text(&s->out, "-ERR a line ends with CR LF\r\n");
		return;
	case INPUT_BARE_PIPELINED:
	case INPUT_FLOOD:
		output_text(&s->out, "-ERR a line ends with CR LF, and neither stands alone\r\n");
		s->end = SESSION_REFUSED;
		return;
	/* RFC 1939 section 3: a timer that expires closes the connection without a reply */
	case INPUT_TIMEOUT:
		s->end = SESSION_TIMEOUT;
		return;
	case INPUT_SESSION_OVER:
		s->end = SESSION_OVER;
		return;
	default:
		s->end = SESSION_CLOSED;
	}
}

static void
take_command(struct session *s)
{
	char *line;
	size_t len;
	enum input_result r = input_line(&s->in, &line, &len);

	if (r != INPUT_OK) {
		no_command(s, r);
		return;
	}
	s->commands++;
	command_run(s, line);
}

/* RFC 1939 section 6. */
static void
update(struct session *s)
{
	size_t marked = s->maildrop->count - s->maildrop->left, failed;

	output_flush(&s->out);
	if (s->out.is_broken) {
		s->end = SESSION_CLOSED;
		return;
	}
	failed = maildrop_update(s->maildrop);
	s->deleted = marked - failed;
	if (failed) {
		strerr_warnwsys("unable to remove messages");
		output_text(&s->out, "-ERR [SYS/TEMP] some deleted messages were not removed\r\n");
	} else
		output_text(&s->out, "+OK\r\n");
	output_flush(&s->out);
}

enum session_end
session_run(struct session *s, int in, int out)
{
	start(s, in, out);
	greet(s);
	while (s->end == SESSION_GOES_ON) {
		take_command(s);
		if (s->out.is_broken)
			s->end = SESSION_CLOSED;
	}
	if (s->end == SESSION_QUIT)
		update(s);
	else if (s->end == SESSION_REFUSED) {
		/* a close with octets unread would be a reset, which could take the reply away */
		output_flush(&s->out);
		shutdown(out, SHUT_WR);
		input_drain(&s->in, LINGER_MS);
	}
	return s->end;
}

/* --- the log ------------------------------------------------------------------------------------ */

/* The login that the checkpassword program has set, without what would end the value. */
static void
read_user(char user[USER_MAX + 1])
{
	const char *name = getenv("USER");
	size_t n = 0;

	for (; name && name[n] && n < USER_MAX; n++)
		user[n] = name[n] > ' ' && name[n] < 127 ? name[n] : '?';
	user[n] = '\0';
}

void
session_log(const struct session *s)
{
	static const char *const ends[] = { "goes-on", "quit", "closed", "timeout", "session-limit", "refused", "trouble" };
	struct peer peer;
	char user[USER_MAX + 1], line[LOG_MAX];
	int len;
	ssize_t r;

	peer_read(&peer);
	read_user(user);
	len = snprintf(line, sizeof line, "qmail-pop3d: session pid=%ld ip=%s user=%s end=%s messages=%zu retrieved=%llu "
	    "octets=%llu deleted=%llu commands=%llu ms=%llu\n", (long)getpid(), peer.ip, *user ? user : "-", ends[s->end],
	    s->maildrop->count, (unsigned long long)s->retrieved, (unsigned long long)s->octets, (unsigned long long)s->deleted,
	    (unsigned long long)s->commands, (unsigned long long)(monotonic_ms() - s->started));
	r = write(STDERR_FILENO, line, (size_t)len);
	(void)r;
}
