/* authorization: a POP3 session in the AUTHORIZATION state: RFC 1939 section 4, from the greeting until a login is right.
 * Commands  USER, PASS, APOP, AUTH (RFC 5034), STLS (RFC 2595), CAPA, UTF8 (RFC 6856), NOOP, QUIT
 * Trust     every octet is hostile. The caller has shut the process in before authorization_run
 * Once      a connection has one try: after a wrong password it is closed, as in qmail
 * Handed on nothing is read beyond the line of the login, so commands that are pipelined behind it are there for the session
 * STLS      what has come before the handshake is thrown away, unread, and what was said is forgotten; who sends more than
 *           AUTHORIZATION_THROWN_MAX there is refused
 * Secrets   are wiped when the login has been answered */
#ifndef AUTHORIZATION_H
#define AUTHORIZATION_H
#include <stdint.h>
#include "capabilities.h"
#include "input.h"
#include "output.h"
#include "sasl.h"
#include "server_tls.h"

enum {
	AUTHORIZATION_LOGIN_MAX = 512,	/* octets of login, secret and challenge, with their NULs, as checkpassword programs take them */
	AUTHORIZATION_ERRORS_MAX = 20,	/* commands that lead to nothing, before the session ends */
	AUTHORIZATION_CHALLENGE_MAX = 320,
	AUTHORIZATION_THROWN_MAX = 65536,	/* octets between STLS and the handshake */
};

/* What has become of a login. */
enum authorization_answer {
	AUTHORIZATION_RIGHT,	/* and the session is over: nothing is to be said any more */
	AUTHORIZATION_WRONG,
	AUTHORIZATION_UNKNOWN,	/* it cannot be known now */
	AUTHORIZATION_LOST,	/* the session may have begun, so nothing is to be said */
};

struct authorization_settings {
	struct capabilities capabilities;
	uint64_t timeout;	/* seconds for the whole of it */
	const char *host;	/* in the challenge of APOP; NULL: there is no APOP */
	int needs_tls;		/* no login without */
	int offers_tls;		/* STLS */
	int starts_tls;		/* the client begins with a handshake */
	/* Hands a login and the connection over. secret: a digest, if it came by APOP; challenge: "" none. */
	enum authorization_answer (*login)(void *data, int connection, const char *login, const char *secret, const char *challenge);
	void *data;
};

enum authorization_end {
	AUTHORIZATION_GOES_ON,
	AUTHORIZATION_QUIT,
	AUTHORIZATION_LOGGED_IN,	/* and the session is over */
	AUTHORIZATION_FAILED,		/* a login that was not right */
	AUTHORIZATION_TROUBLE,		/* a login that cannot be known */
	AUTHORIZATION_CLOSED,		/* by the client, or it does not read */
	AUTHORIZATION_TIMEOUT,
	AUTHORIZATION_STOPPED,		/* the server is */
	AUTHORIZATION_REFUSED,		/* the client does not speak POP3 */
	AUTHORIZATION_NO_TLS,		/* a handshake has failed */
};

struct authorization {
	/* the caller's */
	const struct authorization_settings *settings;
	struct server_tls *front;	/* a UCSPI-TLS server that does TLS when asked: in and out are one socket; NULL: qmail-tlsd does it */
	int is_encrypted;	/* set at the start: by somebody before us */

	enum authorization_end end;
	unsigned int commands, errors;
	int is_utf8;		/* UTF8 was said */
	char challenge[AUTHORIZATION_CHALLENGE_MAX];	/* with its < and >; "" none */
	char user[INPUT_LINE_MAX];	/* "" none has been named */
	char login[INPUT_LINE_MAX];	/* the one that was tried, for the log */
	struct tls_engine engine;
	struct sasl sasl;
	struct input in;
	struct output out;
};

/* Runs it on the descriptors in and out, and closes them where TLS has taken their place. *a is all zero but for what is the
 * caller's. is_stopping: as in lib/input.h. */
enum authorization_end authorization_run(struct authorization *a, int in, int out, int (*is_stopping)(void));

/* The line that says on descriptor 2 what it was. */
void authorization_log(const struct authorization *a);

/* The line about a wrong login where qmail-authd does not write it, in its words: fail2ban reads it. */
void authorization_log_failure(const char *login);

#endif
