/* Clients of qmail-qmtpd that send any octets, in pieces of any length: an octet for that, then what they send. */
#include "transfer.h"
#define main qmtpd_main
#include "bin-src/smtpd/qmail-qmtpd.c"	/* NOLINT(bugprone-suspicious-include): the session is static there */
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { RECIPIENTS_MAX = 5 };
static struct given sent;	/* what is not yet taken */

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
policy_is_postmaster(const char *address, size_t len)
{
	return address && len == 10;
}

enum rcpt_answer
rcptcheck_ask(struct rcptcheck *r, const char *address, size_t len)
{
	return r && len && *address == 'U' ? RCPT_UNKNOWN : RCPT_DELIVERS;
}

void
rcptcheck_init(struct rcptcheck *r, int home)
{
	(void)r, (void)home;
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
transfer_is_due(const struct transfer *t)
{
	struct message m;
	struct given one;
	size_t at = 0;
	unsigned int n = 0;

	assert(next_message(&sent, &m));
	check_text(t, m.text);
	assert(m.sender.len > ADDRESS_MAX ? t->letter == 'D' : is_piece(&t->sender, m.sender));
	while (netstring_of(&m.recipients, &one)) {
		int fits = one.len <= ADDRESS_MAX && (!one.len || !memchr(one.s, '\0', one.len));

		if (!fits || n++ >= RECIPIENTS_MAX || (*one.s == 'U' && one.len && one.len != 10 && !t->letter))
			continue;
		assert(at + one.len < taken.recipients.len && memcmp(taken.recipients.s + at, one.s, one.len) == 0);
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
	serve(&q);
	assert(!next_message(&sent, &left));	/* none was left lying there */
	close(q.transfer.in.fd);
	close(fd);
	return 0;
}
