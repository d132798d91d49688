/* ledger: what the keeper remembers: every live message, what of the ring is still needed for it, and so where the
 * ring's tail is. Pure memory; queue/README.md gives the rules. */
#ifndef LEDGER_H
#define LEDGER_H
#include <stddef.h>
#include <stdint.h>
#include "queue/protocol.h"

/* What became of a recipient, as a record in the ring. */
struct outcome {
	uint64_t batch;		/* the batch that holds the record */
	uint64_t offset;	/* octets from the ring's start */
	uint32_t len;		/* of the record */
	uint32_t recipient;
	char result;		/* enum queue_outcome */
};

/* A message about which more has to be remembered than that its files are whole. */
struct message {
	uint64_t number;
	uint64_t batch;		/* the batch that holds its record, while the record is needed; else 0 */
	uint64_t end_batch;	/* the batch that holds its end, once flushed; else 0 */
	struct queue_place place;	/* of the record, if batch */
	uint32_t message_len;		/* octets of the message in the record */
	struct outcome *outcomes;	/* those that no info file has yet, oldest first */
	uint32_t outcomes_len, outcomes_room;
	uint32_t outcomes_promised;	/* room for as many more is kept: ledger_outcome_room */
	uint32_t outcomes_in_job;	/* the first of them that the running job writes */
	struct message *older, *newer;	/* in one of the ledger's lists */
	unsigned int known : 1;		/* its record or its info was seen, else only outcomes or its end */
	unsigned int files : 1;		/* it has, or may have, files */
	unsigned int moved : 1;		/* its files are whole and on disk */
	unsigned int deferred : 1;	/* it has to wait, and no info file says so: move it, or make a newer info */
	unsigned int deferred_in_job : 1;	/* the running job writes that */
	unsigned int ended : 1;		/* its end is recorded, or will be with the next batch */
	unsigned int job : 1;		/* a writer works on it */
	unsigned int doubted : 1;	/* a writer is to look at it when no other job is left */
	unsigned int listed : 2;	/* in which list: enum ledger_list */
};

enum ledger_list { LIST_NONE, LIST_RING, LIST_OUTCOMES };

struct ledger {
	uint64_t *slots;	/* table of all, 8 octets each, since most messages that wait are mere numbers; ledger.c */
	size_t slots_len, used;
	/* messages that hold the tail, oldest first: by their record, or by outcomes not in their info */
	struct message *oldest[3], *newest[3];
	/* batches from first on: where each starts, and how many needs hold it */
	struct ledger_batch { uint32_t block, needs; } *batches;
	uint64_t first, next;		/* numbers; batches[number % batches_len] */
	size_t batches_len;
	uint64_t unmoved;		/* messages in LIST_RING */
};

/* Returns 1, or 0 (ENOMEM); so do all functions that return int unless they say otherwise. */
int ledger_init(struct ledger *l);

/* A batch was flushed (or found at start): numbers must rise. Leaves out numbers that are missing. */
int ledger_batch(struct ledger *l, uint64_t number, uint32_t block);

/* The oldest batch that is needed, and its block; 0 if none is. */
uint64_t ledger_tail(const struct ledger *l, uint32_t *block);

/* Forgets the batches before tail. */
void ledger_forget_before(struct ledger *l, uint64_t tail);

/* 1 if number is live or ended and not yet gone; then *m is what is remembered of it, NULL if only its files are. */
int ledger_find(const struct ledger *l, uint64_t number, struct message **m);

/* The next of all that ledger_find finds, after *at (0 at first): 1 with its number and *m, or 0 at the end. The ledger may
 * not change meanwhile. */
int ledger_walk(const struct ledger *l, size_t *at, uint64_t *number, struct message **m);

/* Remembers a moved message with nothing pending. number is below 2^63. */
int ledger_add_moved(struct ledger *l, uint64_t number);

/* What is remembered of number, made if there is none: {.moved, .files, .known} if its files were known, else all 0.
 * NULL: ENOMEM. */
struct message *ledger_message(struct ledger *l, uint64_t number);

/* Keeps room for one more outcome, so that the ledger_outcome that takes it cannot fail. A promise that will not be
 * taken is given back by setting m->outcomes_promised to 0. */
int ledger_outcome_room(struct message *m);
void ledger_outcome(struct ledger *l, struct message *m, const struct outcome *o);

/* The record of m is at place in batch: it holds the tail. */
void ledger_record(struct ledger *l, struct message *m, uint64_t batch, const struct queue_place *place);

/* The end of m was flushed in batch. What its job may still read holds the tail till ledger_moved, or till m is forgotten. */
void ledger_end(struct ledger *l, struct message *m, uint64_t batch);

/* A job that wrote the files, with the first m->outcomes_in_job outcomes and m->deferred_in_job, is done and on disk. */
void ledger_moved(struct ledger *l, struct message *m);

/* Lets go of what m no longer needs: reduces it to a mere number, or removes it if it is gone for good. scanned: the
 * names in the directories are known, so m->files is certain. m may be freed. */
void ledger_settle(struct ledger *l, struct message *m, int scanned);

/* Removes number whatever is remembered of it. */
void ledger_remove(struct ledger *l, uint64_t number);

#endif
