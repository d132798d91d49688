/* session: an SMTP session with one server, from its greeting to the end; many messages may go over it.
 * Standards   RFC 5321; extensions of the reply to EHLO: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152),
 *             SMTPUTF8 (RFC 6531), DSN (RFC 3461), CHUNKING (RFC 3030 section 2), LIMITS (RFC 9422 section 3), STARTTLS (RFC 3207),
 *             AUTH (RFC 4954) with PLAIN and LOGIN
 * Time        a reply has to be whole timeout seconds after the client began to wait for it, and all that a group of
 *             commands needs within SESSION_TIMEOUTS times as much: no server gains time with single octets
 * TLS         begins where the server offers it, unless the caller wants none; all that the server said before is forgotten then.
 *             Where the caller demands TLS, nothing but EHLO and STARTTLS is said in clear text
 * Trust       the server is hostile. What it says before it was asked, or in answer to something else, ends the session
 * Memory      what is in this struct, and commands: at most 100 recipients of SMTP_COMMAND_ADDRESS_MAX octets, with parameters */
#ifndef SESSION_H
#define SESSION_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "connection.h"
#include "smtp_reply.h"

enum {
	SESSION_TIMEOUTS = 3,
	SESSION_RECIPIENTS_MAX = 100,	/* of a transaction, RFC 5321 section 4.5.3.1.8 */
	SESSION_DOMAINS_MAX = 100,
	SESSION_HOST_MAX = 64,		/* octets of an address as text */
	SESSION_SECURITY_MAX = 300,
};

enum session_extension {
	SESSION_PIPELINING = 1 << 0,
	SESSION_SIZE = 1 << 1,
	SESSION_8BITMIME = 1 << 2,
	SESSION_SMTPUTF8 = 1 << 3,
	SESSION_DSN = 1 << 4,
	SESSION_CHUNKING = 1 << 5,
	SESSION_STARTTLS = 1 << 6,
	SESSION_AUTH_PLAIN = 1 << 7,
	SESSION_AUTH_LOGIN = 1 << 8,
};

enum session_tls {
	SESSION_CLEAR,		/* none */
	SESSION_TLS_MAY,	/* where the server has it */
	SESSION_TLS_MUST,
	SESSION_TLS_AT_ONCE,	/* from the first octet (RFC 8314 section 3.3) */
};

struct session {
	/* the caller's */
	const char *helo;		/* our name */
	unsigned long timeout;		/* seconds */
	char host[SESSION_HOST_MAX];	/* the server's address, for reports */

	enum session_tls tls;
	struct tls_client *tls_client;	/* for all but SESSION_CLEAR; its chain's demand is the caller's */
	const char *tls_name;		/* of the server, for SNI; NULL: none is sent */
	const char *tls_key;		/* tls_client_start */
	const char *tls_proof;		/* what to say of the server in reports, after what it is protected by: ", verified" or "" */

	const char *user, *password;	/* with which to log in; NULL or "" without. Whether that may be done in clear text is the caller's */

	/* the session's; connection.fd -1: there is none */
	struct connection connection;
	unsigned int extensions;
	uint64_t size_max;		/* octets of a message that the server takes; 0: it did not say */
	unsigned int recipients_max;	/* of a transaction */
	unsigned int domains_max;	/* of all recipients of the session, SESSION_DOMAINS_MAX at most; 0: it did not say */
	unsigned int domains_len;	/* with domains_max: how many there were */
	uint64_t domains[SESSION_DOMAINS_MAX];	/* digests of their names */
	unsigned int messages_max;	/* of the session, RFC 9422 section 4; 0: it did not say */
	unsigned int messages;		/* transactions that were begun */
	int needs_reset;		/* the server may remember a transaction */
	int has_accepted;		/* it has taken a message */
	int is_in_doubt;		/* whether the reply to the last message was all that it says to it: a late second one would be read
					 * as the answer to the next command, and so on. The caller's to set, and to clear */
	uint64_t deadline;		/* of the commands that are under way */
	struct smtp_reply reply;	/* the last one */
	/* how it is protected, for reports: "by TLSv1.2 with TLS_..." or "in clear text: why", "" in clear text that nobody minds.
	 * With SESSION_INSECURE: why it is not, and a status code for that */
	char security[SESSION_SECURITY_MAX];
	const char *security_status;
	int lacks_tls;			/* in clear text, though the server offers TLS: what it refuses may be for want of it */
};

enum session_result {
	SESSION_READY,
	SESSION_REFUSED,	/* by greeting, EHLO, HELO or AUTH: reply has it; is closed */
	SESSION_LOST,		/* errno says how; is closed */
	SESSION_INSECURE,	/* no TLS where there has to be, or a handshake that failed: security says why; is closed. With SESSION_TLS_MAY
				 * another session may do without */
};

/* Begins on a connected socket, which the session owns from now on: greeting, EHLO or else HELO. refused: set to
 * "greeting", "my name" or "login" where the result is SESSION_REFUSED. */
enum session_result session_open(struct session *s, int fd, const char **refused);

/* 1 if the next message can go over it: it is open, nothing was read that it said since, and it takes more messages. */
int session_is_usable(const struct session *s);

/* Takes the domain for one more recipient. Returns 0 if the server's limit forbids it: the session is of no use for him. */
int session_take_domain(struct session *s, const char *domain);

/* Begins a group of commands or mail data, for all of which there are so many seconds. */
void session_begin(struct session *s, uint64_t seconds);

/* Writes the n vectors (which are changed), within timeout seconds and the time of the group. Returns 1, or 0 with errno. */
int session_write(struct session *s, struct iovec *v, int n);

/* Reads a reply into s->reply, the same limits. Returns 1, or 0 with errno. */
int session_reply(struct session *s);

/* Says QUIT, if it is open and was quiet, and closes without waiting for the answer. */
void session_quit(struct session *s);

#endif
