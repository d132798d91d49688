/* send: what the parts of qmail-send share. One struct, made by main and handed to every part.
 *
 *   keeper     the connection to qmail-queued: which messages there are, what became of them
 *   pass       when a message is due: its recipients are routed and join the queues of their destinations
 *   delivery   jobs for workers out of these queues, and what their answers mean
 *   worker     the spawners' and the workers' sockets
 *   octets     the octets of messages
 *   bouncer    children that submit bounces
 *
 * route, schedule, verp, message, destination, owner, heap, log, bounce, loop know nothing of this struct. */
#ifndef SEND_H
#define SEND_H
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include "bounce.h"
#include "channel.h"
#include "destination.h"
#include "heap.h"
#include "log.h"
#include "loop.h"
#include "message.h"
#include "owner.h"
#include "queue/client.h"
#include "queue/reader.h"
#include "relays.h"
#include "route.h"
#include "stamp.h"

enum {
	SEND_CONCURRENCY_MAX = 800,	/* of concurrencylocal, -remote, -destination: a spawner has 1000 workers, some are idle */
	SEND_OPEN_MAX = 20000,		/* outcomes that the keeper has not confirmed: then no new deliveries start */
	SEND_UNSENT_MAX = 16 << 20,	/* the same for octets that the keeper has not read */
	SEND_SYSTEM_RETRY = 123,	/* seconds after trouble of this system */
};

/* keeper.c */
struct keeper {
	struct channel channel;		/* fd -1: not connected */
	struct loop_source source;
	int64_t retry_at;		/* monotonic ms, while not connected */
	int64_t retry_ms;		/* the next pause */
	int64_t last_tried;		/* wall clock: deliveries of earlier qmail-sends were not later */
	int said_hello;			/* NOTICE_HELLO came on this connection, SEND_LIST was said */
	int is_listing;			/* NOTICE_ALL did not come yet */
	int is_known;			/* the draft is of a message that we have */
	int draft_failed;		/* no memory for the draft: the connection is begun anew */
	uint32_t open;			/* outcomes not confirmed */
	int trouble;			/* errno that was logged last */
	struct message_draft draft;
};

/* pass.c: a message whose recipients are being put into queues, some in each turn */
struct spread {
	struct spread *next;
	struct message *message;
	uint32_t position;
	unsigned int channels;		/* bits 1 << channel */
	unsigned int seen;		/* channels in which recipients wait that do not belong to this pass */
};

/* worker.c */
struct worker;
struct spawner {	/* not the one of lib/spawner.h, which is its other end */
	enum route_channel which;
	struct channel channel;
	struct loop_source source;
	struct ticket { void *what; uint32_t serial; char kind; } *tickets;	/* requests, and workers that may be killed */
	uint32_t tickets_len, tickets_free;	/* tickets_free: one that may be free, or beyond */
	struct worker *idle_first, *idle_last;	/* the longest idle one first */
	uint32_t idle;
	int is_lost;
};

/* octets.c */
struct octets {
	struct reader reader;
	uint64_t number;		/* whose octets are in message; 0: none */
	stralloc message;
	uint32_t at;			/* where they begin */
	stralloc to_check;		/* numbers (8 octets each) of large messages to be checked */
	size_t to_check_done;		/* octets of it */
	uint64_t checked_number;	/* being checked now; 0: none */
	struct reader_check *check;
	int check_fd;
};

/* bouncer.c */
enum { BOUNCER_CHILDREN = 8, BOUNCER_BATCH = 64 };
struct bouncer_child {
	pid_t pid;			/* 0: unused */
	struct loop_source source;	/* its pipe */
	stralloc in;
	struct message *messages[BOUNCER_BATCH];	/* NULL: its result came */
	unsigned int count;
	int64_t deadline;		/* monotonic ms */
};
struct bouncer {
	struct bounce_settings settings;
	unsigned int batch;		/* bounces that a child gets, at most BOUNCER_BATCH */
	struct queue_client client;	/* who takes them, as it was at start: each child has its own copy */
	stralloc waiting;		/* of struct message * */
	size_t waiting_done;		/* octets of it */
	int64_t retry_at;		/* monotonic ms: after a child could not be started, none before */
	struct bouncer_child children[BOUNCER_CHILDREN];
};

enum { TABLES = 3 };	/* of users, whose changes are looked for */

struct send {
	struct loop loop;
	struct log log;
	struct loop_source log_source;
	int64_t now;			/* wall clock in seconds, of this turn */
	int64_t clock;			/* monotonic milliseconds, of this turn */
	struct route_rules rules;
	int64_t lifetime;		/* control/queuelifetime */
	int64_t delay_notice;		/* control/delaynotice: age in seconds at which a delay is reported; 0: never */
	struct message_table messages;
	struct heap due;		/* messages, by wall clock */
	struct destinations destinations;
	struct relays relays;
	struct owners owners;
	struct recipient_list unasked;	/* local recipients whose owner is to be asked for */
	uint32_t asked;			/* questions without answer */
	int64_t looked[ROUTE_CHANNELS];	/* monotonic ms of the last look for silent workers */
	struct stamp tables[TABLES];	/* of the user tables, when they were looked at */
	struct spread *spreads, *spreads_last;
	struct spawner spawners[ROUTE_CHANNELS];
	struct worker *unsent, *dead;	/* workers with octets to send; workers to free at the end of the turn */
	struct keeper keeper;
	struct octets octets;
	struct bouncer bouncer;
	uint64_t deliveries;		/* number of the last one */
	uint32_t in_jobs;		/* recipients in jobs */
	struct { uint32_t busy[ROUTE_CHANNELS], limit[ROUTE_CHANNELS]; int is_leaving; } shown;	/* last status line */
	int is_leaving;			/* no new deliveries: TERM came, or a spawner is lost */
	int exit_code;			/* for the end */
	stralloc address, sender, strings, name;	/* scratch */
};

#endif
