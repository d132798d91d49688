/* relay: a message to a host, over the session that is open or a new one. */
#ifndef RELAY_H
#define RELAY_H
#include "dial.h"
#include "report.h"
#include "session.h"
#include "transaction.h"

struct relay {
	struct dial *dial;
	struct session session;
	struct report report;
	stralloc text;
};

/* Starts without a session. *r is all zero, as what is static begins: clearing it would fill pages that short replies never need. */
void relay_init(struct relay *r, struct dial *d);

/* Sends t to host, with whom the session is, if there is one. t->data is not surveyed yet, t->report is begun. Every recipient
 * has a result afterwards. A session that can be used again stays open. */
void relay_message(struct relay *r, const char *host, const struct transaction *t);

#endif
