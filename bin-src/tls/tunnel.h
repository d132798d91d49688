/* tunnel: one connection through BearSSL: records on one side, plain octets on the other.
 * Client end   close_notify, and an end without it, both end the plain octets; which of them it was is told before. After
 *              close_notify nothing that comes on the connection is looked at
 * Server end   the end of the plain octets, or of the process that they come from: what it has written still goes out, then
 *              close_notify, then the end of the connection. TLS 1.2 has no half-close (RFC 5246 section 7.2.1): nothing is
 *              received after that
 * Bounds       tunnel_handshake ends at its deadline; TUNNEL_CLOSE_MS and TUNNEL_LINGER_MS bound the rest once the server has
 *              ended. In between it has the server's patience: nothing is kept but what is in the engine's buffers, so who does
 *              not read is not read from
 * Trust        the client is hostile */
#ifndef TUNNEL_H
#define TUNNEL_H
#include <stdint.h>
#include <bearssl.h>

enum {
	TUNNEL_CLOSE_MS = 300000,	/* to send what the server has written before it ended */
	TUNNEL_LINGER_MS = 5000,	/* for the client to take close_notify and to end as well */
};

struct tunnel {
	br_ssl_engine_context *engine;
	int net;		/* the client's connection */
	int plain;		/* our end of the socket pair */
	int control;		/* whose end ends a handshake */
	/* called once, when no more octets come from the client: why is NULL after close_notify, else a text for a log */
	void (*ended)(struct tunnel *t, const char *why);
	int has_ended;		/* that was called */
	int net_is_at_end;
	int server_is_gone, is_closing;
	uint64_t deadline;	/* 0: none */
	int net_is_full, plain_is_full;	/* until poll says otherwise */
};

/* The handshake. Returns NULL, or why there was none: a text for a log. The alert for it has been sent, if the client takes it. */
const char *tunnel_handshake(struct tunnel *t, uint64_t deadline);

/* Carries octets until both sides have ended. */
void tunnel_run(struct tunnel *t);

/* What a number of br_ssl_engine_last_error means, for a log. */
const char *tunnel_error(int error);

#endif
