#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>
#include "pump.h"

struct direction {
	int from, to;
	int is_over;		/* nothing more comes from there */
	size_t start, end;	/* octets of s that are to be written */
	char s[PUMP_SIZE];
};

static int
is_empty(const struct direction *d)
{
	return d->start == d->end;
}

/* What it waits for; poll leaves a negative descriptor out. */
static struct pollfd
wanted(const struct direction *d)
{
	if (!is_empty(d))
		return (struct pollfd){ .fd = d->to, .events = POLLOUT };
	return (struct pollfd){ .fd = d->is_over ? -1 : d->from, .events = POLLIN };
}

/* Takes or gives some, poll having said that it can. Returns 1, or 0: who is to get it is gone. */
static int
pass(struct direction *d)
{
	ssize_t n;

	if (is_empty(d)) {
		n = read(d->from, d->s, sizeof d->s);
		d->start = 0;
		d->end = n > 0 ? (size_t)n : 0;
		d->is_over = n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
		return 1;
	}
	n = write(d->to, d->s + d->start, d->end - d->start);
	if (n > 0)
		d->start += (size_t)n;
	return n >= 0 || errno == EINTR || errno == EAGAIN;
}

void
pump_run(int in, int out, int socket)
{
	static struct direction up, down;

	up = (struct direction){ .from = in, .to = socket };
	down = (struct direction){ .from = socket, .to = out };
	while (!down.is_over || !is_empty(&down)) {
		struct pollfd p[2] = { wanted(&down), wanted(&up) };
		int r = poll(p, 2, down.is_over ? PUMP_CLOSE_MS : -1);

		if (r == 0 || (r < 0 && errno != EINTR))
			return;
		if (r > 0 && p[0].revents && !pass(&down))
			return;
		if (r > 0 && p[1].revents && !pass(&up)) {
			up.is_over = 1;
			up.start = up.end;
		}
		if (up.is_over && is_empty(&up))
			shutdown(socket, SHUT_WR);
	}
}
