/* qmail-loggedin: the first program of a login that was right: tells qmail-authd so, and runs the program behind it.
 * Trust: runs as the user, reads nothing. Whoever can run it has logged in. */
#include <skalibs/exec.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "login_chain.h"

int
main(int argc, const char *const *argv)
{
	login_chain_tell();
	PROG = "qmail-loggedin";
	if (argc < 2)
		return EXIT_OK;
	exec(argv + 1);
	strerr_diefusys(EXIT_TEMP, "execute ", argv[1]);
}
