/* delivery: hands recipients that wait for a destination to its workers, and takes what became of them. */
#ifndef DELIVERY_H
#define DELIVERY_H
#include "send.h"

/* A job that a worker has not answered completely. */
struct delivery {
	uint64_t first;		/* delivery number of its first recipient; they are numbered in a row */
	int64_t given_at;	/* monotonic ms */
	uint64_t sent_from;	/* octets put into the worker's channel before this job */
	enum route_channel channel;
	uint32_t id;
	uint32_t len, left;	/* recipients; those without an answer */
	struct recipient *recipients[];	/* NULL: answered */
};

/* A recipient that is due, with its route and its rewritten address. */
void delivery_enqueue(struct send *s, struct recipient *r, const struct route *route, const stralloc *address);

/* Gives out what can be given now. */
void delivery_assign(struct send *s);

/* What the worker says about the nth recipient of a job; a letter other than K, k, Z, D is taken as deferral. The job is
 * freed by who calls, once left is 0. */
void delivery_answer(struct send *s, struct destination *d, struct delivery *job, uint32_t n, char letter,
    const char *text, size_t len);

/* A job will not be answered: what has no answer yet is deferred with this text. */
void delivery_fail(struct send *s, struct destination *d, struct delivery *job, const char *text);

/* A job that its worker has not begun: its recipients wait again, in front. text says why, in the log. */
void delivery_take_back(struct send *s, struct destination *d, struct delivery *job, const char *text);

/* No worker can be had for d now (letter Z: all that waits for it is deferred) or ever (D: the first recipient fails). */
void delivery_refused(struct send *s, struct destination *d, char letter, const char *text, size_t len);

/* The answer of qmail-lspawn about a local part. */
void delivery_owner(struct send *s, struct owner *o, char type, const char *text, size_t len);

/* Logs the numbers of busy workers if they changed. */
void delivery_status(struct send *s);

#endif
