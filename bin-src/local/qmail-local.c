/* qmail-local: deliver a message to a local address, as its user says in a dot-qmail file.
 * Trust: the message and every address are hostile; the files in the home are the user's, and we run as that user. Not shut
 * in: a delivery may write any file and run any program that its user may. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/djbunix.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include "delivery.h"
#include "exitcode.h"
#include "home.h"
#include "worker.h"

#define USAGE "qmail-local [-nN] user home local dash ext domain sender defaultdelivery | qmail-local -W [-C] user home " \
	"defaultdelivery"

enum { ARGUMENTS = 8, WORKER_ARGUMENTS = 3 };

struct options {
	int say_only;	/* -n */
	int worker;	/* -W */
	int classic;	/* -C */
};

/* Parses the options; returns the index of the first argument. */
static int
parse_options(struct options *o, int argc, const char *const *argv)
{
	subgetopt state = SUBGETOPT_ZERO;
	int c;

	while ((c = subgetopt_r(argc, argv, "nNWC", &state)) != -1) {
		switch (c) {
		case 'n': o->say_only = 1; break;
		case 'N': o->say_only = 0; break;
		case 'W': o->worker = 1; break;
		case 'C': o->classic = 1; break;
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	}
	if (argc - state.ind != (o->worker ? WORKER_ARGUMENTS : ARGUMENTS) || (o->classic && !o->worker) ||
	    (o->worker && o->say_only))
		strerr_dieusage(EXIT_PERM, USAGE);
	return state.ind;
}

/* Follows the classic command line. */
static enum exitcode
deliver(struct delivery *d, int say_only)
{
	enum exitcode code;

	if (!say_only && !message_of_file(&d->message, STDIN_FILENO)) {
		report_line(&d->report, "The message on descriptor 0 is not a file: ", strerror(errno), ". (#4.3.0)");
		return EXIT_TEMP;
	}
	code = delivery_enter(d, say_only);
	if (code == EXIT_OK)
		code = delivery_prepare(d, say_only);
	if (code != EXIT_OK)
		return code;
	return say_only ? delivery_say(d) : delivery_run(d);
}

static int
run_once(const struct delivery_account *account, const char *const *argv, int say_only)
{
	struct delivery d = {
		.account = account, .local = argv[2], .dash = argv[3], .ext = argv[4], .domain = argv[5], .sender = argv[6],
	};
	enum exitcode code = deliver(&d, say_only);

	allwrite(STDOUT_FILENO, d.report.text.s, d.report.text.len);
	delivery_free(&d);
	return (int)code;
}

int
main(int argc, const char *const *argv, const char *const *envp)
{
	struct options options = { 0 };
	struct delivery_account account = { .environment = envp };

	PROG = "qmail-local";
	if (!fd_sanitize())
		strerr_diefusys(EXIT_TEMP, "open /dev/null");
	argv += parse_options(&options, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	account.qmail_home = home_open();
	account.start = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (account.start < 0)
		strerr_diefusys(EXIT_TEMP, "open the current directory");
	account.quota = getenv("MAILDIRQUOTA");
	account.user = argv[0];
	account.home = argv[1];
	account.default_delivery = argv[options.worker ? 2 : ARGUMENTS - 1];
	return options.worker ? worker_run(&account, options.classic) : run_once(&account, argv, options.say_only);
}
