/* qmail-remote: send a message to another host by SMTP.
 * Trust: servers and resolvers are hostile, message and addresses anybody's. Runs as qmailr, group nofiles; it reads its
 * control files, then shuts itself in: no file, internet sockets only, before the first octet of the network. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "relay.h"
#include "sandbox.h"
#include "worker.h"

enum {
	IN_MEMORY = 256 * 1024,	/* octets of a message from a pipe that are kept in memory */
	DESCRIPTORS = 64,
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space: control files, the authorities, recipients of a job; replies are bounded */
};

static const struct sandbox shut_in = { .calls = &sandbox_remote, .network = 1, .files = DESCRIPTORS, .memory = MEMORY_MAX };

/* --- the report on descriptor 1 ----------------------------------------------------------- */

static _Noreturn void
put_report(const char *s, size_t len)
{
	_exit(allwrite(STDOUT_FILENO, s, len) == len ? EXIT_OK : EXIT_TEMP);
}

/* A report on the message alone: for now, for a reason of this host. */
static _Noreturn void
defer(const char *what, const char *why)
{
	stralloc text = STRALLOC_ZERO;

	if (!stralloc_append(&text, 'Z') || !stralloc_cats(&text, what) || !stralloc_cats(&text, why) ||
	    !stralloc_cats(&text, ". (#4.3.0)\n") || !stralloc_append(&text, '\0'))
		_exit(EXIT_TEMP);
	put_report(text.s, text.len);
}

/* --- the message on descriptor 0 ------------------------------------------------------------ */

/* A file of our own for a message from a pipe: on disk where /tmp takes one without a name. -1 with errno. */
static int
new_file(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd >= 0 ? fd : memfd_create("message", MFD_CLOEXEC);
}

/* Reads descriptor 0 to its end into file, which begins with the octets that were read already. Returns its size, or -1. */
static int64_t
copy_rest(int fd, const stralloc *begin)
{
	char octets[16384];
	uint64_t size = begin->len;
	ssize_t r;

	if (allwrite(fd, begin->s, begin->len) < begin->len)
		return -1;
	while ((r = read(STDIN_FILENO, octets, sizeof octets)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || allwrite(fd, octets, (size_t)r) < (size_t)r)
			return -1;
		size += (uint64_t)r;
	}
	return (int64_t)size;
}

/* The message from a pipe or the like. Returns 1, or 0 with errno. */
static int
read_pipe(struct mail_data *data)
{
	static stralloc octets;
	int64_t size;
	ssize_t r;
	int fd;

	if (!stralloc_ready(&octets, IN_MEMORY))
		return 0;
	while (octets.len < IN_MEMORY && (r = read(STDIN_FILENO, octets.s + octets.len, IN_MEMORY - octets.len)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return 0;
		octets.len += (size_t)r;
	}
	if (octets.len < IN_MEMORY) {
		mail_data_init(data, octets.s, -1, octets.len);
		return 1;
	}
	fd = new_file();
	size = fd >= 0 ? copy_rest(fd, &octets) : -1;
	mail_data_init(data, NULL, fd, (uint64_t)size);
	stralloc_free(&octets);
	return size >= 0;
}

static int
read_message(struct mail_data *data)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode) && lseek(STDIN_FILENO, 0, SEEK_CUR) == 0) {
		mail_data_init(data, NULL, STDIN_FILENO, (uint64_t)st.st_size);
		return 1;
	}
	return read_pipe(data);
}

/* --- one message ------------------------------------------------------------------------------- */

static void
enter(void)
{
	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
}

static _Noreturn void
send_one(struct dial *d, const char *host, const char *sender, const char *const *addresses, unsigned int len)
{
	static struct relay relay;
	struct mail_data data;
	struct transaction_recipient *recipients = calloc(len, sizeof *recipients);
	struct transaction t = { .sender = sender, .recipients = recipients, .data = &data, .report = &relay.report };
	stralloc text = STRALLOC_ZERO;

	relay_init(&relay, d);
	if (!recipients || !report_begin(t.report, len))
		defer("No memory", "");
	if (!read_message(&data))
		defer("Unable to read the message: ", strerror(errno));
	for (unsigned int n = 0; n < len; n++)
		recipients[n].address = addresses[n];
	enter();
	relay_message(&relay, host, &t);
	if (!report_print(t.report, &text))
		defer("No memory for a report", "");
	session_quit(&relay.session);
	put_report(text.s, text.len);
}

/* Why nothing can be sent: a control file. */
static const char *
trouble_text(stralloc *text, const char *file, int error)
{
	if (stralloc_cats(text, "Unable to read ") && stralloc_cats(text, file) && stralloc_cats(text, ": ") &&
	    stralloc_cats(text, error ? strerror(error) : "what is there makes no sense") && stralloc_0(text))
		return text->s;
	return "No memory";
}

static int
work(const char *host)
{
	static struct dial d;
	stralloc text = STRALLOC_ZERO;
	const char *failed = dial_open(&d, host);
	const char *trouble = failed ? trouble_text(&text, failed, errno) : NULL;

	if (trouble)
		strerr_warnw(trouble);
	enter();
	return worker_run(&d, trouble);
}

int
main(int argc, const char *const *argv)
{
	static struct dial d;
	stralloc text = STRALLOC_ZERO;
	const char *failed;

	PROG = "qmail-remote";
	signal(SIGPIPE, SIG_IGN);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (argc == 3 && strcmp(argv[1], "-W") == 0)
		return work(argv[2]);
	if (argc < 4)
		defer("qmail-remote was started with wrong arguments: host, sender and recipients are needed", "");
	failed = dial_open(&d, argv[1]);
	if (failed)
		defer(trouble_text(&text, failed, errno), "");
	send_one(&d, argv[1], argv[2], argv + 3, (unsigned int)argc - 3);
}
