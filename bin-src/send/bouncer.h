/* bouncer: submits bounces, and reports of success and delay, without making anybody wait: children of qmail-send, which have its memory as it was when
 * they were forked, write and submit up to BOUNCER_BATCH bounces each, and report each over a pipe. Where a program
 * submits them (QMAILQUEUE), a child gets one bounce: BOUNCER_CHILDREN run at once, and one that hangs delays no other.
 * Order     a bounce is on disk before its message ends: a crash between may send it twice, never lose it */
#ifndef BOUNCER_H
#define BOUNCER_H
#include "send.h"

enum { BOUNCER_MS = 25 * 3600 * 1000 };	/* a child that reports nothing so long is killed */

/* Has something submitted: the bounce of m (in_bounce; pass_bounced or pass_not_bounced follows), or the report of its
 * successes, or else of its delays (in_report; pass_reported or pass_not_reported follows). Which recipients a report names
 * is settled when its child is started. Returns 1, or 0 (ENOMEM). */
int bouncer_add(struct send *s, struct message *m);

/* Starts children for what waits. Returns when to call again (monotonic ms). */
int64_t bouncer_run(struct send *s);

/* 1 if children run. */
int bouncer_is_busy(const struct send *s);

/* Kills them; their messages are bounced at the next start, perhaps for the second time. */
void bouncer_kill(struct send *s);

#endif
