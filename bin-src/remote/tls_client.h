/* tls_client: TLS towards a server, by BearSSL, on a socket that does not wait.
 * Protocol   TLS 1.2 with the suites of suites.h, no renegotiation; a session is resumed where the same server still knows it
 * Name       is sent to the server (SNI), and says nothing about its certificate: that is the chain's demand
 * Own name   a server that asks for a certificate gets the caller's, or an empty one
 * Memory     what is in the struct
 * Errors     in errno, as those of connection.h: ECONNRESET after an end, with close_notify or without, and after an alert;
 *            EPROTO where what comes is no TLS, or was tampered with
 * Trust      the server is hostile */
#ifndef TLS_CLIENT_H
#define TLS_CLIENT_H
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <bearssl.h>
#include "client_certificate.h"
#include "server_chain.h"

enum { TLS_CLIENT_KEY_MAX = 700 };

struct tls_client {
	struct server_chain chain;	/* demand and of are the caller's */
	struct client_certificate *certificate;	/* the caller's: what a server is shown that asks for it; NULL nothing */
	br_ssl_client_context context;
	br_ssl_session_parameters session;	/* the last one that worked */
	char session_key[TLS_CLIENT_KEY_MAX];	/* whose it is, "" nobody's */
	char trouble[128];		/* why there was no handshake, for a report */
	int is_own_trouble;		/* it is this host's */
	unsigned char records[BR_SSL_BUFSIZE_BIDI];
};

/* The handshake on fd, until the deadline, monotonic milliseconds. name: NULL to send none. key: server and demand: only a session
 * with the same one is taken up again, NULL or too long: none is.
 * Returns 1, or 0 with trouble set. */
int tls_client_start(struct tls_client *t, int fd, const char *name, const char *key, uint64_t deadline);

/* Like recv: 0 after close_notify or the end. A record that is not whole yet is EAGAIN. What did not fit into len octets waits
 * within, where poll does not see it: tls_client_has_input does. */
ssize_t tls_client_receive(struct tls_client *t, int fd, void *to, size_t len);
int tls_client_has_input(const struct tls_client *t);

/* Like writev, but for the moment it may take nothing and return 0: it has sent some of what it took before. tls_client_flush, after the last
 * octet, makes a record of what it took: 1 if there is one that is not sent yet, which further calls do, with n 0 too. */
ssize_t tls_client_send(struct tls_client *t, int fd, const struct iovec *v, int n);
int tls_client_flush(struct tls_client *t);

/* Sends close_notify, if the socket takes it at once. */
void tls_client_end(struct tls_client *t, int fd);

/* The name of the suite. */
const char *tls_client_suite(const struct tls_client *t);

#endif
