/* tlspolicy: control/tlspolicy, how mail for which domains is to be protected on its way.
 * Grammar   DOMAIN:POLICY[:ARGUMENTS], one a line. DOMAIN is that of smtproutes; where smtproutes names a relay, the relay's name or
 *           IPv4 address stands for it. POLICY is one of
 *             none         no TLS
 *             may          TLS where the server has it: what holds without an entry
 *             encrypt      never without TLS
 *             verify       the same, and the certificate comes from an authority that is known here, and is for the relay, or the
 *                          domain or a name below it; ARGUMENTS are other names instead, parted by ':', .NAME for all below it.
 *                          The names of MX hosts count for nothing: whoever forges a certificate's host forges the MX as well
 *             fingerprint  the same as encrypt, and the SHA-256 digest of the certificate or of its public key is one of ARGUMENTS:
 *                          64 hexadecimal digits each, with blanks and ':' wherever they like, as openssl writes them
 *             dane         never but by DANE: dane.h. With may and encrypt it is used where a host has signed records; those that have
 *                          a demand of their own, and none, are the administrator's word, and the records are not looked for
 *           The ARGUMENTS of may and encrypt may be "nosts": what the domain says of itself by MTA-STS (sts.h) does not count. It
 *           does not for none, verify and fingerprint either, which are the administrator's word; else the stricter counts
 * Trust     the file is the administrator's */
#ifndef TLSPOLICY_H
#define TLSPOLICY_H
#include "control/control.h"

enum { TLSPOLICY_FINGERPRINTS_MAX = 16, TLSPOLICY_DIGEST = 32 };

enum tls_level { TLS_NONE, TLS_MAY, TLS_ENCRYPT, TLS_VERIFY, TLS_FINGERPRINT, TLS_DANE };

/* The table; all zero is a valid empty one. */
struct tlspolicies {
	struct control_map map;
	int has_verify;		/* an entry may need the authorities */
};

struct tlspolicy {
	enum tls_level level;
	int has_nosts;
	const char *names;	/* of verify, parted by ':', "" the usual ones; owned by the table */
	unsigned char fingerprints[TLSPOLICY_FINGERPRINTS_MAX][TLSPOLICY_DIGEST];
	unsigned int fingerprints_len;
};

/* Reads control/tlspolicy. Returns 1, or 0 with errno (0: a line has no ':'). */
int tlspolicies_read(struct tlspolicies *p);

/* Whether the TLSA records of a host count as well. */
int tlspolicy_has_dane(const struct tlspolicy *policy);

/* The policy for a domain or relay; ascii as in domain_map.h. Returns 1 and fills *policy, 0 if no entry matches (*policy is then
 * "may"), or -1 if the entry makes no sense: the mail is then deferred. */
int tlspolicy_find(const struct tlspolicies *p, const char *domain, const char *ascii, struct tlspolicy *policy);

void tlspolicies_free(struct tlspolicies *p);

#endif
