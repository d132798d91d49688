/* qmail-inject: complete a message (descriptor 0) and queue it. The same file is sendmail, mailq and newaliases: the
 * name that it is called by decides.
 * Trust: everything comes from the caller, with whose rights this runs; the queue learns from the kernel who that is. */
#include <string.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "injection.h"
#include "sendmail.h"

#define USAGE "qmail-inject [-nN] [-aAhH] [-f sender] [recipient ...]"

static void
read_options(struct injection_options *options, int argc, const char *const *argv)
{
	subgetopt l = SUBGETOPT_ZERO;

	l.err = 0;
	for (;;) {
		switch (subgetopt_r(argc, argv, "aAhHnNf:", &l)) {
		case -1:
			options->arguments = argv + l.ind;
			return;
		case 'a': options->recipients = RECIPIENTS_ARGUMENTS; break;
		case 'A': options->recipients = RECIPIENTS_AUTO; break;
		case 'h': options->recipients = RECIPIENTS_HEADER; break;
		case 'H': options->recipients = RECIPIENTS_BOTH; break;
		case 'n': options->print = 1; break;
		case 'N': options->print = 0; break;
		case 'f': options->sender = l.arg; break;
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	}
}

static const char *
called_by(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "";
}

int
main(int argc, const char *const *argv)
{
	struct injection_options options = { .recipients = RECIPIENTS_AUTO };
	const char *name = called_by(argc ? argv[0] : NULL);
	int home;

	PROG = "sendmail";
	if (!strcmp(name, "newaliases"))
		sendmail_new_aliases();
	home = home_open();
	if (home < 0)
		strerr_diefusys(EXIT_TEMP, "open the qmail home");
	if (!strcmp(name, "mailq"))
		sendmail_show_queue(home);
	/* BSD's mail calls it send-mail; who puts something in front of it keeps it as sendmail.orig or the like */
	if (strstr(name, "sendmail") || strstr(name, "send-mail"))
		sendmail_command(&options, argc, argv, home);
	else {
		PROG = "qmail-inject";
		read_options(&options, argc, argv);
	}
	PROG = "qmail-inject";
	return injection_run(&options, home);
}
