/* qbiff: tell a user who is logged in that mail came.
 * Trust: runs as the user, in a dot-qmail file. Message and SENDER are hostile, and a terminal obeys what it is sent: only
 * printable ASCII gets there. A terminal that is stopped is not waited for. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utmpx.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "field.h"
#include "message.h"

enum {
	PART_MAX = 160,	/* octets of an address or a subject that are shown */
	TERMINALS_MAX = 100,	/* terminals that are written to */
	BIFF = 0100,	/* mode bit of a terminal whose user ran "biff y" */
};

static const char *
variable(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		strerr_dief(EXIT_PERM, name, " is not set: this program is for dot-qmail files");
	return value;
}

/* Appends s as printable ASCII. Returns 1, or 0 with errno ENOMEM. */
static int
add_clean(stralloc *text, const char *s, size_t len)
{
	for (size_t i = 0; i < len && i < PART_MAX; i++) {
		if (!stralloc_append(text, s[i] >= ' ' && s[i] < 127 ? s[i] : '?'))
			return 0;
	}
	return 1;
}

static int
make_text(stralloc *text, const char *recipient, const char *sender, const stralloc *subject)
{
	return stralloc_cats(text, "\r\n\a*** mail for ") && add_clean(text, recipient, strlen(recipient)) &&
	    stralloc_cats(text, " from ") && (*sender ? add_clean(text, sender, strlen(sender)) : stralloc_cats(text, "<>")) &&
	    stralloc_cats(text, "\r\n*** ") && add_clean(text, subject->s, subject->len) && stralloc_cats(text, "\r\n");
}

/* Writes to a terminal whose user wants it. What goes wrong there is nobody's trouble. */
static void
tell(const char *line, const stralloc *text)
{
	char path[sizeof "/dev/" + sizeof((struct utmpx *)0)->ut_line];
	struct stat st;
	int fd;

	if (strstr(line, ".."))
		return;
	snprintf(path, sizeof path, "/dev/%s", line);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_uid == geteuid() && st.st_mode & BIFF && isatty(fd) &&
	    write(fd, text->s, text->len) < 0)
		strerr_warnwusys("write to ", path);
	close(fd);
}

int
main(int argc, const char *const *argv)
{
	stralloc text = STRALLOC_ZERO, subject = STRALLOC_ZERO;
	const char *user;
	const struct utmpx *entry;
	struct message m;
	int n = 0;

	(void)argv;
	PROG = "qbiff";
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, "qbiff");
	user = variable("USER");
	if (message_of_file(&m, STDIN_FILENO) && field_get(&subject, &m, "subject", '\0') < 0)
		strerr_diefusys(EXIT_TEMP, "read the message");
	if (!make_text(&text, variable("RECIPIENT"), variable("SENDER"), &subject))
		strerr_diefusys(EXIT_TEMP, "write the notice");
	setutxent();
	while (n < TERMINALS_MAX && (entry = getutxent()) != NULL) {
		char name[sizeof entry->ut_user + 1] = { 0 }, line[sizeof entry->ut_line + 1] = { 0 };

		if (entry->ut_type != USER_PROCESS)
			continue;
		memcpy(name, entry->ut_user, sizeof entry->ut_user);
		memcpy(line, entry->ut_line, sizeof entry->ut_line);
		if (strcmp(name, user) == 0) {
			tell(line, &text);
			n++;
		}
	}
	endutxent();
	return EXIT_OK;
}
