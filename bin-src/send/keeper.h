/* keeper: qmail-send's end of the connection to qmail-queued (queue/protocol.h). While the keeper is away the connection
 * is tried again, at first after 20 ms, later each second, and deliveries go on; what became of recipients is kept in the
 * messages until the keeper has confirmed it, and is said again to a new keeper before its list is taken. */
#ifndef KEEPER_H
#define KEEPER_H
#include "send.h"

void keeper_init(struct send *s);

/* Connects if it is time. Returns when to call again (monotonic ms), INT64_MAX while connected. */
int64_t keeper_tick(struct send *s);

/* What became of a recipient, by its state: DONE, FAILED, SUCCEEDED; any other: its delay was reported. */
void keeper_tell_recipient(struct send *s, struct message *m, struct recipient *r);

/* Nothing is left to do for the message; it is forgotten when the keeper confirms. */
void keeper_tell_end(struct send *s, struct message *m);

/* The message has to wait. */
void keeper_tell_deferred(struct send *s, struct message *m);

/* The octets of the message are not where the keeper said: ask (SEND_WHERE), or the second time in a row complain
 * (SEND_DAMAGED). pass_found is called with the answer. */
void keeper_ask_place(struct send *s, struct message *m);

/* 1 if so much is unconfirmed that no new deliveries should start. */
int keeper_is_behind(const struct send *s);

/* Sends what waits. */
void keeper_flush(struct send *s);

/* Closes the connection. */
void keeper_close(struct send *s);

#endif
