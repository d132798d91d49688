/* forward: send the message on to other addresses, from NEWSENDER.
 * Trust: runs as the user, in a dot-qmail file; message and variables hold what somebody on the network chose. */
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "copy.h"
#include "exitcode.h"
#include "home.h"

int
main(int argc, const char *const *argv)
{
	stralloc recipients = STRALLOC_ZERO;
	int home = home_open();

	PROG = "forward";
	if (argc < 2)	/* a list that is empty: as qmail's, it sends to nobody */
		return EXIT_OK;
	for (argv++; *argv; argv++) {
		if (!stralloc_cats(&recipients, *argv) || !stralloc_0(&recipients))
			strerr_diefusys(EXIT_TEMP, "remember the addresses");
	}
	copy_message(home, copy_variable("NEWSENDER"), &recipients);
	return EXIT_OK;
}
