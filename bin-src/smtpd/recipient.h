/* recipient: whether a recipient is taken: relaying, lists, DNS lists, RCPTCHECK, and whether it exists.
 * The order is that of the cheapest first; all but relaying is skipped for postmaster (RFC 5321 section 4.5.1) */
#ifndef RECIPIENT_H
#define RECIPIENT_H
#include "checkprogram.h"
#include "dnsbl.h"
#include "path.h"
#include "rcptcheck.h"
#include "session.h"

enum { RECIPIENT_KNOWN = 256, RECIPIENT_KNOWN_MAX = 112, RECIPIENT_KNOWN_MS = 10000 };

/* A recipient that qmail-rcptd did not refuse, or '@' and a domain whose mail goes to another host: for RECIPIENT_KNOWN_MS it is not asked
 * again. A single address of such a domain that is here, by virtualdomains, is then taken unseen: it may bounce, and none is refused. */
struct recipient_known {
	uint64_t until;		/* monotonic_ms */
	char name[RECIPIENT_KNOWN_MAX];
};

struct recipient_checks {
	struct dnsbl *lists;	/* asked about the client already; NULL: none */
	struct checkprogram program;
	struct rcptcheck accounts;
	int helo_counts;	/* NOBADHELO is not set */
	stralloc text;		/* of the program */
	struct recipient_known *known;	/* RECIPIENT_KNOWN of them, by a hash of the address; NULL: not used yet, or no memory */
};

/* *c is all zero. Starts all that has to be started before the process shuts itself in: whom the environment says the client is, must be
 * settled. needs_login: no DNS list is asked about clients that have to log in, as about those that may relay. Returns 1, or 0 with errno
 * set. */
int recipient_checks_start(struct recipient_checks *c, const struct peer *peer, int needs_login);

void recipient_checks_end(struct recipient_checks *c);

/* Whether the checks may serve another connection of the same client. */
int recipient_checks_are_reusable(const struct recipient_checks *c);

/* Answers a recipient that is not taken, logs it, and returns 0; or returns 1. *path may be changed: [own address] to
 * control/localiphost, RELAYCLIENT's value behind the address. */
int recipient_is_taken(struct session *s, struct path *path);

#endif
