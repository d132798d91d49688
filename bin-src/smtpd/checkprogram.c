#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include "checkprogram.h"
#include "monotonic.h"
#include "stralloc_set.h"

enum {
	STRINGS = 3,			/* sender, recipient, helo */
	REQUEST_MAX = STRINGS * (CHECKPROGRAM_STRING_MAX + 1),
	ANSWER_MAX = 1 + CHECKPROGRAM_TEXT_MAX,	/* code or enum trouble, text */
	RUNNER_FD = 3,			/* in the runner, its socket */
	TEXT_FD = 4,			/* in the program */
	GRACE_MS = 5000,		/* that the session waits longer than the runner */
};

/* What went wrong, where the exit code of the program does not say it. Not codes that mean something. */
enum trouble { TROUBLE_START = 1, TROUBLE_CRASH, TROUBLE_SLOW, TROUBLE_CODE, TROUBLES };

static const char *const troubles[TROUBLES] = {
	[TROUBLE_START] = "RCPTCHECK could not be started", [TROUBLE_CRASH] = "RCPTCHECK crashed",
	[TROUBLE_SLOW] = "RCPTCHECK took too long", [TROUBLE_CODE] = "RCPTCHECK ended with an exit code that means nothing here",
};

/* --- the runner ------------------------------------------------------------------------------------------------ */

struct run {
	pid_t pid;
	int text_fd;		/* what the program writes to descriptor 4; -1 at its end */
	int children;		/* signalfd: readable when it has ended */
	char answer[ANSWER_MAX];
	size_t len;
};

/* In the new process. Returns only on failure. */
static void
become_program(const char *program, const char *const *strings, int text_fd)
{
	sigset_t none;

	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(text_fd, TEXT_FD) < 0 || fcntl(TEXT_FD, F_SETFD, 0) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return;
	close(RUNNER_FD);
	closefrom(TEXT_FD + 1);
	if (setenv("SENDER", strings[0], 1) < 0 || setenv("RECIPIENT", strings[1], 1) < 0 || setenv("HELO", strings[2], 1) < 0 ||
	    setenv("USE_FD4", "1", 1) < 0)
		return;
	execl(program, program, (char *)NULL);
}

static int
start_program(struct run *r, const char *program, const char *const *strings)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return 0;
	/* above what the program gets, so that no dup2 hits the other */
	r->text_fd = fcntl(ends[0], F_DUPFD_CLOEXEC, TEXT_FD + 1);
	close(ends[0]);
	if (r->text_fd >= 0 && fcntl(r->text_fd, F_SETFL, O_NONBLOCK) == 0)
		r->pid = fork();
	if (r->pid == 0) {
		become_program(program, strings, ends[1]);
		_exit(CHECKPROGRAM_FAILED);
	}
	close(ends[1]);
	return r->pid > 0;
}

/* Reads once; what is too much is thrown away. Returns whether there may be more: of a program that writes without end there always is. */
static int
read_text(struct run *r)
{
	size_t room = sizeof r->answer - r->len;
	char rest[4096];
	ssize_t n = room ? read(r->text_fd, r->answer + r->len, room) : read(r->text_fd, rest, sizeof rest);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return errno == EINTR;
	if (n > 0) {
		r->len += room ? (size_t)n : 0;
		return 1;
	}
	close(r->text_fd);
	r->text_fd = -1;
	return 0;
}

/* Waits for the program. Returns its status, or -1 when its time is over or the session is gone. */
static int
await_program(struct run *r)
{
	uint64_t deadline = monotonic_ms() + (uint64_t)CHECKPROGRAM_SECONDS * 1000, now;
	struct signalfd_siginfo info;
	int status;

	while ((now = monotonic_ms()) < deadline) {
		struct pollfd p[3] = { { .fd = r->children, .events = POLLIN }, { .fd = r->text_fd, .events = POLLIN },
		    { .fd = RUNNER_FD, .events = 0 } };

		if (poll(p, 3, (int)(deadline - now)) < 0 && errno != EINTR)
			return -1;
		if (p[1].revents)
			read_text(r);
		if (p[2].revents)
			return -1;
		if (!p[0].revents)
			continue;
		if (read(r->children, &info, sizeof info) < 0 && errno != EAGAIN)
			return -1;
		if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
			r->pid = -1;
			return status;
		}
	}
	return -1;
}

static unsigned char
code_of(int status)
{
	if (!WIFEXITED(status))
		return TROUBLE_CRASH;
	switch (WEXITSTATUS(status)) {
	case CHECKPROGRAM_ACCEPT: case CHECKPROGRAM_REJECT: case CHECKPROGRAM_DEFER: case CHECKPROGRAM_IGNORE:
	case CHECKPROGRAM_OVER_LIMIT:
		return (unsigned char)WEXITSTATUS(status);
	case CHECKPROGRAM_FAILED:
		return TROUBLE_START;
	}
	return TROUBLE_CODE;
}

/* Runs the program once; r->answer is then what goes back. */
static void
run_program(struct run *r, const char *program, const char *const *strings)
{
	int status;

	r->pid = r->text_fd = -1;
	r->len = 1;
	if (start_program(r, program, strings)) {
		status = await_program(r);
		if (r->pid > 0) {
			r->answer[0] = TROUBLE_SLOW;
			kill(r->pid, SIGKILL);
			kill(-r->pid, SIGKILL);
			waitpid(r->pid, NULL, 0);
		} else {
			r->answer[0] = (char)code_of(status);
			while (r->text_fd >= 0 && r->len < sizeof r->answer && read_text(r))
				;
		}
	} else
		r->answer[0] = TROUBLE_START;
	if (r->text_fd >= 0)
		close(r->text_fd);
}

/* Whether a request is STRINGS strings, each ended by NUL. */
static int
split(const char *request, size_t len, const char *strings[STRINGS])
{
	const char *s = request;
	int n = 0;

	if (!len || request[len - 1])
		return 0;
	for (; s < request + len && n < STRINGS; s += strlen(s) + 1)
		strings[n++] = s;
	return n == STRINGS && s == request + len;
}

/* Takes requests until the session ends. */
static void
serve(const char *program, int children)
{
	char request[REQUEST_MAX];
	const char *strings[STRINGS];
	struct run r = { .children = children };
	ssize_t n;

	while ((n = recv(RUNNER_FD, request, sizeof request, 0)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || !split(request, (size_t)n, strings))
			return;
		run_program(&r, program, strings);
		if (send(RUNNER_FD, r.answer, r.len, MSG_NOSIGNAL) < 0)
			return;
	}
}

/* In the new process: the socket, the log, and nothing else. */
static void
become_runner(const char *program, int fd)
{
	static const int defaults[] = { SIGTERM, SIGHUP, SIGINT, SIGALRM, SIGPIPE, SIGCHLD, SIGUSR1, SIGUSR2 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t child;
	int children;

	for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
		signal(defaults[i], SIG_DFL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(fd, RUNNER_FD) < 0 ||
	    fcntl(RUNNER_FD, F_SETFD, FD_CLOEXEC) < 0 || sigprocmask(SIG_SETMASK, &child, NULL) < 0)
		return;
	closefrom(RUNNER_FD + 1);
	children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (children >= 0)
		serve(program, children);
}

/* --- the session -------------------------------------------------------------------------------------------------- */

int
checkprogram_start(struct checkprogram *p)
{
	const char *program = getenv("RCPTCHECK"), *relay = getenv("RCPTCHECKRELAYCLIENT");
	int ends[2], e;
	pid_t pid;

	*p = (struct checkprogram){ .fd = -1, .for_relay_clients = relay && *relay && strcmp(relay, "0") != 0 };
	if (!program || !*program)
		return 1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		/* not in the place of something that is still needed: 0 to 3 are taken below */
		int fd = fcntl(ends[1], F_DUPFD_CLOEXEC, RUNNER_FD + 1);

		if (fd >= 0)
			become_runner(program, fd);
		_exit(0);
	}
	e = errno;
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		errno = e;
		return 0;
	}
	p->fd = ends[0];
	p->is_set = 1;
	return 1;
}

static enum checkprogram_result
fail(struct checkprogram *p, const char *trouble)
{
	p->trouble = trouble;
	return CHECKPROGRAM_FAILED;
}

/* Waits for the answer. Returns its octets, 0 if there will be none. */
static size_t
await_answer(const struct checkprogram *p, char answer[ANSWER_MAX])
{
	uint64_t deadline = monotonic_ms() + (uint64_t)CHECKPROGRAM_SECONDS * 1000 + GRACE_MS, now;
	ssize_t n;

	while ((now = monotonic_ms()) < deadline) {
		struct pollfd poller = { .fd = p->fd, .events = POLLIN };

		if (poll(&poller, 1, (int)(deadline - now)) < 1)
			continue;	/* interrupted */
		n = recv(p->fd, answer, ANSWER_MAX, MSG_DONTWAIT);
		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			return n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* The text in a form that fits into a reply line. */
static int
clean(stralloc *text, const char *s, size_t len)
{
	const char *newline = memchr(s, '\n', len);

	if (newline)
		len = (size_t)(newline - s);
	while (len && (s[len - 1] == ' ' || s[len - 1] == '\r' || s[len - 1] == '\t'))
		len--;
	if (!stralloc_setb(text, s, len))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (s[i] < ' ' || s[i] > '~')
			text->s[i] = '?';
	return 1;
}

enum checkprogram_result
checkprogram_ask(struct checkprogram *p, const char *sender, const char *recipient, const char *helo, stralloc *text)
{
	const char *const strings[STRINGS] = { sender, recipient, helo };
	char request[REQUEST_MAX], answer[ANSWER_MAX];
	size_t len = 0;

	text->len = 0;
	p->trouble = NULL;
	for (int i = 0; i < STRINGS; i++) {
		size_t n = strlen(strings[i]);

		if (n > CHECKPROGRAM_STRING_MAX)
			return fail(p, "an address or name is too long for RCPTCHECK");
		memcpy(request + len, strings[i], n + 1);
		len += n + 1;
	}
	if (p->fd < 0 || send(p->fd, request, len, MSG_NOSIGNAL) < 0)
		return fail(p, troubles[TROUBLE_START]);
	len = await_answer(p, answer);
	if (len == 0) {
		checkprogram_close(p);	/* an answer that comes now would be taken for that to the next question */
		return fail(p, "the process that runs RCPTCHECK does not answer");
	}
	if ((unsigned char)answer[0] > 0 && (unsigned char)answer[0] < TROUBLES)
		return fail(p, troubles[(unsigned char)answer[0]]);
	if (!clean(text, answer + 1, len - 1))
		return fail(p, "out of memory");
	return (enum checkprogram_result)(unsigned char)answer[0];
}

void
checkprogram_close(struct checkprogram *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}
