/* certificate: what qmail-keyd and qmail-remote have to know of an X.509 certificate beside its key: for which hosts it is, and
 * whether it is signed by itself.
 * Grammar  RFC 5280 sections 4.1 and 4.2.1.6, in DER; only dNSName entries of subjectAltName count, as RFC 6125 section 6.4.4
 *          has it for certificates that have any
 * Trust    the octets may be damaged, or a hostile server's: every length is checked
 * Memory   points into the octets, allocates only what *names takes */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H
#include <stddef.h>
#include <skalibs/stralloc.h>

struct certificate {
	const unsigned char *issuer, *subject;		/* their DER, with header */
	size_t issuer_len, subject_len;
	const unsigned char *key;			/* SubjectPublicKeyInfo, with header */
	size_t key_len;
	const unsigned char *extensions;		/* contents of the SEQUENCE of extensions */
	size_t extensions_len;				/* 0: there are none */
};

/* Takes the certificate apart. 1, or 0 if it is malformed. */
int certificate_read(struct certificate *c, const unsigned char *der, size_t len);

/* Whether issuer and subject are the same. */
int certificate_is_self_signed(const struct certificate *c);

/* Appends the DNS names to *names, lower case, each ended by NUL; one with an octet that a host name does not have is left out.
 * Returns 1; 0 with errno EINVAL if an extension is malformed, or ENOMEM. */
int certificate_names(stralloc *names, const struct certificate *c);

/* Whether host (NUL-terminated, lower case) is one of names: as it is, or by a '*' that stands for its first label. 2: as it is. */
int certificate_is_for(const stralloc *names, const char *host);

#endif
