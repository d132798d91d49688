/* maildirmake: make a maildir.
 * Trust: the caller's own path; reads nothing. */
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "maildir.h"

#define USAGE "maildirmake directory"

int
main(int argc, const char *const *argv)
{
	PROG = "maildirmake";
	if (argc != 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!maildir_make(argv[1]))
		strerr_diefusys(EXIT_TEMP, "make the maildir ", argv[1]);
	return EXIT_OK;
}
