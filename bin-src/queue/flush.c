/* One batch: what is complete when the loop turns is written together, flushed once, then all of it is answered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "queue/record.h"
#include "keeper.h"

enum {
	LIMIT_AHEAD = 256,	/* numbers that a header allows beyond those given out */
	REPORTS_LEAVE = 2,	/* blocks that reports leave free, for batches that move the tail */
	BATCHES = 4,		/* in one turn */
	ROOM_LOOK_MS = 100,	/* between two looks whether there is room */
};

/* What one batch takes along. */
struct flush {
	struct ring_batch batch;
	struct submitter *messages;	/* those in it, by next_complete */
	struct submitter **messages_end;
	size_t reports;			/* the first of k->reports */
	uint64_t now;			/* wall clock */
};

/* --- room -------------------------------------------------------------------------- */

static uint32_t
free_blocks(const struct keeper *k)
{
	return ring_blocks(&k->ring) - ring_used(&k->ring);
}

/* Blocks that a batch may have when this many are to be left free. */
static uint32_t
room(const struct keeper *k, uint32_t leave)
{
	uint32_t free = free_blocks(k), most = ring_blocks(&k->ring) / 16;

	free = free > leave ? free - leave : 0;
	return free < most ? free : most;
}

/* The tail for the next header. Until the directories are read, an ending or outcome may concern files not yet seen. */
static uint64_t
new_tail(const struct keeper *k, uint32_t *block)
{
	if (!k->scanned) {
		*block = k->ring.tail_block;
		return k->ring.tail;
	}
	return ledger_tail(&k->ledger, block);
}

static uint64_t
new_limit(const struct keeper *k)
{
	return k->next_number + LIMIT_AHEAD > k->ring.limit + LIMIT_AHEAD / 2 ? k->next_number + LIMIT_AHEAD : k->ring.limit;
}

/* --- composing ------------------------------------------------------------------------ */

static int
add_report(const struct keeper *k, struct flush *f, const struct report *r)
{
	char header[RECORD_OUTCOME_HEADER];
	struct record record = { .number = r->number, .recipient = r->recipient, .result = r->result };
	struct iovec v[2] = {
		{ .iov_base = header, .iov_len = RECORD_OUTCOME_HEADER },
		{ .iov_base = r->text.s, .iov_len = r->text.len },
	};

	if (r->recipient == QUEUE_INDEX_END) {
		record_end(header, r->number);
		v[0].iov_len = RECORD_END_SIZE;
		return ring_add(&k->ring, &f->batch, v, 1) >= 0;
	}
	record_outcome_header(header, &record);
	return ring_add(&k->ring, &f->batch, v, 2) >= 0;
}

static void
add_reports(struct keeper *k, struct flush *f)
{
	uint32_t blocks = room(k, REPORTS_LEAVE);

	while (f->reports < k->reports_len) {
		const struct report *r = &k->reports[f->reports];
		struct message *m;

		if (ring_batch_blocks(&f->batch, RECORD_OUTCOME_HEADER + r->text.len) > blocks)
			return;
		/* all memory that the event will need is there before it is recorded */
		m = ledger_message(&k->ledger, r->number);
		if (!m || (r->recipient != QUEUE_INDEX_END && !ledger_outcome_room(m)) || !add_report(k, f, r))
			return;
		f->reports++;
	}
}

static int
add_message(struct keeper *k, struct flush *f, struct submitter *s)
{
	char header[RECORD_MESSAGE_HEADER], received[200];
	struct record record = {
		.number = s->number, .birth = f->now, .uid = s->uid, .recipients = s->check.recipients,
		.envelope_len = (uint32_t)s->envelope.len,
	};
	struct iovec v[4] = {
		{ .iov_base = header, .iov_len = sizeof header },
		{ .iov_base = s->envelope.s, .iov_len = s->envelope.len },
		{ .iov_base = received },
		{ .iov_base = s->message.s, .iov_len = s->message.len },
	};
	int index;

	record_message_header(header, &record);
	v[2].iov_len = submit_received_field(received, sizeof received, k, s->uid, s->number, f->now);
	if (!ledger_message(&k->ledger, s->number))
		return 0;
	index = ring_add(&k->ring, &f->batch, v, 4);
	if (index < 0) {
		ledger_remove(&k->ledger, s->number);
		return 0;
	}
	s->record = (uint32_t)index;
	return 1;
}

static void
add_messages(struct keeper *k, struct flush *f)
{
	/* a quarter of the ring stays free of messages, so that what became of them always finds room */
	uint32_t blocks = room(k, ring_blocks(&k->ring) / 4);
	struct submitter *s;

	while ((s = k->complete)) {
		size_t len = RECORD_MESSAGE_HEADER + 200 + s->envelope.len + s->message.len;

		if (ring_batch_blocks(&f->batch, len) > blocks)
			return;
		s->number = keeper_take_number(k);
		k->complete = s->next_complete;
		if (!k->complete)
			k->complete_end = &k->complete;
		if (!add_message(k, f, s)) {
			submit_refuse_for_memory(k, s);
			submit_next(k, s);
			continue;
		}
		s->next_complete = NULL;
		*f->messages_end = s;
		f->messages_end = &s->next_complete;
	}
}

/* --- after the flush -------------------------------------------------------------------- */

/* Moves *at over record index and says where it lies. */
static void
next_place(const struct keeper *k, const struct flush *f, uint32_t index, uint64_t *offset, struct queue_place *place,
    const char **octets)
{
	uint64_t payload = ring_payload_offset(&k->ring, &f->batch, 0);
	uint32_t len = ring_record_len(&f->batch, index);

	*octets = f->batch.payload.s + (*offset - payload);
	place->kind = PLACE_RING;
	place->offset = *offset;
	place->len = len;
	memcpy(place->digest, ring_digest(&f->batch, index), QUEUE_KEYED_DIGEST);
	*offset += len;
}

static void
apply_report(struct keeper *k, const struct report *r, uint64_t batch, const struct queue_place *place)
{
	struct message *m;

	ledger_find(&k->ledger, r->number, &m);
	if (!m)
		return;
	if (r->recipient == QUEUE_INDEX_END) {
		ledger_end(&k->ledger, m, batch);
		if (m->files && !m->job) {
			writers_unlink(k, m);
			return;
		}
	} else
		ledger_outcome(&k->ledger, m, &(struct outcome){ .batch = batch, .offset = place->offset,
		    .len = place->len, .recipient = r->recipient, .result = r->result });
	/* also after an outcome: the message may have gone since it was reported */
	ledger_settle(&k->ledger, m, k->scanned || m->number >= k->first_number);
}

static void
apply_message(struct keeper *k, struct submitter *s, uint64_t batch, const struct queue_place *place, const char *octets,
    const struct flush *f)
{
	struct record record;
	struct queue_place there = *place;
	struct message *m;

	record_parse(&record, octets, place->len);
	there.message_at = (uint32_t)(record.message - octets);
	ledger_find(&k->ledger, s->number, &m);
	ledger_record(&k->ledger, m, batch, &there);
	notices_tell(k, s->number, &record, &there);
	submit_answer(k, s, QUEUE_OK, s->number, f->now);
}

/* The batch is on disk: everything in it counts from now on. start: block at which it was written. */
static void
apply(struct keeper *k, struct flush *f, uint64_t batch, uint32_t start)
{
	uint64_t base = ring_payload_offset(&k->ring, &f->batch, 0), offset = base;
	uint64_t shift = (uint64_t)start * RING_BLOCK;
	uint32_t index = 0;
	struct queue_place place;
	const char *octets;
	struct submitter *s, *next;

	for (size_t i = 0; i < f->reports; i++) {
		next_place(k, f, index++, &offset, &place, &octets);
		place.offset = (place.offset + shift) % k->ring.size;
		notices_confirm(k, &k->reports[i]);
		apply_report(k, &k->reports[i], batch, &place);
		stralloc_free(&k->reports[i].text);
	}
	k->reports_len -= f->reports;
	if (f->reports)
		memmove(k->reports, k->reports + f->reports, k->reports_len * sizeof *k->reports);
	k->reports_since = k->now_ms;
	for (s = f->messages; s; s = next) {
		next = s->next_complete;
		next_place(k, f, index++, &offset, &place, &octets);
		place.offset = (place.offset + shift) % k->ring.size;
		apply_message(k, s, batch, &place, octets, f);
	}
	for (s = f->messages; s; s = next) {
		next = s->next_complete;
		submit_next(k, s);
	}
}

/* Nothing of the batch counts: messages are refused for now, reports are tried again. */
static void
failed(struct keeper *k, struct flush *f, int error)
{
	struct submitter *next;

	keeper_log("alert", "unable to write or flush the journal", 0, error);
	for (size_t i = 0; i < f->reports; i++) {
		struct message *m;

		ledger_find(&k->ledger, k->reports[i].number, &m);
		if (m)
			m->outcomes_promised = 0;
	}
	for (struct submitter *s = f->messages; s; s = next) {
		next = s->next_complete;
		ledger_remove(&k->ledger, s->number);
		submit_answer(k, s, QUEUE_WRITE, 0, 0);
		submit_next(k, s);
	}
	k->reports_since = k->now_ms;
}

static int
write_batch(struct keeper *k, struct flush *f)
{
	uint64_t batch = k->ring.next;
	uint32_t start = k->ring.head, tail_block = 0;
	uint64_t tail = new_tail(k, &tail_block);

	/* needs of the batch itself are noted once it is flushed; memory for that comes first. If it fails, the same
	 * number is noted anew with the next attempt */
	if (!ledger_batch(&k->ledger, batch, start) ||
	    !ring_write(&k->ring, &f->batch, tail, tail_block, new_limit(k), f->now))
		return 0;
	ledger_forget_before(&k->ledger, k->ring.tail);
	apply(k, f, batch, start);
	return 1;
}

/* --- when ------------------------------------------------------------------------------- */

/* 1 if a batch of its own would move the flushed tail. */
static int
tail_moves(const struct keeper *k)
{
	uint32_t block = 0;
	uint64_t tail = new_tail(k, &block);

	return tail ? tail > k->ring.tail : k->ring.tail < k->ring.next - 1;
}

int
flush_empty(struct keeper *k)
{
	struct flush f = { .now = (uint64_t)time(NULL) };
	int ok;

	f.messages_end = &f.messages;
	/* the last free blocks are for batches that move the tail, else no room would ever come again */
	if (free_blocks(k) < 1 || (free_blocks(k) <= REPORTS_LEAVE && !tail_moves(k)))
		return 0;
	ok = write_batch(k, &f);
	if (!ok)
		failed(k, &f, errno);
	return ok;
}

static int
reports_due(const struct keeper *k)
{
	return k->reports_len && (k->list_wanted || k->stop || k->reports_len >= 1000 ||
	    k->now_ms >= k->reports_since + OUTCOME_WAIT_MS);
}

int
flush_due(const struct keeper *k, uint64_t *at)
{
	if (!k->reports_len && !k->complete)
		return 0;
	if (k->complete || reports_due(k))
		*at = k->now_ms + (k->lacks_room ? ROOM_LOOK_MS : 0);
	else
		*at = k->reports_since + OUTCOME_WAIT_MS;
	return 1;
}

/* Messages that found no room for ROOM_WAIT seconds, or for which none will come, are refused for now. */
static void
refuse_waiting(struct keeper *k)
{
	struct submitter *s;

	while ((s = k->complete) && (k->disk_trouble || k->now_ms - s->heard > 1000 * (uint64_t)ROOM_WAIT)) {
		k->complete = s->next_complete;
		if (!k->complete)
			k->complete_end = &k->complete;
		keeper_log("warning", "the journal is full, a message is refused; uid", s->uid, 0);
		submit_answer(k, s, QUEUE_WRITE, 0, 0);
		submit_next(k, s);
	}
}

static int
one_batch(struct keeper *k)
{
	struct flush f = { .now = (uint64_t)time(NULL) };
	int ok = 1;

	f.messages_end = &f.messages;
	add_reports(k, &f);
	add_messages(k, &f);
	if (f.batch.records) {
		ok = write_batch(k, &f);
		if (!ok)
			failed(k, &f, errno);
	}
	ok = ok && f.batch.records;
	stralloc_free(&f.batch.payload);
	stralloc_free(&f.batch.descriptors);
	return ok;
}

/* Who says messages ahead of the answers has the next one complete after each batch: all of them in one turn would be a flush each, and
 * nobody else would be heard meanwhile. The last turn takes what there is. */
void
flush_turn(struct keeper *k)
{
	k->lacks_room = 0;
	for (int batches = 0; (k->complete || reports_due(k)) && (batches < BATCHES || k->stop); batches++) {
		if (one_batch(k))
			continue;
		/* no room: it comes with a flushed tail, or with what the writers do */
		if (tail_moves(k) && flush_empty(k))
			continue;
		k->lacks_room = 1;
		k->reports_since = k->now_ms;
		refuse_waiting(k);
		return;
	}
}
