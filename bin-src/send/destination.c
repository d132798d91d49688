#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "destination.h"
#include "verp.h"

static const struct patience { int64_t first_ms, last_ms; } patience[] = {
	[ROUTE_LOCAL] = { 5 * 1000, 100 * 1000 },
	[ROUTE_REMOTE] = { 30 * 1000, 900 * 1000 },
};

static const uint32_t deepest[] = { [ROUTE_LOCAL] = DESTINATION_DEEP_LOCAL, [ROUTE_REMOTE] = DESTINATION_DEEP_REMOTE };

int
destinations_init(struct destinations *all)
{
	*all = (struct destinations){ .mask = 255 };
	heap_init(&all->timers, offsetof(struct destination, heap_at));
	all->slots = calloc((size_t)all->mask + 1, sizeof *all->slots);
	if (!all->slots)
		errno = ENOMEM;
	return all->slots != NULL;
}

/* --- lines ----------------------------------------------------------------------- */

static void
line_leave(struct destination *d)
{
	struct destination_line *l = d->line;

	if (!l)
		return;
	*(d->before ? &d->before->after : &l->first) = d->after;
	*(d->after ? &d->after->before : &l->last) = d->before;
	d->line = NULL;
}

static void
line_join(struct destination *d, struct destination_line *l)
{
	if (d->line == l)
		return;
	line_leave(d);
	if (!l)
		return;
	d->line = l;
	d->before = l->last;
	d->after = NULL;
	*(l->last ? &l->last->after : &l->first) = d;
	l->last = d;
}

/* --- the table --------------------------------------------------------------------- */

static uint32_t
hash(enum route_channel channel, const char *name, size_t len)
{
	uint64_t h = 14695981039346656037u ^ channel;	/* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 1099511628211u;
	return (uint32_t)(h ^ (h >> 32));
}

static uint32_t
hash_of(const struct destination *d)
{
	return hash(d->channel, d->name, strlen(d->name));
}

/* Twice the slots, if that is due; without memory the chains just grow. */
static void
grow(struct destinations *all)
{
	uint32_t mask = 2 * all->mask + 1;
	struct destination **slots, *d;

	if (all->count <= all->mask || !(slots = calloc((size_t)mask + 1, sizeof *slots)))
		return;
	for (uint32_t i = 0; i <= all->mask; i++)
		while ((d = all->slots[i])) {
			struct destination **slot = &slots[hash_of(d) & mask];

			all->slots[i] = d->hash_next;
			d->hash_next = *slot;
			*slot = d;
		}
	free(all->slots);
	all->slots = slots;
	all->mask = mask;
}

struct destination *
destination_get(struct destinations *all, enum route_channel channel, const char *name, size_t len)
{
	uint32_t h = hash(channel, name, len);
	struct destination *d = all->slots[h & all->mask];

	while (d && (d->channel != channel || strncmp(d->name, name, len) != 0 || d->name[len]))
		d = d->hash_next;
	if (d)
		return d;
	if (!heap_reserve(&all->timers, all->count + 1) || !(d = calloc(1, sizeof *d + len + 1))) {
		errno = ENOMEM;
		return NULL;
	}
	grow(all);
	d->channel = channel;
	d->depth = 1;
	memcpy(d->name, name, len);
	d->hash_next = all->slots[h & all->mask];
	all->slots[h & all->mask] = d;
	all->count++;
	return d;
}

static void
forget(struct destinations *all, struct destination *d)
{
	struct destination **at = &all->slots[hash_of(d) & all->mask];

	while (*at != d)
		at = &(*at)->hash_next;
	*at = d->hash_next;
	line_leave(d);
	heap_remove(&all->timers, d);
	all->count--;
	all->kept -= d->is_kept;
	free(d);
}

/* --- limits ------------------------------------------------------------------------- */

/* Workers that a user whose deliveries are slow may have busy: as with programs in qmail, nobody waits for another's end while
 * there is room. */
static uint32_t
allowed_slow(const struct destination_channel *c, const struct destination *d)
{
	uint32_t limit = c->limit / 2 > c->per_destination ? c->limit / 2 : c->per_destination;
	uint32_t wanted = d->busy + d->queued;

	return wanted < limit ? wanted : limit;
}

/* Jobs that wait, as far as can be told before they are made. */
static uint32_t
jobs_waiting(const struct destination *d)
{
	return d->channel == ROUTE_LOCAL ? d->queued : d->groups + d->queued / JOB_RECIPIENTS_MAX;
}

/* Workers that d may have busy now. */
static uint32_t
allowed(const struct destinations *all, const struct destination *d)
{
	uint32_t per = d->channel == ROUTE_LOCAL ? DESTINATION_PER_LOCAL : DESTINATION_PER_REMOTE;
	uint32_t wanted = 1 + jobs_waiting(d) / per + d->stalls;
	const struct destination_channel *c = &all->channels[d->channel];
	uint32_t limit = d->is_relay ? c->limit : c->per_destination;

	if (d->failures)
		return 1;
	if (d->slow_for)
		return allowed_slow(c, d);
	return wanted < limit ? wanted : limit;
}

/* Nothing of it is in use. */
static int
is_empty(const struct destination *d)
{
	return !d->queued && !d->idle && !d->busy && !d->starting;
}

/* When nothing moved for so long, one more worker is allowed. */
static int64_t
stall_end(const struct destination *d)
{
	return d->progress + ((int64_t)DESTINATION_STALL_MS << d->stalls);
}

static void
set_timer(struct destinations *all, struct destination *d, int64_t now)
{
	if (d->queued && d->not_before > now)
		heap_put(&all->timers, d, d->not_before);
	else if (d->queued && d->busy + d->starting)
		heap_put(&all->timers, d, stall_end(d));
	else if (is_empty(d) && all->kept > DESTINATION_KEPT_MAX)
		heap_put(&all->timers, d, now);
	else if (is_empty(d))
		heap_put(&all->timers, d, now + (d->failures ? DESTINATION_KEEP_FAILED_MS : DESTINATION_KEEP_MS));
	else
		heap_remove(&all->timers, d);
}

void
destination_update(struct destinations *all, struct destination *d, int64_t now)
{
	struct destination_channel *c = &all->channels[d->channel];
	uint8_t kept = is_empty(d) ? 1 : 0;

	all->kept += kept;
	all->kept -= d->is_kept;
	d->is_kept = kept;
	if (!d->queued || d->not_before > now)
		line_leave(d);
	else if (d->busy + d->starting < allowed(all, d))
		line_join(d, &c->waiting);
	else if (d->given < d->busy * destination_depth(d))
		line_join(d, &c->filling);
	else
		line_leave(d);
	set_timer(all, d, now);
}

enum destination_step
destination_next(struct destinations *all, enum route_channel channel, struct destination **found)
{
	struct destination_channel *c = &all->channels[channel];
	struct destination_line *l = c->busy + c->starting < c->limit ? &c->waiting : NULL;
	struct destination *d;

	if (!l || !l->first)
		l = c->waiting.first ? NULL : &c->filling;
	if (!l || !(d = l->first))
		return DESTINATION_NOTHING;
	line_leave(d);
	line_join(d, l);
	*found = d;
	if (l == &c->filling)
		return DESTINATION_FILL;
	return d->idle ? DESTINATION_IDLE : DESTINATION_START;
}

void
destination_arrived(struct destinations *all, struct destination *d, int64_t now)
{
	struct destination_line *l = &all->channels[d->channel].waiting;

	destination_update(all, d, now);
	if (d->line != l || l->first == d)
		return;
	line_leave(d);
	d->line = l;
	d->before = NULL;
	d->after = l->first;
	l->first->before = d;
	l->first = d;
}

uint32_t
destination_share(const struct destinations *all, const struct destination *d)
{
	uint32_t more = allowed(all, d), share;

	more = more > d->busy ? more - d->busy : 1;
	share = (jobs_waiting(d) + more - 1) / more;
	return share < destination_depth(d) ? share : destination_depth(d);
}

/* --- the queue ------------------------------------------------------------------------ */

int
destination_share_a_job(const struct destination *d, struct recipient *r, struct recipient *next)
{
	struct message *m = recipient_message(r);

	/* each of VERP has a sender of its own */
	return d->channel == ROUTE_REMOTE && next && recipient_message(next) == m && !verp_is(message_sender(m));
}

void
destination_append(struct destinations *all, struct destination *d, struct recipient *r, int64_t now)
{
	d->groups += !d->queue.first || !destination_share_a_job(d, d->queue.last, r);
	recipient_list_append(&d->queue, r);
	if (!d->queued++)
		d->progress = now;
	destination_update(all, d, now);
}

void
destination_prepend(struct destinations *all, struct destination *d, struct recipient *r, int64_t now)
{
	d->groups += !destination_share_a_job(d, r, d->queue.first);
	recipient_list_prepend(&d->queue, r);
	if (!d->queued++)
		d->progress = now;
	destination_update(all, d, now);
}

struct recipient *
destination_take(struct destination *d)
{
	struct recipient *r = recipient_list_take(&d->queue);

	if (r) {
		d->queued--;
		d->groups -= !destination_share_a_job(d, r, d->queue.first);
	}
	return r;
}

/* --- events -------------------------------------------------------------------------- */

void
destination_gave(struct destination *d, uint32_t jobs, int64_t now)
{
	d->given += jobs;
	d->progress = now;
}

static void
be_slow(struct destination *d, int is_held_up)
{
	d->depth = 1;
	if (d->channel == ROUTE_LOCAL)
		d->slow_for = is_held_up || d->slow_for > DESTINATION_SLOW_FEW ? DESTINATION_SLOW_MANY : DESTINATION_SLOW_FEW;
}

void
destination_answered(struct destinations *all, struct destination *d, int64_t took_ms, int64_t now)
{
	d->given--;
	d->progress = now;
	d->stalls = 0;
	if (took_ms > DESTINATION_SLOW_MS)
		be_slow(d, 0);
	else {
		d->depth = 2 * d->depth < deepest[d->channel] ? 2 * d->depth : deepest[d->channel];
		if (d->slow_for)
			d->slow_for--;
	}
	destination_update(all, d, now);
}

void
destination_held_up(struct destinations *all, struct destination *d, int64_t now)
{
	be_slow(d, 1);
	destination_update(all, d, now);
}

void
destination_failed(struct destinations *all, struct destination *d, int64_t now)
{
	const struct patience *p = &patience[d->channel];
	int64_t wait = p->first_ms;

	/* what was under way when the first attempt failed is no further failure */
	if (d->not_before > now)
		return;
	for (uint32_t i = 0; i < d->failures && wait < p->last_ms; i++)
		wait *= 2;
	d->failures++;
	d->depth = 1;
	d->stalls = 0;
	d->not_before = now + (wait < p->last_ms ? wait : p->last_ms);
	destination_update(all, d, now);
}

void
destination_worked(struct destinations *all, struct destination *d, int64_t now)
{
	if (!d->failures && d->not_before <= now)
		return;
	d->failures = 0;
	d->not_before = now;
	destination_update(all, d, now);
}

void
destinations_hurry(struct destinations *all, int64_t now)
{
	for (uint32_t i = 0; i <= all->mask; i++)
		for (struct destination *d = all->slots[i]; d; d = d->hash_next)
			if (d->not_before > now) {
				d->not_before = now;
				destination_update(all, d, now);
			}
}

void
destinations_review(struct destinations *all, int64_t now)
{
	for (uint32_t i = 0; i <= all->mask; i++)
		for (struct destination *d = all->slots[i]; d; d = d->hash_next)
			if (!is_empty(d))
				destination_update(all, d, now);
}

int64_t
destinations_tick(struct destinations *all, int64_t now)
{
	struct destination *d;
	int64_t when;

	while ((d = heap_first(&all->timers, &when)) && when <= now) {
		if (is_empty(d)) {
			forget(all, d);
			continue;
		}
		/* at most 40 times: then the next end is a century away */
		if (d->queued && d->not_before <= now && stall_end(d) <= now) {
			d->stalls++;
			if (d->busy && d->channel == ROUTE_LOCAL)
				be_slow(d, 0);
		}
		destination_update(all, d, now);
	}
	return d ? when : INT64_MAX;
}
