#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "prompt.h"

static const int signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP };
enum { SIGNALS = sizeof signals / sizeof *signals };

static volatile sig_atomic_t caught;

static void
catch_signal(int sig)
{
	caught = sig;
}

/* Reads up to the LF. waiting: the signals that are held back while an octet is waited for; NULL: those of now. Returns 1, or 0 with errno set. */
static int
read_line(stralloc *answer, int fd, const sigset_t *waiting)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	/* in one piece: what a growing stralloc leaves behind, nobody could wipe */
	if (!stralloc_ready(answer, PROMPT_MAX + 1))
		return 0;
	for (answer->len = 0;;) {
		char *c = answer->s + answer->len;
		ssize_t r = waiting && ppoll(&p, 1, NULL, waiting) < 0 ? -1 : read(fd, c, 1);

		if (r < 0)
			return 0;
		if (r == 0 && answer->len == 0) {
			errno = EPIPE;
			return 0;
		}
		if (r == 0 || *c == '\n') {
			*c = '\0';
			return 1;
		}
		if (*c == '\0' || ++answer->len > PROMPT_MAX) {
			errno = EINVAL;
			return 0;
		}
	}
}

int
prompt_read_line(stralloc *answer, int fd)
{
	return read_line(answer, fd, NULL);
}

/* Reads with the echo off, and turns it on again before a signal does what it does. Signals come only while an octet is waited for. */
static int
read_hidden(stralloc *answer, int terminal)
{
	const struct sigaction catch = { .sa_handler = catch_signal };
	struct sigaction before[SIGNALS];
	sigset_t held, mask;
	struct termios shown, hidden;
	int r, e;

	if (tcgetattr(terminal, &shown) < 0)
		return 0;
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	caught = 0;
	sigemptyset(&held);
	for (int i = 0; i < SIGNALS; i++)
		sigaddset(&held, signals[i]);
	sigprocmask(SIG_BLOCK, &held, &mask);
	for (int i = 0; i < SIGNALS; i++) {
		sigaction(signals[i], NULL, &before[i]);
		if (before[i].sa_handler != SIG_IGN)	/* nohup and the like */
			sigaction(signals[i], &catch, NULL);
	}
	r = tcsetattr(terminal, TCSAFLUSH, &hidden) == 0;
	if (r)
		r = read_line(answer, terminal, &mask);
	e = errno;
	tcsetattr(terminal, TCSADRAIN, &shown);
	allwrite(terminal, "\n", 1);
	for (int i = 0; i < SIGNALS; i++)
		sigaction(signals[i], &before[i], NULL);
	if (caught)
		raise(caught);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	errno = e;
	return r;
}

int
prompt_password(stralloc *answer, const char *question)
{
	int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int r, e;

	if (terminal < 0)
		return 0;
	do {
		allwrite(terminal, question, strlen(question));
		r = read_hidden(answer, terminal);
	} while (!r && errno == EINTR && caught);	/* it was stopped, and goes on */
	e = errno;
	close(terminal);
	errno = e;
	return r;
}

void
prompt_forget(stralloc *answer)
{
	if (answer->s)
		explicit_bzero(answer->s, answer->a);
	stralloc_free(answer);
}
