/* tls_engine: hands a connection over to the TLS engine, qmail-tlsd or another one that keeps to qmail-tls(7), and gets its plain end.
 * Way      tls_engine_reach connects to TLS_ENGINE_SOCKET, and the engine says whether it can serve. Only then the client is told
 *          to begin (220 or +OK; nothing with implicit TLS). tls_engine_start passes the connection on, and returns the plain
 *          end when the handshake is done: a stream socket on which the client's octets are read, and ours are written
 * Before   what the caller has read of the connection and not used was not protected: it throws it away, or refuses TLS.
 *          What it has not read is not lost, and can only be the client's handshake. It forgets what the client said before
 * After    the caller closes its own descriptors of the connection, so that no octet can go past TLS
 * End      the end of the plain end says that no more octets come. tls_engine_end says whether the client meant it (close_notify)
 *          or the connection broke: what was not complete is to be thrown away either way, and is not to be taken up again
 * Trust    the engine is believed about the client's octets; its packets are checked and bounded. The client's host name
 *          holds nothing but what stands in names of hosts
 * Waits    TLS_ENGINE_REACH_MS to be answered, TLS_ENGINE_HANDSHAKE_MS for a handshake
 * Sandbox  sandbox_session or sandbox_client */
#ifndef TLS_ENGINE_H
#define TLS_ENGINE_H
#include <stddef.h>

#define TLS_ENGINE_SOCKET "run/qmail-tlsd/socket"
enum {
	TLS_ENGINE_REACH_MS = 5000,
	TLS_ENGINE_HANDSHAKE_MS = 45000,	/* more than the engine gives a client */
	TLS_ENGINE_TEXT_MAX = 200,
	TLS_ENGINE_PACKET_MAX = 1000,	/* octets of a packet, either way */
};

struct tls_engine {
	int control;			/* the engine's socket, -1: none */
	char protocol[16];		/* "TLSv1.2", for the log and the Received field */
	char cipher[64];		/* name of the cipher suite as registered with IANA, "unknown" if it was not said */
	char host[256];			/* the host that the client named (SNI), "" none */
	char alpn[32];			/* the protocol that was agreed upon (ALPN), "" none */
	char text[TLS_ENGINE_TEXT_MAX + 1];	/* why something was not done, for a log: printable ASCII */
};

/* Makes sure that the engine can serve. home: descriptor of the qmail home, -1: it is the current directory.
 * Returns 1, or 0 with t->text: STARTTLS is answered with 454, the session goes on as it was. */
int tls_engine_reach(struct tls_engine *t, int home);

/* Hands the connection over. alpn: names of the protocol that the client may say, ended by NULL: a client that names others only is
 * refused (RFC 7301); NULL: any. Returns the plain end, a descriptor above 2 that blocks, or -1 with t->text: the
 * connection is of no use any more. Closes nothing of the caller's. */
int tls_engine_start(struct tls_engine *t, int connection, const char *const *alpn);

/* Takes what is known of the TLS from strings NAME=value, each ended by NUL; UCSPI-TLS servers use the same names. */
void tls_engine_take(struct tls_engine *t, const char *s, size_t len);

/* Sets SSL_PROTOCOL, SSL_CIPHER and, where the client named a host, SSL_TLS_SNI_SERVERNAME in the environment, as UCSPI-TLS servers do, for
 * the programs that follow. */
void tls_engine_tell(const struct tls_engine *t);

/* How the client's octets ended; to be asked after the end of the plain end. */
enum tls_engine_end {
	TLS_ENGINE_CLOSED,	/* by close_notify */
	TLS_ENGINE_BROKEN,	/* without: t->text says how */
	TLS_ENGINE_GONE,	/* the engine has not said it: it was killed, or it has not ended */
};
enum tls_engine_end tls_engine_end(struct tls_engine *t);

/* Closes the engine's socket; the plain end stays the caller's. */
void tls_engine_close(struct tls_engine *t);

#endif
