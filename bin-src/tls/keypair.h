/* keypair: a private key and the certificate chain that belongs to it, from the text of one file.
 * Grammar  PEM: exactly one private key (PKCS#8, or the forms of RSA and EC), not encrypted, and one to KEY_CERTIFICATES_MAX
 *          certificates, that of the host first; in any order, other objects and text between them being skipped
 * Keys     RSA with 2048 to 4096 bits, ECDSA on P-256, P-384 and P-521
 * Trust    the file is the administrator's, and may be damaged. Whether the chain is complete and in order is not looked at
 * Secret   the key is in the structure, and nowhere else when keypair_read returns; keypair_free wipes it */
#ifndef KEYPAIR_H
#define KEYPAIR_H
#include <stddef.h>
#include <bearssl.h>
#include <skalibs/stralloc.h>
#include "key_client.h"

struct keypair {
	enum key_kind kind;
	int is_self_signed;
	stralloc names;		/* DNS names of the certificate, each ended by NUL */
	stralloc chain;		/* as key_client.h describes it */
	br_skey_decoder_context key;
};

/* Reads it out of the text. *k is to be freed whatever comes out. Returns NULL, or why it cannot be used. */
const char *keypair_read(struct keypair *k, const char *pem, size_t len);

/* Signs what key_client.h calls an exchange. Returns the length of the signature; 0 if it is not one, or the algorithm is not for this
 * key. */
size_t keypair_sign(const struct keypair *k, unsigned int algorithm, const unsigned char *exchange, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX]);

/* The same for a hash of len octets, whatever it is of: for keys of clients. 0 also if the algorithm's are of another length. */
size_t keypair_sign_hash(const struct keypair *k, unsigned int algorithm, const unsigned char *hash, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX]);

void keypair_free(struct keypair *k);

#endif
