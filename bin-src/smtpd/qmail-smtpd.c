/* qmail-smtpd: receive mail by SMTP.
 * Trust: descriptor 0 is the network, or a socket that listens for it. Runs as qmaild. What control files say is read before a
 * process shuts itself in, and it shuts itself in before it reads the first octet; from then on it has the connection and
 * sockets in run/, and can start nothing. A program of its command line, which checks logins, is started by a process that was forked
 * before. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
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

#define USAGE "qmail-smtpd " LISTENER_USAGE " [ [ host ] checkpassword [ argument ... ] ]"
#define NO_CONTROLS "421 unable to read controls (#4.3.0)\r\n"

enum {
	SESSIONS_OF_A_CHILD = 100,	/* connections of one client address that one process serves, one after another */
	FILES_MAX = 64,
	PAGE = 4096,
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space: maxrcpt's largest value of recipients, 64 KiB of a message */
};

/* What the parent, or a process under tcpserver, prepares. */
struct preparation {
	struct settings settings;
	struct localaddresses own;
	int is_listening;	/* this program accepts for itself */
	char *const *programs;	/* that check logins; NULL: qmail-authd */
	int directory;		/* where they run */
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

/* What a process has of its own while it serves, in as few pages as can be: the session, whose buffers are large, is last. */
struct service {
	struct settings settings;
	struct queue_client queue;
	struct recipient_checks checks;
	struct server_tls tls;
	struct auth auth;
	struct session session;
};

/* What is done before the process shuts itself in. */
static void
begin(struct service *v, struct preparation *p)
{
	struct peer peer;

	peer_read(&peer);
	v->settings = p->settings;
	if (!settings_open_table(&v->settings))
		give_up("read control/morercpthosts.cdb");
	if (!auth_start(&v->auth, p->programs, p->directory))
		give_up("prepare for checking logins");
	if (v->auth.is_on)	/* who sees a password sees no other one's */
		listener_keep_to_one();
	if (!recipient_checks_start(&v->checks, &peer, v->auth.is_required))
		give_up("prepare for checking recipients");
	queue_client_open(&v->queue, -1);
	v->queue.patience = QUEUE_SESSION_WAIT;
	if (!queue_client_start_runner(&v->queue))
		give_up("prepare for running QMAILQUEUE");
	v->session.settings = &v->settings;
	v->session.queue = &v->queue;
	v->session.checks = &v->checks;
	v->session.own = &p->own;
	v->session.auth = &v->auth;
	server_tls_find(&v->tls, p->is_listening);
	if (*v->tls.text)
		strerr_warnw(v->tls.text);
	v->session.tls = &v->tls;
	v->session.is_immediate = getenv("SMTPS") != NULL;
}

/* Runs a session. Returns whether the process may have another one. */
static int
run(struct service *v, const struct preparation *p)
{
	struct table table = v->settings.morercpthosts;
	struct session *s = &v->session;

	v->settings = p->settings;
	v->settings.morercpthosts = table;
	settings_apply_environment(&v->settings);
	return session_run(s) == SESSION_QUIT && s->messages > 0 && !s->is_tls && !s->is_authenticated && !v->queue.program.len &&
	    !s->settings->is_unsettled && recipient_checks_are_reusable(&v->checks) && input_is_empty(&s->in);
}

/* One connection after another of one client address. */
static void
serve(struct preparation *p)
{
	static _Alignas(PAGE) struct service v;
	int goes_on;

	begin(&v, p);
	shut_in(p);
	listener_ready();
	do {
		goes_on = run(&v, p);
		if (goes_on)
			listener_offer();
		session_log_end(&v.session);
	} while (goes_on && listener_next());
	recipient_checks_end(&v.checks);
	session_free(&v.session);
	queue_client_close(&v.queue);
}

/* --- both ways to be started ------------------------------------------------------------ */

/* Whether name is where execvp looks for programs, called in directory; mode as for access. */
static int
is_there(int directory, const char *name, int mode)
{
	const char *path = strchr(name, '/') ? "" : getenv("PATH");
	char file[4096];

	if (!path)
		path = "/bin:/usr/bin";
	for (;; path++) {
		size_t len = strcspn(path, ":");
		int n = snprintf(file, sizeof file, "%.*s%s%s", (int)len, path, len ? "/" : "", name);

		if (n > 0 && (size_t)n < sizeof file && faccessat(directory, file, mode, 0) == 0)
			return 1;
		path += len;
		if (!*path)
			return 0;
	}
}

static int
is_true(const char *program)
{
	const char *slash = strrchr(program, '/');

	return strcmp(slash ? slash + 1 : program, "true") == 0;
}

/* The words behind the options, which run in directory: nothing, CHECKPASSWORD ..., or HOST CHECKPASSWORD ARGUMENT ..., as older patches
 * have it, whose HOST only CRAM-MD5 needs. A program that is taken for HOST has its argument check logins, and true finds every one right:
 * what is not sure to be the one or the other is refused. */
static char *const *
find_programs(char *const *words, int directory)
{
	if (!words[0])
		return NULL;
	if (!words[1] || !words[2] || strchr(words[0], '/') || words[1][0] == '-')
		return words;
	if (!strchr(words[0], '.') || is_there(directory, words[0], F_OK) || !is_there(directory, words[1], X_OK) || is_true(words[1]))
		strerr_dief(EXIT_PERM, "unable to tell whether \"", words[0], "\" is the host or the checkpassword program: "
		    "leave out the host, or write the path of the program");
	return words + 1;
}

int
main(int argc, char **argv)
{
	static struct preparation p;
	struct listener_config config;
	int option;

	PROG = "qmail-smtpd";
	signal(SIGPIPE, SIG_IGN);
	tzset();
	p.directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p.directory < 0 || !home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!listener_config_init(&config))
		strerr_diefusys(EXIT_TEMP, "read control files");
	while ((option = getopt(argc, argv, "+" LISTENER_OPTIONS)) != -1)
		if (!listener_option(&config, option, optarg))
			strerr_dieusage(EXIT_PERM, USAGE);
	p.is_listening = listener_is(STDIN_FILENO);
	if (argv[optind] && p.is_listening)
		strerr_dieusage(EXIT_PERM, USAGE);
	p.programs = find_programs(argv + optind, p.directory);
	if (!prepare(&p)) {
		if (!p.is_listening)
			say(NO_CONTROLS);
		return p.is_listening ? EXIT_TEMP : 1;
	}
	if (p.is_listening) {
		warn_of_lack();
		/* nothing is said in the clear where TLS begins at once */
		config.busy = getenv("SMTPS") ? NULL : "421 4.3.2 too many connections, come back later\r\n";
		config.reuse = SESSIONS_OF_A_CHILD;
		config.prepare = prepare_again;
		config.data = &p;
		listener_serve(&config);
	}
	serve(&p);
	return EXIT_OK;
}
