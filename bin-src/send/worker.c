#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include "worker.h"

enum {
	TICKET_INDEX = 20,		/* bits of an id that are an index of tickets; the others count its uses */
	TICKETS_MAX = 1 << TICKET_INDEX,
	SPAWNER_FRAME_MAX = 64 * 1024,
	ANSWER_HEADER = 9,
	LOOK_MS = 60 * 1000,		/* between two looks for workers that do not answer */
	STRANGERS_MAX = 3,		/* workers of another user, one after the other, after which their destination waits */
};

static const char not_given[] = "The worker ended before it was given the message.\n";
static const char held_up[] = "Another message for this user takes long.\n";
static const char crashed[] = "The delivery program ended without a report. (#4.3.0)\n";
static const char mangled[] = "The report of the delivery program cannot be understood. (#4.3.0)\n";
static const char too_slow[] = "The delivery program took too long and was ended. (#4.3.0)\n";

/* --- tickets ---------------------------------------------------------------------- */

static uint32_t
ticket_id(const struct spawner *p, uint32_t index)
{
	return index | p->tickets[index].serial << TICKET_INDEX;
}

/* A new id for a request of that kind. Returns 1, or 0 (ENOMEM). */
static int
ticket_new(struct spawner *p, char kind, void *what, uint32_t *id)
{
	uint32_t i = p->tickets_free;

	while (i < p->tickets_len && p->tickets[i].what)
		i++;
	if (i == p->tickets_len) {
		uint32_t len = p->tickets_len ? 2 * p->tickets_len : 64;
		struct ticket *tickets = len <= TICKETS_MAX ? realloc(p->tickets, len * sizeof *tickets) : NULL;

		if (!tickets) {
			errno = ENOMEM;
			return 0;
		}
		memset(tickets + p->tickets_len, 0, (len - p->tickets_len) * sizeof *tickets);
		p->tickets = tickets;
		p->tickets_len = len;
	}
	p->tickets_free = i + 1;
	p->tickets[i].what = what;
	p->tickets[i].kind = kind;
	p->tickets[i].serial++;
	*id = ticket_id(p, i);
	return 1;
}

static struct ticket *
ticket_find(const struct spawner *p, uint32_t id)
{
	uint32_t i = id & (TICKETS_MAX - 1);

	return i < p->tickets_len && p->tickets[i].what && ticket_id(p, i) == id ? &p->tickets[i] : NULL;
}

static void
ticket_free(struct spawner *p, uint32_t id)
{
	struct ticket *t = ticket_find(p, id);

	if (!t)
		return;
	t->what = NULL;
	if ((uint32_t)(t - p->tickets) < p->tickets_free)
		p->tickets_free = (uint32_t)(t - p->tickets);
}

/* --- requests to a spawner ----------------------------------------------------------- */

/* Returns 1, or 0 with errno: EMSGSIZE, a spawner takes no such text. */
static int
request(struct spawner *p, char type, uint32_t id, const char *text)
{
	char head[4];
	struct iovec v[2] = {
		{ .iov_base = head, .iov_len = sizeof head },
		{ .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) },
	};

	if (v[1].iov_len > JOB_STRINGS_MAX) {
		errno = EMSGSIZE;
		return 0;
	}
	uint32_pack_big(head, id);
	return channel_put(&p->channel, type, v, 2);
}

int
worker_ask_owner(struct send *s, struct owner *o)
{
	struct spawner *p = &s->spawners[ROUTE_LOCAL];
	uint32_t id;

	if (!ticket_new(p, SPAWN_WHO, o, &id))
		return 0;
	if (request(p, SPAWN_WHO, id, o->local))
		return 1;
	ticket_free(p, id);
	return 0;
}

/* --- what a worker is to its destination ------------------------------------------------ */

static uint32_t *
count_of(struct destination *d, enum worker_state state)
{
	return state == WORKER_STARTING ? &d->starting : state == WORKER_IDLE ? &d->idle : &d->busy;
}

static void
count(struct send *s, struct worker *w, int sign)
{
	struct destination_channel *c = &s->destinations.channels[w->channel_kind];
	uint32_t one = (uint32_t)sign;

	if (w->state == WORKER_DEAD)
		return;
	*count_of(w->destination, w->state) += one;
	if (w->state == WORKER_STARTING)
		c->starting += one;
	else if (w->state == WORKER_BUSY)
		c->busy += one;
}

static void
idle_leave(struct spawner *p, struct worker *w)
{
	*(w->idle_before ? &w->idle_before->idle_next : &p->idle_first) = w->idle_next;
	*(w->idle_next ? &w->idle_next->idle_before : &p->idle_last) = w->idle_before;
	p->idle--;
}

static void
idle_join(struct spawner *p, struct worker *w)
{
	w->idle_before = p->idle_last;
	w->idle_next = NULL;
	*(p->idle_last ? &p->idle_last->idle_next : &p->idle_first) = w;
	p->idle_last = w;
	p->idle++;
}

static void
set_state(struct send *s, struct worker *w, enum worker_state state)
{
	struct spawner *p = &s->spawners[w->channel_kind];

	if (w->state == WORKER_IDLE)
		idle_leave(p, w);
	count(s, w, -1);
	w->state = state;
	count(s, w, 1);
	if (state == WORKER_IDLE)
		idle_join(p, w);
	destination_update(&s->destinations, w->destination, s->clock);
}

int
worker_start(struct send *s, struct destination *d, const char *for_whom)
{
	struct spawner *p = &s->spawners[d->channel];
	struct worker *w = calloc(1, sizeof *w);

	if (!w || !ticket_new(p, SPAWN_START, w, &w->ticket)) {
		free(w);
		return 0;
	}
	if (!request(p, SPAWN_START, w->ticket, for_whom)) {
		ticket_free(p, w->ticket);
		free(w);
		return 0;
	}
	w->channel_kind = d->channel;
	w->destination = d;
	w->generation = s->owners.generation;
	w->born = w->heard = s->clock;
	w->source.fd = -1;
	channel_init(&w->channel, -1, 0);
	w->next = d->workers;
	if (w->next)
		w->next->before = w;
	d->workers = w;
	w->state = WORKER_DEAD;
	set_state(s, w, WORKER_STARTING);
	return 1;
}

/* Closes its socket, which ends it, and forgets it. It has no jobs. */
static void
let_go(struct send *s, struct worker *w)
{
	struct destination *d = w->destination;

	if (w->state == WORKER_DEAD)
		return;
	set_state(s, w, WORKER_DEAD);
	if (w->before)
		w->before->next = w->next;
	else
		d->workers = w->next;
	if (w->next)
		w->next->before = w->before;
	ticket_free(&s->spawners[w->channel_kind], w->ticket);
	loop_remove(&s->loop, &w->source);
	channel_free(&w->channel);
	/* who is in the list of unsent ones is freed from there */
	if (!w->has_unsent) {
		w->unsent_next = s->dead;
		s->dead = w;
	}
	destination_update(&s->destinations, d, s->clock);
}

/* The socket is of no use any more, whatever jobs are open. */
static void
lose(struct send *s, struct worker *w, const char *text)
{
	uint64_t written = w->put - channel_unsent(&w->channel);
	struct destination *d = w->destination;

	if (w->state == WORKER_DEAD)
		return;
	/* one that ends before it did anything would be followed by the next at once, for ever */
	if (!w->has_answered && !w->in_flight)
		destination_failed(&s->destinations, d, s->clock);
	for (unsigned int i = 0; i < JOB_BATCH; i++) {
		struct delivery *job = w->deliveries[i];

		if (!job)
			continue;
		w->deliveries[i] = NULL;
		w->in_flight--;
		d->given--;
		if (w->has_answered && job->sent_from >= written && job->left == job->len)
			delivery_take_back(s, d, job, not_given);
		else
			delivery_fail(s, d, job, text);
		free(job);
	}
	d->depth = 1;
	let_go(s, w);
}

/* --- jobs ------------------------------------------------------------------------------- */

struct worker *
worker_idle(struct destination *d)
{
	struct worker *best = NULL;

	for (struct worker *w = d->workers; w; w = w->next)
		if (w->state == WORKER_IDLE && (!best || w->heard > best->heard))
			best = w;
	return best;
}

struct worker *
worker_roomy(struct destination *d, uint32_t *room)
{
	uint32_t depth = destination_depth(d);
	struct worker *best = NULL;

	for (struct worker *w = d->workers; w; w = w->next)
		if (w->state == WORKER_BUSY && !w->is_worn && w->in_flight < depth &&
		    channel_unsent(&w->channel) < WORKER_UNSENT_MAX && (!best || w->in_flight < best->in_flight))
			best = w;
	if (best)
		*room = depth - best->in_flight;
	return best;
}

static void
mark_unsent(struct send *s, struct worker *w)
{
	if (w->has_unsent)
		return;
	w->has_unsent = 1;
	w->unsent_next = s->unsent;
	s->unsent = w;
}

static int
is_old(const struct send *s, const struct worker *w)
{
	return s->clock - w->born >= (int64_t)JOB_WORKER_SECONDS * 1000;
}

int
worker_is_full(struct send *s, struct worker *w, uint64_t size)
{
	size_t unsent = channel_unsent(&w->channel);

	(void)s;
	if (w->in_flight >= (size <= JOB_INLINE_MAX ? JOB_BATCH : WORKER_FILES_MAX) || w->is_worn)
		return 1;
	/* what was just put is not a reason to wait: it is sent at the end of the turn */
	return unsent && unsent + (size <= JOB_INLINE_MAX ? size : 0) > WORKER_UNSENT_MAX;
}

int
worker_give(struct send *s, struct worker *w, struct delivery *job, uint32_t strings_len, uint64_t size,
    const char *message, int fd)
{
	size_t before = channel_unsent(&w->channel);
	uint32_t i = 0;

	while (w->deliveries[i])
		i++;
	job->id = ++w->serial * JOB_BATCH + i;
	if (!job_put(&w->channel, job->id, s->strings.s, strings_len, s->strings.len, size, message, fd))
		return 0;
	job->sent_from = w->put;
	w->put += channel_unsent(&w->channel) - before;
	w->deliveries[i] = job;
	w->in_flight++;
	destination_gave(w->destination, 1, s->clock);
	if (w->state == WORKER_IDLE) {
		w->heard = s->clock;
		set_state(s, w, WORKER_BUSY);
	}
	w->is_worn |= ++w->jobs >= JOB_WORKER_JOBS || is_old(s, w);
	mark_unsent(s, w);
	return 1;
}

/* Nothing is open: it waits for the next job, or has done its work. */
static void
rest(struct send *s, struct worker *w)
{
	if (w->is_worn || s->is_leaving || is_old(s, w)) {
		let_go(s, w);
		return;
	}
	stralloc_free(&w->channel.in);
	w->channel.in_done = 0;
	set_state(s, w, WORKER_IDLE);
}

/* Sooner than a program can have taken long it is a deferral as any other: or a worker that begins nothing would be followed by the next
 * at once, for ever. */
static int
is_given_back(const struct send *s, const struct worker *w, const struct delivery *job, char letter)
{
	return letter == JOB_BACK && job->len == 1 && w->in_flight > 1 && s->clock - w->heard >= JOB_PATIENCE_MS / 2;
}

/* Another worker gets it; this one gets no more, whatever becomes of the job that it has begun. */
static void
take_back(struct send *s, struct worker *w, struct delivery *job)
{
	struct destination *d = w->destination;

	w->deliveries[job->id % JOB_BATCH] = NULL;
	w->in_flight--;
	w->is_worn = 1;
	d->given--;
	delivery_take_back(s, d, job, held_up);
	destination_held_up(&s->destinations, d, s->clock);
	free(job);
}

static int
handle_answer(struct send *s, struct worker *w, const struct channel_frame *f)
{
	struct destination *d = w->destination;
	struct delivery *job;
	int64_t begun;
	uint32_t id, n;

	if (f->type != JOB_DONE || f->len < ANSWER_HEADER)
		return 0;
	uint32_unpack_big(f->s, &id);
	uint32_unpack_big(f->s + 4, &n);
	job = w->deliveries[id % JOB_BATCH];
	if (!job || job->id != id || n >= job->len || !job->recipients[n])
		return 0;
	if (is_given_back(s, w, job, f->s[8])) {
		take_back(s, w, job);
		return 1;
	}
	/* it may have waited behind another job */
	begun = job->given_at > w->heard ? job->given_at : w->heard;
	w->heard = s->clock;
	w->has_answered = 1;
	delivery_answer(s, d, job, n, f->s[8], f->s + ANSWER_HEADER, f->len - ANSWER_HEADER);
	if (job->left)
		return 1;
	w->deliveries[id % JOB_BATCH] = NULL;
	w->in_flight--;
	destination_answered(&s->destinations, d, s->clock - begun, s->clock);
	free(job);
	return 1;
}

static void
worker_ready(void *context, void *owner, uint32_t events)
{
	struct send *s = context;
	struct worker *w = owner;
	struct channel_frame f;
	int r;

	if (events & EPOLLOUT)
		mark_unsent(s, w);
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	r = channel_receive(&w->channel);
	if (r < 0) {
		lose(s, w, errno == EPROTO ? mangled : crashed);
		return;
	}
	while ((r = channel_next(&w->channel, &f)) == 1)
		if (!handle_answer(s, w, &f)) {
			r = -1;
			break;
		}
	if (r < 0)
		lose(s, w, mangled);
	else if (w->state == WORKER_BUSY && !w->in_flight)
		rest(s, w);
}

/* --- spawners ------------------------------------------------------------------------------- */

static void
spawner_lost(struct send *s, struct spawner *p, int why)
{
	if (p->is_lost)
		return;
	p->is_lost = 1;
	log_line(&s->log, "alert: lost ", p->which == ROUTE_LOCAL ? "qmail-lspawn" : "qmail-rspawn", ": ",
	    why ? strerror(why) : "it ended", "; finishing", NULL);
	loop_remove(&s->loop, &p->source);
	s->is_leaving = 1;
	s->exit_code = 111;
}

/* A worker that cannot be used: its destination waits, or another would be started at once, without end. */
static void
refuse(struct send *s, struct worker *w, const char *text, size_t len)
{
	delivery_refused(s, w->destination, 'Z', text, len);
	let_go(s, w);
}

/* The worker started as somebody else than its destination: the user tables changed. All that waits is asked for anew, but
 * not if the next worker, too, is a stranger, and the one after it. */
static void
wrong_user(struct send *s, struct worker *w)
{
	struct destination *d = w->destination;
	struct recipient *r;

	if (++d->strangers >= STRANGERS_MAX) {
		static const char text[] = "It changes again and again whose mail this is. (#4.3.0)\n";

		d->strangers = 0;
		refuse(s, w, text, sizeof text - 1);
		return;
	}
	s->owners.generation++;
	while ((r = destination_take(d)))
		recipient_list_append(&s->unasked, r);
	let_go(s, w);
}

/* Whether the worker that an answer is about is for that destination; without memory it is not. */
static int
is_of(struct send *s, const struct channel_frame *f, const struct destination *d)
{
	s->name.len = 0;
	return owner_identity(&s->name, f->s + 4, f->len - 4) == 1 && strcmp(s->name.s, d->name) == 0;
}

static void
worker_came(struct send *s, struct spawner *p, struct worker *w, const struct channel_frame *f)
{
	int fd = channel_take_fd(&p->channel);

	if (fd < 0) {
		static const char text[] = "The spawner sent no worker. (#4.3.0)\n";

		refuse(s, w, text, sizeof text - 1);
		return;
	}
	if (p->which == ROUTE_LOCAL && !is_of(s, f, w->destination)) {
		close(fd);
		wrong_user(s, w);
		return;
	}
	channel_init(&w->channel, fd, ANSWER_HEADER + JOB_TEXT_MAX);
	channel_guard(&w->channel);
	w->source = (struct loop_source){ .fd = fd, .ready = worker_ready, .owner = w };
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || !loop_add(&s->loop, &w->source, EPOLLIN)) {
		static const char text[] = "The worker's socket cannot be used. (#4.3.0)\n";

		w->source.fd = -1;
		refuse(s, w, text, sizeof text - 1);
		return;
	}
	w->destination->strangers = 0;
	w->born = w->heard = s->clock;
	/* a local worker that was asked for before the tables changed */
	if (p->which == ROUTE_LOCAL && w->generation != s->owners.generation)
		let_go(s, w);
	else {
		set_state(s, w, WORKER_IDLE);
		destination_arrived(&s->destinations, w->destination, s->clock);
	}
}

static int
handle_spawner(struct send *s, struct spawner *p, const struct channel_frame *f)
{
	struct ticket *t;
	uint32_t id;

	if (f->len < 4 || (f->type != SPAWN_OK && f->type != SPAWN_TEMP && f->type != SPAWN_PERM))
		return 0;
	uint32_unpack_big(f->s, &id);
	t = ticket_find(p, id);
	if (!t)
		return 0;
	if (t->kind == SPAWN_WHO) {
		struct owner *o = t->what;

		ticket_free(p, id);
		delivery_owner(s, o, f->type, f->s + 4, f->len - 4);
		return 1;
	}
	if (((struct worker *)t->what)->state != WORKER_STARTING)
		return 0;
	if (f->type == SPAWN_OK)
		worker_came(s, p, t->what, f);
	else {
		struct worker *w = t->what;
		struct destination *d = w->destination;

		let_go(s, w);
		delivery_refused(s, d, f->type == SPAWN_PERM ? 'D' : 'Z', f->s + 4, f->len - 4);
	}
	return 1;
}

static void
spawner_ready(void *context, void *owner, uint32_t events)
{
	struct send *s = context;
	struct spawner *p = owner;
	struct channel_frame f;
	int r;

	if (!(events & ~(uint32_t)EPOLLOUT))
		return;	/* the end of the turn sends */
	r = channel_receive(&p->channel);
	if (r < 0) {
		spawner_lost(s, p, errno);
		return;
	}
	while ((r = channel_next(&p->channel, &f)) == 1)
		if (!handle_spawner(s, p, &f)) {
			r = -1;
			break;
		}
	if (r < 0)
		spawner_lost(s, p, EPROTO);
}

int
spawner_init(struct send *s, enum route_channel which, int fd)
{
	struct spawner *p = &s->spawners[which];

	p->which = which;
	channel_init(&p->channel, fd, SPAWNER_FRAME_MAX);
	p->source = (struct loop_source){ .fd = fd, .ready = spawner_ready, .owner = p };
	return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
	    loop_add(&s->loop, &p->source, EPOLLIN);
}

/* --- the end of a turn ------------------------------------------------------------------------ */

static void
flush_worker(struct send *s, struct worker *w)
{
	int r = channel_flush_lean(&w->channel);

	if (r < 0) {
		/* it has ended, or ends now that no more will come: what it answers until then is read */
		shutdown(w->channel.fd, SHUT_WR);
		w->is_worn = 1;
		loop_change(&s->loop, &w->source, EPOLLIN);
		return;
	}
	loop_change(&s->loop, &w->source, r ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

static void
flush_spawner(struct send *s, struct spawner *p)
{
	int r;

	if (p->is_lost)
		return;
	r = channel_flush(&p->channel);
	if (r < 0)
		spawner_lost(s, p, errno);
	else
		loop_change(&s->loop, &p->source, r ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void
worker_flush(struct send *s)
{
	struct worker *w;

	while ((w = s->unsent)) {
		s->unsent = w->unsent_next;
		w->has_unsent = 0;
		if (w->state == WORKER_DEAD) {
			w->unsent_next = s->dead;
			s->dead = w;
		} else
			flush_worker(s, w);
	}
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		flush_spawner(s, &s->spawners[c]);
	while ((w = s->dead)) {
		s->dead = w->unsent_next;
		free(w);
	}
}

/* Ends workers that have jobs and answer none. */
static void
end_silent(struct send *s, struct spawner *p)
{
	for (uint32_t i = 0; i < p->tickets_len; i++) {
		struct worker *w = p->tickets[i].what;

		if (!w || p->tickets[i].kind != SPAWN_START || w->state != WORKER_BUSY ||
		    s->clock - w->heard < WORKER_ANSWER_MS)
			continue;
		request(p, SPAWN_KILL, w->ticket, "");
		log_line(&s->log, "warning: ending a worker that does not answer", NULL);
		lose(s, w, too_slow);
	}
}

int64_t
worker_tick(struct send *s)
{
	int64_t next = INT64_MAX;

	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++) {
		struct spawner *p = &s->spawners[c];

		while (p->idle_first && (s->is_leaving || p->idle > WORKER_IDLE_MAX ||
		    p->idle_first->heard + WORKER_IDLE_MS <= s->clock))
			let_go(s, p->idle_first);
		if (p->idle_first && p->idle_first->heard + WORKER_IDLE_MS < next)
			next = p->idle_first->heard + WORKER_IDLE_MS;
		if (s->clock - s->looked[c] >= LOOK_MS) {
			s->looked[c] = s->clock;
			end_silent(s, p);
		}
		if (s->destinations.channels[c].busy && s->looked[c] + LOOK_MS < next)
			next = s->looked[c] + LOOK_MS;
	}
	return next;
}

void
worker_wear_out(struct send *s)
{
	struct spawner *p = &s->spawners[ROUTE_LOCAL];

	for (uint32_t i = 0; i < p->tickets_len; i++) {
		struct worker *w = p->tickets[i].what;

		if (!w || p->tickets[i].kind != SPAWN_START)
			continue;
		w->is_worn = 1;
		if (w->state == WORKER_IDLE)
			let_go(s, w);
	}
}
