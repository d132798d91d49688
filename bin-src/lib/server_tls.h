/* server_tls: the TLS of one connection that a network server has on descriptors 0 and 1, whoever does it.
 * Who       the engine (tls_engine.h), where its socket is there and the connection is one socket; or a UCSPI-TLS server in front
 *           that waits to be asked, where SSLCTLFD, SSLREADFD and SSLWRITEFD are set; or one in front has done it already, where
 *           only SSL_PROTOCOL is. The latter two not where this program accepts for itself
 * UCSPITLS  "-": no TLS; "!": TLS is required; else it is offered. Unset, the engine's is offered, the other one's not.
 *           DISABLETLS: no TLS
 * Order     server_tls_find; when the client asks server_tls_reach; where that says yes the client is told to begin, and what was
 *           read and not used is thrown away; then server_tls_start. With TLS from the beginning nothing is said
 * After     0 and 1 are the plain ends, and no octet can go past TLS. What belongs to the descriptors, such as time limits, is to be
 *           set anew. The caller forgets what the client has said
 * Cost      where this program accepts for itself, finding looks at one file, and connects to nothing: an engine that died is only
 *           found out by reaching it. Else the engine is asked whether it serves this user: who is started by others may be any
 * Trust     as tls_engine.h; a UCSPI-TLS server's answer is bounded and cleaned in the same way
 * Sandbox   server_tls_find before; the rest in sandbox_session */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H
#include "tls_engine.h"

enum { SERVER_TLS_VARIABLES_MAX = 16384 };	/* octets that a UCSPI-TLS server says of a handshake */

enum server_tls_by { SERVER_TLS_NOBODY, SERVER_TLS_ENGINE, SERVER_TLS_UCSPI };

struct server_tls {
	enum server_tls_by by;		/* who does it when asked */
	int is_required;
	int is_on;			/* since the beginning, or server_tls_start */
	int control, in, out;		/* UCSPI-TLS */
	struct tls_engine engine;	/* protocol, cipher and host, whoever did it */
	char text[TLS_ENGINE_TEXT_MAX + 32];	/* why there is none, for a log: printable ASCII */
};

/* Fills *t. accepts: this program accepts for itself. Where there is an engine that does not serve, t->text says why, else it is "". */
void server_tls_find(struct server_tls *t, int accepts);

/* Whether clients may be told that there is TLS. */
static inline int
server_tls_is_offered(const struct server_tls *t)
{
	return t->by != SERVER_TLS_NOBODY && !t->is_on;
}

/* Makes sure that it can begin. Returns 1, or 0 with t->text: the session can go on as it was. */
int server_tls_reach(struct server_tls *t);

/* The handshake. alpn: as for tls_engine_start. Returns 1, or 0 with t->text: 0 and 1 are closed then, and nothing more can be said. */
int server_tls_start(struct server_tls *t, const char *const *alpn);

/* The handshake of a UCSPI-TLS server, for who has the plain ends in t->in and t->out, not on 0 and 1. Returns 1, or 0 with t->text: nothing more can
 * be said. */
int server_tls_start_ucspi(struct server_tls *t);

/* Whether 0 and 1 are one socket, which can be handed over. Behind a proxy they are pipes. */
int server_tls_is_one_socket(void);

/* After the end of what the client sends: "" if the client meant it, or nobody knows; else how it ended, for a log. */
const char *server_tls_end(struct server_tls *t);

#endif
