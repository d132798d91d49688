/* server_proof: whether the certificates of a server prove that it is the one that was meant, by a policy of tlspolicy.h.
 * Authority    a path to one that is known, each certificate within its time, signed with SHA-256 or better (RFC 5280, as far as
 *              BearSSL goes: name constraints that are critical are refused)
 * Names        dNSName entries only (RFC 6125, RFC 7817 section 3: no common name); '*' stands for the whole first label
 * Trust        the certificates are hostile */
#ifndef SERVER_PROOF_H
#define SERVER_PROOF_H
#include <skalibs/stralloc.h>
#include "certificate.h"
#include "server_chain.h"
#include "tlspolicy.h"
#include "trust_anchors.h"

struct server_proof {
	const struct tlspolicy *policy;
	const struct trust_anchors *authorities;
	int is_lenient;		/* whatever it is, the server may have it; finding says what was missing */
	const char *finding;	/* of the last handshake whose certificates came: NULL nothing; static */
	stralloc names;		/* lower case, each ended by NUL; .NAME: all below it */
};

/* What the certificate has to be for where the policy names nothing: a relay's name; or domain and all below it. "" for an address. Returns
 * 1, or 0 with errno ENOMEM. */
int server_proof_names(struct server_proof *p, const char *relay, const char *domain);

/* The two halves of it, for others who have authorities or names of their own. Each returns NULL, or why not, a static phrase: whether
 * there is a path from the server's certificate to an anchor; whether the certificate is for one of names, as above. */
const char *server_proof_path(const struct server_chain *c, const struct trust_anchors *anchors);
const char *server_proof_is_for(const stralloc *names, const struct certificate *own);

/* Demands it of the chain. *p stays where it is. */
void server_proof_demand(struct server_proof *p, struct server_chain *chain);

#endif
