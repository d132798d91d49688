/* qmail-submitd: say whose an envelope sender is, and how much an account may send within an hour.
 * Trust: it is asked by sessions of qmail-smtpd, which read the network. Runs as qmailu, never as root; reads control/ and writes nothing;
 * shuts itself in before the first question. Who may ask is decided by uid, as the kernel says it, and so is who may say that a session
 * has logged in: that is qmail-authd. So a session that was taken over sends as its own account, or as none. It waits for nobody. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "account_limits.h"
#include "allowance.h"
#include "exitcode.h"
#include "held_signals.h"
#include "home.h"
#include "lingering.h"
#include "monotonic.h"
#include "readiness.h"
#include "sandbox.h"
#include "senders.h"
#include "service_loop.h"
#include "service_socket.h"
#include "service_users.h"
#include "stamp.h"
#include "submission_protocol.h"

#define USAGE "qmail-submitd [ -d notification-fd ] [ -u uid ] ... [ -v uid ] ..."

enum {
	CLIENTS_MAX = 4000,		/* sessions that have logged in, or try to */
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space: control files, what each account has sent of late */
	LOGIN_MS = 180000,		/* for a session to log in: longer than qmail-authd takes */
	LOOK_MS = 1000,			/* control files are looked at as often */
	FILES = 6,
};

static const char *const files[FILES] = { "control/submissionmessages", "control/submissionrecipients", "control/submissionlimits",
	"control/submissionsenders", "control/locals", "control/me" };

struct client {
	int fd;
	char *account;		/* NULL: has not logged in */
	uint64_t until;		/* then it has to */
};

static struct submitd {
	struct service_loop loop;
	struct service_users askers, vouchers;	/* root vouches as well */
	struct senders senders;
	struct account_limits limits;
	struct allowance allowance;
	struct stamp stamps[FILES];
	uint64_t looked_at;
	unsigned int len;
	struct client clients[CLIENTS_MAX];
	struct pollfd polled[CLIENTS_MAX + 1];
} submitd;

/* --- control files ------------------------------------------------------------------------------------------------- */

static void
take_stamps(struct stamp stamps[FILES])
{
	for (int i = 0; i < FILES; i++)
		stamps[i] = stamp_take(files[i]);
}

/* Reads them all. NULL, or what could not be read, with errno set; all is as it was then. */
static const char *
read_files(struct submitd *d)
{
	struct account_limits limits = { .table = STRALLOC_ZERO };
	const char *file;

	/* first, so that a change while they are read is seen at the next look */
	take_stamps(d->stamps);
	if (!account_limits_read(&limits, &file))
		return file;
	if (!senders_read(&d->senders, &file)) {
		account_limits_free(&limits);
		return file;
	}
	account_limits_free(&d->limits);
	d->limits = limits;
	return NULL;
}

/* While somebody may be writing, nothing that was whole is given up: a sender that is missing is refused for good. */
static void
look_at_files(struct submitd *d, uint64_t now)
{
	struct stamp stamps[FILES];
	const char *file;

	if (now < d->looked_at + LOOK_MS)
		return;
	d->looked_at = now;
	take_stamps(stamps);
	if (stamps_are_same(stamps, d->stamps, FILES) || stamps_are_fresh(stamps, FILES, "control"))
		return;
	file = read_files(d);
	if (file)
		strerr_warnwsys("unable to read control files again, the old ones stay: ", file);
}

/* --- questions ------------------------------------------------------------------------------------------------------- */

static int
say(const struct client *c, enum submission_answer answer, const char *text)
{
	return service_socket_say(c->fd, (char)answer, text);
}

static int
answer_message(struct submitd *d, const struct client *c, const char *digits, uint64_t now)
{
	struct allowance_limits limits = account_limits_of(&d->limits, c->account);
	unsigned int recipients;

	if (!uint0_scan(digits, &recipients))
		return say(c, SUBMISSION_UNKNOWN, "malformed");
	switch (allowance_take(&d->allowance, c->account, &limits, recipients, now)) {
	case ALLOWANCE_MESSAGES: return say(c, SUBMISSION_FULL, "you have sent too many messages within an hour, try again later");
	case ALLOWANCE_RECIPIENTS: return say(c, SUBMISSION_FULL, "you have sent to too many recipients within an hour, try again later");
	default: return say(c, SUBMISSION_YES, "");
	}
}

/* A packet without NUL, NUL-terminated; 1, or 0: this client is done with. */
static int
answer(struct submitd *d, struct client *c, const char *packet, uid_t from, uint64_t now)
{
	if (packet[0] == SUBMISSION_LOGIN) {
		if (c->account || !packet[1] || (from != 0 && !service_users_have(&d->vouchers, from)))
			return 0;
		c->account = strdup(packet + 1);
		return c->account != NULL;
	}
	if (!c->account)
		return say(c, SUBMISSION_UNKNOWN, "nobody has said that you have logged in");
	look_at_files(d, now);
	if (packet[0] == SUBMISSION_SENDER)
		return senders_has(&d->senders, c->account, packet + 1) ? say(c, SUBMISSION_YES, "") :
		    say(c, SUBMISSION_NO, "sorry, this sender does not belong to your login");
	return packet[0] == SUBMISSION_MESSAGE && answer_message(d, c, packet + 1, now);
}

/* Takes a packet; 1, or 0: the client is done with. */
static int
hear(struct submitd *d, struct client *c, uint64_t now)
{
	char packet[SUBMISSION_PACKET_MAX + 1];
	uid_t from;
	ssize_t n = service_socket_receive_from(c->fd, packet, sizeof packet - 1, &from);

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n <= 0 || memchr(packet, '\0', (size_t)n))
		return 0;
	packet[n] = '\0';
	return answer(d, c, packet, from, now);
}

/* --- clients ------------------------------------------------------------------------------------------------------------ */

/* Ends the ith; the last one takes its place. */
static void
forget(struct submitd *d, unsigned int i)
{
	lingering_close(d->clients[i].fd);
	free(d->clients[i].account);
	d->clients[i] = d->clients[--d->len];
}

static void
accept_one(struct submitd *d, uint64_t now)
{
	int fd = service_loop_accept(&d->loop, &d->askers);

	if (fd >= 0)
		d->clients[d->len++] = (struct client){ .fd = fd, .until = now + LOGIN_MS };
}

/* --- the loop --------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t is_stopping;

static void
on_signal(int sig)
{
	(void)sig;
	is_stopping = 1;
}

static int
is_late(const struct client *c, uint64_t now)
{
	return !c->account && c->until <= now;
}

static void
turn(struct submitd *d)
{
	uint64_t now = monotonic_ms(), until = now + LOGIN_MS;
	unsigned int polled = d->len;

	for (unsigned int i = 0; i < polled; i++) {
		d->polled[i] = (struct pollfd){ .fd = d->clients[i].fd, .events = POLLIN };
		if (!d->clients[i].account && d->clients[i].until < until)
			until = d->clients[i].until;
	}
	if (!service_loop_wait(&d->loop, polled, polled < CLIENTS_MAX, until))
		strerr_diefusys(EXIT_TEMP, "wait");
	now = monotonic_ms();
	/* from the last: one that is over is replaced by one that was looked at already */
	for (unsigned int i = polled; i--; )
		if ((d->polled[i].revents && !hear(d, &d->clients[i], now)) || is_late(&d->clients[i], now))
			forget(d, i);
	accept_one(d, now);
}

/* --- the start ---------------------------------------------------------------------------------------------------------------- */

static unsigned int
parse_options(struct submitd *d, int argc, char *const *argv)
{
	unsigned int notify = 0;
	int c, is_fine = 1;

	while ((c = getopt(argc, argv, "d:u:v:")) >= 0)
		switch (c) {
		case 'd': is_fine &= uint0_scan(optarg, &notify) != 0; break;
		case 'u': is_fine &= service_users_add(&d->askers, optarg); break;
		case 'v': is_fine &= service_users_add(&d->vouchers, optarg); break;
		default: is_fine = 0;
		}
	if (!d->askers.len)	/* all is one user */
		is_fine &= service_users_put(&d->askers, geteuid()) && service_users_put(&d->vouchers, geteuid());
	if (!is_fine || optind < argc)
		strerr_dieusage(EXIT_PERM, USAGE);
	return notify;
}

static void
shut_itself_in(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_lookup, .read = { "control" }, .memory = MEMORY_MAX };
	int lack = sandbox_enter(&shut_in);

	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	sandbox_warn(lack);
}

int
main(int argc, char *const *argv)
{
	struct submitd *d = &submitd;
	const char *file;
	unsigned int notify;

	PROG = "qmail-submitd";
	notify = parse_options(d, argc, argv);
	if (geteuid() == 0)
		strerr_dief(EXIT_PERM, "never as root: run it as qmailu");
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	file = read_files(d);
	if (file)
		strerr_diefusys(EXIT_TEMP, "read ", file);
	if (!allowance_init(&d->allowance))
		strerr_diefusys(EXIT_TEMP, "get random octets");
	d->loop.polled = d->polled;
	if (!held_signals_take((const int[]){ SIGTERM, 0 }, on_signal, &d->loop.outside))
		strerr_diefusys(EXIT_TEMP, "prepare for signals");
	d->loop.listener = service_socket_listen(SUBMISSION_SOCKET);
	if (d->loop.listener < 0 || !service_socket_tell_users(d->loop.listener))
		strerr_diefusys(EXIT_TEMP, "listen at " SUBMISSION_SOCKET);
	shut_itself_in();
	readiness_tell(notify);
	while (!is_stopping)
		turn(d);
	return EXIT_OK;
}
