/* qmail-mtastsd: say what the policy of MTA-STS of a domain is.
 * Trust: policies come from web servers, which are hostile, and domains from whoever is sent mail. Runs as qmailm, never as root. Two
 * processes: the service, which qmail-remote asks, has the cache, and no network; its parent reads nothing but domains that the service
 * sends it, and starts a qmail-mtastsfetch for each, which has the network, and neither a file nor another one's answer. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/selfpipe.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "exitcode.h"
#include "home.h"
#include "monotonic.h"
#include "readiness.h"
#include "sandbox.h"
#include "service_socket.h"
#include "sts_service.h"

#define USAGE "qmail-mtastsd [ -d notification-fd ] [ uid ... ]"
#define POLICIES "run/qmail-mtastsd/policies"

enum {
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space of the process with the policies: the names of those it has */
	CHILDREN_MAX = 2 * STS_SERVICE_FETCHES,
	KILL_MS = STS_SERVICE_FETCH_MS + 5000,
};

/* A qmail-mtastsfetch. */
struct child {
	pid_t pid;		/* 0: free */
	uint64_t deadline;	/* it ends by itself before */
};

struct parent {
	int service;		/* the other end of its fetcher */
	pid_t service_pid;
	int signals;
	unsigned int notify;	/* the service tells it; 0: none */
	sigset_t outside;	/* signals that were blocked at the start */
	struct child children[CHILDREN_MAX];
};

/* --- the service ----------------------------------------------------------------------------------------------------- */

static _Noreturn void
run_service(struct sts_service *s, unsigned int notify)
{
	static const struct sandbox shut_in = { .calls = &sandbox_policies, .write = { POLICIES }, .memory = MEMORY_MAX };
	int lack;

	PROG = "qmail-mtastsd";
	if (!sts_cache_open(&s->cache, POLICIES, (uint64_t)time(NULL)))
		strerr_diefusys(EXIT_TEMP, "read " POLICIES);
	lack = sandbox_enter(&shut_in);
	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	sandbox_warn(lack);
	if (!sts_service_start(s))
		strerr_diefusys(EXIT_TEMP, "get random octets");
	readiness_tell(notify);
	while (sts_service_turn(s))
		;
	_exit(EXIT_OK);
}

/* --- fetches ----------------------------------------------------------------------------------------------------------- */

/* In a new child: nothing of the parent's stays open but the logger. */
static void
leave_parent(const struct parent *p)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	selfpipe_finish();
	sigprocmask(SIG_SETMASK, &p->outside, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* In a new child. */
static _Noreturn void
become_fetch(int fd, const char *domain)
{
	static const char program[] = "bin/qmail-mtastsfetch";
	const char *argv[] = { program, domain, NULL };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null >= 0 && dup2(null, 0) >= 0 && dup2(fd, 1) >= 0)
		execv(program, (char **)(uintptr_t)argv);
	strerr_warnwu1sys("run bin/qmail-mtastsfetch");
	_exit(EXIT_TEMP);
}

static void
start_fetch(struct parent *p, int fd, const char *domain)
{
	unsigned int i = 0;
	pid_t pid;

	while (i < CHILDREN_MAX && p->children[i].pid)
		i++;
	if (i == CHILDREN_MAX)
		return;	/* what the service sees is an end, and so a failure */
	pid = fork();
	if (pid == 0) {
		leave_parent(p);
		become_fetch(fd, domain);
	}
	if (pid > 0)
		p->children[i] = (struct child){ pid, monotonic_ms() + KILL_MS };
}

/* Returns 0 if the service has ended. */
static int
service_ready(struct parent *p)
{
	char domain[STS_DOMAIN_MAX + 1];
	int fd = -1;
	ssize_t len = service_socket_receive(p->service, domain, sizeof domain - 1, &fd);

	if (len < 0)
		return errno == EAGAIN;
	domain[len] = '\0';
	if (fd >= 0 && strlen(domain) == (size_t)len && sts_cache_is_domain(domain))
		start_fetch(p, fd, domain);
	if (fd >= 0)
		close(fd);
	return len > 0;
}

/* --- the parent ---------------------------------------------------------------------------------------------------------- */

/* Returns 0 if the service has ended. */
static int
reap(struct parent *p)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		if (pid == p->service_pid)
			return 0;
		for (unsigned int i = 0; i < CHILDREN_MAX; i++)
			if (p->children[i].pid == pid)
				p->children[i].pid = 0;
	}
	return 1;
}

/* Kills what should have ended. Returns when to look again, in milliseconds, -1: when something happens. */
static int
kill_late(struct parent *p)
{
	uint64_t now = monotonic_ms();
	int wait = -1;

	for (unsigned int i = 0; i < CHILDREN_MAX; i++) {
		struct child *c = &p->children[i];

		if (!c->pid)
			continue;
		if (c->deadline <= now) {
			kill(c->pid, SIGKILL);
			c->deadline = now + KILL_MS;
		}
		if (wait < 0 || c->deadline - now < (uint64_t)wait)
			wait = (int)(c->deadline - now);
	}
	return wait;
}

/* Returns 0 to end. */
static int
signals_ready(struct parent *p)
{
	int sig, ends = 0;

	while ((sig = selfpipe_read()) > 0) {
		ends |= sig == SIGTERM;
		if (sig == SIGCHLD && !reap(p))
			strerr_dief(EXIT_TEMP, "the process with the cache has ended");
	}
	return !ends;
}

static void
run_parent(struct parent *p)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = p->signals, .events = POLLIN }, { .fd = p->service, .events = POLLIN } };

		if (poll(fds, 2, kill_late(p)) < 0 && errno != EINTR)
			strerr_diefusys(EXIT_TEMP, "wait for events");
		if (fds[0].revents && !signals_ready(p))
			return;
		if (fds[1].revents && !service_ready(p))
			strerr_dief(EXIT_TEMP, "the process with the cache has ended");
	}
}

/* --- start --------------------------------------------------------------------------------------------------------------- */

/* Root, whoever this runs as, and those who are named. */
static void
take_users(struct sts_service *s, char *const *named)
{
	s->users[s->users_len++] = 0;
	s->users[s->users_len++] = geteuid();
	for (; *named; named++)
		if (s->users_len == STS_SERVICE_USERS || !uint0_scan(*named, &s->users[s->users_len++]))
			strerr_dieusage(EXIT_PERM, USAGE);
}

static void
start(struct parent *p, struct sts_service *s)
{
	sigset_t set;
	int ends[2];

	sigprocmask(SIG_BLOCK, NULL, &p->outside);
	signal(SIGPIPE, SIG_IGN);
	p->signals = selfpipe_init();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	if (p->signals < 0 || !selfpipe_trapset(&set))
		strerr_diefusys(EXIT_TEMP, "prepare for signals");
	s->listener = service_socket_listen(STS_SOCKET);
	if (s->listener < 0)
		strerr_diefusys(EXIT_TEMP, "listen at " STS_SOCKET " (qmail-setup makes its directory)");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		strerr_diefusys(EXIT_TEMP, "make sockets");
	p->service = ends[0];
	s->fetcher = ends[1];
	p->service_pid = fork();
	if (p->service_pid < 0)
		strerr_diefusys(EXIT_TEMP, "fork");
	if (p->service_pid == 0) {
		leave_parent(p);
		close(p->service);
		run_service(s, p->notify);
	}
	close(s->fetcher);
	close(s->listener);
	if (p->notify)
		close((int)p->notify);
}

static void
parse_options(struct parent *p, int argc, char *const *argv)
{
	int c;

	while ((c = getopt(argc, argv, "d:")) >= 0)
		if (c != 'd' || !uint0_scan(optarg, &p->notify))
			strerr_dieusage(EXIT_PERM, USAGE);
}

int
main(int argc, char *const *argv)
{
	static struct parent p;
	static struct sts_service s;

	PROG = "qmail-mtastsd";
	parse_options(&p, argc, argv);
	if (geteuid() == 0)
		strerr_dief(EXIT_PERM, "never as root: run it as qmailm");
	take_users(&s, argv + optind);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	start(&p, &s);
	run_parent(&p);
	return EXIT_OK;
}
