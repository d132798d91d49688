#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "job.h"
#include "monotonic.h"
#include "relay.h"
#include "worker.h"

enum {
	HOST_MAX = 1024,	/* octets of a host whose session is kept */
	BUFFER_KEPT = 128 * 1024,	/* octets of buffer that a worker keeps from one message to the next */
};

/* Recipients of a job whose mail goes to the same server. */
struct batch {
	struct transaction_recipient recipients[JOB_RECIPIENTS_MAX];
	uint32_t numbers[JOB_RECIPIENTS_MAX];	/* in the job */
	uint32_t len;
	const char *host;
};

struct worker {
	struct relay relay;
	struct channel channel;
	char host[HOST_MAX];		/* that the session is with */
	stralloc text;
	struct batch batch;
	unsigned int jobs;
	int is_over;
};

/* Answers for each recipient of the batch. */
static void
answer(struct worker *w, const struct job *job)
{
	for (uint32_t n = 0; n < w->relay.report.len; n++) {
		char letter = report_outcome(&w->relay.report, n, &w->text);

		if (!job_answer(&w->channel, job->id, w->batch.numbers[n], letter, w->text.s, w->text.len))
			w->is_over = 1;	/* unanswered is as good as deferred */
	}
	if (channel_flush(&w->channel) < 0)
		w->is_over = 1;
}

/* A session with another host is of no use. */
static void
choose_host(struct worker *w, const char *host)
{
	size_t size = strlen(host) + 1;

	if (*w->host && dial_is_same(w->relay.dial, w->host, host))
		return;
	session_quit(&w->relay.session);
	w->host[0] = '\0';
	if (size <= sizeof w->host)
		memcpy(w->host, host, size);
}

/* Fills the batch with the first of the len recipients who is left, and with all others who go the same way; the host of who is
 * taken becomes NULL. */
static void
take_batch(struct worker *w, struct job_recipient *recipients, uint32_t len)
{
	struct batch *b = &w->batch;

	b->len = 0;
	b->host = NULL;
	for (uint32_t n = 0; n < len; n++) {
		struct job_recipient *r = &recipients[n];

		if (!r->host || (b->host && !dial_is_same(w->relay.dial, b->host, r->host)))
			continue;
		if (!b->host)
			b->host = r->host;
		r->host = NULL;
		b->numbers[b->len] = n;
		b->recipients[b->len++] = (struct transaction_recipient){ .address = r->address, .parameters = r->parameters };
	}
}

/* Sends to the batch. Returns 0 if there is no memory for it. */
static int
do_batch(struct worker *w, const struct job *job, const char *trouble)
{
	struct transaction t = {
		.sender = job_string(job, JOB_REMOTE_SENDER),
		.sender_parameters = job_string(job, JOB_REMOTE_SENDER_PARAMETERS),
		.recipients = w->batch.recipients, .report = &w->relay.report,
	};
	struct mail_data data;

	if (!report_begin(t.report, w->batch.len))
		return 0;
	mail_data_init(&data, job->message, job->fd, job->size);
	t.data = &data;
	if (trouble)
		report_all(t.report, 'Z', report_text(t.report, NULL, trouble, ". (#4.3.0)\n", NULL));
	else {
		choose_host(w, w->batch.host);
		relay_message(&w->relay, w->batch.host, &t);
	}
	mail_data_free(&data);
	answer(w, job);
	return 1;
}

/* The same for all of a job: in one batch, unless control/smtproutes has changed. */
static int
do_job(struct worker *w, const struct job *job, const char *trouble)
{
	struct job_recipient recipients[JOB_RECIPIENTS_MAX];
	uint32_t len = job_remote_recipients(job);

	job_remote_take(job, recipients);
	for (uint32_t done = 0; done < len; done += w->batch.len) {
		take_batch(w, recipients, len);
		if (!do_batch(w, job, trouble))
			return 0;
	}
	return 1;
}

/* Does the jobs that have come. Returns 0 if one is none. */
static int
do_jobs(struct worker *w, const char *trouble)
{
	struct channel_frame f;
	int n = 1;

	while (!w->is_over && (n = channel_next(&w->channel, &f)) == 1) {
		struct job job;
		int ok;

		if (!job_parse(&job, &w->channel, &f))
			return 0;
		ok = job_remote_recipients(&job) && do_job(w, &job, trouble);
		if (job.fd >= 0)
			close(job.fd);
		if (!ok)
			return 0;
		w->is_over |= ++w->jobs >= JOB_WORKER_JOBS || trouble || w->relay.dial->is_spent;
	}
	return n >= 0;
}

/* What a large message or long replies needed is not needed while it waits. */
static void
shrink(struct worker *w)
{
	struct channel *c = &w->channel;

	if (c->in.a > BUFFER_KEPT && c->in_done == c->in.len) {
		stralloc_free(&c->in);
		c->in_done = 0;
	}
	if (c->out.a > BUFFER_KEPT)
		stralloc_free(&c->out);
	if (w->relay.report.texts.a > BUFFER_KEPT)
		stralloc_free(&w->relay.report.texts);
}

/* Waits for a job, and meanwhile for the server, who has nothing to say but that the session is over, and the service. Returns 0 if the
 * worker has waited long enough, or has lost that. */
static int
wait_for_job(struct worker *w)
{
	uint64_t deadline = monotonic_ms() + JOB_WORKER_SECONDS * UINT64_C(1000);
	struct pollfd p[3] = {
		{ .fd = w->channel.fd, .events = POLLIN }, { .events = POLLIN }, { .fd = dial_service(w->relay.dial), .events = POLLIN },
	};

	shrink(w);
	for (;;) {
		uint64_t now = monotonic_ms();
		int r;

		p[1].fd = w->relay.session.connection.fd;	/* -1: poll leaves it out */
		r = poll(p, 3, now < deadline ? (int)(deadline - now) : 0);
		if (r < 0 && errno != EINTR)
			return 0;
		if (r > 0 && p[1].revents)
			connection_close(&w->relay.session.connection);
		if (r > 0 && p[0].revents)
			return 1;
		if (r == 0 || (r > 0 && p[2].revents))
			return 0;
	}
}

int
worker_run(struct dial *d, const char *trouble)
{
	static struct worker w;

	relay_init(&w.relay, d);
	channel_init(&w.channel, JOB_WORKER_FD, JOB_FRAME_MAX);
	while (!w.is_over && wait_for_job(&w) && channel_receive(&w.channel) >= 0)
		if (!do_jobs(&w, trouble)) {
			strerr_warnw("what came over the worker's socket is no job, or there is no memory for it");
			break;
		}
	session_quit(&w.relay.session);
	channel_free(&w.channel);
	return EXIT_OK;
}
