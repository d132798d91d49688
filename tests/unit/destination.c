/* Who gets the next worker: fairness, limits, depth, back-off. The test plays the part of the workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/send/destination.h"
#include "job.h"

enum { BATCH = DESTINATION_DEEP_REMOTE, WORKERS = 64 };

/* Workers of the simulation: jobs that each holds, 0 none; -1: the slot is unused. */
struct crew {
	struct destinations all;
	enum route_channel channel;
	int64_t now;
	struct { struct destination *d; int jobs; } workers[WORKERS];
	struct message **messages;
	size_t used, room;
	uint32_t served;	/* jobs given */
};

static void
crew_init(struct crew *c, uint32_t limit, uint32_t per_destination)
{
	memset(c, 0, sizeof *c);
	c->now = 1000000;
	c->channel = ROUTE_REMOTE;
	c->room = 200000;
	c->messages = calloc(c->room, sizeof *c->messages);
	assert_non_null(c->messages);
	assert_int_equal(destinations_init(&c->all), 1);
	for (unsigned int i = 0; i < ROUTE_CHANNELS; i++) {
		c->all.channels[i].limit = limit;
		c->all.channels[i].per_destination = per_destination;
	}
	for (unsigned int i = 0; i < WORKERS; i++)
		c->workers[i].jobs = -1;
}

static void
crew_free(struct crew *c)
{
	for (uint32_t i = 0; i <= c->all.mask; i++)
		for (struct destination *d = c->all.slots[i], *next; d; d = next) {
			next = d->hash_next;
			free(d);
		}
	free(c->all.slots);
	heap_free(&c->all.timers);
	while (c->used)
		free(c->messages[--c->used]);
	free(c->messages);
}

static struct message *
new_message(struct crew *c, const char *sender, unsigned int recipients)
{
	struct message *m = calloc(1, sizeof *m + recipients * sizeof *m->recipients + strlen(sender) + 1);

	assert_non_null(m);
	assert_true(c->used < c->room);
	c->messages[c->used++] = m;
	m->recipients_len = recipients & 0xffffff;
	for (unsigned int i = 0; i < recipients; i++)
		m->recipients[i].position = i & 0xffffff;
	memcpy(m->recipients + recipients, sender, strlen(sender) + 1);
	return m;
}

/* A message for so many recipients there. */
static struct destination *
mail_from(struct crew *c, const char *name, const char *sender, unsigned int recipients)
{
	struct destination *d = destination_get(&c->all, c->channel, name, strlen(name));
	struct message *m = new_message(c, sender, recipients);

	assert_non_null(d);
	for (unsigned int i = 0; i < recipients; i++)
		destination_append(&c->all, d, &m->recipients[i], c->now);
	return d;
}

/* So many messages for a recipient there each. */
static struct destination *
mail(struct crew *c, const char *name, unsigned int count)
{
	struct destination *d = NULL;

	while (count--)
		d = mail_from(c, name, "", 1);
	return d;
}

/* The first worker of a destination (NULL: of any) that has so many jobs, -1: that does not run. */
static unsigned int
find_worker(const struct crew *c, const struct destination *d, int least, int most)
{
	for (unsigned int w = 0; w < WORKERS; w++)
		if ((!d || c->workers[w].d == d) && c->workers[w].jobs >= least && c->workers[w].jobs <= most)
			return w;
	fail_msg("no worker");
	return 0;
}

static void
give(struct crew *c, unsigned int w, uint32_t count)
{
	struct destination *d = c->workers[w].d;

	while (count-- && destination_take(d)) {
		c->workers[w].jobs++;
		c->served++;
		destination_gave(d, 1, c->now);
	}
	destination_update(&c->all, d, c->now);
}

/* Does one step of the channel; 0 if there is none. Workers start at once. */
static int
step(struct crew *c)
{
	struct destination *d = NULL;
	enum destination_step what = destination_next(&c->all, c->channel, &d);
	uint32_t share;
	unsigned int w;

	if (what == DESTINATION_NOTHING)
		return 0;
	share = destination_share(&c->all, d);
	assert_in_range(share, 1, BATCH);
	if (what == DESTINATION_FILL) {
		w = find_worker(c, d, 1, (int)destination_depth(d) - 1);
		if (share > destination_depth(d) - (uint32_t)c->workers[w].jobs)
			share = destination_depth(d) - (uint32_t)c->workers[w].jobs;
		give(c, w, share);
		return 1;
	}
	if (what == DESTINATION_START) {
		w = find_worker(c, NULL, -1, -1);
		c->workers[w].d = d;
		c->workers[w].jobs = 0;
	} else {
		w = find_worker(c, d, 0, 0);
		d->idle--;
	}
	d->busy++;
	c->all.channels[c->channel].busy++;
	assert_true(c->all.channels[c->channel].busy <= c->all.channels[c->channel].limit);
	assert_true(d->busy <= c->all.channels[c->channel].per_destination || d->slow_for);
	give(c, w, share);
	return 1;
}

static void
steps(struct crew *c)
{
	while (step(c))
		;
}

/* One job of worker w is answered. */
static void
answer(struct crew *c, unsigned int w, int64_t took)
{
	struct destination *d = c->workers[w].d;

	assert_true(c->workers[w].jobs > 0);
	destination_answered(&c->all, d, took, c->now);
	if (--c->workers[w].jobs)
		return;
	d->busy--;
	d->idle++;
	c->all.channels[c->channel].busy--;
	destination_update(&c->all, d, c->now);
}

static unsigned int
worker_of(const struct crew *c, const struct destination *d)
{
	unsigned int w = 0;

	while (w < WORKERS && !(c->workers[w].d == d && c->workers[w].jobs > 0))
		w++;
	return w;
}

/* --- tests --------------------------------------------------------------------- */

static void
a_flood_delays_nobody(void **state)
{
	struct destination *floods[3], *d;
	struct crew c;

	(void)state;
	crew_init(&c, 10, 5);
	floods[0] = mail(&c, "a.example", 20000);
	floods[1] = mail(&c, "b.example", 20000);
	floods[2] = mail(&c, "c.example", 20000);
	steps(&c);
	/* warm them up: quick answers, deep batches */
	for (unsigned int turn = 0; turn < 200; turn++) {
		c.now++;
		for (unsigned int w = 0; w < WORKERS; w++)
			if (c.workers[w].jobs > 0)
				answer(&c, w, 1);
		steps(&c);
	}
	assert_int_equal(floods[0]->depth, BATCH);
	assert_int_equal(c.all.channels[ROUTE_REMOTE].busy, 10);
	/* one message for somebody else is served before the workers were given one batch more each */
	d = mail(&c, "d.example", 1);
	c.served = 0;
	for (unsigned int turn = 0; turn < BATCH && d->queued; turn++) {
		c.now++;
		for (unsigned int w = 0; w < WORKERS; w++)
			if (c.workers[w].jobs > 0)
				answer(&c, w, 1);
		steps(&c);
	}
	assert_int_equal(d->queued, 0);
	assert_true(c.served <= 1 + 10 * BATCH);
	crew_free(&c);
}

static void
destinations_take_turns(void **state)
{
	enum { MANY = 50 };
	struct destination *all[MANY];
	struct crew c;
	char name[20];

	(void)state;
	crew_init(&c, 2, 1);
	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "%u.example", i);
		all[i] = mail(&c, name, 100);
	}
	for (unsigned int turn = 0; turn < MANY * 10; turn++) {
		uint32_t least = 100, most = 0;

		steps(&c);
		for (unsigned int i = 0; i < MANY; i++) {
			uint32_t served = 100 - all[i]->queued;

			least = served < least ? served : least;
			most = served > most ? served : most;
		}
		/* nobody is a round ahead: a round is at most one batch */
		assert_true(most - least <= BATCH);
		for (unsigned int w = 0; w < WORKERS; w++)
			while (c.workers[w].jobs > 0)
				answer(&c, w, 1);
	}
	crew_free(&c);
}

/* Workers that take a while to start: each that comes serves who asked for it, however many stand in line. */
static void
who_asked_is_served(void **state)
{
	enum { MANY = 100, LIMIT = 10 };
	struct destination *d;
	struct crew c;
	char name[20];

	(void)state;
	crew_init(&c, LIMIT, 5);
	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "%u.example", i);
		mail(&c, name, 1);
	}
	for (unsigned int round = 0; round < MANY / LIMIT; round++) {
		struct destination *asked[LIMIT];

		for (unsigned int i = 0; i < LIMIT; i++) {
			assert_int_equal(destination_next(&c.all, ROUTE_REMOTE, &asked[i]), DESTINATION_START);
			asked[i]->starting++;
			c.all.channels[ROUTE_REMOTE].starting++;
			destination_update(&c.all, asked[i], c.now);
		}
		assert_int_equal(destination_next(&c.all, ROUTE_REMOTE, &d), DESTINATION_NOTHING);
		for (unsigned int i = 0; i < LIMIT; i++) {
			asked[i]->starting--;
			c.all.channels[ROUTE_REMOTE].starting--;
			asked[i]->idle++;
			destination_arrived(&c.all, asked[i], c.now);
			assert_int_equal(destination_next(&c.all, ROUTE_REMOTE, &d), DESTINATION_IDLE);
			assert_ptr_equal(d, asked[i]);
			assert_non_null(destination_take(d));
			destination_update(&c.all, d, c.now);
		}
	}
	assert_int_equal(destination_next(&c.all, ROUTE_REMOTE, &d), DESTINATION_NOTHING);
	crew_free(&c);
}

static void
workers_by_backlog(void **state)
{
	struct destination *d;
	struct crew c;

	(void)state;
	crew_init(&c, 20, 5);
	d = mail(&c, "a.example", 1);
	steps(&c);
	assert_int_equal(d->busy, 1);
	mail(&c, "a.example", DESTINATION_PER_REMOTE - 1);
	steps(&c);
	assert_int_equal(d->busy, 1);
	mail(&c, "a.example", 100);
	steps(&c);
	assert_int_equal(d->busy, 5);
	crew_free(&c);
}

/* A remote job takes recipients of one message that are neighbours in the queue, up to JOB_RECIPIENTS_MAX. */
static void
workers_by_jobs(void **state)
{
	struct recipient *first, *second;
	struct destination *d;
	struct crew c;

	(void)state;
	crew_init(&c, 40, 40);
	d = mail_from(&c, "a.example", "x@y.example", JOB_RECIPIENTS_MAX - 1);
	assert_int_equal(d->groups, 1);
	steps(&c);
	assert_int_equal(d->busy, 1);
	assert_int_equal(mail_from(&c, "b.example", "", 10 * JOB_RECIPIENTS_MAX)->groups, 1);
	steps(&c);
	assert_int_equal(destination_get(&c.all, ROUTE_REMOTE, "b.example", 9)->busy, 1 + 11 / DESTINATION_PER_REMOTE);
	/* each of VERP has a sender of its own; a mark alone is none */
	assert_int_equal(mail_from(&c, "c.example", "x-@y.example-@[]", 10)->groups, 10);
	assert_int_equal(mail_from(&c, "d.example", "-@[]", 10)->groups, 1);
	/* it stays right as the queue changes at both ends */
	d = mail_from(&c, "e.example", "", 3);
	mail_from(&c, "e.example", "", 2);
	assert_int_equal(d->groups, 2);
	first = destination_take(d);
	second = destination_take(d);
	assert_int_equal(d->groups, 2);
	destination_take(d);
	assert_int_equal(d->groups, 1);
	destination_prepend(&c.all, d, second, c.now);
	assert_int_equal(d->groups, 2);
	destination_prepend(&c.all, d, first, c.now);
	assert_int_equal(d->groups, 2);
	while (destination_take(d))
		;
	assert_int_equal(d->groups, 0);
	c.channel = ROUTE_LOCAL;
	assert_int_equal(mail_from(&c, "ana", "", 10)->groups, 10);
	crew_free(&c);
}

static void
one_more_when_nothing_moves(void **state)
{
	struct destination *d;
	struct crew c;

	(void)state;
	crew_init(&c, 20, 5);
	d = mail(&c, "a.example", 4);
	steps(&c);
	assert_int_equal(d->busy, 1);
	c.now += DESTINATION_STALL_MS - 1;
	destinations_tick(&c.all, c.now);
	steps(&c);
	assert_int_equal(d->busy, 1);
	c.now += 1;
	destinations_tick(&c.all, c.now);
	steps(&c);
	assert_int_equal(d->busy, 2);
	crew_free(&c);
}

static void
depth_follows_the_answers(void **state)
{
	struct destination *d;
	struct crew c;
	unsigned int w;

	(void)state;
	crew_init(&c, 1, 1);
	d = mail(&c, "a.example", 1000);
	steps(&c);
	w = worker_of(&c, d);
	assert_int_equal(c.workers[w].jobs, 1);
	for (int want = 2; want <= BATCH; want *= 2) {
		answer(&c, w, 10);
		steps(&c);
		assert_int_equal(c.workers[w].jobs, want);
	}
	answer(&c, w, DESTINATION_SLOW_MS + 1);
	steps(&c);
	assert_int_equal(d->depth, 1);
	assert_int_equal(c.workers[w].jobs, BATCH - 1);
	crew_free(&c);
}

/* A user whose programs take long: nobody waits for another's end, up to half of the channel. */
static void
slow_users_get_more(void **state)
{
	struct destination *d, *other;
	struct crew c;

	(void)state;
	crew_init(&c, 20, DESTINATION_LOCAL);
	c.channel = ROUTE_LOCAL;
	d = mail(&c, "ana", 3);
	steps(&c);
	assert_int_equal(d->busy, 1);
	answer(&c, worker_of(&c, d), DESTINATION_SLOW_MS + 1);
	steps(&c);
	assert_int_equal(d->busy, 2);
	mail(&c, "ana", 100);
	steps(&c);
	assert_int_equal(d->busy, 10);
	assert_int_equal(d->given, 10);
	other = mail(&c, "luis", 1);
	steps(&c);
	assert_int_equal(other->busy, 1);
	/* a quick one does not end it, some in a row do */
	for (int i = 0; i < DESTINATION_SLOW_FEW; i++, steps(&c)) {
		assert_int_equal(d->given, 10);
		answer(&c, worker_of(&c, d), 10);
	}
	assert_int_equal(destination_depth(d), 1 << DESTINATION_SLOW_FEW);
	/* more of them where a program was seen to hold up others; then a slow answer counts for as much */
	destination_held_up(&c.all, d, c.now);
	answer(&c, worker_of(&c, d), 10);
	answer(&c, worker_of(&c, d), DESTINATION_SLOW_MS + 1);
	for (int i = 0; i < DESTINATION_SLOW_MANY; i++) {
		assert_int_equal(destination_depth(d), 1);
		destination_answered(&c.all, d, 10, c.now);
		d->given++;
	}
	assert_int_equal(destination_depth(d), DESTINATION_DEEP_LOCAL);
	crew_free(&c);
}

/* No answer for a while is as slow; also in a channel whose half is less than what everybody may have. */
static void
a_user_where_nothing_moves_is_slow(void **state)
{
	struct destination *d;
	struct crew c;

	(void)state;
	crew_init(&c, 6, DESTINATION_LOCAL);
	c.channel = ROUTE_LOCAL;
	d = mail(&c, "ana", 10);
	steps(&c);
	assert_int_equal(d->busy, 1);
	c.now += DESTINATION_STALL_MS;
	destinations_tick(&c.all, c.now);
	steps(&c);
	assert_int_equal(d->busy, DESTINATION_LOCAL);
	crew_free(&c);
}

static void
back_off(void **state)
{
	static const int64_t waits[] = { 30, 60, 120, 240, 480, 900, 900 };
	struct destination *d, *other;
	struct crew c;

	(void)state;
	crew_init(&c, 10, 5);
	d = mail(&c, "dead.example", 100);
	steps(&c);
	assert_int_equal(d->busy, 5);
	for (unsigned int i = 0; i < sizeof waits / sizeof *waits; i++) {
		destination_failed(&c.all, d, c.now);
		/* the others of the same attempt change nothing */
		destination_failed(&c.all, d, c.now + 1);
		for (unsigned int w = 0; w < WORKERS; w++)
			while (c.workers[w].jobs > 0)
				answer(&c, w, 100);
		steps(&c);
		assert_int_equal(d->busy, 0);
		c.now += waits[i] * 1000 - 1;
		assert_int_equal(destinations_tick(&c.all, c.now), c.now + 1);
		steps(&c);
		assert_int_equal(d->busy, 0);
		c.now++;
		destinations_tick(&c.all, c.now);
		steps(&c);
		/* one tries, with one job */
		assert_int_equal(d->busy, 1);
		assert_int_equal(d->given, 1);
	}
	/* others are not concerned */
	other = mail(&c, "alive.example", 1);
	steps(&c);
	assert_int_equal(other->busy, 1);
	destination_worked(&c.all, d, c.now);
	steps(&c);
	assert_int_equal(d->busy, 5);
	crew_free(&c);
}

static void
hurry_ends_back_offs(void **state)
{
	struct destination *d;
	struct crew c;

	(void)state;
	crew_init(&c, 10, 5);
	d = mail(&c, "dead.example", 3);
	destination_failed(&c.all, d, c.now);
	steps(&c);
	assert_int_equal(d->busy, 0);
	destinations_hurry(&c.all, c.now);
	steps(&c);
	assert_int_equal(d->busy, 1);
	crew_free(&c);
}

static void
forgotten_after_a_while(void **state)
{
	struct destination *d;
	struct crew c;

	(void)state;
	crew_init(&c, 10, 5);
	d = mail(&c, "a.example", 1);
	destination_take(d);
	destination_update(&c.all, d, c.now);
	assert_int_equal(c.all.count, 1);
	assert_int_equal(destinations_tick(&c.all, c.now), c.now + DESTINATION_KEEP_MS);
	c.now += DESTINATION_KEEP_MS;
	assert_int_equal(destinations_tick(&c.all, c.now), INT64_MAX);
	assert_int_equal(c.all.count, 0);
	crew_free(&c);
}

static void
many_are_bounded(void **state)
{
	struct crew c;
	char name[20];

	(void)state;
	crew_init(&c, 10, 5);
	for (unsigned int i = 0; i < DESTINATION_KEPT_MAX + 500; i++) {
		struct destination *d;

		snprintf(name, sizeof name, "%u.example", i);
		d = mail(&c, name, 1);
		destination_take(d);
		destination_update(&c.all, d, c.now);
		destinations_tick(&c.all, c.now);
	}
	assert_true(c.all.count <= DESTINATION_KEPT_MAX + 1);
	crew_free(&c);
}

static void
no_limit_no_worker(void **state)
{
	struct crew c;

	(void)state;
	crew_init(&c, 0, 5);
	mail(&c, "a.example", 10);
	assert_int_equal(step(&c), 0);
	crew_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flood_delays_nobody),
		cmocka_unit_test(destinations_take_turns),
		cmocka_unit_test(who_asked_is_served),
		cmocka_unit_test(workers_by_backlog),
		cmocka_unit_test(workers_by_jobs),
		cmocka_unit_test(one_more_when_nothing_moves),
		cmocka_unit_test(depth_follows_the_answers),
		cmocka_unit_test(slow_users_get_more),
		cmocka_unit_test(a_user_where_nothing_moves_is_slow),
		cmocka_unit_test(back_off),
		cmocka_unit_test(hurry_ends_back_offs),
		cmocka_unit_test(forgotten_after_a_while),
		cmocka_unit_test(many_are_bounded),
		cmocka_unit_test(no_limit_no_worker),
	};

	return cmocka_run_group_tests_name("destination", tests, NULL, NULL);
}
