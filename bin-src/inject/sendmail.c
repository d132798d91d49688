#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "address822.h"
#include "exitcode.h"
#include "replaced.h"
#include "sendmail.h"
#include "stralloc_set.h"

#define USAGE "sendmail [-t] [-f sender] [-F name] [-bm | -bp | -bs] [-eimvx] [-N notify] [-R hdrs | full] [-V envid] " \
	"[-B type] [-p protocol] [-o option] [recipient ...]"

static void die_usage(void) __attribute__((noreturn));
static void
die_usage(void)
{
	strerr_dieusage(EXIT_PERM, USAGE);
}

static void
set(const char *variable, const char *value)
{
	if (setenv(variable, value, 1) < 0)
		strerr_diefusys(EXIT_TEMP, "set ", variable);
}

/* Becomes bin/NAME of the home. */
static void run(const char *const *argv, int home) __attribute__((noreturn));
static void
run(const char *const *argv, int home)
{
	if (fchdir(home) < 0)
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	exec(argv);
	strerr_diefusys(EXIT_TEMP, "run ", argv[0]);
}

void
sendmail_show_queue(int home)
{
	static const char *const argv[] = { "bin/qmail-qread", NULL };

	run(argv, home);
}

void
sendmail_new_aliases(void)
{
	strerr_dief(EXIT_PERM, "aliases are dot-qmail files here; tables of aliases are made by the newaliases of fastforward");
}

static void run_smtpd(int home) __attribute__((noreturn));
static void
run_smtpd(int home)
{
	static const char *const argv[] = { "bin/qmail-smtpd", NULL };
	static const char *const variables[][2] = {
		{ "RELAYCLIENT", "" }, { "DATABYTES", "0" }, { "PROTO", "TCP" }, { "TCPLOCALIP", "127.0.0.1" },
		{ "TCPLOCALHOST", "localhost" }, { "TCPREMOTEIP", "127.0.0.1" }, { "TCPREMOTEHOST", "localhost" },
		{ "TCPREMOTEINFO", "sendmail-bs" },
	};

	if (!getenv("PROTO"))
		for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
			set(variables[i][0], variables[i][1]);
	run(argv, home);
}

static int
keep_address(void *data, stralloc *address)
{
	stralloc *first = data;

	return first->len ? 1 : stralloc_setb(first, address->s, address->len);
}

/* The From line follows the sender of -f: user and host are what it says; names are forgotten. */
static void
follow_sender(const char *sender)
{
	static const char *const forgotten[] = { "QMAILNAME", "MAILNAME", "NAME", "QMAILHOST", "MAILHOST" };
	stralloc address = STRALLOC_ZERO, plain = STRALLOC_ZERO;
	size_t at;
	int r;

	for (size_t i = 0; i < sizeof forgotten / sizeof *forgotten; i++)
		unsetenv(forgotten[i]);
	r = address822_read(sender, strlen(sender), keep_address, &address, NULL);
	if (r < 0)
		strerr_dief(EXIT_TEMP, "out of memory");
	/* the null sender has no author: From stays the caller's. What is malformed is refused later. */
	if (r == 1 && address.len) {
		at = address822_at(address.s, address.len);
		if (!address822_unquote(&plain, address.s, at) || !stralloc_0(&plain) || !stralloc_0(&address))
			strerr_dief(EXIT_TEMP, "out of memory");
		set("QMAILUSER", plain.s);
		if (at + 1 < address.len)
			set("QMAILHOST", address.s + at + 1);
	}
	stralloc_free(&address);
	stralloc_free(&plain);
}

/* A relative QMAILMFTFILE is meant from where the caller is; the program that is run starts elsewhere. */
static void
keep_list_file(void)
{
	const char *file = getenv("QMAILMFTFILE");
	char path[PATH_MAX];
	stralloc whole = STRALLOC_ZERO;

	if (!file || !*file || *file == '/' || !getcwd(path, sizeof path))
		return;
	if (!stralloc_cats(&whole, path) || !stralloc_append(&whole, '/') || !stralloc_cats(&whole, file) ||
	    !stralloc_0(&whole))
		strerr_dief(EXIT_TEMP, "out of memory");
	set("QMAILMFTFILE", whole.s);
	stralloc_free(&whole);
}

/* The administrator's own bin/qmail-inject. */
static void run_inject(const struct injection_options *options, int home) __attribute__((noreturn));
static void
run_inject(const struct injection_options *options, int home)
{
	size_t n = 0, count = 0;
	const char **argv;

	while (options->arguments[count])
		count++;
	argv = calloc(count + 6, sizeof *argv);
	if (!argv)
		strerr_dief(EXIT_TEMP, "out of memory");
	argv[n++] = "bin/qmail-inject";
	argv[n++] = options->recipients == RECIPIENTS_BOTH ? "-H" : "-a";
	if (options->sender) {
		argv[n++] = "-f";
		argv[n++] = options->sender;
	}
	argv[n++] = "--";
	memcpy(argv + n, options->arguments, count * sizeof *argv);
	keep_list_file();
	run(argv, home);
}

/* How a letter takes its argument. */
enum { NOT_AN_OPTION, ALONE, WITH_ARGUMENT, REST_IGNORED };

static int
kind_of(char letter)
{
	if (strchr("timvx", letter))
		return ALONE;
	if (strchr("fFboeBpNRV", letter))
		return WITH_ARGUMENT;
	return letter == 'E' || letter == 'J' ? REST_IGNORED : NOT_AN_OPTION;
}

enum { ENVID_MAX = 100 };	/* octets before they are encoded (RFC 3461 section 4.4), as remote/smtp_command.h has it */

struct command {
	const char *sender, *name;
	int header;
	stralloc envid, ret, notify;	/* parameters of RFC 3461, len 0: none */
};

static void
add(stralloc *to, const char *s, size_t len)
{
	if (!stralloc_catb(to, s, len))
		strerr_dief(EXIT_TEMP, "out of memory");
}

/* -N: "never", or some of "success", "failure" and "delay" with commas between them. */
static void
obey_notify(stralloc *to, const char *list)
{
	static const char *const events[] = { "SUCCESS", "FAILURE", "DELAY" };
	int is_never = strcasecmp(list, "never") == 0;

	to->len = 0;
	add(to, "NOTIFY=NEVER", is_never ? 12 : 7);
	while (!is_never) {
		size_t len = strcspn(list, ","), i = 0;

		while (i < 3 && (strlen(events[i]) != len || strncasecmp(events[i], list, len) != 0))
			i++;
		if (i == 3 || to->len > 100)
			die_usage();
		add(to, events[i], len);
		if (!list[len])
			return;
		add(to, ",", 1);
		list += len + 1;
	}
}

static void
obey_return(stralloc *to, const char *what)
{
	int is_headers = strcasecmp(what, "hdrs") == 0;

	if (!is_headers && strcasecmp(what, "full") != 0)
		die_usage();
	to->len = 0;
	add(to, is_headers ? "RET=HDRS" : "RET=FULL", 8);
}

/* -V: encoded as xtext, RFC 3461 section 4. */
static void
obey_envid(stralloc *to, const char *id)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t len = strlen(id);

	if (!len || len > ENVID_MAX)
		die_usage();
	to->len = 0;
	add(to, "ENVID=", 6);
	for (; *id; id++) {
		unsigned char c = (unsigned char)*id;
		char encoded[3] = { '+', hex[c >> 4], hex[c & 15] };

		if (c > 32 && c < 127 && c != '+' && c != '=')
			add(to, id, 1);
		else
			add(to, encoded, 3);
	}
}

/* The parameters for the queue: those of RFC 3461 go along with the message. */
static void
set_parameters(struct injection_options *options, struct command *c)
{
	if (c->ret.len && c->envid.len)
		add(&c->ret, " ", 1);
	add(&c->ret, c->envid.s, c->envid.len);
	if (!stralloc_0(&c->ret) || !stralloc_0(&c->notify))
		strerr_dief(EXIT_TEMP, "out of memory");
	options->sender_parameters = c->ret.s;
	options->recipient_parameters = c->notify.s;
}

static void
obey_mode(const char *mode, int home)
{
	if (!strcmp(mode, "m"))
		return;
	if (!strcmp(mode, "p"))
		sendmail_show_queue(home);
	if (!strcmp(mode, "s"))
		run_smtpd(home);
	die_usage();
}

static void
obey(struct command *c, char letter, const char *argument, int home)
{
	switch (letter) {
	case 't': c->header = 1; break;
	case 'f': c->sender = argument; break;
	case 'F': c->name = argument; break;
	case 'b': obey_mode(argument, home); break;
	case 'N': obey_notify(&c->notify, argument); break;
	case 'R': obey_return(&c->ret, argument); break;
	case 'V': obey_envid(&c->envid, argument); break;
	default: break;	/* of other mailers; nothing here depends on them */
	}
}

/* Reads the options; returns where the recipients begin. */
static const char *const *
read_options(struct command *c, const char *const *arg, int home)
{
	for (; *arg && (*arg)[0] == '-' && (*arg)[1]; arg++) {
		const char *s = *arg + 1;

		if (!strcmp(s, "-"))
			return arg + 1;
		for (; *s; s++) {
			int kind = kind_of(*s);

			if (kind == NOT_AN_OPTION)
				die_usage();
			if (kind == REST_IGNORED)
				break;
			if (kind == ALONE) {
				obey(c, *s, "", home);
				continue;
			}
			if (s[1])
				obey(c, *s, s + 1, home);
			else if (*++arg)
				obey(c, *s, *arg, home);
			else
				die_usage();
			break;
		}
	}
	return arg;
}

void
sendmail_command(struct injection_options *options, int argc, const char *const *argv, int home)
{
	struct command c = { .sender = NULL };

	options->arguments = read_options(&c, argc ? argv + 1 : argv, home);
	options->sender = c.sender;
	set_parameters(options, &c);
	options->recipients = c.header ? RECIPIENTS_BOTH : RECIPIENTS_ARGUMENTS;
	if (c.sender)
		follow_sender(c.sender);
	if (c.name)
		set("MAILNAME", c.name);
	if (is_replaced(home, "qmail-inject"))
		run_inject(options, home);
}
