/* passwd: whose a local part is by the machine's user database, where users/cdb does not say it (interfaces 7.2).
 * Trust   the local part is anybody's; the user database is the machine's */
#ifndef PASSWD_H
#define PASSWD_H
#include <pwd.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>

#ifndef PASSWD_BREAK
#define PASSWD_BREAK '-'	/* conf-break: between user and extension */
#endif
enum { PASSWD_USER_MAX = 31 };	/* octets of a user name */

/* Who answers passwd_find. */
struct passwd_source {
	/* The entry of a user: 1 and *pw (valid until the next call), 0 there is none, -1 cannot be known now. */
	int (*by_name)(void *context, const char *name, struct passwd *pw);
	/* Whether uid owns directory: 1, 0 it does not exist or is another's, -1 cannot be known now. */
	int (*owns)(void *context, uid_t uid, const char *directory);
	void *context;
};

/* The machine's own: getpwnam_r and stat. The context is a stralloc for the entry, whose strings are in it. A directory that we have
 * no right to look at is one that cannot be known, and so is every name that the files do not have, while a service of nsswitch.conf
 * does not answer. */
int passwd_by_name(void *context, const char *name, struct passwd *pw);
int passwd_owns(void *context, uid_t uid, const char *directory);

enum passwd_result { PASSWD_FOUND, PASSWD_NO_ALIAS, PASSWD_TEMP_USER, PASSWD_TEMP_HOME, PASSWD_NO_MEMORY };

/* Fills *fields with user, uid, gid, home, dash and ext of local, each ended by NUL: the longest prefix of local that
 * ends at its end or before PASSWD_BREAK and is, in lower case, a user with a uid other than 0 who owns his home; else
 * the user alias. */
enum passwd_result passwd_find(stralloc *fields, const struct passwd_source *source, const char *local);

/* How qmail-getpw exits; any other status is trouble as well. */
enum getpw_exit {
	GETPW_USAGE = 112, GETPW_HOME = 115, GETPW_NO_ALIAS = 116, GETPW_SYSTEM = 118, GETPW_NO_MEMORY = 119,
};

#endif
