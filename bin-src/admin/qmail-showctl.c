/* qmail-showctl: say what the control files amount to.
 * Trust: control/ is the administrator's; what it holds is printed with control characters masked. Writes nothing. */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/stralloc.h>
#include "control/control.h"
#include "control/files.h"
#include "exitcode.h"
#include "home.h"
#include "queue/protocol.h"
#include "sandbox.h"
#include "users/passwd.h"

#define USAGE "qmail-showctl [file ...]"
enum { PATH_SIZE = sizeof "control/" + NAME_MAX };

struct show {
	stralloc value;
	int failed;	/* a file could not be read */
};

/* Prints len octets with everything that a terminal could take for more than text masked. */
static void
print_text(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		putchar((unsigned char)s[i] < ' ' || s[i] == 127 ? '?' : s[i]);
}

static void
print_reason(struct show *show, const char *name)
{
	show->failed = 1;
	printf("%s: cannot be read: %s\n", name, strerror(errno));
}

/* --- one file ------------------------------------------------------------------ */

/* What holds where a file is missing. */
static void
show_default(struct show *show, const struct control_file *file)
{
	int r = 0;

	printf("%s: ", file->name);
	if (strcmp(file->standard, "me") != 0)
		printf("%s", *file->standard ? file->standard : "none");
	else if ((r = control_line(&show->value, "control/me")) > 0)
		print_text(show->value.s, show->value.len);
	else
		printf("%s", file->required || file->form != CONTROL_LINE ? "none" : file->name);	/* as qmail has it: the name */
	printf(" (default)");
	if (file->required && r <= 0)
		printf(" (missing: needed by %s)", file->readers);
	putchar('\n');
}

static void
show_line(struct show *show, const struct control_file *file, const char *path)
{
	int r = control_line(&show->value, path);

	if (r < 0) {
		print_reason(show, file->name);
	} else if (r == 0) {
		show_default(show, file);
	} else {
		printf("%s: ", file->name);
		print_text(show->value.s, show->value.len);
		putchar('\n');
	}
}

static void
show_number(struct show *show, const struct control_file *file, const char *path)
{
	unsigned long n = strtoul(file->standard, NULL, 10);
	int r = control_number(&n, path, ULONG_MAX);

	if (r < 0)
		print_reason(show, file->name);
	else
		printf("%s: %lu%s\n", file->name, n, r > 0 ? "" : access(path, F_OK) == 0 ?
		    " (default: the file does not start with a number)" : " (default)");
}

static void
show_list(struct show *show, const struct control_file *file, const char *path)
{
	int r = control_list(&show->value, path);
	size_t n = 0, len;

	if (r < 0) {
		print_reason(show, file->name);
		return;
	}
	if (r == 0) {
		show_default(show, file);
		return;
	}
	for (size_t i = 0; i < show->value.len; i++)
		n += !show->value.s[i];
	printf("%s: %zu %s\n", file->name, n, n == 1 ? "entry" : "entries");
	for (const char *s = show->value.s; n--; s += len + 1) {
		len = strlen(s);
		printf("\t\t");
		print_text(s, len);
		printf("%s\n", file->form == CONTROL_MAP && !memchr(s, ':', len) ? " (ignored: no colon)" : "");
	}
}

/* A compiled table is as good as the list that it was made from. */
static void
show_table(const struct control_file *file, const char *path)
{
	char list[PATH_SIZE];
	struct stat table, source;
	int has_table = stat(path, &table) == 0;

	snprintf(list, sizeof list, "%.*s", (int)(strlen(path) - strlen(".cdb")), path);
	if (stat(list, &source) < 0)
		printf("%s: %s\n", file->name, has_table ? "there, but not what it was made from" : "none (default)");
	else if (!has_table)
		printf("%s: missing: %.*s is not in force until it is compiled\n", file->name,
		    (int)(strlen(file->name) - strlen(".cdb")), file->name);
	else
		printf("%s: %s\n", file->name, source.st_mtime > table.st_mtime ? "older than what it is made from" : "there");
}

static void
show_file(struct show *show, const struct control_file *file)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof path, "control/%s", file->name);
	switch (file->form) {
	case CONTROL_LINE:
		show_line(show, file, path);
		break;
	case CONTROL_NUMBER:
		show_number(show, file, path);
		break;
	case CONTROL_LIST:
	case CONTROL_MAP:
		show_list(show, file, path);
		break;
	case CONTROL_TABLE:
		show_table(file, path);
		break;
	}
	printf("\t%s; read by %s\n", file->meaning, file->readers);
}

/* --- the rest -------------------------------------------------------------------- */

static int
is_unknown(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !control_file_find(entry->d_name);
}

static void
show_unknown_files(void)
{
	struct dirent **entries;
	int n = scandir("control", &entries, is_unknown, alphasort);

	if (n < 0)
		strerr_diefusys(EXIT_TEMP, "read the directory control");
	for (int i = 0; i < n; i++) {
		print_text(entries[i]->d_name, strlen(entries[i]->d_name));
		printf(": unknown: no program here reads it\n");
		free(entries[i]);
	}
	free(entries);
}

static void
show_users(void)
{
	static const char *const users[] = { "alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails",
	    "qmailt", "qmailk", "qmailm", "qmailu" };
	static const char *const groups[] = { "qmail", "nofiles", "qmails" };
	struct passwd *user;
	struct group *group;

	printf("users:");
	for (size_t i = 0; i < sizeof users / sizeof *users; i++)
		if ((user = getpwnam(users[i])))
			printf(" %s %ju", users[i], (uintmax_t)user->pw_uid);
		else
			printf(" %s missing", users[i]);
	printf("\ngroups:");
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if ((group = getgrnam(groups[i])))
			printf(" %s %ju", groups[i], (uintmax_t)group->gr_gid);
		else
			printf(" %s missing", groups[i]);
	putchar('\n');
}

static void
show_build(void)
{
	char home[HOME_PATH_MAX];
	int landlock = sandbox_landlock_abi();

	if (!getcwd(home, sizeof home))
		strcpy(home, "?");
	printf("home: ");
	print_text(home, strlen(home));
	printf("\nsplit: %d\nbreak: %c\n", QUEUE_SPLIT, PASSWD_BREAK);
	show_users();
	printf("filters of system calls: %s\n", sandbox_has_seccomp() ? "yes" : "no, programs run without");
	if (landlock)
		printf("Landlock: version %d\n\n", landlock);
	else
		printf("Landlock: no, programs run without\n\n");
}

int
main(int argc, const char *const *argv)
{
	struct show show = { .value = STRALLOC_ZERO };
	const struct control_file *file;

	PROG = "qmail-showctl";
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (argc > 1 && argv[1][0] == '-')
		strerr_dieusage(EXIT_PERM, USAGE);
	if (argc < 2) {
		show_build();
		for (file = control_files; file->name; file++)
			show_file(&show, file);
		show_unknown_files();
	}
	for (int i = 1; i < argc; i++)
		if ((file = control_file_find(argv[i])))
			show_file(&show, file);
		else
			strerr_dief(EXIT_PERM, argv[i], ": no program reads a control file of this name");
	if (fflush(stdout) != 0)
		strerr_diefusys(EXIT_TEMP, "write");
	return show.failed ? EXIT_TEMP : EXIT_OK;
}
