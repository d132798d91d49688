/* login_client: asks qmail-authd, the login keeper, about a login, and hands it the connection that the session is to run on.
 * The words are those of lib/login_protocol.h.
 * Who       the connection is described by the environment (login_variables): TLS that began after the program did is set there first
 * Trust     the keeper is believed; its packets are checked and bounded
 * Waits     up to LOGIN_CLIENT_MS for the answer: failed logins are answered slowly
 * Secrets   the packet is wiped; the caller wipes its own copies
 * Sandbox   sandbox_session or sandbox_client */
#ifndef LOGIN_CLIENT_H
#define LOGIN_CLIENT_H
#include "login_protocol.h"

enum { LOGIN_CLIENT_MS = 120000 };

enum login_client_answer {
	LOGIN_CLIENT_RIGHT,	/* account is set */
	LOGIN_CLIENT_WRONG,	/* POP3: -ERR [AUTH]; SMTP: 535 5.7.8 */
	LOGIN_CLIENT_UNKNOWN,	/* text is set. POP3: -ERR [SYS/TEMP]; SMTP: 454 4.7.0 */
};

struct login_client {
	int control;				/* the keeper's socket during a session, -1: none */
	char account[LOGIN_ACCOUNT_MAX + 1];	/* no octet in it is a control character or a blank */
	char text[LOGIN_TEXT_MAX + 1];		/* for a log: printable ASCII */
};

/* Is this login right? home: descriptor of the qmail home, -1: it is the current directory. challenge: "" none. told: a connection to
 * qmail-submitd, which stays the caller's and is told the account if it is right; -1 none. */
enum login_client_answer login_client_check(struct login_client *c, int home, const char *login, const char *secret,
    const char *challenge, int told);

/* The same, and if it is right the session program runs on connection, a connected stream socket, of which nothing may have been
 * read beyond the login's line. The descriptor stays the caller's, who closes it then, and calls login_client_await_end, or
 * ends; while it waits the connection still counts where connections are counted. */
enum login_client_answer login_client_session(struct login_client *c, int home, int connection, const char *login,
    const char *secret, const char *challenge);

/* Waits until the session is over. */
void login_client_await_end(struct login_client *c);

#endif
