/* recipient: whether a recipient is taken: relaying, lists, DNS lists, RCPTCHECK, and whether it exists.
 * The order is that of the cheapest first; all but relaying is skipped for postmaster (RFC 5321 section 4.5.1) */
#ifndef RECIPIENT_H
#define RECIPIENT_H
#include "checkprogram.h"
#include "dnsbl.h"
#include "path.h"
#include "rcptcheck.h"
#include "session.h"

struct recipient_checks {
	struct dnsbl *lists;	/* asked about the client already; NULL: none */
	struct checkprogram program;
	struct rcptcheck accounts;
	int helo_counts;	/* NOBADHELO is not set */
	stralloc text;
};

/* Answers a recipient that is not taken, logs it, and returns 0; or returns 1. *path may be changed: [own address] to
 * control/localiphost, RELAYCLIENT's value behind the address. */
int recipient_is_taken(struct session *s, struct path *path);

#endif
