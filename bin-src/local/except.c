/* except: turn a program's answer round: it says yes, the message is refused.
 * Trust: runs as the user, in a dot-qmail file; reads nothing itself. */
#include <skalibs/strerr.h>
#include "condition.h"
#include "exitcode.h"

#define USAGE "except program [argument...]"

int
main(int argc, const char *const *argv)
{
	PROG = "except";
	if (argc < 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	switch (condition_ask(argv + 1)) {
	case CONDITION_TRUE:
		return EXIT_PERM;
	case CONDITION_FALSE:
		return EXIT_OK;
	default:
		strerr_dief(EXIT_TEMP, argv[1], " gave no answer");
	}
}
