/* Jobs for the writers: what has to become files, what has to go. A message has one job at a time; what changes
 * meanwhile is looked at when it is done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "keeper.h"

enum { PRESSURE = 2 * WRITERS * WRITER_BATCH };	/* messages that are looked at when the ring is half full */

/* 1 if no more is known of m than that there may be files which are no message's: what the child of a large message left. */
static int
is_rubbish(const struct message *m)
{
	return m->ended && m->known && !m->moved && !m->batch && !m->end_batch;
}

/* --- wanting ---------------------------------------------------------------------------- */

/* 1; 0: it has another job, or there is no memory. */
static int
want(struct keeper *k, struct message *m, enum writer_job job)
{
	if (m->job)
		return 0;
	if (k->wanted_len == k->wanted_room) {
		size_t room = k->wanted_room ? 2 * k->wanted_room : 64;
		struct wanted *more = realloc(k->wanted, room * sizeof *more);

		if (!more) {
			keeper_log("warning", "no memory for a job; message", m->number, ENOMEM);
			k->missed_at = k->now_ms + 1000 * (uint64_t)JOB_RETRY;
			m->doubted |= job == WRITER_VERIFY || job == WRITER_ASIDE;
			return 0;
		}
		k->wanted = more;
		k->wanted_room = room;
	}
	k->wanted[k->wanted_len++] = (struct wanted){ .number = m->number, .job = (char)job };
	m->job = 1;
	return 1;
}

void
writers_defer(struct keeper *k, struct message *m)
{
	m->deferred = 1;
	want(k, m, m->batch ? WRITER_MOVE : WRITER_INFO);
}

void
writers_unlink(struct keeper *k, struct message *m)
{
	want(k, m, WRITER_UNLINK);
}

void
writers_verify(struct keeper *k, struct message *m)
{
	m->doubted = 0;
	if (!want(k, m, m->batch ? WRITER_ASIDE : WRITER_VERIFY))
		m->doubted = 1;
}

/* What want() found no memory for. Newer infos with mere outcomes are left out: nothing needs them before the ring presses. */
static void
want_missed(struct keeper *k)
{
	struct message *m;
	uint64_t number;
	size_t at = 0;

	k->missed_at = 0;
	while (ledger_walk(&k->ledger, &at, &number, &m)) {
		if (m && (m->end_batch ? m->files : is_rubbish(m)))
			want(k, m, WRITER_UNLINK);
		else if (m && m->doubted && !m->ended)
			writers_verify(k, m);
		else if (m && m->deferred && !m->ended)
			writers_defer(k, m);
	}
}

/* A ring more than half full is emptied from its tail. */
static void
relieve(struct keeper *k)
{
	struct message *m = k->ledger.oldest[LIST_RING];
	int looked = 0;

	if (ring_used(&k->ring) <= ring_blocks(&k->ring) / 2)
		return;
	for (; m && looked < PRESSURE; m = m->newer, looked++)
		if (!m->ended)
			want(k, m, WRITER_MOVE);
	m = k->scanned ? k->ledger.oldest[LIST_OUTCOMES] : NULL;
	for (looked = 0; m && looked < PRESSURE; m = m->newer, looked++)
		if (!m->ended && m->moved)
			want(k, m, WRITER_INFO);
}

/* --- giving out --------------------------------------------------------------------------- */

static int
put_outcomes(stralloc *frame, struct message *m)
{
	char s[12];

	m->outcomes_in_job = m->outcomes_len;
	m->deferred_in_job = m->deferred;
	uint32_pack_big(s, m->outcomes_len);
	if (!stralloc_catb(frame, s, 4))
		return 0;
	for (uint32_t i = 0; i < m->outcomes_len; i++) {
		uint64_pack_big(s, m->outcomes[i].offset);
		uint32_pack_big(s + 8, m->outcomes[i].len);
		if (!stralloc_catb(frame, s, sizeof s))
			return 0;
	}
	return 1;
}

/* number (8), tried (1), place; for MOVE and INFO then outcomes: how many (4), each offset (8), octets (4) */
static int
put_job(struct writer *w, struct message *m, enum writer_job job)
{
	stralloc frame = STRALLOC_ZERO;
	char s[9 + QUEUE_PLACE_PACK];
	int ok;

	uint64_pack_big(s, m->number);
	s[8] = m->deferred ? 1 : 0;
	queue_place_pack(s + 9, &m->place);
	ok = stralloc_catb(&frame, s, sizeof s) && ((job != WRITER_MOVE && job != WRITER_INFO) || put_outcomes(&frame, m)) &&
	    channel_put1(&w->channel, (char)job, frame.s, frame.len);
	stralloc_free(&frame);
	return ok;
}

/* What is to be done now: a job wanted earlier may have been overtaken. */
static enum writer_job
still_wanted(const struct message *m, enum writer_job job)
{
	if (m->end_batch || job == WRITER_UNLINK)
		return m->files ? WRITER_UNLINK : WRITER_NONE;
	if (job == WRITER_MOVE && !m->batch)
		return WRITER_NONE;
	if (job == WRITER_INFO && !m->outcomes_len && !m->deferred)
		return WRITER_NONE;
	return job;
}

/* A job is over: what waited for this is next, else m is let go of. */
static void
go_on(struct keeper *k, struct message *m)
{
	if (m->end_batch && m->files)
		want(k, m, WRITER_UNLINK);
	else if (m->doubted && !m->ended)
		writers_verify(k, m);
	else {
		if (m->deferred && !m->ended && !k->missed_at)
			k->missed_at = k->now_ms + 1000 * (uint64_t)JOB_RETRY;	/* it was deferred when it had this job */
		ledger_settle(&k->ledger, m, k->scanned || m->number >= k->first_number);
	}
}

static void
give(struct keeper *k, struct writer *w, const struct wanted *wanted)
{
	struct message *m;
	enum writer_job job;

	ledger_find(&k->ledger, wanted->number, &m);
	if (!m)
		return;
	m->job = 0;
	job = still_wanted(m, (enum writer_job)wanted->job);
	if (job == WRITER_NONE) {
		go_on(k, m);
		return;
	}
	if (!put_job(w, m, job)) {
		want(k, m, job);
		return;
	}
	m->job = 1;
	if (job == WRITER_MOVE)
		m->files = 1;	/* from now on there may be some */
	w->jobs[w->jobs_len++] = (struct wanted){ .number = m->number, .job = (char)job };
}

/* The one with the fewest jobs; NULL: none runs. */
static struct writer *
idlest(struct keeper *k)
{
	struct writer *least = NULL;

	for (unsigned int i = 0; i < WRITERS; i++) {
		struct writer *w = &k->writers[i];

		if (w->pid > 0 && !w->is_dismissed && (!least || w->jobs_len < least->jobs_len))
			least = w;
	}
	return least;
}

static int start(struct keeper *k, struct writer *w);

/* Those that died. */
static void
start_again(struct keeper *k)
{
	for (unsigned int i = 0; i < WRITERS; i++)
		if (k->writers[i].pid <= 0 && !start(k, &k->writers[i])) {
			keeper_log("alert", "unable to start a writer", 0, errno);
			k->jobs_from = k->now_ms + 1000 * (uint64_t)JOB_RETRY;
		}
}

void
writers_turn(struct keeper *k)
{
	size_t todo;

	if (k->missed_at && k->now_ms >= k->missed_at)
		want_missed(k);
	if (k->now_ms >= k->jobs_from) {
		start_again(k);
		relieve(k);
		todo = k->wanted_len - k->wanted_done;
		for (struct writer *w; todo && (w = idlest(k)) && w->jobs_len < WRITER_BATCH; todo--) {
			struct wanted next = k->wanted[k->wanted_done++];

			give(k, w, &next);
		}
	}
	if (k->wanted_done == k->wanted_len)
		k->wanted_len = k->wanted_done = 0;
	else if (k->wanted_done > 4096 && k->wanted_done > k->wanted_len / 2) {
		k->wanted_len -= k->wanted_done;
		memmove(k->wanted, k->wanted + k->wanted_done, k->wanted_len * sizeof *k->wanted);
		k->wanted_done = 0;
	}
	for (unsigned int i = 0; i < WRITERS; i++) {
		struct writer *w = &k->writers[i];

		int r = w->pid > 0 ? channel_flush(&w->channel) : 1;

		if (r < 0)
			shutdown(w->channel.fd, SHUT_WR);	/* it does what it was told, and ends */
		if (w->pid > 0)
			keeper_watch(k, &w->source, r == 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
	}
}

/* --- what they report ------------------------------------------------------------------------ */

static void
set_aside(struct keeper *k, struct message *m)
{
	struct queue_place nowhere = { .kind = PLACE_NONE };
	uint64_t number = m->number;

	keeper_log("alert", "damaged, set aside in queue/damaged: message", number, 0);
	ledger_remove(&k->ledger, number);
	notices_place(k, number, &nowhere);
}

static void
job_failed(struct keeper *k, struct message *m, enum writer_job job, int error)
{
	keeper_log("alert", "unable to write files of the queue, trying again; message", m->number, error);
	m->outcomes_in_job = 0;
	k->disk_trouble = 1;
	k->jobs_from = k->now_ms + 1000 * (uint64_t)JOB_RETRY;
	if (m->doubted)		/* who complained tries again as well, and complains again if that fails */
		notices_place_of(k, m->number);
	m->doubted = 0;
	want(k, m, job);
}

static void
job_done(struct keeper *k, uint64_t number, enum writer_job job, int error)
{
	struct message *m;

	ledger_find(&k->ledger, number, &m);
	if (!m)
		return;
	m->job = 0;
	if (error == EBADMSG && job != WRITER_UNLINK && !m->end_batch) {
		if (job == WRITER_MOVE || job == WRITER_INFO)
			writers_verify(k, m);	/* found in passing: the job that looks for itself keeps what there is */
		else
			set_aside(k, m);
		return;
	}
	if (error && (job == WRITER_MOVE || job == WRITER_INFO || job == WRITER_UNLINK)) {
		job_failed(k, m, job, error);
		return;
	}
	if (error)
		keeper_log("warning", "unable to read, or to set aside, what seems damaged: message", number, error);
	else
		k->disk_trouble = 0;
	if (job == WRITER_MOVE || job == WRITER_INFO)
		ledger_moved(&k->ledger, m);
	else if (job == WRITER_UNLINK)
		m->files = 0;
	else
		notices_place_of(k, number);
	if (is_rubbish(m) && !m->files)
		ledger_remove(&k->ledger, number);
	else
		go_on(k, m);
}

/* A writer that has ended: what it was at is done anew by another, and a later turn starts it again. */
static void
died(struct keeper *k, struct writer *w)
{
	struct message *m;

	keeper_log("warning", "a writer died and is started again", 0, 0);
	keeper_unwatch(k, &w->source);
	channel_free(&w->channel);
	w->pid = w->is_dismissed = 0;
	for (unsigned int i = 0; i < w->jobs_len; i++) {
		ledger_find(&k->ledger, w->jobs[i].number, &m);
		if (!m)
			continue;
		m->job = 0;
		m->outcomes_in_job = 0;
		want(k, m, (enum writer_job)w->jobs[i].job);
	}
	w->jobs_len = 0;
	k->jobs_from = k->now_ms + 1000;
}

/* Its reports are lost, as without memory to take them. It finishes what it is at and ends; only then may another have its
 * jobs. */
static void
dismiss(struct writer *w)
{
	w->is_dismissed = 1;
	shutdown(w->channel.fd, SHUT_WR);
}

static int
has_ended(const struct writer *w)
{
	char said[4096];
	ssize_t r = recv(w->channel.fd, said, sizeof said, MSG_DONTWAIT);

	return r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR);
}

static void
take_reports(struct keeper *k, struct writer *w)
{
	struct channel_frame f;

	while (channel_next(&w->channel, &f) == 1) {
		uint64_t number;
		uint32_t error;
		unsigned int i = 0;

		uint64_unpack_big(f.s, &number);
		uint32_unpack_big(f.s + 8, &error);
		while (i < w->jobs_len && w->jobs[i].number != number)
			i++;
		if (i < w->jobs_len) {
			struct wanted done = w->jobs[i];

			w->jobs[i] = w->jobs[--w->jobs_len];
			job_done(k, number, (enum writer_job)done.job, (int)error);
		}
	}
}

static void
ready(struct keeper *k, struct source *source, uint32_t events)
{
	struct writer *w = (struct writer *)source;
	int r, error;

	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (w->is_dismissed) {
		if (has_ended(w))
			died(k, w);
		return;
	}
	r = channel_receive(&w->channel);
	error = errno;
	take_reports(k, w);
	if (r < 0 && error)
		dismiss(w);
	else if (r < 0)
		died(k, w);
}

static int
start(struct keeper *k, struct writer *w)
{
	struct channel c;
	int fd;

	w->pid = keeper_fork(k, &fd, -1);
	if (w->pid < 0)
		return 0;
	if (w->pid == 0) {
		channel_init(&c, fd, CHILD_FRAME_MAX);
		writer_run(&c, &k->ring);
	}
	channel_init(&w->channel, fd, CHILD_FRAME_MAX);
	w->source = (struct source){ .fd = fd, .ready = ready };
	return keeper_watch(k, &w->source, EPOLLIN);
}

int
writers_start(struct keeper *k)
{
	for (unsigned int i = 0; i < WRITERS; i++)
		if (!start(k, &k->writers[i]))
			return 0;
	return 1;
}
