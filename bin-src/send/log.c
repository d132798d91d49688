#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/types.h>
#include "log.h"

int
log_init(struct log *log, int fd)
{
	*log = (struct log){ .fd = fd, .buffer = malloc(LOG_BUFFER), .line = malloc(LOG_LINE_MAX), .due = INT64_MAX };
	if (log->buffer && log->line)
		return 1;
	log_free(log);
	errno = ENOMEM;
	return 0;
}

void
log_free(struct log *log)
{
	free(log->buffer);
	free(log->line);
	log->buffer = log->line = NULL;
}

/* Room in the line for len octets more, and always for its LF. */
static size_t
fitting(const struct log *log, size_t len)
{
	size_t room = LOG_LINE_MAX - 1 - log->line_len;

	return len < room ? len : room;
}

static void
add(struct log *log, const char *s, size_t len)
{
	len = fitting(log, len);
	/* cppcheck-suppress uninitvar ; log_number has it filled by uint64_fmt */
	memcpy(log->line + log->line_len, s, len);
	log->line_len += len;
}

void
log_text(struct log *log, const char *s)
{
	add(log, s, strlen(s));
}

void
log_number(struct log *log, uint64_t n)
{
	char s[UINT64_FMT];

	add(log, s, uint64_fmt(s, n));
}

static char
quoted(char c)
{
	if (c == '\n')
		return '/';
	return c < 33 || c > 126 || c == '%' ? '_' : c;
}

void
log_quoted(struct log *log, const char *s, size_t len)
{
	char *to = log->line + log->line_len;

	len = fitting(log, len);
	for (size_t i = 0; i < len; i++)
		to[i] = quoted(s[i]);
	log->line_len += len;
}

/* Puts octets into the buffer, all or none. */
static int
keep(struct log *log, const char *s, size_t len)
{
	size_t end = (log->start + log->len) % LOG_BUFFER;
	size_t first = LOG_BUFFER - end < len ? LOG_BUFFER - end : len;

	if (len > LOG_BUFFER - log->len)
		return 0;
	memcpy(log->buffer + end, s, first);
	memcpy(log->buffer, s + first, len - first);
	log->len += len;
	return 1;
}

/* Says how many lines were lost, once there is room to say it. */
static void
confess(struct log *log)
{
	char s[80] = "warning: log reader too slow, lines lost: ";
	size_t len = strlen(s);

	len += uint64_fmt(s + len, log->lost);
	s[len++] = '\n';
	if (keep(log, s, len))
		log->lost = 0;
}

void
log_end(struct log *log)
{
	log->line[log->line_len++] = '\n';
	if (log->lost)
		confess(log);
	if (log->lost || !keep(log, log->line, log->line_len))
		log->lost++;
	log->line_len = 0;
}

void
log_line(struct log *log, ...)
{
	va_list arguments;
	const char *s;

	va_start(arguments, log);
	while ((s = va_arg(arguments, const char *)))
		log_text(log, s);
	va_end(arguments);
	log_end(log);
}

static int
is_writable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) > 0;
}

int64_t
log_due(struct log *log, int64_t clock)
{
	if (!log->len)
		return INT64_MAX;
	if (log->due == INT64_MAX)
		log->due = clock + LOG_GATHER_MS;
	return log->len < LOG_PIECE ? log->due : clock;
}

int
log_flush(struct log *log)
{
	log->due = INT64_MAX;
	for (;;) {
		size_t n = LOG_BUFFER - log->start < log->len ? LOG_BUFFER - log->start : log->len;
		ssize_t r;

		if (!n) {
			if (!log->lost)
				return 1;
			confess(log);
			continue;
		}
		if (!is_writable(log->fd))
			return 0;
		r = write(log->fd, log->buffer + log->start, n < LOG_PIECE ? n : LOG_PIECE);
		if (r < 0 && (errno == EINTR || errno == EAGAIN))
			return 0;
		if (r < 0) {
			log->start = log->len = 0;
			return -1;
		}
		log->start = (log->start + (size_t)r) % LOG_BUFFER;
		log->len -= (size_t)r;
	}
}
