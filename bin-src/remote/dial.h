/* dial: a session with one of the servers of a host.
 * Which        the addresses of mx.h in their order, without those that tcpto.h knows as dead. The next one is tried after
 *              a connection that is refused or times out, a greeting other than 220, a refusal of EHLO and HELO, or an end
 *              before that (stock qmail deferred the mail then)
 * Host         a domain with a final dot is the one without, for the control files, MTA-STS and the DNS alike
 * TLS          as control/tlspolicy has it: by itself where a server offers it, with any certificate; where that fails, a second
 *              connection to it goes on without. DANE (dane.h) where a host has TLSA records: they are looked for before the first
 *              connection to it
 * Certificate  of this host, as control/tlsclientcert has it: then never without TLS, and never without qmail-keyd, who is connected to before
 *              the host is known to be the one that is called (dial_open)
 * MTA-STS      a domain without a relay whose policy is enforced gets mail by TLS only, from an MX host of the policy whose certificate
 *              is valid for that host; in testing mode the report says what would have been in the way, and no TLS session is taken
 *              up again, which would not show the certificate. A host with TLSA records that can be used
 *              has to be in the policy as well, and is held to DANE (RFC 8461 section 2)
 * From         control/outgoingip: an IPv4 address, an IPv6 address, or both, for connections of that kind
 * Login        user and password of control/smtproutes, by TLS only, unless the relay's address is one of loopback. Port 465 is TLS
 *              from the first octet
 * Time         timeoutconnect seconds for a connection; DIAL_SECONDS after the first attempt no further one begins
 * Result       no server: always temporary, but for what the DNS says for good */
#ifndef DIAL_H
#define DIAL_H
#include <skalibs/ip46.h>
#include <skalibs/stralloc.h>
#include "client_certificate.h"
#include "dane.h"
#include "dns.h"
#include "localaddress.h"
#include "session.h"
#include "server_proof.h"
#include "smtproute.h"
#include "sts.h"
#include "tcpto.h"
#include "tlsclientcert.h"
#include "tlspolicy.h"
#include "trust_anchors.h"

enum {
	DIAL_SECONDS = 3600,
	DIAL_DNS_SECONDS = 120,
	DIAL_DANE_SECONDS = 60,	/* for the TLSA records of a host */
	DIAL_TEXT_MAX = 6000,	/* octets of a text: what the servers said */
	DIAL_TIMEOUT_MAX = 86400,	/* seconds, of both control files */
};

struct dial {
	stralloc helo;			/* NUL-terminated */
	unsigned long timeout_connect, timeout_remote;	/* seconds */
	ip46 from[2];			/* IPv4, IPv6 */
	int has_from[2];
	struct smtproutes routes;
	struct localaddresses local;
	struct dns *dns;
	struct tcpto *tcpto;
	struct tls_client tls;
	struct tlspolicies policies;
	int authorities_file;		/* -1: no policy needs it, or it is read */
	struct trust_anchors authorities;
	struct tlspolicy policy;	/* of the host that is called */
	const char *policy_of;		/* that host, or its relay */
	struct server_proof proof;
	int has_dane;			/* TLSA records of its servers count */
	struct dane dane;		/* of the server that is called */
	struct sts sts;
	enum sts_mode sts_mode;		/* of the host that is called */
	struct tlsclientcerts certificates;
	struct client_certificate certificate;
	int is_insecure;	/* the last address was left for what it has to prove, which depends on its host's name */
	int is_spent;			/* a service did not answer that is connected to once: another process does better */
};

/* Reads the control files of the current directory, the qmail home, and opens what is needed for mail to host; before sandbox_enter.
 * *d is all zero: most of it is room for TLS, pages that a worker without has not touched.
 * Returns NULL, or what cannot be read, with errno (0: it makes no sense). */
const char *dial_open(struct dial *d, const char *host);

/* Whether mail for both hosts goes to the same server: they are one, or control/smtproutes names the same relay and login. */
int dial_is_same(const struct dial *d, const char *host, const char *other);

/* A descriptor of a service that has nothing to say; what comes there is its end, after which another process does better. -1: none. */
int dial_service(const struct dial *d);

/* Opens a session with a server of host. Returns 'K', or 'Z' or 'D' with text, which is set. */
char dial_host(struct dial *d, const char *host, struct session *s, stralloc *text);

#endif
