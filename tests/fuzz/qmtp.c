/* Clients of qmail-qmtpd that send any octets, in pieces of any length: an octet for that, then what they send. */
#include "transfer.h"
#define main qmtpd_main
#include "bin-src/smtpd/qmail-qmtpd.c"	/* NOLINT(bugprone-suspicious-include): the session is static there */
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { RECIPIENTS_MAX = 5 };
static struct given sent;	/* what is not yet taken */
static stralloc due;		/* the replies to the message before, each with an LF; empty: whatever the queue says */

/* --- the policy of a server that takes everything ---------------------------------------------------- */

enum policy_answer
policy_takes_mail_for(const struct settings *s, const char *address, size_t len)
{
	assert(s && address && len <= ADDRESS_MAX);
	return POLICY_YES;
}

int
policy_is_bad_sender(const struct settings *s, const char *address, size_t len, int may_relay)
{
	return s && address && len == 0 && may_relay;
}

int
policy_is_bad_recipient(const struct settings *s, const char *address, size_t len, int may_relay)
{
	return s && address && len == 0 && may_relay;
}

int
policy_is_null_sender(const char *address, size_t len)
{
	(void)address;
	return len == 0;
}

int
policy_is_postmaster(const char *address, size_t len)
{
	return address && len == 10;
}

/* RCPTCHECK refuses who begins with 'P', with a text of the next octet's; qmail-rcptd does not know who begins with 'U'. */
static char
text_of(const char *address, size_t len)
{
	return len > 1 && address[1] > ' ' && address[1] < 127 ? address[1] : '?';
}

int
recipient_checks_ask_lists(struct recipient_checks *c, int may_relay, struct recipient_refusal *why, const char **log)
{
	return c && !may_relay && why && log;
}

int
recipient_checks_ask_program(struct recipient_checks *c, int may_relay, const char *sender, const char *address, const char *helo,
    struct recipient_refusal *why)
{
	static char text[2];

	assert(c && !may_relay && strlen(sender) <= ADDRESS_MAX && strlen(address) <= ADDRESS_MAX && !*helo);
	if (*address != 'P')
		return -1;
	text[0] = text_of(address, strlen(address));
	*why = (struct recipient_refusal){ .code = 550, .enhanced = "5.1.1", .text = text };
	return 0;
}

int
recipient_checks_ask_accounts(struct recipient_checks *c, const char *address, size_t len, struct recipient_refusal *why)
{
	assert(c && strlen(address) == len);
	if (*address != 'U')
		return 1;
	*why = (struct recipient_refusal){ .code = 550, .enhanced = "5.1.1", .text = "unknown" };
	return 0;
}

/* Nobody starts or ends here. */
int
recipient_checks_start(struct recipient_checks *c, const struct peer *peer, int needs_login)
{
	(void)c, (void)peer, (void)needs_login;
	abort();
}

void
recipient_checks_end(struct recipient_checks *c)
{
	(void)c;
	abort();
}

int
recipient_checks_are_reusable(const struct recipient_checks *c)
{
	(void)c;
	abort();
}

int
listener_is_stopping(void)
{
	return 0;
}

/* --- what had to come ----------------------------------------------------------------------------------- */

struct message { struct given text, sender, recipients; };

static int
next_message(struct given *g, struct message *m)
{
	struct given rest = *g, inside, one;

	if (!netstring_of(&rest, &m->text) || !m->text.len || (*m->text.s != '\n' && *m->text.s != '\r') ||
	    !netstring_of(&rest, &m->sender) || !netstring_of(&rest, &m->recipients))
		return 0;
	for (inside = m->recipients; inside.len;)
		if (!netstring_of(&inside, &one))
			return 0;
	*g = rest;
	return 1;
}

/* Whether octet i is a CR or an LF that stands alone. */
static int
is_bare(struct given text, size_t i)
{
	if (text.s[i] == '\r')
		return i + 1 == text.len || text.s[i + 1] != '\n';
	return text.s[i] == '\n' && (!i || text.s[i - 1] != '\r');
}

/* The text with its line ends, unless it is refused for them. */
static void
check_text(const struct transfer *t, struct given text)
{
	char line_end = (char)given_number(&text, 1);
	size_t n = 0;

	if (line_end == '\n') {
		assert(is_piece(&taken.octets, text));
		return;
	}
	for (size_t i = 0; i < text.len; i++)
		if (is_bare(text, i)) {
			assert(t->letter == 'D');
			return;
		}
	for (size_t i = 0; i < text.len; i++)
		if (text.s[i] != '\r') {
			assert(n < taken.octets.len && taken.octets.s[n] == (char)text.s[i]);
			n++;
		}
	assert(n == taken.octets.len);
}

static void
add_due(const char *text, size_t len)
{
	assert(stralloc_catb(&due, text, len) && stralloc_append(&due, '\n'));
}

/* What becomes of recipient n. Returns whether it is taken, and adds the reply. */
static int
is_taken(const struct transfer *t, struct given one, unsigned int n)
{
	const char *s = (const char *)one.s;
	char own[] = "D? (#5.1.1)";

	own[1] = one.len ? text_of(s, one.len) : '?';
	if (one.len > ADDRESS_MAX || (one.len && memchr(s, '\0', one.len)))
		add_due(reply_of('l'), strlen(reply_of('l')));
	else if (n >= RECIPIENTS_MAX)
		add_due(reply_of('m'), strlen(reply_of('m')));
	else if (!one.len || one.len == 10 || t->letter || (*s != 'P' && *s != 'U')) {
		add_due("", 0);
		return 1;
	} else if (*s == 'P')
		add_due(own, strlen(own));
	else
		add_due("Dunknown (#5.1.1)", 17);
	return 0;
}

/* The replies to the message before: each was its recipient's. */
static void
check_replies(void)
{
	struct given want = { (const uint8_t *)due.s, due.len }, got = { (const uint8_t *)taken.replied.s, taken.replied.len };

	while (want.len) {
		struct given a = given_until(&want, '\n'), b = given_until(&got, '\n');

		assert(!a.len ? b.len && *b.s == 'K' : a.len == b.len && memcmp(a.s, b.s, a.len) == 0);
	}
	assert(!got.len);
	due.len = taken.replied.len = 0;
}

static void
transfer_is_due(const struct transfer *t)
{
	struct message m;
	struct given one;
	size_t at = 0;
	unsigned int n = 0;

	assert(next_message(&sent, &m));
	check_text(t, m.text);
	assert(m.sender.len > ADDRESS_MAX ? t->letter == 'D' : is_piece(&t->sender, m.sender));
	check_replies();
	while (netstring_of(&m.recipients, &one)) {
		if (!is_taken(t, one, n++))
			continue;
		assert(at + one.len < taken.recipients.len && (!one.len || memcmp(taken.recipients.s + at, one.s, one.len) == 0));
		at += one.len + 1;
	}
	assert(t->letter || at == taken.recipients.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct qmtp q = { .transfer.protocol = "QMTP", .outside.left = UINT64_MAX };
	struct message left;
	size_t piece;
	int fd;

	(void)qmtpd_main;
	sent = (struct given){ octets, len };
	piece = 1 + (size_t)given_number(&sent, 1) * 16;
	q.outside.in = &q.transfer.in;
	q.transfer.settings.numbers[NUMBER_MAXRCPT] = RECIPIENTS_MAX;
	fd = transfer_connect(&q.transfer, sent, piece);
	due.len = taken.replied.len = 0;
	serve(&q);
	check_replies();
	assert(!next_message(&sent, &left));	/* none was left lying there */
	close(q.transfer.in.fd);
	close(fd);
	return 0;
}
