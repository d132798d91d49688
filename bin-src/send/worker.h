/* worker: the processes that deliver. A spawner starts them; each belongs to one destination, and is told what to do
 * over a socket of its own (job.h).
 * Life       asked for (starting), idle, busy (has jobs). An idle one is kept for WORKER_IDLE_MS. After JOB_WORKER_JOBS
 *            jobs, JOB_WORKER_SECONDS, or a change of the user tables it gets no more jobs; closing its socket ends it
 * Trust      a worker may say anything: it is believed about the jobs that it has, once for each recipient
 * Patience   a worker that has jobs and answers none for WORKER_ANSWER_MS is killed. A local worker whose program takes long gives
 *            back what it has not begun (JOB_BACK), which another gets; it gets no more */
#ifndef WORKER_H
#define WORKER_H
#include "delivery.h"
#include "job.h"
#include "send.h"

enum {
	WORKER_IDLE_MS = 5000,
	WORKER_IDLE_MAX = 128,		/* idle workers of a channel; beyond that the longest idle one ends */
	WORKER_ANSWER_MS = 25 * 3600 * 1000,	/* an hour more than a delivery may take */
	WORKER_UNSENT_MAX = 256 * 1024,	/* octets that a worker has not read: then it gets no further job */
	WORKER_FILES_MAX = 16,		/* unanswered jobs: then it gets none in a file, whose descriptor may be long on its way */
	WORKER_WHO_MAX = 32,		/* questions to qmail-lspawn without an answer */
};

enum worker_state { WORKER_STARTING, WORKER_IDLE, WORKER_BUSY, WORKER_DEAD };

struct worker {
	enum worker_state state;
	enum route_channel channel_kind;
	struct destination *destination;
	struct worker *next, *before;		/* of the destination */
	struct worker *idle_next, *idle_before;	/* of the spawner, while idle */
	struct worker *unsent_next;		/* of those with octets to send; of the dead ones */
	uint8_t has_unsent;
	uint8_t is_worn;			/* gets no more jobs */
	uint8_t has_answered;			/* it was seen to work */
	uint32_t ticket;			/* the id of its SPAWN_START */
	uint32_t generation;			/* of the user tables */
	uint32_t jobs;				/* that it was given */
	uint32_t in_flight;
	int64_t born, heard;			/* monotonic ms: start, last answer (or first job after idleness) */
	uint64_t put;				/* octets put into its channel */
	struct channel channel;
	struct loop_source source;
	struct delivery *deliveries[JOB_BATCH];	/* by id mod JOB_BATCH */
	uint32_t serial;
};

/* Takes the spawner's socket. Returns 1, or 0 with errno. */
int spawner_init(struct send *s, enum route_channel which, int fd);

/* Asks for a worker for d, whose first waiting recipient has this local part or host. Returns 1, or 0 with errno (EMSGSIZE: it is
 * longer than a spawner takes). */
int worker_start(struct send *s, struct destination *d, const char *for_whom);

/* Asks whose the local part is. Returns 1, or 0 with errno (the same). */
int worker_ask_owner(struct send *s, struct owner *o);

/* The idle worker of d that was used last; the busy one that may be given most. NULL: none. room: jobs it may get. */
struct worker *worker_idle(struct destination *d);
struct worker *worker_roomy(struct destination *d, uint32_t *room);

/* Hands over a job: strings as in job.h; message NULL: fd, which then belongs to the channel. job is the worker's from
 * then on. Returns 1, or 0 with errno and nothing done. */
int worker_give(struct send *s, struct worker *w, struct delivery *job, uint32_t strings_len, uint64_t size,
    const char *message, int fd);

/* 1 if it cannot take a further job of size octets now. */
int worker_is_full(struct send *s, struct worker *w, uint64_t size);

/* Sends what waits for all workers and spawners, frees those that died. */
void worker_flush(struct send *s);

/* Ends idle workers whose time is over, all of them if s->is_leaving. Returns when to call again (monotonic ms). */
int64_t worker_tick(struct send *s);

/* The user tables changed: no local worker gets further jobs. */
void worker_wear_out(struct send *s);

#endif
