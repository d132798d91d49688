#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "account_home.h"
#include "become.h"
#include "maildir.h"
#include "stralloc_set.h"

/* Makes each directory on the way and enters the last one. What cannot be made may be there: entering tells. */
static int
enter(const char *path)
{
	char *copy = strdup(path);
	int made = 0;

	for (char *slash = copy; slash; ) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		made = mkdir(copy, ACCOUNT_HOME_MODE) == 0 || errno == EEXIST;
		if (slash)
			*slash = '/';
	}
	if (!made) {
		free(copy);
		return 0;
	}
	free(copy);
	return chdir(path) == 0;
}

/* In the child. Returns 0, or what went wrong. */
static int
make(const struct virtual_account *v)
{
	umask(0);
	if (!become(v->uid, v->gid) || !enter(v->home))
		return errno;
	return maildir_make("Maildir") || errno == EEXIST ? 0 : errno;
}

int
account_home_make(const struct virtual_account *v)
{
	int wstat = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(make(v));
	if (pid < 0)
		return 0;
	while (waitpid(pid, &wstat, 0) < 0)
		if (errno != EINTR)
			return 0;
	errno = WIFEXITED(wstat) ? WEXITSTATUS(wstat) : EINTR;
	return wstat == 0;
}

static const char *
directory_fault(const char *path, uid_t uid)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return strerror(errno);
	if (!S_ISDIR(st.st_mode))
		return "it is no directory";
	if (st.st_uid != uid)
		return "it belongs to another user";
	return st.st_mode & S_IWOTH ? "everybody can write it" : NULL;
}

const char *
account_home_fault(const struct virtual_account *v)
{
	const char *fault = directory_fault(v->home, v->uid);
	stralloc maildir = STRALLOC_ZERO;

	if (fault)
		return fault;
	if (!stralloc_sets(&maildir, v->home) || !stralloc_cats(&maildir, "/Maildir") || !stralloc_0(&maildir))
		return strerror(ENOMEM);
	fault = directory_fault(maildir.s, v->uid);
	stralloc_free(&maildir);
	return fault;
}
