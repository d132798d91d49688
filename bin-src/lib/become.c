#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "become.h"

/* Whether this process is uid and gid and nothing else. */
static int
is_only(uid_t uid, gid_t gid)
{
	uid_t u[3];
	gid_t g[3], groups[2];

	return getresuid(&u[0], &u[1], &u[2]) == 0 && u[0] == uid && u[1] == uid && u[2] == uid
	    && getresgid(&g[0], &g[1], &g[2]) == 0 && g[0] == gid && g[1] == gid && g[2] == gid
	    && getgroups(2, groups) == 1 && groups[0] == gid
	    && setuid(0) < 0;
}

int
become(uid_t uid, gid_t gid)
{
	if (uid == 0) {
		errno = EPERM;
		return 0;
	}
	if (geteuid() != 0) {
		errno = EPERM;
		return geteuid() == uid && getuid() == uid;
	}
	if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return 0;
	if (!is_only(uid, gid)) {
		errno = EPERM;
		return 0;
	}
	return 1;
}

/* What becomes of a search that found nothing, by the errno at its end: 0 there is none, -1. */
static int
not_found(FILE *file)
{
	int e = errno;

	if (file)
		fclose(file);
	errno = e;
	return e == 0 || e == ENOENT ? 0 : -1;
}

int
become_find_user(const char *name, uid_t *uid, gid_t *gid)
{
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *pw = NULL;

	if (file)
		for (errno = 0; (pw = fgetpwent(file)) && strcmp(pw->pw_name, name) != 0; errno = 0)
			;
	if (!pw)
		return not_found(file);
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	fclose(file);
	return 1;
}

int
become_find_group(const char *name, gid_t *gid)
{
	FILE *file = fopen("/etc/group", "re");
	const struct group *gr = NULL;

	if (file)
		for (errno = 0; (gr = fgetgrent(file)) && strcmp(gr->gr_name, name) != 0; errno = 0)
			;
	if (!gr)
		return not_found(file);
	*gid = gr->gr_gid;
	fclose(file);
	return 1;
}
