#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "monotonic.h"
#include "path.h"
#include "session.h"

enum {
	LINE_MAX_OCTETS = 4000,	/* below PIPE_BUF: lines of several sessions do not mix */
	ARGUMENT_MAX = 1000,
	RECIPIENTS_MAX = 1200,	/* octets of the list of recipients; the rest is only counted. What stands behind it has to fit, too */
};

struct line {
	char s[LINE_MAX_OCTETS + 1];
	size_t len;
};

static void
add_octets(struct line *l, const char *s, size_t len)
{
	size_t room = LINE_MAX_OCTETS - l->len;

	if (len > room)
		len = room;
	memcpy(l->s + l->len, s, len);
	l->len += len;
}

static void
add(struct line *l, const char *s)
{
	add_octets(l, s, strlen(s));
}

static void
add_number(struct line *l, const char *key, uint64_t value)
{
	char text[64];

	snprintf(text, sizeof text, " %s=%llu", key, (unsigned long long)value);
	add(l, text);
}

/* Octets of a client or another program: printable ASCII and valid UTF-8 stay, but for what would end the value. */
static void
add_clean(struct line *l, const char *s, size_t most, const char *also_bad)
{
	size_t len = strnlen(s, most);

	for (size_t i = 0, n; i < len; i += n) {
		n = (unsigned char)s[i] > 127 ? path_utf8(s + i, len - i) : 1;
		if (n > 1)
			add_octets(l, s + i, n);
		else
			add_octets(l, n == 0 || (unsigned char)s[i] < 32 || s[i] == 127 || strchr(also_bad, s[i]) ? "?" : s + i, 1);
		n += n == 0;
	}
}

static void
add_value(struct line *l, const char *key, const char *value)
{
	add(l, " ");
	add(l, key);
	add(l, "=");
	add_clean(l, *value ? value : "-", ARGUMENT_MAX, " \"");
}

static void
add_address(struct line *l, const char *address)
{
	add(l, "<");
	add_clean(l, address, ARGUMENT_MAX, " \"<>,");
	add(l, ">");
}

static void
add_quoted(struct line *l, const char *key, const char *text)
{
	add(l, " ");
	add(l, key);
	add(l, "=\"");
	add_clean(l, text, ARGUMENT_MAX, "\"");
	add(l, "\"");
}

static void
add_tls(struct line *l, const struct session *s)
{
	const struct tls_engine *e = &s->tls->engine;

	add_value(l, "tls", s->is_tls ? e->protocol : "no");
	if (!s->is_tls)
		return;
	add_value(l, "cipher", e->cipher);
	add_value(l, "sni", e->host);
}

/* The beginning that all lines share: what happened, and who the client is. */
static void
begin(struct line *l, const struct session *s, const char *what)
{
	l->len = 0;
	add(l, "qmail-smtpd: ");
	add(l, what);
	add_number(l, "pid", (uint64_t)s->pid);
	add_value(l, "ip", s->peer.ip);
	add_value(l, "host", s->peer.host);
	add_value(l, "helo", s->helo.len ? s->helo.s : "");
	add_tls(l, s);
	add_value(l, "auth", s->is_authenticated ? s->login.s : "");
	if (s->relayclient)
		add(l, " relay=yes");
}

void
session_log_flush(struct session *s)
{
	ssize_t r = s->log_len ? write(STDERR_FILENO, s->log, s->log_len) : 0;

	(void)r;	/* a log that is gone keeps no mail out */
	s->log_len = 0;
}

void
session_log_gather(struct session *s)
{
	if (!s->log_len)
		return;
	if (monotonic_ms() - s->log_since >= SESSION_LOG_HELD_MS || !input_comes(&s->in, SESSION_LOG_GATHER_MS))
		session_log_flush(s);
}

static void
finish(struct line *l, struct session *s)
{
	l->s[l->len++] = '\n';
	if (s->log_len + l->len > sizeof s->log)
		session_log_flush(s);
	if (!s->log_len)
		s->log_since = monotonic_ms();
	memcpy(s->log + s->log_len, l->s, l->len);
	s->log_len += l->len;
}

static void
add_recipients(struct line *l, const struct session *s)
{
	const char *r = s->mail.recipients.s;
	size_t start = l->len;

	add(l, " to=");
	for (unsigned int i = 0; i < s->mail.count; i++) {
		if (l->len - start + strlen(r) > RECIPIENTS_MAX) {
			add(l, ",...");
			break;
		}
		add(l, i ? "," : "");
		add_address(l, r);
		r += strlen(r) + 1;
		r += strlen(r) + 1;
	}
	add_number(l, "recipients", s->mail.count);
}

void
session_log_message(struct session *s, const char *result, uint64_t number, const char *reason)
{
	struct line l;

	begin(&l, s, "message");
	add(&l, " from=");
	add_address(&l, s->mail.sender.s);
	add_recipients(&l, s);
	add_number(&l, "size", s->mail.content.octets);
	add_value(&l, "result", result);
	if (number)
		add_number(&l, "qp", number);
	if (*reason)
		add_quoted(&l, "reason", reason);
	finish(&l, s);
}

void
session_log_refusal(struct session *s, const char *command, const char *argument, const char *reason)
{
	struct line l;

	begin(&l, s, "refused");
	add_value(&l, "command", command);
	if (s->phase != PHASE_IDLE) {
		add(&l, " from=");
		add_address(&l, s->mail.sender.s);
	}
	add(&l, " argument=");
	add_address(&l, argument);
	add_quoted(&l, "reason", reason);
	finish(&l, s);
}

void
session_log_failure(struct session *s, const char *login)
{
	struct line l = { .len = 0 };

	add(&l, "qmail-smtpd: login failed:");
	add_value(&l, "ip", s->peer.ip);
	add_value(&l, "user", login);
	add(&l, " for=check reason=wrong");
	finish(&l, s);
}

void
session_log_end(struct session *s)
{
	static const char *const ends[] = { "goes-on", "quit", "closed", "timeout", "session-limit", "server-stop", "refused", "trouble" };
	struct line l;

	begin(&l, s, "session");
	add_value(&l, "end", ends[s->end]);
	add_number(&l, "messages", s->messages);
	add_number(&l, "octets", s->octets);
	add_number(&l, "recipients", s->recipients);
	add_number(&l, "refused", s->refused);
	add_number(&l, "errors", s->errors);
	add_number(&l, "commands", s->commands);
	add_number(&l, "ms", monotonic_ms() - s->started);
	if (*s->dns_lists)
		add_quoted(&l, "dnsbl", s->dns_lists);
	if (*s->reason)
		add_quoted(&l, "reason", s->reason);
	finish(&l, s);
	session_log_flush(s);
}
