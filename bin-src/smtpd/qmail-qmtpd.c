/* qmail-qmtpd: takes mail by QMTP from the network, on a listening socket or under tcpserver.
 * Trust: every octet from the client is hostile. Runs as qmaild; it is shut in before the first octet: it can talk to the
 * queue's keeper and to qmail-rcptd, and do nothing else. qmail-dnsbl and what starts RCPTCHECK were started before. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "content.h"
#include "exitcode.h"
#include "listener.h"
#include "policy.h"
#include "recipient_checks.h"
#include "transfer.h"

enum {
	ADDRESS_MAX = 999,	/* octets of an address; a longer recipient fails alone */
	REFUSALS_LOGGED = 20,	/* refused recipients of a message with a line each; of more, the number is logged */
	TEXTS_MAX = 65536,	/* octets of replies that a message's recipients have of their own; the others have one that is as good */
};

/* What becomes of a recipient; the letters of recipients that were taken are answered alike, by what the queue says; those that the checks
 * refuse, each by its own text. */
enum { OWN = 'o', OWN_AGAIN = 'a' };	/* the next of texts; the same as the one before */
static const struct verdict {
	char letter;
	const char *reply;
} verdicts[] = {
	{ 't', NULL },	/* taken */
	{ 'l', "Dsorry, that recipient's address is too long or has an octet that no address has (#5.1.3)" },
	{ 'h', "Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)" },
	{ 'b', "Dsorry, mail to that address is not taken (#5.7.1)" },
	{ 's', "Dsorry, your envelope sender is in my badmailfrom list (#5.7.1)" },
	{ 'm', "Zsorry, too many recipients in one message (#4.5.3)" },
	{ 'c', "Zcould not read my configuration (#4.3.0)" },
	{ 'p', "Zunable to take mail to that address now (#4.3.0)" },
};
enum { VERDICTS = sizeof verdicts / sizeof *verdicts };

struct qmtp {
	struct transfer transfer;	/* first */
	struct netstring outside;	/* what is in no other netstring */
	struct recipient_checks checks;
	int has_told_lists;		/* what the DNS lists say of the client is in the log */
	stralloc letters;		/* one a recipient */
	stralloc texts;			/* for each that is OWN: a reply and a NUL */
	size_t last_text;		/* where the last one begins */
	stralloc address;
	int is_bad_sender;
	unsigned int refusals;		/* of the message */
};

/* --- the message -------------------------------------------------------------------------------- */

/* Line ends are LF: the octets are the message. */
static enum netstring_result
read_plain(struct qmtp *q, uint64_t left)
{
	while (left) {
		char *s;
		size_t len;
		enum netstring_result r = netstring_piece(&q->outside, &s, &len, left);

		if (r != NETSTRING_OK)
			return r;
		transfer_octets(&q->transfer, s, len);
		left -= len;
	}
	return NETSTRING_OK;
}

/* Line ends are CRLF; a CR or LF alone is none, and would pose as one further on. */
static enum netstring_result
read_crlf(struct qmtp *q, uint64_t left)
{
	struct content content;

	content_start(&content, 0);
	while (left) {
		char *s;
		size_t len, used;
		enum netstring_result r = netstring_piece(&q->outside, &s, &len, left);

		if (r != NETSTRING_OK)
			return r;
		left -= len;
		len = content_take(&content, s, len, &used);
		if (!content_is_condemned(&content))
			transfer_octets(&q->transfer, s, len);
		else
			transfer_refuse(&q->transfer, 'D', "a CR or LF stands alone in the message (#5.6.0)");
	}
	content_finish(&content);
	if (content_is_condemned(&content))
		transfer_refuse(&q->transfer, 'D', "a CR or LF stands alone in the message (#5.6.0)");
	return NETSTRING_OK;
}

static enum netstring_result
read_message(struct qmtp *q, uint64_t len)
{
	enum netstring_result r;
	char *s, line_end;
	size_t one;

	if (len == 0)
		return NETSTRING_MALFORMED;
	r = netstring_piece(&q->outside, &s, &one, 1);
	if (r != NETSTRING_OK)
		return r;
	line_end = *s;
	if (line_end != '\n' && line_end != '\r')
		return NETSTRING_MALFORMED;
	r = line_end == '\n' ? read_plain(q, len - 1) : read_crlf(q, len - 1);
	return r == NETSTRING_OK ? netstring_comma(&q->outside) : r;
}

/* --- sender and recipients ------------------------------------------------------------------------ */

static enum netstring_result
read_sender(struct qmtp *q)
{
	struct transfer *t = &q->transfer;
	int fits;
	enum netstring_result r = netstring_string(&q->outside, &t->sender, ADDRESS_MAX, &fits);

	if (r != NETSTRING_OK)
		return r;
	if (!fits)
		transfer_refuse(t, 'D', "the sender's address is too long (#5.1.7)");
	if (t->settings.numbers[NUMBER_REJECTNULL] && policy_is_null_sender(t->sender.s, t->sender.len))
		transfer_refuse(t, 'D', "sorry, no mail from the null sender is taken here (#5.7.1)");
	q->is_bad_sender = policy_is_bad_sender(&t->settings, t->sender.s, t->sender.len, t->relayclient != NULL);
	transfer_sender(t);
	if (!stralloc_0(&t->sender))
		return NETSTRING_NO_MEMORY;
	t->sender.len--;
	return NETSTRING_OK;
}

/* Keeps the reply of a check, once for recipients in a row. Returns its letter. */
static char
keep_text(struct qmtp *q, const struct recipient_refusal *why)
{
	char letter = why->code < 500 ? 'Z' : 'D', reply[DNSBL_TEXT_MAX + CHECKPROGRAM_TEXT_MAX];
	int lacks_code = strstr(why->text, "(#") == NULL;
	size_t len;

	snprintf(reply, sizeof reply, "%c%s%s%s%s", letter, why->text, lacks_code ? " (#" : "", lacks_code ? why->enhanced : "",
	    lacks_code ? ")" : "");
	len = strlen(reply);
	if (q->texts.len && strcmp(q->texts.s + q->last_text, reply) == 0)
		return OWN_AGAIN;
	if (q->texts.len + len >= TEXTS_MAX || !stralloc_readyplus(&q->texts, len + 1))
		return letter == 'Z' ? 'p' : 'b';
	q->last_text = q->texts.len;
	memcpy(q->texts.s + q->texts.len, reply, len + 1);
	q->texts.len += len + 1;
	return OWN;
}

/* What the DNS lists say. Their line in the log is one of the connection. */
static int
passes_lists(struct qmtp *q, struct recipient_refusal *why)
{
	const char *log = "";
	int passes = recipient_checks_ask_lists(&q->checks, q->transfer.relayclient != NULL, why, &log);

	if (*log && !q->has_told_lists)
		transfer_log(&q->transfer, "lists", log);
	q->has_told_lists |= *log != '\0';
	return passes;
}

/* What is asked about a recipient beside control files, as qmail-smtpd does (recipient.c). 1, or 0 and why it is refused. */
static int
passes_checks(struct qmtp *q, struct recipient_refusal *why)
{
	struct transfer *t = &q->transfer;
	int may_relay = t->relayclient != NULL, r;

	if (!passes_lists(q, why))
		return 0;
	r = recipient_checks_ask_program(&q->checks, may_relay, t->sender.s, q->address.s, "", why);
	if (r < 0)	/* where RELAYCLIENT makes another address of it, that one is meant */
		r = (may_relay && *t->relayclient) || recipient_checks_ask_accounts(&q->checks, q->address.s, q->address.len, why);
	if (!r && why->trouble)
		transfer_log_refusal(t, q->address.s, q->address.len, why->trouble);
	return r;
}

/* Whether the recipient, which has a NUL behind it, is taken: the letter of a verdict. */
static char
judge(struct qmtp *q)
{
	struct transfer *t = &q->transfer;
	const char *s = q->address.s;
	size_t len = q->address.len;
	int may_relay = t->relayclient != NULL;
	struct recipient_refusal why;

	if (memchr(s, '\0', len) || (may_relay && len + strlen(t->relayclient) > QUEUE_ADDRESS_MAX))
		return 'l';
	if (q->letters.len >= t->settings.numbers[NUMBER_MAXRCPT])
		return 'm';
	if (!may_relay)
		switch (policy_takes_mail_for(&t->settings, s, len)) {
		case POLICY_YES: break;
		case POLICY_NO: return 'h';
		case POLICY_TROUBLE: return 'c';
		}
	if (policy_is_postmaster(s, len))
		return 't';
	if (q->is_bad_sender)
		return 's';
	if (policy_is_bad_recipient(&t->settings, s, len, may_relay))
		return 'b';
	/* of a message that nobody gets, nobody is asked about */
	return t->letter || passes_checks(q, &why) ? 't' : keep_text(q, &why);
}

/* NULL: what the queue says. */
static const char *
reply_of(char letter)
{
	for (int i = 0; i < VERDICTS; i++)
		if (verdicts[i].letter == letter)
			return verdicts[i].reply;
	return NULL;
}

/* The line in the log of a recipient who is refused; of many only their number. */
static void
log_refusal(struct qmtp *q, char letter)
{
	const char *reply = letter == OWN || letter == OWN_AGAIN ? q->texts.s + q->last_text : reply_of(letter);

	if (++q->refusals <= REFUSALS_LOGGED)
		transfer_log_refusal(&q->transfer, q->address.s, q->address.len, reply + 1);
}

static void
log_refusals(const struct qmtp *q)
{
	char text[64];

	snprintf(text, sizeof text, "%u recipients in all", q->refusals);
	transfer_log(&q->transfer, "refused", text);
}

static enum netstring_result
read_recipients(struct qmtp *q)
{
	struct netstring inside = { .in = q->outside.in };
	enum netstring_result r = netstring_length(&q->outside, &inside.left);

	q->letters.len = q->texts.len = q->refusals = 0;
	while (r == NETSTRING_OK && inside.left) {
		int fits;
		char letter;

		r = netstring_string(&inside, &q->address, ADDRESS_MAX, &fits);
		if (r != NETSTRING_OK) {
			q->outside.failure = inside.failure;
			return r;
		}
		if (!stralloc_0(&q->address))
			return NETSTRING_NO_MEMORY;
		q->address.len--;
		letter = fits ? judge(q) : 'l';
		if (letter == 't')
			transfer_recipient(&q->transfer, &q->address);
		else
			log_refusal(q, letter);
		if (q->letters.len == QUEUE_ENVELOPE_MAX / 2)
			return NETSTRING_MALFORMED;	/* nobody sends to eight million */
		if (!stralloc_append(&q->letters, letter))
			return NETSTRING_NO_MEMORY;
	}
	if (q->refusals > REFUSALS_LOGGED)
		log_refusals(q);
	return r == NETSTRING_OK ? netstring_comma(&q->outside) : r;
}

/* --- the session --------------------------------------------------------------------------------------- */

static void
answer(struct qmtp *q)
{
	stralloc common = STRALLOC_ZERO;
	const char *text = NULL, *next = q->texts.s;

	transfer_end(&q->transfer, &common);
	for (size_t i = 0; i < q->letters.len && !q->transfer.is_gone; i++) {
		char letter = q->letters.s[i];
		const char *own = reply_of(letter);

		if (letter == OWN) {
			text = next;
			next += strlen(next) + 1;
		}
		if (letter == OWN || letter == OWN_AGAIN)
			own = text;
		if (own)
			transfer_reply(&q->transfer, own, strlen(own));
		else
			transfer_reply(&q->transfer, common.s, common.len);
	}
	stralloc_free(&common);
}

/* Waits for the first octet of a message. 1, or 0: the client has ended, or is too slow, between two messages. */
static int
another(struct qmtp *q)
{
	q->outside.failure = listener_is_stopping() ? INPUT_STOPPING : input_data(&q->transfer.in);
	return q->outside.failure == INPUT_OK && !q->transfer.is_gone;
}

/* One message. Returns NETSTRING_OK if there may be another. */
static enum netstring_result
take(struct qmtp *q)
{
	uint64_t len;
	enum netstring_result r = netstring_length(&q->outside, &len);

	if (r != NETSTRING_OK)
		return r;
	transfer_begin(&q->transfer);
	r = read_message(q, len);
	if (r == NETSTRING_OK)
		r = read_sender(q);
	if (r == NETSTRING_OK)
		r = read_recipients(q);
	if (r == NETSTRING_OK)
		answer(q);
	else
		transfer_abandon(&q->transfer, transfer_why(r, q->outside.failure));
	return r;
}

static int
exit_code(const struct qmtp *q, enum netstring_result r)
{
	if (r == NETSTRING_OK)	/* between two messages */
		return q->outside.failure == INPUT_CLOSED || q->outside.failure == INPUT_STOPPING ? EXIT_OK : EXIT_TEMP;
	return r == NETSTRING_MALFORMED || (r == NETSTRING_FAILED && q->outside.failure == INPUT_CLOSED) ? EXIT_PERM : EXIT_TEMP;
}

/* Returns how the connection ended: NETSTRING_FAILED between two messages, too. */
static enum netstring_result
serve(struct qmtp *q)
{
	enum netstring_result r = NETSTRING_OK;

	while (r == NETSTRING_OK && another(q))
		r = take(q);
	transfer_flush(&q->transfer);
	transfer_log(&q->transfer, "session", transfer_why(r == NETSTRING_OK ? NETSTRING_FAILED : r, q->outside.failure));
	return r;
}

/* A new connection of the same client is told of nothing that was started for the one before. */
static int
next_connection(struct qmtp *q)
{
	q->has_told_lists = 0;
	return recipient_checks_are_reusable(&q->checks) && transfer_next(&q->transfer);
}

static int
start_checks(struct transfer *t)
{
	struct qmtp *q = (struct qmtp *)t;	/* it is the first in it */

	return recipient_checks_start(&q->checks, &t->peer, 0);
}

int
main(int argc, char *const *argv)
{
	static struct qmtp q = { .transfer = { .protocol = "QMTP", .prepare = start_checks }, .outside.left = UINT64_MAX };
	enum netstring_result r;

	PROG = "qmail-qmtpd";
	transfer_start(&q.transfer, argc, argv);
	q.outside.in = &q.transfer.in;
	do
		r = serve(&q);
	while (r == NETSTRING_OK && q.outside.failure == INPUT_CLOSED && next_connection(&q));
	queue_client_close(&q.transfer.queue);
	recipient_checks_end(&q.checks);
	return exit_code(&q, r);
}
