/* trust_anchors: the certificate authorities that are believed, from a file in PEM form (authorities.h).
 * Trust    the file is the administrator's; what is no certificate in it, or one of a kind of key that is not known, is left out
 * Bounds   AUTHORITIES_OCTETS, TRUST_ANCHORS_MAX authorities */
#ifndef TRUST_ANCHORS_H
#define TRUST_ANCHORS_H
#include <stddef.h>
#include <bearssl.h>

enum { TRUST_ANCHORS_MAX = 1000 };

/* {0} is a valid empty one. */
struct trust_anchors {
	br_x509_trust_anchor *anchors;
	size_t len;
};

/* Adds those of the file fd, which is closed. Returns 1, or 0 with errno. */
int trust_anchors_read(struct trust_anchors *t, int fd);

/* Adds one, in DER. Returns 1; 0 if it is none (errno 0), or with errno ENOMEM. */
int trust_anchors_add(struct trust_anchors *t, const unsigned char *der, size_t len);

void trust_anchors_free(struct trust_anchors *t);

#endif
