/* bouncesaying: refuse a message, always or if a program says so.
 * Trust: runs as the user, in a dot-qmail file; reads nothing itself. */
#include <skalibs/buffer.h>
#include <skalibs/strerr.h>
#include "condition.h"
#include "exitcode.h"

#define USAGE "bouncesaying text [program [argument...]]"

int
main(int argc, const char *const *argv)
{
	enum condition answer = CONDITION_TRUE;

	PROG = "bouncesaying";
	if (argc < 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (argc > 2)
		answer = condition_ask(argv + 2);
	if (answer == CONDITION_UNKNOWN)
		strerr_dief(EXIT_TEMP, argv[2], " could not say whether to refuse the message");
	if (answer == CONDITION_FALSE)
		return EXIT_OK;
	buffer_puts(buffer_1small, argv[1]);
	buffer_putflush(buffer_1small, "\n", 1);
	return EXIT_PERM;
}
