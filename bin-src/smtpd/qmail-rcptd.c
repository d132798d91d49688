/* qmail-rcptd: say whether mail for an address delivers.
 * Trust: it is asked by the network servers about anybody's addresses. Runs as qmailp, never as root, writes nothing, and
 * gives away nothing but what any user of qmailp's groups sees of users/cdb, the user database and homes. The loop shuts
 * itself in before the first question; the processes of slow_lookup cannot, and see local parts and homes only. Who may ask
 * is decided by uid, as the kernel says it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/selfpipe.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include <skalibs/uint32.h>
#include "exitcode.h"
#include "home.h"
#include "known.h"
#include "lingering.h"
#include "monotonic.h"
#include "deliverable.h"
#include "fresh_routes.h"
#include "rcptcheck.h"
#include "readiness.h"
#include "sandbox.h"
#include "service_socket.h"
#include "shortage.h"
#include "slow_lookup.h"

#define USAGE "qmail-rcptd [ -d notification-fd ] [ user ... ]"

enum {
	CLIENTS_MAX = 4000,	/* connections */
	EVENTS = 64,		/* taken in one turn */
	USERS_MAX = 32,		/* who may ask */
	GENERATION = 0xfffffff,
	NUMBER = 4,		/* octets of a question's number */
	PAUSE_MS = 100,		/* before accepting again when there was no descriptor */
	SAY_MS = 60000,		/* the same warning is said as often */
	MEMORY_MAX = SANDBOX_MEMORY(768 << 20),	/* octets of address space: the tables, twice while one is read anew */
};

/* What an event is about: its data is the kind, of a client 28 bits of the generation, and a number. */
enum source { SOURCE_SIGNALS, SOURCE_LISTENER, SOURCE_PROCESS, SOURCE_CLIENT };

struct client {
	int fd;			/* -1: free */
	uint32_t generation;	/* which connection in this place */
	uint32_t number;	/* of the question that a slow lookup works at */
	int waits;		/* for it: no other question is read meanwhile */
	int is_muted;		/* it asked on meanwhile, and is not listened to */
	char *address;		/* what it waits for an answer about, to be remembered; NULL if there was no memory */
};

struct rcptd {
	int epoll, signals, listener;
	uint64_t now;			/* monotonic_ms of this turn */
	uint64_t paused_until;		/* accepting; 0: it is not paused */
	uint64_t refusal_said;
	uid_t users[USERS_MAX];
	unsigned int users_len;
	struct fresh_routes rules;
	struct deliverable deliverable;
	struct slow_lookups slow;
	struct known known;
	struct client clients[CLIENTS_MAX];
	unsigned int free_from;		/* no place below is free */
	char home[HOME_PATH_MAX];	/* its path, ended by '/' */
	int stop;
};

/* A logger that does not read must not stop the answers. */
static void
say(const char *kind, const char *what, const char *name)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&p, 1, 0) == 1)
		strerr_warn(PROG, ": ", kind, ": ", what, name ? ": " : NULL, name);
}

static int
watch(const struct rcptd *p, int operation, int fd, uint32_t events, enum source kind, unsigned int i)
{
	uint64_t generation = kind == SOURCE_CLIENT ? p->clients[i].generation & GENERATION : 0;
	struct epoll_event e = { .events = events, .data.u64 = (uint64_t)kind << 60 | generation << 32 | i };

	return epoll_ctl(p->epoll, operation, fd, &e) == 0;
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static uint64_t
name_of(const struct rcptd *p, unsigned int i)
{
	return (uint64_t)p->clients[i].generation << 32 | i;
}

static void
drop(struct rcptd *p, unsigned int i)
{
	struct client *c = &p->clients[i];

	if (c->waits)
		slow_lookup_forget(&p->slow, name_of(p, i));
	lingering_close(c->fd);
	free(c->address);
	c->address = NULL;
	c->fd = -1;
	c->waits = c->is_muted = 0;
	c->generation++;
	if (i < p->free_from)
		p->free_from = i;
}

/* Sends an answer. A client that does not take its answers is dropped. Returns 1 if it is still there. */
static int
answer(struct rcptd *p, unsigned int i, uint32_t number, const struct verdict *v)
{
	char packet[NUMBER + 1];
	struct iovec parts[2] = { { packet, sizeof packet }, { (char *)(uintptr_t)v->text, strlen(v->text) } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	struct verdict doubtful;

	if (v->answer == RCPT_UNKNOWN && p->rules.in_doubt) {
		verdict_set(&doubtful, RCPT_CANNOT_KNOW, "control files are being changed, or cannot be read: ", v->text, NULL);
		v = &doubtful;
		parts[1] = (struct iovec){ doubtful.text, strlen(doubtful.text) };
	}
	uint32_pack_big(packet, number);
	packet[NUMBER] = (char)v->answer;
	if (sendmsg(p->clients[i].fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 1;
	drop(p, i);
	return 0;
}

/* From slow_lookup: an answer to what name asked. */
static void
take_slow_answer(void *context, uint64_t name, const struct verdict *v)
{
	struct rcptd *p = context;
	unsigned int i = (unsigned int)(name & UINT32_MAX);
	struct client *c = &p->clients[i];

	if (c->fd < 0 || !c->waits || name_of(p, i) != name)
		return;
	if (v->answer == RCPT_DELIVERS && c->address)
		known_add(&p->known, c->address, v->text, p->now);
	free(c->address);
	c->address = NULL;
	c->waits = 0;
	if (!answer(p, i, c->number, v) || !c->is_muted)
		return;
	c->is_muted = 0;
	if (!watch(p, EPOLL_CTL_MOD, c->fd, EPOLLIN, SOURCE_CLIENT, i))
		drop(p, i);
}

/* Whether home lies in the qmail home, where nothing works anyway if its file system does not. */
static int
is_near(const struct rcptd *p, const char *home)
{
	size_t len = strlen(p->home);

	return *home != '/' || strncmp(home, p->home, len) == 0;
}

static void
look_at_rules(struct rcptd *p)
{
	unsigned long reads = p->rules.reads;
	const char *trouble = fresh_routes_look(&p->rules, p->now);

	if (p->rules.reads != reads)
		known_forget(&p->known);
	if (trouble)
		say("alert", "unable to read control files again, the old ones stay", trouble);
}

/* One question: address, NUL-terminated. */
static void
judge(struct rcptd *p, unsigned int i, uint32_t number, const char *address)
{
	struct client *c = &p->clients[i];
	struct account *account = &p->deliverable.account;
	struct verdict v;
	enum deliverable_step step;
	const char *reason;

	look_at_rules(p);
	reason = known_find(&p->known, address, p->now);
	if (reason) {
		verdict_set(&v, RCPT_DELIVERS, reason, NULL);
		answer(p, i, number, &v);
		return;
	}
	step = deliverable_begin(&p->deliverable, &p->rules.route, address, &v);
	if (step == DELIVERABLE_HOME && is_near(p, account->home)) {
		deliverable_home(account->user, account->home, account->dash, account->ext, &v);
		step = DELIVERABLE_ANSWERED;
	}
	if (step == DELIVERABLE_ANSWERED) {
		if (v.answer == RCPT_DELIVERS)
			known_add(&p->known, address, v.text, p->now);
		answer(p, i, number, &v);
		return;
	}
	c->number = number;
	c->waits = 1;
	c->address = strdup(address);
	/* -Wanalyzer-malloc-leak: it is of the connection */
	slow_lookup_ask(&p->slow, name_of(p, i), p->now, step, &p->deliverable);
}

/* --- clients -------------------------------------------------------------------------------------------------------- */

/* Takes a packet, if there is one. */
static void
take_question(struct rcptd *p, unsigned int i)
{
	char packet[NUMBER + RCPTCHECK_ADDRESS_MAX + 1];
	struct verdict v;
	uint32_t number;
	struct iovec room = { packet, sizeof packet - 1 };
	struct msghdr m = { .msg_iov = &room, .msg_iovlen = 1 };
	ssize_t n = lingering_recvmsg(p->clients[i].fd, &m, MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < NUMBER) {
		drop(p, i);
		return;
	}
	uint32_unpack_big(packet, &number);
	if (n == NUMBER || (size_t)n > sizeof packet - 1 || memchr(packet + NUMBER, '\0', (size_t)n - NUMBER)) {
		verdict_set(&v, RCPT_CANNOT_KNOW, "the address is empty or too long, or has a NUL in it", NULL);
		answer(p, i, number, &v);
	} else {
		packet[n] = '\0';
		judge(p, i, number, packet + NUMBER);
	}
}

static void
client_ready(struct rcptd *p, unsigned int i, uint64_t data, uint32_t events)
{
	if (p->clients[i].fd < 0 || (p->clients[i].generation & GENERATION) != (data >> 32 & GENERATION))
		return;	/* an event of one that was dropped in this turn */
	if (!p->clients[i].waits)
		take_question(p, i);
	else if (events & (EPOLLHUP | EPOLLERR))
		drop(p, i);
	else {	/* its end is still noticed */
		p->clients[i].is_muted = 1;
		if (!watch(p, EPOLL_CTL_MOD, p->clients[i].fd, 0, SOURCE_CLIENT, i))
			drop(p, i);
	}
}

/* A place for a new client, CLIENTS_MAX if there is none. */
static unsigned int
find_place(struct rcptd *p)
{
	while (p->free_from < CLIENTS_MAX && p->clients[p->free_from].fd >= 0)
		p->free_from++;
	return p->free_from;
}

static void
refuse(struct rcptd *p, int fd, const char *why, uid_t uid)
{
	char digits[UINT_FMT];

	lingering_close(fd);
	if (p->refusal_said && p->now - p->refusal_said < SAY_MS)
		return;
	p->refusal_said = p->now;
	digits[uint_fmt(digits, uid)] = '\0';
	say("warning", why, digits);
}

static void
accept_client(struct rcptd *p, int fd)
{
	uid_t uid = service_socket_peer(fd);
	unsigned int i = find_place(p);

	if (!service_socket_allows(p->users, p->users_len, uid))
		refuse(p, fd, "a user who may not ask was turned away, uid", uid);
	else if (i == CLIENTS_MAX)
		refuse(p, fd, "too many connections, one was turned away, uid", uid);
	else if (!watch(p, EPOLL_CTL_ADD, fd, EPOLLIN, SOURCE_CLIENT, i))
		close(fd);
	else {
		p->clients[i].fd = fd;
		take_question(p, i);	/* as a rule one is there */
	}
}

static void
listener_ready(struct rcptd *p)
{
	for (int n = 0; n < EVENTS; n++) {
		int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			accept_client(p, fd);
		else if (is_shortage(errno)) {
			p->paused_until = p->now + PAUSE_MS;
			watch(p, EPOLL_CTL_MOD, p->listener, 0, SOURCE_LISTENER, 0);
			return;
		} else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

static void
signals_ready(struct rcptd *p)
{
	const char *trouble;
	int sig;

	while ((sig = selfpipe_read()) > 0) {
		if (sig == SIGTERM)
			p->stop = 1;
		if (sig != SIGHUP)
			continue;
		trouble = fresh_routes_load(&p->rules);
		known_forget(&p->known);
		if (trouble)
			say("alert", "unable to read control files again, the old ones stay", trouble);
	}
}

static void
process_ready(struct rcptd *p, unsigned int i)
{
	if (!slow_lookup_take(&p->slow, i))
		strerr_dief(EXIT_TEMP, "a process of mine has ended");
}

static void
turn(struct rcptd *p)
{
	struct epoll_event events[EVENTS];
	uint64_t until = slow_lookup_expire(&p->slow, p->now);
	int n;

	if (p->paused_until && p->paused_until < until)
		until = p->paused_until;
	n = epoll_wait(p->epoll, events, EVENTS, until == UINT64_MAX ? -1 : until > p->now ? (int)(until - p->now) : 0);
	if (n < 0 && errno != EINTR)
		strerr_diefusys(EXIT_TEMP, "wait for events");
	p->now = monotonic_ms();
	if (p->paused_until && p->paused_until <= p->now) {
		p->paused_until = 0;
		watch(p, EPOLL_CTL_MOD, p->listener, EPOLLIN, SOURCE_LISTENER, 0);
	}
	for (int e = 0; e < n; e++) {
		unsigned int i = (unsigned int)(events[e].data.u64 & UINT32_MAX);

		switch ((enum source)(events[e].data.u64 >> 60)) {
		case SOURCE_SIGNALS: signals_ready(p); break;
		case SOURCE_LISTENER: listener_ready(p); break;
		case SOURCE_PROCESS: process_ready(p, i); break;
		case SOURCE_CLIENT: client_ready(p, i, events[e].data.u64, events[e].events); break;
		}
	}
}

/* --- start -------------------------------------------------------------------------------------------------------------- */

/* The mail system's own users, those that were named, root, and whoever this runs as. A user that does not exist does not
 * ask, but one that was named has to. */
static void
find_users(struct rcptd *p, char *const *named)
{
	static const char *const own[] = { "qmaild", "qmailq", "qmailr", "qmails", "alias" };
	const struct passwd *pw;

	p->users[p->users_len++] = 0;
	p->users[p->users_len++] = geteuid();
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if ((pw = getpwnam(own[i])))
			p->users[p->users_len++] = pw->pw_uid;
	for (; *named; named++) {
		if (p->users_len == USERS_MAX)
			strerr_dief(EXIT_PERM, "too many users");
		pw = getpwnam(*named);
		if (!pw)
			strerr_dief(EXIT_TEMP, "there is no user ", *named);
		p->users[p->users_len++] = pw->pw_uid;
	}
}

static void
find_home(struct rcptd *p)
{
	size_t len;

	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	/* below a directory that this user cannot enter it has no path; then no home is known to be near */
	if (!getcwd(p->home, sizeof p->home - 1) || p->home[0] != '/')
		p->home[0] = '\0';
	len = strlen(p->home);
	p->home[len] = len && p->home[len - 1] == '/' ? '\0' : '/';
	p->home[len + 1] = '\0';
}

static int
listen_here(void)
{
	int fd = service_socket_listen(RCPTCHECK_SOCKET);

	if (fd < 0)
		strerr_diefusys(EXIT_TEMP, "listen at " RCPTCHECK_SOCKET " (qmail-setup makes its directory)");
	return fd;
}

static void
prepare(struct rcptd *p)
{
	sigset_t set;

	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		p->clients[i].fd = -1;
	p->slow.answer = take_slow_answer;
	p->slow.context = p;
	if (!slow_lookup_start(&p->slow))
		strerr_diefusys(EXIT_TEMP, "start processes");
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	p->signals = selfpipe_init();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (p->epoll < 0 || p->signals < 0 || !selfpipe_trapset(&set))
		strerr_diefusys(EXIT_TEMP, "prepare for events");
	p->listener = listen_here();
	if (!watch(p, EPOLL_CTL_ADD, p->signals, EPOLLIN, SOURCE_SIGNALS, 0) ||
	    !watch(p, EPOLL_CTL_ADD, p->listener, EPOLLIN, SOURCE_LISTENER, 0))
		strerr_diefusys(EXIT_TEMP, "watch for events");
	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++)
		if (!watch(p, EPOLL_CTL_ADD, p->slow.fds[i], EPOLLIN, SOURCE_PROCESS, i))
			strerr_diefusys(EXIT_TEMP, "watch for events");
}

static void
shut_itself_in(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_lookup, .read = { "control", "users" }, .memory = MEMORY_MAX };
	int lack = sandbox_enter(&shut_in);

	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	sandbox_warn(lack);
}

static unsigned int
parse_options(int argc, char *const *argv)
{
	unsigned int notify = 0;
	int c;

	while ((c = getopt(argc, argv, "d:")) >= 0)
		if (c != 'd' || !uint0_scan(optarg, &notify))
			strerr_dieusage(EXIT_PERM, USAGE);
	return notify;
}

int
main(int argc, char *const *argv)
{
	static struct rcptd p;
	unsigned int notify;
	const char *trouble;

	PROG = "qmail-rcptd";
	notify = parse_options(argc, argv);
	if (geteuid() == 0)
		strerr_dief(EXIT_PERM, "never as root: run it as qmailp");
	find_home(&p);
	find_users(&p, argv + optind);
	trouble = fresh_routes_load(&p.rules);
	if (trouble)
		strerr_diefusys(EXIT_TEMP, "read ", trouble);
	signal(SIGPIPE, SIG_IGN);
	tzset();
	prepare(&p);
	shut_itself_in();
	readiness_tell(notify);
	p.now = monotonic_ms();
	while (!p.stop)
		turn(&p);
	return EXIT_OK;
}
