/* qmail-authd: the login keeper: checks logins for what reads the network, and starts sessions as their users.
 * Trust: root, or the one user of all accounts; so it never reads the network. It takes packets, which lib/login_protocol.h bounds,
 * from the users that are named, as the kernel says it, and runs the programs of its own command line. It looks at no password:
 * the checkpassword program does, in a process of its own. It waits for nobody. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/ip46.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "checkpassword.h"
#include "exitcode.h"
#include "file_limit.h"
#include "held_signals.h"
#include "home.h"
#include "lingering.h"
#include "login.h"
#include "login_chain.h"
#include "login_throttle.h"
#include "monotonic.h"
#include "readiness.h"
#include "service_loop.h"
#include "service_socket.h"
#include "service_users.h"
#include "submission_protocol.h"

#define USAGE "qmail-authd [ -l ] [ -c attempts ] [ -d notification-fd ] [ -n checks ] [ -u uid ] ... checkpassword [ argument ... ] [ -- session [ argument ... ] ]"

enum {
	ATTEMPTS = 500, ATTEMPTS_MAX = 10000,	/* at once, most of which wait; each has two descriptors */
	CHECKS = 20, CHECKS_MAX = 1000,		/* checkpassword programs at once; each has one more */
	OWN_FILES = 32,				/* descriptors for all else */
	REQUEST_MS = 10000,			/* for a caller to say what it wants */
	CHECK_MS = 60000,			/* for a checkpassword program */
	LOG_MAX = 1000,			/* of the log */
	USER_SHOWN = 200,			/* octets of a login in the log */
};

enum state { ASKED, WAITING, CHECKING };

struct attempt {
	enum state state;
	int caller, connection;	/* -1 none */
	int begun;		/* CHECKING: gets an octet when the login was right; -1: its end has come */
	pid_t pid;		/* CHECKING */
	uint64_t begun_at;	/* when the caller came */
	uint64_t until;		/* ASKED and CHECKING: it ends; WAITING: it may begin */
	struct login_throttle_ticket ticket;
	struct login_request request;	/* in packet */
	size_t len;
	char packet[LOGIN_PACKET_MAX];
};

static struct authd {
	struct service_loop loop;
	struct service_users users;	/* who may ask */
	unsigned int attempts_max, checks_max;
	unsigned int len, checks;
	struct login_chain chain;
	struct login_throttle throttle;
	struct attempt *attempts[ATTEMPTS_MAX];
	struct pollfd polled[ATTEMPTS_MAX + 1];
} authd;

/* --- the log ------------------------------------------------------------------------------------------------ */

/* Writes a line that fail2ban reads. A logger that does not read must not stop the service. */
static void
say(const struct attempt *a, const char *what, const char *why)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	const char *ip = login_request_variable(&a->request, "TCPREMOTEIP"), *login = a->request.login;
	char user[USER_SHOWN + 1], line[LOG_MAX];
	size_t n = 0;
	int len;
	ssize_t r;

	if (!ip)
		ip = login_request_variable(&a->request, "TCP6REMOTEIP");
	for (; n < USER_SHOWN && login[n]; n++)
		user[n] = login[n] > ' ' && login[n] < 127 ? login[n] : '?';
	user[n] = '\0';
	len = snprintf(line, sizeof line, "qmail-authd: %s: ip=%s user=%s for=%s%s%s\n", what, ip ? ip : "unknown", n ? user : "?",
	    a->request.question == LOGIN_SESSION ? "session" : "check", *why ? " reason=" : "", why);
	if (poll(&p, 1, 0) == 1) {
		r = write(STDERR_FILENO, line, (size_t)len);
		(void)r;
	}
}

/* --- how an attempt ends -------------------------------------------------------------------------------------- */

static void
close_if_open(int fd)
{
	if (fd >= 0)
		lingering_close(fd);
}

/* Ends what is known here of the ith attempt; the last one takes its place. */
static void
forget(struct authd *d, unsigned int i)
{
	struct attempt *a = d->attempts[i];

	close_if_open(a->caller);
	close_if_open(a->connection);
	close_if_open(a->begun);
	if (a->state == CHECKING)
		d->checks--;
	explicit_bzero(a->packet, a->len);
	free(a);
	d->attempts[i] = d->attempts[--d->len];
}

static void
answer_wrong(struct authd *d, struct attempt *a)
{
	login_throttle_wrong(&d->throttle, &a->ticket, monotonic_ms());
	say(a, "login failed", "wrong");
	service_socket_say(a->caller, LOGIN_IS_WRONG, "");
}

static void
answer_unknown(struct authd *d, struct attempt *a, const char *why)
{
	login_throttle_unknown(&d->throttle, &a->ticket);
	say(a, "login unknown", why);
	service_socket_say(a->caller, LOGIN_IS_UNKNOWN, why);
}

static void
answer_right(struct authd *d, struct attempt *a)
{
	char account[LOGIN_MAX + 1];
	int has_domain = strchr(a->request.login, '@') != NULL;
	size_t n = 0;

	for (; n < LOGIN_MAX && a->request.login[n]; n++) {
		char c = a->request.login[n];

		account[n] = has_domain && c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
	}
	account[n] = '\0';
	login_throttle_right(&d->throttle, &a->ticket, monotonic_ms());
	say(a, "login", "");
	/* if that fails, the caller's next question to it does as well */
	if (a->request.question == LOGIN_CHECK && a->connection >= 0)
		service_socket_say(a->connection, SUBMISSION_LOGIN, account);
	service_socket_say(a->caller, LOGIN_IS_RIGHT, account);
}

/* --- checking -------------------------------------------------------------------------------------------------- */

/* Whether it can be the login of anybody; the interface of checkpassword programs has no room for more. */
static int
is_possible(const struct login_request *r)
{
	for (const char *s = r->login; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 127)
			return 0;
	return *r->login && *r->secret && strlen(r->login) + strlen(r->secret) + strlen(r->challenge) + 3 <= LOGIN_MAX;
}

/* Its time has come. 1, or 0: it has been answered. */
static int
start_check(struct authd *d, struct attempt *a)
{
	if (!is_possible(&a->request)) {
		answer_wrong(d, a);
		return 0;
	}
	a->pid = login_chain_start(&d->chain, &a->request, a->request.question == LOGIN_SESSION ? a->connection : -1, a->caller, &a->begun);
	if (a->pid < 0) {
		answer_unknown(d, a, "unable to start the checkpassword program");
		return 0;
	}
	a->state = CHECKING;
	a->until = monotonic_ms() + CHECK_MS;
	d->checks++;
	return 1;
}

/* Looks for the octet of a right login. */
static int
has_begun(struct attempt *a)
{
	char octet;
	ssize_t r = a->begun < 0 ? 0 : read(a->begun, &octet, 1);

	if (r == 1)
		return 1;
	if (r == 0) {
		close_if_open(a->begun);
		a->begun = -1;
	}
	return 0;
}

/* Its program has ended. */
static void
answer_status(struct authd *d, struct attempt *a, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	char why[64];

	if (has_begun(a) || code == 0)
		answer_right(d, a);
	else if (checkpassword_says_wrong(code))
		answer_wrong(d, a);
	else {
		snprintf(why, sizeof why, code < 0 ? "checkpassword-signal-%d" : "checkpassword-exit-%d", code < 0 ? WTERMSIG(status) : code);
		answer_unknown(d, a, why);
	}
}

/* Takes what programs have ended: those of attempts, and sessions. */
static void
reap(struct authd *d)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned int i = 0; i < d->len; i++)
			if (d->attempts[i]->state == CHECKING && d->attempts[i]->pid == pid) {
				answer_status(d, d->attempts[i], status);
				forget(d, i);
				break;
			}
}

/* --- callers ----------------------------------------------------------------------------------------------------- */

/* Whether it waits for nothing but its slow-down. */
static int
is_slowed(const struct attempt *a, uint64_t now)
{
	return a->state == WAITING && a->until > now;
}

/* The one of these that came first, or d->len: there is none. */
static unsigned int
find_slowed(const struct authd *d, uint64_t now)
{
	unsigned int found = d->len;

	for (unsigned int i = 0; i < d->len; i++)
		if (is_slowed(d->attempts[i], now) && (found == d->len || d->attempts[i]->begun_at < d->attempts[found]->begun_at))
			found = i;
	return found;
}

/* Whether there is a place for one more, or one that can be taken from who is slowed down: failures must not keep others out. */
static int
has_place(const struct authd *d, uint64_t now)
{
	return d->len < d->attempts_max || find_slowed(d, now) < d->len;
}

static void
answer_too_many(struct attempt *a)
{
	say(a, "login failed", "too-many");
	service_socket_say(a->caller, LOGIN_IS_UNKNOWN, "too many failed logins, try again later");
}

static void
accept_one(struct authd *d)
{
	uint64_t now = monotonic_ms();
	int fd = has_place(d, now) ? service_loop_accept(&d->loop, &d->users) : -1;
	struct attempt *a = fd < 0 ? NULL : malloc(sizeof *a);

	if (!a) {
		close_if_open(fd);
		return;
	}
	if (d->len == d->attempts_max) {
		unsigned int slowed = find_slowed(d, now);

		answer_too_many(d->attempts[slowed]);	/* it stays charged: it was not right */
		forget(d, slowed);
	}
	a->state = ASKED;
	a->caller = fd;
	a->connection = a->begun = -1;
	a->len = 0;
	a->begun_at = now;
	a->until = now + REQUEST_MS;
	d->attempts[d->len++] = a;
}

static int
option_of(int fd, int option)
{
	int value = -1;
	socklen_t size = sizeof value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0 ? -1 : value;
}

/* A session needs a connected stream socket; a check has none, or one to qmail-submitd. */
static int
is_fitting(const struct attempt *a)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof address;

	if (a->request.question == LOGIN_CHECK)
		return a->connection < 0 || service_socket_is_to(a->connection, SUBMISSION_SOCKET);
	return a->connection >= 0 && option_of(a->connection, SO_TYPE) == SOCK_STREAM && option_of(a->connection, SO_ACCEPTCONN) == 0 &&
	    getpeername(a->connection, (struct sockaddr *)&address, &size) == 0;
}

/* Asks whether the attempt has to wait. 1, or 0: it has been answered. */
static int
admit(struct authd *d, struct attempt *a)
{
	const char *ip = login_request_variable(&a->request, "TCPREMOTEIP");
	uint64_t now = monotonic_ms(), wait;
	ip46 address;
	int is_known;

	if (!ip)
		ip = login_request_variable(&a->request, "TCP6REMOTEIP");
	is_known = ip && ip46_scan(ip, &address) == strlen(ip);
	wait = login_throttle_admit(&d->throttle, &a->ticket, is_known ? &address : NULL, a->request.login, now);
	if (wait == LOGIN_THROTTLE_TOO_MANY) {
		answer_too_many(a);
		return 0;
	}
	a->state = WAITING;
	a->until = now + wait;
	return 1;
}

/* Takes the caller's packet. 1, or 0: the attempt is over. */
static int
take_request(struct authd *d, struct attempt *a)
{
	ssize_t n = service_socket_receive(a->caller, a->packet, sizeof a->packet, &a->connection);

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n <= 0)
		return 0;
	a->len = (size_t)n;
	if (!login_request_parse(&a->request, a->packet, a->len) || !is_fitting(a)) {
		service_socket_say(a->caller, LOGIN_IS_UNKNOWN, "the request was malformed");
		return 0;
	}
	if (!login_chain_has(&d->chain, a->request.question)) {
		service_socket_say(a->caller, LOGIN_IS_UNKNOWN, "qmail-authd starts no sessions here");
		return 0;
	}
	return admit(d, a);
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t is_stopping, has_child;

static void
on_signal(int sig)
{
	if (sig == SIGTERM)
		is_stopping = 1;
	else
		has_child = 1;
}

/* What has come for an attempt; 1, or 0: it is over. */
static int
hear(struct authd *d, struct attempt *a)
{
	switch (a->state) {
	case ASKED:
		return take_request(d, a);
	case WAITING:
		/* it has said all that it may, so it has gone away; its attempt counts as a failed one */
		return 0;
	default:
		if (!has_begun(a))
			return 1;
		answer_right(d, a);
		return 0;
	}
}

/* What the time has brought for an attempt; 1, or 0: it is over. */
static int
look_at_clock(struct attempt *a, uint64_t now)
{
	if (a->until > now)
		return 1;
	switch (a->state) {
	case ASKED:
		return 0;
	case WAITING:
		return 1;	/* start_checks knows whose turn it is */
	default:
		kill(a->pid, SIGKILL);	/* and then it is waited for */
		a->until = now + CHECK_MS;
		return 1;
	}
}

/* Of those that may begin, the one that could for longest, or d->len: there is none. */
static unsigned int
find_next(const struct authd *d, uint64_t now)
{
	unsigned int found = d->len;

	for (unsigned int i = 0; i < d->len; i++)
		if (d->attempts[i]->state == WAITING && !is_slowed(d->attempts[i], now) &&
		    (found == d->len || d->attempts[i]->until < d->attempts[found]->until))
			found = i;
	return found;
}

/* In their order: where there are always more than may run, nobody waits for ever while others come and go. */
static void
start_checks(struct authd *d, uint64_t now)
{
	unsigned int i;

	while (d->checks < d->checks_max && (i = find_next(d, now)) < d->len)
		if (!start_check(d, d->attempts[i]))
			forget(d, i);
}

static void
turn(struct authd *d)
{
	uint64_t now = monotonic_ms(), until = now + CHECK_MS;
	unsigned int polled = d->len;

	for (unsigned int i = 0; i < polled; i++) {
		const struct attempt *a = d->attempts[i];

		d->polled[i] = (struct pollfd){ .fd = a->state == CHECKING ? a->begun : a->caller, .events = POLLIN };
		/* one that waits for its turn is woken by the end of a check */
		if (a->until < until && (a->state != WAITING || d->checks < d->checks_max))
			until = a->until;
	}
	if (!service_loop_wait(&d->loop, polled, has_place(d, now), until))
		strerr_diefusys(EXIT_TEMP, "wait");
	now = monotonic_ms();
	/* from the last: one that is over is replaced by one that was looked at already */
	for (unsigned int i = polled; i--; )
		if ((d->polled[i].revents && !hear(d, d->attempts[i])) || !look_at_clock(d->attempts[i], now))
			forget(d, i);
	start_checks(d, now);
	accept_one(d);
	if (has_child) {
		has_child = 0;
		reap(d);
	}
}

/* What is being checked must not become a session that its caller knows nothing of. */
static void
stop(const struct authd *d)
{
	for (unsigned int i = 0; i < d->len; i++)
		if (d->attempts[i]->state == CHECKING)
			kill(d->attempts[i]->pid, SIGKILL);
}

/* --- the start ---------------------------------------------------------------------------------------------------- */

static int
scan_within(const char *s, unsigned int *n, unsigned int most)
{
	return uint0_scan(s, n) && *n >= 1 && *n <= most;
}

static void
parse_options(struct authd *d, int argc, char *const *argv, unsigned int *notify, int *session_tells)
{
	int c, is_fine = 1;

	d->attempts_max = ATTEMPTS;
	d->checks_max = CHECKS;
	while ((c = getopt(argc, argv, "+c:d:ln:u:")) >= 0)
		switch (c) {
		case 'c': is_fine &= scan_within(optarg, &d->attempts_max, ATTEMPTS_MAX); break;
		case 'd': is_fine &= uint0_scan(optarg, notify) != 0; break;
		case 'l': *session_tells = 1; break;
		case 'n': is_fine &= scan_within(optarg, &d->checks_max, CHECKS_MAX); break;
		case 'u': is_fine &= service_users_add(&d->users, optarg); break;
		default: is_fine = 0;
		}
	if (!is_fine)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!d->users.len)
		service_users_put(&d->users, geteuid());
}

/* Who is taken without a place for what he sends along would be told that he is malformed. */
static void
fit_into_files(struct authd *d)
{
	rlim_t others = OWN_FILES + d->checks_max, files = file_limit_raise(others + 2 * (rlim_t)d->attempts_max);
	rlim_t most = files > others + 2 ? (files - others) / 2 : 1;
	char text[120];

	if (most >= d->attempts_max)
		return;
	snprintf(text, sizeof text, "%llu, leaves room for %llu attempts at once instead of %u", (unsigned long long)files,
	    (unsigned long long)most, d->attempts_max);
	strerr_warn(PROG, ": warning: the limit of open files, ", text);
	d->attempts_max = (unsigned int)most;
}

int
main(int argc, char *const *argv)
{
	struct authd *d = &authd;
	unsigned int notify = 0;
	int session_tells = 0;

	PROG = "qmail-authd";
	parse_options(d, argc, argv, &notify, &session_tells);
	fit_into_files(d);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	if (!login_chain_init(&d->chain, argv + optind, session_tells)) {
		if (errno == EINVAL)
			strerr_dieusage(EXIT_PERM, USAGE);
		strerr_diefusys(EXIT_TEMP, "prepare for checking");
	}
	if (!login_throttle_init(&d->throttle))
		strerr_diefusys(EXIT_TEMP, "get random octets");
	d->loop.polled = d->polled;
	if (!held_signals_take((const int[]){ SIGTERM, SIGCHLD, 0 }, on_signal, &d->loop.outside))
		strerr_diefusys(EXIT_TEMP, "prepare for signals");
	d->chain.signals = d->loop.outside;
	d->loop.listener = service_socket_listen(LOGIN_SOCKET);
	if (d->loop.listener < 0)
		strerr_diefusys(EXIT_TEMP, "listen at " LOGIN_SOCKET);
	readiness_tell(notify);
	while (!is_stopping)
		turn(d);
	stop(d);
	return EXIT_OK;
}
