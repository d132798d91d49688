/* lingering: reading from and closing Unix sockets whose other end may be hostile, without being held up.
 * Whoever connects can pass descriptors with what he says, such as a TCP socket with SO_LINGER whose octets nobody takes. The close of its
 * last holder waits as long as he likes, even where nothing else waits; and that is who reads the message without taking the descriptor, or
 * closes the socket in which it lies. A signal ends that wait: here one comes after LINGERING_MS.
 * Trust        the peer is hostile. What he passes is not to be taken where it is not needed: a file of FUSE waits in each close, and
 *              no signal ends that
 * Signals      takes SIGURG, which nobody else uses here, and a timer of its own: SIGALRM has a meaning for qmail-send */
#ifndef LINGERING_H
#define LINGERING_H
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINGERING_MS = 2 };

static inline void
lingering_on_signal(int sig)
{
	(void)sig;
}

/* A signal each ns nanoseconds: one that came before the wait ends none; 0: no more. Who was forked has no timer yet. errno stays. */
static inline void
lingering_signal(long ns)
{
	static timer_t timer;
	static int has_timer;
	struct sigaction action = { .sa_handler = lingering_on_signal };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG };
	struct itimerspec each = { { .tv_nsec = ns }, { .tv_nsec = ns } };
	sigset_t ours;
	int e = errno;

	if (!has_timer || timer_settime(timer, 0, &each, NULL) < 0) {
		sigemptyset(&ours);
		sigaddset(&ours, SIGURG);
		has_timer = sigaction(SIGURG, &action, NULL) == 0 && sigprocmask(SIG_UNBLOCK, &ours, NULL) == 0 &&
		    timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &each, NULL) == 0;
	}
	errno = e;
}

/* close(2) */
static inline int
lingering_close(int fd)
{
	int r;

	lingering_signal(LINGERING_MS * 1000000L);
	r = close(fd);
	lingering_signal(0);
	return r;
}

/* recvmsg(2) of a socket that does not wait. */
static inline ssize_t
lingering_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t r;

	lingering_signal(LINGERING_MS * 1000000L);
	r = recvmsg(fd, m, flags | MSG_DONTWAIT);
	lingering_signal(0);
	return r;
}

#endif
