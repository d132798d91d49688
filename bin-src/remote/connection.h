/* connection: octets to and from a server, with a time limit on everything, in clear text or, once it was started, by TLS.
 * Limits    each call has a deadline of its own for all that it does, so a server that sends or takes an octet now and then
 *           gains nothing by it
 * Deadlock  while a write waits, what the server says meanwhile is taken in, up to CONNECTION_IN_MAX octets (RFC 2920
 *           section 3.1: a client must not stop reading)
 * Errors    in errno: ETIMEDOUT, ECONNRESET (also: the server closed), EPROTO (its reply makes no sense, or came unasked),
 *           and what the system calls give. After any of them the connection is of no use */
#ifndef CONNECTION_H
#define CONNECTION_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "smtp_reply.h"
#include "tls_client.h"

enum {
	CONNECTION_IN_MAX = 64 * 1024,
	CONNECTION_LATE_MAX = 1000,	/* pieces that are taken when the time is over already, because they are there */
};

struct connection {
	int fd;			/* non-blocking; -1: none */
	struct tls_client *tls;	/* NULL: clear text */
	unsigned int late;	/* such pieces */
	size_t in_at, in_len;	/* octets taken in and not yet read are in[in_at] to in[in_len - 1] */
	char in[CONNECTION_IN_MAX];
};

/* Starts on fd, which the connection owns from now on. */
void connection_init(struct connection *c, int fd);

/* From now on by TLS: a handshake until the deadline; the rest is tls_client_start's. What was taken in and not yet read is not
 * protected: the caller has made sure that there is nothing. Returns 1, or 0 with tls->trouble: the connection is of no use. */
int connection_start_tls(struct connection *c, struct tls_client *tls, const char *name, const char *key, uint64_t deadline);

/* Closes. Harmless without a connection. */
void connection_close(struct connection *c);

/* Writes the n vectors (which are changed) until the deadline, monotonic milliseconds. Returns 1, or 0 with errno. */
int connection_write(struct connection *c, struct iovec *v, int n, uint64_t deadline);

/* Reads the next reply until the deadline. Returns 1 and fills *reply, or 0 with errno. */
int connection_reply(struct connection *c, struct smtp_reply *reply, uint64_t deadline);

/* 1 if octets were taken in that no reply was read from: nothing was asked, so none should be. */
int connection_has_input(const struct connection *c);

/* 1 if there are none, and none have come to the socket since, by TLS or in clear text, nor the end: one look, without waiting. */
int connection_is_quiet(const struct connection *c);

#endif
