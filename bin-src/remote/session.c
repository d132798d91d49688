#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "monotonic.h"
#include "session.h"
#include "smtp_login.h"

/* --- writing and reading ------------------------------------------------------------ */

static uint64_t
after(uint64_t seconds)
{
	return monotonic_ms() + seconds * 1000;
}

void
session_begin(struct session *s, uint64_t seconds)
{
	s->deadline = after(seconds);
}

/* For one thing of a group. */
static uint64_t
single_deadline(const struct session *s)
{
	uint64_t one = after(s->timeout);

	return one < s->deadline ? one : s->deadline;
}

int
session_write(struct session *s, struct iovec *v, int n)
{
	return connection_write(&s->connection, v, n, single_deadline(s));
}

int
session_reply(struct session *s)
{
	return connection_reply(&s->connection, &s->reply, single_deadline(s));
}

/* Says a command and reads the answer. Returns 1, or 0 with errno. */
static int
ask(struct session *s, const char *verb, const char *argument)
{
	struct iovec v[] = {
		{ .iov_base = (void *)(uintptr_t)verb, .iov_len = strlen(verb) },
		{ .iov_base = (void *)(uintptr_t)argument, .iov_len = strlen(argument) },
		{ .iov_base = (void *)(uintptr_t)"\r\n", .iov_len = 2 },
	};

	if (connection_has_input(&s->connection)) {
		errno = EPROTO;
		return 0;
	}
	return session_write(s, v, 3) && session_reply(s);
}

/* --- extensions ------------------------------------------------------------------------ */

/* The decimal number that the len octets s are; 0 if they are none. */
static uint64_t
number(const char *s, size_t len)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9' || n > UINT64_MAX / 10 - 1)
			return 0;
		n = n * 10 + (uint64_t)(s[i] - '0');
	}
	return n;
}

/* The next word of *s, which moves on. Returns its octets, 0 at the end. */
static size_t
next_word(const char **s, const char *end, const char **word)
{
	while (*s < end && **s == ' ')
		(*s)++;
	*word = *s;
	while (*s < end && **s != ' ')
		(*s)++;
	return (size_t)(*s - *word);
}

static int
is_word(const char *word, size_t len, const char *keyword)
{
	return len == strlen(keyword) && strncasecmp(word, keyword, len) == 0;
}

/* RFC 9422 section 4: MAILMAX=n, RCPTMAX=n, RCPTDOMAINMAX=n; a limit that makes no sense is none. */
static void
learn_limit(struct session *s, const char *word, size_t len)
{
	const char *equals = memchr(word, '=', len);
	size_t name_len = equals ? (size_t)(equals - word) : len;
	uint64_t n = equals ? number(equals + 1, len - name_len - 1) : 0;

	if (!n || n > 1000000)
		return;
	if (is_word(word, name_len, "MAILMAX"))
		s->messages_max = (unsigned int)n;
	else if (is_word(word, name_len, "RCPTMAX") && n < s->recipients_max)
		s->recipients_max = (unsigned int)n;
	else if (is_word(word, name_len, "RCPTDOMAINMAX"))
		s->domains_max = n < SESSION_DOMAINS_MAX ? (unsigned int)n : SESSION_DOMAINS_MAX;
}

static void
learn_line(struct session *s, const char *line, size_t line_len)
{
	static const struct { const char *keyword; enum session_extension bit; } known[] = {
		{ "PIPELINING", SESSION_PIPELINING }, { "SIZE", SESSION_SIZE }, { "8BITMIME", SESSION_8BITMIME },
		{ "SMTPUTF8", SESSION_SMTPUTF8 }, { "DSN", SESSION_DSN }, { "CHUNKING", SESSION_CHUNKING },
		{ "STARTTLS", SESSION_STARTTLS },
	};
	const char *end = line + line_len, *word, *value;
	size_t len = next_word(&line, end, &word), value_len;

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (is_word(word, len, known[i].keyword))
			s->extensions |= known[i].bit;
	if (is_word(word, len, "SIZE") && (value_len = next_word(&line, end, &value)))
		s->size_max = number(value, value_len);
	while (is_word(word, len, "LIMITS") && (value_len = next_word(&line, end, &value)))
		learn_limit(s, value, value_len);
	while (is_word(word, len, "AUTH") && (value_len = next_word(&line, end, &value)))
		s->extensions |= is_word(value, value_len, "PLAIN") ? SESSION_AUTH_PLAIN : is_word(value, value_len, "LOGIN") ?
		    SESSION_AUTH_LOGIN : 0;
}

static void
learn_extensions(struct session *s)
{
	const char *line;
	size_t at = 0, len;

	/* the first line is the server's name and a word of welcome */
	if (smtp_reply_line(&s->reply, &at, &line, &len))
		while (smtp_reply_line(&s->reply, &at, &line, &len))
			learn_line(s, line, len);
}

/* --- beginning and end -------------------------------------------------------------------- */

static enum session_result
lost(struct session *s)
{
	int error = errno;

	connection_close(&s->connection);
	errno = error;
	return SESSION_LOST;
}

static enum session_result
refused_by(struct session *s, const char **refused, const char *what)
{
	*refused = what;
	session_quit(s);
	return SESSION_REFUSED;
}

/* What EHLO says counts until the next one. */
static void
forget_extensions(struct session *s)
{
	s->extensions = s->messages_max = s->domains_max = 0;
	s->size_max = 0;
	s->recipients_max = SESSION_RECIPIENTS_MAX;
}

/* EHLO, or HELO where that is refused for good: RFC 5321 section 3.2 has 500 and 502, some that know no EHLO say 501 or 550. */
static enum session_result
introduce(struct session *s, const char **refused)
{
	forget_extensions(s);
	if (!ask(s, "EHLO ", s->helo))
		return lost(s);
	if (s->reply.code == 250)
		learn_extensions(s);
	else if (s->reply.code >= 500 && !ask(s, "HELO ", s->helo))
		return lost(s);
	return s->reply.code == 250 ? SESSION_READY : refused_by(s, refused, "my name");
}

/* --- TLS ------------------------------------------------------------------------------------ */

static const char no_tls[] = "4.7.4", tls_failed[] = "4.7.5";

/* Ends for lack of TLS: the server has none, or it failed (RFC 5248 has X.7.4 and X.7.5 for that). */
static enum session_result
insecure(struct session *s, const char *why, const char *status)
{
	snprintf(s->security, sizeof s->security, "%s", why);
	s->security_status = status;
	session_quit(s);
	return SESSION_INSECURE;
}

static enum session_result
failed_handshake(struct session *s)
{
	char why[SESSION_SECURITY_MAX];

	snprintf(why, sizeof why, "TLS failed: %s", s->tls_client->trouble);
	return insecure(s, why, s->tls_client->is_own_trouble ? "4.3.0" : tls_failed);
}

/* Returns 1, or 0: the connection is of no use. */
static int
shake_hands(struct session *s)
{
	if (!connection_start_tls(&s->connection, s->tls_client, s->tls_name, s->tls_key, single_deadline(s))) {
		connection_close(&s->connection);
		return 0;
	}
	snprintf(s->security, sizeof s->security, "by TLSv1.2 with %s%s", tls_client_suite(s->tls_client),
	    s->tls_proof ? s->tls_proof : "");
	return 1;
}

/* After EHLO: STARTTLS, the handshake, and EHLO again. */
static enum session_result
secure(struct session *s, const char **refused)
{
	int has_to = s->tls == SESSION_TLS_MUST;

	if (!(s->extensions & SESSION_STARTTLS))
		return has_to ? insecure(s, "it does not offer TLS", no_tls) : SESSION_READY;
	if (connection_has_input(&s->connection)) {
		errno = EPROTO;
		return lost(s);
	}
	if (!ask(s, "STARTTLS", "")) {
		connection_close(&s->connection);
		return insecure(s, "TLS failed: the session ended at STARTTLS", tls_failed);
	}
	if (s->reply.code != 220 && (has_to || s->reply.code == 421))
		return insecure(s, "it offers TLS and refuses it", no_tls);
	if (s->reply.code != 220) {
		snprintf(s->security, sizeof s->security, "in clear text: the server offers TLS and refuses it");
		s->lacks_tls = 1;
		return SESSION_READY;
	}
	/* whoever put them there wants them read as if they had come by TLS */
	if (connection_has_input(&s->connection)) {
		connection_close(&s->connection);
		return insecure(s, "TLS failed: octets came in clear text after it was to begin", tls_failed);
	}
	if (!shake_hands(s))
		return failed_handshake(s);
	return introduce(s, refused);
}

/* --- AUTH ----------------------------------------------------------------------------------- */

/* The three steps of LOGIN, until one is not asked for. Returns 1, or 0 with errno. */
static int
ask_login(struct session *s, char text[SMTP_LOGIN_TEXT_MAX])
{
	if (!ask(s, "AUTH LOGIN", ""))
		return 0;
	if (s->reply.code != 334)
		return 1;
	if (!smtp_login_encode(text, s->user, strlen(s->user)) || !ask(s, text, ""))
		return 0;
	if (s->reply.code != 334)
		return 1;
	return smtp_login_encode(text, s->password, strlen(s->password)) && ask(s, text, "");
}

/* Logs in as the caller wants. A server that refuses that may take the mail of somebody else, but not ours. */
static enum session_result
log_in(struct session *s, const char **refused)
{
	char text[SMTP_LOGIN_TEXT_MAX];
	int ok;

	if (!(s->extensions & (SESSION_AUTH_PLAIN | SESSION_AUTH_LOGIN)))
		return insecure(s, "it offers neither AUTH PLAIN nor AUTH LOGIN", no_tls);
	errno = EPROTO;
	if (s->extensions & SESSION_AUTH_PLAIN)
		ok = smtp_login_plain(text, s->user, s->password) && ask(s, "AUTH PLAIN ", text);
	else
		ok = ask_login(s, text);
	explicit_bzero(text, sizeof text);
	if (!ok)
		return lost(s);
	return s->reply.code == 235 ? SESSION_READY : refused_by(s, refused, "login");
}

/* --- all of it ------------------------------------------------------------------------------ */

enum session_result
session_open(struct session *s, int fd, const char **refused)
{
	enum session_result result;

	connection_init(&s->connection, fd);
	s->messages = s->domains_len = 0;
	s->needs_reset = s->has_accepted = s->is_in_doubt = 0;
	s->security[0] = '\0';
	s->lacks_tls = 0;
	session_begin(s, SESSION_TIMEOUTS * (uint64_t)s->timeout);
	if (s->tls == SESSION_TLS_AT_ONCE && !shake_hands(s))
		return failed_handshake(s);
	if (!session_reply(s))
		return lost(s);
	if (s->reply.code != 220)
		return refused_by(s, refused, "greeting");
	result = introduce(s, refused);
	if (result == SESSION_READY && !s->connection.tls && s->tls != SESSION_CLEAR)
		result = secure(s, refused);
	if (result == SESSION_READY && s->user && *s->user)
		result = log_in(s, refused);
	if (result == SESSION_READY && connection_has_input(&s->connection)) {
		errno = EPROTO;
		return lost(s);
	}
	return result;
}

int
session_is_usable(const struct session *s)
{
	return s->connection.fd >= 0 && !connection_has_input(&s->connection) &&
	    (!s->messages_max || s->messages < s->messages_max);
}

/* FNV-1a, in lower case. Two names with the same digest would count as one, which the server then refuses. */
static uint64_t
digest(const char *domain)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *domain; domain++)
		h = (h ^ (unsigned char)(*domain >= 'A' && *domain <= 'Z' ? *domain + 32 : *domain)) * UINT64_C(1099511628211);
	return h;
}

int
session_take_domain(struct session *s, const char *domain)
{
	uint64_t h;

	if (!s->domains_max)
		return 1;
	h = digest(domain);
	for (unsigned int i = 0; i < s->domains_len; i++)
		if (s->domains[i] == h)
			return 1;
	if (s->domains_len >= s->domains_max)
		return 0;
	s->domains[s->domains_len++] = h;
	return 1;
}

void
session_quit(struct session *s)
{
	struct iovec v = { .iov_base = (void *)(uintptr_t)"QUIT\r\n", .iov_len = 6 };

	if (s->connection.fd < 0)
		return;
	/* the deadline is over already: what the socket does not take at once is not sent */
	connection_write(&s->connection, &v, 1, 0);
	connection_close(&s->connection);
}
