#include <cdb.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "table.h"

enum { HEAD = 2048, HEAD_ENTRY = 8, SLOT = 8, RECORD_HEAD = 8 };	/* octets */

static uint32_t
little(const unsigned char *s)
{
	return (uint32_t)s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 | (uint32_t)s[3] << 24;
}

/* Whether the head fits the file: every maker writes the hash tables one after the other behind the last record, up to
 * the end of the file. So a file cut short shows, and so does a head of zeros, which a power cut may leave. */
static int
head_is_sound(int fd, uint32_t size)
{
	unsigned char head[HEAD];
	uint64_t octets_all = 0;
	uint32_t first = size;

	if (pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
		return 0;
	for (size_t i = 0; i < HEAD; i += HEAD_ENTRY) {
		uint32_t at = little(head + i);
		uint64_t octets = (uint64_t)little(head + i + 4) * SLOT;

		if (octets && (at < HEAD || at + octets > size))
			return 0;
		if (octets && at < first)
			first = at;
		octets_all += octets;
	}
	return octets_all ? octets_all == size - first : size == HEAD;
}

int
table_open(struct table *t, const char *file)
{
	struct stat st;
	int e = 0;

	t->size = 0;
	t->fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (t->fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (fstat(t->fd, &st) < 0)
		e = errno;
	else if (!S_ISREG(st.st_mode))
		e = EINVAL;
	else if (st.st_size < HEAD || st.st_size > TABLE_SIZE_MAX || !head_is_sound(t->fd, (uint32_t)st.st_size))
		e = EPROTO;
	if (e) {
		table_close(t);
		errno = e;
		return -1;
	}
	t->size = (uint32_t)st.st_size;
	return 1;
}

/* The value that begins where the descriptor stands. */
static int
read_value(struct table *t, size_t len, stralloc *value)
{
	size_t done = 0;

	if (len > TABLE_VALUE_MAX || len > t->size) {
		errno = EPROTO;
		return -1;
	}
	if (!stralloc_ready(value, len + 1)) {
		errno = ENOMEM;
		return -1;
	}
	while (done < len) {
		ssize_t r = read(t->fd, value->s + done, len - done);

		if (r == 0)
			errno = EPROTO;
		if (r == 0 || (r < 0 && errno != EINTR))
			return -1;
		done += r > 0 ? (size_t)r : 0;
	}
	value->len = len;
	return 1;
}

int
table_get(struct table *t, const char *key, size_t len, stralloc *value)
{
	unsigned int value_len;
	int r;

	value->len = 0;
	if (t->fd < 0 || len > t->size)
		return 0;
	errno = 0;
	/* not cdb_find: it reads through a mapping */
	r = cdb_seek(t->fd, key, (unsigned int)len, &value_len);
	if (r < 0 && (errno == 0 || errno == EIO))
		errno = EPROTO;	/* beyond the end of the file */
	return r > 0 ? read_value(t, value_len, value) : r;
}

void
table_close(struct table *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

int
table_find(const char *file, const char *key, size_t len, stralloc *value, int *absent)
{
	struct table t;
	int r = table_open(&t, file);
	int e;

	value->len = 0;
	if (absent)
		*absent = r == 0;
	if (r == 1) {
		r = table_get(&t, key, len, value);
		e = errno;
		table_close(&t);
		errno = e;
	}
	return r;
}

/* Where the hash tables begin, and the records end. */
static int
find_end(const struct table *t, uint32_t *end)
{
	unsigned char head[HEAD];

	if (pread(t->fd, head, sizeof head, 0) != (ssize_t)sizeof head) {
		errno = EPROTO;
		return 0;
	}
	*end = t->size;
	for (size_t i = 0; i < HEAD; i += HEAD_ENTRY)
		if (little(head + i + 4) && little(head + i) < *end)
			*end = little(head + i);
	return 1;
}

int
table_each(struct table *t, void (*each)(void *data, const char *key, size_t len), void *data)
{
	char key[TABLE_KEY_MAX];
	uint64_t at = HEAD, key_len, value_len;
	uint32_t end;

	if (t->fd < 0)
		return 1;
	if (!find_end(t, &end))
		return -1;
	while (at < end) {
		unsigned char lengths[RECORD_HEAD];

		if (pread(t->fd, lengths, sizeof lengths, (off_t)at) != (ssize_t)sizeof lengths)
			break;
		key_len = little(lengths);
		value_len = little(lengths + 4);
		at += RECORD_HEAD;
		if (key_len + value_len > end - at)
			break;
		if (key_len <= sizeof key) {
			if (pread(t->fd, key, key_len, (off_t)at) != (ssize_t)key_len)
				break;
			each(data, key, key_len);
		}
		at += key_len + value_len;
	}
	if (at == end)
		return 1;
	errno = EPROTO;
	return -1;
}

/* Opens and locks the temporary file; another maker may hold it, and rename it away while we wait. */
static int
open_locked(const char *temporary, mode_t mode)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };

	for (int tries = TABLE_WAIT * 10; tries; tries--) {
		struct stat ours, named;
		int fd = open(temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, mode);
		int e;

		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			if (fstat(fd, &ours) == 0 && stat(temporary, &named) == 0 && ours.st_ino == named.st_ino
			    && ours.st_dev == named.st_dev)
				return fd;
			close(fd);
			continue;
		}
		e = errno;
		close(fd);
		if (e != EWOULDBLOCK && e != EINTR) {
			errno = e;
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	errno = EAGAIN;
	return -1;
}

int
table_make(struct table_maker *m, const char *file, const char *temporary, mode_t mode)
{
	*m = (struct table_maker){ .fd = -1, .file = file, .temporary = temporary };
	m->fd = open_locked(temporary, mode);
	if (m->fd < 0)
		return 0;
	m->cdb = malloc(sizeof(struct cdb_make));
	/* it may be what somebody who was killed left, with whatever mode */
	if (m->cdb && fchmod(m->fd, mode) == 0 && ftruncate(m->fd, 0) == 0 && cdb_make_start(m->cdb, m->fd) == 0)
		return 1;
	table_abandon(m);
	return 0;
}

int
table_add(struct table_maker *m, const char *key, size_t key_len, const char *value, size_t value_len)
{
	if (key_len > TABLE_VALUE_MAX || value_len > TABLE_VALUE_MAX) {
		errno = EMSGSIZE;
		return 0;
	}
	errno = EFBIG;	/* libcdb sets none where its pointers do not suffice */
	return cdb_make_add(m->cdb, key, (unsigned int)key_len, value, (unsigned int)value_len) == 0;
}

int
table_has(struct table_maker *m, const char *key, size_t len)
{
	return cdb_make_exists(m->cdb, key, (unsigned int)len);
}

/* Makes the names in the directory of file durable. */
static int
flush_directory(const char *file)
{
	const char *slash = strrchr(file, '/');
	char *directory = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
	int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int r = fd >= 0 && fsync(fd) == 0;
	int e = errno;

	free(directory);
	if (fd >= 0)
		close(fd);
	errno = e;
	return r;
}

int
table_flush(struct table_maker *m)
{
	int ok = cdb_make_finish(m->cdb) == 0 && fsync(m->fd) == 0;

	free(m->cdb);
	m->cdb = NULL;
	if (!ok)
		table_abandon(m);
	return ok;
}

int
table_finish(struct table_maker *m)
{
	if (m->cdb && !table_flush(m))
		return 0;
	if (rename(m->temporary, m->file) < 0) {
		table_abandon(m);
		return 0;
	}
	/* renamed while locked: whoever waits for the lock sees that the name is another file now */
	close(m->fd);
	m->fd = -1;
	return flush_directory(m->file);
}

void
table_abandon(struct table_maker *m)
{
	int e = errno;

	if (m->fd >= 0)
		unlink(m->temporary);
	if (m->cdb)
		cdb_make_finish(m->cdb);	/* the only way to have libcdb free its memory */
	if (m->fd >= 0)
		close(m->fd);
	free(m->cdb);
	*m = (struct table_maker){ .fd = -1 };
	errno = e;
}
