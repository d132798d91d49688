/* auth: AUTH in a session, RFC 4954: PLAIN and LOGIN, and what a right login brings.
 * When      as SMTPAUTH says (interfaces sections 17 and 18):
 *               unset, "-", "0"    not at all; unset, but with a checkpassword program on the command line: as empty
 *               "!...."            a login is required: nobody sends mail without one. This makes a submission server
 *               "cram"             not at all: CRAM-MD5 needs passwords in clear, which nobody here has
 *               "", all else       it is offered
 *           only inside TLS, unless FORCETLS is "0"
 * Who       qmail-authd is asked about a login, or the program of the command line, by a process forked before (login_runner.h)
 * Whose     a sender has to belong to the login, and an account sends no more than its share: qmail-submitd knows (submission.h). Logins that a
 *           program has checked it does not know; for them FORCEAUTHMAILFROM, if it is neither empty nor 0, says that the sender has to
 *           be the login. 0 lets any login send as anybody
 * Then      the client may relay, for this session: RELAYCLIENT is set, as empty, where it was not. The login takes the place of
 *           TCPREMOTEINFO, and stands in Received and log. What begins TLS forgets it
 * Trust     lines are hostile: one of more than INPUT_LINE_MAX octets is no right one (RFC 4954 section 4 has clients send up to 12288,
 *           which are taken and thrown away), and no response has more than SASL_MAX. Too many failures end the session
 * Secrets   are wiped here, in the input, and where they go */
#ifndef AUTH_H
#define AUTH_H
#include "submission_protocol.h"

struct session;

enum {
	AUTH_FAILURES_MAX = 3,		/* wrong logins, of a session */
	AUTH_TRIES_MAX = 20,		/* of a program, which is not asked more often by one process */
	AUTH_PROGRAM_MS = 120000,	/* that a program may take, before it is killed */
};

/* How logins are checked, of a process. */
struct auth {
	int is_on, is_required, needs_tls;
	int owns_sender;	/* FORCEAUTHMAILFROM: 1, 0, or -1: it does not say */
	int runner;	/* of the program; -1: qmail-authd */
};

/* Reads the environment; forks the runner of programs (NULL: there are none), which it starts in directory. Before the process shuts itself
 * in. Returns 1, or 0 with errno set. */
int auth_start(struct auth *a, char *const *programs, int directory);

/* Whether EHLO may say so. */
int auth_is_offered(const struct session *s);

/* Why MAIL has to be refused for want of a login; NULL: it has not. */
const char *auth_lacks(const struct session *s);

/* The command, behind its verb, and all that belongs to it. */
void auth_run(struct session *s, char *arg);

/* Whether who has logged in may send as sender, and a message to so many recipients, which is counted. 1, or 0: it may not, which was answered.
 * Where qmail-submitd is gone, the session ends: a new login finds it again. 1 where nobody has logged in. */
int auth_takes_sender(struct session *s, const char *sender);
int auth_takes_message(struct session *s);

/* Whether the message that has come, which completion.h has looked at, may be by who it says: as control/submissionauthors demands. Says nothing
 * to the client; the session ends where qmail-submitd is gone. SUBMISSION_YES where nothing is demanded. */
enum submission_answer auth_judges_author(struct session *s);

/* As if there had been no login; and what is to be closed at the end of a session. */
void auth_forget(struct session *s);
void auth_end(struct session *s);

#endif
