/* message: the messages of the queue in qmail-send's memory.
 * Memory    one block a message: its facts, its recipients, the octets of its sender and of its addresses; beside it 16
 *           octets in the heap of times and 9 to 18 in the table of numbers. 180 octets for a message with one recipient and
 *           addresses of 25 octets; a further recipient costs 24 and its address
 *           parameters stand behind the addresses: a message without any costs nothing for them
 * Not kept  recipients that were delivered before, and where each recipient goes: it is routed anew at each attempt */
#ifndef MESSAGE_H
#define MESSAGE_H
#include <stddef.h>
#include <stdint.h>
#include "queue/protocol.h"
#include "route.h"

enum recipient_state {
	RECIPIENT_TODO,		/* waits for the next pass */
	RECIPIENT_BUSY,		/* in a queue of a destination, being looked up, or in a job */
	RECIPIENT_DONE,
	RECIPIENT_FAILED,	/* its text is for the bounce */
	RECIPIENT_SUCCEEDED,	/* done, and a report of that is owed: the first octet of its text says which (notify.h) */
	RECIPIENT_DELAYED,	/* waits for the next pass, and a report of its delay is owed: its text is of the last attempt */
};

/* A text about a recipient. */
struct text {
	uint32_t len;
	char s[];
};

struct recipient {
	union {
		struct recipient *next;	/* busy: the next one of the list that it is in */
		struct text *text;	/* failed, succeeded, delayed */
	};
	uint32_t index;			/* in the envelope, from 0 */
	uint32_t address;		/* octets from the message's strings to the address */
	uint32_t position : 24;		/* in the message's recipients */
	uint32_t state : 3;		/* enum recipient_state */
	uint32_t unconfirmed : 2;	/* outcomes that the keeper was told (or is to be told) and has not confirmed */
	uint32_t has_parameters : 1;	/* they follow the address's NUL */
	uint32_t was_delayed : 1;	/* its delay was reported, or need not be any more */
	uint32_t in_report : 1;		/* of success or delay, which a child is submitting */
};

#define MESSAGE_NEVER INT64_MAX

enum { MESSAGE_RECIPIENTS_MAX = (1 << 24) - 2 };	/* an envelope of QUEUE_ENVELOPE_MAX octets holds fewer */
#define MESSAGE_SIZE_MAX ((UINT64_C(1) << 40) - 1)	/* octets; a larger one could not be read by anything */

struct message {
	uint64_t number;
	int64_t birth : 40;		/* wall clock in seconds */
	uint64_t recipients_len : 24;
	uint64_t size : 40;		/* octets */
	uint64_t todo : 24;		/* recipients neither done nor failed */
	uint64_t active_local : 24;	/* recipients that are busy, and 1 while a pass is being spread */
	uint64_t active_remote : 24;
	struct queue_place *place;	/* in the ring; NULL: in its file */
	int64_t due[ROUTE_CHANNELS];	/* wall clock of the next pass, MESSAGE_NEVER: none is needed */
	uint32_t heap_at;		/* place in the heap of times */
	uint32_t in_pass : 2;		/* bits 1 << channel: a pass has begun and not ended */
	uint32_t is_over : 2;		/* that pass started too late: what it defers fails */
	uint32_t deferred : 2;		/* something was deferred in that pass */
	uint32_t returned : 2;		/* something was not attempted in that pass: its octets could not be read */
	uint32_t rerouted : 2;		/* the same: it does not belong to its destination any more */
	uint32_t has_failed : 1;	/* a recipient failed: there will be a bounce */
	uint32_t in_bounce : 1;		/* the bounce is being submitted, or waits for that */
	uint32_t bounce_refused : 1;	/* refused for good the last time: the next one leaves the message out */
	uint32_t was_told : 1;		/* SEND_DEFERRED was said */
	uint32_t is_named : 1;		/* by the list that is being read */
	uint32_t is_checked : 1;	/* large: its octets have their digest */
	uint32_t is_lost : 1;		/* the keeper does not know it (any more): forget it when nothing is busy */
	uint32_t is_ended : 1;		/* SEND_END was said and is not confirmed */
	uint32_t is_sought : 1;		/* SEND_WHERE or SEND_DAMAGED was said and is not answered */
	uint32_t has_parameters : 1;	/* those of the sender follow its NUL */
	uint32_t owes_report : 1;	/* a recipient succeeded or is delayed, and the report is not begun */
	uint32_t in_report : 1;		/* such a report is being submitted, or waits for that: unlike in_bounce, passes go on */
	uint32_t is_delay_report : 1;	/* that report is of delays */
	uint32_t misfits : 4;		/* places in a row where its octets were not */
	struct recipient recipients[];	/* ordered by index; then the strings: the sender first */
};

/* Messages by number. {0} is an empty table. */
struct message_table {
	struct message **slots;		/* open addressing */
	uint32_t mask, count;
};

/* What is known of a message while the keeper tells it. {0} knows nothing. */
enum { MESSAGE_DRAFT_KEPT = 64 * 1024 };	/* octets of each buffer that stay allocated */
struct message_draft {
	struct queue_notice notice;	/* sender: in strings */
	stralloc strings, recipients;	/* of struct recipient; text as in the message */
};

void message_draft_begin(struct message_draft *d);	/* forgets what is in it */
void message_draft_free(struct message_draft *d);

/* Begins with a notice. Returns 1, or 0 (ENOMEM). */
int message_draft_notice(struct message_draft *d, const struct queue_notice *n);

/* A recipient as the keeper tells it. */
struct message_draft_recipient {
	uint32_t index;
	enum recipient_state state;	/* to do, failed or succeeded */
	int was_delayed;
	const char *address, *parameters;	/* NULL: none */
	struct text *text;		/* of one that is not to do */
};

/* Adds a recipient; its text belongs to the draft from now on. Returns 1, or 0 (ENOMEM; the text is freed). */
int message_draft_recipient(struct message_draft *d, const struct message_draft_recipient *recipient);

/* Makes the message of a draft and enters it in the table. Returns it, or NULL (ENOMEM). The draft is empty then. */
struct message *message_new(struct message_table *t, struct message_draft *d);

/* The message of that number, or NULL. */
struct message *message_find(const struct message_table *t, uint64_t number);

/* Removes it from the table and frees all that it owns. It must not be in a heap or list. */
void message_free(struct message_table *t, struct message *m);

/* The message after the one at *at (start with 0), NULL at the end. The table may not change meanwhile. */
struct message *message_next(const struct message_table *t, uint32_t *at);

/* The recipient of that index, or NULL. */
struct recipient *message_recipient(struct message *m, uint32_t index);

struct message *recipient_message(struct recipient *r);
const char *recipient_address(struct recipient *r);	/* as in the envelope */
const char *message_sender(const struct message *m);

/* The ESMTP parameters of both (queue/envelope.h), "" if there are none. */
const char *recipient_parameters(struct recipient *r);
const char *message_parameters(const struct message *m);

/* The recipient gets another state; a text that it has is freed, and text is its own from now on (NULL: none). */
void recipient_set(struct recipient *r, enum recipient_state state, struct text *text);

/* 1 if it waits for the next pass. */
int recipient_is_waiting(const struct recipient *r);

/* A list of recipients, first in, first out. {0} is empty. */
struct recipient_list { struct recipient *first, *last; };
void recipient_list_append(struct recipient_list *l, struct recipient *r);
void recipient_list_prepend(struct recipient_list *l, struct recipient *r);
struct recipient *recipient_list_take(struct recipient_list *l);	/* NULL: empty */

/* Texts have a bound of their own: while all of them hold more than TEXTS_MAX octets, a new one is cut at
 * TEXT_SHORT, for the bounce and for the queue, but not in the log. */
enum { TEXTS_MAX = 64 << 20, TEXT_SHORT = 200 };
struct text *text_new(const char *s, size_t len);	/* NULL: ENOMEM */

#endif
