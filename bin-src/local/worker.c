#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "job.h"
#include "monotonic.h"
#include "program.h"
#include "stralloc_set.h"
#include "worker.h"

enum {
	SLOT_KEEP = 16384,	/* octets of buffer that a slot keeps from one batch to the next */
	GATHER_MS = 40,		/* after a batch into a maildir, the next is gathered for so long */
};

_Static_assert((int)JOB_BATCH <= (int)DELIVERY_BATCH, "all jobs of a batch may be for one maildir");

struct slot {
	stralloc frame;		/* the job's octets, to which job points */
	struct job job;
	struct delivery delivery;
	enum exitcode code;
	int is_settled;		/* code and report are what is to be answered */
	int is_back;		/* it is given back */
};

struct worker {
	const struct delivery_account *account;
	int classic;
	struct channel channel;
	int is_over;		/* the socket's other end takes no more jobs from us, or we take none */
	int is_deserted;	/* nobody is there to hear an answer */
	struct slot slots[JOB_BATCH];
	unsigned int slots_len;
	size_t octets;		/* of the slots' frames */
	unsigned int next;	/* slot that is not begun, nor are those after it, while programs run */
	struct program_wait wait;
	unsigned int jobs;
	uint64_t gather_until;	/* monotonic_ms */
};

/* --- taking jobs -------------------------------------------------------------- */

/* Points the delivery at what the job says. */
static void
begin_delivery(struct worker *w, struct slot *slot)
{
	struct delivery *d = &slot->delivery;
	const struct job *job = &slot->job;

	*d = (struct delivery){ .account = w->account, .wait = &w->wait };
	slot->is_settled = slot->is_back = 0;
	slot->code = EXIT_TEMP;
	if (job->strings_len != JOB_LOCAL_STRINGS && job->strings_len != JOB_LOCAL_STRINGS_ALL) {
		report_line(&d->report, "This is no job for qmail-local. (#4.3.0)");
		slot->is_settled = 1;
		return;
	}
	d->sender = job_string(job, JOB_LOCAL_SENDER);
	d->local = job_string(job, JOB_LOCAL_PART);
	d->dash = job_string(job, JOB_LOCAL_DASH);
	d->ext = job_string(job, JOB_LOCAL_EXT);
	d->domain = job_string(job, JOB_LOCAL_DOMAIN);
	d->sender_parameters = job_string(job, JOB_LOCAL_SENDER_PARAMETERS);
	d->parameters = job_string(job, JOB_LOCAL_PARAMETERS);
	d->message = (struct message){ .octets = job->message, .size = job->size, .fd = -1 };
	if (job->message)
		return;
	if (!message_of_file(&d->message, job->fd) || d->message.size != job->size) {
		report_line(&d->report, "The message is not as long as it should be. (#4.3.0)");
		slot->is_settled = 1;
	}
}

/* Takes a frame into the next slot. Returns 0 if it is no job. */
static int
take_frame(struct worker *w, const struct channel_frame *f)
{
	struct slot *slot = &w->slots[w->slots_len];
	struct channel_frame copy = *f;

	if (!stralloc_setb(&slot->frame, f->s, f->len))
		return 0;
	copy.s = slot->frame.s;
	if (!job_parse(&slot->job, &w->channel, &copy))
		return 0;
	w->slots_len++;
	w->octets += f->len;
	w->jobs++;
	begin_delivery(w, slot);
	return 1;
}

/* Reads what has come. Returns 0 if nothing more will. */
static int
receive(struct worker *w)
{
	struct pollfd p = { .fd = w->channel.fd };

	if (channel_receive(&w->channel) >= 0)
		return 1;
	/* one who closed the socket hears no answer, and will hand over its jobs again */
	w->is_over = 1;
	w->is_deserted = errno != 0 || (poll(&p, 1, 0) > 0 && p.revents & POLLHUP);
	return 0;
}

/* Waits until the socket can be read, until then at most. Returns 1 if it can. */
static int
is_readable(struct worker *w, uint64_t until)
{
	struct pollfd p = { .fd = w->channel.fd, .events = POLLIN };

	for (;;) {
		uint64_t now = monotonic_ms();
		int r = poll(&p, 1, until > now ? (int)(until - now) : 0);

		if (r >= 0 || errno != EINTR)
			return r > 0;
	}
}

/* Waits for a job, as long as the worker may live, then takes those that are there already. Where a batch has just gone into a
 * maildir, mail comes in a stream, and two flushes a message would cost more than some ms of delay: then more are waited for. */
static void
take_jobs(struct worker *w)
{
	uint64_t deadline = monotonic_ms() + JOB_WORKER_SECONDS * 1000;
	struct channel_frame f;
	int r;

	while (w->slots_len < JOB_BATCH && w->octets < WORKER_BATCH_OCTETS) {
		r = channel_next(&w->channel, &f);
		if (r > 0)
			r = take_frame(w, &f) ? 1 : -1;
		if (r > 0)
			continue;
		if (r < 0) {
			strerr_warnw("what came over the worker's socket is no job");
			w->is_over = 1;
			return;
		}
		if (!is_readable(w, w->slots_len ? w->gather_until : deadline)) {
			/* nothing for a long time: the worker has lived long enough */
			w->is_over = w->is_over || w->slots_len == 0;
			return;
		}
		if (!receive(w))
			return;
	}
}

/* --- answering ---------------------------------------------------------------- */

static char
letter_of(enum exitcode code)
{
	return code == EXIT_OK ? 'K' : code == EXIT_PERM ? 'D' : 'Z';
}

static void
answer(struct worker *w, struct slot *slot)
{
	const stralloc *text = &slot->delivery.report.text;

	if (!job_answer(&w->channel, slot->job.id, 0, slot->is_back ? JOB_BACK : letter_of(slot->code), text->s, text->len))
		w->is_over = w->is_deserted = 1;	/* unanswered is as good as deferred */
	if (slot->job.fd >= 0)
		close(slot->job.fd);
	slot->job.fd = -1;
	delivery_free(&slot->delivery);
	if (slot->frame.a > SLOT_KEEP)
		stralloc_free(&slot->frame);
}

static void
flush_answers(struct worker *w)
{
	int r;

	while ((r = channel_flush(&w->channel)) == 0) {
		struct pollfd p = { .fd = w->channel.fd, .events = POLLOUT };

		poll(&p, 1, -1);
	}
	if (r < 0)
		w->is_over = w->is_deserted = 1;
}

/* --- giving back -------------------------------------------------------------- */

static const char held_up[] = "Another message for this user takes long. (#4.3.0)";

/* Jobs that came while a program ran. Returns 0 if what came is none. */
static int
give_back_new(struct worker *w)
{
	struct channel_frame f;
	struct job job;
	int r;

	while ((r = channel_next(&w->channel, &f)) > 0) {
		if (!job_parse(&job, &w->channel, &f))
			return 0;
		if (job.fd >= 0)
			close(job.fd);
		if (!job_answer(&w->channel, job.id, 0, JOB_BACK, held_up, sizeof held_up - 1))
			w->is_over = w->is_deserted = 1;
	}
	return r == 0;
}

/* A program takes long: what is not begun need not wait for it. */
static void
give_back(void *data)
{
	struct worker *w = data;

	for (; w->next < w->slots_len && !w->is_deserted; w->next++) {
		struct slot *slot = &w->slots[w->next];

		if (slot->is_settled)
			continue;
		report_line(&slot->delivery.report, held_up);
		slot->is_settled = slot->is_back = 1;
		answer(w, slot);
	}
	while (!w->is_over) {
		if (!give_back_new(w))
			w->is_over = 1;
		else if (!is_readable(w, 0) || !receive(w))
			break;
	}
	if (!w->is_deserted)
		flush_answers(w);
}

/* --- delivering --------------------------------------------------------------- */

/* Enters the home for the whole batch. Where that is impossible, each job is settled with the reason. Returns 1 or 0. */
static int
enter_for_all(struct worker *w)
{
	const struct delivery *first = NULL;

	for (unsigned int i = 0; i < w->slots_len; i++) {
		struct slot *slot = &w->slots[i];

		if (slot->is_settled)
			continue;
		if (first)
			slot->delivery.home_owner = first->home_owner;
		else if ((slot->code = delivery_enter(&slot->delivery, 0)) == EXIT_OK)
			first = &slot->delivery;
		else
			slot->is_settled = 1;
	}
	return first != NULL;
}

/* Brings a job to where only delivery_run or a batch is left. */
static void
prepare(struct slot *slot)
{
	slot->code = delivery_prepare(&slot->delivery, 0);
	slot->is_settled = slot->code != EXIT_OK;
}

/* Delivers all jobs that ask for nothing but the same maildir as slot number first. */
static void
deliver_together(struct worker *w, unsigned int first, const char *path)
{
	struct delivery *deliveries[JOB_BATCH] = { NULL };
	struct slot *slots[JOB_BATCH];
	enum exitcode codes[JOB_BATCH];
	unsigned int n = 0;

	for (unsigned int i = first; i < w->slots_len; i++) {
		struct slot *slot = &w->slots[i];
		const char *other = slot->is_settled ? NULL : delivery_maildir(&slot->delivery);

		if (other && !strcmp(other, path)) {
			slots[n] = slot;
			deliveries[n++] = &slot->delivery;
		}
	}
	delivery_batch(deliveries, n, path, codes);
	w->gather_until = monotonic_ms() + GATHER_MS;
	for (unsigned int i = 0; i < n; i++) {
		slots[i]->code = codes[i];
		slots[i]->is_settled = 1;
	}
}

/* The maildirs of a batch; what needs no program is answered before a program may take its time. */
static void
deliver_maildirs(struct worker *w)
{
	if (!enter_for_all(w))
		return;
	for (unsigned int i = 0; i < w->slots_len; i++) {
		if (!w->slots[i].is_settled)
			prepare(&w->slots[i]);
	}
	for (unsigned int i = 0; i < w->slots_len; i++) {
		const char *path = w->slots[i].is_settled ? NULL : delivery_maildir(&w->slots[i].delivery);

		if (path)
			deliver_together(w, i, path);
	}
}

/* What the exit status of a qmail-local that is not ours says; interfaces section 7. */
static enum exitcode
code_of_local(int status)
{
	switch (status) {
	case EXIT_OK:
		return EXIT_OK;
	case EXIT_TEMP:
	case 71: case 74: case 75:
	case 112: case 113: case 115: case 116: case 117: case 118: case 119: case 120: case 121:
	case 126: case 127:	/* a shell could not run it: that may be mended */
	case PROGRAM_CRASHED:
	case PROGRAM_FAILED:
		return EXIT_TEMP;
	default:
		return EXIT_PERM;
	}
}

/* Hands the job to bin/qmail-local, which somebody replaced. */
static enum exitcode
run_classic(struct worker *w, struct slot *slot)
{
	const struct delivery_account *a = w->account;
	struct delivery *d = &slot->delivery;
	const char *const argv[] = {
		"bin/qmail-local", "--", a->user, a->home, d->local, d->dash, d->ext, d->domain, d->sender,
		a->default_delivery, NULL,
	};
	int input = message_open(&d->message);
	int status;

	if (input < 0) {
		report_line(&d->report, "Unable to open the message for bin/qmail-local: ", strerror(errno), ". (#4.3.0)");
		return EXIT_TEMP;
	}
	status = program_run(argv, (char *const *)(uintptr_t)a->environment, input, a->qmail_home, d->wait, &d->report);
	if (status >= PROGRAM_CRASHED)
		report_line(&d->report, "bin/qmail-local crashed or could not be started. (#4.3.0)");
	close(input);
	return code_of_local(status);
}

static void
deliver_one(struct worker *w, struct slot *slot)
{
	if (w->classic)
		slot->code = run_classic(w, slot);
	else {
		/* again, because what was delivered meanwhile may have changed the home */
		slot->code = delivery_enter(&slot->delivery, 0);
		if (slot->code == EXIT_OK)
			slot->code = delivery_run(&slot->delivery);
	}
	slot->is_settled = 1;
}

static void
deliver(struct worker *w)
{
	if (!w->classic)
		deliver_maildirs(w);
	for (unsigned int i = 0; i < w->slots_len; i++) {
		if (w->slots[i].is_settled)
			answer(w, &w->slots[i]);
	}
	flush_answers(w);
	/* what is begun after the answers go nowhere would be delivered again */
	for (unsigned int i = 0; i < w->slots_len && !w->is_deserted; i++) {
		if (w->slots[i].is_settled)
			continue;
		w->next = i + 1;
		deliver_one(w, &w->slots[i]);
		answer(w, &w->slots[i]);
		flush_answers(w);
	}
	w->slots_len = 0;
	w->octets = 0;
}

int
worker_run(const struct delivery_account *account, int classic)
{
	static struct worker w;	/* all zero; most workers never touch most of its slots */

	w.account = account;
	w.classic = classic;
	w.wait = (struct program_wait){ JOB_PATIENCE_MS, give_back, &w };
	/* whatever else was open, no program gets it */
	if (close_range(JOB_WORKER_FD, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		fcntl(JOB_WORKER_FD, F_SETFD, FD_CLOEXEC);
	channel_init(&w.channel, JOB_WORKER_FD, JOB_FRAME_MAX);
	while (!w.is_over) {
		take_jobs(&w);
		if (!w.is_deserted)
			deliver(&w);
		if (w.jobs >= JOB_WORKER_JOBS)
			w.is_over = 1;
	}
	channel_free(&w.channel);
	return EXIT_OK;
}
