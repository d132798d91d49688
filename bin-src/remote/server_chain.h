/* server_chain: the certificates that a server sends in a TLS handshake, as BearSSL's X.509 engine: it collects them, and when all
 * have come decides whether the server may have them. Without a demand it may have any: encryption alone is wanted.
 * Trust    the certificates are hostile
 * Bounds   SERVER_CHAIN_LEN certificates of SERVER_CHAIN_OCTETS in all are kept; more are not looked at, but the server's own,
 *          the first, has to fit */
#ifndef SERVER_CHAIN_H
#define SERVER_CHAIN_H
#include <stddef.h>
#include <bearssl.h>

enum { SERVER_CHAIN_LEN = 10, SERVER_CHAIN_OCTETS = 64 * 1024 };

struct server_chain {
	const br_x509_class *class;	/* first, for BearSSL */
	/* the caller's. NULL: any certificate; else it says whether the server may have those that have come: NULL, or why not,
	 * a text for a report */
	const char *(*demand)(const struct server_chain *c, const void *of);
	const void *of;			/* passed on to demand */

	const char *trouble;		/* NULL, or why the certificates were refused */
	size_t len;			/* certificates that are there */
	struct { const unsigned char *der; size_t len; } certificates[SERVER_CHAIN_LEN];
	size_t used;			/* of octets */
	size_t missing;			/* octets of the certificate that is coming */
	int is_cut;			/* some were left out */
	br_x509_decoder_context own;	/* the server's: its key */
	unsigned char octets[SERVER_CHAIN_OCTETS];
};

/* Makes it the engine's. */
void server_chain_set(struct server_chain *c, br_ssl_engine_context *engine);

#endif
