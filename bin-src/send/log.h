/* log: the lines of qmail-send (qmail-log(5)), written without ever waiting for who reads them.
 * Quoting   an octet below 33, above 126 or '%' becomes '_', a newline '/'
 * Buffer    lines wait in a buffer of LOG_BUFFER octets while the reader is slow; what finds no room is dropped, counted,
 *           and the count is logged as soon as there is room again
 * Gathering lines of LOG_GATHER_MS leave in one write: each wakes up who reads them, and so takes longer than a line is worth
 * Writing   into a pipe or socket one piece of at most LOG_PIECE octets (PIPE_BUF: a pipe that is ready takes them
 *           whole) each time poll says that it is ready; the descriptor may stay blocking, as others may share it */
#ifndef LOG_H
#define LOG_H
#include <stddef.h>
#include <stdint.h>

enum {
	LOG_BUFFER = 1 << 20,	/* octets */
	LOG_PIECE = 4096,
	LOG_LINE_MAX = 32768,	/* octets of a line; more is cut */
	LOG_GATHER_MS = 5,
};

struct log {
	int fd;
	char *buffer;		/* LOG_BUFFER octets, used as a ring */
	size_t start, len;	/* octets that wait: len from start on, around the end */
	char *line;		/* LOG_LINE_MAX octets: the line that is being put together */
	size_t line_len;
	uint64_t lost;		/* lines since the last report of loss */
	int64_t due;		/* when the first line that waits is to be written; INT64_MAX: log_due was not asked yet */
};

/* Starts on descriptor fd. Returns 1, or 0 (ENOMEM). */
int log_init(struct log *log, int fd);
void log_free(struct log *log);

/* A line is put together piece by piece, and ended. */
void log_text(struct log *log, const char *s);
void log_number(struct log *log, uint64_t n);
void log_quoted(struct log *log, const char *s, size_t len);
void log_end(struct log *log);

/* A whole line of texts, ended by NULL; to be quoted already. */
void log_line(struct log *log, ...) __attribute__((sentinel));

/* When log_flush is to be called, on the clock (milliseconds) that says clock now: LOG_GATHER_MS after the first call that finds a
 * line, or at once when there are LOG_PIECE octets. INT64_MAX: nothing waits. */
int64_t log_due(struct log *log, int64_t clock);

/* Writes what the reader takes without waiting. Returns 1 if nothing is left, 0 if some is: call again when the
 * descriptor is writable, -1 with errno if the reader is gone (what waits is dropped). */
int log_flush(struct log *log);

#endif
