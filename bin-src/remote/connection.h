/* connection: octets to and from a server, with a time limit on everything. What is behind the descriptor is nobody's
 * business here: it is the socket to the server, or will be the plain end of a program that speaks TLS to it.
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

enum { CONNECTION_IN_MAX = 64 * 1024 };

struct connection {
	int fd;			/* non-blocking; -1: none */
	size_t in_at, in_len;	/* octets taken in and not yet read are in[in_at] to in[in_len - 1] */
	char in[CONNECTION_IN_MAX];
};

/* Starts on fd, which the connection owns from now on. */
void connection_init(struct connection *c, int fd);

/* Closes. Harmless without a connection. */
void connection_close(struct connection *c);

/* Writes the n vectors (which are changed) until the deadline, monotonic milliseconds. Returns 1, or 0 with errno. */
int connection_write(struct connection *c, struct iovec *v, int n, uint64_t deadline);

/* Reads the next reply until the deadline. Returns 1 and fills *reply, or 0 with errno. */
int connection_reply(struct connection *c, struct smtp_reply *reply, uint64_t deadline);

/* 1 if octets are there that no reply was read from: nothing was asked, so none should be. */
int connection_has_input(const struct connection *c);

#endif
