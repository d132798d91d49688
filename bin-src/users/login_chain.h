/* login_chain: the programs of qmail-authd's command line, run for one attempt to log in: CHECKPASSWORD ... [qmail-loggedin] [SESSION ...]
 *   0, 1   the connection; /dev/null for a check
 *   2      as it is here
 *   3      login, secret and challenge, for the checkpassword program
 *   4      gets an octet from the first program that a right login starts: qmail-loggedin, or a SESSION that does so itself
 *   5      the caller's socket, which a session keeps to its end
 * The checkpassword program may close what it does not know: then its exit status tells. */
#ifndef LOGIN_CHAIN_H
#define LOGIN_CHAIN_H
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>
#include "login_protocol.h"

enum { LOGIN_CHAIN_SECRET = 3, LOGIN_CHAIN_BEGUN = 4, LOGIN_CHAIN_CALLER = 5 };
#define LOGIN_CHAIN_LOGGEDIN "bin/qmail-loggedin"

struct login_chain {
	const char **argv[2];	/* for LOGIN_CHECK and LOGIN_SESSION (NULL: there are no sessions) */
	/* paths that are good in any directory, because the checkpassword program changes it: that of qmail-loggedin, and that of SESSION where
	 * it is one of the home, else NULL */
	char *outside, *session;
	int null;		/* /dev/null */
	sigset_t signals;	/* that the programs start with blocked */
};

/* Takes CHECKPASSWORD ... [-- SESSION ...]; the current directory is the home, where a SESSION with a '/' in its name lies.
 * session_tells: SESSION needs no qmail-loggedin before it. Returns 1, or 0 with errno set (EINVAL: there is no program). c->signals is
 * the caller's. */
int login_chain_init(struct login_chain *c, char *const *argv, int session_tells);

/* Whether the question can be answered at all. */
int login_chain_has(const struct login_chain *c, enum login_question question);

/* Starts the programs. login, secret and challenge have LOGIN_MAX octets at most, with their NULs. Returns the process id, and
 * the reading end of 4 in *begun; or -1 with errno set. Nothing is closed here. */
pid_t login_chain_start(const struct login_chain *c, const struct login_request *r, int connection, int caller, int *begun);

/* Gives back what login_chain_init has taken. */
void login_chain_free(struct login_chain *c);

/* In the first program that a right login starts: says so. Nobody wants to know whether it was heard. */
static inline void
login_chain_tell(void)
{
	ssize_t r = write(LOGIN_CHAIN_BEGUN, "", 1);

	(void)r;
	close(LOGIN_CHAIN_BEGUN);
}

#endif
