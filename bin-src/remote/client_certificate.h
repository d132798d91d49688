/* client_certificate: the certificate that this host shows a server that asks for one, and the signature that goes with it, for BearSSL;
 * both are qmail-keyd's (key_client.h).
 * Algorithms  RSA and ECDSA with SHA-256, or else SHA-384 or SHA-512. A server that takes none of them, or not this kind of key, gets an empty
 *             certificate (RFC 5246 section 7.4.6). The authorities that it names are not looked at: this is what there is
 * Sandbox     client_certificate_open before; it cannot be opened again */
#ifndef CLIENT_CERTIFICATE_H
#define CLIENT_CERTIFICATE_H
#include <bearssl.h>
#include "key_client.h"

struct client_certificate {
	const br_ssl_client_certificate_class *class;	/* first, for BearSSL */
	struct key_client key;
	char name[KEY_NAME_MAX + 1];	/* of the key pair at hand; "" none */
	br_x509_certificate chain[KEY_CERTIFICATES_MAX];
	size_t chain_len;
	const char *trouble;		/* NULL, or why a handshake failed at this host */
};

/* Starts without a connection to qmail-keyd. */
void client_certificate_init(struct client_certificate *c);

/* Connects. Where that fails, client_certificate_take does. */
void client_certificate_open(struct client_certificate *c);

/* Takes the key pair of that name for the handshakes that follow. Returns 1; 0: there is none; -1: qmail-keyd does not answer, and will not on
 * this connection. */
int client_certificate_take(struct client_certificate *c, const char *name);

/* Shows it in the handshake of this context. */
void client_certificate_set(struct client_certificate *c, br_ssl_client_context *context);

#endif
