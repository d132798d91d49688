/* qmail-smtpd: receive mail by SMTP.
 * Trust: descriptor 0 is the network, or a socket that listens for it. Runs as qmaild. What control files say is read before a
 * process shuts itself in, and it shuts itself in before it reads the first octet; from then on it has the connection and
 * sockets in run/, and can start nothing. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "listener.h"
#include "recipient.h"
#include "sandbox.h"
#include "session.h"

#define USAGE "qmail-smtpd " LISTENER_USAGE
#define NO_CONTROLS "421 unable to read controls (#4.3.0)\r\n"

enum {
	SESSIONS_OF_A_CHILD = 100,	/* connections of one client address that one process serves, one after another */
	FILES_MAX = 64,
#ifdef __SANITIZE_ADDRESS__
	MEMORY_MAX = 0,		/* a sanitizer reserves address space by the terabyte */
#else
	MEMORY_MAX = 256 << 20,	/* octets of address space: maxrcpt's largest value of recipients, 64 KiB of a message */
#endif
};

/* What the parent, or a process under tcpserver, prepares. */
struct preparation {
	struct settings settings;
	struct localaddresses own;
	int is_listening;	/* this program accepts for itself */
};

static int
prepare(struct preparation *p)
{
	const char *file = "control";
	struct localaddresses own;

	if (!settings_read(&p->settings, &file)) {
		strerr_warnwsys("unable to read ", file);
		return 0;
	}
	if (localaddresses_read(&own)) {
		localaddresses_free(&p->own);
		p->own = own;
	} else
		strerr_warnwsys("unable to find out the addresses of this host");
	return 1;
}

/* Before each fork: a file that changed is read again; one that cannot be read leaves everything as it was. */
static void
prepare_again(void *data)
{
	struct preparation *p = data;

	if (settings_have_changed(&p->settings))
		prepare(p);
}

/* --- a process for connections ------------------------------------------------------- */

static void
say(const char *text)
{
	ssize_t r = write(STDOUT_FILENO, text, strlen(text));

	(void)r;
}

static void
give_up(const char *what)
{
	say(NO_CONTROLS);
	strerr_diefusys(EXIT_TEMP, what);
}

/* What the children will lack is said once, by the parent. */
static void
warn_of_lack(void)
{
	sandbox_warn((sandbox_has_seccomp() ? 0 : SANDBOX_NO_FILTER) | (sandbox_landlock_abi() > 0 ? 0 : SANDBOX_NO_LANDLOCK));
}

static void
shut_in(const struct preparation *p)
{
	static const struct sandbox box = { .calls = &sandbox_session, .files = FILES_MAX, .memory = MEMORY_MAX };
	int lack = sandbox_enter(&box);

	if (lack < 0)
		give_up("shut myself in");
	if (!p->is_listening)
		sandbox_warn(lack);
}

/* One connection after another of one client address. */
static void
serve(struct preparation *p)
{
	static struct session s;
	struct settings settings;
	struct queue_client queue;
	static struct recipient_checks checks;
	struct peer peer;
	int goes_on;

	peer_read(&peer);
	settings = p->settings;
	if (!settings_open_table(&settings))
		give_up("read control/morercpthosts.cdb");
	if (!recipient_checks_start(&checks, &peer))
		give_up("prepare for checking recipients");
	queue_client_open(&queue, -1);
	if (!queue_client_start_runner(&queue))
		give_up("prepare for running QMAILQUEUE");
	s.queue = &queue;
	s.checks = &checks;
	s.own = &p->own;
	s.settings = &settings;
	shut_in(p);
	do {
		struct table table = settings.morercpthosts;

		settings = p->settings;
		settings.morercpthosts = table;
		settings_apply_environment(&settings);
		goes_on = session_run(&s) == SESSION_QUIT && s.messages > 0 && !queue.program.len &&
		    recipient_checks_are_reusable(&checks) && input_is_empty(&s.in);
		if (goes_on)
			listener_offer();
		session_log_end(&s);
	} while (goes_on && listener_next());
	recipient_checks_end(&checks);
	session_free(&s);
	queue_client_close(&queue);
}

/* --- both ways to be started ------------------------------------------------------------ */

int
main(int argc, char **argv)
{
	static struct preparation p;
	struct listener_config config;
	int option;

	PROG = "qmail-smtpd";
	signal(SIGPIPE, SIG_IGN);
	tzset();
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!listener_config_init(&config))
		strerr_diefusys(EXIT_TEMP, "read control files");
	while ((option = getopt(argc, argv, LISTENER_OPTIONS)) != -1)
		if (!listener_option(&config, option, optarg))
			strerr_dieusage(EXIT_PERM, USAGE);
	if (optind < argc)
		strerr_dieusage(EXIT_PERM, USAGE);
	p.is_listening = listener_is(STDIN_FILENO);
	if (!prepare(&p)) {
		if (!p.is_listening)
			say(NO_CONTROLS);
		return p.is_listening ? EXIT_TEMP : 1;
	}
	if (p.is_listening) {
		warn_of_lack();
		config.busy = "421 4.3.2 too many connections, come back later\r\n";
		config.reuse = SESSIONS_OF_A_CHILD;
		config.prepare = prepare_again;
		config.data = &p;
		listener_serve(&config);
	}
	serve(&p);
	return EXIT_OK;
}
