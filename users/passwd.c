#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <skalibs/bytestr.h>
#include <skalibs/types.h>
#include "passwd.h"

enum { ENTRY_MAX = 1 << 20 };	/* octets of an entry of the user database */

int
passwd_by_name(void *context, const char *name, struct passwd *pw)
{
	stralloc *room = context;
	struct passwd *found;

	for (size_t size = 1024; size <= ENTRY_MAX; size *= 2) {
		int e;

		if (!stralloc_ready(room, size))
			return -1;
		e = getpwnam_r(name, pw, room->s, room->a, &found);
		if (e == 0)
			return found != NULL;
		/* not ENOENT or ESRCH either: so a directory service is called that nobody could ask */
		if (e != ERANGE)
			return -1;
	}
	return -1;
}

int
passwd_owns(void *context, uid_t uid, const char *directory)
{
	struct stat st;

	(void)context;
	if (stat(directory, &st) == 0)
		return st.st_uid == uid;
	return errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP ? 0 : -1;
}

static int
put_string(stralloc *fields, const char *s)
{
	return stralloc_catb(fields, s, strlen(s) + 1);
}

static int
put_id(stralloc *fields, unsigned int id)
{
	char s[UINT_FMT];

	s[uint_fmt(s, id)] = '\0';
	return put_string(fields, s);
}

static enum passwd_result
answer(stralloc *fields, const struct passwd *pw, const char *dash, const char *ext)
{
	fields->len = 0;
	return put_string(fields, pw->pw_name) && put_id(fields, pw->pw_uid) && put_id(fields, pw->pw_gid)
	    && put_string(fields, pw->pw_dir) && put_string(fields, dash) && put_string(fields, ext)
	    ? PASSWD_FOUND : PASSWD_NO_MEMORY;
}

enum passwd_result
passwd_find(stralloc *fields, const struct passwd_source *source, const char *local)
{
	char name[PASSWD_USER_MAX + 1];
	struct passwd pw;
	int r;

	for (size_t n = strlen(local); n; n--) {
		if ((local[n] && local[n] != PASSWD_BREAK) || n > PASSWD_USER_MAX)
			continue;
		memcpy(name, local, n);
		name[n] = '\0';
		case_lowerb(name, n);
		r = source->by_name(source->context, name, &pw);
		if (r < 0)
			return PASSWD_TEMP_USER;
		if (r == 0 || pw.pw_uid == 0)
			continue;
		r = source->owns(source->context, pw.pw_uid, pw.pw_dir);
		if (r < 0)
			return PASSWD_TEMP_HOME;
		if (r)
			return local[n] ? answer(fields, &pw, "-", local + n + 1) : answer(fields, &pw, "", "");
	}
	r = source->by_name(source->context, "alias", &pw);
	if (r <= 0)
		return r < 0 ? PASSWD_TEMP_USER : PASSWD_NO_ALIAS;
	return answer(fields, &pw, "-", local);
}
