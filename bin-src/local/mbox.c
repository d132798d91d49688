#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "mbox.h"

enum { REOPEN_TRIES = 10 };

static const char from[] = "From ";
enum { FROM_LEN = sizeof from - 1 };

/* Readable too where that is allowed, to see how the file ends. O_NONBLOCK: a FIFO must not hold us. */
static int
open_file(const char *path, int flags)
{
	int fd = open(path, O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, 0600);

	if (fd < 0 && errno == EACCES)
		fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, 0600);
	return fd;
}

static int
open_or_make(struct mbox *m, const char *path)
{
	struct stat st;

	m->is_new = 0;
	m->fd = open_file(path, 0);
	if (m->fd < 0 && errno == ENOENT) {
		m->is_new = 1;
		m->fd = open_file(path, O_CREAT);
	}
	if (m->fd < 0)
		return 0;
	if (fstat(m->fd, &st) < 0)
		return 0;
	m->is_regular = S_ISREG(st.st_mode);
	if (m->is_regular || S_ISCHR(st.st_mode))
		return 1;
	errno = EINVAL;
	return 0;
}

static void
on_alarm(int sig)
{
	(void)sig;
}

/* Waits for both locks. Returns 1, or 0 with errno set (EINTR: the time is over). */
static int
lock_both(int fd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (flock(fd, LOCK_EX) < 0)
		return 0;
	if (fcntl(fd, F_OFD_SETLKW, &whole) == 0)
		return 1;
	/* a file system without them, or a file that may not be read and written */
	return errno != EINTR;
}

/* The same, for at most MBOX_LOCK_WAIT seconds. The timer goes on each second, so that a signal that came just before
 * the wait began does not make it endless. */
static int
lock_for_a_while(int fd)
{
	struct itimerval timer = { .it_value.tv_sec = MBOX_LOCK_WAIT, .it_interval.tv_sec = 1 };
	struct itimerval none = { .it_value.tv_sec = 0 };
	struct sigaction wake = { .sa_handler = on_alarm }, before;
	int ok, error;

	if (sigaction(SIGALRM, &wake, &before) < 0 || setitimer(ITIMER_REAL, &timer, NULL) < 0)
		return 0;
	ok = lock_both(fd);
	error = errno;
	setitimer(ITIMER_REAL, &none, NULL);
	sigaction(SIGALRM, &before, NULL);
	errno = error == EINTR ? EAGAIN : error;
	return ok;
}

/* 1 if path still names the open file: another program may have replaced it while we waited for the lock. */
static int
is_still(int fd, const char *path)
{
	struct stat opened, named;

	return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
	    opened.st_dev == named.st_dev;
}

static int
find_end(struct mbox *m)
{
	m->start = lseek(m->fd, 0, SEEK_END);
	return m->start >= 0;
}

int
mbox_open(struct mbox *m, const char *path)
{
	*m = (struct mbox){ .fd = -1 };
	for (int i = 0; i < REOPEN_TRIES; i++) {
		if (!open_or_make(m, path) || (m->is_regular && !lock_for_a_while(m->fd)))
			break;
		if (!m->is_regular)
			return 1;
		if (is_still(m->fd, path)) {
			if (!find_end(m))
				break;
			/* perhaps somebody made it just before us and did not flush its directory */
			m->is_new = m->is_new || m->start == 0;
			return 1;
		}
		mbox_close(m);
		errno = EAGAIN;
	}
	mbox_close(m);
	return 0;
}

static int
flush_buffer(struct mbox *m)
{
	size_t len = m->buffered;

	m->buffered = 0;
	return allwrite(m->fd, m->buffer, len) == len;
}

static int
put(struct mbox *m, const char *s, size_t len)
{
	while (len) {
		size_t n = MBOX_BUFFER - m->buffered;

		if (n > len)
			n = len;
		memcpy(m->buffer + m->buffered, s, n);
		m->buffered += n;
		s += n;
		len -= n;
		if (m->buffered == MBOX_BUFFER && !flush_buffer(m))
			return 0;
	}
	return 1;
}

/* The newlines that the file needs so that a message can begin: its last line ended, and an empty one after it. What may not be
 * read is taken to end so. */
static int
end_what_is_there(struct mbox *m)
{
	char last[2] = { '\n', '\n' };
	size_t n = m->start >= 2 ? 2 : (size_t)m->start;

	if (pread(m->fd, last + 2 - n, n, m->start - (int64_t)n) < 0)
		return errno == EBADF;
	if (last[1] != '\n')
		return put(m, "\n\n", 2);
	return last[0] == '\n' || put(m, "\n", 1);
}

int
mbox_begin(struct mbox *m, const char *from_line, size_t len)
{
	m->undecided = 1;
	m->quotes = m->matched = 0;
	m->last = '\n';
	return (!m->is_regular || (find_end(m) && end_what_is_there(m))) && put(m, from_line, len);
}

int
mbox_header(struct mbox *m, const char *s, size_t len)
{
	return put(m, s, len);
}

/* Writes the start of the line that was held back, with one '>' more if it is a From line. */
static int
decide(struct mbox *m, int is_from)
{
	static const char marks[] = ">>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>";
	uint64_t quotes = m->quotes + (is_from ? 1 : 0);
	size_t matched = m->matched;

	m->undecided = 0;
	m->quotes = m->matched = 0;
	while (quotes) {
		size_t n = quotes < sizeof marks - 1 ? (size_t)quotes : sizeof marks - 1;

		if (!put(m, marks, n))
			return 0;
		quotes -= n;
	}
	return put(m, from, matched);
}

/* Takes one octet of the start of a line. */
static int
look_at(struct mbox *m, char c)
{
	if (c == '>' && m->matched == 0) {
		m->quotes++;
		return 1;
	}
	if (c == from[m->matched]) {
		m->matched++;
		return m->matched < FROM_LEN || decide(m, 1);
	}
	if (!decide(m, 0) || !put(m, &c, 1))
		return 0;
	m->undecided = c == '\n';
	return 1;
}

int
mbox_message(struct mbox *m, const char *s, size_t len)
{
	if (len)
		m->last = s[len - 1];
	while (len) {
		const char *newline;
		size_t n;

		if (m->undecided) {
			if (!look_at(m, *s))
				return 0;
			s++;
			len--;
			continue;
		}
		newline = memchr(s, '\n', len);
		n = newline ? (size_t)(newline + 1 - s) : len;
		if (!put(m, s, n))
			return 0;
		m->undecided = newline != NULL;
		s += n;
		len -= n;
	}
	return 1;
}

int
mbox_end(struct mbox *m)
{
	if (m->undecided && !decide(m, 0))
		return 0;
	if (m->last != '\n' && !put(m, "\n", 1))
		return 0;
	return put(m, "\n", 1) && flush_buffer(m);
}

/* Flushes the directory that holds the file. Where it cannot be opened, the whole file system. */
static int
flush_directory(const struct mbox *m, const char *path)
{
	char real[PATH_MAX];
	char *slash;
	int fd, ok;

	if (!realpath(path, real))
		return syncfs(m->fd) == 0;
	slash = strrchr(real, '/');
	slash[slash == real] = '\0';
	fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return syncfs(m->fd) == 0;
	ok = fsync(fd) == 0;
	close(fd);
	return ok;
}

int
mbox_flush(struct mbox *m, const char *path)
{
	if (!m->is_regular)
		return 1;
	return fsync(m->fd) == 0 && (!m->is_new || flush_directory(m, path));
}

void
mbox_undo(struct mbox *m)
{
	m->buffered = 0;
	if (m->is_regular && m->fd >= 0 && m->start >= 0 && ftruncate(m->fd, m->start) == 0)
		fsync(m->fd);
}

void
mbox_close(struct mbox *m)
{
	int error = errno;

	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
	errno = error;
}
