/* input: the octets and command lines that come from a client.
 * Line ends  CRLF only. What a bare CR or LF, or a NUL, in a command line means is the caller's to say; none ends a line
 * Waits      for INPUT's timeout for each line in whole, or for each read of data; never beyond the end of the session. Just
 *            before it waits it calls flush, so that replies to a group of commands leave in one write (RFC 2920)
 * Cost       one read(2) for all that has come; the time limit is the socket's own (SO_RCVTIMEO). Pipes are polled
 * Exact      with is_exact nothing is read beyond the line that is taken: what the client has sent behind it is there for the
 *            program, or the TLS, that gets the connection next. It costs two reads a line
 * Memory     INPUT_SIZE, and no line is kept beyond INPUT_LINE_MAX */
#ifndef INPUT_H
#define INPUT_H
#include <stddef.h>
#include <stdint.h>

enum {
	INPUT_SIZE = 32768,
	INPUT_LINE_MAX = 4096,		/* octets of a command line with its CRLF. RFC 5321 and its extensions need about 1,700 */
	INPUT_ENDLESS = 65536,		/* octets of a line that is too long, before the session ends */
	INPUT_PAUSE_MS = 150,		/* after a bare LF: who goes on within this time has not waited for a reply */
	INPUT_REST_MS = 10000,		/* a client silent for this long makes rest called, once */
};

enum input_result {
	INPUT_OK,
	INPUT_TOO_LONG,		/* a line above INPUT_LINE_MAX, which is gone */
	INPUT_NUL,		/* a line with a NUL in it, which is gone */
	INPUT_BARE,		/* an LF without CR, and nothing behind it: that line is gone */
	INPUT_BARE_PIPELINED,	/* a bare CR or LF, and more around it: nothing that follows can be trusted */
	INPUT_FLOOD,		/* a line above INPUT_ENDLESS */
	INPUT_CLOSED,		/* by the client */
	INPUT_TIMEOUT,
	INPUT_SESSION_OVER,	/* the end of the session came */
	INPUT_STOPPING,		/* a signal asked the server to stop */
};

struct input {
	int fd;
	int is_exact;
	int times_out;		/* read(2) waits no longer than INPUT_REST_MS */
	uint64_t timeout_ms, session_end;	/* of a wait; monotonic_ms of the end of the session */
	void (*flush)(void *);
	void (*rest)(void *);
	int (*is_stopping)(void);	/* NULL, or looked at before a wait and when it was interrupted */
	void *data;
	size_t start, end;	/* octets of buffer that wait to be taken */
	size_t searched;	/* of these, octets known to hold no LF */
	char buffer[INPUT_SIZE];
};

/* Prepares in->fd for reading; the callbacks, fd and times are set by the caller. */
void input_start(struct input *in);

/* Takes the next line: *line is its *len octets without CRLF, NUL-terminated, valid until the next input call. */
enum input_result input_line(struct input *in, char **line, size_t *len);

/* Sees to it that there is at least one octet at in->buffer + in->start; INPUT_OK or one of INPUT_CLOSED and below. */
enum input_result input_data(struct input *in);

/* Marks len octets as taken. */
static inline void
input_take(struct input *in, size_t len)
{
	in->start += len;
}

static inline int
input_is_empty(const struct input *in)
{
	return in->start == in->end;
}

/* Whether the client sends something, or goes away, within wait_ms. */
int input_comes(const struct input *in, uint64_t wait_ms);

/* Forgets what has come. */
void input_forget(struct input *in);

/* Reads and forgets until the client closes, for wait_ms at most: a close with octets unread would be a reset, which could
 * take the last reply away. */
void input_drain(struct input *in, uint64_t wait_ms);

#endif
