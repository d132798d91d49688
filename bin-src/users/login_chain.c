#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "exitcode.h"
#include "login_chain.h"

enum { ABOVE = 16 };	/* no descriptor from here on is one that a program is to find */

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

/* --- in the child ----------------------------------------------------------------------------------------- */

/* Puts descriptors in their places. 1, or 0. */
static int
place(const int from[LOGIN_CHAIN_CALLER + 1])
{
	int high[LOGIN_CHAIN_CALLER + 1];

	for (int i = 0; i <= LOGIN_CHAIN_CALLER; i++)
		high[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, ABOVE);
	for (int i = 0; i <= LOGIN_CHAIN_CALLER; i++)
		if (from[i] >= 0 && (high[i] < 0 || dup2(high[i], i) < 0))
			return 0;
	return 1;
}

static int
set_variables(const struct login_request *r)
{
	for (const char *const *name = login_variables; *name; name++)
		unsetenv(*name);
	for (size_t i = 0; i < r->variables_len; i++)
		if (putenv((char *)(uintptr_t)r->variables[i]) != 0)
			return 0;
	return 1;
}

static void
run(const struct login_chain *c, const struct login_request *r, const int from[LOGIN_CHAIN_CALLER + 1])
{
	const char **argv = c->argv[r->question == LOGIN_SESSION];

	if (!place(from) || !set_variables(r))
		_exit(EXIT_TEMP);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &c->signals, NULL);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(EXIT_TEMP);
}

/* --- in the parent ---------------------------------------------------------------------------------------- */

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
	int is_session = r->question == LOGIN_SESSION, secret[2], octet[2];
	pid_t pid;

	if (pipe2(secret, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(octet, O_CLOEXEC | O_NONBLOCK) < 0) {
		close_both(secret);
		return -1;
	}
	pid = write_login(secret[1], r) ? fork() : -1;
	if (pid == 0) {
		int zero = is_session ? connection : c->null;
		const int from[] = { zero, zero, STDERR_FILENO, secret[0], octet[1], is_session ? caller : -1 };

		run(c, r, from);
	}
	close_both(secret);
	if (pid < 0) {
		close_both(octet);
		return -1;
	}
	close(octet[1]);
	*begun = octet[0];
	return pid;
}
