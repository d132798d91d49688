/* Clients of qmail-qmqpd that send any octets, in pieces of any length: an octet for that, then what they send. */
#include "transfer.h"
#define main qmqpd_main
#include "bin-src/smtpd/qmail-qmqpd.c"	/* NOLINT(bugprone-suspicious-include): the session is static there */
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static struct given sent;

struct message { struct given text, sender, recipients; };

/* A whole netstring of netstrings: the text, the sender, the recipients. */
static int
the_message(struct given g, struct message *m)
{
	struct given inside, one;

	if (!netstring_of(&g, &inside) || !netstring_of(&inside, &m->text) || !netstring_of(&inside, &m->sender))
		return 0;
	m->recipients = inside;
	while (inside.len)
		if (!netstring_of(&inside, &one))
			return 0;
	return 1;
}

static void
transfer_is_due(const struct transfer *t)
{
	struct message m;
	struct given one;
	size_t at = 0;

	assert(the_message(sent, &m) && is_piece(&taken.octets, m.text));
	assert(m.sender.len > QUEUE_ADDRESS_MAX ? t->letter == 'D' : is_piece(&t->sender, m.sender));
	while (netstring_of(&m.recipients, &one)) {
		if (one.len > QUEUE_ADDRESS_MAX || (one.len && memchr(one.s, '\0', one.len))) {
			assert(t->letter == 'D');
			return;
		}
		assert(at + one.len < taken.recipients.len && memcmp(taken.recipients.s + at, one.s, one.len) == 0);
		at += one.len + 1;
	}
	assert(at == taken.recipients.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct qmqp q = { .transfer.protocol = "QMQP", .outside.left = UINT64_MAX };
	struct message m;
	size_t piece;
	int fd;

	(void)qmqpd_main;
	sent = (struct given){ octets, len };
	piece = 1 + (size_t)given_number(&sent, 1) * 16;
	q.outside.in = q.inside.in = &q.transfer.in;
	q.outside.failure = q.inside.failure = INPUT_OK;
	fd = transfer_connect(&q.transfer, sent, piece);
	assert((serve(&q) == NETSTRING_OK) == the_message(sent, &m));
	close(q.transfer.in.fd);
	close(fd);
	return 0;
}
