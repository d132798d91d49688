#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "login_chain.h"

enum {
	PLACES = LOGIN_CHAIN_CALLER + 1,
	ABOVE = 16,	/* no descriptor from here on is one that a program is to find */
};

static size_t
length(char *const *argv)
{
	size_t n = 0;

	while (argv[n])
		n++;
	return n;
}

/* CHECKPASSWORD ... qmail-loggedin (NULL: without it) and what comes behind it. NULL: ENOMEM. */
static const char **
join(char *const *check, size_t check_len, const char *loggedin, char *const *session, size_t session_len)
{
	const char **argv = calloc(check_len + 1 + session_len + 1, sizeof *argv);
	size_t n = 0;

	if (!argv)
		return NULL;
	for (size_t i = 0; i < check_len; i++)
		argv[n++] = check[i];
	if (loggedin)
		argv[n++] = loggedin;
	for (size_t i = 0; i < session_len; i++)
		argv[n++] = session[i];
	return argv;
}

/* A path of name, which is relative to the current directory, that is good wherever the checkpassword program goes. Below a directory that
 * this user may not enter (a private server in root's home) it begins with a descriptor, which stays open: qmail-pop3d finds the home by it. */
static char *
reachable(const char *name)
{
	char *here = getcwd(NULL, 0), *path = NULL;
	int directory = -1, high;

	if (!here || access(here, X_OK) < 0)
		directory = open(".", O_PATH | O_DIRECTORY);
	if (directory >= 0) {
		high = fcntl(directory, F_DUPFD, ABOVE);
		close(directory);
		if (high < 0 || asprintf(&path, "/proc/self/fd/%d/%s", high, name) < 0)
			path = NULL;
	} else if (here && asprintf(&path, "%s/%s", here, name) < 0)
		path = NULL;
	free(here);
	return path;
}

/* The session program, if it is named by a path of the home. */
static int
is_of_home(const char *program)
{
	return program && *program != '/' && strchr(program, '/');
}

int
login_chain_init(struct login_chain *c, char *const *argv, int session_tells)
{
	size_t all = length(argv), check = 0;

	while (check < all && strcmp(argv[check], "--") != 0)
		check++;
	if (check == 0 || check + 1 == all) {
		errno = EINVAL;
		return 0;
	}
	c->outside = reachable(LOGIN_CHAIN_LOGGEDIN);
	c->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	c->argv[0] = c->outside ? join(argv, check, c->outside, NULL, 0) : NULL;
	c->argv[1] = c->outside && check < all ? join(argv, check, session_tells ? NULL : c->outside, argv + check + 1, all - check - 1) : NULL;
	c->session = c->argv[1] && is_of_home(argv[check + 1]) ? reachable(argv[check + 1]) : NULL;
	if (c->session)
		c->argv[1][check + !session_tells] = c->session;
	return c->null >= 0 && c->argv[0] && (check == all || (c->argv[1] && (c->session || !is_of_home(argv[check + 1]))));
}

void
login_chain_free(struct login_chain *c)
{
	free(c->argv[0]);
	free(c->argv[1]);
	free(c->outside);
	free(c->session);
	close(c->null);
}

int
login_chain_has(const struct login_chain *c, enum login_question question)
{
	return c->argv[question == LOGIN_SESSION] != NULL;
}

/* --- what the program finds ----------------------------------------------------------------------------------- */

/* Has the descriptors from[i] (-1: none) put at i; meanwhile they lie out of the way, in high. 1, or 0 with errno set. */
static int
place(posix_spawn_file_actions_t *actions, const int from[PLACES], int high[PLACES])
{
	for (int i = 0; i < PLACES; i++) {
		if (from[i] < 0)
			continue;
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, ABOVE);
		if (high[i] < 0)
			return 0;
		errno = posix_spawn_file_actions_adddup2(actions, high[i], i);
		if (errno)
			return 0;
	}
	return 1;
}

/* The environment of now with the variables of a request. It points to strings of both. NULL: ENOMEM. */
static char **
new_environment(const struct login_request *r)
{
	char **environment = calloc(length(environ) + r->variables_len + 1, sizeof *environment);
	size_t n = 0;

	if (!environment)
		return NULL;
	for (char **entry = environ; *entry; entry++)
		if (login_variable_find(*entry) < 0)
			environment[n++] = *entry;
	for (size_t i = 0; i < r->variables_len; i++)
		environment[n++] = (char *)(uintptr_t)r->variables[i];
	return environment;
}

/* What is to be undone of this process for the programs. */
static int
set_signals(posix_spawnattr_t *attributes, const sigset_t *mask)
{
	sigset_t ignored;

	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	errno = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	if (!errno)
		errno = posix_spawnattr_setsigdefault(attributes, &ignored);
	if (!errno)
		errno = posix_spawnattr_setsigmask(attributes, mask);
	return !errno;
}

/* posix_spawn and not fork: the memory of this process is neither copied for a child that needs none of it, nor faulted in
 * again here. The process id, or -1 with errno set. */
static pid_t
spawn(const struct login_chain *c, const struct login_request *r, const int from[PLACES])
{
	const char **argv = c->argv[r->question == LOGIN_SESSION];
	char **environment = new_environment(r);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int high[PLACES] = { -1, -1, -1, -1, -1, -1 }, e;
	pid_t pid = -1;

	if (!environment)
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	if (place(&actions, from, high) && set_signals(&attributes, &c->signals)) {
		errno = posix_spawnp(&pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, environment);
		if (errno)
			pid = -1;
	}
	e = errno;
	for (int i = 0; i < PLACES; i++)
		if (high[i] >= 0)
			close(high[i]);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	free(environment);
	errno = e;
	return pid;
}

/* --- the start ---------------------------------------------------------------------------------------------- */

/* Writes what fits into a pipe at once. */
static int
write_login(int fd, const struct login_request *r)
{
	const char *strings[] = { r->login, r->secret, r->challenge };

	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
		size_t size = strlen(strings[i]) + 1;

		if (write(fd, strings[i], size) != (ssize_t)size)
			return 0;
	}
	return 1;
}

static void
close_both(const int ends[2])
{
	int e = errno;

	close(ends[0]);
	close(ends[1]);
	errno = e;
}

pid_t
login_chain_start(const struct login_chain *c, const struct login_request *r, int connection, int caller, int *begun)
{
	int is_session = r->question == LOGIN_SESSION, zero, secret[2], octet[2];
	pid_t pid;

	if (pipe2(secret, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(octet, O_CLOEXEC | O_NONBLOCK) < 0) {
		close_both(secret);
		return -1;
	}
	zero = is_session ? connection : c->null;
	pid = !write_login(secret[1], r) ? -1 :
	    spawn(c, r, (const int[PLACES]){ zero, zero, STDERR_FILENO, secret[0], octet[1], is_session ? caller : -1 });
	close_both(secret);
	if (pid < 0) {
		close_both(octet);
		return -1;
	}
	close(octet[1]);
	*begun = octet[0];
	return pid;
}
