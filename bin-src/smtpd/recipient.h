/* recipient: whether a recipient is taken: relaying, lists, DNS lists, RCPTCHECK, and whether it exists (recipient_checks.h).
 * The order is that of the cheapest first; all but relaying is skipped for postmaster (RFC 5321 section 4.5.1) */
#ifndef RECIPIENT_H
#define RECIPIENT_H
#include "path.h"
#include "recipient_checks.h"
#include "session.h"

/* Answers a recipient that is not taken, logs it, and returns 0; or returns 1. *path may be changed: [own address] to
 * control/localiphost, RELAYCLIENT's value behind the address. */
int recipient_is_taken(struct session *s, struct path *path);

#endif
