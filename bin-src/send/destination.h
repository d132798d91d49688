/* destination: who gets the next worker. Mail waits in a queue for each destination: a user for local mail, a domain for
 * remote mail. Pure bookkeeping: it starts nothing and knows no socket, only counts.
 *
 * Fairness   Destinations that have mail and may use one more worker stand in line, one line a channel. Who gets a
 *            worker and still has mail goes to the end of the line. While somebody waits in line because all of the
 *            channel's workers are busy, no busy worker is given more mail: it finishes what it has, and the line moves
 *            on. So a flood for one destination costs the others at most one batch of it a turn.
 * Limits     of busy workers: for the channel (control/concurrencylocal, concurrencyremote), for a destination that is no
 *            relay (DESTINATION_LOCAL, control/concurrencydestination). A destination gets one worker, and one more for each
 *            DESTINATION_PER_LOCAL or _REMOTE jobs that wait, and one more when none of its workers answered for
 *            1, 2, 4, 8 ... seconds. A remote job takes neighbours in the queue that are recipients of one message
 *            (destination_share_a_job). A user whose deliveries are slow, as programs may be, gets one for each recipient
 *            that waits, up to half of the channel's if that is more
 * Depth      how many jobs a worker may hold unanswered: 1 at first, twice as many after each quick answer, up to
 *            DESTINATION_DEEP_LOCAL, for files of a batch share commits of their file system, or _REMOTE; 1 again after an
 *            answer that took longer than DESTINATION_SLOW_MS, so that little is stuck behind a slow delivery. For a user
 *            it stays 1 then until some quick answers have come in a row: few after a slow answer, which may have been the
 *            disk's, many after a program has held up what was behind it
 * Back-off   after a failure of the whole destination (no connection, no worker) its mail waits: 30 s for a remote one,
 *            5 s for a local one, twice as long each time it fails again, at most 900 and 100 s. Then one worker tries
 *            one job. A success ends all this
 * Times      milliseconds of the monotonic clock */
#ifndef DESTINATION_H
#define DESTINATION_H
#include <stdint.h>
#include "heap.h"
#include "job.h"
#include "message.h"
#include "route.h"

enum {
	DESTINATION_LOCAL = 4,		/* workers for one user */
	DESTINATION_REMOTE = 5,		/* sessions with one domain, default of control/concurrencydestination */
	DESTINATION_DEEP_LOCAL = JOB_BATCH,	/* highest depth */
	DESTINATION_DEEP_REMOTE = 16,
	DESTINATION_PER_LOCAL = 16,
	DESTINATION_PER_REMOTE = 4,
	DESTINATION_SLOW_MS = 1000,
	DESTINATION_SLOW_FEW = 4,	/* quick answers in a row; so the first of a batch that waited for the disk does not end batches */
	DESTINATION_SLOW_MANY = 64,
	DESTINATION_STALL_MS = 1000,
	DESTINATION_KEEP_MS = 600 * 1000,	/* a destination without mail and workers is remembered so long */
	DESTINATION_KEEP_FAILED_MS = 7200 * 1000,	/* the same for one that failed */
	DESTINATION_KEPT_MAX = 10000,	/* of those; beyond that they are forgotten at once */
};

struct destination {
	struct destination *hash_next;
	struct destination *before, *after;	/* in the line that it stands in */
	struct destination_line *line;		/* NULL: in none */
	struct recipient_list queue;
	uint32_t queued;
	uint32_t groups;			/* recipients in queue; neighbours that may share a job are one */
	void *workers;				/* for the caller: its list of workers */
	uint32_t idle, busy, starting;		/* workers */
	uint32_t given;				/* jobs that its busy workers have not answered */
	uint32_t depth, failures, stalls;
	uint32_t heap_at;
	int64_t not_before;			/* back-off */
	int64_t progress;			/* when something last moved */
	enum route_channel channel;
	uint8_t is_kept;			/* counted among those without mail */
	uint8_t strangers;			/* workers that came last and were another user's */
	uint8_t slow_for;			/* deliveries to this user take long, until as many quick answers have come in a row */
	uint8_t is_relay;			/* the administrator chose it for many domains: not limited as one */
	char name[];				/* NUL-terminated */
};

struct destination_line { struct destination *first, *last; };

struct destination_channel {
	uint32_t limit;			/* of busy workers */
	uint32_t per_destination;	/* the same for each */
	uint32_t busy, starting;	/* of all destinations */
	struct destination_line waiting;	/* have mail and may use one more worker */
	struct destination_line filling;	/* have mail and a busy worker that may be given more */
};

struct destinations {
	struct destination **slots;	/* by channel and name, chained */
	uint32_t mask, count, kept;
	struct heap timers;
	struct destination_channel channels[ROUTE_CHANNELS];
};

/* What the caller is to do for a destination. */
enum destination_step {
	DESTINATION_NOTHING,
	DESTINATION_IDLE,	/* give an idle worker its share */
	DESTINATION_START,	/* ask for a worker */
	DESTINATION_FILL,	/* give the busy worker with the fewest jobs one more, or some */
};

int destinations_init(struct destinations *all);	/* 1, or 0 (ENOMEM) */

/* The destination of that name, made if there is none. NULL: ENOMEM. */
struct destination *destination_get(struct destinations *all, enum route_channel channel, const char *name, size_t len);

/* Adds a recipient at the end, or at the front, of the queue. */
void destination_append(struct destinations *all, struct destination *d, struct recipient *r, int64_t now);
void destination_prepend(struct destinations *all, struct destination *d, struct recipient *r, int64_t now);

/* The first recipient of the queue, which it leaves. NULL if there is none. The caller calls destination_update. */
struct recipient *destination_take(struct destination *d);

/* To be called after each change of queue or counts: puts d into the line where it belongs, or takes it out. */
void destination_update(struct destinations *all, struct destination *d, int64_t now);

/* The next step for a channel, and for which destination; that one stands at the end of its line then. The caller does
 * the step, or finds that it cannot (takes nothing and starts nothing: then it stops asking), and calls
 * destination_update. */
enum destination_step destination_next(struct destinations *all, enum route_channel channel, struct destination **d);

/* A worker that was asked for has come (and is counted as idle): it is d's turn, which stood first when it was asked
 * for. Without this, others would take the place of each worker that comes, for workers of their own. */
void destination_arrived(struct destinations *all, struct destination *d, int64_t now);

/* How many jobs a worker may hold now. */
static inline uint32_t
destination_depth(const struct destination *d)
{
	return d->failures || d->slow_for ? 1 : d->depth;
}

/* A program of its user keeps a worker, which gave back what it had not begun. */
void destination_held_up(struct destinations *all, struct destination *d, int64_t now);

/* Whether r, which is in d's queue or about to be, and the one behind it (NULL: none) may be in one job. */
int destination_share_a_job(const struct destination *d, struct recipient *r, struct recipient *next);

/* How many jobs one worker should get now. */
uint32_t destination_share(const struct destinations *all, const struct destination *d);

/* Counts: jobs given and answered; took_ms: between both. */
void destination_gave(struct destination *d, uint32_t jobs, int64_t now);
void destination_answered(struct destinations *all, struct destination *d, int64_t took_ms, int64_t now);

/* The whole destination failed: back-off. */
void destination_failed(struct destinations *all, struct destination *d, int64_t now);

/* It did not. */
void destination_worked(struct destinations *all, struct destination *d, int64_t now);

/* Ends all back-offs. */
void destinations_hurry(struct destinations *all, int64_t now);

/* The limits of the channels changed. */
void destinations_review(struct destinations *all, int64_t now);

/* Does what is due: ends of back-offs, stalls, forgetting. Returns when to call again, INT64_MAX: not needed. */
int64_t destinations_tick(struct destinations *all, int64_t now);

#endif
