/* ring: the journal queue/journal/1.ID, a file of fixed size that is written over and over in batches of blocks.
 * Format   each batch starts at a block and is: "tamboq1\n", ring ID (16), number (8), block (4), blocks (4), records
 *          (4), block of the tail (4), number of the tail (8), limit (8), wall clock (8); for each record its octets (4)
 *          and its digest (8); the digest of all this (8); then the records one after another, zeros up to the block's
 *          end. A batch may go on at the ring's start. queue/README.md says what the fields are for.
 * Trust    what is in the ring may have been written by anybody's message; the ID, which no message can know, and the
 *          digests say what is a batch
 * Current directory: the home. One process writes (the keeper, under its lock). */
#ifndef RING_H
#define RING_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "queue/protocol.h"

enum {
	RING_BLOCK = 4096,
	RING_SIZE = 64 << 20,		/* octets of a new ring unless told otherwise */
	RING_SIZE_MIN = 8 << 20,
	RING_ID = QUEUE_KEY,		/* octets */
	RING_PATH_MAX = 80,
	RING_RECORD_MAX = QUEUE_INLINE_MAX + 4096,	/* octets */
	RING_DESCRIPTOR = 4 + QUEUE_KEYED_DIGEST,	/* octets of a record's entry in the batch's header */
	RING_HEADER = 72 + QUEUE_KEYED_DIGEST,	/* octets of a batch's header without those entries */
};

struct ring {
	int fd;
	uint64_t size;		/* octets */
	char id[RING_ID];
	uint64_t next;		/* number of the next batch */
	uint32_t head;		/* block at which it starts */
	uint64_t tail;		/* oldest batch still needed, as the last flushed header says */
	uint32_t tail_block;	/* block at which it starts; head if tail == next */
	uint64_t limit;		/* numbers below may have been given out, as the last flushed header says */
	uint64_t written_at;	/* wall clock of the last batch */
};

/* A batch that is being put together. {0} is an empty one. */
struct ring_batch {
	stralloc descriptors, payload;
	uint32_t records;
};

/* The ring file and its ID: 1; 0 if there is none; -1 with errno (EEXIST: more than one). */
int ring_find(char path[RING_PATH_MAX], char id[RING_ID]);

/* Makes a ring of size octets (a multiple of RING_BLOCK) with its first batch, whose number is batch and whose limit
 * is limit, in queue/new/ and moves it into place, all flushed. Returns 1, or 0 with errno. */
int ring_create(uint64_t size, uint64_t batch, uint64_t limit);

/* What ring_open tells of. All pointers are valid during the call only. */
struct ring_listener {
	void *data;
	/* a batch that is still needed: in order of their numbers; its records follow */
	int (*batch)(void *data, uint64_t number, uint32_t block, uint32_t blocks);
	/* a record at octet offset of the ring */
	int (*record)(void *data, uint64_t batch, uint64_t offset, const char *s, uint32_t len,
	    const char digest[QUEUE_KEYED_DIGEST]);
	/* a batch that should be there and is not; octets: the blocks where it has to have been */
	int (*missing)(void *data, uint64_t number, const char *octets, size_t len);
};

/* Opens the ring for writing, reads all of it from the disk (not from the page cache), tells the listener about the
 * batches from tail to last and fills *r. A listener's function returns 1, or 0 with errno to stop.
 * What cannot be read is tried again block by block; a block that may hold what was acknowledged and is needed has to be readable.
 * Returns 1, or 0 with errno (EPROTO: there is no whole batch in it; EIO or the like: such a block is not readable now; nothing was
 * told then). */
int ring_open(struct ring *r, const char *path, const char id[RING_ID], const struct ring_listener *l);

/* Adds a record of the concatenated octets of n vectors to a batch for r. Returns its index, or -1 (ENOMEM). */
struct iovec;
int ring_add(const struct ring *r, struct ring_batch *b, const struct iovec *v, unsigned int n);

/* Blocks that the batch takes, with one more record of extra octets (extra 0: as it is). */
uint32_t ring_batch_blocks(const struct ring_batch *b, size_t extra);

/* Blocks between tail and head as last flushed, and blocks of the ring. */
uint32_t ring_used(const struct ring *r);
uint32_t ring_blocks(const struct ring *r);

/* Writes the batch at head and flushes it. tail 0: this batch is the oldest that is needed. The caller has looked that
 * it fits. Returns 1 and moves *r on; 0 with errno: nothing of it counts, *r is as before. */
int ring_write(struct ring *r, const struct ring_batch *b, uint64_t tail, uint32_t tail_block, uint64_t limit,
    uint64_t now);

/* Octet offset in the ring at which the payload of batch b starts if it is written at block. */
uint64_t ring_payload_offset(const struct ring *r, const struct ring_batch *b, uint32_t block);

/* The octets and the digest of record index of a batch. */
uint32_t ring_record_len(const struct ring_batch *b, uint32_t index);
const char *ring_digest(const struct ring_batch *b, uint32_t index);

void ring_batch_clear(struct ring_batch *b);

/* Reads len octets at offset of the ring file fd of size octets; they may go on at its start. 1, or 0 with errno. */
int ring_read(int fd, uint64_t size, uint64_t offset, char *s, size_t len);

void ring_close(struct ring *r);

#endif
