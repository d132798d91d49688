/* recipient_checks: what is asked about a recipient beside the control files: DNS lists about the client, RCPTCHECK, and qmail-rcptd
 * whether it exists. For all servers that take mail; each says the answer in the words of its protocol.
 * Before   recipient_checks_start comes before the process shuts itself in; what asks later needs no more than sandbox_client
 * Waits    DNSBL_WAIT_MS for the lists, once a connection; the times of checkprogram.h and rcptcheck.h for a recipient */
#ifndef RECIPIENT_CHECKS_H
#define RECIPIENT_CHECKS_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "checkprogram.h"
#include "dnsbl.h"
#include "peer.h"
#include "rcptcheck.h"

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

/* Why a recipient is not taken. */
struct recipient_refusal {
	unsigned int code;		/* of SMTP: 4yz or 5yz */
	char enhanced[sizeof "5.300.300"];	/* RFC 3463 */
	const char *text;		/* printable ASCII, NUL-terminated, valid until the next question */
	const char *trouble;		/* what is wrong here, for the log; NULL: nothing */
	const char *troubled;		/* and with whom: RCPTCHECK or qmail-rcptd */
	int is_over_limit;		/* RCPTCHECK wants the client to leave */
};

/* *c is all zero. Starts all that has to be started before the process shuts itself in: whom the environment says the client is, must be
 * settled. needs_login: no DNS list is asked about clients that have to log in, as about those that may relay. Returns 1, or 0 with errno
 * set. */
int recipient_checks_start(struct recipient_checks *c, const struct peer *peer, int needs_login);

void recipient_checks_end(struct recipient_checks *c);

/* Whether the checks may serve another connection of the same client. */
int recipient_checks_are_reusable(const struct recipient_checks *c);

/* Whether the DNS lists have nothing against the client; a client that may relay is not looked up. *log: what they say of it, as
 * dnsbl_finish has it, untouched if they were not asked. Returns 1, or 0 and why. */
int recipient_checks_ask_lists(struct recipient_checks *c, int may_relay, struct recipient_refusal *why, const char **log);

/* What RCPTCHECK says. sender, address, helo: NUL-terminated. Returns 1: it is good, 0 and why, or -1: no opinion, or no program. */
int recipient_checks_ask_program(struct recipient_checks *c, int may_relay, const char *sender, const char *address, const char *helo,
    struct recipient_refusal *why);

/* Whether qmail-rcptd knows nothing against the address: len octets, and a NUL behind them. Returns 1, or 0 and why. */
int recipient_checks_ask_accounts(struct recipient_checks *c, const char *address, size_t len, struct recipient_refusal *why);

#endif
