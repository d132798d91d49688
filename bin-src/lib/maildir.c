#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "decimal.h"
#include "maildir.h"

enum { HOST_NAME = 256, SIZE_SUFFIX = 32 };

static int
open_directory(int at, const char *path, int flags)
{
	return openat(at, path, flags | O_DIRECTORY | O_CLOEXEC);
}

int
maildir_open(struct maildir *m, const char *path)
{
	char host[HOST_NAME];
	int dir = open_directory(AT_FDCWD, path, O_PATH);

	if (dir < 0)
		return 0;
	m->new = -1;
	m->tmp = open_directory(dir, "tmp", O_PATH);
	if (m->tmp >= 0)
		m->new = open_directory(dir, "new", O_RDONLY);
	close(dir);
	if (m->new < 0) {
		if (m->tmp >= 0)
			close(m->tmp);
		m->tmp = -1;
		return 0;
	}
	if (gethostname(host, sizeof host) < 0)
		*host = '\0';
	host[sizeof host - 1] = '\0';
	maildir_escape_host(m->host, host);
	return 1;
}

void
maildir_close(struct maildir *m)
{
	if (m->tmp >= 0)
		close(m->tmp);
	if (m->new >= 0)
		close(m->new);
	m->tmp = m->new = -1;
}

void
maildir_escape_host(char escaped[MAILDIR_HOST_MAX + 1], const char *host)
{
	size_t len = 0;

	for (; *host; host++) {
		unsigned char c = (unsigned char)*host;
		int plain = c > ' ' && c < 127 && c != '/' && c != ':' && c != ',';

		if (len + (plain ? 1 : 4) > MAILDIR_HOST_MAX)
			break;
		if (plain)
			escaped[len++] = (char)c;
		else
			len += (size_t)snprintf(escaped + len, 5, "\\%03o", c);
	}
	escaped[len] = '\0';
	if (len == 0)
		memcpy(escaped, "localhost", sizeof "localhost");
}

void
maildir_name(char name[MAILDIR_NAME_MAX + 1], const char *host)
{
	static unsigned long deliveries;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, MAILDIR_NAME_MAX + 1, "%lld.M%06ldP%ldQ%lu.%.*s", (long long)now.tv_sec, now.tv_nsec / 1000,
	    (long)getpid(), ++deliveries, MAILDIR_HOST_MAX, host);
}

/* The number behind key in name, before any ':'. Returns 1, or 0 if there is none. */
static int
name_number(const char *name, const char *key, uint64_t *number)
{
	const char *colon = strchr(name, ':');
	const char *s = strstr(name, key);
	uint64_t n;
	size_t len;

	if (!s || (colon && colon < s))
		return 0;
	s += strlen(key);
	len = decimal_scan(s, &n);
	if (!len || (s[len] && s[len] != ',' && s[len] != ':'))
		return 0;
	*number = n;
	return 1;
}

int
maildir_name_size(const char *name, uint64_t *size)
{
	return name_number(name, ",S=", size);
}

int
maildir_name_wire_size(const char *name, uint64_t *size)
{
	return name_number(name, ",W=", size);
}

int
maildir_name_is_trashed(const char *name)
{
	const char *flags = strstr(name, ":2,");

	return flags && strchr(flags, 'T');
}

int
maildir_create(struct maildir *m, struct maildir_file *f)
{
	*f = (struct maildir_file){ .fd = -1 };
	for (int i = 0; i < MAILDIR_TRIES; i++) {
		maildir_name(f->name, m->host);
		f->fd = openat(m->tmp, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (f->fd >= 0)
			return 1;
		if (errno != EEXIST)
			return 0;
	}
	return 0;
}

int
maildir_write(struct maildir_file *f, const struct iovec *v, unsigned int n)
{
	size_t len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += v[i].iov_len;
	if (allwritev(f->fd, v, n) < len)
		return 0;
	f->size += len;
	return 1;
}

void
maildir_start_flush(struct maildir_file *f)
{
	/* only a hint: an error shows again in maildir_flush */
	(void)sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int
maildir_flush(struct maildir_file *f)
{
	return fdatasync(f->fd) == 0;
}

/* Not every file system knows RENAME_NOREPLACE, and not every one links. */
int
maildir_move(int from, const char *old, int to, const char *new)
{
	if (renameat2(from, old, to, new, RENAME_NOREPLACE) == 0)
		return 1;
	if (errno != EINVAL && errno != ENOSYS)
		return 0;
	if (linkat(from, old, to, new, 0) == 0) {
		unlinkat(from, old, 0);
		return 1;
	}
	if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
		return 0;
	return renameat(from, old, to, new) == 0;
}

int
maildir_publish(struct maildir *m, struct maildir_file *f)
{
	char name[MAILDIR_NAME_MAX + SIZE_SUFFIX];

	snprintf(name, sizeof name, "%s,S=%llu", f->name, (unsigned long long)f->size);
	if (!maildir_move(m->tmp, f->name, m->new, name))
		return 0;
	f->is_public = 1;
	/* it fits: the parts of a name are at most 20, 7, 21, 21, MAILDIR_HOST_MAX and 23 octets */
	memcpy(f->name, name, strlen(name) + 1);
	return 1;
}

int
maildir_sync(struct maildir *m)
{
	return fsync(m->new) == 0;
}

void
maildir_finish(struct maildir_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

void
maildir_abandon(struct maildir *m, struct maildir_file *f)
{
	if (f->fd < 0)
		return;
	unlinkat(f->is_public ? m->new : m->tmp, f->name, 0);
	maildir_finish(f);
}

const char *const maildir_folders[MAILDIR_FOLDERS] = { "cur", "new", "tmp" };

/* may_exist: a directory that is there already is no hindrance. */
static int
make_folders(const char *path, int may_exist)
{
	int dir = open_directory(AT_FDCWD, path, O_PATH), ok = 1;

	if (dir < 0)
		return 0;
	for (int i = 0; i < MAILDIR_FOLDERS; i++)
		ok = ok && (mkdirat(dir, maildir_folders[i], 0700) == 0 || (may_exist && errno == EEXIST));
	close(dir);
	return ok;
}

int
maildir_make(const char *path)
{
	return mkdir(path, 0700) == 0 && make_folders(path, 0);
}

int
maildir_complete(const char *path)
{
	return make_folders(path, 1);
}
