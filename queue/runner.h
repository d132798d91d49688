/* runner: a process that starts the program which stands for qmail-queue, for one that is shut in and cannot.
 * It is forked before its parent shuts itself in, holds none of the parent's descriptors but 2, and reads nothing but
 * requests to start that one program with that one environment; so nothing of the network reaches it.
 * Wire      Unix SOCK_SEQPACKET sockets. A request is one octet with a descriptor, on which its answers come: the pid (4 octets,
 *           most significant first) with three pipe ends, then the wait status (4 octets). Many may be on their way, from any
 *           process that holds the runner's socket
 * Ends      when nobody holds that socket any more; the programs that run then go on to their end. What is no request is
 *           dropped: one session that was taken over ends it for no other
 * Sandbox   the asking side needs socketpair, sendmsg, recvmsg (sandbox_session, sandbox_scheduler) */
#ifndef RUNNER_H
#define RUNNER_H
#include <sys/types.h>

enum runner_pipe { RUNNER_MESSAGE, RUNNER_ENVELOPE, RUNNER_ERROR, RUNNER_PIPES };

enum { RUNNER_ERROR_FD = 6 };	/* the program's; the others are 0 and 1 */

/* Forks a runner of program (a path relative to home, or to the current directory where home is -1). Returns its socket, or
 * -1 with errno set. */
int runner_start(const char *program, int home);

/* Starts the program. fds: our ends of its pipes, to write the message and the envelope and to read its text, all
 * close-on-exec. *pid is its process id. Returns a descriptor for runner_wait, or -1: it could not be started. */
int runner_run(int runner, int fds[RUNNER_PIPES], pid_t *pid);

/* Waits until the program has ended, and closes the descriptor. Returns its wait status, or -1 if that is not known. */
int runner_wait(int fd);

/* In a child: becomes the program, with the ends in its fds as descriptors 0, 1 and 6 (all are above 6). Does not return. */
void runner_become(const char *program, int home, const int ends[RUNNER_PIPES]);

/* Makes the pipes: ours, and the program's ends, close-on-exec and above RUNNER_ERROR_FD. Returns 1, or 0 with errno set. */
int runner_pipes(int ours[RUNNER_PIPES], int theirs[RUNNER_PIPES]);

#endif
