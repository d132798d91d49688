/* queue_keeper: the queue's keeper without its program, for the units of its parts: the services of qmail-queued.c, and a queue in
 * a private directory with a ring of RING_SIZE_MIN octets. Nothing happens by itself: a test hands it events and turns, and sets
 * the time. Nothing is flushed to the disk. The unit links it with $(KEEPER_WRAP). */
#ifndef UNIT_QUEUE_KEEPER_H
#define UNIT_QUEUE_KEEPER_H
#include "bin-src/queue/keeper.h"

extern struct keeper keeper;
extern char keeper_said[200];	/* the last text of keeper_log, "" if there was none */
extern int keeper_forks_fail;	/* keeper_fork fails with EAGAIN */
extern pid_t keeper_child;	/* the last */
extern uid_t keeper_peer;	/* who connects, as the kernel says */
extern int keeper_peer_is_unknown;	/* it says ENOMEM */
extern int (*keeper_fdatasync)(int fd), (*keeper_fsync)(int fd);	/* take the place of a flush; NULL: it succeeds */

/* A new directory with the folders of a queue and an empty ring; and away with it, and with all children. For a test each. */
int keeper_set_up(void **state);
int keeper_tear_down(void **state);

/* Waits until a watched descriptor is ready, and tells the part it belongs to. */
void keeper_event(void);

/* The same for all that are ready now. */
void keeper_events(void);

/* A connection to the submit socket, or to qmail-send's, that the keeper has accepted: the other end, non-blocking. */
void keeper_connect(struct channel *c, struct source *listener);

/* Says a frame; it has to go out at once. */
void keeper_say(struct channel *c, char type, const char *s, size_t len);

/* Says a message of len octets x with one recipient, whole. */
void keeper_submit(struct channel *c, size_t len);

/* The next frame that the keeper said: its type, 0 if there is none, -1 if it hung up. Valid until the next call. */
int keeper_hears(struct channel *c, struct channel_frame *f);

/* 1 if the keeper's next frame is the answer to a message with that code; *number may be NULL. */
int keeper_answered(struct channel *c, unsigned int code, uint64_t *number);

#endif
