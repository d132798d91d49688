/* mailsubj: mail descriptor 0, with a subject, to addresses.
 * Trust: the arguments are the caller's; a line end in one cannot begin another field. */
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "feed.h"
#include "home.h"

#define USAGE "mailsubj subject address ..."

/* Appends s; line ends become blanks. */
static int
append_line(stralloc *to, const char *s)
{
	for (; *s; s++)
		if (!stralloc_append(to, *s == '\n' || *s == '\r' ? ' ' : *s))
			return 0;
	return 1;
}

static int
make_header(stralloc *header, const char *const *argv)
{
	if (!stralloc_cats(header, "Subject: ") || !append_line(header, argv[1]) || !stralloc_cats(header, "\nTo: "))
		return 0;
	for (argv += 2; *argv; argv++)
		if (!append_line(header, *argv) || !stralloc_cats(header, argv[1] ? ",\n  " : "\n\n"))
			return 0;
	return 1;
}

int
main(int argc, const char *const *argv)
{
	static const char *const inject[] = { "bin/qmail-inject", "-h", NULL };
	stralloc header = STRALLOC_ZERO;
	int home;

	PROG = "mailsubj";
	if (argc < 3)
		strerr_dieusage(EXIT_PERM, USAGE);
	home = home_open();
	if (home < 0)
		strerr_diefusys(EXIT_TEMP, "open the qmail home");
	if (!make_header(&header, argv))
		strerr_dief(EXIT_TEMP, "out of memory");
	return feed_program(inject, home, header.s, header.len);
}
