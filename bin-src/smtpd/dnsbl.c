#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include "dnsbl.h"
#include "dnsbl_silence.h"
#include "monotonic.h"

enum {
	SESSION_FD = 3,		/* of qmail-dnsbl -p */
	EXEC_FAILED = 120,
	GRACE_MS = 500,		/* for an answer that was given in the last moment */
};

struct dnsbl {
	int fd;			/* to qmail-dnsbl; -1: nobody is asked, or the verdict is final */
	int has_lists;
	uint64_t started;	/* monotonic_ms */
	enum dnsbl_verdict verdict;	/* so far; before qmail-dnsbl says anything, what its silence means */
	char text[DNSBL_TEXT_MAX], log[DNSBL_LOG_MAX];
};

struct dnsbl *
dnsbl_open(void)
{
	struct dnsbl *b = calloc(1, sizeof *b);

	if (b) {
		b->fd = -1;
		b->verdict = DNSBL_ACCEPT;
	}
	return b;
}

void
dnsbl_close(struct dnsbl *b)
{
	if (b && b->fd >= 0)
		close(b->fd);
	free(b);
}

int
dnsbl_has_lists(const struct dnsbl *b)
{
	return b->has_lists;
}

static void
append_clean(char *to, size_t room, const char *s)
{
	size_t n = 0;

	for (; *s && n + 1 < room; s++)
		to[n++] = *s >= ' ' && *s <= '~' ? *s : '?';
	to[n] = '\0';
}

/* What the variable RBLSMTPD says stands for all lists. */
static void
obey_rule(struct dnsbl *b, const char *text)
{
	b->has_lists = 1;
	if (!*text)
		return;
	b->verdict = *text == '-' ? DNSBL_REJECT : DNSBL_DEFER;
	append_clean(b->text, sizeof b->text, text + (*text == '-'));
	append_clean(b->log, sizeof b->log, "RBLSMTPD");
}

/* In the new process: nothing of the session but its variables and its log. */
static void
become_program(const char *client, int fd)
{
	const char *const argv[] = { DNSBL_PROGRAM, "-p", client, NULL };
	static const int defaults[] = { SIGTERM, SIGHUP, SIGINT, SIGALRM, SIGPIPE, SIGCHLD };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
		signal(defaults[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(fd, SESSION_FD) < 0)
		return;
	closefrom(SESSION_FD + 1);
	execv(DNSBL_PROGRAM, (char *const *)(uintptr_t)argv);
}

/* Starts the program as nobody's child: a session that lasts keeps no zombie. Returns 1, or 0. */
static int
start_program(const char *client, int fd)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		/* above what become_program puts in place */
		int high = fcntl(fd, F_DUPFD_CLOEXEC, SESSION_FD + 1);

		pid = high < 0 ? -1 : fork();
		if (pid == 0)
			become_program(client, high);
		_exit(pid > 0 ? 0 : EXEC_FAILED);
	}
	if (pid < 0)
		return 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno == ECHILD;	/* whoever ignores SIGCHLD does not know */
	return status == 0;
}

static void
give_up(struct dnsbl *b, const char *why)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	if (!*b->log)
		append_clean(b->log, sizeof b->log, why);
}

void
dnsbl_start(struct dnsbl *b, const ip46 *client)
{
	const char *rule = getenv("RBLSMTPD"), *file = getenv("DNSBLLIST");
	char address[IP46_FMT];
	struct stat st;
	int ends[2];

	if (b->fd >= 0)
		close(b->fd);
	*b = (struct dnsbl){ .fd = -1, .verdict = DNSBL_ACCEPT, .started = monotonic_ms() };
	if (rule) {
		obey_rule(b, rule);
		return;
	}
	if (!file || !*file)
		file = DNSBL_LISTS;
	if (getenv("DNSBLSKIP") || (stat(file, &st) < 0 && errno == ENOENT))
		return;
	b->has_lists = 1;
	if (dnsbl_silence_defers() != 0) {
		b->verdict = DNSBL_DEFER;
		append_clean(b->text, sizeof b->text, "unable to ask DNS lists about your address");
	}
	address[ip46_fmt(address, client)] = '\0';
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		give_up(b, "unable to start qmail-dnsbl");
		return;
	}
	b->fd = ends[0];
	if (!start_program(address, ends[1]))
		give_up(b, "unable to start qmail-dnsbl");
	close(ends[1]);
}

/* Takes a packet: whether it is final, the verdict, text NUL, log NUL. Returns 1 if more may come. */
static int
take(struct dnsbl *b)
{
	char packet[2 + DNSBL_TEXT_MAX + DNSBL_LOG_MAX];
	ssize_t n = recv(b->fd, packet, sizeof packet, MSG_DONTWAIT);
	const char *log;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n < 4 || packet[n - 1] || !strchr("KZD", packet[1])) {
		give_up(b, "qmail-dnsbl failed");
		return 0;
	}
	b->verdict = (enum dnsbl_verdict)packet[1];
	log = packet + 2 + strlen(packet + 2) + 1;
	append_clean(b->text, sizeof b->text, packet + 2);
	append_clean(b->log, sizeof b->log, log < packet + n ? log : "");
	if (packet[0] != '.')
		return 1;
	close(b->fd);
	b->fd = -1;
	return 0;
}

enum dnsbl_verdict
dnsbl_finish(struct dnsbl *b, int wait_ms, const char **text, const char **log)
{
	uint64_t deadline = b->started + (wait_ms > 0 ? (uint64_t)wait_ms + GRACE_MS : 0), now;
	int more = b->fd >= 0;

	while (more) {
		struct pollfd p = { .fd = b->fd, .events = POLLIN };

		now = monotonic_ms();
		more = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);
		if (more < 0)
			more = errno == EINTR;
		else if (more)
			more = take(b);
	}
	*text = b->text;
	*log = b->log;
	return b->verdict;
}
