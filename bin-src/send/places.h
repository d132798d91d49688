/* places: memory for the places of messages in the ring. A place lives until the first attempts are over, its message perhaps
 * for days. From malloc they would stand in turns, and what the places leave between the messages could not be given back:
 * a third of qmail-send's memory. So they have pages of their own, each unmapped when its last place goes. */
#ifndef PLACES_H
#define PLACES_H
#include "queue/protocol.h"

/* A copy of *place. NULL: ENOMEM. */
struct queue_place *place_new(const struct queue_place *place);

/* Frees what place_new gave; harmless on NULL. */
void place_free(struct queue_place *place);

#endif
