/* sts: MTA-STS (RFC 8461) of the domain that mail goes to: qmail-remote's side.
 * Asks      the DNS for the TXT record, along with the MX, and qmail-mtastsd for the policy, once: it counts as long as the process lives,
 *           which takes mail for one domain
 * Without   the socket of qmail-mtastsd nothing is asked, and there is no policy
 * Shut in   the connection is made before sandbox_enter */
#ifndef STS_H
#define STS_H
#include "dns.h"
#include "sts_policy.h"

struct sts {
	int fd;			/* to qmail-mtastsd, until it is asked, or -1 */
	int is_absent;		/* there is none */
	char domain[DNS_NAME_MAX + 1];	/* whose policy it is, "" nobody's yet */
	struct dns_question record;
	struct sts_policy policy;	/* mode STS_NONE where there is none */
};

/* Connects, if somebody serves. */
void sts_open(struct sts *s);

/* Asks for the record of domain, in ASCII, unless nobody wants it. A question of *d; the caller finishes it before sts_finish. */
void sts_begin(struct sts *s, struct dns *d, const char *domain);

/* Asks for s->policy. Returns 1, or 0: qmail-mtastsd should serve, and does not. */
int sts_finish(struct sts *s, const char *domain);

#endif
