/* qmail-popup: POP3 before the login, in two ways:
 *     tcpserver ... qmail-popup HOST checkpassword qmail-pop3d Maildir	the programs behind HOST check, and serve
 *     qmail-popup on a listening socket, or without programs		qmail-authd does both
 * Trust: descriptor 0 is the network, or a socket that listens for it. Never reads it as root: becomes qmaild, and leaves what rights
 * the programs of its command line need to a process that reads nothing. Shuts itself in before the first octet. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "authorization.h"
#include "become.h"
#include "checkpassword.h"
#include "control/control.h"
#include "exitcode.h"
#include "home.h"
#include "listener.h"
#include "login_client.h"
#include "login_runner.h"
#include "place.h"
#include "pump.h"
#include "sandbox.h"
#include "server_tls.h"

#define USAGE "qmail-popup [ -S ] " LISTENER_USAGE " [ host [ checkpassword [ argument ... ] ] ]"
#define USER "qmaild"

enum {
	TIMEOUT = 1200, TIMEOUT_MAX = 30 * 86400,	/* seconds */
	FILES_MAX = 32,
	PUMP_SOCKET = 3,	/* in the process that has a connection of two descriptors */
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space */
};

static struct popup {
	struct authorization_settings settings;
	int is_listening;
	char *const *programs;	/* NULL: qmail-authd */
	int directory;		/* where they run */
	int runner;		/* the process that runs them */
} popup;

static struct authorization authorization;

/* --- both ways to log in --------------------------------------------------------------------------------- */

/* Closes what is open of the connection here, so that its end is the session's. */
static void
leave_connection(int connection)
{
	close(connection);
	if (connection == STDIN_FILENO)
		close(STDOUT_FILENO);
}

static enum authorization_answer
ask_keeper(void *data, int connection, const char *login, const char *secret, const char *challenge)
{
	struct login_client c;

	(void)data;
	switch (login_client_session(&c, -1, connection, login, secret, challenge)) {
	case LOGIN_CLIENT_RIGHT:
		leave_connection(connection);
		login_client_await_end(&c);
		return AUTHORIZATION_RIGHT;
	case LOGIN_CLIENT_WRONG:
		return AUTHORIZATION_WRONG;
	default:
		strerr_warn(PROG, ": unable to check a login: ", c.text);
		return AUTHORIZATION_UNKNOWN;
	}
}

static enum authorization_answer
ask_program(void *data, int connection, const char *login, const char *secret, const char *challenge)
{
	const struct popup *p = data;
	int code = login_runner_run(p->runner, connection, login, secret, challenge, -1);

	if (code < 0)
		return AUTHORIZATION_LOST;	/* what was killed may have been the session */
	if (code == EXIT_OK)
		return AUTHORIZATION_RIGHT;
	if (!checkpassword_says_wrong(code))
		return AUTHORIZATION_UNKNOWN;
	authorization_log_failure(login);
	return AUTHORIZATION_WRONG;
}

/* --- a connection ----------------------------------------------------------------------------------------- */

/* What the tables and the administrator say of logins without TLS. With programs of one's own all is as it was in qmail. */
static int
needs_tls(const struct popup *p)
{
	const char *force = getenv("FORCETLS");

	return force ? strcmp(force, "0") != 0 : p->programs == NULL;
}

static void
drop_rights(void)
{
	uid_t uid;
	gid_t gid;

	if (geteuid() == 0 && (become_find_user(USER, &uid, &gid) != 1 || !become(uid, gid)))
		strerr_diefusys(EXIT_TEMP, "become " USER);
}

static void
shut_in(const struct popup *p)
{
	static const struct sandbox box = { .calls = &sandbox_login, .files = FILES_MAX, .memory = MEMORY_MAX };
	int lack = sandbox_enter(&box);

	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut myself in");
	if (!p->is_listening)
		sandbox_warn(lack);
}

/* The process that has a connection of two descriptors, and nothing else. */
static _Noreturn void
run_pump(int in, int out, int socket)
{
	static const struct sandbox box = { .calls = &sandbox_tunnel, .files = FILES_MAX, .memory = MEMORY_MAX };

	if (!place_connection(in, out) || dup2(socket, PUMP_SOCKET) < 0)
		strerr_diefusys(EXIT_TEMP, "place a connection");
	closefrom(PUMP_SOCKET + 1);
	drop_rights();
	if (sandbox_enter(&box) < 0)
		strerr_diefusys(EXIT_TEMP, "shut myself in");
	pump_run(STDIN_FILENO, STDOUT_FILENO, PUMP_SOCKET);
	_exit(EXIT_OK);
}

/* Makes one socket of two descriptors, which are closed then. */
static int
join(int in, int out)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		strerr_diefusys(EXIT_TEMP, "make a pair of sockets");
	pid = fork();
	if (pid < 0)
		strerr_diefusys(EXIT_TEMP, "fork");
	if (pid == 0) {
		close(pair[0]);
		run_pump(in, out, pair[1]);
	}
	close(pair[1]);
	close(in);
	close(out);
	return pair[0];
}

/* What is handed over is one socket: pipes of a server in front become one. */
static void
join_ends(struct server_tls *t)
{
	static const char *const names[] = { "SSLCTLFD", "SSLREADFD", "SSLWRITEFD" };
	int connection;

	if (t->by == SERVER_TLS_UCSPI)
		t->in = t->out = join(t->in, t->out);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	if (server_tls_is_one_socket())
		return;
	connection = join(STDIN_FILENO, STDOUT_FILENO);
	if (!place_connection(connection, connection))
		strerr_diefusys(EXIT_TEMP, "place the connection");
}

static void
serve(struct popup *p)
{
	static struct server_tls tls;
	struct authorization *a = &authorization;

	server_tls_find(&tls, p->is_listening);
	if (*tls.text)
		strerr_warnw(tls.text);
	if (!p->is_listening)
		join_ends(&tls);
	p->settings.needs_tls = needs_tls(p) || tls.is_required;
	p->settings.offers_tls = server_tls_is_offered(&tls);
	p->settings.starts_tls &= !tls.is_on;
	a->settings = &p->settings;
	a->front = tls.by == SERVER_TLS_UCSPI ? &tls : NULL;
	a->is_encrypted = tls.is_on;
	if (p->programs) {
		p->runner = login_runner_start(p->programs, p->directory, 1);
		if (p->runner < 0)
			strerr_diefusys(EXIT_TEMP, "fork");
	}
	drop_rights();
	shut_in(p);
	authorization_run(a, STDIN_FILENO, STDOUT_FILENO, p->is_listening ? listener_is_stopping : NULL);
	authorization_log(a);
}

/* --- the start ---------------------------------------------------------------------------------------------- */

static int
read_settings(struct authorization_settings *s)
{
	unsigned long timeout = TIMEOUT;

	if (!capabilities_read(&s->capabilities) || control_number(&timeout, "control/timeoutpop3d", TIMEOUT_MAX) < 0)
		return 0;
	s->timeout = timeout;
	return 1;
}

/* Before each fork: what control files say. */
static void
prepare(void *data)
{
	struct popup *p = data;
	struct authorization_settings s = p->settings;

	if (read_settings(&s))
		p->settings = s;
}

static void
parse_options(struct popup *p, struct listener_config *config, int argc, char *const *argv)
{
	int option;

	while ((option = getopt(argc, argv, "+S" LISTENER_OPTIONS)) != -1)
		if (option == 'S')
			p->settings.starts_tls = 1;
		else if (!listener_option(config, option, optarg))
			strerr_dieusage(EXIT_PERM, USAGE);
	argv += optind;
	argc -= optind;
	if (argc > 0)
		p->settings.host = argv[0];
	if (argc > 1)
		p->programs = argv + 1;
	p->is_listening = listener_is(STDIN_FILENO);
	if (p->is_listening && p->programs)
		strerr_dieusage(EXIT_PERM, USAGE);
}

int
main(int argc, char *const *argv)
{
	struct popup *p = &popup;
	struct listener_config config;

	PROG = "qmail-popup";
	signal(SIGPIPE, SIG_IGN);
	p->directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->directory < 0 || !home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!listener_config_init(&config))
		strerr_diefusys(EXIT_TEMP, "read control files");
	parse_options(p, &config, argc, argv);
	if (!read_settings(&p->settings))
		strerr_diefusys(EXIT_TEMP, "read control files");
	p->settings.login = p->programs ? ask_program : ask_keeper;
	p->settings.data = p;
	if (p->is_listening) {
		if (geteuid() == 0)
			strerr_dief(EXIT_PERM, "never as root: let qmail-listen become " USER);
		sandbox_warn((sandbox_has_seccomp() ? 0 : SANDBOX_NO_FILTER) | (sandbox_landlock_abi() > 0 ? 0 : SANDBOX_NO_LANDLOCK));
		config.busy = p->settings.starts_tls ? NULL : "-ERR [SYS/TEMP] too many connections, come back later\r\n";
		config.prepare = prepare;
		config.data = p;
		listener_serve(&config);
	}
	serve(p);
	return EXIT_OK;
}
