/* key_client: asks qmail-keyd for a certificate chain and for the signature of a handshake: that of a server, or that of a client.
 * Wire     one packet a question and one an answer over KEY_SOCKET, a Unix SOCK_SEQPACKET socket; numbers have their most
 *          significant octet first
 *            'C' kinds (1 octet: bits of enum key_kind), host (0 to KEY_HOST_MAX octets)
 *                   'C' kind (1 octet), number of the key (4 octets), chain   a chain whose key is of one of the kinds
 *                   'N'                                            there is none
 *            'S' number of the key (4 octets), algorithm (2 octets), exchange (up to KEY_EXCHANGE_MAX octets)
 *                   'S' signature
 *                   'N'                                            qmail-keyd does not sign this
 *            'P' name of a client's key pair (1 to KEY_NAME_MAX octets)
 *                   'P' kind, number, chain                        the same, of that pair
 *                   'N'                                            there is none
 *            'H' number of a client's key, algorithm, hash (as long as the algorithm's are)
 *                   'H' signature
 *                   'N'                                            qmail-keyd does not sign this
 *          chain       the list of a TLS Certificate message (RFC 5246 section 7.4.2): for each certificate, that of the host first,
 *                      its length (3 octets) and its DER
 *          algorithm   enum key_algorithm: SignatureAndHashAlgorithm of RFC 5246 section 7.4.1.4.1
 *          exchange    what the signature of a ServerKeyExchange message is about (RFC 8422 section 5.4): 32 random octets of
 *                      the client, 32 of the server, octet 3 (named_curve), curve (2 octets), length (1 octet), point. It is
 *                      hashed by qmail-keyd, so that it signs nothing else
 *          hash        of all messages of a handshake (RFC 5246 section 7.4.8), which only its client has; so these keys are good for
 *                      nothing else, and are never a server's
 *          The number of a key counts on that connection only, and a server's says nothing of a client's. 'C' and 'S' are answered to
 *          who may use the keys of servers, 'P' and 'H' to who may use those of clients. The first gets KEY_QUESTIONS_MAX answers a
 *          connection, the other, who keeps it for many handshakes, KEY_CLIENT_QUESTIONS_MAX
 * Trust    qmail-keyd is believed; its packets are checked and bounded
 * Waits    KEY_WAIT_MS at most for an answer
 * Sandbox  once connected: sending and receiving */
#ifndef KEY_CLIENT_H
#define KEY_CLIENT_H
#include <stddef.h>
#include <stdint.h>

#define KEY_SOCKET "run/qmail-keyd/socket"
enum {
	KEY_HOST_MAX = 255,		/* octets */
	KEY_NAME_MAX = 100,		/* octets */
	KEY_CHAIN_MAX = 32 << 10,	/* octets of a chain */
	KEY_CERTIFICATES_MAX = 10,	/* of a chain */
	KEY_EXCHANGE_MAX = 64 + 4 + 133,	/* octets; the point is one of secp521r1 */
	KEY_SIGNATURE_MAX = 512,	/* octets: RSA with 4096 bits */
	KEY_HASH_MAX = 64,		/* octets: SHA-512 */
	KEY_QUESTIONS_MAX = 4,
	KEY_CLIENT_QUESTIONS_MAX = 4000,
	KEY_WAIT_MS = 10000,
};

enum key_kind { KEY_RSA = 1 << 0, KEY_P256 = 1 << 1, KEY_P384 = 1 << 2, KEY_P521 = 1 << 3 };

/* The hash in the first octet, 4 (SHA-256), 5 or 6 (SHA-512); the signature in the second. */
enum key_algorithm { KEY_ALGORITHM_RSA = 1, KEY_ALGORITHM_ECDSA = 3, KEY_SHA256 = 4, KEY_SHA384 = 5, KEY_SHA512 = 6 };

struct key_client {
	int fd;				/* -1: not connected */
	enum key_kind kind;		/* of the chain */
	uint32_t number;
	size_t chain_len;
	unsigned char packet[6 + KEY_CHAIN_MAX];	/* the answer with the chain */
};

/* The current directory is the home. 1, or 0 with errno set. */
int key_client_connect(struct key_client *k);

/* Asks for the chain for host (NUL-terminated, "" unknown) with a key of one of the kinds. Returns it, k->chain_len octets that stay until
 * the next chain, k->kind being set; NULL with errno set (ENOENT: there is none). */
const unsigned char *key_client_chain(struct key_client *k, unsigned int kinds, const char *host);

/* Asks for a signature with the key of that chain. Returns its length, or 0 with errno set (EPERM: it was refused). */
size_t key_client_sign(struct key_client *k, unsigned int algorithm, const unsigned char *exchange, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX]);

/* The same two for the client's key pair of that name: a chain whose key is of any kind; and a signature of the len octets of hash. */
const unsigned char *key_client_pair(struct key_client *k, const char *name);
size_t key_client_sign_hash(struct key_client *k, unsigned int algorithm, const unsigned char *hash, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX]);

/* Closes the connection. */
void key_client_close(struct key_client *k);

#endif
