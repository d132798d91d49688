/* reader: how qmail-send gets at the octets of a message. Current directory: the home.
 * Trust   a place may be stale (the message moved, the ring went on): every octet is checked against its digest */
#ifndef READER_H
#define READER_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "queue/protocol.h"

enum reader_result {
	READER_OK = 1,
	READER_MISFIT = 0,	/* not there (any more), or not this message: ask the keeper */
	READER_ERROR = -1,	/* errno: memory, descriptors, the disk: try later */
};

/* The ring file; fd -1: not open. A new keeper may have made a new one: after READER_MISFIT on the ring, close and
 * open again before asking the keeper. */
struct reader { int fd; uint64_t size; char id[QUEUE_KEY]; };
#define READER_CLOSED { .fd = -1, .size = 0 }

/* Reads a ring that is open for writing, by its descriptor: not to be closed. */
struct ring;
struct reader reader_of(const struct ring *ring);

/* Opens the ring file in queue/journal/. Harmless if it is open. */
enum reader_result reader_open(struct reader *r);
void reader_close(struct reader *r);

/* Reads the message number at a place of kind PLACE_RING into *message: the octets that are delivered are the
 * place.len - place.message_at at *at of it. Opens the ring if need be. */
enum reader_result reader_ring(struct reader *r, uint64_t number, const struct queue_place *place, stralloc *message,
    uint32_t *at);

/* Opens mess/N/number and reads length and digest from its info. *fd is the caller's to close. The octets are not
 * checked yet: see reader_slice. */
enum reader_result reader_file(uint64_t number, int *fd, uint64_t *size, char digest[QUEUE_DIGEST]);

/* The same, and reads the message of at most max octets whole into *message, checked. READER_ERROR with EFBIG if it is
 * larger. */
enum reader_result reader_file_whole(uint64_t number, stralloc *message, uint64_t max);

/* A check of a large file in slices, so that a loop can do other things between them. */
struct reader_check;
struct reader_check *reader_check_new(int fd, uint64_t size, const char digest[QUEUE_DIGEST]);	/* NULL: ENOMEM; fd stays the caller's */
/* Reads up to max octets more with pread. Returns 2 to go on, or READER_OK, READER_MISFIT, READER_ERROR: finished. */
int reader_check_slice(struct reader_check *c, uint32_t max);
void reader_check_free(struct reader_check *c);

#endif
