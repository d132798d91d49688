#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "client_limits.h"
#include "control/control.h"
#include "endpoint.h"
#include "exitcode.h"
#include "handover.h"
#include "held_signals.h"
#include "ip_address.h"
#include "lingering.h"
#include "listener.h"
#include "monotonic.h"
#include "place.h"
#include "readiness.h"
#include "rules.h"
#include "shortage.h"
#include "unforked.h"

enum {
	ACCEPTS = 256,			/* connections taken in one turn, before processes start for any of them */
	FORKS = 4,			/* in that turn, before it is seen who has come meanwhile */
	WORDS = 64,			/* of children heard in one turn */
	EVENTS = LISTENER_SOCKETS_MAX + 1,
	STARTS = 4,			/* processes that start at once, but for those of networks with no more than PROMPT connections */
	PROMPT = 2,
	START_MS = 1000,		/* a process that has not said by then that it has started is taken for one that has */
	WAITING_MAX = 1000,		/* connections whose processes are to be started */
	WAITING_LEAST = 16,		/* as many in any case */
	DESCRIPTORS = 200,		/* that the parent may need for all else */
	PAUSE_MS = 100,			/* after the first accept or fork that failed; doubled each time up to */
	PAUSE_MS_MAX = 2000,
	LOG_LINES = 20,			/* in LOG_MS; what is more is counted */
	LOG_MS = 1000,
	VARIABLES_MAX = 64 * 1024,	/* octets of a rule's variables */
};

/* A process that serves. */
struct child {
	pid_t pid;
	enum { IS_STARTING, IN_SESSION, IS_IDLE, IS_ENDING } state;	/* IS_ENDING: it counts no more, and was told to end */
	struct endpoint remote;		/* the client's address; one child never gets another */
	unsigned int generation;	/* of the rules that it was started under; it never serves under others */
	uint64_t start_until;		/* it IS_STARTING no longer than that */
};

/* A connection that was accepted, and is not given to a child yet. */
struct newcomer {
	int fd;
	struct endpoint remote;
};

/* A child that waits for its next connection: fd is the parent's end of its socket, which goes back with the connection. */
struct idle {
	pid_t pid;
	int fd;
	ip46 address;
	uint64_t until;
};

struct listener {
	const struct listener_config *config;
	int sockets[LISTENER_SOCKETS_MAX];
	unsigned int sockets_len;
	pid_t self;
	int epoll;
	int ask[2];		/* children say on [1], and the parent hears on [0], who wants another connection; -1: none may */
	sigset_t outside;	/* the signals that were blocked before */
	struct rules rules;
	struct client_limits limits;
	stralloc variables;
	struct child *children;		/* children do not get it, nor limits */
	size_t children_len, children_max;
	struct idle idle[LISTENER_IDLE_MAX];	/* the longest waiting first */
	unsigned int idle_len;
	unsigned int starting;		/* children that are IS_STARTING */
	struct newcomer waiting[WAITING_MAX];	/* they count as connections; the longest waiting first */
	unsigned int waiting_len, waiting_max;
	int is_turn_of_first;	/* the next place to start is for the longest waiting, not for the network with the fewest connections */
	int is_behind;		/* more of them may be served than one turn has time for */
	int is_paused;
	unsigned int pause_ms;
	uint64_t pause_until, now;
	unsigned int log_lines, log_left_out;
	uint64_t log_since;
};

/* What a process that listener_serve made knows; in all others it is zero. */
static struct {
	int is_child;
	unsigned int left;	/* connections that it may still ask for */
	int has_asked;
	int socket;		/* its end of the pair, on which the next connection comes */
	int parents_end;
	int ask;
} self;

static volatile sig_atomic_t is_stopping, children_ended;

static void
on_signal(int sig)
{
	if (sig == SIGTERM)
		is_stopping = 1;
	else
		children_ended = 1;
}

/* --- configuration ---------------------------------------------------------------------------- */

/* 0 is no limit but ours. */
static int
read_limit_file(unsigned long *to, const char *file)
{
	int r = control_number(to, file, LISTENER_LIMIT_MAX);

	if (!*to)
		*to = LISTENER_LIMIT_MAX;
	return r >= 0;
}

int
listener_config_init(struct listener_config *c)
{
	static stralloc me;

	*c = (struct listener_config){ .most = LISTENER_MOST, .most_address = LISTENER_MOST_ADDRESS,
	    .most_prefix = LISTENER_MOST_PREFIX };
	if (control_line(&me, "control/me") < 0 || !stralloc_0(&me))
		return 0;
	c->host = *me.s ? me.s : NULL;
	return read_limit_file(&c->most, "control/concurrencyincoming") &&
	    read_limit_file(&c->most_address, "control/concurrencyaddress") &&
	    read_limit_file(&c->most_prefix, "control/concurrencyprefix");
}

static int
read_limit(unsigned long *to, const char *arg)
{
	return ulong0_scan(arg, to) && *to && *to <= LISTENER_LIMIT_MAX;
}

int
listener_option(struct listener_config *c, int option, const char *arg)
{
	switch (option) {
	case 'a': return read_limit(&c->most_address, arg);
	case 'c': return read_limit(&c->most, arg);
	case 'n': return read_limit(&c->most_prefix, arg);
	case 'd': return uint0_scan(arg, &c->notify) != 0;
	case 'x': c->rules = arg; return 1;
	case 'X': c->rules_may_lack = 1; return 1;
	default: return 0;
	}
}

int
listener_is(int fd)
{
	int listens = 0;
	socklen_t len = sizeof listens;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

/* --- the log -------------------------------------------------------------------------------------- */

/* Writes a line if that can be done without waiting. */
static void
write_line(const char *line, size_t len)
{
	struct pollfd log = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&log, 1, 0) == 1 && (log.revents & POLLOUT) && write(STDERR_FILENO, line, len) < 0)
		return;
}

static void
say(const char *kind, const char *what, const char *detail)
{
	char line[512];
	int n = snprintf(line, sizeof line, "%s: %s: %s%s%s\n", PROG, kind, what, detail ? ": " : "", detail ? detail : "");

	if (n > 0 && (size_t)n < sizeof line)
		write_line(line, (size_t)n);
}

/* Whether a line may be written: LOG_LINES in LOG_MS. Says how many were not, once there is room again. */
static int
may_log(struct listener *l)
{
	if (l->now >= l->log_since + LOG_MS) {
		char number[UINT_FMT];

		number[uint_fmt(number, l->log_left_out)] = '\0';
		if (l->log_left_out)
			say("warning", "refused or failed, and not logged one by one", number);
		l->log_since = l->now;
		l->log_lines = l->log_left_out = 0;
	}
	if (l->log_lines == LOG_LINES) {
		l->log_left_out++;
		return 0;
	}
	l->log_lines++;
	return 1;
}

static void
log_trouble(struct listener *l, const char *what)
{
	int e = errno;

	if (may_log(l))
		say("warning", what, strerror(e));
}

/* --- children ------------------------------------------------------------------------------------- */

static struct child *
find_child(struct listener *l, pid_t pid)
{
	for (size_t i = 0; i < l->children_len; i++)
		if (l->children[i].pid == pid)
			return &l->children[i];
	return NULL;
}

static void
forget_idle(struct listener *l, unsigned int i)
{
	lingering_close(l->idle[i].fd);
	memmove(l->idle + i, l->idle + i + 1, (l->idle_len - i - 1) * sizeof *l->idle);
	l->idle_len--;
}

/* Tells the idle child i to end: it sees the end of its socket. */
static void
dismiss(struct listener *l, unsigned int i)
{
	struct child *child = find_child(l, l->idle[i].pid);

	if (child)
		child->state = IS_ENDING;
	forget_idle(l, i);
}

static void
dismiss_all(struct listener *l)
{
	while (l->idle_len)
		dismiss(l, 0);
}

/* The child is no longer one that starts. */
static void
has_started(struct listener *l, struct child *child)
{
	if (child->state != IS_STARTING)
		return;
	child->state = IN_SESSION;
	l->starting--;
}

static void
reap(struct listener *l)
{
	pid_t pid;
	int wstat;

	children_ended = 0;
	while ((pid = waitpid(-1, &wstat, WNOHANG)) > 0) {
		struct child *child = find_child(l, pid);

		if (!child)
			continue;	/* the program's own */
		for (unsigned int i = 0; i < l->idle_len; i++)
			if (l->idle[i].pid == pid)
				forget_idle(l, i--);
		has_started(l, child);
		if (child->state == IN_SESSION)
			client_limits_give(&l->limits, &child->remote.address);
		if (WIFSIGNALED(wstat) && may_log(l)) {
			char text[64], ip[IP46_FMT + 1];

			ip[ip46_fmt(ip, &child->remote.address)] = '\0';
			snprintf(text, sizeof text, "by signal %d", WTERMSIG(wstat));
			say(ip, "the process of this session was killed", text);
		}
		*child = l->children[--l->children_len];
	}
}

/* The socket on which children ask is of no use any more: it would be readable for ever. */
static void
end_reuse(struct listener *l)
{
	log_trouble(l, "unable to hear which processes are free, each serves one client from now on");
	dismiss_all(l);
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->ask[0], NULL);
	close(l->ask[0]);
	close(l->ask[1]);
	l->ask[0] = l->ask[1] = -1;
}

/* Children say that they have started, or that their sessions ended in good order. */
static void
hear_children(struct listener *l)
{
	pid_t pid;
	int fd;

	for (int i = 0; i < WORDS; i++) {
		struct child *child;

		if (!handover_hear(l->ask[0], &pid, &fd)) {
			if (errno != EAGAIN && errno != EINTR && !is_shortage(errno))
				end_reuse(l);
			return;
		}
		child = find_child(l, pid);
		if (child)
			has_started(l, child);
		if (fd < 0)
			continue;
		if (!child || child->state != IN_SESSION) {
			lingering_close(fd);
			continue;
		}
		client_limits_give(&l->limits, &child->remote.address);
		child->state = IS_IDLE;
		if (l->idle_len == LISTENER_IDLE_MAX)
			dismiss(l, 0);
		l->idle[l->idle_len++] = (struct idle){ .pid = pid, .fd = fd, .address = child->remote.address,
		    .until = l->now + LISTENER_IDLE_MS };
	}
}

static void
expire_idle(struct listener *l)
{
	while (l->idle_len && l->idle[0].until <= l->now)
		dismiss(l, 0);
}

/* --- becoming a child ------------------------------------------------------------------------------- */

static void
die_in_child(const char *what)
{
	strerr_warnwusys(what);
	_exit(EXIT_TEMP);
}

static void
set_connection(const struct endpoint *remote, const struct endpoint *local)
{
	if (!endpoint_set_environment(remote, local))
		die_in_child("set the environment of a session");
}

static void
set_variables(const stralloc *variables)
{
	for (size_t at = 0; at < variables->len; at += strlen(variables->s + at) + 1)
		if (putenv(variables->s + at) != 0)
			die_in_child("set the environment of a session");
}

/* Only the connection, the end of ask and the child's own pair are left of the parent's descriptors. */
static void
arrange_descriptors(struct listener *l, int connection)
{
	close(l->epoll);
	rules_close(&l->rules);
	for (unsigned int i = 0; i < l->sockets_len; i++)
		if (l->sockets[i] > STDERR_FILENO)
			close(l->sockets[i]);
	for (unsigned int i = 0; i < l->idle_len; i++)
		close(l->idle[i].fd);
	for (unsigned int i = 0; i < l->waiting_len; i++)
		close(l->waiting[i].fd);
	if (l->ask[0] >= 0)
		close(l->ask[0]);
	if (dup2(connection, STDIN_FILENO) < 0 || dup2(connection, STDOUT_FILENO) < 0)
		die_in_child("arrange the descriptors of a session");
	close(connection);
}

static void
prepare_next(struct listener *l)
{
	int pair[2];

	self.ask = l->ask[1];
	if (l->ask[1] < 0)
		return;
	if (!handover_pair(pair)) {
		close(l->ask[1]);
		return;
	}
	self.left = l->config->reuse - 1;
	self.socket = pair[0];
	self.parents_end = pair[1];
}

static void
become_child(struct listener *l, const struct newcomer *n)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	struct endpoint local = { .port = 0 };
	int with_local;

	sigaction(SIGCHLD, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != l->self)
		is_stopping = 1;
	sigprocmask(SIG_SETMASK, &l->outside, NULL);
	self.is_child = 1;
	with_local = endpoint_local(&local, n->fd);
	arrange_descriptors(l, n->fd);
	prepare_next(l);
	set_connection(&n->remote, with_local ? &local : NULL);
	set_variables(&l->variables);
}

/* --- refusing ----------------------------------------------------------------------------------------- */

static void
refuse(struct listener *l, const struct newcomer *n, const char *why, const char *reply)
{
	char ip[IP46_FMT + 1];

	ssize_t sent = reply ? send(n->fd, reply, strlen(reply), MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	(void)sent;	/* it may be gone already */
	close(n->fd);
	ip[ip46_fmt(ip, &n->remote.address)] = '\0';
	if (may_log(l))
		say("refused", ip, why);
}

/* Stops accepting for a while. */
static void
pause_accepting(struct listener *l)
{
	l->pause_ms = l->pause_ms ? l->pause_ms * 2 : PAUSE_MS;
	if (l->pause_ms > PAUSE_MS_MAX)
		l->pause_ms = PAUSE_MS_MAX;
	l->pause_until = l->now + l->pause_ms;
	l->is_paused = 1;
	for (unsigned int i = 0; i < l->sockets_len; i++)
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->sockets[i], NULL);
}

static int
start_accepting(struct listener *l)
{
	l->is_paused = 0;
	for (unsigned int i = 0; i < l->sockets_len; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.fd = l->sockets[i] };

		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->sockets[i], &e) < 0)
			return 0;
	}
	return 1;
}

/* --- a new connection ------------------------------------------------------------------------------- */

/* Hands the connection to the idle child i. 1, or 0 if that child cannot have it. */
static int
hand_over(struct listener *l, unsigned int i, const struct newcomer *n)
{
	struct child *child = find_child(l, l->idle[i].pid);
	struct handover handover;

	memset(&handover, 0, sizeof handover);
	handover.remote = n->remote;
	handover.with_local = endpoint_local(&handover.local, n->fd);
	if (!child || child->generation != l->rules.generation || !handover_send(l->idle[i].fd, n->fd, &handover)) {
		dismiss(l, i);
		return 0;
	}
	child->state = IN_SESSION;
	forget_idle(l, i);
	close(n->fd);
	return 1;
}

/* Gives the connection to an idle child that has served this address under the same rules, the last one to become idle:
 * those that are not needed see nothing and end. 1 if one took it. */
static int
give_to_idle(struct listener *l, const struct newcomer *n)
{
	for (unsigned int i = l->idle_len; i > 0; i--) {
		if (!ip_address_is_same(&l->idle[i - 1].address, &n->remote.address))
			continue;
		if (client_limits_take(&l->limits, &n->remote.address) != CLIENT_LIMITS_FINE)
			return 0;	/* it is refused on the long way */
		if (hand_over(l, i - 1, n))
			return 1;
		client_limits_give(&l->limits, &n->remote.address);
	}
	return 0;
}

/* The same; and before the answer is no, those that have just become idle are heard: a fork costs far more. */
static int
reuse(struct listener *l, const struct newcomer *n)
{
	if (l->ask[0] < 0)
		return 0;
	if (give_to_idle(l, n))
		return 1;
	hear_children(l);
	return give_to_idle(l, n);
}

/* Whether the rules let the address in; if not, the connection is closed. */
static int
is_allowed(struct listener *l, const struct newcomer *n)
{
	switch (rules_find(&l->rules, &n->remote.address, &l->variables)) {
	case RULES_ALLOW:
		if (l->variables.len <= VARIABLES_MAX)
			return 1;
		errno = EMSGSIZE;
		break;
	case RULES_DENY:
		refuse(l, n, "denied by the rules", NULL);
		return 0;
	case RULES_NO_FILE:
		refuse(l, n, "there is no table of rules", l->config->busy);
		return 0;
	case RULES_TROUBLE:
		break;
	}
	log_trouble(l, "unable to read the rules");
	refuse(l, n, "the rules cannot be read", l->config->busy);
	return 0;
}

static enum client_limits_answer
ask_limits(struct listener *l, const ip46 *address)
{
	return l->children_len == l->children_max ? CLIENT_LIMITS_ALL : client_limits_take(&l->limits, address);
}

/* Whether the limits let it in; if so it counts. Before the answer is no, processes that have just ended are counted off: forks take so
 * long that a client may have come again in the same turn. */
static int
is_within_limits(struct listener *l, const struct newcomer *n)
{
	static const char *const why[] = { [CLIENT_LIMITS_ALL] = "as many connections as there may be",
		[CLIENT_LIMITS_ADDRESS] = "as many connections as of one address", [CLIENT_LIMITS_PREFIX] = "as many connections as of one network" };
	enum client_limits_answer answer = ask_limits(l, &n->remote.address);

	if (answer != CLIENT_LIMITS_FINE) {
		reap(l);
		answer = ask_limits(l, &n->remote.address);
	}
	if (answer == CLIENT_LIMITS_FINE)
		return 1;
	refuse(l, n, why[answer], l->config->busy);
	return 0;
}

/* Starts a process for a connection that counts. Returns 1 in it, else 0. */
static int
start_child(struct listener *l, const struct newcomer *n)
{
	pid_t pid;

	if (l->config->prepare)
		l->config->prepare(l->config->data);
	pid = fork();
	if (pid == 0) {
		become_child(l, n);
		return 1;
	}
	if (pid < 0) {
		log_trouble(l, "unable to fork");
		client_limits_give(&l->limits, &n->remote.address);
		refuse(l, n, "no process can be started", l->config->busy);
		pause_accepting(l);
		return 0;
	}
	close(n->fd);
	l->now = monotonic_ms();	/* forks take so long that the turn's is past */
	l->children[l->children_len++] = (struct child){ .pid = pid, .state = IS_STARTING, .remote = n->remote,
	    .generation = l->rules.generation, .start_until = l->now + START_MS };
	l->starting++;
	l->pause_ms = 0;
	return 0;
}

/* Gives the connection to an idle child, or refuses it. Returns 1 if it needs a process, and counts. */
static int
needs_process(struct listener *l, const struct newcomer *n)
{
	rules_refresh(&l->rules);
	return !reuse(l, n) && is_allowed(l, n) && is_within_limits(l, n);
}

/* Takes the ith of those that wait, which counts no longer. */
static struct newcomer
take_waiting(struct listener *l, unsigned int i)
{
	struct newcomer n = l->waiting[i];

	memmove(l->waiting + i, l->waiting + i + 1, (--l->waiting_len - i) * sizeof *l->waiting);
	client_limits_give(&l->limits, &n.remote.address);
	return n;
}

/* The first of those that wait whose network has the fewest connections. */
static unsigned int
least_present(const struct listener *l)
{
	unsigned int least = 0;
	size_t fewest = SIZE_MAX;

	for (unsigned int i = 0; i < l->waiting_len; i++) {
		size_t present = client_limits_of_prefix(&l->limits, &l->waiting[i].remote.address);

		if (present < fewest) {
			fewest = present;
			least = i;
		}
	}
	return least;
}

/* Whose process may start now, of those who wait: by turns whose network has the fewest connections, so that who opens one is not
 * behind who opens hundreds, and who waits longest, so that nobody waits for ever; where enough start already, only one of the former
 * with no more than PROMPT. -1: nobody's. */
static int
next_to_start(struct listener *l)
{
	unsigned int least, next;

	if (!l->waiting_len)
		return -1;
	least = least_present(l);
	/* without ask nobody hears who has started; where no more can wait, those that still come would not even be seen */
	if (l->starting < STARTS || l->ask[0] < 0 || l->waiting_len == l->waiting_max) {
		next = l->is_turn_of_first ? 0 : least;
		if (l->waiting_len > 1)
			l->is_turn_of_first = !l->is_turn_of_first;
		return (int)next;
	}
	return client_limits_of_prefix(&l->limits, &l->waiting[least].remote.address) <= PROMPT ? (int)least : -1;
}

/* Serves those who wait, up to FORKS of them. Returns 1 in a child, else 0. */
static int
serve_waiting(struct listener *l)
{
	l->is_behind = 0;
	for (int served = 0, next; !l->is_paused && !is_stopping; served++) {
		struct newcomer n;

		if (served == FORKS) {
			l->is_behind = l->waiting_len > 0;
			break;
		}
		next = next_to_start(l);
		if (next < 0)
			break;
		n = take_waiting(l, (unsigned int)next);
		/* asked again: meanwhile a child may be free, or the rules others */
		if (needs_process(l, &n) && start_child(l, &n))
			return 1;
	}
	return 0;
}

static void
refuse_waiting(struct listener *l)
{
	while (l->waiting_len) {
		struct newcomer n = take_waiting(l, 0);

		refuse(l, &n, "the server is being stopped", l->config->busy);
	}
}

/* Those that should have started by now; it is of no interest unless somebody waits for them. */
static void
expire_starting(struct listener *l)
{
	for (size_t i = 0; l->waiting_len && i < l->children_len; i++)
		if (l->children[i].start_until <= l->now)
			has_started(l, &l->children[i]);
}

/* When the first of them should have. UINT64_MAX: none starts. */
static uint64_t
next_started(const struct listener *l)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < l->children_len; i++)
		if (l->children[i].state == IS_STARTING && l->children[i].start_until < first)
			first = l->children[i].start_until;
	return first;
}

/* What accept says of a connection that failed before it was taken; accept(2) counts the network's own errors in. */
static int
is_passing(int error)
{
	switch (error) {
	case EINTR: case ECONNABORTED: case EPROTO: case ENETDOWN: case ENOPROTOOPT: case EHOSTDOWN: case ENONET:
	case EHOSTUNREACH: case EOPNOTSUPP: case ENETUNREACH: case ETIMEDOUT: case EPERM:
		return 1;
	default:
		return 0;
	}
}

/* Takes what waits at a socket, up to ACCEPTS. */
static void
accept_some(struct listener *l, int listening)
{
	for (int i = 0; i < ACCEPTS && l->waiting_len < l->waiting_max && !l->is_paused; i++) {
		union endpoint_room room = { .any.sa_family = AF_UNSPEC };
		socklen_t len = sizeof room;
		struct newcomer n = { .fd = accept4(listening, &room.any, &len, SOCK_CLOEXEC) };

		if (n.fd < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				return;
			if (is_passing(errno))
				continue;
			if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
				strerr_diefusys(EXIT_TEMP, "accept connections");
			log_trouble(l, "unable to accept a connection");
			pause_accepting(l);
			return;
		}
		if (!endpoint_read(&n.remote, &room))
			close(n.fd);
		else if (needs_process(l, &n))
			l->waiting[l->waiting_len++] = n;
	}
}

/* --- the loop --------------------------------------------------------------------------------------- */

/* Milliseconds until something is due without an event; -1 never. */
static int
patience(const struct listener *l, uint64_t until)
{
	uint64_t start = l->waiting_len ? next_started(l) : UINT64_MAX;

	if (l->is_paused && l->pause_until < until)
		until = l->pause_until;
	if (l->idle_len && l->idle[0].until < until)
		until = l->idle[0].until;
	if (start < until)
		until = start;
	if (l->log_left_out && l->log_since + LOG_MS < until)
		until = l->log_since + LOG_MS;
	if (l->is_behind)
		return 0;
	if (until == UINT64_MAX)
		return -1;
	return until > l->now ? (int)(until - l->now) : 0;
}

/* Waits for events, and does what has become due. Returns the events, 0 none. until: UINT64_MAX for ever. */
static int
await(struct listener *l, struct epoll_event events[EVENTS], uint64_t until)
{
	int n = epoll_pwait(l->epoll, events, EVENTS, patience(l, until), &l->outside);

	if (n < 0 && errno != EINTR)
		strerr_diefusys(EXIT_TEMP, "wait for connections");
	if (n > 0)
		held_signals_let_in(&l->outside);
	l->now = monotonic_ms();
	/* before the connections: one of them may be for a child that has just become idle */
	for (int i = 0; i < n; i++)
		if (events[i].data.fd == l->ask[0]) {
			hear_children(l);
			events[i].data.fd = -1;
		}
	if (children_ended)
		reap(l);
	expire_idle(l);
	expire_starting(l);
	if (l->log_left_out && l->now >= l->log_since + LOG_MS)
		l->log_lines -= (unsigned int)may_log(l);
	return n > 0 ? n : 0;
}

/* Stops: no new connections, and the sessions have LISTENER_STOP seconds to end. */
static void
stop(struct listener *l)
{
	struct epoll_event events[EVENTS];
	uint64_t deadline = l->now + LISTENER_STOP * 1000;
	int was_killed = 0;

	for (unsigned int i = 0; i < l->sockets_len; i++) {
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->sockets[i], NULL);
		close(l->sockets[i]);
	}
	l->is_paused = 0;
	refuse_waiting(l);
	for (size_t i = 0; i < l->children_len; i++)
		kill(l->children[i].pid, SIGTERM);
	while (l->children_len) {
		dismiss_all(l);
		await(l, events, deadline);
		if (l->now < deadline)
			continue;
		if (was_killed)
			break;
		was_killed = 1;
		deadline = l->now + 1000;
		for (size_t i = 0; i < l->children_len; i++)
			kill(l->children[i].pid, SIGKILL);
	}
	exit(EXIT_OK);
}

/* --- the start ---------------------------------------------------------------------------------------- */

static void
add_socket(struct listener *l, int fd)
{
	int flags = fcntl(fd, F_GETFL), on = 1;

	if (l->sockets_len == LISTENER_SOCKETS_MAX)
		strerr_dief(EXIT_TEMP, "too many listening sockets");
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		strerr_diefusys(EXIT_TEMP, "prepare a listening socket");
	/* connections inherit both: no reply is held back for an acknowledgement, and a client that vanished is noticed */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	l->sockets[l->sockets_len++] = fd;
}

static void
find_sockets(struct listener *l)
{
	const char *extra = getenv("LISTEN_EXTRA");

	add_socket(l, STDIN_FILENO);
	for (unsigned int fd; extra && *extra; extra += *extra == ' ') {
		size_t n = uint_scan(extra, &fd);

		if (!n || (extra[n] && extra[n] != ' ') || !listener_is((int)fd))
			strerr_dief(EXIT_TEMP, "LISTEN_EXTRA names no listening sockets");
		add_socket(l, (int)fd);
		extra += n;
	}
	unsetenv("LISTEN_EXTRA");
}

static void
trap_signals(struct listener *l)
{
	if (!held_signals_take((const int[]){ SIGTERM, SIGCHLD, 0 }, on_signal, &l->outside))
		strerr_diefusys(EXIT_TEMP, "trap signals");
	signal(SIGHUP, SIG_IGN);	/* there is nothing to be told: what has changed is read anew by itself */
}

/* As many may wait as there are descriptors for. */
static void
bound_waiting(struct listener *l)
{
	struct rlimit descriptors;

	l->waiting_max = WAITING_LEAST;
	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_cur > DESCRIPTORS + WAITING_LEAST)
		l->waiting_max = descriptors.rlim_cur - DESCRIPTORS < WAITING_MAX ? (unsigned int)descriptors.rlim_cur - DESCRIPTORS : WAITING_MAX;
}

/* The socket on which children ask for more. */
static void
prepare_reuse(struct listener *l)
{
	struct epoll_event e = { .events = EPOLLIN };

	l->ask[0] = l->ask[1] = -1;
	if (l->config->reuse < 2)
		return;
	if (!handover_share(l->ask))
		strerr_diefusys(EXIT_TEMP, "make a socket");
	e.data.fd = l->ask[0];
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->ask[0], &e) < 0)
		strerr_diefusys(EXIT_TEMP, "wait for children");
}

static void
start(struct listener *l)
{
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			strerr_diefusys(EXIT_TEMP, "open /dev/null");
	l->now = monotonic_ms();
	l->self = getpid();
	l->children_max = l->config->most + 2 * LISTENER_IDLE_MAX;
	l->children = unforked_alloc(l->children_max * sizeof *l->children);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!l->children || l->epoll < 0 ||
	    !client_limits_init(&l->limits, l->config->most, l->config->most_address, l->config->most_prefix))
		strerr_diefusys(EXIT_TEMP, "prepare for connections");
	if (!endpoint_clear_environment() || (l->config->host && setenv("TCPLOCALHOST", l->config->host, 1) < 0))
		strerr_diefusys(EXIT_TEMP, "set the environment");
	rules_init(&l->rules, l->config->rules, l->config->rules_may_lack);
	rules_refresh(&l->rules);
	trap_signals(l);
	find_sockets(l);
	bound_waiting(l);
	prepare_reuse(l);
	if (!start_accepting(l))
		strerr_diefusys(EXIT_TEMP, "wait for connections");
	readiness_tell(l->config->notify);
}

void
listener_serve(const struct listener_config *c)
{
	static struct listener listener;
	struct listener *l = &listener;
	struct epoll_event events[EVENTS];

	*l = (struct listener){ .config = c };
	start(l);
	for (;;) {
		int n = await(l, events, UINT64_MAX);

		if (is_stopping)
			stop(l);
		if (l->is_paused && l->now >= l->pause_until && !start_accepting(l))
			strerr_diefusys(EXIT_TEMP, "wait for connections");
		for (int i = 0; i < n; i++)
			if (events[i].data.fd >= 0)
				accept_some(l, events[i].data.fd);
		if (serve_waiting(l))
			return;
	}
}

/* --- in a child ----------------------------------------------------------------------------------------- */

int
listener_is_stopping(void)
{
	return is_stopping;
}

void
listener_ready(void)
{
	if (self.is_child && self.left)
		handover_start(self.ask);
}

void
listener_offer(void)
{
	if (!self.is_child || !self.left || self.has_asked || is_stopping)
		return;
	self.left--;
	self.has_asked = handover_ask(self.ask, self.parents_end);
	if (!self.has_asked)
		self.left = 0;
}

void
listener_keep_to_one(void)
{
	if (!self.left)
		return;
	listener_ready();
	self.left = 0;
	close(self.ask);
	close(self.socket);
	close(self.parents_end);
}

int
listener_next(void)
{
	struct handover handover;
	int connection, end;

	listener_offer();
	if (!self.has_asked)
		return 0;
	self.has_asked = 0;
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	if (!handover_receive(self.socket, &handover, &connection, &end)) {
		self.left = 0;
		return 0;
	}
	/* the end first: it must not take the place of 0 or 1 */
	self.parents_end = fcntl(end, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(end);
	if (self.parents_end < 0 || !place_connection(connection, connection) ||
	    !endpoint_set_environment(&handover.remote, handover.with_local ? &handover.local : NULL))
		_exit(EXIT_TEMP);
	return 1;
}
