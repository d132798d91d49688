/* record: preloaded into qmail-queued, writes down what it and its children do to the queue's files, in order, into the
 * file that $CRASH_RECORD names. One line an event:
 *
 *     write PATH OFFSET HEX       before it is done        flush PATH        after it has succeeded
 *     create PATH                 after                    rename FROM TO    before
 *     unlink PATH                 before                   syncdir PATH      after
 *     send HEX                    before it is done: answers and confirmations leave by sendmsg only
 *
 * What is written down before it is done may look done a little earlier than it was, never later: a state that is built
 * from the record is one that a power cut could have left. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATH_LEN = 256, FDS = 1024, SEND_MAX = 1 << 20 };

/* What the program opened below queue/: a program that has shut itself in cannot be asked with readlink any more. */
static struct { char path[PATH_LEN]; long long offset; int folder; } opened_as[FDS];
static int log_fd = -1;

__attribute__((constructor)) static void
start(void)
{
	if (getenv("CRASH_RECORD"))
		log_fd = open(getenv("CRASH_RECORD"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* One write each, so that the lines of several processes do not mix. */
static void
say(const char *line, size_t len)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	if (log_fd >= 0 && real(log_fd, line, len) < 0)
		abort();
}

static void
say_words(const char *verb, const char *a, const char *b)
{
	char line[3 * PATH_LEN];

	say(line, (size_t)snprintf(line, sizeof line, "%s %s%s%s\n", verb, a, b ? " " : "", b ? b : ""));
}

static void
say_octets(const char *prefix, const unsigned char *s, size_t len)
{
	size_t n = strlen(prefix);
	char *line = malloc(n + 2 * len + 2);

	if (!line)
		abort();
	memcpy(line, prefix, n);
	for (size_t i = 0; i < len; i++) {
		line[n++] = "0123456789abcdef"[s[i] >> 4];
		line[n++] = "0123456789abcdef"[s[i] & 15];
	}
	line[n++] = '\n';
	say(line, n);
	free(line);
}

/* The path of a descriptor below queue/, else NULL. */
static const char *
queue_path(int fd)
{
	return fd >= 0 && fd < FDS && opened_as[fd].path[0] ? opened_as[fd].path : NULL;
}

#define REAL(type, name, ...) \
	static type (*real)(__VA_ARGS__); \
	if (!real) \
		real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void
say_write(int fd, const void *s, size_t len, long long offset)
{
	char prefix[PATH_LEN + 40];

	snprintf(prefix, sizeof prefix, "write %s %lld ", queue_path(fd), offset);
	say_octets(prefix, s, len);
}

ssize_t
pwrite(int fd, const void *s, size_t len, off_t offset)
{
	REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);

	if (queue_path(fd))
		say_write(fd, s, len, offset);
	return real(fd, s, len, offset);
}

ssize_t
pwrite64(int fd, const void *s, size_t len, off_t offset)
{
	return pwrite(fd, s, len, offset);
}

ssize_t
write(int fd, const void *s, size_t len)
{
	REAL(ssize_t, "write", int, const void *, size_t);

	if (queue_path(fd)) {
		say_write(fd, s, len, opened_as[fd].offset);
		opened_as[fd].offset += (long long)len;
	}
	return real(fd, s, len);
}

static int
flushed(int fd, int result)
{
	if (result == 0 && queue_path(fd))
		say_words(opened_as[fd].folder ? "syncdir" : "flush", queue_path(fd), NULL);
	return result;
}

int
fsync(int fd)
{
	REAL(int, "fsync", int);

	return flushed(fd, real(fd));
}

int
fdatasync(int fd)
{
	REAL(int, "fdatasync", int);

	return flushed(fd, real(fd));
}

static int
opened(const char *path, int flags, int fd)
{
	int below = !strncmp(path, "queue/", 6);

	if (fd < 0 || fd >= FDS)
		return fd;
	opened_as[fd].path[0] = '\0';
	opened_as[fd].offset = 0;
	opened_as[fd].folder = (flags & O_DIRECTORY) != 0;
	if (below)
		snprintf(opened_as[fd].path, PATH_LEN, "%s", path);
	if (below && flags & O_CREAT)
		say_words("create", path, NULL);
	return fd;
}

/* A number that stands for something else now is not a file of the queue. */
int
close(int fd)
{
	REAL(int, "close", int);

	if (fd >= 0 && fd < FDS)
		opened_as[fd].path[0] = '\0';
	return real(fd);
}

int
open(const char *path, int flags, ...)
{
	REAL(int, "open", const char *, int, ...);
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return opened(path, flags, real(path, flags, mode));
}

int
open64(const char *path, int flags, ...)
{
	REAL(int, "open64", const char *, int, ...);
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return opened(path, flags, real(path, flags, mode));
}

int
rename(const char *from, const char *to)
{
	REAL(int, "rename", const char *, const char *);

	if (!strncmp(from, "queue/", 6))
		say_words("rename", from, to);
	return real(from, to);
}

int
unlink(const char *path)
{
	REAL(int, "unlink", const char *);

	if (!strncmp(path, "queue/", 6))
		say_words("unlink", path, NULL);
	return real(path);
}

ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
	REAL(ssize_t, "sendmsg", int, const struct msghdr *, int);

	if (msg->msg_iovlen == 1 && msg->msg_iov[0].iov_len <= SEND_MAX)
		say_octets("send ", msg->msg_iov[0].iov_base, msg->msg_iov[0].iov_len);
	return real(fd, msg, flags);
}
