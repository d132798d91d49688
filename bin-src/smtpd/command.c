#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "ip_address.h"
#include "parameters.h"
#include "path.h"
#include "policy.h"
#include "recipient.h"
#include "session.h"
#include "stralloc_set.h"

enum {
	EXCESS = 10,	/* times maxrcpt: recipients above it that a session may name */
	SMALL_CHUNK = 512,	/* octets; smaller chunks are counted as commands that do nothing for a message */
	LIMIT_MAX = 999999,	/* RFC 9422 section 4: a limit has six digits */
};

/* --- what several commands need ------------------------------------------------------ */

static void
error(struct session *s, unsigned int code, const char *enhanced, const char *text)
{
	reply_put(&s->reply, code, enhanced, text);
	session_count_error(s);
}

static void
out_of_memory(struct session *s)
{
	reply_put(&s->reply, 421, "4.3.0", "out of memory");
	session_close(s, SESSION_BROKEN, "out of memory");
}

/* An address that is refused for the form of its command, with its line in the log. */
static void
refuse_form(struct session *s, const char *verb, const char *address, unsigned int code, const char *enhanced, const char *text)
{
	error(s, code, enhanced, text);
	session_log_refusal(s, verb, address, text);
}

/* The path of MAIL or RCPT behind its "FROM:" or "TO:", and its parameters. Returns 1, or 0: answered. */
static int
take_path(struct session *s, char *arg, size_t len, enum path_kind kind, struct path *path, struct parameters *parameters)
{
	static const struct { const char *verb, *word, *enhanced; enum parameters_command command; } rows[] = {
		[PATH_REVERSE] = { "MAIL", "FROM:", "5.1.7", PARAMETERS_MAIL },
		[PATH_FORWARD] = { "RCPT", "TO:", "5.1.3", PARAMETERS_RCPT },
	};
	const char *word = rows[kind].word;
	size_t n = strlen(word);
	enum path_result r;

	if (len < n || strncasecmp(arg, word, n) != 0) {
		refuse_form(s, rows[kind].verb, arg, 501, "5.5.4",
		    kind == PATH_REVERSE ? "syntax: MAIL FROM:<address>" : "syntax: RCPT TO:<address>");
		return 0;
	}
	r = path_parse(path, arg + n, len - n, kind);
	if (r != PATH_OK) {
		refuse_form(s, rows[kind].verb, arg + n, r == PATH_TOO_LONG ? 555 : 501, rows[kind].enhanced,
		    r == PATH_TOO_LONG ? "the address is too long" : "syntax error in the address");
		return 0;
	}
	switch (parameters_parse(parameters, arg + n + path->end, len - n - path->end, rows[kind].command)) {
	case PARAMETERS_MALFORMED:
		refuse_form(s, rows[kind].verb, path->address, 501, "5.5.4", "syntax error in the parameters");
		return 0;
	case PARAMETERS_UNKNOWN:
		refuse_form(s, rows[kind].verb, path->address, 555, "5.5.4", "a parameter that is not offered");
		return 0;
	case PARAMETERS_OK:
		break;
	}
	return 1;
}

/* Counts a command that does nothing for a message (control/maxsmtpidle). Returns 1 if it is one too many: the session ends. */
static int
idles_too_long(struct session *s)
{
	if (++s->idle <= s->settings->numbers[NUMBER_MAXIDLE])
		return 0;
	reply_put(&s->reply, 421, "4.7.0", "too many commands without a message");
	session_close(s, SESSION_REFUSED, "too many commands without a message");
	return 1;
}

/* --- HELO, EHLO ------------------------------------------------------------------------ */

/* An address literal as clients write it, its brackets included: some leave out "IPv6:", and some of those that have a link-local address
 * say its zone as well. */
static int
is_helo_literal(const char *arg, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	const char *s = strncasecmp(arg, "[IPv6:", 6) == 0 ? arg + 6 : arg + 1;
	size_t n = strcspn(s, "%]");
	ip46 ip;

	if (arg[len - 1] != ']' || s + strcspn(s, "]") != arg + len - 1 || n >= sizeof text)
		return 0;
	memcpy(text, s, n);
	text[n] = '\0';
	return ip_address_parse(&ip, text) && (ip46_is6(&ip) || (s == arg + 1 && s[n] == ']'));
}

/* A name: printable; what begins as an address literal (RFC 5321 section 4.1.3) has to be one. */
static int
is_helo_name(const char *arg, size_t len)
{
	if (len == 0 || len > PATH_DOMAIN_MAX)
		return 0;
	for (size_t i = 0; i < len; i++)
		if (arg[i] < 33 || arg[i] > 126)
			return 0;
	return arg[0] != '[' || is_helo_literal(arg, len);
}

/* A name that is none, made one that can be told: printers and scanners say words, or nothing. Returns its length. */
static size_t
clean_helo(char *arg, size_t len)
{
	if (len > PATH_DOMAIN_MAX)
		len = PATH_DOMAIN_MAX;
	for (size_t i = 0; i < len; i++)
		if (arg[i] < 33 || arg[i] > 126)
			arg[i] = '?';
	return len;
}

static int
take_helo(struct session *s, char *arg, size_t len)
{
	int is_name = is_helo_name(arg, len);

	if (!is_name && s->relayclient)	/* who may relay is known by the address */
		len = clean_helo(arg, len);
	else if (!is_name) {
		error(s, 501, "5.5.4", "syntax error in the name");
		return 0;
	}
	session_forget(s);
	if (!stralloc_setb(&s->helo, arg, len) || !stralloc_0(&s->helo)) {
		out_of_memory(s);
		return 0;
	}
	return 1;
}

static void
run_helo(struct session *s, char *arg, size_t len)
{
	if (take_helo(s, arg, len))
		reply_line(&s->reply, 250, ' ', s->settings->greeting.s);
}

/* A limit, never 0 (settings.h), as RFC 9422 section 4 can say it: of a larger one a part is promised. */
static unsigned long
sayable(unsigned long limit)
{
	return limit > LIMIT_MAX ? LIMIT_MAX : limit;
}

static void
run_ehlo(struct session *s, char *arg, size_t len)
{
	const unsigned long *numbers = s->settings->numbers;
	char line[128];

	if (!take_helo(s, arg, len))
		return;
	s->is_extended = s->reply.is_extended = 1;
	reply_line(&s->reply, 250, '-', s->settings->greeting.s);
	reply_line(&s->reply, 250, '-', "PIPELINING");	/* RFC 2920 */
	if (server_tls_is_offered(s->tls))
		reply_line(&s->reply, 250, '-', "STARTTLS");
	if (auth_is_offered(s))
		reply_line(&s->reply, 250, '-', "AUTH PLAIN LOGIN");
	snprintf(line, sizeof line, "SIZE %lu", numbers[NUMBER_DATABYTES]);	/* RFC 1870 section 3; 0: no limit */
	reply_line(&s->reply, 250, '-', line);
	reply_line(&s->reply, 250, '-', "8BITMIME");	/* RFC 6152 section 2 */
	reply_line(&s->reply, 250, '-', "SMTPUTF8");	/* RFC 6531 section 3.1 */
	reply_line(&s->reply, 250, '-', "ENHANCEDSTATUSCODES");	/* RFC 2034 section 4 */
	reply_line(&s->reply, 250, '-', "DSN");	/* RFC 3461 section 4 */
	reply_line(&s->reply, 250, '-', "CHUNKING");	/* RFC 3030 section 2 */
	snprintf(line, sizeof line, "LIMITS MAILMAX=%lu RCPTMAX=%lu", sayable(numbers[NUMBER_MAXMAIL]), sayable(numbers[NUMBER_MAXRCPT]));
	reply_line(&s->reply, 250, ' ', line);	/* RFC 9422 */
}

/* --- STARTTLS ---------------------------------------------------------------------------- */

/* RFC 3207 section 4 */
static void
run_starttls(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	if (s->is_tls)
		error(s, 503, "5.5.1", "the connection is protected already");
	else if (!server_tls_is_offered(s->tls) && !s->tls->is_required)
		error(s, 502, "5.5.1", "unimplemented");
	else if (server_tls_reach(s->tls)) {
		reply_put(&s->reply, 220, "2.0.0", "ready to start TLS");
		session_protect(s);
	} else {
		reply_put(&s->reply, 454, "4.7.0", "TLS is not available now");
		session_log_refusal(s, "STARTTLS", "", s->tls->text);
	}
}

/* --- AUTH ---------------------------------------------------------------------------------- */

static void
run_auth(struct session *s, char *arg, size_t len)
{
	(void)len;
	auth_run(s, arg);
}

/* --- MAIL, RCPT ------------------------------------------------------------------------ */

/* Whether this sender's message is taken, as far as its MAIL command tells; else answers. */
static int
is_mail_taken(struct session *s, const struct path *path, const struct parameters *parameters)
{
	unsigned long most = s->settings->numbers[NUMBER_DATABYTES];

	if (parameters->is_smtputf8 && !s->is_extended) {
		refuse_form(s, "MAIL", path->address, 555, "5.5.4", "SMTPUTF8 needs EHLO");
		return 0;
	}
	if (path->is_internationalized && !parameters->is_smtputf8) {	/* RFC 6531 section 3.5: 550 here, 553 at RCPT */
		refuse_form(s, "MAIL", path->address, 550, "5.6.7", "such an address needs SMTPUTF8");
		return 0;
	}
	if (most && parameters->size > most)	/* RFC 1870 section 6.1 */
		reply_put(&s->reply, 552, "5.3.4", "sorry, that message size exceeds my databytes limit");
	else if (s->settings->numbers[NUMBER_REJECTNULL] && policy_is_null_sender(path->address, path->len))
		reply_put(&s->reply, 553, "5.7.1", "sorry, no mail from the null sender is taken here");
	else if (auth_takes_sender(s, path->address))
		return 1;
	session_log_refusal(s, "MAIL", path->address, s->reply.last);
	return 0;
}

static void
run_mail(struct session *s, char *arg, size_t len)
{
	const char *lack = auth_lacks(s);
	struct path path;
	struct parameters parameters;

	session_reset(s);
	if (lack) {
		error(s, 530, "5.7.0", lack);
		return;
	}
	if (s->is_tls && !s->helo.len) {
		error(s, 503, "5.5.1", "EHLO first");
		return;
	}
	if (s->mails >= s->settings->numbers[NUMBER_MAXMAIL]) {
		reply_put(&s->reply, 421, "4.7.0", "too many messages in one session");
		session_close(s, SESSION_REFUSED, "too many messages");
		return;
	}
	if (!take_path(s, arg, len, PATH_REVERSE, &path, &parameters) || !is_mail_taken(s, &path, &parameters))
		return;
	if (!stralloc_setb(&s->mail.sender, path.address, path.len + 1) ||
	    !stralloc_setb(&s->mail.sender_parameters, parameters.text, parameters.len + 1)) {
		out_of_memory(s);
		return;
	}
	s->mails++;
	s->phase = PHASE_SENDER;
	s->mail.is_smtputf8 = parameters.is_smtputf8;
	s->mail.is_bad_sender = policy_is_bad_sender(s->settings, path.address, path.len, s->relayclient != NULL);
	reply_put(&s->reply, 250, "2.1.0", "ok");
}

/* A client that names many recipients waits for each (tarpitcount, tarpitdelay). */
static void
tarpit(struct session *s)
{
	const unsigned long *numbers = s->settings->numbers;

	if (s->relayclient || !numbers[NUMBER_TARPITCOUNT] || s->mail.count < numbers[NUMBER_TARPITCOUNT])
		return;
	reply_flush(&s->reply);
	poll(NULL, 0, (int)numbers[NUMBER_TARPITDELAY] * 1000);
}

/* The client sends to the others in another transaction; it may have named them all already. The first of a message is logged. */
static void
too_many_recipients(struct session *s, const char *address)
{
	s->refused++;
	if (++s->excess <= EXCESS * s->settings->numbers[NUMBER_MAXRCPT]) {
		reply_put(&s->reply, 452, "4.5.3", "sorry, too many recipients");
		if (!s->mail.has_excess)
			session_log_refusal(s, "RCPT", address, s->reply.last);
		s->mail.has_excess = 1;
		return;
	}
	reply_put(&s->reply, 421, "4.5.3", "sorry, too many recipients");
	session_close(s, SESSION_REFUSED, "too many recipients");
}

static void
run_rcpt(struct session *s, char *arg, size_t len)
{
	struct path path;
	struct parameters parameters;

	if (!take_path(s, arg, len, PATH_FORWARD, &path, &parameters)) {
		session_count_refusal(s);
		return;
	}
	if (path.is_internationalized && !s->mail.is_smtputf8) {	/* RFC 6531 section 3.5 */
		refuse_form(s, "RCPT", path.address, 553, "5.6.7", "such an address needs SMTPUTF8");
		session_count_refusal(s);
		return;
	}
	if (s->mail.count >= s->settings->numbers[NUMBER_MAXRCPT]) {
		too_many_recipients(s, path.address);
		return;
	}
	tarpit(s);
	if (!recipient_is_taken(s, &path)) {
		session_count_refusal(s);
		return;
	}
	if (!stralloc_catb(&s->mail.recipients, path.address, path.len + 1) ||
	    !stralloc_catb(&s->mail.recipients, parameters.text, parameters.len + 1)) {
		out_of_memory(s);
		return;
	}
	s->mail.count++;
	s->recipients++;
	s->phase = PHASE_RECIPIENT;
	reply_put(&s->reply, 250, "2.1.5", "ok");
}

/* --- DATA, BDAT -------------------------------------------------------------------------- */

static void
run_data(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	if (!auth_takes_message(s)) {
		session_reset(s);
		return;
	}
	reply_put(&s->reply, 354, "", "go ahead");
	delivery_data(s);
}

/* "SIZE" or "SIZE LAST" (RFC 3030 section 2). Returns 0 if it is neither: then nobody knows where the chunk ends. */
static int
scan_chunk(char *arg, uint64_t *size, int *is_last)
{
	char *end;

	if (*arg < '0' || *arg > '9')
		return 0;
	errno = 0;
	*size = strtoull(arg, &end, 10);
	if (errno || *size > UINT64_C(1) << 62)
		return 0;
	*is_last = strcasecmp(end, " LAST") == 0;
	return *is_last || !*end;
}

static void
run_bdat(struct session *s, char *arg, size_t len)
{
	uint64_t size;
	int is_last;

	(void)len;
	if (!scan_chunk(arg, &size, &is_last)) {
		reply_put(&s->reply, 501, "5.5.4", "syntax: BDAT octets [LAST]");
		session_close(s, SESSION_REFUSED, "BDAT without a size");
	} else if (is_last || size >= SMALL_CHUNK || !idles_too_long(s))
		delivery_chunk(s, size, is_last);
}

/* --- the others --------------------------------------------------------------------------- */

static void
run_rset(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	session_reset(s);
	reply_put(&s->reply, 250, "2.0.0", "flushed");
}

static void
run_noop(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	reply_put(&s->reply, 250, "2.0.0", "ok");
}

static void
run_vrfy(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	reply_put(&s->reply, 252, "2.0.0", "send some mail, i'll try my best");
}

static void
run_help(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	reply_put(&s->reply, 214, "2.0.0", "tambo: see RFC 5321");
}

static void
run_quit(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	reply_put(&s->reply, 221, "2.0.0", s->settings->greeting.s);
	session_close(s, SESSION_QUIT, "");
}

static void
run_unimplemented(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	error(s, 502, "5.5.1", "unimplemented");
}

/* Words of other protocols: what follows is not meant for us, and may be meant by somebody else. */
static void
run_foreign(struct session *s, char *arg, size_t len)
{
	(void)arg, (void)len;
	reply_put(&s->reply, 500, "5.5.1", "this port speaks SMTP");
	session_close(s, SESSION_REFUSED, "not SMTP");
}

/* --- the table ------------------------------------------------------------------------------ */

typedef void handler(struct session *s, char *arg, size_t len);

enum {
	NO_ARGUMENT = 1 << 0,
	LAST_IN_GROUP = 1 << 1,	/* what was sent before the reply came would be taken for something else (RFC 2920 section 3.1) */
	IDLES = 1 << 2,		/* does nothing for a message: counted (control/maxsmtpidle) */
	PROTECTED = 1 << 3,	/* refused without TLS where that is required (RFC 3207 section 4) */
};

static const struct command {
	const char *verb;
	unsigned int phases, flags;	/* phases: in which it may come (RFC 5321 section 4.1.4) */
	handler *run;
} commands[] = {
	{ "MAIL", PHASE_IDLE | PHASE_SENDER | PHASE_RECIPIENT, IDLES | PROTECTED, run_mail },
	{ "RCPT", PHASE_SENDER | PHASE_RECIPIENT, PROTECTED, run_rcpt },
	{ "DATA", PHASE_RECIPIENT, NO_ARGUMENT | LAST_IN_GROUP | PROTECTED, run_data },
	{ "BDAT", PHASE_ANY, 0, run_bdat },	/* in each phase its octets have to be taken; it needs MAIL */
	{ "RSET", PHASE_ANY, IDLES | PROTECTED, run_rset },
	{ "QUIT", PHASE_ANY, 0, run_quit },
	{ "EHLO", PHASE_ANY, IDLES | LAST_IN_GROUP, run_ehlo },
	{ "HELO", PHASE_ANY, IDLES | LAST_IN_GROUP | PROTECTED, run_helo },
	{ "STARTTLS", PHASE_IDLE | PHASE_SENDER | PHASE_RECIPIENT, NO_ARGUMENT | IDLES | LAST_IN_GROUP, run_starttls },
	{ "AUTH", PHASE_IDLE | PHASE_SENDER | PHASE_RECIPIENT, IDLES | LAST_IN_GROUP, run_auth },
	{ "NOOP", PHASE_ANY, IDLES, run_noop },
	{ "VRFY", PHASE_ANY, IDLES | PROTECTED, run_vrfy },
	{ "HELP", PHASE_ANY, IDLES | PROTECTED, run_help },
	{ "GET", PHASE_ANY, 0, run_foreign },
	{ "POST", PHASE_ANY, 0, run_foreign },
	{ "PUT", PHASE_ANY, 0, run_foreign },
	{ "HEAD", PHASE_ANY, 0, run_foreign },
	{ "OPTIONS", PHASE_ANY, 0, run_foreign },
	{ "DELETE", PHASE_ANY, 0, run_foreign },
	{ "CONNECT", PHASE_ANY, 0, run_foreign },
	{ "PRI", PHASE_ANY, 0, run_foreign },
	{ "PROXY", PHASE_ANY, 0, run_foreign },
	{ NULL, PHASE_ANY, 0, run_unimplemented },	/* EXPN and all else */
};

static const struct command *
find(const char *verb, size_t len)
{
	const struct command *c = commands;

	while (c->verb && (strlen(c->verb) != len || strncasecmp(c->verb, verb, len) != 0))
		c++;
	return c;
}

/* RFC 5321 section 4.1.4 */
static const char *
out_of_order(const struct session *s)
{
	return s->phase == PHASE_CHUNKS ? "the message is not at its end: BDAT or RSET" : s->phase == PHASE_IDLE ? "MAIL first" : "RCPT first";
}

void
command_run(struct session *s, char *line, size_t len)
{
	size_t verb = strcspn(line, " \t"), blanks;
	const struct command *c = find(line, verb);
	char *arg;

	while (len > verb && (line[len - 1] == ' ' || line[len - 1] == '\t'))
		line[--len] = '\0';
	blanks = strspn(line + verb, " \t");
	arg = line + verb + blanks;
	len -= verb + blanks;
	if (c->flags & IDLES && idles_too_long(s))
		return;
	if (c->flags & LAST_IN_GROUP && !input_is_empty(&s->in))
		session_refuse_haste(s);
	else if (c->flags & PROTECTED && s->tls->is_required && !s->is_tls)
		error(s, 530, "5.7.0", "must issue a STARTTLS command first");
	else if (!(s->phase & c->phases))
		error(s, 503, "5.5.1", out_of_order(s));
	else if (c->flags & NO_ARGUMENT && len)
		error(s, 501, "5.5.4", "this command has no argument");
	else
		c->run(s, arg, len);
}
