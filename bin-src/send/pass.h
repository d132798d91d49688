/* pass: when a message's time has come, its recipients of that channel are routed, one after another, and join the
 * queues of their destinations; the pass ends when all of them have an outcome. */
#ifndef PASS_H
#define PASS_H
#include "send.h"

enum {
	PASS_TURN = 4096,	/* recipients routed in one turn of the loop */
	PASS_SLICE = 256,	/* of one message, before another message gets its slice */
	PASS_MISFITS_MAX = 3,	/* places in a row at which the octets of a message were not, until it waits */
};

/* A message that the keeper told of for the first time. n: its notice, but for the sender. */
void pass_new(struct send *s, struct message *m, const struct queue_notice *n);

/* Begins passes that are due and goes on with those begun, as far as one turn of the loop may. Returns 1 if there is
 * more to do at once. */
int pass_run(struct send *s);

/* The wall clock at which the next pass is due, INT64_MAX if none is. */
int64_t pass_next(const struct send *s);

/* Everything is due now (ALRM). */
void pass_hurry(struct send *s);

/* The wall clock was set back by so many seconds: what waits does not wait longer for it. */
void pass_set_back(struct send *s, int64_t seconds);

/* The outcome of a busy recipient: letter 'K', 'k', 'Z' or 'D' (job.h), and its text. */
void pass_outcome(struct send *s, struct recipient *r, enum route_channel channel, char letter, const char *text,
    size_t len);

/* No outcome: the octets of the message could not be read. Either the keeper has been asked where they are (is_sought),
 * or the pass is repeated after SEND_SYSTEM_RETRY. */
void pass_return(struct send *s, struct recipient *r, enum route_channel channel);

/* No outcome: control files were changed, and the recipient belongs elsewhere. The pass is repeated at once. */
void pass_reroute(struct send *s, struct recipient *r, enum route_channel channel);

/* A new keeper told of a message that is known. tried: what it knows of attempts. */
void pass_named_again(struct send *s, struct message *m, int tried);

/* The keeper said where the octets of m are, or that they are lost (is_lost). */
void pass_found(struct send *s, struct message *m);

/* A large message was checked: it is due again at when. */
void pass_checked(struct send *s, struct message *m, int64_t when);

/* The keeper confirmed that m has ended. */
void pass_ended(struct send *s, struct message *m);

/* Forgets messages that are lost and have nothing busy. */
void pass_forget_lost(struct send *s);

/* The bounce of m was queued (or is not wanted): m ends. */
void pass_bounced(struct send *s, struct message *m);

/* The bounce of m could not be queued: try again later. */
void pass_not_bounced(struct send *s, struct message *m);

/* The same for a report of the successes, or delays, of the recipients that are marked in_report; m may go on. */
void pass_reported(struct send *s, struct message *m);
void pass_not_reported(struct send *s, struct message *m);

#endif
