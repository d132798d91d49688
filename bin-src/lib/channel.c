#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/types.h>
#include <skalibs/uint32.h>
#include "channel.h"
#include "lingering.h"
#include "shortage.h"

enum { SHORTAGE_TRIES = 50, SHORTAGE_MS = 20 };	/* a second in all */

void
channel_init(struct channel *c, int fd, size_t frame_max)
{
	*c = (struct channel){ .fd = fd, .frame_max = frame_max };
}

void
channel_guard(struct channel *c)
{
	c->is_guarded = 1;
}

void
channel_free(struct channel *c)
{
	for (unsigned int i = 0; i < c->in_fds_len; i++)
		close(c->in_fds[i]);
	for (unsigned int i = 0; i < c->out_fds_len; i++)
		close(c->out_fds[i].fd);
	if (c->fd >= 0 && c->is_guarded)
		lingering_close(c->fd);
	else if (c->fd >= 0)
		close(c->fd);
	stralloc_free(&c->in);
	stralloc_free(&c->out);
	channel_init(c, -1, 0);
}

/* Keeps the descriptors of one recvmsg; those that find no room are closed. */
static int
keep_descriptors(struct channel *c, struct msghdr *msg)
{
	int ok = !(msg->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		const unsigned char *data = CMSG_DATA(h);
		size_t len;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		len = h->cmsg_len - (size_t)(data - (unsigned char *)h);
		for (size_t i = 0; i + sizeof(int) <= len; i += sizeof(int)) {
			int fd;

			memcpy(&fd, data + i, sizeof fd);
			if (c->in_fds_len < CHANNEL_FDS_MAX)
				c->in_fds[c->in_fds_len++] = fd;
			else {
				close(fd);
				ok = 0;
			}
		}
	}
	return ok;
}

/* Waits for memory. *tries: how often before. Returns 1: to be tried again, or 0: that was long enough. */
static int
outlast_shortage(int *tries)
{
	if (*tries == SHORTAGE_TRIES)
		return 0;
	++*tries;
	poll(NULL, 0, SHORTAGE_MS);
	return 1;
}

/* Room for a read, as soon as there is memory. Returns 1 or 0. */
static int
make_room(stralloc *in)
{
	int tries = 0;

	while (!stralloc_readyplus(in, CHANNEL_READ))
		if (!outlast_shortage(&tries))
			return 0;
	return 1;
}

int
channel_receive(struct channel *c)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	} control;
	struct iovec v = { .iov_len = CHANNEL_READ };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t r;

	if (c->in_done) {
		c->in.len -= c->in_done;
		memmove(c->in.s, c->in.s + c->in_done, c->in.len);
		c->in_done = 0;
	}
	if (!make_room(&c->in)) {
		errno = ENOMEM;
		return -1;
	}
	v.iov_base = c->in.s + c->in.len;
	if (c->is_guarded) {
		msg.msg_control = NULL;	/* what comes is dropped by the kernel, which says so */
		msg.msg_controllen = 0;
		r = lingering_recvmsg(c->fd, &msg, 0);
	} else
		r = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	if (r < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
	if (!keep_descriptors(c, &msg)) {
		errno = EPROTO;
		return -1;
	}
	if (r == 0) {
		errno = 0;
		return -1;
	}
	c->in.len += (size_t)r;
	return 1;
}

int
channel_next(struct channel *c, struct channel_frame *f)
{
	size_t len = c->in.len - c->in_done;
	uint32_t payload;
	const char *s;

	if (len < CHANNEL_HEADER)
		return 0;
	s = c->in.s + c->in_done;
	uint32_unpack_big(s, &payload);
	if (payload > c->frame_max) {
		errno = EPROTO;
		return -1;
	}
	if (len - CHANNEL_HEADER < payload)
		return 0;
	*f = (struct channel_frame){ .type = s[4], .s = s + CHANNEL_HEADER, .len = payload };
	c->in_done += CHANNEL_HEADER + payload;
	return 1;
}

int
channel_take_fd(struct channel *c)
{
	int fd = -1;

	if (c->in_fds_len) {
		fd = c->in_fds[0];
		memmove(c->in_fds, c->in_fds + 1, --c->in_fds_len * sizeof *c->in_fds);
	}
	return fd;
}

int
channel_put(struct channel *c, char type, const struct iovec *v, unsigned int n)
{
	size_t payload = 0;
	char header[CHANNEL_HEADER];

	for (unsigned int i = 0; i < n; i++)
		payload += v[i].iov_len;
	if (payload > UINT32_MAX) {
		errno = EMSGSIZE;
		return 0;
	}
	if (!stralloc_readyplus(&c->out, CHANNEL_HEADER + payload)) {
		errno = ENOMEM;
		return 0;
	}
	uint32_pack_big(header, (uint32_t)payload);
	header[4] = type;
	/* cannot fail: the room is there */
	stralloc_catb(&c->out, header, sizeof header);
	for (unsigned int i = 0; i < n; i++)
		stralloc_catb(&c->out, v[i].iov_base, v[i].iov_len);
	return 1;
}

int
channel_put1(struct channel *c, char type, const void *s, size_t len)
{
	struct iovec v = { .iov_base = (void *)(uintptr_t)s, .iov_len = len };

	return channel_put(c, type, &v, 1);
}

int
channel_put_fd(struct channel *c, char type, const void *s, size_t len, int fd)
{
	size_t at = c->out.len;

	if (c->out_fds_len == CHANNEL_FDS_MAX) {
		errno = EMFILE;
		return 0;
	}
	if (!channel_put1(c, type, s, len))
		return 0;
	c->out_fds[c->out_fds_len++] = (struct channel_fd){ .at = at, .fd = fd };
	return 1;
}

/* One sendmsg: up to the next descriptor, or from it up to the one after. */
static ssize_t
send_some(struct channel *c)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	size_t end = c->out.len;
	unsigned int next = 0;
	struct iovec v = { .iov_base = c->out.s + c->out_done };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	ssize_t r;

	if (c->out_fds_len && c->out_fds[0].at == c->out_done) {
		struct cmsghdr *h = &control.align;

		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &c->out_fds[0].fd, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control;
		next = 1;
	}
	if (next < c->out_fds_len)
		end = c->out_fds[next].at;
	v.iov_len = end - c->out_done;
	r = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	if (r > 0 && next) {
		close(c->out_fds[0].fd);
		memmove(c->out_fds, c->out_fds + 1, --c->out_fds_len * sizeof *c->out_fds);
	}
	return r;
}

int
channel_flush(struct channel *c)
{
	int tries = 0;

	while (c->out_done < c->out.len) {
		ssize_t r = send_some(c);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			int error = errno;

			if (is_shortage(error) && outlast_shortage(&tries))
				continue;
			errno = error;
			return error == EAGAIN || error == EWOULDBLOCK ? 0 : -1;
		}
		c->out_done += (size_t)r;
		/* a long queue moves to the front now and then, not at each write */
		if (c->out_done > c->out.len / 2 && c->out_done < c->out.len) {
			c->out.len -= c->out_done;
			memmove(c->out.s, c->out.s + c->out_done, c->out.len);
			for (unsigned int i = 0; i < c->out_fds_len; i++)
				c->out_fds[i].at -= c->out_done;
			c->out_done = 0;
		}
	}
	c->out.len = c->out_done = 0;
	return 1;
}

int
channel_flush_lean(struct channel *c)
{
	int r = channel_flush(c);

	if (r == 1 && c->out.a > CHANNEL_KEPT)
		stralloc_free(&c->out);
	return r;
}

size_t
channel_unsent(const struct channel *c)
{
	return c->out.len - c->out_done;
}
