/* login_protocol: what is said to qmail-authd, the login keeper, over its socket (lib/service_socket.h). One connection is one
 * attempt to log in:
 *
 *   caller    'C' or 'S', login NUL secret NUL challenge NUL, then variables, each NAME=value NUL
 *             C   check: is this login right? The packet may carry the caller's connection to qmail-submitd, which is then told the
 *                 account, before the answer (submission_protocol.h)
 *             S   session: the packet carries the connection, a connected stream socket. If the login is right, the session
 *                 program runs on it as the user, and the caller touches it no more
 *             The challenge is empty, but where the secret is a digest of it (APOP, CRAM-MD5)
 *   keeper    'K', account    right. S: the session has begun; the end of the keeper's socket tells that it is over
 *             'N'             wrong: not said why
 *             'T', text       it cannot be known now: not a wrong password
 *   The keeper answers once. It may take its time: failed logins slow down those that follow.
 *
 * Account    the login, of which ASCII letters are lower case if it has an '@' in it. Nothing that the user's own processes say
 *            has a part in it
 * Variables  LOGIN_VARIABLES and no others, each once at most; all else in the environment of a session is the keeper's
 * Trust      the keeper takes packets from the users on its command line only, as the kernel says it, and checks every octet */
#ifndef LOGIN_PROTOCOL_H
#define LOGIN_PROTOCOL_H
#include <stddef.h>

#define LOGIN_SOCKET "run/qmail-authd/socket"
#define LOGIN_UTF8 "POP3UTF8"	/* the variable that qmail-pop3d looks for: RFC 6856 section 2.1 */
enum {
	LOGIN_PACKET_MAX = 16384,	/* octets; login, secret and challenge may be longer than any right one: it counts as a failure */
	LOGIN_TEXT_MAX = 200,		/* octets of 'T' */
	LOGIN_ACCOUNT_MAX = 512,	/* octets of 'K' */
	LOGIN_VALUE_MAX = 255,		/* octets of a variable's value */
	LOGIN_VARIABLES_MAX = 16,
};

enum login_question { LOGIN_CHECK = 'C', LOGIN_SESSION = 'S' };
enum login_letter { LOGIN_IS_RIGHT = 'K', LOGIN_IS_WRONG = 'N', LOGIN_IS_UNKNOWN = 'T' };

/* The names of the variables, ended by NULL: who is at the other end; from LOGIN_VARIABLES_SAID on what a session has come to: which
 * TLS is between, and whether a POP3 client has said UTF8. */
extern const char *const login_variables[LOGIN_VARIABLES_MAX + 1];
enum { LOGIN_VARIABLES_SAID = 11 };

/* The place there of the name of NAME=value, or -1: it is none of them. */
int login_variable_find(const char *variable);

/* Whether value is one that is passed on: not empty, not too long, and of letters, digits and . : % _ - only. */
int login_value_is_fine(const char *value);

struct login_request {
	enum login_question question;
	const char *login, *secret, *challenge;
	const char *variables[LOGIN_VARIABLES_MAX];	/* NAME=value */
	size_t variables_len;
};

/* Appends to a packet of len octets the variables of the environment from that place on, each NAME=value NUL, as far as size octets
 * have room; what is not fine is not worth a login. Returns how many octets it has then. */
size_t login_variables_put(char *packet, size_t len, size_t size, int from);

/* Takes a packet apart; the strings are in it. Returns 1, or 0: malformed. */
int login_request_parse(struct login_request *r, const char *packet, size_t len);

/* The value of a variable of r, NULL if it has none. */
const char *login_request_variable(const struct login_request *r, const char *name);

#endif
