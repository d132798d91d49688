/* maildir2mbox: move the messages of a maildir to an mbox.
 * Trust: runs as the user, in the user's files; names and octets in a maildir are hostile. A message is removed from the
 * maildir only when it is in the mbox and on disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/djbunix.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "mbox.h"
#include "message.h"
#include "trace.h"

#define USAGE "maildir2mbox"

struct entry {
	struct timespec time;	/* mtime: the order in the mbox */
	char *path;		/* "new/..." or "cur/..." */
};

struct list {
	struct entry *entries;
	size_t len, room;
};

static const char *
variable(const char *name)
{
	const char *value = getenv(name);

	if (!value || !*value)
		strerr_dief(EXIT_PERM, name, " is not set");
	return value;
}

static void
add(struct list *list, const char *path, const struct stat *st)
{
	if (list->len == list->room) {
		list->room = list->room ? 2 * list->room : 64;
		list->entries = reallocarray(list->entries, list->room, sizeof *list->entries);
		if (!list->entries)
			strerr_diefusys(EXIT_TEMP, "list the maildir");
	}
	list->entries[list->len] = (struct entry){ .time = st->st_mtim, .path = strdup(path) };
	/* -Wanalyzer-malloc-leak: the list has it, until the program ends */
	if (!list->entries[list->len++].path)
		strerr_diefusys(EXIT_TEMP, "list the maildir");
}

/* Adds the regular files of a folder. What is no message (a directory, a link elsewhere, a name that starts with a dot) is
 * left alone. */
static void
read_folder(struct list *list, const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *e;
	char path[NAME_MAX + 8];
	struct stat st;

	if (!dir)
		strerr_diefusys(EXIT_TEMP, "read ", folder);
	while ((errno = 0, e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
			add(list, path, &st);
	}
	if (errno)
		strerr_diefusys(EXIT_TEMP, "read ", folder);
	closedir(dir);
}

static int
by_time(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->time.tv_sec != y->time.tv_sec)
		return x->time.tv_sec < y->time.tv_sec ? -1 : 1;
	if (x->time.tv_nsec != y->time.tv_nsec)
		return x->time.tv_nsec < y->time.tv_nsec ? -1 : 1;
	return strcmp(x->path, y->path);
}

/* The address of a Return-Path line at the start of the message, for the From line; "" without one. */
static void
find_sender(stralloc *sender, const struct message *m)
{
	static const char name[] = "Return-Path: <";
	char buffer[MESSAGE_BUFFER];
	const char *s, *end, *newline;
	ssize_t r = message_octets(m, 0, &s, buffer);
	size_t len = r > 0 ? (size_t)r : 0;

	sender->len = 0;
	if (len > sizeof name - 1 && !memcmp(s, name, sizeof name - 1)) {
		newline = memchr(s, '\n', len);
		end = newline ? memrchr(s, '>', (size_t)(newline - s)) : NULL;
		s += sizeof name - 1;
		if (end && end > s && !memchr(s, '\0', (size_t)(end - s)) && !stralloc_catb(sender, s, (size_t)(end - s)))
			strerr_diefusys(EXIT_TEMP, "write the mbox");
	}
	if (!stralloc_0(sender))
		strerr_diefusys(EXIT_TEMP, "write the mbox");
}

/* Copies the octets of a file that is open at its start. Returns 1, or 0 with errno set. */
static int
append(struct mbox *to, const struct message *m, const char *from_line, size_t from_len)
{
	char buffer[MESSAGE_BUFFER];
	uint64_t at = 0;
	const char *s;
	ssize_t r;

	if (!mbox_begin(to, from_line, from_len))
		return 0;
	while ((r = message_octets(m, at, &s, buffer)) > 0) {
		if (!mbox_message(to, s, (size_t)r))
			return 0;
		at += (uint64_t)r;
	}
	return r == 0 && mbox_end(to);
}

static void
move_message(struct mbox *to, const struct entry *e)
{
	stralloc sender = STRALLOC_ZERO, line = STRALLOC_ZERO;
	int fd = open(e->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct message m;

	if (fd < 0 || !message_of_file(&m, fd))
		strerr_diefusys(EXIT_TEMP, "read ", e->path);
	find_sender(&sender, &m);
	if (!trace_from_line(&line, sender.s, e->time.tv_sec))
		strerr_diefusys(EXIT_TEMP, "write the mbox");
	if (!append(to, &m, line.s, line.len))
		strerr_diefusys(EXIT_TEMP, "copy ", e->path, " to the mbox");
	close(fd);
	stralloc_free(&sender);
	stralloc_free(&line);
}

/* Copies the mbox as it is to the new file, which gets its mode. */
static void
copy_old(struct mbox *to, const struct mbox *old, const char *mail)
{
	char buffer[MESSAGE_BUFFER];
	struct message m;
	struct stat st;
	uint64_t at = 0;
	const char *s;
	ssize_t r;

	if (fstat(old->fd, &st) < 0 || fchmod(to->fd, st.st_mode & 07777) < 0 || !message_of_file(&m, old->fd))
		strerr_diefusys(EXIT_TEMP, "look at ", mail);
	while ((r = message_octets(&m, at, &s, buffer)) > 0) {
		if (allwrite(to->fd, s, (size_t)r) < (size_t)r)
			strerr_diefusys(EXIT_TEMP, "copy ", mail);
		at += (uint64_t)r;
	}
	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "copy ", mail);
}

/* Makes the new file beside the mbox; both are locked. What an earlier run left at its name goes. */
static void
open_both(struct mbox *old, struct mbox *new, const char *mail, const char *temporary)
{
	struct stat mailbox, other;

	if (!mbox_open(old, mail) || fstat(old->fd, &mailbox) < 0)
		strerr_diefusys(EXIT_TEMP, "open ", mail);
	if (!old->is_regular)
		strerr_dief(EXIT_PERM, mail, " is not a file");
	if (stat(temporary, &other) == 0 && other.st_dev == mailbox.st_dev && other.st_ino == mailbox.st_ino)
		strerr_dief(EXIT_PERM, "MAIL and MAILTMP are one file");
	if (unlink(temporary) < 0 && errno != ENOENT)
		strerr_diefusys(EXIT_TEMP, "remove ", temporary);
	if (!mbox_open(new, temporary))
		strerr_diefusys(EXIT_TEMP, "make ", temporary);
}

static void
move_all(const struct list *list, const char *mail, const char *temporary)
{
	struct mbox old, new;
	char *real;

	open_both(&old, &new, mail, temporary);
	real = realpath(mail, NULL);
	if (!real)
		strerr_diefusys(EXIT_TEMP, "find ", mail);
	copy_old(&new, &old, mail);
	for (size_t i = 0; i < list->len; i++)
		move_message(&new, &list->entries[i]);
	if (!mbox_flush(&new, temporary))
		strerr_diefusys(EXIT_TEMP, "write ", temporary);
	if (rename(temporary, real) < 0)
		strerr_diefusys(EXIT_TEMP, "rename ", temporary, " to ", real);
	new.is_new = 1;
	if (!mbox_flush(&new, real))
		strerr_diefusys(EXIT_TEMP, "write the directory of ", mail);
	/* from here on the messages are in the mbox for certain */
	for (size_t i = 0; i < list->len; i++) {
		if (unlink(list->entries[i].path) < 0)
			strerr_warnwusys("remove ", list->entries[i].path, ", which is in ", mail, " now");
	}
	free(real);
	mbox_close(&new);
	mbox_close(&old);
}

int
main(int argc, const char *const *argv)
{
	struct list list = { .entries = NULL };
	const char *maildir, *mail, *temporary;

	(void)argv;
	PROG = "maildir2mbox";
	if (!fd_sanitize())	/* or the mbox could be descriptor 2, and a warning be written into it */
		strerr_diefusys(EXIT_TEMP, "open /dev/null");
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, USAGE);
	maildir = variable("MAILDIR");
	mail = variable("MAIL");
	temporary = variable("MAILTMP");
	umask(077);
	if (chdir(maildir) < 0)
		strerr_diefusys(EXIT_TEMP, "enter ", maildir);
	read_folder(&list, "new");
	read_folder(&list, "cur");
	if (list.len == 0)
		return EXIT_OK;
	qsort(list.entries, list.len, sizeof *list.entries, by_time);
	move_all(&list, mail, temporary);
	return EXIT_OK;
}
