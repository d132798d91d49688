/* login_runner: a process that runs the checkpassword program of qmail-popup's command line, because what reads the network is shut
 * in and starts nothing. It is forked before, keeps the rights that the program needs, and reads nothing but one packet of ours.
 * Trust   the process that asks may have been taken over: it has one try */
#ifndef LOGIN_RUNNER_H
#define LOGIN_RUNNER_H
#include <stddef.h>

enum { LOGIN_RUNNER_SECRET = 3 };	/* where the program finds login, secret and challenge (interfaces section 13) */

/* Forks it; it runs argv in that directory (a descriptor), with the descriptors 0 and 1 of now. Returns a socket, or -1 with errno set. */
int login_runner_start(char *const *argv, int directory);

/* Runs the program, with octets on its descriptor 3, and with connection as 0 and 1 (-1: those of the start), and waits for its end.
 * Returns its exit code; -1: it was killed, or could not be started, or there is no runner. */
int login_runner_run(int runner, int connection, const char *octets, size_t len);

#endif
