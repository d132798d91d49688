/* session: a POP3 session in the TRANSACTION state: RFC 1939 sections 5 to 7, from the reply to the login to the end.
 * Trust     every octet of the client is hostile, but it has logged in: what it does, it does to its own mail. The caller has
 *           shut the process in before session_run
 * Promise   nothing is removed or moved unless QUIT came; a session that ends in any other way changes nothing. What was said
 *           before QUIT is written before anything is removed
 * Modules   session.c: greeting, loop, end, log; command.c: a function for each command */
#ifndef SESSION_H
#define SESSION_H
#include <stdint.h>
#include "capabilities.h"
#include "input.h"
#include "maildrop.h"
#include "output.h"

/* What the control files say. */
struct session_settings {
	uint64_t timeout;	/* seconds for the client to say something, and to read a reply */
	uint64_t session;	/* seconds that a session may last */
	struct capabilities capabilities;
	int is_utf8;		/* the client said UTF8 before the login, RFC 6856 section 2.1 */
};

/* How a session ended. */
enum session_end {
	SESSION_GOES_ON,
	SESSION_QUIT,
	SESSION_CLOSED,		/* by the client, or it does not read */
	SESSION_TIMEOUT,
	SESSION_OVER,		/* it has lasted too long */
	SESSION_REFUSED,	/* the client does not speak POP3 */
	SESSION_BROKEN,		/* our own trouble */
};

struct session {
	/* the caller's */
	const struct session_settings *settings;
	struct maildrop *maildrop;

	enum session_end end;
	size_t last;		/* the highest number that DELE named, for LAST */
	uint64_t started;	/* monotonic_ms */
	uint64_t commands, retrieved, octets, deleted;	/* octets: of messages sent by RETR */
	struct output out;
	struct input in;
};

/* Runs a session on the descriptors in and out. *s is all zero but for what is the caller's. */
enum session_end session_run(struct session *s, int in, int out);

/* The line that says on descriptor 2 what a session was. */
void session_log(const struct session *s);

/* command.c: runs one command line. */
void command_run(struct session *s, char *line);

#endif
