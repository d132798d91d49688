/* qmail-send: takes messages from the queue and has them delivered.
 * Started by qmail-start with sockets to qmail-lspawn on descriptor 3 and to qmail-rspawn on 4; logs on descriptor 1.
 * One loop; send.h names its parts. Nothing in the loop waits for another process.
 * Trust: qmail-queued and the spawners; not the workers, whose answers count for their own jobs only. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "bouncer.h"
#include "delivery.h"
#include "exitcode.h"
#include "file_limit.h"
#include "home.h"
#include "job.h"
#include "keeper.h"
#include "octets.h"
#include "pass.h"
#include "queue/client.h"
#include "sandbox.h"
#include "send.h"
#include "worker.h"

#define USAGE "qmail-send [-d fd]"

enum {
	LSPAWN_FD = 3, RSPAWN_FD = 4,
	OWN_FILES = 64,			/* descriptors for all but workers */
	FILES = 16384,			/* all that it would have */
	LOCK_TRIES = 50, LOCK_PAUSE_US = 20000,
	LEAVE_BOUNCES_MS = 60 * 1000,	/* a child that submits bounces may take so long when everything else has ended */
	LEAVE_LOOK_MS = 1000,		/* looks that often whether everything has ended */
	LEAVE_LOG_MS = 2000,		/* the last log lines the same */
	TRIM_MS = 10000,		/* memory that is free is given back as often */
};

static volatile sig_atomic_t got_term, got_alarm, got_hangup;

static void
on_signal(int sig)
{
	*(sig == SIGTERM ? &got_term : sig == SIGALRM ? &got_alarm : &got_hangup) = 1;
}

/* Signals are let in by loop_wait only. */
static void
catch_signals(void)
{
	static const int caught[] = { SIGTERM, SIGALRM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked;

	sigemptyset(&blocked);
	for (unsigned int i = 0; i < sizeof caught / sizeof *caught; i++) {
		sigaddset(&blocked, caught[i]);
		sigaction(caught[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);	/* children that submit bounces report over pipes */
}

static void
read_clocks(struct send *s)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	s->clock = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	clock_gettime(CLOCK_REALTIME, &t);
	s->now = t.tv_sec;
}

/* The same within the loop, and as soon as a wait is over, or all that was waited for would have taken no time. What waits is due
 * too late if the wall clock was set back meanwhile. */
static void
read_clocks_again(void *context)
{
	struct send *s = context;
	int64_t clock = s->clock, now = s->now;

	read_clocks(s);
	if (s->now < now)
		pass_set_back(s, now + (s->clock - clock) / 1000 - s->now);
}

static void
cannot_start(struct send *s, const char *what)
{
	log_line(&s->log, "alert: cannot start: ", what, ": ", strerror(errno), NULL);
	log_flush(&s->log);
	_exit(EXIT_TEMP);
}

/* --- settings ----------------------------------------------------------------------- */

static const struct number_file {
	const char *file;
	unsigned long value, least;
} number_files[] = {
	{ "control/concurrencylocal", 10, 0 },
	{ "control/concurrencyremote", 20, 0 },
	{ "control/concurrencydestination", DESTINATION_REMOTE, 1 },
};

/* Reads the limits. Returns NULL, or the name of the file that cannot be read, with errno. */
static const char *
load_limits(struct send *s)
{
	struct destination_channel *c = s->destinations.channels;
	uint32_t values[3];
	struct rlimit files;

	for (unsigned int i = 0; i < 3; i++) {
		const struct number_file *n = &number_files[i];
		unsigned long value = n->value;

		if (control_number(&value, n->file, SEND_CONCURRENCY_MAX) < 0)
			return n->file;
		values[i] = (uint32_t)(value < n->least ? n->least : value);
	}
	/* each worker is a descriptor, a busy one may have WORKER_FILES_MAX more on their way, rarely */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY) {
		rlim_t most = files.rlim_cur > OWN_FILES + 4 * WORKER_IDLE_MAX ?
		    (files.rlim_cur - OWN_FILES - 2 * WORKER_IDLE_MAX) / 2 : 8;

		for (unsigned int i = 0; i < 2; i++)
			if (values[i] > most) {
				log_line(&s->log, "warning: ", number_files[i].file, " is more than the limit of open files "
				    "allows", NULL);
				values[i] = (uint32_t)most;
			}
	}
	c[ROUTE_LOCAL].limit = values[0];
	c[ROUTE_LOCAL].per_destination = DESTINATION_LOCAL;
	c[ROUTE_REMOTE].limit = values[1];
	c[ROUTE_REMOTE].per_destination = values[2];
	return NULL;
}

static void
load_settings(struct send *s)
{
	unsigned long lifetime = 604800, delay_notice = 4 * 3600;
	const char *trouble = route_load(&s->rules);

	if (!trouble)
		trouble = bounce_load(&s->bouncer.settings);
	if (!trouble)
		trouble = load_limits(s);
	if (!trouble && control_number(&lifetime, "control/queuelifetime", UINT32_MAX) < 0)
		trouble = "control/queuelifetime";
	if (!trouble && control_number(&delay_notice, "control/delaynotice", UINT32_MAX) < 0)
		trouble = "control/delaynotice";
	if (trouble)
		cannot_start(s, trouble);
	s->lifetime = (int64_t)lifetime;
	s->delay_notice = (int64_t)delay_notice;
}

/* HUP. */
static void
reload_settings(struct send *s)
{
	const char *trouble = route_reload(&s->rules);

	if (!trouble)
		trouble = load_limits(s);
	if (trouble)
		log_line(&s->log, "warning: unable to reread ", trouble, ": ", strerror(errno), "; keeping the old settings",
		    NULL);
	destinations_review(&s->destinations, s->clock);
}

/* --- start ----------------------------------------------------------------------------- */

/* One qmail-send a queue: the keeper would serve two in turn. The lock ends with the process; a child that one that was killed has just
 * made holds it an instant longer. */
static void
lock_queue(struct send *s)
{
	int fd = open("queue/info", O_RDONLY | O_DIRECTORY | O_CLOEXEC), tries = 0;

	if (fd < 0)
		cannot_start(s, "unable to open queue/info");
	while (flock(fd, LOCK_EX | LOCK_NB) < 0)
		if (errno != EWOULDBLOCK)
			cannot_start(s, "unable to lock queue/info");
		else if (tries++ == LOCK_TRIES)
			cannot_start(s, "qmail-send is already running");
		else
			usleep(LOCK_PAUSE_US);
}

/* A replaced qmail-queue is run for bounces, by a process that is not shut in; and one that hangs delays only its own
 * bounce. */
static void
shut_in(struct send *s)
{
	static const struct sandbox box = {
		.calls = &sandbox_scheduler,
		.read = { "control", "queue", NULL },
	};
	struct queue_client *client = &s->bouncer.client;
	int lack;

	queue_client_open(client, -1);
	s->bouncer.batch = client->program.len ? 1 : BOUNCER_BATCH;
	if (!queue_client_start_runner(client))
		strerr_diefusys(EXIT_TEMP, "prepare for submitting bounces");
	lack = sandbox_enter(&box);
	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "enter the sandbox");
	sandbox_warn(lack);
}

static void
log_ready(void *context, void *owner, uint32_t events)
{
	struct send *s = context;

	(void)owner;
	/* whoever read the log is gone: not to be told of that again and again. Otherwise the end of the turn writes */
	if (events & (EPOLLERR | EPOLLHUP))
		loop_remove(&s->loop, &s->log_source);
}

static void
init(struct send *s)
{
	/* what a burst needed is given back, but not in small pieces */
	mallopt(M_TRIM_THRESHOLD, 2 << 20);
	mallopt(M_TOP_PAD, 256 << 10);
	if (!log_init(&s->log, STDOUT_FILENO))
		strerr_diefusys(EXIT_TEMP, "start");
	read_clocks(s);
	file_limit_raise(FILES);
	if (!loop_init(&s->loop, s) || !destinations_init(&s->destinations) || !owners_init(&s->owners))
		cannot_start(s, "unable to start");
	s->loop.awake = read_clocks_again;
	heap_init(&s->due, offsetof(struct message, heap_at));
	load_settings(s);
	lock_queue(s);
	octets_init(s);
	keeper_init(s);
	if (!spawner_init(s, ROUTE_LOCAL, LSPAWN_FD) || !spawner_init(s, ROUTE_REMOTE, RSPAWN_FD))
		cannot_start(s, "no sockets to qmail-lspawn and qmail-rspawn on descriptors 3 and 4");
	s->log_source = (struct loop_source){ .fd = STDOUT_FILENO, .ready = log_ready };
	if (!loop_add(&s->loop, &s->log_source, 0))
		s->log_source.fd = -1;	/* a file: always writable */
	catch_signals();
}

/* --- the loop ------------------------------------------------------------------------------ */

static void
handle_signals(struct send *s)
{
	if (got_term)
		s->is_leaving = 1;
	if (got_alarm && !s->is_leaving) {
		pass_hurry(s);
		destinations_hurry(&s->destinations, s->clock);
	}
	if (got_hangup)
		reload_settings(s);
	got_alarm = got_hangup = 0;
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Does all that is due. Returns when something is due again (s->clock), INT64_MAX: nothing is. */
static int64_t
work(struct send *s)
{
	int more = pass_run(s);
	int64_t next, pass;

	more |= octets_check(s);
	destinations_tick(&s->destinations, s->clock);
	delivery_assign(s);
	next = bouncer_run(s);
	/* times are looked at last: all of the above changes them; and always, for there may be more to do for minutes */
	next = earlier(next, earlier(worker_tick(s), destinations_tick(&s->destinations, s->clock)));
	if (more)
		return s->clock;
	pass = s->is_leaving || keeper_is_behind(s) ? INT64_MAX : pass_next(s);
	if (pass != INT64_MAX)
		next = earlier(next, s->clock + (pass > s->now ? pass - s->now : 0) * 1000);
	return next;
}

static void
flush(struct send *s)
{
	worker_flush(s);
	keeper_flush(s);
	delivery_status(s);
}

/* Returns when it is to be called again. */
static int64_t
flush_log(struct send *s)
{
	int64_t due = log_due(&s->log, s->clock);

	/* a reader that was too slow gets more as soon as it can */
	if (due > s->clock && !s->log_source.events)
		return due;
	loop_change(&s->loop, &s->log_source, log_flush(&s->log) ? 0 : EPOLLOUT);
	return INT64_MAX;
}

/* 1 if everything has ended. */
static int
is_over(struct send *s, int64_t *since)
{
	if (!s->is_leaving || s->in_jobs || s->keeper.open || channel_unsent(&s->keeper.channel))
		return 0;
	if (!bouncer_is_busy(s))
		return 1;
	if (!*since)
		*since = s->clock;
	if (s->clock - *since < LEAVE_BOUNCES_MS)
		return 0;
	bouncer_kill(s);
	return !s->keeper.open;
}

static void
announce(int *ready_fd)
{
	if (*ready_fd < 0)
		return;
	if (write(*ready_fd, "\n", 1) < 0)
		strerr_warnwu1sys("say that it is ready");
	close(*ready_fd);
	*ready_fd = -1;
}

static void
say_goodbye(struct send *s)
{
	int64_t end;

	log_line(&s->log, "status: exiting", NULL);
	read_clocks(s);
	end = s->clock + LEAVE_LOG_MS;
	while (log_flush(&s->log) == 0 && s->clock < end) {
		loop_change(&s->loop, &s->log_source, EPOLLOUT);
		loop_wait(&s->loop, (int)(end - s->clock));
		read_clocks(s);
	}
}

static void
run(struct send *s, int ready_fd)
{
	int64_t leaving_since = 0, trim_at = 0, next;

	for (;;) {
		read_clocks_again(s);
		if (s->clock >= trim_at) {
			malloc_trim(0);	/* what a burst needed goes back to the system */
			trim_at = s->clock + TRIM_MS;
		}
		handle_signals(s);
		next = work(s);
		flush(s);
		/* after the flush, which may have lost the keeper */
		next = earlier(next, keeper_tick(s));
		next = earlier(next, flush_log(s));
		if (s->keeper.said_hello)
			announce(&ready_fd);
		if (is_over(s, &leaving_since))
			return;
		next = earlier(next, s->clock + (s->is_leaving ? LEAVE_LOOK_MS : TRIM_MS));
		if (!loop_wait(&s->loop, next > s->clock ? (int)(next - s->clock) : 0))
			strerr_diefusys(EXIT_TEMP, "wait");
	}
}

int
main(int argc, char **argv)
{
	static struct send s;
	unsigned int ready = 0;
	int option, has_ready = 0;

	PROG = "qmail-send";
	while ((option = getopt(argc, argv, "d:")) != -1) {
		if (option != 'd' || !uint0_scan(optarg, &ready) || ready <= RSPAWN_FD)
			strerr_dieusage(EXIT_PERM, USAGE);
		has_ready = 1;
	}
	if (optind != argc)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (has_ready && fcntl((int)ready, F_SETFD, FD_CLOEXEC) < 0)
		strerr_diefusys(EXIT_TEMP, "use the descriptor of option -d");
	init(&s);
	shut_in(&s);
	run(&s, has_ready ? (int)ready : -1);
	say_goodbye(&s);
	return s.exit_code;
}
