/* maildirwatch: show, again and again, what new mail there is in a maildir.
 * Trust: runs as the user; messages are hostile, and a terminal obeys what it is sent: only printable ASCII gets there. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "field.h"
#include "message.h"

enum {
	INTERVAL = 30,	/* seconds */
	ROWS = 24, COLUMNS = 80,	/* of a terminal that does not say */
	ROWS_MAX = 200, COLUMNS_MAX = 500,
};

struct screen {
	unsigned int rows, columns;
	unsigned int row;	/* rows written */
};

struct line {
	struct timespec time;
	char name[NAME_MAX + 1];
};

static void
measure(struct screen *screen)
{
	struct winsize w;

	*screen = (struct screen){ .rows = ROWS, .columns = COLUMNS };
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_row == 0 || w.ws_col == 0)
		return;
	screen->rows = w.ws_row < ROWS_MAX ? w.ws_row : ROWS_MAX;
	screen->columns = w.ws_col < COLUMNS_MAX ? w.ws_col : COLUMNS_MAX;
}

/* Writes one row, cleaned and cut. */
static void
put_row(struct screen *screen, const stralloc *text)
{
	for (size_t i = 0; i < text->len && i + 1 < screen->columns; i++) {
		char c = text->s[i];

		if (c < ' ' || c > '~')
			c = '?';
		buffer_put(buffer_1, &c, 1);
	}
	buffer_puts(buffer_1, "\r\n");
	screen->row++;
}

static int
add_field(stralloc *row, const char *word, const struct message *m, const char *name)
{
	stralloc body = STRALLOC_ZERO;
	int ok = field_get(&body, m, name, '\0') >= 0 && stralloc_cats(row, word) && stralloc_cat(row, &body);

	stralloc_free(&body);
	return ok;
}

static void
show_message(struct screen *screen, int dir, const char *name)
{
	stralloc row = STRALLOC_ZERO;
	struct message m;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;	/* it was read meanwhile */
	if (message_of_file(&m, fd) && add_field(&row, "From ", &m, "from") && add_field(&row, " To ", &m, "to") &&
	    add_field(&row, " Subject: ", &m, "subject"))
		put_row(screen, &row);
	close(fd);
	stralloc_free(&row);
}

static int
newest_first(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	if (x->time.tv_sec != y->time.tv_sec)
		return x->time.tv_sec > y->time.tv_sec ? -1 : 1;
	return x->time.tv_nsec > y->time.tv_nsec ? -1 : x->time.tv_nsec < y->time.tv_nsec;
}

/* Reads the newest messages of dir into lines, at most as many as fit the screen; returns how many. *total: all of them. */
static size_t
read_newest(DIR *dir, struct line lines[ROWS_MAX], size_t room, size_t *total)
{
	struct dirent *e;
	struct stat st;
	size_t n = 0;

	*total = 0;
	while ((e = readdir(dir)) != NULL) {
		struct line line;

		if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		++*total;
		line.time = st.st_mtim;
		memcpy(line.name, e->d_name, strlen(e->d_name) + 1);
		if (n == room) {
			qsort(lines, n, sizeof *lines, newest_first);
			if (newest_first(&line, &lines[n - 1]) >= 0)
				continue;
			n--;
		}
		lines[n++] = line;
	}
	qsort(lines, n, sizeof *lines, newest_first);
	return n;
}

static void
show(const char *maildir)
{
	static struct line lines[ROWS_MAX];
	stralloc row = STRALLOC_ZERO;
	struct screen screen;
	size_t n, total;
	DIR *dir = opendir("new");

	if (!dir)
		strerr_diefusys(EXIT_TEMP, "read ", maildir, "/new");
	measure(&screen);
	n = read_newest(dir, lines, screen.rows > 2 ? screen.rows - 2 : 1, &total);
	buffer_puts(buffer_1, "\033[H\033[J");
	if (!stralloc_cats(&row, total ? "New mail in " : "No new mail in ") || !stralloc_cats(&row, maildir))
		strerr_diefusys(EXIT_TEMP, "show the maildir");
	put_row(&screen, &row);
	for (size_t i = 0; i < n; i++)
		show_message(&screen, dirfd(dir), lines[i].name);
	closedir(dir);
	stralloc_free(&row);
	if (!buffer_flush(buffer_1))
		strerr_diefusys(EXIT_TEMP, "write to the terminal");
}

int
main(int argc, const char *const *argv)
{
	const char *maildir = getenv("MAILDIR");

	(void)argv;
	PROG = "maildirwatch";
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, "maildirwatch");
	if (!maildir || !*maildir)
		strerr_dief(EXIT_PERM, "MAILDIR is not set");
	if (chdir(maildir) < 0)
		strerr_diefusys(EXIT_TEMP, "enter ", maildir);
	for (;;) {
		show(maildir);
		sleep(INTERVAL);
	}
}
