/* Whole sessions of qmail-remote with servers that say any octets, and with what they are to be told: one message, twice, over the
 * connections that it takes. An input is lines. The first are the options (enum and option()), the sender, and the recipients up
 * to an empty line, each address with its parameters after a tab. The others are what the server does:
 *	text	is said, with LF, and read by itself
 *	+text	is said along with the line before, so that both are read at once
 *	~	is silent until a time is over
 *	%	takes one octet of the next write, and for the moment no more
 *	!	is gone: nothing can be written any more; what it says yet can be read
 *	=	ends the connection; what follows is said on the next one
 * The conversation is read a second time, by the order of RFC 5321: a reply to each command. Who is reported delivered was accepted there,
 * with a message that was sent whole and taken; nobody is delivered twice, or failed whom the server has taken. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <skalibs/stralloc.h>
#include "bin-src/remote/smtp_command.h"
#include "bin-src/remote/transaction.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
ssize_t __wrap_recv(int fd, void *to, size_t len, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);

enum {
	RECIPIENTS = 6, MANY = 90, RUNS = 2, TIMEOUT = 20, LARGE = 3 * TRANSACTION_BUFFER, LINE_MAX_OCTETS = 4000,
	OPTION_MAY = 1, OPTION_MUST = 2, OPTION_AT_ONCE = 4, OPTION_LOGIN = 8, OPTION_8BIT = 16, OPTION_LARGE = 32, OPTION_MANY = 64,
	OPTION_EMPTY = 128,
};

/* --- the server, and the wire to it ---------------------------------------------------------------------- */

static struct {
	struct given script;
	uint64_t now_ms;
	int is_silent, is_short, is_gone;
	int has_tls, must_have_tls;
	stralloc said, heard;		/* on this connection */
} server;

/* Does what comes before the next octets. */
static void
act(void)
{
	while (server.script.len >= 2 && server.script.s[1] == '\n' && strchr("~%!", *server.script.s) && *server.script.s) {
		server.is_silent |= *server.script.s == '~';
		if (*server.script.s == '%')
			server.is_short = 1;
		server.is_gone |= *server.script.s == '!';
		given_piece(&server.script, 2);
		if (server.is_silent)
			return;
	}
}

static int
has_ended(void)
{
	return !server.script.len || (server.script.len >= 2 && memcmp(server.script.s, "=\n", 2) == 0);
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	*t = (struct timespec){ .tv_sec = (time_t)(server.now_ms / 1000), .tv_nsec = (long)(server.now_ms % 1000) * 1000000 };
	return 0;
}

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	assert(n == 1 && p->fd >= 0 && timeout >= 0 && timeout <= TIMEOUT * 1000);
	act();
	p->revents = 0;
	if (!server.is_silent)
		p->revents = p->events;
	else
		server.now_ms += (uint64_t)timeout;
	server.is_silent = 0;
	return p->revents != 0;
}

ssize_t
__wrap_recv(int fd, void *to, size_t len, int flags)
{
	size_t n = 0;

	assert(fd >= 0 && len && !flags);
	act();
	if (server.is_silent) {
		errno = EAGAIN;
		return -1;
	}
	while (!has_ended() && n < len && (!n || *server.script.s == '+')) {
		const uint8_t *lf;
		struct given line;

		if (*server.script.s == '+')
			given_piece(&server.script, 1);
		if (!server.script.len)
			break;
		lf = memchr(server.script.s, '\n', server.script.len < len - n ? server.script.len : len - n);
		line = given_piece(&server.script, lf ? (size_t)(lf + 1 - server.script.s) : len - n);
		memcpy((char *)to + n, line.s, line.len);
		n += line.len;
		if (n == len)
			break;
	}
	assert(stralloc_catb(&server.said, to, n));
	return (ssize_t)n;
}

/* In clear text nothing is said where there has to be TLS, but what leads to it. */
static void
check_secrecy(const char *s)
{
	static const char *const leading[] = { "EHLO ", "HELO ", "STARTTLS", "QUIT" };
	size_t n = 0, len = strlen(s);

	while (n < 4 && strncmp(s, leading[n], len < strlen(leading[n]) ? len : strlen(leading[n])) != 0)
		n++;
	assert(n < 4 || server.has_tls || !server.must_have_tls);
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	size_t before = server.heard.len, most = server.is_short ? 1 : SIZE_MAX;

	assert(fd >= 0 && m && flags & MSG_NOSIGNAL);
	act();
	if (server.is_gone) {
		errno = EPIPE;
		return -1;
	}
	if (server.is_short == 2) {
		server.is_short = 0;
		errno = EAGAIN;
		return -1;
	}
	for (size_t i = 0; i < m->msg_iovlen && server.heard.len - before < most; i++)
		assert(stralloc_catb(&server.heard, m->msg_iov[i].iov_base, m->msg_iov[i].iov_len < most ? m->msg_iov[i].iov_len : most));
	server.is_short = server.is_short ? 2 : 0;
	assert(stralloc_0(&server.heard));
	server.heard.len--;
	if (before == 0 || server.heard.s[before - 1] == '\n')
		check_secrecy(server.heard.s + before);
	return (ssize_t)(server.heard.len - before);
}

/* --- TLS, which says the same ----------------------------------------------------------------------------- */

int
tls_client_start(struct tls_client *t, int fd, const char *name, const char *key, uint64_t deadline)
{
	(void)name, (void)key;
	assert(t && fd >= 0 && deadline >= server.now_ms);
	assert(!server.has_tls);
	act();
	server.has_tls = !server.is_gone;
	snprintf(t->trouble, sizeof t->trouble, "%s", server.is_gone ? "gone" : "");
	return server.has_tls;
}

ssize_t
tls_client_receive(struct tls_client *t, int fd, void *to, size_t len)
{
	assert(t && server.has_tls);
	return __wrap_recv(fd, to, len, 0);
}

int
tls_client_has_input(const struct tls_client *t)
{
	return t == NULL;
}

ssize_t
tls_client_send(struct tls_client *t, int fd, const struct iovec *v, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = (size_t)n };

	assert(t && server.has_tls);
	return __wrap_sendmsg(fd, &m, MSG_NOSIGNAL);
}

int
tls_client_flush(struct tls_client *t)
{
	return t == NULL;
}

void
tls_client_end(struct tls_client *t, int fd)
{
	assert(t && fd >= 0);
}

const char *
tls_client_suite(const struct tls_client *t)
{
	(void)t;
	return "TLS_SUITE";
}

/* --- what is sent ------------------------------------------------------------------------------------------ */

static struct {
	struct transaction_recipient recipients[MANY];
	char *strings[MANY];
	unsigned int len;
	char *sender;
	unsigned int options;
	struct mail_data data;
	unsigned int delivered[MANY];	/* on the connection: how often the server has taken it for him */
} mail;

static char large[LARGE];

static void
choose_message(void)
{
	static const char small[] = "Subject: x\n\n.\n..\nend", eight[] = "Subject: x\n\n\xc3\xa9\n";
	const char *s = mail.options & OPTION_EMPTY ? "" : mail.options & OPTION_8BIT ? eight : small;

	if (mail.options & OPTION_LARGE)
		mail_data_init(&mail.data, large, -1, sizeof large);
	else
		mail_data_init(&mail.data, s, -1, strlen(s));
	assert(mail_data_survey(&mail.data));
}

static unsigned int
option(char letter)
{
	static const char letters[] = "tTsa8lme";
	const char *found = letter ? strchr(letters, letter) : NULL;

	return found ? 1U << (found - letters) : 0;
}

/* Cuts the address off from its parameters. */
static const char *
cut(char *s)
{
	char *tab = strchr(s, '\t');

	if (tab)
		*tab++ = '\0';
	return tab;
}

/* Whether a command for somebody before is the same, so that the second reading could not tell who was meant. */
static int
is_known(const char *address)
{
	static stralloc command, other;

	for (unsigned int i = 0; i < 2 * mail.len && i < 2 * RECIPIENTS; i++) {
		unsigned int extensions = i % 2 ? SESSION_SMTPUTF8 : 0;

		command.len = other.len = 0;
		assert(smtp_command_rcpt(&command, address, NULL, extensions) &&
		    smtp_command_rcpt(&other, mail.recipients[i / 2].address, NULL, extensions));
		if (command.len == other.len && memcmp(command.s, other.s, other.len) == 0)
			return 1;
	}
	return 0;
}

static const char *
take_mail(struct given *g)
{
	struct given options = given_until(g, '\n');
	const char *parameters;

	mail.options = mail.len = 0;
	while (options.len)
		mail.options |= option((char)given_number(&options, 1));
	mail.sender = given_string(given_until(g, '\n'));
	parameters = cut(mail.sender);
	while (mail.len < RECIPIENTS) {
		struct given line = given_until(g, '\n');
		char *s;

		if (!line.len)
			break;
		s = mail.strings[mail.len] = given_string(line);
		mail.recipients[mail.len].parameters = cut(s);
		mail.recipients[mail.len].address = s;
		if (is_known(s))
			free(s);
		else
			mail.len++;
	}
	for (; mail.len && mail.options & OPTION_MANY && mail.len < MANY; mail.len++) {
		char s[] = { 'm', (char)('a' + mail.len / 26), (char)('a' + mail.len % 26), '@', (char)('a' + mail.len % 7), '\0' };

		if (is_known(s))
			break;
		mail.strings[mail.len] = given_copy(s, sizeof s);
		mail.recipients[mail.len] = (struct transaction_recipient){ .address = mail.strings[mail.len] };
	}
	choose_message();
	return parameters;
}

static void
free_mail(void)
{
	while (mail.len)
		free(mail.strings[--mail.len]);
	free(mail.sender);
	mail_data_free(&mail.data);
}

/* --- the second reading -------------------------------------------------------------------------------------- */

static struct {
	struct given heard, said;
	char *keywords;			/* of the last EHLO that was answered, in upper case; NULL none */
	unsigned int code;		/* of the last reply; 0: there is none, or what makes no sense */
	unsigned int transactions;
	int has_sender;
	unsigned int next;		/* who is probably asked for next */
	size_t octets;			/* of a message in chunks */
	unsigned int accepted[MANY], accepted_len;	/* recipients */
} reading;

/* The next line of the server, without its end. */
static struct given
server_line(void)
{
	struct given line = given_until(&reading.said, '\n');

	if (line.len && line.s[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* Takes a reply; all, its octets. The code is 0 from the first one on that is none. */
static struct given
take_reply(void)
{
	struct given all = { reading.said.s, 0 }, line;

	do {
		char digits[4] = "";

		reading.code = 0;
		if (!memchr(reading.said.s, '\n', reading.said.len))
			return all;
		line = server_line();
		if (line.len < 3)
			return all;
		memcpy(digits, line.s, 3);
		reading.code = strspn(digits, "0123456789") == 3 ? (unsigned int)strtoul(digits, NULL, 10) : 0;
	} while (line.len > 3 && line.s[3] == '-' && reading.code);
	all.len = (size_t)(reading.said.s - all.s);
	return all;
}

static int
offers(const char *keyword)
{
	return reading.keywords && strstr(reading.keywords, keyword);
}

static void
learn(struct given reply)
{
	free(reading.keywords);
	reading.keywords = given_string(reply);
	for (char *s = reading.keywords; s < reading.keywords + reply.len; s++)
		*s = *s >= 'a' && *s <= 'z' ? (char)(*s - 32) : *s ? *s : ' ';
}

static void
forget_transaction(void)
{
	reading.has_sender = 0;
	reading.octets = 0;
	reading.accepted_len = 0;
}

static void
take_message(void)
{
	if (reading.code / 100 == 2)
		for (unsigned int i = 0; i < reading.accepted_len; i++)
			mail.delivered[reading.accepted[i]]++;
	forget_transaction();
}

static int
is_recipient(struct given line, const struct transaction_recipient *r)
{
	static const unsigned int extensions[] = { 0, SESSION_SMTPUTF8, SESSION_DSN, SESSION_SMTPUTF8 | SESSION_DSN };
	static stralloc command;

	for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
		command.len = 0;
		assert(smtp_command_rcpt(&command, r->address, r->parameters, extensions[i]));
		if (command.len == line.len + 2 && memcmp(command.s, line.s, line.len) == 0)
			return 1;
	}
	return 0;
}

/* Somebody whom the message is for, and who is not in this transaction yet. */
static void
take_recipient(struct given line)
{
	unsigned int n = reading.next, tries = 0;

	for (; tries < mail.len && !is_recipient(line, mail.recipients + n % mail.len); tries++)
		n++;
	assert(tries < mail.len);
	n %= mail.len;
	reading.next = n + 1;
	for (unsigned int i = 0; i < reading.accepted_len; i++)
		assert(reading.accepted[i] != n);
	if (reading.has_sender && reading.code / 100 == 2)
		reading.accepted[reading.accepted_len++] = n;
}

/* So many octets of a message, all of it or a piece. Returns how many there are. */
static size_t
take_octets(size_t len)
{
	struct given octets = given_piece(&reading.heard, len);

	if (!offers("8BITMIME") && !offers("SMTPUTF8"))
		for (size_t i = 0; i < octets.len; i++)
			assert(octets.s[i] < 128);
	return octets.len;
}

/* The message is all of it; one that was converted has another size. */
static void
check_size(size_t len)
{
	assert(!reading.accepted_len || mail.options & OPTION_8BIT || len >= mail.data.wire_size);
}

/* After 354. Returns whether it came to its end. */
static int
take_dotted(void)
{
	static const char dot[] = "\r\n.\r\n";
	int is_empty = reading.heard.len >= 3 && memcmp(reading.heard.s, dot + 2, 3) == 0;
	const uint8_t *end = is_empty ? reading.heard.s : memmem(reading.heard.s, reading.heard.len, dot, 5);

	if (!end) {
		take_octets(reading.heard.len);
		return 0;
	}
	check_size(take_octets((size_t)(end - reading.heard.s) + (is_empty ? 0 : 2)));
	given_piece(&reading.heard, 3);
	return 1;
}

/* A command of the client. */
static int
is_command(struct given line, const char *verb)
{
	return line.len >= strlen(verb) && memcmp(line.s, verb, strlen(verb)) == 0;
}

static void
check_line(struct given line)
{
	static const char *const verbs[] = { "EHLO client.test", "HELO client.test", "STARTTLS", "AUTH PLAIN ", "AUTH LOGIN", "MAIL FROM:<", "RCPT TO:<",
	    "DATA", "BDAT ", "RSET", "QUIT", NULL };
	size_t known = 0;

	assert(line.len <= LINE_MAX_OCTETS);
	for (size_t i = 0; i < line.len; i++)
		assert(line.s[i] >= 32 && line.s[i] != 127 && (line.s[i] < 128 || offers("SMTPUTF8")));
	while (verbs[known] && !is_command(line, verbs[known]))
		known++;
	assert(verbs[known]);
	assert(!is_command(line, "AUTH") || (offers("AUTH") && mail.options & OPTION_LOGIN));
	assert(!is_command(line, "STARTTLS") || offers("STARTTLS"));
	assert(!is_command(line, "BDAT") || offers("CHUNKING"));
	if (is_command(line, "MAIL") || is_command(line, "RCPT")) {
		const char *s = memrchr(line.s, '>', line.len), *end = (const char *)line.s + line.len;

		assert(s && (s + 1 == end || s[1] == ' '));
		assert(!memmem(s, (size_t)(end - s), " SIZE=", 6) || offers("SIZE"));
		assert(!memmem(s, (size_t)(end - s), " BODY=", 6) || offers("8BITMIME"));
		assert(!memmem(s, (size_t)(end - s), " SMTPUTF8", 9) || offers("SMTPUTF8"));
		assert(!memmem(s, (size_t)(end - s), " NOTIFY=", 8) || offers("DSN"));
	}
}

static void
obey_bdat(struct given line)
{
	char *s = given_string(line), *rest;
	size_t n = strtoul(s + 5, &rest, 10), came = take_octets(n);
	int is_last = strcmp(rest, " LAST") == 0;

	assert(is_last || !*rest);
	free(s);
	reading.octets += came;
	take_reply();
	if (came < n || (!is_last && reading.code / 100 != 2))
		forget_transaction();
	else if (is_last) {
		check_size(reading.octets);
		take_message();
	}
}

static void
obey_data(void)
{
	take_reply();
	if (reading.code != 354)
		return;
	if (take_dotted()) {
		take_reply();
		take_message();
	}
}

static void
obey(struct given line)
{
	if (is_command(line, "BDAT"))
		obey_bdat(line);
	else if (is_command(line, "DATA"))
		obey_data();
	else if (!is_command(line, "QUIT")) {
		struct given reply = take_reply();
		int is_ok = reading.code / 100 == 2;

		if (is_command(line, "EHLO"))
			learn(reply);
		else if (is_command(line, "MAIL")) {
			assert(!reading.has_sender);
			reading.has_sender = is_ok;
			reading.transactions++;
		} else if (is_command(line, "RCPT"))
			take_recipient(line);
		else if (is_command(line, "RSET"))
			forget_transaction();
		/* user and password, which are no commands */
		for (int i = 0; i < 2 && is_command(line, "AUTH") && reading.code == 334; i++) {
			given_until(&reading.heard, '\n');
			take_reply();
		}
	}
}

/* Reads what was said on the connection that has ended, or goes on. */
static void
read_conversation(void)
{
	char *said = given_copy(server.said.s, server.said.len), *heard = given_copy(server.heard.s, server.heard.len);

	memset(mail.delivered, 0, sizeof mail.delivered);	/* all of it is read again */
	free(reading.keywords);
	memset(&reading, 0, sizeof reading);
	reading.said = (struct given){ (uint8_t *)said, server.said.len };
	reading.heard = (struct given){ (uint8_t *)heard, server.heard.len };
	take_reply();
	while (memchr(reading.heard.s, '\n', reading.heard.len)) {
		struct given line = given_until(&reading.heard, '\n');

		assert(line.len && line.s[line.len - 1] == '\r');
		line.len--;
		check_line(line);
		obey(line);
	}
	free(said), free(heard);
}

/* --- a run ----------------------------------------------------------------------------------------------------- */

static struct session session;
static struct tls_client tls;

/* Another connection. Returns whether the session can be used. */
static int
connect_server(int is_first)
{
	const char *refused;
	int r;

	while (!is_first && !has_ended())
		given_until(&server.script, '\n');
	if (server.script.len && !is_first)
		given_piece(&server.script, 2);
	server.said.len = server.heard.len = 0;
	server.is_silent = server.is_short = server.is_gone = server.has_tls = 0;
	server.must_have_tls = (mail.options & (OPTION_MUST | OPTION_AT_ONCE)) != 0;
	session = (struct session){
		.helo = "client.test", .timeout = TIMEOUT, .host = "192.0.2.1", .tls_client = &tls,
		.tls = mail.options & OPTION_AT_ONCE ? SESSION_TLS_AT_ONCE : mail.options & OPTION_MUST ? SESSION_TLS_MUST :
		    mail.options & OPTION_MAY ? SESSION_TLS_MAY : SESSION_CLEAR,
	};
	if (mail.options & OPTION_LOGIN)
		session.user = "user", session.password = "password";
	r = session_open(&session, open("/dev/null", O_RDWR | O_CLOEXEC), &refused) == SESSION_READY;
	assert(r || session.connection.fd < 0);
	read_conversation();
	assert(!reading.transactions);
	assert(!r || !server.must_have_tls || server.has_tls);
	return r;
}

static unsigned int
count_open(const struct report *r)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < r->len; i++)
		n += report_is_open(r, i) != 0;
	return n;
}

static void
check_outcomes(const struct report *r, const unsigned int *delivered)
{
	static stralloc text;

	for (unsigned int n = 0; n < r->len; n++) {
		char letter = report_outcome(r, n, &text);

		assert(letter == 'K' || letter == 'k' || letter == 'Z' || letter == 'D');
		assert(text.len);
		if (letter == 'K' || letter == 'k')
			assert(delivered[n] == 1);
		else
			assert(!delivered[n] || letter == 'Z');
		assert(delivered[n] <= 1);
	}
	/* of each recipient and each transaction a reply, and who said it */
	assert(r->texts.len <= (2 * (size_t)r->len + 2) * (SMTP_REPLY_TEXT_MAX + SESSION_SECURITY_MAX + 4 * LINE_MAX_OCTETS));
}

/* Adds to delivered what has come to that on the connection. */
static void
count_delivered(unsigned int *delivered)
{
	unsigned int before[MANY];

	memcpy(before, mail.delivered, sizeof before);
	read_conversation();
	for (unsigned int n = 0; n < mail.len; n++) {
		assert(mail.delivered[n] >= before[n]);
		delivered[n] += mail.delivered[n] - before[n];
	}
}

/* The message once. Returns whether the session can be used for another. */
static int
run(const char *sender_parameters, int is_first)
{
	static struct report report;
	const struct transaction t = { .sender = mail.sender, .sender_parameters = sender_parameters, .recipients = mail.recipients,
		.data = &mail.data, .report = &report };
	unsigned int delivered[MANY] = { 0 }, connections = 0;
	int is_done = 0;

	assert(report_begin(&report, mail.len));
	while (!is_done) {
		unsigned int before = count_open(&report);
		int is_new = !session_is_usable(&session);

		if (is_new)
			session_quit(&session);
		if (is_new && !connect_server(is_first && !connections))
			return 0;
		connections += is_new;
		is_done = transaction_run(&session, &t);
		count_delivered(delivered);
		assert(is_done || !is_new || count_open(&report) < before);
	}
	assert(connections <= mail.len && !count_open(&report));
	check_outcomes(&report, delivered);
	return session_is_usable(&session);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	const char *parameters = take_mail(&g);

	if (!large[0])
		for (size_t i = 0; i < sizeof large; i++)
			large[i] = i % 64 == 63 ? '\n' : 'x';
	server.script = g;
	server.now_ms = 1000;
	connection_init(&session.connection, -1);
	for (int i = 0; i < RUNS && mail.len && run(parameters, i == 0); i++)
		;
	session_quit(&session);
	free_mail();
	return 0;
}
