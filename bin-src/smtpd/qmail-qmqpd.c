/* qmail-qmqpd: takes a message by QMQP from a host whose queue this is, on a listening socket or under tcpserver.
 * Whoever may use it relays to anywhere, so only clients to which a rule gave RELAYCLIENT may.
 * Trust: every octet from the client is hostile. Runs as qmaild; it is shut in before the first octet: it can talk to the
 * queue's keeper, and do nothing else. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "transfer.h"

enum { DRAIN_MS = 5000 };	/* for which a refused client may go on writing: a close before would take the reply away */

struct qmqp {
	struct transfer transfer;
	struct netstring outside, inside;
	stralloc address;
};

/* has_begun: set when there is a message of this connection. */
static enum netstring_result
read_message(struct qmqp *q, int *has_begun)
{
	uint64_t len;
	enum netstring_result r = netstring_length(&q->inside, &len);

	if (r != NETSTRING_OK)
		return r;
	transfer_begin(&q->transfer);
	*has_begun = 1;
	while (len) {
		char *s;
		size_t got;

		r = netstring_piece(&q->inside, &s, &got, len);
		if (r != NETSTRING_OK)
			return r;
		transfer_octets(&q->transfer, s, got);
		len -= got;
	}
	return netstring_comma(&q->inside);
}

static enum netstring_result
read_sender(struct qmqp *q)
{
	int fits;
	enum netstring_result r = netstring_string(&q->inside, &q->transfer.sender, QUEUE_ADDRESS_MAX, &fits);

	if (r != NETSTRING_OK)
		return r;
	if (!fits)
		transfer_refuse(&q->transfer, 'D', "the sender's address is too long (#5.1.7)");
	transfer_sender(&q->transfer);
	return NETSTRING_OK;
}

static enum netstring_result
read_recipients(struct qmqp *q)
{
	while (q->inside.left) {
		int fits;
		enum netstring_result r = netstring_string(&q->inside, &q->address, QUEUE_ADDRESS_MAX, &fits);

		if (r != NETSTRING_OK)
			return r;
		if (!fits || memchr(q->address.s, '\0', q->address.len))
			transfer_refuse(&q->transfer, 'D', "a recipient's address is too long or has an octet that no address has (#5.1.3)");
		transfer_recipient(&q->transfer, &q->address);
	}
	return NETSTRING_OK;
}

static void
answer(struct qmqp *q)
{
	stralloc reply = STRALLOC_ZERO;

	transfer_end(&q->transfer, &reply);
	if (!q->transfer.is_gone)
		transfer_reply(&q->transfer, reply.s, reply.len);
	stralloc_free(&reply);
}

/* Takes the one message of a connection. */
static enum netstring_result
serve(struct qmqp *q)
{
	enum netstring_result r = netstring_length(&q->outside, &q->inside.left);
	int has_begun = 0;

	if (r == NETSTRING_OK)
		r = read_message(q, &has_begun);
	if (r == NETSTRING_OK)
		r = read_sender(q);
	if (r == NETSTRING_OK)
		r = read_recipients(q);
	if (q->inside.failure != INPUT_OK)
		q->outside.failure = q->inside.failure;
	if (r == NETSTRING_OK)
		r = netstring_comma(&q->outside);
	if (r == NETSTRING_OK)
		answer(q);
	else if (has_begun)
		transfer_abandon(&q->transfer, transfer_why(r, q->outside.failure));
	else
		transfer_log(&q->transfer, "session", transfer_why(r, q->outside.failure));
	if (r == NETSTRING_OK && !transfer_flush(&q->transfer))
		r = NETSTRING_FAILED;
	return r;
}

/* Temporary, so that no mail is lost for a rule that was forgotten. */
static int
turn_away(struct qmqp *q)
{
	static const char reply[] = "Zthis host may not use QMQP here: the administrator has not set RELAYCLIENT for it (#4.7.1)";

	transfer_log(&q->transfer, "refused", "RELAYCLIENT is not set for this client");
	transfer_reply(&q->transfer, reply, sizeof reply - 1);
	transfer_flush(&q->transfer);
	shutdown(STDOUT_FILENO, SHUT_WR);
	input_drain(&q->transfer.in, DRAIN_MS);
	return EXIT_OK;
}

static int
exit_code(const struct qmqp *q, enum netstring_result r)
{
	if (r == NETSTRING_OK)
		return EXIT_OK;
	return r == NETSTRING_MALFORMED || (r == NETSTRING_FAILED && q->outside.failure == INPUT_CLOSED) ? EXIT_PERM : EXIT_TEMP;
}

int
main(int argc, char *const *argv)
{
	static struct qmqp q = { .transfer.protocol = "QMQP", .outside.left = UINT64_MAX };
	enum netstring_result r;

	PROG = "qmail-qmqpd";
	transfer_start(&q.transfer, argc, argv);
	if (!q.transfer.relayclient)
		return turn_away(&q);
	q.outside.in = q.inside.in = &q.transfer.in;
	do {
		q.outside.failure = q.inside.failure = INPUT_OK;
		r = serve(&q);
	} while (r == NETSTRING_OK && transfer_next(&q.transfer));
	queue_client_close(&q.transfer.queue);
	return exit_code(&q, r);
}
