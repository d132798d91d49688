/* predate: put a Date field, in local time, before a message and give it to a program. The same file is datemail, which
 * gives it to sendmail.
 * Trust: the message is only carried. */
#include <string.h>
#include <time.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "feed.h"
#include "home.h"

#define USAGE "predate program [argument ...]"

int
main(int argc, const char **argv)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	int home = -1;
	char date[64];
	time_t now = time(NULL);
	struct tm *tm = localtime(&now);
	size_t len;

	name = name ? name + 1 : argc ? argv[0] : "";
	PROG = strcmp(name, "datemail") ? "predate" : "datemail";
	if (!strcmp(PROG, "datemail")) {
		home = home_open();
		if (home < 0)
			strerr_diefusys(EXIT_TEMP, "open the qmail home");
		argv[0] = "bin/sendmail";
	} else if (argc < 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	else
		argv++;
	/* no setlocale: the names are those of RFC 5322 section 3.3 */
	len = tm ? strftime(date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S %z\n", tm) : 0;
	if (!len)
		strerr_dief(EXIT_TEMP, "the clock gives no date");
	return feed_program(argv, home, date, len);
}
