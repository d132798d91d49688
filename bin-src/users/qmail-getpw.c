/* qmail-getpw: say which user of this machine an address belongs to.
 * Trust: the local part comes from the envelope of anybody's message. Runs as qmailp: no files of its own, it only asks
 * the user database and looks at the owner of home directories. Not shut in: the name service loads the libraries and asks
 * the daemons that the machine is configured with. */
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "users/passwd.h"

#define USAGE "qmail-getpw local"

int
main(int argc, const char *const *argv)
{
	stralloc entry = STRALLOC_ZERO;
	stralloc fields = STRALLOC_ZERO;
	struct passwd_source machine = { .by_name = passwd_by_name, .owns = passwd_owns, .context = &entry };

	PROG = "qmail-getpw";
	if (argc != 2)
		strerr_dieusage(GETPW_USAGE, USAGE);
	switch (passwd_find(&fields, &machine, argv[1])) {
	case PASSWD_FOUND:
		break;
	case PASSWD_NO_ALIAS:
		strerr_dief(GETPW_NO_ALIAS, "there is no user alias");
	case PASSWD_TEMP_USER:
		strerr_diefusys(GETPW_SYSTEM, "ask the user database");
	case PASSWD_TEMP_HOME:
		strerr_diefusys(GETPW_HOME, "look at the home directory of a user");
	case PASSWD_NO_MEMORY:
		strerr_dief(GETPW_NO_MEMORY, "out of memory");
	}
	if (allwrite(STDOUT_FILENO, fields.s, fields.len) < fields.len)
		strerr_diefusys(GETPW_SYSTEM, "write the answer");
	return 0;
}
