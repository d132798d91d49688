/* channel: frames over one Unix stream socket, both ways; a frame may carry one descriptor.
 * On the wire   length of the payload (4 octets, most significant first), type (1 octet), payload
 * Trust         the peer is hostile: a frame above the agreed size or a flood of descriptors is an error
 * Blocking      the socket may be non-blocking (a loop over many) or blocking (a worker with one): with a blocking
 *               socket channel_receive waits for octets and channel_flush for the peer
 * Memory        both buffers are bounded by what the caller lets in: at most one frame plus one read is buffered on
 *               input; output grows with channel_put, so a caller with a slow peer looks at channel_unsent first */
#ifndef CHANNEL_H
#define CHANNEL_H
#include <stddef.h>
#include <sys/uio.h>
#include <skalibs/stralloc.h>

enum {
	CHANNEL_HEADER = 5,	/* octets before the payload */
	CHANNEL_READ = 16384,	/* octets asked for in one read; each kept worker has a buffer that has held so much */
	CHANNEL_KEPT = 65536,	/* octets of an output buffer that stay allocated, see channel_flush_lean */
	CHANNEL_FDS_MAX = 16,	/* descriptors received and not yet taken; more is an error */
};

struct channel {
	int fd;
	size_t frame_max;	/* octets of payload */
	stralloc in, out;
	size_t in_done, out_done;	/* octets consumed at the start of each */
	int in_fds[CHANNEL_FDS_MAX];
	unsigned int in_fds_len;
	struct channel_fd { size_t at; int fd; } out_fds[CHANNEL_FDS_MAX];	/* at: offset of its frame in out */
	unsigned int out_fds_len;
	int is_guarded;		/* channel_guard */
};

struct channel_frame {
	char type;
	const char *s;		/* payload; valid until the next channel_receive */
	size_t len;
};

/* Starts on fd, which the channel owns from now on. frame_max: the largest payload that is taken from the peer. */
void channel_init(struct channel *c, int fd, size_t frame_max);

/* The peer belongs to a user, and the socket does not wait: a descriptor that comes is an error and is never taken, and nothing that was passed
 * holds up who reads or closes (lib/lingering.h). */
void channel_guard(struct channel *c);

/* Closes the socket and all descriptors not taken, frees the buffers; c->fd becomes -1. Harmless on fd -1. */
void channel_free(struct channel *c);

/* Reads once. Returns 1 if octets came, 0 if none are there now (or EINTR), -1 at the end (errno 0) or on an error:
 * ENOMEM (for a second), EPROTO (too many descriptors, or any on a guarded channel), what recvmsg gives. */
int channel_receive(struct channel *c);

/* Takes the next whole frame out of what was received.
 * Returns 1 and fills *f, 0 if none is complete, -1 (EPROTO) if the peer announced one above frame_max. */
int channel_next(struct channel *c, struct channel_frame *f);

/* The oldest descriptor that came and was not taken; the caller closes it. -1 if there is none. */
int channel_take_fd(struct channel *c);

/* Queues a frame whose payload is the concatenation of the n vectors. Returns 1, or 0 with errno ENOMEM or EMSGSIZE. */
int channel_put(struct channel *c, char type, const struct iovec *v, unsigned int n);

/* The same for one run of octets. */
int channel_put1(struct channel *c, char type, const void *s, size_t len);

/* Queues a frame that carries descriptor fd, which the channel closes when it was sent.
 * Returns 1, or 0 with errno set (EMFILE: CHANNEL_FDS_MAX are waiting already); fd then stays the caller's. */
int channel_put_fd(struct channel *c, char type, const void *s, size_t len, int fd);

/* Writes what is queued, as far as the socket takes it. Returns 1 if all is out, 0 (errno EAGAIN) if some is left, -1 with errno
 * set if the peer is gone, or there was no memory for a second (ENOMEM, ENOBUFS), which is waited for. Never raises SIGPIPE. */
int channel_flush(struct channel *c);

/* The same, for a channel that lives long: once all is out, a buffer of more than CHANNEL_KEPT octets is given back. */
int channel_flush_lean(struct channel *c);

/* Octets queued and not yet written. */
size_t channel_unsent(const struct channel *c);

#endif
