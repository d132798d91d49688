/* A worker of qmail-send that says any octets, while it has some jobs, and then a spawner. The input is how many jobs and recipients, the
 * octets of the worker after their length of two octets, and those of the spawner. */
#include <assert.h>
#include <sys/socket.h>
#include "given.h"
/* what takes the octets is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/send/worker.c"
#include "quiet_loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { RECIPIENTS_MAX = 4 };

static struct recipient one;	/* every recipient */
static struct given said;	/* by the worker, not yet heard */
static struct { uint32_t id; unsigned int open; int is_single; } jobs[JOB_BATCH];	/* open: bits of recipients without an answer */
static unsigned int jobs_len, failed, refused, owners;
static int has_answered;

/* --- what the answers are ------------------------------------------------------------------------- */

/* Reads the worker's next frame by the protocol. Returns 1 and what it answers, or 0: nothing more counts. */
static int
next_answer(unsigned int *job, uint32_t *n, char *letter, struct given *text)
{
	size_t len = given_number(&said, 4);
	uint32_t id;

	if (given_number(&said, 1) != JOB_DONE || len < 9 || len > 9 + JOB_TEXT_MAX || len > said.len)
		return 0;
	id = (uint32_t)given_number(&said, 4);
	*n = (uint32_t)given_number(&said, 4);
	*letter = (char)given_number(&said, 1);
	*text = given_piece(&said, len - 9);
	for (*job = 0; *job < jobs_len && jobs[*job].id != id; ++*job)
		;
	return *job < jobs_len && *n < RECIPIENTS_MAX && jobs[*job].open & 1u << *n;
}

/* Whether the job may be given back: nothing was answered for long, and another one is open. */
static int
is_to_be_given_back(unsigned int i, char letter)
{
	unsigned int open = 0;

	for (unsigned int j = 0; j < jobs_len; j++)
		open += jobs[j].open != 0;
	return letter == JOB_BACK && jobs[i].is_single && open > 1 && !has_answered;
}

void
delivery_answer(struct send *s, struct destination *d, struct delivery *job, uint32_t n, char letter, const char *text, size_t len)
{
	unsigned int i;
	uint32_t want;
	struct given octets;
	char its;

	assert(s && d && next_answer(&i, &want, &its, &octets) && jobs[i].id == job->id && n == want && letter == its);
	assert(len == octets.len && (!len || memcmp(text, octets.s, len) == 0) && job->recipients[n] == &one);
	assert(!is_to_be_given_back(i, letter));
	has_answered = 1;
	jobs[i].open &= ~(1u << n);
	job->recipients[n] = NULL;
	job->left--;
}

/* It is lost: what was not answered is, once. */
void
delivery_fail(struct send *s, struct destination *d, struct delivery *job, const char *text)
{
	unsigned int i = 0;

	assert(s && d && *text);
	while (jobs[i].id != job->id)
		assert(++i < jobs_len);
	for (uint32_t n = 0; n < job->len; n++)
		assert((job->recipients[n] != NULL) == ((jobs[i].open >> n & 1) != 0));
	jobs[i].open = 0;
	failed++;
}

void
delivery_take_back(struct send *s, struct destination *d, struct delivery *job, const char *text)
{
	unsigned int i;
	uint32_t n;
	struct given octets;
	char letter;

	assert(job->left == job->len);
	if (text != held_up) {
		delivery_fail(s, d, job, text);
		return;
	}
	assert(next_answer(&i, &n, &letter, &octets) && jobs[i].id == job->id && is_to_be_given_back(i, letter));
	jobs[i].open = 0;
}

void
delivery_refused(struct send *s, struct destination *d, char letter, const char *text, size_t len)
{
	assert(s && d && (letter == 'Z' || letter == 'D') && text && len <= SPAWNER_FRAME_MAX);
	refused++;
}

void
delivery_owner(struct send *s, struct owner *o, char type, const char *text, size_t len)
{
	assert(s && o == (void *)&one && text && len <= SPAWNER_FRAME_MAX && (type == SPAWN_OK || type == SPAWN_TEMP || type == SPAWN_PERM));
	owners++;
}

/* --- destinations do nothing --------------------------------------------------------------------------- */

void
destination_update(struct destinations *all, struct destination *d, int64_t now)
{
	(void)all, (void)d, (void)now;
}

void
destination_arrived(struct destinations *all, struct destination *d, int64_t now)
{
	(void)all, (void)d, (void)now;
}

void
destination_failed(struct destinations *all, struct destination *d, int64_t now)
{
	(void)all, (void)d, (void)now;
}

void
destination_held_up(struct destinations *all, struct destination *d, int64_t now)
{
	(void)all, (void)d, (void)now;
}

void
destination_gave(struct destination *d, uint32_t n, int64_t now)
{
	(void)now;
	d->given += n;
}

void
destination_answered(struct destinations *all, struct destination *d, int64_t took_ms, int64_t now)
{
	(void)all, (void)took_ms, (void)now;
	assert(d->given--);
}

struct recipient *
destination_take(struct destination *d)
{
	(void)d;
	return NULL;
}

/* --- a worker ------------------------------------------------------------------------------------------- */

static void
give_job(struct send *s, struct worker *w)
{
	struct delivery *job = calloc(1, sizeof *job + RECIPIENTS_MAX * sizeof *job->recipients);

	assert(job);
	job->len = job->left = jobs_len % 2 ? 1 : RECIPIENTS_MAX;
	for (uint32_t i = 0; i < job->len; i++)
		job->recipients[i] = &one;
	assert(worker_give(s, w, job, 0, 1, "x", -1));
	jobs[jobs_len].id = job->id;
	jobs[jobs_len].is_single = job->len == 1;
	jobs[jobs_len++].open = (1u << job->len) - 1;
}

static void
give_octets(int fd, struct given g)
{
	if (g.len)
		assert(send(fd, g.s, g.len, MSG_NOSIGNAL) == (ssize_t)g.len);
}

/* Its worker comes over the socket of the spawner, gets jobs, and talks. Returns the test's end of its socket. */
static int
play_worker(struct send *s, struct destination *d, unsigned int len, struct given octets)
{
	struct spawner *p = &s->spawners[ROUTE_REMOTE];
	struct worker *w;
	int pair[2];

	assert(worker_start(s, d, "host") && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	w = d->workers;
	p->channel.in_fds[p->channel.in_fds_len++] = pair[0];
	assert(handle_spawner(s, p, &(struct channel_frame){ .type = SPAWN_OK, .s = (char[]){ 0, 0x10, 0, 0 }, .len = 4 }));
	assert(w->state == WORKER_IDLE && p->idle == 1);
	jobs_len = failed = 0;
	has_answered = 0;
	while (jobs_len < len)
		give_job(s, w);
	s->clock += JOB_PATIENCE_MS;
	said = octets;
	give_octets(pair[1], octets);
	w->source.ready(s, w, EPOLLIN);
	if (w->state == WORKER_DEAD)
		for (unsigned int i = 0; i < jobs_len; i++)
			assert(!jobs[i].open);
	else
		lose(s, w, crashed);
	assert(!d->given && !d->busy && !d->idle && !d->workers);
	return pair[1];
}

/* A spawner that was asked for a worker and for an owner: each is answered once at most. */
static void
play_spawner(struct send *s, struct destination *d, struct given octets)
{
	struct spawner *p = &s->spawners[ROUTE_LOCAL];
	struct owner *o = (void *)&one;
	uint32_t id;
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && spawner_init(s, ROUTE_LOCAL, pair[0]));
	d->channel = ROUTE_LOCAL;
	refused = owners = 0;
	assert(ticket_new(p, SPAWN_WHO, o, &id) && worker_start(s, d, "user"));
	give_octets(pair[1], octets);
	p->source.ready(s, p, EPOLLIN);
	assert(refused + owners <= 2 && owners <= 1 && refused <= 1 && d->starting == !refused);
	if (d->workers)
		let_go(s, d->workers);
	channel_free(&p->channel);
	close(pair[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static char room[sizeof(struct destination) + 8];
	struct destination *d = (void *)room;
	struct send *s = calloc(1, sizeof *s);
	struct given g = { octets, len };
	unsigned int n = (unsigned int)given_number(&g, 1) % JOB_BATCH;
	int fd;

	assert(s);
	memset(room, 0, sizeof room);
	d->channel = ROUTE_REMOTE;
	s->spawners[ROUTE_REMOTE].which = ROUTE_REMOTE;
	channel_init(&s->spawners[ROUTE_REMOTE].channel, -1, SPAWNER_FRAME_MAX);
	fd = play_worker(s, d, n, given_piece(&g, given_number(&g, 2)));
	play_spawner(s, d, g);
	close(fd);
	for (int c = 0; c < ROUTE_CHANNELS; c++)
		s->spawners[c].is_lost = 1;
	worker_flush(s);
	for (int c = 0; c < ROUTE_CHANNELS; c++) {
		channel_free(&s->spawners[c].channel);
		free(s->spawners[c].tickets);
	}
	free(s);
	return 0;
}
