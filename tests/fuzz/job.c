/* Jobs and requests of qmail-send, as workers and spawners read them, given any octets; a job is also what a worker's own user may send to
 * a qmail-local that he starts. */
#include <assert.h>
#include <sys/socket.h>
#include "given.h"
#include "job.h"
#include "spawner.h"
#include "stralloc_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* The channel gets the octets at once, and some descriptors. */
static void
give(struct channel *c, const char *s, size_t len, int descriptors)
{
	c->in.len = c->in_done = 0;
	assert(stralloc_catb(&c->in, s, len));
	while (descriptors--)
		c->in_fds[c->in_fds_len++] = dup(STDERR_FILENO);
}

/* --- a worker ----------------------------------------------------------------------------------------- */

/* Every recipient has strings of the job's, and a host. */
static void
take_recipients(const struct job *job)
{
	struct job_recipient to[JOB_RECIPIENTS_MAX];
	uint32_t n = job_remote_recipients(job);

	assert(n <= JOB_RECIPIENTS_MAX && (!n || job->strings_len == JOB_REMOTE_FIRST_RECIPIENT + 2 * n));
	if (!n)
		return;
	job_remote_take(job, to);
	for (uint32_t i = 0; i < n; i++) {
		assert(to[i].address == job_string(job, job_remote_recipient(i)));
		assert(to[i].parameters == job_string(job, job_remote_recipient(i) + 1));
		assert(to[i].host == job_string(job, JOB_REMOTE_HOST) || (*to[i].host && strstr(to[i].address, to[i].host)));
	}
	assert(to[0].host == job_string(job, JOB_REMOTE_HOST));
}

/* Its strings and its message fill the frame; put again it is the same frame. */
static void
take_job(const struct job *job, const struct channel_frame *f)
{
	static struct channel again;
	struct channel_frame other;
	const char *s = job->strings;

	for (uint32_t i = 0; i < job->strings_len; i++, s += strlen(s) + 1)
		assert(job_string(job, i) == s && s < f->s + f->len);
	assert(!job_string(job, job->strings_len) && s <= f->s + f->len);
	assert(f->type == JOB ? job->message == s && job->size == (size_t)(f->s + f->len - s) && job->fd < 0 :
	    !job->message && job->fd >= 0 && s == f->s + f->len);
	take_recipients(job);
	if (f->type == JOB_FILE)
		return;
	channel_init(&again, -1, JOB_FRAME_MAX);
	assert(job_put(&again, job->id, job->strings, job->strings_len, (size_t)(s - job->strings), job->size, job->message, -1));
	assert(stralloc_setb(&again.in, again.out.s, again.out.len) && channel_next(&again, &other) == 1);
	assert(other.type == f->type && other.len == f->len && memcmp(other.s, f->s, f->len) == 0);
	channel_free(&again);
}

static void
be_worker(const char *s, size_t len)
{
	struct channel c;
	struct channel_frame f;
	struct job job;
	size_t done = 0;

	channel_init(&c, -1, JOB_FRAME_MAX);
	give(&c, s, len, 2);
	while (channel_next(&c, &f) == 1) {
		char *copy = given_copy(f.s, f.len);
		struct channel_frame exact = { f.type, copy, f.len };
		unsigned int descriptors = c.in_fds_len;

		assert(f.len <= JOB_FRAME_MAX && (done += CHANNEL_HEADER + f.len) == c.in_done);
		if (job_parse(&job, &c, &exact)) {
			assert(descriptors - c.in_fds_len == (f.type == JOB_FILE));
			take_job(&job, &exact);
			if (job.fd >= 0)
				close(job.fd);
		}
		free(copy);
	}
	channel_free(&c);
}

/* --- a spawner ------------------------------------------------------------------------------------------ */

/* A request is within its frame and bounded, and brings no descriptor. */
static void
be_spawner(const char *s, size_t len)
{
	static struct spawner p;
	struct spawner_request r;

	p.workers_len = 0;
	channel_init(&p.channel, -1, 4 + SPAWNER_NAME_MAX);
	give(&p.channel, s, len, 1);
	while (spawner_next(&p, &r) == 1) {
		assert(r.len <= SPAWNER_NAME_MAX && (r.type == SPAWN_WHO || r.type == SPAWN_START || r.type == SPAWN_KILL));
		assert(r.name >= p.channel.in.s && r.name + r.len == p.channel.in.s + p.channel.in_done && !p.channel.in_fds_len);
		if (r.type == SPAWN_KILL)
			spawner_kill(&p, r.id);
		assert(spawner_defer(&p, r.id, "no"));
	}
	channel_free(&p.channel);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	be_worker((const char *)octets, len);
	be_spawner((const char *)octets, len);
	return 0;
}
