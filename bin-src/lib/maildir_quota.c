#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "maildir.h"
#include "maildir_quota.h"
#include "wall_clock.h"

#define FILE_NAME "maildirsize"
#define TRASH ".Trash"

enum { LINE_MAX_OCTETS = 64 };	/* of two numbers */

/* --- the words of a quota ------------------------------------------------------------------------------------------------- */

static int
parse_words(struct maildir_quota *q, const char *words)
{
	q->octets_max = q->messages_max = UINT64_MAX;
	if (!*words || strlen(words) > MAILDIR_QUOTA_WORDS_MAX)
		return 0;
	memcpy(q->words, words, strlen(words) + 1);
	while (*words) {
		char *end;
		uint64_t n;

		if (*words < '0' || *words > '9')
			return 0;
		errno = 0;
		n = strtoull(words, &end, 10);
		if (errno || (*end != 'S' && *end != 'C'))
			return 0;
		*(*end == 'S' ? &q->octets_max : &q->messages_max) = n;
		words = end + 1;
		if (*words && (*words != ',' || !*++words))
			return 0;
	}
	return 1;
}

/* --- counting ------------------------------------------------------------------------------------------------------------- */

/* Closes it. 1 if readdir, with errno 0 before, came to its end; 0 with errno set. */
static int
read_to_end(DIR *dir)
{
	int e = errno;

	closedir(dir);
	errno = e;
	return !e;
}

/* Adds what a directory of messages holds. One that is not there holds nothing. */
static int
count_messages(struct maildir_quota *q, int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	struct stat st;
	uint64_t size;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return errno == ENOENT || errno == ENOTDIR;
	}
	while (errno = 0, (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || maildir_name_is_trashed(entry->d_name))
			continue;
		if (!maildir_name_size(entry->d_name, &size)) {
			if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
				continue;	/* it has just gone, or is no message */
			size = (uint64_t)st.st_size;
		}
		if (size > UINT64_MAX - q->octets)
			size = UINT64_MAX - q->octets;	/* a name that lies */
		q->octets += size;
		q->messages++;
	}
	return read_to_end(dir);
}

/* Adds what a folder holds, "." the maildir itself. */
static int
count_folder(struct maildir_quota *q, const char *name)
{
	int fd = openat(q->root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int ok;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR;
	ok = count_messages(q, fd, "new") && count_messages(q, fd, "cur");
	close(fd);
	return ok;
}

/* Counts what is there, and what was taken: it does not come before maildir_quota_reserve. */
static int
count_all(struct maildir_quota *q)
{
	int fd = openat(q->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int ok;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	q->octets = q->taken_octets;
	q->messages = q->taken_messages;
	ok = count_folder(q, ".");
	while (ok && (errno = 0, entry = readdir(dir)))
		if (entry->d_name[0] == '.' && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, TRASH) != 0)
			ok = count_folder(q, entry->d_name);
	return read_to_end(dir) && ok;
}

/* Counts, and puts a new file in the place of the old one: of what is there, for maildir_quota_reserve adds to it what was taken. */
static int
count_anew(struct maildir_quota *q)
{
	char text[MAILDIR_QUOTA_WORDS_MAX + LINE_MAX_OCTETS], name[MAILDIR_NAME_MAX + 1], path[MAILDIR_NAME_MAX + sizeof "tmp/"];
	const struct maildir_quota before = *q;
	int fd, len, ok;

	if (!count_all(q)) {
		*q = before;	/* half a count is none */
		return 0;
	}
	q->is_old = 0;
	len = snprintf(text, sizeof text, "%s\n%llu %llu\n", q->words, (unsigned long long)(q->octets - q->taken_octets),
	    (unsigned long long)(q->messages - q->taken_messages));
	maildir_name(name, "quota");
	snprintf(path, sizeof path, "tmp/%s", name);
	fd = openat(q->root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	ok = allwrite(fd, text, (size_t)len) == (size_t)len;
	close(fd);
	if (!ok || renameat(q->root, path, q->root, FILE_NAME) < 0) {
		int e = errno;

		unlinkat(q->root, path, 0);
		errno = e;
		return 0;
	}
	return 1;
}

/* --- the file ------------------------------------------------------------------------------------------------------------- */

/* Reads "octets messages\n" at *s, which moves on. */
static int
parse_line(const char **s, int64_t *octets, int64_t *messages)
{
	char *end;

	errno = 0;
	*octets = strtoll(*s, &end, 10);
	if (end == *s || *end != ' ')
		return 0;
	*s = end;
	*messages = strtoll(*s, &end, 10);
	if (end == *s || errno)
		return 0;
	*s = end + strspn(end, " ");
	return *(*s)++ == '\n';
}

/* Takes what the file says. Returns 0 if it says nothing that counts. */
static int
parse_file(struct maildir_quota *q, const char *text)
{
	size_t len = strlen(q->words);
	int64_t octets, messages, all_octets = 0, all_messages = 0;
	const char *s = text + len + 1;

	if (strncmp(text, q->words, len) != 0 || text[len] != '\n')
		return 0;
	while (*s)
		if (!parse_line(&s, &octets, &messages) || __builtin_add_overflow(all_octets, octets, &all_octets) ||
		    __builtin_add_overflow(all_messages, messages, &all_messages))
			return 0;
	if (all_octets < 0 || all_messages < 0)
		return 0;
	q->octets = (uint64_t)all_octets;
	q->messages = (uint64_t)all_messages;
	return 1;
}

static int
read_file(struct maildir_quota *q)
{
	char text[MAILDIR_QUOTA_FILE_MAX + 1];
	int fd = openat(q->root, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	time_t now;
	size_t len;

	if (fd < 0)
		return 0;
	len = allread(fd, text, sizeof text);
	now = wall_clock_seconds();
	q->is_old = fstat(fd, &st) < 0 || now - st.st_mtime > MAILDIR_QUOTA_SECONDS || st.st_mtime > now;
	close(fd);
	if (len == sizeof text)
		return 0;
	text[len] = '\0';
	return strlen(text) == len && parse_file(q, text);
}

/* --- what others call ----------------------------------------------------------------------------------------------------- */

static int
open_directory(const char *path, size_t len)
{
	char *copy = strndup(path, len);
	int fd = copy ? open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	free(copy);
	return fd;
}

/* Opens the maildir that path is, or is a folder of: MAILDIR/.NAME. */
static int
open_root(const char *path)
{
	size_t len = strlen(path), name;
	struct stat st;
	int fd;

	while (len > 1 && path[len - 1] == '/')
		len--;
	for (name = len; name > 0 && path[name - 1] != '/'; name--)
		;
	if (name > 0 && path[name] == '.') {
		fd = open_directory(path, name);
		if (fd >= 0 && fstatat(fd, "cur", &st, 0) == 0 && S_ISDIR(st.st_mode))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return open_directory(path, len);
}

/* Opens the root for a quota of these words. */
static int
begin(struct maildir_quota *q, const char *path, const char *words)
{
	*q = (struct maildir_quota){ .root = -1 };
	if (!parse_words(q, words)) {
		errno = EINVAL;
		return 0;
	}
	q->root = open_root(path);
	return q->root >= 0;
}

int
maildir_quota_look(struct maildir_quota *q, const char *path, const char *words)
{
	int is_read;

	if (!begin(q, path, words))
		return 0;
	is_read = read_file(q);
	maildir_quota_close(q);
	errno = ENOENT;
	return is_read;
}

int
maildir_quota_open(struct maildir_quota *q, const char *path, const char *words)
{
	if (!begin(q, path, words))
		return 0;
	/* some file systems lock no directory: then it is not exact */
	while (flock(q->root, LOCK_EX) < 0 && errno == EINTR)
		;
	if (read_file(q) || count_anew(q))
		return 1;
	maildir_quota_close(q);
	return 0;
}

static int
has_room(const struct maildir_quota *q, uint64_t octets)
{
	return q->messages < q->messages_max && octets <= q->octets_max && q->octets <= q->octets_max - octets;
}

int
maildir_quota_take(struct maildir_quota *q, uint64_t octets, int *never)
{
	*never = octets > q->octets_max || q->messages_max == 0;
	if (!has_room(q, octets) && !*never && q->is_old && !count_anew(q))
		return -1;
	if (!has_room(q, octets))
		return 0;
	q->octets += octets;
	q->messages++;
	q->taken_octets += octets;
	q->taken_messages++;
	return 1;
}

void
maildir_quota_reserve(struct maildir_quota *q)
{
	if (q->taken_messages)
		maildir_quota_record(q->root, (int64_t)q->taken_octets, (int64_t)q->taken_messages);
	flock(q->root, LOCK_UN);
}

int
maildir_quota_file(int maildir)
{
	return openat(maildir, FILE_NAME, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static int
append(int file, int64_t octets, int64_t messages)
{
	char line[LINE_MAX_OCTETS];
	int len = snprintf(line, sizeof line, "%lld %lld\n", (long long)octets, (long long)messages);

	return write(file, line, (size_t)len) == len;	/* in one piece, or two lines are mixed */
}

int
maildir_quota_record(int maildir, int64_t octets, int64_t messages)
{
	int fd = maildir_quota_file(maildir);
	int ok;

	if (fd < 0)
		return 0;
	ok = append(fd, octets, messages);
	close(fd);
	return ok;
}

int
maildir_quota_record_in(int file, int maildir, int64_t octets, int64_t messages)
{
	struct stat st;

	if (file >= 0 && fstat(file, &st) == 0 && st.st_nlink > 0 && append(file, octets, messages))
		return 1;
	unlinkat(maildir, FILE_NAME, 0);
	return 0;
}

void
maildir_quota_close(struct maildir_quota *q)
{
	int e = errno;

	if (q->root >= 0)
		close(q->root);
	q->root = -1;
	errno = e;
}
