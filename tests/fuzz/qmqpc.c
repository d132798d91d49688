/* What a QMQP server answers to qmail-qmqpc, given any octets, in any pieces: an exit code of qmail-queue by the first letter of a netstring,
 * and otherwise none that says that the message was taken. The first octet of an input is the length of the pieces. */
#include <assert.h>
#include "given.h"
#define main qmqpc_main
#include "bin-src/queue/qmail-qmqpc.c"	/* NOLINT(bugprone-suspicious-include): what reads the answer is static there */
#undef main
#include "no_sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

const struct sandbox_filter sandbox_client;

/* By the definition of a netstring. */
static int
expected(struct given g)
{
	size_t n = 0, digits = 0;
	char letter;

	for (; g.len && *g.s >= '0' && *g.s <= '9'; digits++)
		n = n * 10 + given_number(&g, 1) - '0';
	if (!digits || digits > LENGTH_MAX || given_number(&g, 1) != ':' || !n || n > REPLY_MAX || g.len <= n || g.s[n] != ',')
		return QUEUE_TALK;
	letter = (char)*g.s;
	return letter == 'K' ? QUEUE_OK : letter == 'Z' ? REFUSED_FOR_NOW : letter == 'D' ? QUEUE_REFUSED : QUEUE_TALK;
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	enum { PIECES_MAX = 200 };	/* that a socket holds */
	struct given g = { octets, len };
	size_t piece = 1 + given_number(&g, 1);
	int pair[2], want = expected(g);

	(void)qmqpc_main;
	if (piece < g.len / PIECES_MAX + 1)
		piece = g.len / PIECES_MAX + 1;
	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	while (g.len) {
		struct given some = given_piece(&g, piece);

		assert(send(pair[1], some.s, some.len, 0) == (ssize_t)some.len);
	}
	assert(shutdown(pair[1], SHUT_WR) == 0);
	assert(read_reply(pair[0]) == want);
	close(pair[0]), close(pair[1]);
	return 0;
}
