#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "account_home.h"
#include "become.h"
#include "maildir.h"
#include "maildir_quota.h"
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
	/* whoever was to make it may have lacked room in the middle */
	return maildir_make("Maildir") || (errno == EEXIST && maildir_complete("Maildir")) ? 0 : errno;
}

/* Returns 1 if a child ended with 0; else 0 with what it ended with in errno. */
static int
await(pid_t pid)
{
	int wstat = 0;

	while (waitpid(pid, &wstat, 0) < 0)
		if (errno != EINTR)
			return 0;
	errno = WIFEXITED(wstat) ? WEXITSTATUS(wstat) : EINTR;
	return wstat == 0;
}

int
account_home_make(const struct virtual_account *v)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(make(v));
	return pid > 0 && await(pid);
}

/* In the child: reads, and tells by the pipe. Returns 0, or what went wrong. */
static int
tell_usage(const struct virtual_account *v, int pipe)
{
	struct account_usage usage;
	struct maildir_quota q;

	if (!become(v->uid, v->gid) || chdir(v->home) < 0 || !maildir_quota_look(&q, "Maildir", v->quota))
		return errno;
	usage = (struct account_usage){ .octets = q.octets, .messages = q.messages };
	return write(pipe, &usage, sizeof usage) == sizeof usage ? 0 : errno;
}

int
account_home_usage(const struct virtual_account *v, struct account_usage *usage)
{
	int ends[2], is_told;
	pid_t pid;

	if (pipe(ends) < 0)
		return 0;
	pid = fork();
	if (pid == 0)
		_exit(tell_usage(v, ends[1]));
	close(ends[1]);
	is_told = pid > 0 && await(pid) && read(ends[0], usage, sizeof *usage) == sizeof *usage;
	close(ends[0]);
	return is_told;
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
	stralloc path = STRALLOC_ZERO;
	size_t len;

	if (fault)
		return fault;
	if (!stralloc_sets(&path, v->home) || !stralloc_cats(&path, "/Maildir") || !stralloc_0(&path) ||
	    !stralloc_readyplus(&path, sizeof "/cur"))
		return strerror(ENOMEM);
	fault = directory_fault(path.s, v->uid);
	len = path.len - 1;
	for (int i = 0; i < MAILDIR_FOLDERS && !fault; i++) {
		path.s[len] = '/';
		memcpy(path.s + len + 1, maildir_folders[i], sizeof "cur");
		if (directory_fault(path.s, v->uid))
			fault = "cur, new or tmp is missing in it, or not as it should be";
	}
	stralloc_free(&path);
	return fault;
}
