/* server_policy: what BearSSL asks of a TLS server: which suite, which chain and hash, and the signature; the last two come from
 * qmail-keyd. */
#ifndef SERVER_POLICY_H
#define SERVER_POLICY_H
#include <bearssl.h>
#include "key_client.h"

struct server_policy {
	const br_ssl_server_policy_class *class;	/* first, for BearSSL */
	struct key_client key;
	const char *trouble;	/* NULL, or why a handshake failed at this machine */
	br_x509_certificate chain[KEY_CERTIFICATES_MAX];
	unsigned int algorithm;
};

/* Takes over key, which is connected, of *p; the policy of context. */
void server_policy_set(struct server_policy *p, br_ssl_server_context *context);

/* The host that the client has named, "" if none, or no name of a host (RFC 6066 section 3). */
const char *server_policy_host(const br_ssl_engine_context *engine);

#endif
