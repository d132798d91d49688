#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include "replaced.h"

static int
look_at(int home, const char *directory, const char *name, struct stat *st)
{
	char path[NAME_MAX];

	snprintf(path, sizeof path, "%s/%s", directory, name);
	return fstatat(home >= 0 ? home : AT_FDCWD, path, st, 0);
}

int
is_replaced(int home, const char *name)
{
	struct stat bin, ours;

	if (look_at(home, "bin", name, &bin) < 0 || look_at(home, "libexec", name, &ours) < 0)
		return errno == ENOENT ? 1 : -1;
	return bin.st_ino != ours.st_ino || bin.st_dev != ours.st_dev;
}
