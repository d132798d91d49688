/* queued: stands in for queue/client: keeps what is submitted, and answers as the test says. A call out of order fails the test. */
#ifndef UNIT_QUEUED_H
#define UNIT_QUEUED_H
#include "queue/client.h"

extern struct queued {
	int is_open;		/* a message has begun, and neither ended nor was given up */
	unsigned int ended, abandoned;	/* how many */
	char message[65536], envelope[65536];	/* of the last one, as a text: NUL-terminated; letter and text of each record, then '|' */
	struct queue_result result;	/* what queue_client_end says */
} queued;

/* Nothing is submitted yet; the answer is number 7 at time 5. */
void queued_reset(void);

#endif
