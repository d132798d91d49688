/* The journal after a power cut, given any batches: the input says what each has in its header, which records, and which octets are
 * damaged afterwards. Digests and the ring's ID are right before that: only who wrote the ring could have made it. */
#include <assert.h>
#include "given.h"
/* what reads the octets is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "queue/ring.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { BLOCKS = 64, SIZE = BLOCKS * RING_BLOCK, AGAIN = SIZE / 8, BATCHES_MAX = 24, RECORDS_MAX = 8 };

static char octets_of_ring[SIZE + AGAIN];
static const struct ring empty = { .fd = -1, .size = SIZE, .id = "a ring's ID" };

/* --- a ring --------------------------------------------------------------------------------------- */

/* A record of the input's octets. 0: no more. */
static int
add_record_of(struct ring_batch *b, struct given *g)
{
	struct given piece = given_piece(g, given_number(g, 1));
	struct iovec v = { .iov_base = (void *)(uintptr_t)piece.s, .iov_len = piece.len };

	assert(ring_add(&empty, b, &v, 1) == (int)b->records - 1);
	return g->len != 0;
}

/* Lays a batch down; its header says what the input says. */
static void
put_batch(struct given *g)
{
	static struct ring_batch b;
	static stralloc out;
	struct batch header = { .number = given_number(g, 1), .block = (uint32_t)given_number(g, 1) % BLOCKS };
	unsigned int records = (unsigned int)given_number(g, 1) % RECORDS_MAX;
	uint32_t more;

	header.tail = given_number(g, 1);
	header.tail_block = (uint32_t)given_number(g, 1);
	more = (uint32_t)given_number(g, 1) % 16;
	ring_batch_clear(&b);
	while (b.records < records && add_record_of(&b, g))
		;
	header.records = b.records;
	header.blocks = ring_batch_blocks(&b, 0) + (more > 12 ? more - 12 : 0);
	assert(compose(&out, &empty, &b, &header));
	for (size_t i = 0; i < out.len; i++)
		octets_of_ring[(header.block * (size_t)RING_BLOCK + i) % SIZE] = out.s[i];
}

static void
damage(struct given *g)
{
	size_t at = given_number(g, 3) % SIZE;

	octets_of_ring[at] = (char)given_number(g, 1);
}

/* --- who listens ---------------------------------------------------------------------------------- */

struct heard {
	const struct ring *ring;
	uint64_t batch, expected;
	unsigned int calls, stop_at;
};

static int
go_on(struct heard *h)
{
	errno = ENOSPC;
	return ++h->calls != h->stop_at;
}

/* Batches come in order of their numbers, none is left out without being missed. */
static int
take_batch(void *data, uint64_t number, uint32_t block, uint32_t blocks)
{
	struct heard *h = data;

	assert(number && (!h->expected || number == h->expected) && number < h->ring->next && block < BLOCKS && blocks <= BLOCKS / 8);
	h->batch = number;
	h->expected = number + 1;
	return go_on(h);
}

/* A record belongs to the batch that was told last, and is where it is said to be. */
static int
take_record(void *data, uint64_t batch, uint64_t offset, const char *s, uint32_t len, const char digest[QUEUE_KEYED_DIGEST])
{
	struct heard *h = data;

	assert(batch == h->batch && offset < SIZE && s >= octets_of_ring && s + len <= octets_of_ring + sizeof octets_of_ring);
	assert(digest_keyed_is(digest, empty.id, s, len) && (size_t)(s - octets_of_ring) % SIZE == offset);
	return go_on(h);
}

static int
take_missing(void *data, uint64_t number, const char *octets, size_t len)
{
	struct heard *h = data;

	assert(!h->expected || number == h->expected);
	h->expected = number + 1;
	assert(octets >= octets_of_ring && octets + len <= octets_of_ring + sizeof octets_of_ring);
	return go_on(h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	struct ring r = empty;
	struct heard heard = { .ring = &r, .stop_at = (unsigned int)given_number(&g, 1) };
	struct ring_listener listener = { &heard, take_batch, take_record, take_missing };

	memset(octets_of_ring, 0, sizeof octets_of_ring);
	for (unsigned int n = 0; g.len && n < BATCHES_MAX; n++)
		if (given_number(&g, 1) % 4)
			put_batch(&g);
		else
			damage(&g);
	memcpy(octets_of_ring + SIZE, octets_of_ring, AGAIN);
	errno = 0;
	if (understand(&r, octets_of_ring, &(struct unread){ NULL, 0 }, &listener))
		assert(heard.batch == r.next - 1 && r.head < BLOCKS && r.tail_block < BLOCKS && r.tail && r.tail < r.next && ring_used(&r) <= BLOCKS);
	else
		assert(errno == EPROTO ? !heard.calls : heard.calls == heard.stop_at);
	return 0;
}
