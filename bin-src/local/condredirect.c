/* condredirect: send the message on to another address, and stop here, if a program says so.
 * Trust: runs as the user, in a dot-qmail file; message and variables hold what somebody on the network chose. */
#include <unistd.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "condition.h"
#include "copy.h"
#include "exitcode.h"
#include "home.h"

#define USAGE "condredirect address program [argument...]"

int
main(int argc, const char *const *argv)
{
	stralloc recipient = STRALLOC_ZERO;
	int home = home_open();
	const char *sender;

	PROG = "condredirect";
	if (argc < 3)
		strerr_dieusage(EXIT_PERM, USAGE);
	sender = copy_variable("SENDER");
	copy_variable("DTLINE");
	switch (condition_ask(argv + 2)) {
	case CONDITION_FALSE:
		return EXIT_OK;
	case CONDITION_UNKNOWN:
		strerr_dief(EXIT_TEMP, argv[2], " could not say whether to redirect the message");
	default:
		break;
	}
	if (!stralloc_cats(&recipient, argv[1]) || !stralloc_0(&recipient))
		strerr_diefusys(EXIT_TEMP, "remember the address");
	if (lseek(STDIN_FILENO, 0, SEEK_SET) < 0)	/* the program has read it */
		strerr_diefusys(EXIT_TEMP, "read the message on descriptor 0 again");
	copy_message(home, sender, &recipient);
	return EXIT_STOP;
}
