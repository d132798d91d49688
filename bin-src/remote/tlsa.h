/* tlsa: TLSA records, and the certificates that they name.
 * Grammar   RFC 6698 section 2.1, the RDATA: usage, selector, matching type, and the data of the association
 * Use       DANE-TA(2) and DANE-EE(3) only; SMTP makes none of PKIX-TA(0) and PKIX-EE(1): there is no authority on which both
 *           sides agree (RFC 7672 section 3.1.3)
 * Trust     the records may be anybody's, the certificates are hostile */
#ifndef TLSA_H
#define TLSA_H
#include <stddef.h>

enum tlsa_usage { TLSA_DANE_TA = 2, TLSA_DANE_EE = 3 };
enum tlsa_selector { TLSA_CERTIFICATE, TLSA_KEY };	/* all of it, or its SubjectPublicKeyInfo */
enum tlsa_matching { TLSA_FULL, TLSA_SHA256, TLSA_SHA512 };

struct tlsa {
	enum tlsa_usage usage;
	enum tlsa_selector selector;
	enum tlsa_matching matching;
	const unsigned char *data;	/* points into the RDATA */
	size_t len;
};

/* Takes RDATA apart. Returns 1, or 0 if it is of no use: malformed, or with a parameter that is not known here. */
int tlsa_read(struct tlsa *t, const void *rdata, size_t len);

/* Drops the records that have a weaker digest than another of the same usage and selector (RFC 7671 section 9). Returns how many
 * are left. */
size_t tlsa_keep_strongest(struct tlsa *records, size_t len);

/* Whether the record names the certificate, or its key. */
int tlsa_matches(const struct tlsa *t, const unsigned char *der, size_t len);

#endif
