#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>
#include "home.h"

/* Opens DIR if program is DIR/bin/NAME or DIR/libexec/NAME and DIR holds control/; else -1. */
static int
open_tree_of(const char *program)
{
	char dir[HOME_PATH_MAX];
	const char *slash = strrchr(program, '/');
	const char *folder;
	struct stat st;
	size_t len;
	int fd;

	if (!slash || slash == program)
		return -1;
	for (folder = slash; folder > program && folder[-1] != '/'; folder--)
		;
	len = (size_t)(slash - folder);
	if (!(len == 3 && !memcmp(folder, "bin", 3)) && !(len == 7 && !memcmp(folder, "libexec", 7)))
		return -1;
	len = (size_t)(slash - program);
	if (len + sizeof "/.." > sizeof dir)
		return -1;
	memcpy(dir, program, len);
	memcpy(dir + len, "/..", sizeof "/..");
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && (fstatat(fd, "control", &st, 0) < 0 || !S_ISDIR(st.st_mode))) {
		close(fd);
		return -1;
	}
	return fd;
}

int
home_open(void)
{
	char exe[HOME_PATH_MAX];
	const char *path = (const char *)getauxval(AT_EXECFN);
	ssize_t len;
	int fd = -1;

	/* by the path it was started with: it works below a directory that this user cannot enter from the root */
	if (path && readlink(path, exe, sizeof exe) < 0)
		fd = open_tree_of(path);
	if (fd < 0 && (len = readlink("/proc/self/exe", exe, sizeof exe - 1)) > 0) {
		exe[len] = '\0';
		fd = open_tree_of(exe);
	}
	return fd >= 0 ? fd : open(QMAIL_HOME, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int
home_enter(void)
{
	int fd = home_open();
	int r;

	if (fd < 0)
		return 0;
	r = fchdir(fd);
	close(fd);
	return r == 0;
}
