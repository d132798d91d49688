/* qmail-pop3d: a user's maildir by POP3, after the login: the last program of
 *     tcpserver ... qmail-popup HOST checkpassword qmail-pop3d Maildir
 * Its first reply is the one to the login. Ends with 0 once it has replied: qmail-popup takes anything else for a wrong password,
 * and says so to the client.
 * Trust: descriptor 0 is the network. Runs as the user, in the user's home. Control files are read, and the maildir's directories
 * and what is written there opened, before it shuts itself in; then it reads names, messages and commands, can read, move and remove
 * messages, and reaches nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "bin-src/users/login_chain.h"
#include "control/control.h"
#include "exitcode.h"
#include "home.h"
#include "login_delay.h"
#include "login_protocol.h"
#include "sandbox.h"
#include "session.h"

#define USAGE "qmail-pop3d [ -l ] maildir"

enum {
	FILES_MAX = 32,
	TIMEOUT_DEFAULT = 1200, SESSION_DEFAULT = 86400,	/* seconds */
	SECONDS_MAX = 30 * 86400,
	MEMORY_MAX = SANDBOX_MEMORY(768 << 20),	/* octets of address space: MAILDROP_MESSAGES_MAX messages with long names */
};

/* --- before the session ---------------------------------------------------------------------------- */

/* Some qmail-popups give us the connection as descriptor 2 as well: what is said there would be taken for a reply. */
static void
keep_log_from_client(void)
{
	struct stat client, log;
	int null;

	if (fstat(STDOUT_FILENO, &client) < 0 || fstat(STDERR_FILENO, &log) < 0 || client.st_dev != log.st_dev ||
	    client.st_ino != log.st_ino)
		return;
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDERR_FILENO);
		close(null);
	} else
		close(STDERR_FILENO);
}

/* A login that leads to no session: code of RFC 2449 or 3206. */
_Noreturn static void
turn_away(const char *code, const char *text)
{
	const struct iovec reply[] = { { (void *)(uintptr_t)"-ERR [", 6 }, { (void *)(uintptr_t)code, strlen(code) },
	    { (void *)(uintptr_t)"] ", 2 }, { (void *)(uintptr_t)text, strlen(text) }, { (void *)(uintptr_t)"\r\n", 2 } };
	ssize_t r = writev(STDOUT_FILENO, reply, sizeof reply / sizeof *reply);

	(void)r;
	_exit(EXIT_OK);
}

_Noreturn static void
refuse(const char *code, const char *text)
{
	strerr_warnw("refused a login: ", text);
	turn_away(code, text);
}

/* The same, for trouble that errno tells. */
_Noreturn static void
give_up(const char *code, const char *text)
{
	strerr_warnwsys("refused a login: ", text);
	turn_away(code, text);
}

static int
read_number(uint64_t *number, const char *file)
{
	unsigned long n = (unsigned long)*number;

	if (control_number(&n, file, SECONDS_MAX) < 0)
		return 0;
	*number = n;
	return 1;
}

/* Reads the control files and comes back to the user's home. The defaults do where they cannot be read: it is the user's mail
 * that waits. */
static void
read_settings(struct session_settings *s)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct session_settings read = *s;

	if (home < 0)
		give_up("SYS/TEMP", "unable to find the home directory");
	if (home_enter() && read_number(&read.timeout, "control/timeoutpop3d") && read_number(&read.session, "control/pop3sessiontime") &&
	    capabilities_read(&read.capabilities))
		*s = read;
	else
		strerr_warnwsys("unable to read control files, go by the defaults");
	if (fchdir(home) < 0)
		give_up("SYS/TEMP", "unable to enter the home directory");
	close(home);
}

static void
open_maildrop(struct maildrop *m, const char *maildir)
{
	if (maildrop_open(m, maildir))
		return;
	if (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP)
		give_up("SYS/PERM", "this user has no maildir");
	give_up("SYS/TEMP", "unable to open the maildir");
}

/* Enters the maildir, and stays there. */
static void
shut_in(const struct maildrop *m)
{
	const struct sandbox box = { .calls = &sandbox_maildrop, .move = { "new", "cur" }, .remove = { "." }, .files = FILES_MAX,
	    .memory = MEMORY_MAX };
	int lack;

	if (fchdir(m->directory) < 0)
		give_up("SYS/TEMP", "unable to enter the maildir");
	lack = sandbox_enter(&box);
	if (lack < 0)
		give_up("SYS/TEMP", "unable to shut myself in");
	sandbox_warn(lack);
}

int
main(int argc, char *const *argv)
{
	static struct session_settings settings = { .timeout = TIMEOUT_DEFAULT, .session = SESSION_DEFAULT,
	    .capabilities = { .expire = CAPABILITIES_EXPIRE_NEVER } };
	static struct maildrop maildrop;
	static struct session session = { .settings = &settings, .maildrop = &maildrop };

	int tells = argc > 1 && strcmp(argv[1], "-l") == 0;

	PROG = "qmail-pop3d";
	signal(SIGPIPE, SIG_IGN);
	argv += tells;
	argc -= tells;
	if (argc != 2 || argv[1][0] == '-') {
		keep_log_from_client();
		strerr_dieusage(EXIT_PERM, USAGE);
	}
	if (tells)
		login_chain_tell();
	keep_log_from_client();
	if (geteuid() == 0)
		refuse("SYS/PERM", "nobody reads mail as root");
	read_settings(&settings);
	settings.is_utf8 = getenv(LOGIN_UTF8) != NULL;
	open_maildrop(&maildrop, argv[1]);
	if (settings.capabilities.login_delay && !login_delay_is_over(maildrop.directory, settings.capabilities.login_delay))
		refuse("LOGIN-DELAY", "this user has logged in a moment ago");
	shut_in(&maildrop);
	maildrop_clean(&maildrop);
	if (!maildrop_list(&maildrop))
		give_up("SYS/TEMP", "unable to read the maildir");
	if (maildrop.is_cut)
		strerr_warnw("the maildir has more messages than a session shows");
	session_run(&session, STDIN_FILENO, STDOUT_FILENO);
	session_log(&session);
	return EXIT_OK;
}
