/* qmail-queued: the keeper of the queue, the only program that writes it.
 * Trust: submitters are any local users and are believed nothing; who they are, the kernel says. qmail-send is
 * believed about deliveries only. Runs as qmailq; starts no program, opens no connection, writes below queue/ only: it
 * shuts itself in, and with it the writers and its other children, before it reads what is in the queue. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <dirent.h>
#include <unistd.h>
#include <skalibs/selfpipe.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "become.h"
#include "exitcode.h"
#include "home.h"
#include "monotonic.h"
#include "queue/digest.h"
#include "sandbox.h"
#include "keeper.h"
#include "readiness.h"

#define USAGE "qmail-queued [ -d notification-fd ] [ -r ring-mebibytes ]"

enum {
	EVENTS = 64,			/* taken in one turn */
	NUMBERS_SKIPPED = 1000000,	/* when the ring, which knows what was given out, is lost */
	TICK_MS = 10000,		/* time limits are looked at as often */
	PAUSE_MS = 100,			/* before accepting again when there was no descriptor */
};

/* --- services for the other parts ------------------------------------------------------------ */

int
keeper_watch(struct keeper *k, struct source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	if (s->watched == events)
		return 1;
	if (epoll_ctl(k->epoll, s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &e) < 0)
		return 0;
	s->watched = events;
	return 1;
}

void
keeper_unwatch(struct keeper *k, struct source *s)
{
	/* a child may still have the descriptor: what stayed watched would be used when it is gone */
	if (s->watched && epoll_ctl(k->epoll, EPOLL_CTL_DEL, s->fd, NULL) < 0)
		strerr_diefusys(EXIT_TEMP, "stop watching a descriptor");
	s->watched = 0;
}

void
keeper_log(const char *kind, const char *text, uint64_t number, int error)
{
	struct pollfd p = { .fd = 2, .events = POLLOUT };
	char line[512], digits[32] = "";
	int n;

	if (number)
		snprintf(digits, sizeof digits, " %llu", (unsigned long long)number);
	n = snprintf(line, sizeof line, "%s: %s: %s%s%s%s\n", PROG, kind, text, digits, error ? ": " : "",
	    error ? strerror(error) : "");
	/* a logger that does not read must not stop the queue */
	if (n > 0 && poll(&p, 1, 0) == 1 && write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
		return;
}

uint64_t
keeper_take_number(struct keeper *k)
{
	return k->next_number++;
}

/* In a child: a connection ends when the keeper closes it, not when the last child does. */
static void
close_all_but(const struct keeper *k, int keep)
{
	close(k->epoll);
	close(k->submit_listener.fd);
	close(k->send_listener.fd);
	for (const struct submitter *s = k->submitters; s; s = s->next) {
		if (s->source.fd != keep && s->source.fd >= 0)
			close(s->source.fd);
		if (s->report.fd >= 0)
			close(s->report.fd);
	}
	for (const struct newcomer *n = k->newcomers; n; n = n->next)
		if (n->source.fd != keep)
			close(n->source.fd);
	if (k->send.fd >= 0)
		close(k->send.fd);
	for (unsigned int i = 0; i < WRITERS; i++)
		if (k->writers[i].pid > 0)
			close(k->writers[i].channel.fd);
	for (const struct survey *s = k->surveys; s; s = s->next)
		close(s->source.fd);
}

pid_t
keeper_fork(struct keeper *k, int *fd, int keep)
{
	int ends[2];
	pid_t parent = getpid(), pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid = fork();
	if (pid < 0) {
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	if (pid > 0) {
		close(ends[1]);
		*fd = ends[0];
		fcntl(ends[0], F_SETFL, O_NONBLOCK);
		return pid;
	}
	/* it dies with the keeper, whose lock it holds too */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	selfpipe_finish();
	signal(SIGTERM, SIG_DFL);
	close(ends[0]);
	close_all_but(k, keep);
	if (keep >= 0)
		fcntl(keep, F_SETFL, O_NONBLOCK);
	*fd = ends[1];
	return 0;
}

/* --- start ------------------------------------------------------------------------------------ */

/* (uid_t)-1: there is no such user, as on a private server. */
static uid_t
uid_of(const char *name)
{
	uid_t uid = (uid_t)-1;
	gid_t gid;

	if (become_find_user(name, &uid, &gid) < 0)
		strerr_diefusys(EXIT_TEMP, "ask the user database for user ", name);
	return uid;
}

static void
make_folders(void)
{
	static const char *const folders[] = { "queue/journal", "queue/mess", "queue/info", "queue/new", "queue/damaged" };
	static const char *const above[] = { "queue/mess", "queue/info", "queue", "." };
	char path[INFO_PATH_MAX];

	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		if (mkdir(folders[i], 0750) < 0 && errno != EEXIST)
			strerr_diefusys(EXIT_TEMP, "make ", folders[i]);
	for (int kind = 1; kind <= 2; kind++)
		for (unsigned int n = 0; n < QUEUE_SPLIT; n++) {
			info_folder(path, folders[kind] + strlen("queue/"), n);
			if (mkdir(path, 0750) < 0 && errno != EEXIST)
				strerr_diefusys(EXIT_TEMP, "make ", path);
		}
	/* what lies in a folder is only as safe as the folder's own name */
	for (size_t i = 0; i < sizeof above / sizeof *above; i++)
		if (!writer_sync_dir(above[i]))
			strerr_diefusys(EXIT_TEMP, "flush ", above[i]);
}

/* Rule 9: one keeper, and no writer of an earlier one. */
static void
take_lock(struct keeper *k)
{
	k->lock = open("queue/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (k->lock < 0)
		strerr_diefusys(EXIT_TEMP, "open queue/lock");
	if (flock(k->lock, LOCK_EX | LOCK_NB) == 0)
		return;
	strerr_warni("waiting for another keeper, or the writers of an earlier one, to end");
	while (flock(k->lock, LOCK_EX) < 0)
		if (errno != EINTR)
			strerr_diefusys(EXIT_TEMP, "lock queue/lock");
}

static void
empty_new(void)
{
	DIR *dir = opendir("queue/new");
	const struct dirent *d;

	if (!dir)
		strerr_diefusys(EXIT_TEMP, "read queue/new");
	while (errno = 0, (d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && unlinkat(dirfd(dir), d->d_name, 0) < 0)
			strerr_warnwusys("remove queue/new/", d->d_name);
	if (errno)
		strerr_diefusys(EXIT_TEMP, "read queue/new");
	closedir(dir);
}

/* The highest number that a file name in the directories has. */
static uint64_t
highest_name(void)
{
	static const char *const kinds[2] = { "mess", "info" };
	char path[INFO_PATH_MAX];
	uint64_t highest = 0;

	for (int kind = 0; kind < 2; kind++)
		for (unsigned int n = 0; n < QUEUE_SPLIT; n++) {
			const struct dirent *d;
			DIR *dir;

			info_folder(path, kinds[kind], n);
			dir = opendir(path);
			if (!dir)
				strerr_diefusys(EXIT_TEMP, "read ", path);
			while (errno = 0, (d = readdir(dir)))
				if (info_name(d->d_name) > highest)
					highest = info_name(d->d_name);
			if (errno)
				strerr_diefusys(EXIT_TEMP, "read ", path);
			closedir(dir);
		}
	return highest;
}

static int
at_batch(void *data, uint64_t number, uint32_t block, uint32_t blocks)
{
	struct keeper *k = data;

	(void)blocks;
	return ledger_batch(&k->ledger, number, block);
}

static int
at_record(void *data, uint64_t batch, uint64_t offset, const char *s, uint32_t len, const char digest[QUEUE_KEYED_DIGEST])
{
	struct keeper *k = data;
	struct queue_place place = { .kind = PLACE_RING, .offset = offset, .len = len };
	struct message *m;
	struct record r;

	if (!record_parse(&r, s, len)) {	/* its digest is right: written by a fault of this program, or a newer one */
		keeper_log("alert", "a record of the journal is not understood, batch", batch, 0);
		return 1;
	}
	m = ledger_message(&k->ledger, r.number);
	if (!m)
		return 0;
	memcpy(place.digest, digest, QUEUE_KEYED_DIGEST);
	switch (r.type) {
	case RECORD_MESSAGE:
		place.message_at = (uint32_t)(r.message - s);
		ledger_record(&k->ledger, m, batch, &place);
		break;
	case RECORD_OUTCOME:
		if (!ledger_outcome_room(m))
			return 0;
		ledger_outcome(&k->ledger, m, &(struct outcome){ .batch = batch, .offset = offset, .len = len,
		    .recipient = r.recipient, .result = r.result });
		break;
	case RECORD_END:
		ledger_end(&k->ledger, m, batch);
		break;
	}
	return 1;
}

static int
at_missing(void *data, uint64_t number, const char *octets, size_t len)
{
	char path[INFO_PATH_MAX];
	struct stat st;

	(void)data;
	snprintf(path, sizeof path, "queue/damaged/batch.%llu", (unsigned long long)number);
	if (stat(path, &st) == 0)	/* said once */
		return 1;
	keeper_log("alert", "damaged journal: what is left of a batch is in queue/damaged; batch", number, 0);
	return writer_make_file(path, octets, len) && writer_sync_dir("queue/damaged");
}

static void
open_ring(struct keeper *k)
{
	struct ring_listener listener = { .data = k, .batch = at_batch, .record = at_record, .missing = at_missing };
	char path[RING_PATH_MAX], id[RING_ID];
	int found = ring_find(path, id);

	if (found == 0) {
		uint64_t highest = highest_name();

		if (highest)
			strerr_warn(PROG, ": alert: the journal is missing, a new one is made");
		if (!ring_create(k->ring_size, 1, highest ? highest + NUMBERS_SKIPPED : 1))
			strerr_diefusys(EXIT_TEMP, "make the journal in queue/journal");
		found = ring_find(path, id);
	}
	if (found != 1)
		strerr_diefusys(EXIT_TEMP, "find the journal in queue/journal");
	if (!ledger_init(&k->ledger) || !ring_open(&k->ring, path, id, &listener))
		strerr_diefusys(EXIT_TEMP, "read the journal ", path);
	k->first_number = k->next_number = k->ring.limit;
	k->tried_until = k->ring.written_at;
}

static int
listen_at(const char *path, mode_t mode)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, path, strlen(path) + 1);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, mode) < 0 ||
	    listen(fd, 1024) < 0)
		strerr_diefusys(EXIT_TEMP, "listen at ", path);
	return fd;
}

/* --- the loop ----------------------------------------------------------------------------------- */

static void
signal_ready(struct keeper *k, struct source *s, uint32_t events)
{
	int sig;

	(void)s;
	(void)events;
	while ((sig = selfpipe_read()) > 0) {
		if (sig == SIGTERM)
			k->stop = 1;
		if (sig == SIGCHLD)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;	/* what a child leaves is seen at the end of its channel */
	}
}

static void
set_accepting(struct keeper *k, int on)
{
	k->accepting = on;
	if (on && (!keeper_watch(k, &k->submit_listener, EPOLLIN) || !keeper_watch(k, &k->send_listener, EPOLLIN)))
		submit_run_short(k);
	if (k->accepting)
		return;
	keeper_unwatch(k, &k->submit_listener);
	keeper_unwatch(k, &k->send_listener);
}

/* Milliseconds until something is due without an event. */
static int
patience(const struct keeper *k)
{
	uint64_t until = k->now_ms + TICK_MS, at;

	if (flush_due(k, &at) && at < until)
		until = at;
	if (notices_due(k, &at) && at < until)
		until = at;
	if (!k->accepting && k->now_ms + PAUSE_MS < until)
		until = k->now_ms + PAUSE_MS;
	if (k->wanted_len && k->jobs_from > k->now_ms && k->jobs_from < until)
		until = k->jobs_from;
	if (k->missed_at && k->missed_at < until)
		until = k->missed_at;
	if (k->unsaid.len && k->unsaid_from < until)
		until = k->unsaid_from;
	return until > k->now_ms ? (int)(until - k->now_ms) : 0;
}

static void
turn(struct keeper *k)
{
	struct epoll_event events[EVENTS];
	int n, was_accepting = k->accepting;

	n = epoll_wait(k->epoll, events, EVENTS, patience(k));
	if (n < 0 && errno != EINTR)
		strerr_diefusys(EXIT_TEMP, "wait for events");
	k->now_ms = monotonic_ms();
	if (!was_accepting)
		set_accepting(k, 1);
	for (int i = 0; i < n; i++) {
		struct source *s = events[i].data.ptr;

		s->ready(k, s, events[i].events);
	}
	if (!k->accepting)
		set_accepting(k, 0);
	flush_turn(k);
	notices_pump(k);
	/* what the notices ask for, too */
	writers_turn(k);
	survey_start_later(k);
	notices_flush(k);
	if (k->has_told)
		k->tell_from = k->now_ms + TELL_GATHER_MS;
	k->has_told = 0;
	submit_free_dead(k);
}

static void
run(struct keeper *k)
{
	uint64_t tick = 0;

	while (!k->stop) {
		turn(k);
		if (k->now_ms < tick)
			continue;
		tick = k->now_ms + TICK_MS;
		malloc_trim(0);	/* what a burst needed goes back to the system */
		submit_expire(k);
		notices_expire(k);
		if (!survey_scan(k))
			keeper_log("warning", "unable to start the scan of the queue", 0, errno);
	}
}

/* What is complete is accepted, what was reported is written; the last header says until when deliveries were tried. */
static void
finish(struct keeper *k)
{
	flush_turn(k);
	flush_empty(k);
	notices_pump(k);
}

static void
parse_options(struct keeper *k, int argc, char *const *argv, unsigned int *notify)
{
	unsigned int mebibytes;
	int c;

	while ((c = getopt(argc, argv, "d:r:")) >= 0)
		switch (c) {
		case 'd':
			if (!uint0_scan(optarg, notify))
				strerr_dieusage(EXIT_PERM, USAGE);
			break;
		case 'r':
			if (!uint0_scan(optarg, &mebibytes) || mebibytes < RING_SIZE_MIN >> 20 || mebibytes > 1024)
				strerr_dief(EXIT_PERM, "the ring has 8 to 1024 mebibytes");
			k->ring_size = (uint64_t)mebibytes << 20;
			break;
		default:
			strerr_dieusage(EXIT_PERM, USAGE);
		}
	if (optind != argc)
		strerr_dieusage(EXIT_PERM, USAGE);
}

static void
shut_itself_in(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_keeper, .write = { "queue" } };
	int lack;

	tzset();	/* even gmtime reads the local time zone at its first call */
	lack = sandbox_enter(&shut_in);
	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	sandbox_warn(lack);
}

/* Who connects is answered once the loop runs. */
static void
start_listening(struct keeper *k)
{
	sigset_t set;

	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	k->signals = (struct source){ .fd = selfpipe_init(), .ready = signal_ready };
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	if (k->epoll < 0 || k->signals.fd < 0 || !selfpipe_trapset(&set))
		strerr_diefusys(EXIT_TEMP, "prepare for events");
	signal(SIGPIPE, SIG_IGN);
	k->submit_listener = (struct source){ .fd = listen_at(QUEUE_SUBMIT_SOCKET, 0666), .ready = submit_accept };
	k->send_listener = (struct source){ .fd = listen_at(QUEUE_SEND_SOCKET, 0660), .ready = notices_accept };
	if (!keeper_watch(k, &k->signals, EPOLLIN))
		strerr_diefusys(EXIT_TEMP, "watch for signals");
	set_accepting(k, 1);
}

int
main(int argc, char *const *argv)
{
	static struct keeper k = { .ring_size = RING_SIZE, .send = { .fd = -1 } };
	unsigned int notify = 0;

	PROG = "qmail-queued";
	parse_options(&k, argc, argv, &notify);
	umask(027);
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);	/* a burst's buffers go back to the system */
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	k.alias = uid_of("alias");
	k.qmaild = uid_of("qmaild");
	k.qmails = uid_of("qmails");
	k.complete_end = &k.complete;
	k.now_ms = monotonic_ms();
	channel_init(&k.send_channel, -1, 0);
	make_folders();
	take_lock(&k);
	start_listening(&k);
	shut_itself_in();
	empty_new();
	open_ring(&k);
	if (!writers_start(&k))
		strerr_diefusys(EXIT_TEMP, "start the writers");
	readiness_tell(notify);
	run(&k);
	finish(&k);
	return EXIT_OK;
}
