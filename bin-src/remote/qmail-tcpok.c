/* qmail-tcpok: forget which addresses timed out.
 * Trust: reads nobody's octets. It needs the right to write run/tcpto: qmailr, or root. */
#include <errno.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "tcpto.h"

#define USAGE "qmail-tcpok"

int
main(int argc, const char *const *argv)
{
	struct tcpto *t;

	(void)argv;
	PROG = "qmail-tcpok";
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	t = tcpto_open(1);
	if (!t && errno != ENOENT)
		strerr_diefusys(EXIT_TEMP, "write run/tcpto");
	tcpto_clear(t);
	return EXIT_OK;
}
