/* login_runner: a process that runs the checkpassword program of a network server's command line, because what reads the network is
 * shut in and starts nothing. It is forked before, keeps the rights that the program needs, and reads nothing but packets of ours.
 * Environment  that of the start, but for what the session has come to since (login_variables from LOGIN_VARIABLES_SAID on)
 * Trust        the process that asks may have been taken over: it has as many tries as it was given, each one packet, and can say nothing
 *              else of itself
 * Connection   it has none of its own, so that what hangs keeps no client's
 * Secrets      are wiped here and there when the program has them */
#ifndef LOGIN_RUNNER_H
#define LOGIN_RUNNER_H
#include <stddef.h>

enum {
	LOGIN_RUNNER_SECRET = 3,	/* where the program finds login, secret and challenge (interfaces section 13) */
	LOGIN_RUNNER_MAX = 512,		/* octets of these, with their NULs; the interface has no room for more */
};

/* Forks it; it runs argv in that directory (a descriptor), tries times at most.
 * Returns a socket, or -1 with errno set. */
int login_runner_start(char *const *argv, int directory, unsigned int tries);

/* Runs the program, with connection as 0 and 1, and waits for its end, for wait_ms at most, -1 for ever. A connection makes it a session,
 * which goes on when nobody waits any more. With connection -1 it has /dev/null, and is killed, with its process group, when wait_ms are
 * over or the process that asks has ended.
 * Returns its exit code (lib/checkpassword.h): CHECKPASSWORD_WRONG and unrun, if there is no room for login, secret and challenge;
 * -1: it was killed, could not be started or takes too long, or there is no runner; none is there from then on. */
int login_runner_run(int runner, int connection, const char *login, const char *secret, const char *challenge, int wait_ms);

#endif
