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

static struct ledger_slot *
slot_of(const struct ledger *l, uint64_t number)
{
	size_t i = home_slot(l, number);

	while (l->slots[i].number && l->slots[i].number != number)
		i = (i + 1) & (l->slots_len - 1);
	return &l->slots[i];
}

static int
grow_slots(struct ledger *l)
{
	struct ledger_slot *old = l->slots;
	size_t old_len = l->slots_len;

	l->slots = calloc(old_len * 2, sizeof *l->slots);
	if (!l->slots) {
		l->slots = old;
		errno = ENOMEM;
		return 0;
	}
	l->slots_len = old_len * 2;
	for (size_t i = 0; i < old_len; i++)
		if (old[i].number)
			*slot_of(l, old[i].number) = old[i];
	free(old);
	return 1;
}

/* The slot of number, made if there is none. NULL: ENOMEM. */
static struct ledger_slot *
make_slot(struct ledger *l, uint64_t number)
{
	struct ledger_slot *s = slot_of(l, number);

	if (s->number)
		return s;
	if (l->used + 1 > l->slots_len / 4 * 3) {
		if (!grow_slots(l))
			return NULL;
		s = slot_of(l, number);
	}
	l->used++;
	*s = (struct ledger_slot){ .number = number };
	return s;
}

/* Empties a slot and moves up what stands behind it out of its place. */
static void
clear_slot(struct ledger *l, struct ledger_slot *s)
{
	size_t mask = l->slots_len - 1, hole = (size_t)(s - l->slots);

	for (size_t i = (hole + 1) & mask; l->slots[i].number; i = (i + 1) & mask)
		if (((i - home_slot(l, l->slots[i].number)) & mask) >= ((i - hole) & mask)) {
			l->slots[hole] = l->slots[i];
			hole = i;
		}
	l->slots[hole] = (struct ledger_slot){ .number = 0 };
	l->used--;
}

int
ledger_find(const struct ledger *l, uint64_t number, struct message **m)
{
	const struct ledger_slot *s = number ? slot_of(l, number) : NULL;

	*m = s && s->number ? s->more : NULL;
	return s && s->number;
}

int
ledger_add_moved(struct ledger *l, uint64_t number)
{
	return make_slot(l, number) != NULL;
}

struct message *
ledger_message(struct ledger *l, uint64_t number)
{
	struct message *known;
	int moved = ledger_find(l, number, &known);
	struct ledger_slot *s;

	if (known)
		return known;
	s = make_slot(l, number);
	if (!s)
		return NULL;
	s->more = calloc(1, sizeof *s->more);
	if (!s->more) {
		if (!moved)
			clear_slot(l, s);
		errno = ENOMEM;
		return NULL;
	}
	s->more->number = number;
	s->more->known = s->more->files = s->more->moved = moved ? 1 : 0;
	return s->more;
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
	drop_outcomes(l, m, m->outcomes_len);
	m->outcomes_in_job = 0;
	drop_record(l, m);
	leave_list(l, m);
}

void
ledger_moved(struct ledger *l, struct message *m)
{
	m->moved = m->files = 1;
	if (m->end_batch)
		return;
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
	drop_outcomes(l, m, m->outcomes_len);
	drop_record(l, m);
	if (m->end_batch)
		release(l, m->end_batch);
	free(m->outcomes);
	free(m);
}

void
ledger_settle(struct ledger *l, struct message *m, int scanned)
{
	struct ledger_slot *s = slot_of(l, m->number);

	if (m->job)
		return;
	if (m->end_batch ? scanned && !m->files : scanned && !m->known && !m->ended) {
		forget(l, m);
		clear_slot(l, s);
	} else if (m->moved && !m->ended && !m->outcomes_len) {
		forget(l, m);
		s->more = NULL;
	}
}

void
ledger_remove(struct ledger *l, uint64_t number)
{
	struct ledger_slot *s = slot_of(l, number);

	if (!s->number)
		return;
	if (s->more)
		forget(l, s->more);
	clear_slot(l, s);
}
