/* qmail-start: start qmail-lspawn, qmail-rspawn and a logger, become qmail-send.
 * Trust: the arguments are the administrator's. Started by root, it gives each program its user: qmail-lspawn stays root,
 * qmail-rspawn is qmailr, the logger qmaill, both in group nofiles only, and qmail-send is qmails in group qmails only, to
 * which queue/ belongs. Started by another user, all of them are that user. */
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "become.h"
#include "exitcode.h"
#include "home.h"
#include "job.h"

#define DEFAULT_DELIVERY "./Mailbox"

#define USAGE "qmail-start [-d fd] [defaultdelivery [logger arg ...]]"

enum { LSPAWN_FD = 3, RSPAWN_FD = 4, FIRST_FREE_FD = 5 };	/* of qmail-send */

struct identity { uid_t uid; gid_t gid; };

struct start {
	int is_root;
	struct identity send, rspawn, logger;
	int lspawn_pair[2], rspawn_pair[2];	/* qmail-send's end first */
	int log_pipe[2];	/* read end first; -1 no logger */
	int log, null;
	int ready;		/* where qmail-send says that it is ready; -1 nowhere */
};

static void
find_identity(struct identity *id, const char *user, const char *group)
{
	gid_t own;
	int r = become_find_user(user, &id->uid, &own);

	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "ask the user database for user ", user);
	if (r == 0)
		strerr_dief(EXIT_TEMP, "there is no user ", user);
	r = become_find_group(group, &id->gid);
	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "ask the user database for group ", group);
	if (r == 0)
		strerr_dief(EXIT_TEMP, "there is no group ", group);
}

static int
open_null(void)
{
	int fd = open("/dev/null", O_RDWR);

	if (fd < 0)
		strerr_diefusys(EXIT_TEMP, "open /dev/null");
	return fd;
}

/* Nothing that is opened later may get such a number. */
static void
fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open_null();
}

/* Moves fd out of the way of the places that have a meaning; closed on exec. */
static int
move_up(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);

	if (moved < 0)
		strerr_diefusys(EXIT_TEMP, "move a descriptor");
	close(fd);
	return moved;
}

static void
make_pair(int pair[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		strerr_diefusys(EXIT_TEMP, "make a socket");
	pair[0] = move_up(pair[0]);
	pair[1] = move_up(pair[1]);
}

static void
make_log(struct start *s, int has_logger)
{
	s->log_pipe[0] = s->log_pipe[1] = -1;
	if (!has_logger) {
		s->log = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
		if (s->log < 0)
			strerr_diefusys(EXIT_TEMP, "find the log on descriptor 1");
		return;
	}
	if (pipe(s->log_pipe) < 0)
		strerr_diefusys(EXIT_TEMP, "make a pipe for the logger");
	s->log_pipe[0] = move_up(s->log_pipe[0]);
	s->log = s->log_pipe[1] = move_up(s->log_pipe[1]);
}

static void
put(int from, int to)
{
	if (dup2(from, to) < 0)
		strerr_diefusys(EXIT_TEMP, "place a descriptor");
}

/* In a process that is about to run a program. */
static void
become_identity(const struct start *s, const struct identity *id)
{
	if (s->is_root && !become(id->uid, id->gid))
		strerr_diefusys(EXIT_TEMP, "become another user");
}

static pid_t
fork_or_die(void)
{
	pid_t pid = fork();

	if (pid < 0)
		strerr_diefusys(EXIT_TEMP, "fork");
	return pid;
}

static void
start_logger(const struct start *s, const char *const *argv)
{
	if (fork_or_die())
		return;
	put(s->log_pipe[0], STDIN_FILENO);
	closefrom(STDERR_FILENO + 1);
	become_identity(s, &s->logger);
	exec(argv);
	strerr_dieexec(EXIT_TEMP, argv[0]);
}

/* id NULL: as whoever we are */
static void
start_spawner(const struct start *s, const char *const *argv, int socket, const struct identity *id)
{
	if (fork_or_die())
		return;
	put(s->null, STDIN_FILENO);
	put(s->log, STDOUT_FILENO);
	put(s->log, STDERR_FILENO);
	put(socket, JOB_WORKER_FD);
	closefrom(JOB_WORKER_FD + 1);
	if (id)
		become_identity(s, id);
	exec(argv);
	strerr_dieexec(EXIT_TEMP, argv[0]);
}

static void
become_send(const struct start *s)
{
	char ready[UINT_FMT];
	const char *const argv[] = { "bin/qmail-send", s->ready >= 0 ? "-d" : NULL, ready, NULL };

	put(s->null, STDIN_FILENO);
	put(s->log, STDOUT_FILENO);
	put(s->log, STDERR_FILENO);
	put(s->lspawn_pair[0], LSPAWN_FD);
	put(s->rspawn_pair[0], RSPAWN_FD);
	if (s->ready >= 0) {
		put(s->ready, FIRST_FREE_FD);
		fcntl(FIRST_FREE_FD, F_SETFD, 0);
		ready[uint_fmt(ready, FIRST_FREE_FD)] = '\0';
	}
	closefrom(FIRST_FREE_FD + (s->ready >= 0));
	become_identity(s, &s->send);
	exec(argv);
	strerr_dieexec(EXIT_TEMP, argv[0]);
}

/* Returns the number of arguments that were options. */
static int
read_options(struct start *s, int argc, const char *const *argv)
{
	subgetopt state = SUBGETOPT_ZERO;
	unsigned int fd;
	int c;

	s->ready = -1;
	while ((c = subgetopt_r(argc, argv, "d:", &state)) != -1) {
		if (c != 'd' || !uint0_scan(state.arg, &fd) || fd <= STDERR_FILENO || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0)
			strerr_dieusage(EXIT_PERM, USAGE);
		s->ready = (int)fd;
	}
	return state.ind - 1;
}

int
main(int argc, const char *const *argv)
{
	struct start s = { .is_root = geteuid() == 0 };
	const char *lspawn[] = { "bin/qmail-lspawn", DEFAULT_DELIVERY, NULL };
	const char *const rspawn[] = { "bin/qmail-rspawn", NULL };
	int options;

	PROG = "qmail-start";
	options = read_options(&s, argc, argv);
	argc -= options;
	argv += options;
	if (argc > 1)
		lspawn[1] = argv[1];
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (s.is_root) {
		find_identity(&s.send, "qmails", "qmails");
		find_identity(&s.rspawn, "qmailr", "nofiles");
		find_identity(&s.logger, "qmaill", "nofiles");
	}
	fill_standard_descriptors();
	if (s.ready >= 0)
		s.ready = move_up(s.ready);
	s.null = move_up(open_null());
	make_log(&s, argc > 2);
	make_pair(s.lspawn_pair);
	make_pair(s.rspawn_pair);
	if (argc > 2)
		start_logger(&s, argv + 2);
	start_spawner(&s, lspawn, s.lspawn_pair[1], NULL);
	start_spawner(&s, rspawn, s.rspawn_pair[1], &s.rspawn);
	become_send(&s);
}
