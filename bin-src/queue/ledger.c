#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "ledger.h"

enum { SLOTS_MIN = 256, BATCHES_MIN = 64 };

/* --- batches -------------------------------------------------------------------- */

static struct ledger_batch *
batch_of(const struct ledger *l, uint64_t number)
{
	return &l->batches[number % l->batches_len];
}

static void
need(struct ledger *l, uint64_t batch)
{
	batch_of(l, batch)->needs++;
}

static void
release(struct ledger *l, uint64_t batch)
{
	batch_of(l, batch)->needs--;
}

int
ledger_init(struct ledger *l)
{
	*l = (struct ledger){ .batches_len = BATCHES_MIN, .slots_len = SLOTS_MIN };
	l->batches = calloc(l->batches_len, sizeof *l->batches);
	l->slots = calloc(l->slots_len, sizeof *l->slots);
	return l->batches && l->slots;
}

static int
grow_batches(struct ledger *l, size_t len)
{
	struct ledger_batch *more = calloc(len, sizeof *more);

	if (!more) {
		errno = ENOMEM;
		return 0;
	}
	for (uint64_t n = l->first; n < l->next; n++)
		more[n % len] = *batch_of(l, n);
	free(l->batches);
	l->batches = more;
	l->batches_len = len;
	return 1;
}

int
ledger_batch(struct ledger *l, uint64_t number, uint32_t block)
{
	size_t len = l->batches_len;

	if (l->first == l->next)
		l->first = l->next = number;
	while (number - l->first >= len)
		len *= 2;
	if (len > l->batches_len && !grow_batches(l, len))
		return 0;
	for (; l->next <= number; l->next++)
		*batch_of(l, l->next) = (struct ledger_batch){ .block = block };
	return 1;
}

uint64_t
ledger_tail(const struct ledger *l, uint32_t *block)
{
	for (uint64_t n = l->first; n < l->next; n++)
		if (batch_of(l, n)->needs) {
			*block = batch_of(l, n)->block;
			return n;
		}
	return 0;
}

void
ledger_forget_before(struct ledger *l, uint64_t tail)
{
	if (tail > l->next)
		tail = l->next;
	if (tail > l->first)
		l->first = tail;
}

/* --- the table -------------------------------------------------------------------- */

static size_t
home_slot(const struct ledger *l, uint64_t number)
{
	return (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (l->slots_len - 1);
}

/* A slot is empty (0), a moved message with nothing pending (2 * number + 1), or a pointer to a struct message. */
static struct message *
message_in(uint64_t slot)
{
	return slot & 1 ? NULL : (struct message *)(uintptr_t)slot;
}

static uint64_t
number_in(uint64_t slot)
{
	return slot & 1 ? slot >> 1 : message_in(slot)->number;
}

/* Where number is, or the empty slot where it would be. */
static uint64_t *
slot_of(const struct ledger *l, uint64_t number)
{
	size_t i = home_slot(l, number);

	while (l->slots[i] && number_in(l->slots[i]) != number)
		i = (i + 1) & (l->slots_len - 1);
	return &l->slots[i];
}

static int
grow_slots(struct ledger *l)
{
	uint64_t *old = l->slots;
	size_t old_len = l->slots_len;

	l->slots = calloc(old_len * 2, sizeof *l->slots);
	if (!l->slots) {
		l->slots = old;
		errno = ENOMEM;
		return 0;
	}
	l->slots_len = old_len * 2;
	for (size_t i = 0; i < old_len; i++)
		if (old[i])
			*slot_of(l, number_in(old[i])) = old[i];
	free(old);
	return 1;
}

/* Fills the slot of number. 1, or 0 (ENOMEM). */
static int
set_slot(struct ledger *l, uint64_t number, uint64_t value)
{
	uint64_t *s = slot_of(l, number);

	if (!*s) {
		if (l->used + 1 > l->slots_len / 4 * 3) {
			if (!grow_slots(l))
				return 0;
			s = slot_of(l, number);
		}
		l->used++;
	}
	*s = value;
	return 1;
}

static uint64_t
moved(uint64_t number)
{
	return number << 1 | 1;
}

/* Empties a slot and moves up what stands behind it out of its place. */
static void
clear_slot(struct ledger *l, uint64_t *s)
{
	size_t mask = l->slots_len - 1, hole = (size_t)(s - l->slots);

	for (size_t i = (hole + 1) & mask; l->slots[i]; i = (i + 1) & mask)
		if (((i - home_slot(l, number_in(l->slots[i]))) & mask) >= ((i - hole) & mask)) {
			l->slots[hole] = l->slots[i];
			hole = i;
		}
	l->slots[hole] = 0;
	l->used--;
}

int
ledger_find(const struct ledger *l, uint64_t number, struct message **m)
{
	uint64_t s = number ? *slot_of(l, number) : 0;

	*m = message_in(s);
	return s != 0;
}

int
ledger_walk(const struct ledger *l, size_t *at, uint64_t *number, struct message **m)
{
	while (*at < l->slots_len && !l->slots[*at])
		++*at;
	if (*at == l->slots_len)
		return 0;
	*number = number_in(l->slots[*at]);
	*m = message_in(l->slots[*at]);
	++*at;
	return 1;
}

int
ledger_add_moved(struct ledger *l, uint64_t number)
{
	return set_slot(l, number, moved(number));
}

struct message *
ledger_message(struct ledger *l, uint64_t number)
{
	struct message *m;
	int had_files = ledger_find(l, number, &m);

	if (m)
		return m;
	m = calloc(1, sizeof *m);
	if (m)
		m->number = number;
	if (!m || !set_slot(l, number, (uintptr_t)m)) {
		free(m);
		errno = ENOMEM;
		return NULL;
	}
	m->known = m->files = m->moved = had_files ? 1 : 0;
	return m;
}

/* --- lists -------------------------------------------------------------------- */

static void
leave_list(struct ledger *l, struct message *m)
{
	if (!m->listed)
		return;
	*(m->older ? &m->older->newer : &l->oldest[m->listed]) = m->newer;
	*(m->newer ? &m->newer->older : &l->newest[m->listed]) = m->older;
	l->unmoved -= m->listed == LIST_RING;
	m->older = m->newer = NULL;
	m->listed = LIST_NONE;
}

static uint64_t
holds(const struct message *m)
{
	return m->listed == LIST_RING ? m->batch : m->outcomes[0].batch;
}

/* Nearly always at the end. */
static void
enter_list(struct ledger *l, struct message *m, enum ledger_list which)
{
	struct message *older = l->newest[which];

	m->listed = which & 3u;
	while (older && holds(older) > holds(m))
		older = older->older;
	m->older = older;
	m->newer = older ? older->newer : l->oldest[which];
	*(m->older ? &m->older->newer : &l->oldest[which]) = m;
	*(m->newer ? &m->newer->older : &l->newest[which]) = m;
	l->unmoved += which == LIST_RING;
}

/* Puts m into the list that fits what it holds. */
static void
enlist(struct ledger *l, struct message *m)
{
	leave_list(l, m);
	if (m->end_batch)
		return;
	if (m->batch)
		enter_list(l, m, LIST_RING);
	else if (m->outcomes_len)
		enter_list(l, m, LIST_OUTCOMES);
}

/* --- events -------------------------------------------------------------------- */

int
ledger_outcome_room(struct message *m)
{
	if (m->outcomes_len + m->outcomes_promised == m->outcomes_room) {
		uint32_t room = m->outcomes_room ? m->outcomes_room * 2 : 2;
		struct outcome *more = realloc(m->outcomes, room * sizeof *more);

		if (!more) {
			errno = ENOMEM;
			return 0;
		}
		m->outcomes = more;
		m->outcomes_room = room;
	}
	m->outcomes_promised++;
	return 1;
}

void
ledger_outcome(struct ledger *l, struct message *m, const struct outcome *o)
{
	m->outcomes_promised--;
	if (m->end_batch)
		return;
	m->outcomes[m->outcomes_len++] = *o;
	need(l, o->batch);
	if (m->outcomes_len == 1)
		enlist(l, m);
}

/* Lets go of the first n outcomes. */
static void
drop_outcomes(struct ledger *l, struct message *m, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		release(l, m->outcomes[i].batch);
	m->outcomes_len -= n;
	if (m->outcomes_len)
		memmove(m->outcomes, m->outcomes + n, m->outcomes_len * sizeof *m->outcomes);
}

static void
drop_record(struct ledger *l, struct message *m)
{
	if (m->batch)
		release(l, m->batch);
	m->batch = 0;
}

/* What an ended message does not need. */
static void
drop_all(struct ledger *l, struct message *m)
{
	drop_outcomes(l, m, m->outcomes_len);
	m->outcomes_in_job = 0;
	drop_record(l, m);
}

void
ledger_record(struct ledger *l, struct message *m, uint64_t batch, const struct queue_place *place)
{
	drop_record(l, m);
	m->batch = batch;
	m->place = *place;
	m->message_len = place->len - place->message_at;
	m->known = 1;
	m->moved = 0;
	need(l, batch);
	enlist(l, m);
}

void
ledger_end(struct ledger *l, struct message *m, uint64_t batch)
{
	if (m->end_batch)
		release(l, m->end_batch);
	m->end_batch = batch;
	m->ended = 1;
	need(l, batch);
	leave_list(l, m);
	if (!m->job)
		drop_all(l, m);
}

void
ledger_moved(struct ledger *l, struct message *m)
{
	m->moved = m->files = 1;
	if (m->deferred_in_job)
		m->deferred = 0;
	if (m->end_batch) {
		drop_all(l, m);
		return;
	}
	drop_record(l, m);
	leave_list(l, m);
	drop_outcomes(l, m, m->outcomes_in_job);
	m->outcomes_in_job = 0;
	enlist(l, m);
}

static void
forget(struct ledger *l, struct message *m)
{
	leave_list(l, m);
	drop_all(l, m);
	if (m->end_batch)
		release(l, m->end_batch);
	free(m->outcomes);
	free(m);
}

void
ledger_settle(struct ledger *l, struct message *m, int scanned)
{
	uint64_t *s = slot_of(l, m->number);

	if (m->job)
		return;
	if (m->end_batch ? scanned && !m->files : scanned && !m->known && !m->ended) {
		clear_slot(l, s);
		forget(l, m);
	} else if (m->moved && !m->ended && !m->outcomes_len && !m->deferred && !m->doubted) {
		*s = moved(m->number);
		forget(l, m);
	}
}

void
ledger_remove(struct ledger *l, uint64_t number)
{
	uint64_t *s = slot_of(l, number);
	struct message *m = message_in(*s);

	if (!*s)
		return;
	clear_slot(l, s);
	if (m)
		forget(l, m);
}
