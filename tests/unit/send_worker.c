/* The processes that deliver, as qmail-send sees them: what they may say, how long they live, and what is left when one ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include "bin-src/send/worker.h"
#include "directory.h"
#include "sending.h"
#include "stored.h"
#include "unsendable.h"

enum { LOOK_MS = 60 * 1000, LARGE = 40000 };

static struct channel worker, other;

static struct destination *
destination(enum route_channel channel, const char *name)
{
	struct destination *d = destination_get(&sending->destinations, channel, name, strlen(name));

	assert_non_null(d);
	return d;
}

static struct worker *
worker_of(const char *name)
{
	struct worker *w = destination(ROUTE_REMOTE, name)->workers;

	assert_non_null(w);
	return w;
}

static void
assert_closed(struct channel *c)
{
	struct channel_frame f;

	assert_int_equal(sending_heard(c, &f), -1);
}

/* A message to a@far.example and b@far.example, and its job, which worker has. */
static struct message *
with_a_job(struct job *job)
{
	struct message *m;

	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", "b@far.example", NULL);
	sending_turn();
	sending_start(ROUTE_REMOTE, &worker);
	sending_turn();
	*job = sending_job(&worker);
	return m;
}

/* An idle worker for far.example. */
static struct worker *
with_an_idle_worker(void)
{
	struct job job;

	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	sending_start(ROUTE_REMOTE, &worker);
	sending_turn();
	job = sending_job(&worker);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	return worker_idle(destination(ROUTE_REMOTE, "far.example"));
}

/* A message to ana@here.example, for which a worker was asked. */
static void
with_a_local_start(void)
{
	sending_connect();
	sending_message(1, "s@x", "ana@here.example", NULL);
	sending_turn();
	sending_answer_who();
	sending_turn();
	sending_turn();
}

/* --- what a worker says ----------------------------------------------------------- */

static void
an_answer_in_pieces_is_one_answer(void **state)
{
	struct job job;
	char answer[CHANNEL_HEADER + 9 + 3] = { 0, 0, 0, 12, JOB_DONE };
	struct message *m = with_a_job(&job);

	(void)state;
	uint32_pack_big(answer + 5, job.id);
	uint32_pack_big(answer + 9, 1);
	memcpy(answer + 13, "Dno\n", 4);
	for (size_t i = 0; i < sizeof answer - 1; i++) {
		assert_int_equal(write(worker.fd, answer + i, 1), 1);
		sending_turn();
		assert_int_equal(m->todo, 2);
	}
	assert_int_equal(write(worker.fd, answer + sizeof answer - 1, 1), 1);
	sending_turn();
	assert_int_equal(m->todo, 1);
	assert_int_equal(sending_logged("delivery 2: failure: no/\n"), 1);
}

static void
a_text_of_the_longest_is_taken(void **state)
{
	struct job job;
	struct message *m = with_a_job(&job);
	char text[JOB_TEXT_MAX + 1];

	(void)state;
	memset(text, 'x', JOB_TEXT_MAX);
	text[JOB_TEXT_MAX] = '\0';
	sending_answer(&worker, job.id, 0, 'D', text);
	sending_turn();
	assert_int_equal(m->todo, 1);
	assert_int_equal(m->recipients[0].text->len, JOB_TEXT_MAX);
}

/* What no worker may say: offset is added to the id of its job. */
static const struct nonsense { const char *rule; char type; uint32_t offset, recipient; size_t len; int with_descriptor; } nonsenses[] = {
	{ "a recipient that its job does not have", JOB_DONE, 0, 2, 9, 0 },
	{ "recipient 4294967295", JOB_DONE, 0, UINT32_MAX, 9, 0 },
	{ "another's job", JOB_DONE, JOB_BATCH, 0, 9, 0 },
	{ "the place of no job", JOB_DONE, 1, 0, 9, 0 },
	{ "an answer without a letter", JOB_DONE, 0, 0, 8, 0 },
	{ "an empty answer", JOB_DONE, 0, 0, 0, 0 },
	{ "a text that is too long by one", JOB_DONE, 0, 0, 9 + JOB_TEXT_MAX + 1, 0 },
	{ "a job of its own", JOB, 0, 0, 9, 0 },
	{ "a descriptor", JOB_DONE, 0, 0, 9, 1 },
};
enum { NONSENSES = sizeof nonsenses / sizeof *nonsenses };

static void
nonsense_row(void **state)
{
	const struct nonsense *row = *state;
	static char s[9 + JOB_TEXT_MAX + 1];
	struct job job;
	struct message *m = with_a_job(&job);
	unsigned int descriptors = sending_descriptors();

	memset(s, 'x', sizeof s);
	uint32_pack_big(s, job.id + row->offset);
	uint32_pack_big(s + 4, row->recipient);
	s[8] = 'K';
	if (row->with_descriptor)
		assert_int_equal(channel_put_fd(&worker, row->type, s, row->len, dup(STDERR_FILENO)), 1);
	else
		assert_int_equal(channel_put1(&worker, row->type, s, row->len), 1);
	assert_int_equal(channel_flush(&worker), 1);
	sending_turn();
	assert_closed(&worker);
	assert_int_equal(sending_descriptors(), descriptors - 1);	/* its socket; and none that it sent */
	/* what it was not asked for changed nothing, and what it has not answered is deferred */
	assert_int_equal(m->todo, 2);
	assert_int_equal(sending_logged(": deferral: The_report_of_the_delivery_program_cannot_be_understood._(#4.3.0)/\n"), 2);
	assert_int_equal(m->in_pass, 0);
	assert_int_equal(sending->in_jobs, 0);
}

static void
it_is_believed_once_for_each_recipient(void **state)
{
	struct job job;
	struct message *m = with_a_job(&job);

	(void)state;
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_answer(&worker, job.id, 0, 'D', "no");
	sending_turn();
	assert_closed(&worker);
	assert_int_equal(m->recipients[0].state, RECIPIENT_DONE);
	assert_int_equal(m->recipients[1].state, RECIPIENT_TODO);
	assert_int_equal(sending_logged("delivery 1: success: \n"), 1);
	assert_int_equal(sending_logged("delivery 1: failure"), 0);
	assert_int_equal(sending_logged("delivery 2: deferral: The_report"), 1);
}

/* All recipients were answered: the job is gone, and its id with it. */
static void
a_job_that_is_done_is_nobodys(void **state)
{
	struct job job;

	(void)state;
	with_a_job(&job);
	sending_answer(&worker, job.id, 1, 'K', "");
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	sending_expect_nothing(&worker);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	assert_closed(&worker);
	assert_int_equal(sending_logged("end msg 1\n"), 1);
}

/* --- a worker that ends --------------------------------------------------------------- */

static void
its_end_defers_what_it_has_not_answered(void **state)
{
	struct job job;
	struct message *m = with_a_job(&job);

	(void)state;
	sending_answer(&worker, job.id, 1, 'K', "");
	channel_free(&worker);
	sending_turn();
	sending_turn();
	assert_int_equal(m->todo, 1);
	assert_int_equal(m->recipients[1].state, RECIPIENT_DONE);
	assert_int_equal(sending_logged("delivery 1: deferral: The_delivery_program_ended_without_a_report._(#4.3.0)/\n"), 1);
	assert_int_equal(sending_logged("delivery 2: success: \n"), 1);
}

/* Else the next would be started at once, for ever. */
static void
one_that_ends_before_it_did_anything_is_a_failure_of_its_destination(void **state)
{
	struct destination *d;

	(void)state;
	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_message(2, "s@x", "b@far.example", NULL);
	sending_turn();
	sending->is_leaving = 1;	/* it gets no job yet */
	sending_start(ROUTE_REMOTE, &worker);
	sending->is_leaving = 0;
	channel_free(&worker);
	assert_int_equal(loop_wait(&sending->loop, 0), 1);
	d = destination(ROUTE_REMOTE, "far.example");
	assert_int_equal(d->failures, 1);
	assert_true(d->not_before > sending->clock);
	sending_turn();
	sending_expect_nothing(&sending_spawners[ROUTE_REMOTE]);
}

/* A worker for far.example whose socket holds few octets; it did one job, and was given two large ones together. */
static void
with_two_large_jobs(void)
{
	static char large[LARGE];
	struct worker *w = with_an_idle_worker();
	int few = 1;

	assert_int_equal(setsockopt(w->channel.fd, SOL_SOCKET, SO_SNDBUF, &few, sizeof few), 0);
	memset(large, 'x', sizeof large);
	for (uint64_t number = 2; number < 4; number++) {
		struct message *m = sending_message(number, "s@x", "b@far.example", NULL);

		m->size = LARGE;
		stored_in_files(number, large, large, LARGE);
	}
	sending_turn();
	assert_int_equal(w->in_flight, 2);
	assert_true(channel_unsent(&w->channel) > LARGE && channel_unsent(&w->channel) < 2 * LARGE);
}

static void
a_job_that_it_never_got_waits_in_front(void **state)
{
	struct destination *d;

	(void)state;
	with_two_large_jobs();
	sending_message(4, "s@x", "c@far.example", NULL);
	sending_turn();
	d = destination(ROUTE_REMOTE, "far.example");
	assert_int_equal(d->queued, 1);
	sending->is_leaving = 1;
	channel_free(&worker);
	sending_turn();
	assert_int_equal(sending_logged("delivery 2: deferral: The_delivery_program_ended"), 1);
	assert_int_equal(sending_logged("delivery 3: deferral: The_worker_ended_before_it_was_given_the_message./\n"), 1);
	assert_int_equal(d->queued, 2);
	assert_int_equal(recipient_message(d->queue.first)->number, 3);
	assert_int_equal(sending->in_jobs, 0);
}

/* A turn in which nothing can be sent to w, the test's worker. */
static void
turn_without_memory(const struct worker *w)
{
	unsendable = w->channel.fd;
	unsendable_times = -1;
	sending_turn();
	unsendable = -1;
	assert_closed(&worker);
}

/* It would wait for the rest of the job for ever. */
static void
one_that_nothing_can_be_sent_to_gets_its_end_and_no_more_jobs(void **state)
{
	struct worker *w = with_an_idle_worker();
	struct destination *d = w->destination;
	uint32_t room;

	(void)state;
	sending_message(2, "s@x", "b@far.example", NULL);
	turn_without_memory(w);
	d->depth = 8;
	assert_null(worker_roomy(d, &room));
	channel_free(&worker);
	sending->is_leaving = 1;
	sending_turn();
	assert_int_equal(sending_logged("delivery 2: deferral: The_worker_ended_before_it_was_given_the_message./\n"), 1);
	assert_int_equal(d->queued, 1);
}

/* What it was given before, it answers. */
static void
one_that_gets_no_more_is_heard_to_its_end(void **state)
{
	struct job job;
	struct message *m = with_a_job(&job);
	struct worker *w = worker_of("far.example");

	(void)state;
	w->destination->depth = 8;
	sending_message(2, "s@x", "c@far.example", NULL);
	turn_without_memory(w);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_answer(&worker, job.id, 1, 'K', "");
	sending_turn();
	assert_int_equal(m->is_ended, 1);
	channel_free(&worker);
	sending_turn();
	assert_int_equal(sending_logged("delivery 3: deferral: The_worker_ended_before_it_was_given_the_message./\n"), 1);
}

static void
a_job_goes_out_as_the_worker_reads(void **state)
{
	struct job job;
	struct channel_frame f;

	(void)state;
	with_two_large_jobs();
	for (int got = 0; got < 2;) {
		int r = sending_heard(&worker, &f);

		assert_true(r >= 0);
		if (r) {
			assert_int_equal(job_parse(&job, &worker, &f), 1);
			assert_int_equal(job.size, LARGE);
			assert_int_equal(job.message[LARGE - 1], 'x');
			got++;
		}
		sending_turn();
	}
	assert_null(sending->unsent);
}

static void
one_that_does_not_answer_is_killed(void **state)
{
	struct channel_frame f;
	struct job job;
	struct message *m;
	uint32_t ticket, killed;

	(void)state;
	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	ticket = worker_of("far.example")->ticket;
	sending_start(ROUTE_REMOTE, &worker);
	sending_turn();
	job = sending_job(&worker);
	sending_later(WORKER_ANSWER_MS - 1);
	sending_turn();
	sending_expect_nothing(&worker);
	sending_expect_nothing(&sending_spawners[ROUTE_REMOTE]);
	sending_later(LOOK_MS);
	sending_turn();
	f = sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_KILL);
	assert_int_equal(f.len, 4);
	uint32_unpack_big(f.s, &killed);
	assert_int_equal(killed, ticket);
	assert_closed(&worker);
	assert_int_equal(sending_logged("warning: ending a worker that does not answer\n"), 1);
	assert_int_equal(sending_logged("deferral: The_delivery_program_took_too_long_and_was_ended._(#4.3.0)/\n"), 1);
	assert_int_equal(m->todo, 1);
	assert_int_equal(job.id % JOB_BATCH, 0);
}

static void
an_answer_renews_its_time(void **state)
{
	struct job job;

	(void)state;
	with_a_job(&job);
	sending_later(WORKER_ANSWER_MS - 1);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	sending_later(WORKER_ANSWER_MS - 1);
	sending_turn();
	sending_expect_nothing(&worker);
}

/* --- jobs that it gives back ------------------------------------------------------------------ */

/* A worker of ana that has quickly delivered message 1 and now has messages 2 and 3, of which message 2 takes long; 4 waits. */
static struct worker *
with_a_program_that_takes_long(struct job jobs[2])
{
	struct destination *d;
	struct job job;

	with_a_local_start();
	sending_start(ROUTE_LOCAL, &worker);
	sending_turn();
	job = sending_job(&worker);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	for (uint64_t number = 2; number < 5; number++)
		sending_message(number, "s@x", "ana@here.example", NULL);
	sending_turn();
	for (int i = 0; i < 2; i++)
		jobs[i] = sending_job(&worker);
	sending_expect_nothing(&worker);
	d = destination(ROUTE_LOCAL, "ana:1000:1000:/home/x");
	assert_int_equal(d->queued, 1);
	return d->workers;
}

static void
a_job_that_it_gives_back_is_anothers(void **state)
{
	struct job jobs[2], job;
	struct worker *w = with_a_program_that_takes_long(jobs);
	struct destination *d = w->destination;

	(void)state;
	sending_later(JOB_PATIENCE_MS);
	sending_answer(&worker, jobs[1].id, 0, JOB_BACK, "");
	sending_turn();
	assert_int_equal(sending_logged(": deferral: Another_message_for_this_user_takes_long./\n"), 1);
	assert_int_equal(d->queued, 2);
	assert_int_equal(recipient_message(d->queue.first)->number, 3);
	assert_int_equal(d->given, 1);
	assert_int_equal(sending->in_jobs, 1);
	sending_later(DESTINATION_STALL_MS);
	sending_turn();
	sending_turn();
	sending_start(ROUTE_LOCAL, &other);
	sending_turn();
	job = sending_job(&other);
	sending_answer(&other, job.id, 0, 'K', "");
	sending_turn();
	assert_int_equal(sending_logged("end msg 3\n"), 1);
	/* it had its chance */
	sending_expect_nothing(&worker);
	sending_answer(&worker, jobs[0].id, 0, 'K', "");
	sending_turn();
	assert_closed(&worker);
	assert_int_equal(sending_logged("end msg 2\n"), 1);
	channel_free(&other);
}

static void
a_job_that_it_gives_back_at_once_is_deferred(void **state)
{
	struct job jobs[2];

	(void)state;
	with_a_program_that_takes_long(jobs);
	sending_answer(&worker, jobs[1].id, 0, JOB_BACK, "why\n");
	sending_turn();
	assert_int_equal(sending_logged("delivery 3: report mangled, will defer\n"), 1);
	assert_int_equal(sending_logged("takes_long"), 0);
}

static void
the_only_job_cannot_be_given_back(void **state)
{
	struct job jobs[2];
	struct worker *w = with_a_program_that_takes_long(jobs);

	(void)state;
	sending_later(JOB_PATIENCE_MS);
	sending_answer(&worker, jobs[1].id, 0, JOB_BACK, "");
	sending_answer(&worker, jobs[0].id, 0, JOB_BACK, "");
	sending_turn();
	assert_int_equal(sending_logged("takes_long"), 1);
	assert_int_equal(sending_logged(": report mangled, will defer\n"), 1);
	assert_int_equal(w->in_flight, 0);
}

/* One session's recipients are refused one by one, not given back. */
static void
a_remote_job_cannot_be_given_back(void **state)
{
	struct job job;
	struct message *m = with_a_job(&job);

	(void)state;
	sending_later(JOB_PATIENCE_MS);
	sending_answer(&worker, job.id, 0, JOB_BACK, "");
	sending_turn();
	assert_int_equal(m->todo, 2);
	assert_int_equal(sending_logged(": report mangled, will defer\n"), 1);
}

/* --- its life ------------------------------------------------------------------------------ */

static void
an_idle_one_is_kept_for_its_time(void **state)
{
	(void)state;
	with_an_idle_worker();
	sending_later(WORKER_IDLE_MS - 1);
	assert_int_equal(worker_tick(sending), sending->clock + 1);
	sending_turn();
	sending_expect_nothing(&worker);
	sending_later(1);
	sending_turn();
	assert_closed(&worker);
	assert_int_equal(worker_tick(sending), INT64_MAX);
}

static void
of_too_many_idle_ones_the_longest_idle_ends(void **state)
{
	static struct channel workers[WORKER_IDLE_MAX + 1];
	struct spawner *p = &sending->spawners[ROUTE_REMOTE];
	char address[40];
	struct job job;

	(void)state;
	sending->destinations.channels[ROUTE_REMOTE].limit = WORKER_IDLE_MAX + 1;
	sending_connect();
	for (unsigned int i = 0; i <= WORKER_IDLE_MAX; i++) {
		snprintf(address, sizeof address, "a@%u.example", i);
		sending_message(1 + i, "s@x", address, NULL);
		sending_turn();
		sending_start(ROUTE_REMOTE, &workers[i]);
		sending_turn();
	}
	for (unsigned int i = 0; i <= WORKER_IDLE_MAX; i++) {
		unsigned int n = (i + 5) % (WORKER_IDLE_MAX + 1);	/* the sixth is the first to answer */

		job = sending_job(&workers[n]);
		sending_answer(&workers[n], job.id, 0, 'K', "");
		if (i == WORKER_IDLE_MAX) {
			sending_turn();
			sending_turn();
			break;
		}
		sending_turn();
		sending_turn();
		assert_int_equal(p->idle, i + 1);
	}
	assert_int_equal(p->idle, WORKER_IDLE_MAX);
	assert_closed(&workers[5]);
	sending_expect_nothing(&workers[6]);
	sending_expect_nothing(&workers[4]);
	for (unsigned int i = 0; i <= WORKER_IDLE_MAX; i++)
		channel_free(&workers[i]);
}

/* Gives the worker its next job, and answers it. */
static void
one_more_job(uint64_t number)
{
	struct job job;

	sending_message(number, "s@x", "a@far.example", NULL);
	sending_turn();
	job = sending_job(&worker);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
}

static void
it_gets_so_many_jobs(void **state)
{
	struct worker *w = with_an_idle_worker();

	(void)state;
	w->jobs = JOB_WORKER_JOBS - 2;
	one_more_job(2);
	sending_expect_nothing(&worker);
	one_more_job(3);
	assert_closed(&worker);
}

static void
it_lives_so_long(void **state)
{
	struct worker *w = with_an_idle_worker();

	(void)state;
	w->born = sending->clock - (int64_t)JOB_WORKER_SECONDS * 1000 + 1;
	one_more_job(2);
	sending_expect_nothing(&worker);
	sending_later(1);
	one_more_job(3);
	assert_closed(&worker);
}

/* What it does not come to would be deferred with its end. */
static void
an_old_one_that_is_busy_gets_one_more_and_no_other(void **state)
{
	struct worker *w = with_an_idle_worker();
	uint32_t room;

	(void)state;
	sending_message(2, "s@x", "b@far.example", NULL);
	sending_turn();
	w->destination->depth = 8;
	w->born = sending->clock - (int64_t)JOB_WORKER_SECONDS * 1000;
	sending_message(3, "s@x", "c@far.example", NULL);
	sending_turn();
	assert_int_equal(w->in_flight, 2);
	assert_null(worker_roomy(w->destination, &room));
	assert_int_equal(worker_is_full(sending, w, 1), 1);
}

static void
the_one_that_was_used_last_is_used_again(void **state)
{
	struct destination *d;
	struct job jobs[2];

	(void)state;
	sending_connect();
	for (uint64_t number = 1; number <= DESTINATION_PER_REMOTE + 1; number++)
		sending_message(number, "s@x", "a@far.example", NULL);
	sending_turn();
	sending_start(ROUTE_REMOTE, &worker);
	sending_turn();
	sending_start(ROUTE_REMOTE, &other);
	sending_turn();
	d = destination(ROUTE_REMOTE, "far.example");
	jobs[0] = sending_job(&worker);
	jobs[1] = sending_job(&other);
	assert_null(worker_idle(d));
	while (destination_take(d))	/* nothing else is to be done */
		;
	sending_later(1);
	sending_answer(&other, jobs[1].id, 0, 'K', "");
	sending_turn();
	sending_later(1);
	sending_answer(&worker, jobs[0].id, 0, 'K', "");
	sending_turn();
	assert_int_equal(d->idle, 2);
	assert_int_equal(worker_idle(d)->heard, sending->clock);
	channel_free(&other);
}

/* --- the user tables change ------------------------------------------------------------------- */

static void
tables_change(void)
{
	sending->owners.generation++;
	worker_wear_out(sending);
}

static void
an_idle_one_ends_with_the_tables(void **state)
{
	struct job job;

	(void)state;
	with_a_local_start();
	sending_start(ROUTE_LOCAL, &worker);
	sending_turn();
	job = sending_job(&worker);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	sending_expect_nothing(&worker);
	tables_change();
	assert_closed(&worker);
}

static void
a_busy_one_ends_with_its_job(void **state)
{
	struct job job;

	(void)state;
	with_a_local_start();
	sending_start(ROUTE_LOCAL, &worker);
	sending_turn();
	job = sending_job(&worker);
	tables_change();
	sending_turn();
	sending_expect_nothing(&worker);
	sending_answer(&worker, job.id, 0, 'K', "");
	sending_turn();
	assert_closed(&worker);
	assert_int_equal(sending_logged("end msg 1\n"), 1);
}

static void
one_that_comes_after_the_change_gets_nothing(void **state)
{
	(void)state;
	with_a_local_start();
	tables_change();
	sending_start(ROUTE_LOCAL, &worker);
	assert_closed(&worker);
	sending_turn();
	sending_answer_who();	/* whose it is is asked anew */
	assert_int_equal(sending->is_leaving, 0);
}

static void
remote_ones_know_no_tables(void **state)
{
	(void)state;
	with_an_idle_worker();
	tables_change();
	sending_turn();
	sending_expect_nothing(&worker);
}

/* --- how much it is given ------------------------------------------------------------------------ */

static void
it_is_full_at_its_limits(void **state)
{
	static const char octets[WORKER_UNSENT_MAX];
	struct worker *w = with_an_idle_worker();

	(void)state;
	/* alone a message may be as large as any */
	assert_int_equal(worker_is_full(sending, w, JOB_INLINE_MAX), 0);
	w->in_flight = JOB_BATCH - 1;
	assert_int_equal(worker_is_full(sending, w, 1), 0);
	w->in_flight = JOB_BATCH;
	assert_int_equal(worker_is_full(sending, w, 1), 1);
	w->in_flight = WORKER_FILES_MAX - 1;
	assert_int_equal(worker_is_full(sending, w, JOB_INLINE_MAX + 1), 0);
	w->in_flight = WORKER_FILES_MAX;
	assert_int_equal(worker_is_full(sending, w, JOB_INLINE_MAX + 1), 1);
	w->in_flight = 0;
	assert_int_equal(channel_put1(&w->channel, 'x', octets, WORKER_UNSENT_MAX - 100 - CHANNEL_HEADER), 1);
	assert_int_equal(worker_is_full(sending, w, 100), 0);
	assert_int_equal(worker_is_full(sending, w, 101), 1);
	/* one in a file takes no room */
	assert_int_equal(worker_is_full(sending, w, JOB_INLINE_MAX + 1), 0);
	w->is_worn = 1;
	assert_int_equal(worker_is_full(sending, w, 1), 1);
}

static void
the_busy_one_with_most_room(void **state)
{
	static const char octets[WORKER_UNSENT_MAX];
	struct destination *d;
	struct worker *w;
	struct job job;
	uint32_t room = 0;

	(void)state;
	with_a_job(&job);
	d = destination(ROUTE_REMOTE, "far.example");
	w = d->workers;
	assert_null(worker_roomy(d, &room));	/* it has as many as the depth allows */
	d->depth = 8;
	assert_ptr_equal(worker_roomy(d, &room), w);
	assert_int_equal(room, 7);
	d->failures = 1;
	assert_null(worker_roomy(d, &room));
	d->failures = 0;
	w->is_worn = 1;
	assert_null(worker_roomy(d, &room));
	w->is_worn = 0;
	assert_int_equal(channel_put1(&w->channel, 'x', octets, WORKER_UNSENT_MAX - CHANNEL_HEADER - 1), 1);
	assert_ptr_equal(worker_roomy(d, &room), w);
	w->channel.out.len++;
	assert_null(worker_roomy(d, &room));
	w->channel.out.len = 0;
}

/* Strings that are too long: the descriptor stays the caller's, and nothing is done. */
static void
a_job_that_cannot_be_given(void **state)
{
	struct worker *w = with_an_idle_worker();
	struct delivery *job = calloc(1, sizeof *job + sizeof *job->recipients);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	stralloc *strings = &sending->strings;

	(void)state;
	assert_non_null(job);
	assert_true(stralloc_ready(strings, JOB_STRINGS_MAX + 1));
	memset(strings->s, 'x', JOB_STRINGS_MAX + 1);
	strings->s[JOB_STRINGS_MAX - 1] = '\0';
	strings->len = JOB_STRINGS_MAX + 1;
	assert_int_equal(worker_give(sending, w, job, 1, 1 << 20, NULL, fd), 0);
	assert_int_equal(errno, EMSGSIZE);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	assert_int_equal(w->state, WORKER_IDLE);
	assert_int_equal(w->in_flight + channel_unsent(&w->channel), 0);
	assert_int_equal(destination(ROUTE_REMOTE, "far.example")->given, 0);
	strings->len = JOB_STRINGS_MAX;
	assert_int_equal(worker_give(sending, w, job, 1, 1 << 20, NULL, fd), 1);
	assert_int_equal(w->state, WORKER_BUSY);
	worker_flush(sending);
	assert_int_equal(fcntl(fd, F_GETFD), -1);	/* it was sent, and is the worker's */
	fd = sending_job(&worker).fd;
	assert_true(fd >= 0);
	close(fd);
}

/* --- spawners -------------------------------------------------------------------------------------- */

/* What no spawner may say, after it was asked for a worker. offset is added to the id. */
static const struct spawner_row { const char *rule; char type; uint32_t offset; size_t len; unsigned int times; } spawner_rows[] = {
	{ "no id", SPAWN_TEMP, 0, 3, 1 },
	{ "another type", SPAWN_START, 0, 4, 1 },
	{ "the id of no request", SPAWN_TEMP, 1, 4, 1 },
	{ "an id far beyond", SPAWN_TEMP, (1 << 20) - 1, 4, 1 },
	{ "the same id in another life", SPAWN_TEMP, 1 << 20, 4, 1 },
	{ "two answers", SPAWN_PERM, 0, 4, 2 },
	{ "an answer that is too long by one", SPAWN_TEMP, 0, 64 * 1024 + 1, 1 },
};
enum { SPAWNER_ROWS = sizeof spawner_rows / sizeof *spawner_rows };

static void
spawner_row(void **state)
{
	const struct spawner_row *row = *state;
	static char s[64 * 1024 + 1];
	struct channel_frame f;
	uint32_t id;

	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	f = sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_START);
	uint32_unpack_big(f.s, &id);
	uint32_pack_big(s, id + row->offset);
	for (unsigned int i = 0; i < row->times; i++) {
		assert_int_equal(sending->is_leaving, 0);
		sending_say(&sending_spawners[ROUTE_REMOTE], row->type, s, row->len);
		if (i + 1 < row->times)
			sending_turn();
	}
	sending_turn();
	assert_int_equal(sending_logged("alert: lost qmail-rspawn: Protocol error; finishing\n"), 1);
	assert_int_equal(sending->is_leaving, 1);
	assert_int_equal(sending->exit_code, 111);
	/* it is said once, and the other one is not concerned */
	sending_say(&sending_spawners[ROUTE_REMOTE], 'x', "", 0);
	sending_turn();
	assert_int_equal(sending_logged("alert: lost"), 1);
	assert_int_equal(sending->spawners[ROUTE_LOCAL].is_lost, 0);
}

static void
an_answer_of_the_longest_is_taken(void **state)
{
	static char s[64 * 1024];
	struct channel_frame f;

	(void)state;
	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	f = sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_START);
	memset(s, 'x', sizeof s);
	memcpy(s, f.s, 4);
	/* more than the socket holds: it goes out as it is read */
	assert_int_equal(channel_put1(&sending_spawners[ROUTE_REMOTE], SPAWN_TEMP, s, sizeof s), 1);
	while (channel_flush(&sending_spawners[ROUTE_REMOTE]) == 0)
		sending_turn();
	sending_turns(sizeof s);
	assert_int_equal(sending->is_leaving, 0);
	assert_int_equal(sending_logged("deferral: xxxxx"), 1);
}

static void
a_worker_without_a_socket_is_a_deferral(void **state)
{
	struct channel_frame f;
	struct destination *d;

	(void)state;
	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	f = sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_START);
	sending_say(&sending_spawners[ROUTE_REMOTE], SPAWN_OK, f.s, 4);
	sending_turn();
	assert_int_equal(sending_logged("delivery 1: deferral: The_spawner_sent_no_worker._(#4.3.0)/\n"), 1);
	assert_int_equal(sending->is_leaving, 0);
	d = destination(ROUTE_REMOTE, "far.example");
	assert_int_equal(d->failures, 1);
	assert_null(d->workers);
	assert_int_equal(d->starting + sending->destinations.channels[ROUTE_REMOTE].starting, 0);
}

static void
a_worker_whose_socket_is_none_is_a_deferral(void **state)
{
	struct channel *spawner = &sending_spawners[ROUTE_REMOTE];
	struct channel_frame f;
	char id[4];

	(void)state;
	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	f = sending_expect(spawner, SPAWN_START);
	memcpy(id, f.s, 4);
	assert_int_equal(channel_put_fd(spawner, SPAWN_OK, id, 4, open("/dev/null", O_RDWR | O_CLOEXEC)), 1);
	assert_int_equal(channel_flush(spawner), 1);
	sending_turn();
	assert_int_equal(sending_logged("delivery 1: deferral: The_worker's_socket_cannot_be_used._(#4.3.0)/\n"), 1);
	assert_int_equal(destination(ROUTE_REMOTE, "far.example")->failures, 1);
	sending_turn();
	sending_expect_nothing(spawner);
}

/* Ana's is ana, 1000, 1000, /home/x. */
static const struct stranger { const char *rule, *user, *uid, *gid, *home; } strangers[] = {
	{ "the worker of another user is closed", "bob", "1000", "1000", "/home/x" },
	{ "the worker of another uid is closed", "ana", "1001", "1000", "/home/x" },
	{ "the worker of another gid is closed", "ana", "1000", "1001", "/home/x" },
	{ "the worker of another home is closed", "ana", "1000", "1000", "/home/y" },
};
enum { STRANGERS = sizeof strangers / sizeof *strangers };

/* Answers SPAWN_START with a worker of who. */
static void
start_for(const struct stranger *who)
{
	const char *const facts[] = { who->user, who->uid, who->gid, who->home, "", "" };
	struct channel *spawner = &sending_spawners[ROUTE_LOCAL];
	struct channel_frame f = sending_expect(spawner, SPAWN_START);
	char s[100], *to = s + 4;
	int ends[2];

	memcpy(s, f.s, 4);
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		to = stpcpy(to, facts[i]) + 1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	channel_init(&worker, ends[0], JOB_FRAME_MAX);
	assert_int_equal(channel_put_fd(spawner, SPAWN_OK, s, (size_t)(to - s), ends[1]), 1);
	assert_int_equal(channel_flush(spawner), 1);
	sending_turn();
	assert_closed(&worker);
	sending_turn();
}

static void
stranger(void **state)
{
	with_a_local_start();
	start_for(*state);
	sending_answer_who();
	assert_int_equal(sending_logged("starting delivery"), 0);
}

static void
the_third_worker_of_another_user_is_a_deferral(void **state)
{
	(void)state;
	with_a_local_start();
	for (int i = 0; i < 2; i++) {
		start_for(&strangers[0]);
		channel_free(&worker);
		sending_answer_who();
		sending_turn();
		sending_turn();
	}
	start_for(&strangers[0]);
	assert_int_equal(sending_logged("deferral: It_changes_again_and_again_whose_mail_this_is._(#4.3.0)/\n"), 1);
	sending_expect_nothing(&sending_spawners[ROUTE_LOCAL]);
}

/* An id is used again only after 4096 others of its place. */
static void
ids_differ(void **state)
{
	uint32_t first = 0, id;
	struct owner *o = owner_get(&sending->owners, "ana", 3);
	struct channel_frame f;

	(void)state;
	for (unsigned int i = 0; i < 4096; i++) {
		owner_ask(&sending->owners, o);
		sending->asked++;
		assert_int_equal(worker_ask_owner(sending, o), 1);
		worker_flush(sending);
		f = sending_expect(&sending_spawners[ROUTE_LOCAL], SPAWN_WHO);
		assert_int_equal(f.len, 7);
		assert_memory_equal(f.s + 4, "ana", 3);
		uint32_unpack_big(f.s, &id);
		if (!i)
			first = id;
		else
			assert_int_not_equal(id, first);
		sending_say(&sending_spawners[ROUTE_LOCAL], SPAWN_OK, memcpy((char[30]){ 0 }, f.s, 4), 4);
		assert_int_equal(loop_wait(&sending->loop, 0), 1);
		o = owner_get(&sending->owners, "ana", 3);
	}
	assert_int_equal(sending->is_leaving, 0);
}

static int
end(void **state)
{
	channel_free(&worker);
	return sending_end(state);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, sending_begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(an_answer_in_pieces_is_one_answer), TEST(a_text_of_the_longest_is_taken),
		TEST(it_is_believed_once_for_each_recipient), TEST(a_job_that_is_done_is_nobodys),
		TEST(its_end_defers_what_it_has_not_answered),
		TEST(one_that_ends_before_it_did_anything_is_a_failure_of_its_destination),
		TEST(a_job_that_it_never_got_waits_in_front), TEST(one_that_nothing_can_be_sent_to_gets_its_end_and_no_more_jobs),
		TEST(one_that_gets_no_more_is_heard_to_its_end), TEST(a_job_goes_out_as_the_worker_reads),
		TEST(one_that_does_not_answer_is_killed), TEST(a_job_that_it_gives_back_is_anothers), TEST(a_job_that_it_gives_back_at_once_is_deferred),
		TEST(the_only_job_cannot_be_given_back), TEST(a_remote_job_cannot_be_given_back), TEST(an_answer_renews_its_time),
		TEST(an_idle_one_is_kept_for_its_time), TEST(of_too_many_idle_ones_the_longest_idle_ends),
		TEST(it_gets_so_many_jobs), TEST(it_lives_so_long), TEST(an_old_one_that_is_busy_gets_one_more_and_no_other),
		TEST(the_one_that_was_used_last_is_used_again),
		TEST(an_idle_one_ends_with_the_tables), TEST(a_busy_one_ends_with_its_job),
		TEST(one_that_comes_after_the_change_gets_nothing), TEST(remote_ones_know_no_tables),
		TEST(it_is_full_at_its_limits), TEST(the_busy_one_with_most_room), TEST(a_job_that_cannot_be_given),
		TEST(an_answer_of_the_longest_is_taken), TEST(a_worker_without_a_socket_is_a_deferral),
		TEST(a_worker_whose_socket_is_none_is_a_deferral),
		TEST(the_third_worker_of_another_user_is_a_deferral), TEST(ids_differ),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + NONSENSES + SPAWNER_ROWS + STRANGERS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < NONSENSES; i++)
		all[TESTS + i] = (struct CMUnitTest){ nonsenses[i].rule, nonsense_row, sending_begin, end,
		    (void *)(uintptr_t)&nonsenses[i] };
	for (size_t i = 0; i < SPAWNER_ROWS; i++)
		all[TESTS + NONSENSES + i] = (struct CMUnitTest){ spawner_rows[i].rule, spawner_row, sending_begin, end,
		    (void *)(uintptr_t)&spawner_rows[i] };
	for (size_t i = 0; i < STRANGERS; i++)
		all[TESTS + NONSENSES + SPAWNER_ROWS + i] = (struct CMUnitTest){ strangers[i].rule, stranger, sending_begin, end,
		    (void *)(uintptr_t)&strangers[i] };
	return cmocka_run_group_tests_name("send_worker", all, sending_home, directory_remove);
}
