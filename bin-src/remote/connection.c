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
	c->tls = NULL;
	c->late = 0;
	c->in_at = c->in_len = 0;
}

void
connection_close(struct connection *c)
{
	if (c->fd >= 0 && c->tls)
		tls_client_end(c->tls, c->fd);
	if (c->fd >= 0)
		close(c->fd);
	connection_init(c, -1);
}

int
connection_start_tls(struct connection *c, struct tls_client *tls, const char *name, const char *key, uint64_t deadline)
{
	if (!tls_client_start(tls, c->fd, name, key, deadline))
		return 0;
	c->tls = tls;
	return 1;
}

int
connection_has_input(const struct connection *c)
{
	return c->in_at < c->in_len || (c->tls && tls_client_has_input(c->tls));
}

int
connection_is_quiet(const struct connection *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	return !connection_has_input(c) && poll(&p, 1, 0) == 0;
}

/* Waits for events until the deadline. Returns which there are, or 0 with errno. */
static int
wait_for(struct connection *c, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	if (c->tls && tls_client_has_input(c->tls))
		return POLLIN;
	for (;;) {
		uint64_t now = monotonic_ms(), left = now < deadline ? deadline - now : 0;
		int r = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);

		if (r < 0 && errno != EINTR)
			return 0;
		if (left)
			c->late = 0;
		else if (r == 0 || c->late++ == CONNECTION_LATE_MAX) {
			errno = ETIMEDOUT;
			return 0;
		}
		if (r > 0)
			return p.revents;
	}
}

static ssize_t
receive(struct connection *c, char *to, size_t len)
{
	return c->tls ? tls_client_receive(c->tls, c->fd, to, len) : recv(c->fd, to, len, 0);
}

static ssize_t
send_some(struct connection *c, struct iovec *v, int n)
{
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = (size_t)n };

	return c->tls ? tls_client_send(c->tls, c->fd, v, n) : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
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
	r = receive(c, c->in + c->in_len, CONNECTION_IN_MAX - c->in_len);
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
	while (n || (c->tls && tls_client_flush(c->tls))) {
		ssize_t r = send_some(c, v, n);

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
