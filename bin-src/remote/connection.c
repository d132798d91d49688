#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "connection.h"
#include "monotonic.h"

void
connection_init(struct connection *c, int fd)
{
	c->fd = fd;
	c->in_at = c->in_len = 0;
}

void
connection_close(struct connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	connection_init(c, -1);
}

int
connection_has_input(const struct connection *c)
{
	return c->in_at < c->in_len;
}

/* Waits for events until the deadline. Returns which there are, or 0 with errno. */
static int
wait_for(const struct connection *c, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	for (;;) {
		uint64_t now = monotonic_ms(), left = now < deadline ? deadline - now : 0;
		int r = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);

		if (r > 0)
			return p.revents;
		if (r < 0 && errno != EINTR)
			return 0;
		if (r == 0 && !left) {
			errno = ETIMEDOUT;
			return 0;
		}
	}
}

/* Takes in what is there. Returns 1 (also if nothing is), or 0 with errno. */
static int
take_in(struct connection *c)
{
	ssize_t r;

	if (c->in_at == c->in_len)
		c->in_at = c->in_len = 0;
	else if (c->in_at) {
		memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
		c->in_len -= c->in_at;
		c->in_at = 0;
	}
	if (c->in_len == CONNECTION_IN_MAX) {
		errno = EPROTO;	/* 64 KiB that nobody asked for */
		return 0;
	}
	r = recv(c->fd, c->in + c->in_len, CONNECTION_IN_MAX - c->in_len, 0);
	if (r < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
	if (r == 0) {
		errno = ECONNRESET;
		return 0;
	}
	c->in_len += (size_t)r;
	return 1;
}

/* Moves *v and *n on by so many octets. */
static void
advance(struct iovec **v, int *n, size_t octets)
{
	while (*n && octets >= (*v)->iov_len) {
		octets -= (*v)->iov_len;
		(*v)++;
		(*n)--;
	}
	if (*n) {
		(*v)->iov_base = (char *)(*v)->iov_base + octets;
		(*v)->iov_len -= octets;
	}
}

int
connection_write(struct connection *c, struct iovec *v, int n, uint64_t deadline)
{
	advance(&v, &n, 0);
	while (n) {
		struct msghdr msg = { .msg_iov = v, .msg_iovlen = (size_t)n };
		ssize_t r = sendmsg(c->fd, &msg, MSG_NOSIGNAL);

		if (r >= 0) {
			advance(&v, &n, (size_t)r);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return 0;
		int events = wait_for(c, POLLIN | POLLOUT, deadline);

		if (!events || (events & POLLIN && !take_in(c)))
			return 0;
	}
	return 1;
}

int
connection_reply(struct connection *c, struct smtp_reply *reply, uint64_t deadline)
{
	smtp_reply_begin(reply);
	for (;;) {
		c->in_at += smtp_reply_take(reply, c->in + c->in_at, c->in_len - c->in_at);
		if (reply->state == SMTP_REPLY_COMPLETE)
			return 1;
		if (reply->state == SMTP_REPLY_SENSELESS) {
			errno = EPROTO;
			return 0;
		}
		if (!wait_for(c, POLLIN, deadline) || !take_in(c))
			return 0;
	}
}
