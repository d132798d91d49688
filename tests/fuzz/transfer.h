/* transfer: plays bin-src/smtpd/transfer.h for a target that includes qmail-qmtpd.c or qmail-qmqpd.c, and reads the same octets by the
 * definition of a netstring. The target has transfer_is_due: whether this message had to come next. */
#ifndef FUZZ_TRANSFER_H
#define FUZZ_TRANSFER_H
#include <assert.h>
#include <sys/socket.h>
#include <skalibs/stralloc.h>
#include "bin-src/smtpd/transfer.h"
#include "given.h"

/* The message that is being taken. */
static struct { stralloc octets, recipients, replied; unsigned int replies, is_begun; } taken;	/* replied: the replies, each with an LF */

static void transfer_is_due(const struct transfer *t);

/* --- netstrings by the definition ------------------------------------------------------------------ */

/* Takes the netstring that g begins with, if it is whole. */
static inline int
netstring_of(struct given *g, struct given *piece)
{
	struct given rest = *g;
	uint64_t n = 0;
	unsigned int digits = 0;

	for (; rest.len && *rest.s >= '0' && *rest.s <= '9' && digits < NETSTRING_DIGITS; digits++)
		n = n * 10 + given_number(&rest, 1) - '0';
	if (!digits || (digits > 1 && *g->s == '0') || given_number(&rest, 1) != ':' || n >= rest.len || rest.s[n] != ',')
		return 0;
	*piece = given_piece(&rest, n);
	given_piece(&rest, 1);
	*g = rest;
	return 1;
}

static inline int
is_piece(const stralloc *s, struct given piece)
{
	return s->len == piece.len && (!piece.len || memcmp(s->s, piece.s, piece.len) == 0);
}

/* --- what the programs call ------------------------------------------------------------------------ */

void
transfer_begin(struct transfer *t)
{
	assert(!taken.is_begun);
	taken.is_begun = 1;
	taken.octets.len = taken.recipients.len = 0;
	t->letter = 0;
	t->text = NULL;
	t->recipients = 0;
}

void
transfer_octets(struct transfer *t, const char *s, size_t len)
{
	assert(t && taken.is_begun && stralloc_catb(&taken.octets, s, len));
}

void
transfer_refuse(struct transfer *t, char letter, const char *text)
{
	assert(taken.is_begun && (letter == 'D' || letter == 'Z') && *text);
	if (!t->letter)
		t->letter = letter, t->text = text;
}

void
transfer_sender(struct transfer *t)
{
	assert(taken.is_begun && t->sender.len <= QUEUE_ADDRESS_MAX);
}

void
transfer_recipient(struct transfer *t, stralloc *address)
{
	assert(taken.is_begun && address->len <= QUEUE_ADDRESS_MAX && (t->letter || !memchr(address->s, '\0', address->len)));
	assert(stralloc_catb(&taken.recipients, address->s, address->len) && stralloc_append(&taken.recipients, '\n'));
	t->recipients++;
}

void
transfer_end(struct transfer *t, stralloc *reply)
{
	assert(taken.is_begun);
	taken.is_begun = taken.replies = 0;
	transfer_is_due(t);
	taken.replied.len = 0;
	assert(stralloc_cats(reply, "Kok"));
}

void
transfer_abandon(struct transfer *t, const char *why)
{
	assert(t && *why);
	taken.is_begun = 0;
}

void
transfer_reply(struct transfer *t, const char *s, size_t len)
{
	assert(t && len && (*s == 'K' || *s == 'Z' || *s == 'D'));
	assert(stralloc_catb(&taken.replied, s, len) && stralloc_append(&taken.replied, '\n'));
	taken.replies++;
}

int
transfer_flush(struct transfer *t)
{
	return t != NULL;
}

void
transfer_log(const struct transfer *t, const char *what, const char *why)
{
	assert(t && *what && *why);
}

void
transfer_log_refusal(const struct transfer *t, const char *recipient, size_t len, const char *why)
{
	assert(t && (recipient || !len) && *why);
}

const char *
transfer_why(enum netstring_result r, enum input_result failure)
{
	assert(r != NETSTRING_NO_MEMORY && (r != NETSTRING_FAILED || failure == INPUT_CLOSED));
	return "why";
}

/* Nobody starts or ends here. */
void
transfer_start(struct transfer *t, int argc, char *const *argv)
{
	(void)t, (void)argc, (void)argv;
	abort();
}

int
transfer_next(struct transfer *t)
{
	(void)t;
	abort();
}

void
queue_client_close(struct queue_client *c)
{
	(void)c;
	abort();
}

/* --- a connection ----------------------------------------------------------------------------------- */

static int
never(void)
{
	return 0;
}

static void
nothing(void *data)
{
	(void)data;
}

enum { PIECES_MAX = 200 };	/* that a socket holds, however short they are */

/* The octets come in pieces of a length, or longer ones; returns the client's end, to be closed. */
static inline int
transfer_connect(struct transfer *t, struct given g, size_t piece)
{
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	if (piece < g.len / PIECES_MAX + 1)
		piece = g.len / PIECES_MAX + 1;
	while (g.len) {
		struct given some = given_piece(&g, piece);

		assert(send(pair[1], some.s, some.len, 0) == (ssize_t)some.len);
	}
	assert(shutdown(pair[1], SHUT_WR) == 0);
	t->in = (struct input){ .fd = pair[0], .timeout_ms = 1000, .session_end = UINT64_MAX, .flush = nothing, .rest = nothing, .is_stopping = never };
	input_start(&t->in);
	taken.is_begun = 0;
	return pair[1];
}

#endif
