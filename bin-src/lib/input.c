#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "input.h"
#include "monotonic.h"

void
input_start(struct input *in)
{
	struct timeval wait = { .tv_sec = INPUT_REST_MS / 1000 };

	/* who gets the connection next finds it without a limit of ours */
	in->times_out = !in->is_exact && setsockopt(in->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0;
	in->start = in->end = in->searched = 0;
}

void
input_forget(struct input *in)
{
	in->start = in->end = in->searched = 0;
}

static int
wait_ms_from(uint64_t ms)
{
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* poll, begun again after a signal that was not meant to stop us. 1 readable, 0 not, -1 stopping */
static int
wait_until(const struct input *in, uint64_t until)
{
	for (;;) {
		struct pollfd p = { .fd = in->fd, .events = POLLIN };
		uint64_t now = monotonic_ms();
		int r = poll(&p, 1, until > now ? wait_ms_from(until - now) : 0);

		if (r > 0)
			return 1;
		if (r < 0 && in->is_stopping && in->is_stopping())
			return -1;
		if (r == 0 && monotonic_ms() >= until)
			return 0;
	}
}

int
input_comes(const struct input *in, uint64_t wait_ms)
{
	return wait_until(in, monotonic_ms() + wait_ms) > 0;
}

/* What a read came to. */
enum arrival { SOMETHING, NOTHING_YET, INTERRUPTED, THE_END, STOPPING };

/* Reads up to an LF, or what there is without one. */
static ssize_t
read_exactly(int fd, char *s, size_t len)
{
	ssize_t r = recv(fd, s, len, MSG_PEEK);
	const char *lf = r > 0 ? memchr(s, '\n', (size_t)r) : NULL;

	if (r < 0 && errno == ENOTSOCK)
		return read(fd, s, 1);
	return r > 0 ? read(fd, s, lf ? (size_t)(lf + 1 - s) : (size_t)r) : r;
}

/* Reads once; a socket's read waits no longer than INPUT_REST_MS. */
static enum arrival
read_once(struct input *in)
{
	char *s = in->buffer + in->end;
	size_t room = INPUT_SIZE - in->end;
	ssize_t r = in->is_exact ? read_exactly(in->fd, s, room) : read(in->fd, s, room);

	if (r > 0) {
		in->end += (size_t)r;
		return SOMETHING;
	}
	if (r < 0 && errno == EINTR)
		return in->is_stopping && in->is_stopping() ? STOPPING : INTERRUPTED;
	return r < 0 && errno == EAGAIN ? NOTHING_YET : THE_END;	/* a reset is an end */
}

static enum arrival
wait_and_read(struct input *in, uint64_t until)
{
	int r = wait_until(in, until);

	return r > 0 ? read_once(in) : r == 0 ? NOTHING_YET : STOPPING;
}

static void
make_room(struct input *in)
{
	if (in->start == in->end)
		in->start = in->end = in->searched = 0;
	else if (in->end == INPUT_SIZE) {
		memmove(in->buffer, in->buffer + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
}

/* Reads more. *deadline 0: the wait begins now. Who has been silent for INPUT_REST_MS is waited for without waking up. */
static enum input_result
fill(struct input *in, uint64_t *deadline)
{
	int is_silent = 0;

	in->flush(in->data);
	make_room(in);
	for (;;) {
		uint64_t now = monotonic_ms(), until;
		enum arrival a;

		if (in->is_stopping && in->is_stopping())
			return INPUT_STOPPING;
		if (!*deadline)
			*deadline = now + in->timeout_ms;
		if (now >= in->session_end)
			return INPUT_SESSION_OVER;
		if (now >= *deadline)
			return INPUT_TIMEOUT;
		until = *deadline < in->session_end ? *deadline : in->session_end;
		if (!is_silent && until > now + INPUT_REST_MS)
			a = in->times_out ? read_once(in) : wait_and_read(in, now + INPUT_REST_MS);
		else
			a = wait_and_read(in, until);
		if (a == SOMETHING)
			return INPUT_OK;
		if (a == THE_END)
			return INPUT_CLOSED;
		if (a == STOPPING)
			return INPUT_STOPPING;
		if (a == NOTHING_YET && !is_silent) {
			in->rest(in->data);
			is_silent = 1;
		}
	}
}

enum input_result
input_data(struct input *in)
{
	uint64_t deadline = 0;

	if (in->start < in->end) {
		in->searched = 0;
		return INPUT_OK;
	}
	return fill(in, &deadline);
}

/* The line is too long: forgets it up to its CRLF. */
static enum input_result
skip_line(struct input *in, uint64_t *deadline)
{
	size_t gone = 0;

	for (;;) {
		char *s = in->buffer + in->start, *lf = memchr(s, '\n', in->end - in->start);
		enum input_result r;

		if (gone + (size_t)((lf ? lf : in->buffer + in->end) - s) > INPUT_ENDLESS)
			return INPUT_FLOOD;
		if (lf && lf > s && lf[-1] == '\r') {
			in->start = (size_t)(lf + 1 - in->buffer);
			in->searched = 0;
			return INPUT_TOO_LONG;
		}
		if (lf)
			return INPUT_BARE_PIPELINED;
		gone += in->end - in->start;
		/* the last octet may be the CR of the CRLF */
		if (in->end > in->start) {
			in->start = in->end - 1;
			gone--;
		}
		r = fill(in, deadline);
		if (r != INPUT_OK)
			return r;
	}
}

/* There is an LF at offset at of the buffer. */
static enum input_result
take_line(struct input *in, size_t at, char **line, size_t *len)
{
	char *s = in->buffer + in->start;
	size_t n = at - in->start;

	in->start = at + 1;
	in->searched = 0;
	if (n == 0 || s[n - 1] != '\r') {
		int alone = s == in->buffer && in->start == in->end && !memchr(s, '\r', n) && !input_comes(in, INPUT_PAUSE_MS);

		return alone ? INPUT_BARE : INPUT_BARE_PIPELINED;
	}
	n--;
	if (memchr(s, '\r', n))
		return INPUT_BARE_PIPELINED;
	if (n + 2 > INPUT_LINE_MAX)
		return INPUT_TOO_LONG;
	if (memchr(s, '\0', n))
		return INPUT_NUL;
	s[n] = '\0';
	*line = s;
	*len = n;
	return INPUT_OK;
}

enum input_result
input_line(struct input *in, char **line, size_t *len)
{
	uint64_t deadline = 0;

	for (;;) {
		char *s = in->buffer + in->start;
		char *lf = memchr(s + in->searched, '\n', in->end - in->start - in->searched);
		enum input_result r;

		if (lf)
			return take_line(in, (size_t)(lf - in->buffer), line, len);
		in->searched = in->end - in->start;
		if (in->searched >= INPUT_LINE_MAX)
			return skip_line(in, &deadline);
		r = fill(in, &deadline);
		if (r != INPUT_OK)
			return r;
	}
}

void
input_drain(struct input *in, uint64_t wait_ms)
{
	uint64_t until = monotonic_ms() + wait_ms;

	input_forget(in);
	while (monotonic_ms() < until && wait_and_read(in, until) == SOMETHING)
		input_forget(in);
}
