/* spawner: what qmail-lspawn and qmail-rspawn have in common: requests of qmail-send on descriptor 3 (lib/job.h), workers
 * that are processes of their own, each with one end of a socket whose other end goes to qmail-send.
 * Trust     qmail-send is believed; a worker is not: nothing is read from it
 * Blocking  nothing here waits: the socket is non-blocking, and a line for the log is dropped if nobody reads the log
 * Memory    bounded: SPAWNER_WORKERS_MAX workers, SPAWNER_NAME_MAX octets a request, and the caller takes no new request
 *           while spawner_is_behind() */
#ifndef SPAWNER_H
#define SPAWNER_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "channel.h"
#include "job.h"

enum {
	SPAWNER_WORKERS_MAX = 1000,	/* processes at a time; above, SPAWN_START is answered SPAWN_TEMP */
	SPAWNER_NAME_MAX = JOB_STRINGS_MAX,	/* octets of a local part or host */
	SPAWNER_ANSWER_MAX = 20000,	/* octets of an answer's fields or text */
	SPAWNER_UNSENT_MAX = 65536,	/* octets of answers that qmail-send has not taken */
};

struct spawner {
	struct channel channel;
	int signals;		/* readable: children have ended, call spawner_reap until it returns 0 */
	unsigned int workers_len;
	struct spawner_worker { uint32_t id; int is_named; pid_t pid; } workers[SPAWNER_WORKERS_MAX];
};

struct spawner_request {
	char type;		/* SPAWN_WHO, SPAWN_START or SPAWN_KILL */
	uint32_t id;
	const char *name;	/* len octets: any octets, not NUL-terminated */
	size_t len;
};

/* Takes descriptor 3 over, closes all above it, puts /dev/null where 0, 1 or 2 is closed. Returns 1, or 0 with errno set. */
int spawner_init(struct spawner *s);

/* Whether qmail-send does not take its answers: then nothing new is begun. */
int spawner_is_behind(const struct spawner *s);

/* Takes the next request out of what channel_receive got. 1, 0 none is complete, -1 qmail-send broke the rules. */
int spawner_next(struct spawner *s, struct spawner_request *r);

/* Queues an answer: SPAWN_OK with fields, SPAWN_TEMP or SPAWN_PERM with a text. Returns 1, or 0 (no memory). */
int spawner_answer(struct spawner *s, char type, uint32_t id, const char *payload, size_t len);
int spawner_defer(struct spawner *s, uint32_t id, const char *text);

/* Starts a worker. Returns 0 in the new process, which leads a session (and process group) of its own, and has its socket
 * on 3, /dev/null on 0, what the spawner has on 1 and 2, nothing above 3, and default signals. In the spawner returns its
 * process id, SPAWN_OK with fields and the other end of the socket being queued; or -1, SPAWN_TEMP being queued. */
pid_t spawner_start(struct spawner *s, uint32_t id, const char *fields, size_t len);

/* Kills the worker that request id started, with all processes of its group. */
void spawner_kill(struct spawner *s, uint32_t id);

/* Forgets workers that have ended, and kills what one that crashed has started. Returns 1 for each child that was no
 * worker (what is left of its process group is killed in any case), and 0 when no more have ended. */
int spawner_reap(struct spawner *s, pid_t *pid, int *wstat);

/* Writes "KIND: PROG: what: name" to descriptor 2, if that can be done without waiting. kind: "alert" or "warning"; name
 * may be NULL, octets that do not belong into a log become '_'. */
void spawner_log(const char *kind, const char *what, const char *name);

#endif
