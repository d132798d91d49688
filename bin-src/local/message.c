#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "message.h"

int
message_of_file(struct message *m, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return 0;
	}
	*m = (struct message){ .size = (uint64_t)st.st_size, .fd = fd };
	return 1;
}

/* Appends to the file copy what fd gives. Returns the octets, or -1 with errno set. */
static int64_t
take_all(int copy, int fd)
{
	static char buffer[MESSAGE_BUFFER];
	int64_t size = 0;
	ssize_t n;

	while ((n = read(fd, buffer, sizeof buffer)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || allwrite(copy, buffer, (size_t)n) < (size_t)n)
			return -1;
		size += n;
		if (size > MESSAGE_INPUT_MAX) {
			errno = EFBIG;
			return -1;
		}
	}
	return size;
}

int
message_of_input(struct message *m, int fd)
{
	int64_t size;
	int copy;

	if (lseek(fd, 0, SEEK_CUR) == 0 && message_of_file(m, fd))
		return 1;
	copy = memfd_create("message", MFD_CLOEXEC);
	if (copy < 0)
		return 0;
	size = take_all(copy, fd);
	*m = (struct message){ .size = (uint64_t)size, .fd = copy };
	return size >= 0;
}

ssize_t
message_octets(const struct message *m, uint64_t at, const char **s, char *buffer)
{
	uint64_t left = at < m->size ? m->size - at : 0;
	ssize_t r;

	if (left == 0)
		return 0;
	if (m->octets) {
		*s = m->octets + at;
		return (ssize_t)left;
	}
	do
		r = pread(m->fd, buffer, left < MESSAGE_BUFFER ? (size_t)left : MESSAGE_BUFFER, (off_t)at);
	while (r < 0 && errno == EINTR);
	if (r == 0) {
		errno = EIO;
		return -1;
	}
	*s = buffer;
	return r;
}

int
message_has_header_line(const struct message *m, const char *line, size_t len)
{
	char buffer[MESSAGE_BUFFER];
	uint64_t at = 0;
	size_t column = 0;	/* octets of this line so far */
	int same = 1;		/* so far it is the line */
	const char *s;
	ssize_t r;

	while ((r = message_octets(m, at, &s, buffer)) > 0) {
		for (ssize_t i = 0; i < r; i++) {
			if (s[i] == '\n') {
				if (column == 0)
					return 0;
				if (same && column == len)
					return 1;
				column = 0;
				same = 1;
				continue;
			}
			same = same && column < len && line[column] == s[i];
			column++;
		}
		at += (uint64_t)r;
	}
	return r < 0 ? -1 : len && same && column == len;
}

/* A read-only opening of the memory file fd, which it closes; without /proc, fd itself. */
static int
open_for_reading(int fd)
{
	char path[32];
	int again;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		return fd;
	close(fd);
	return again;
}

int
message_open(const struct message *m)
{
	int fd;

	if (!m->octets) {
		fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
		if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0) {
			close(fd);
			return -1;
		}
		return fd;
	}
	fd = memfd_create("message", MFD_CLOEXEC);
	if (fd < 0)
		return -1;
	if (allwrite(fd, m->octets, (size_t)m->size) != m->size || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -1;
	}
	return open_for_reading(fd);
}
