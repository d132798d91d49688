/* dane: DANE for SMTP (RFC 7672): the TLSA records of a host, and whether a server's certificates are those that they name.
 * Signed      records count only where all that leads to them is signed: the MX records (a relay of smtproutes is the
 *             administrator's word), the host's addresses and the records themselves, CNAMEs included, each answer with the AD bit, of
 *             resolvers on this host only (dns_is_local)
 * Base domain where the host's CNAMEs lead; if there are no records, the host as it is called, which is all that is looked at if
 *             the alias is signed and what it leads to is not (RFC 7672 section 2.2.2)
 * Unusable    where a host has records, but none that SMTP can use, TLS is a must, and the certificate may be any
 * DANE-EE     the server's own certificate or key; neither its names nor its dates count (RFC 7672 section 3.1.1)
 * DANE-TA     a path to a certificate that the server sends, not its own, or that the record has whole; each below it within its
 *             time, and the server's for the base domain, the host, or the domain whose mail it is (section 3.2)
 * Bounds      DANE_RECORDS_MAX records that can be used, more are left out; nothing is kept from one host to the next: the
 *             resolver has a cache
 * Trust       records are believed where they are signed, and are anybody's all the same; the certificates are hostile */
#ifndef DANE_H
#define DANE_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "dns.h"
#include "mx.h"
#include "server_chain.h"
#include "tlsa.h"

enum { DANE_RECORDS_MAX = 32 };

enum dane_kind {
	DANE_NONE,	/* there are no signed records */
	DANE_UNUSABLE,
	DANE_USABLE,
	DANE_UNKNOWN,	/* nobody knows now: the host is not to be used */
};

/* All zero is a valid DANE_NONE. It stays where it is while a chain is held to it. */
struct dane {
	enum dane_kind kind;
	const char *why;		/* but for DANE_USABLE: a static phrase */
	char base[DNS_NAME_MAX + 1];	/* DANE_UNUSABLE and DANE_USABLE: the base domain, which is also the name for SNI */
	struct tlsa records[DANE_RECORDS_MAX];
	size_t records_len;
	stralloc names;			/* for which a certificate by DANE-TA may be, each ended by NUL */
	struct dns_question answer;	/* owns what records points to */
};

/* Looks for the records for the port of an address of mx, and waits until the clock of monotonic.h shows deadline at most. */
void dane_find(struct dane *d, struct dns *dns, const struct mx *mx, const struct mx_address *a, uint64_t deadline);

/* Back to DANE_NONE. */
void dane_forget(struct dane *d);

/* Holds the chain to the records. *d is DANE_USABLE. */
void dane_demand(const struct dane *d, struct server_chain *chain);

#endif
