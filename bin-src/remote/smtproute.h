/* smtproute: control/smtproutes, which host takes the mail for which domains, instead of the MX hosts of the DNS.
 * Grammar   DOMAIN:RELAY[:PORT][|USER|PASSWORD], one a line; as an older patch has it, blanks may stand for each '|', and
 *           USER has none then.
 *           DOMAIN is a whole domain, .SUFFIX for all domains below it, or empty for all the rest; the longest match counts,
 *           of equal lines the last. RELAY is a name, an IPv4 address (in brackets or not) or an IPv6 address in brackets;
 *           empty: the MX hosts as usual, which exempts a domain from a shorter entry
 * Letters   a domain in other letters than ASCII is looked for as it is, then in its form for the DNS ("xn--")
 * Port      25 without one; 465 is TLS from the first octet (RFC 8314 3.3)
 * Trust     the file is the administrator's; the domain that is looked up is anybody's */
#ifndef SMTPROUTE_H
#define SMTPROUTE_H
#include <stddef.h>
#include <stdint.h>
#include "control/control.h"

enum { SMTPROUTE_PORT = 25, SMTPROUTE_USER_MAX = 255 };

/* The table; all zero is a valid empty one, without a route. */
struct smtproutes { struct control_map map; };

struct smtproute {
	char relay[256];	/* name or address, without brackets; "": by MX */
	int is_literal;		/* relay is an address */
	uint16_t port;
	char user[SMTPROUTE_USER_MAX + 1], password[SMTPROUTE_USER_MAX + 1];	/* "": without AUTH */
};

/* Reads control/smtproutes. Returns 1, or 0 with errno set. */
int smtproutes_read(struct smtproutes *routes);

/* The route for a domain as it stands in an address, "[literal]" included. ascii: its form for the DNS where that is another
 * one (domain_other_form), or NULL.
 * Returns 1 and fills *route, 0 if no entry matches (*route is then as for an empty RELAY), or -1 if the entry that
 * matches makes no sense: a port that is none, an open bracket, a '|' beside blanks, too long. The mail is then deferred:
 * who wrote the entry did not want it sent to the MX. */
int smtproute_find(const struct smtproutes *routes, const char *domain, const char *ascii, struct smtproute *route);

void smtproutes_free(struct smtproutes *routes);

#endif
