#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include "listing.h"

int
listing_open(struct listing *l)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SEND_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*l = (struct listing){ .in_message = 0 };
	if (fd < 0)
		return 0;
	channel_init(&l->keeper, fd, QUEUE_FRAME_MAX);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
	    channel_put1(&l->keeper, SEND_READ, "", 0) && channel_flush(&l->keeper) == 1)
		return 1;
	listing_close(l);
	return 0;
}

/* The next frame of the keeper: 1, or 0 with errno set. */
static int
next_frame(struct listing *l, struct channel_frame *f)
{
	struct pollfd p = { .fd = l->keeper.fd, .events = POLLIN };
	int r;

	while ((r = channel_next(&l->keeper, f)) == 0) {
		r = poll(&p, 1, LISTING_WAIT * 1000);
		if (r == 0)
			errno = ETIMEDOUT;
		if (r == 0 || (r < 0 && errno != EINTR))
			return 0;
		if (channel_receive(&l->keeper) < 0) {
			errno = errno ? errno : ECONNRESET;
			return 0;
		}
	}
	return r > 0;
}

/* The string at *s, whose NUL lies before end; *s then is behind it. NULL if there is none. */
static const char *
take_string(const char **s, const char *end)
{
	const char *string = *s;
	const char *nul = memchr(string, '\0', (size_t)(end - string));

	if (!nul)
		return NULL;
	*s = nul + 1;
	return string;
}

/* What a recipient's state means to a reader; 0: there is no such state. */
static char
plain_state(char state)
{
	switch (state) {
	case 'T': case OUTCOME_DELAYED: return 'T';
	case OUTCOME_DONE: case OUTCOME_SUCCEEDED: return 'K';
	case OUTCOME_FAILED: return 'D';
	default: return 0;
	}
}

/* Takes one recipient out of the frame: 1, or 0 with errno set. */
static int
take_recipient(struct listing *l, struct listing_item *item)
{
	const char *s = l->recipients, *text = "";
	int has_parameters;
	char state;

	errno = EPROTO;
	if (l->end - s < 5)
		return 0;
	uint32_unpack_big(s, &item->recipient.index);
	has_parameters = s[4] >= 'a';
	state = has_parameters ? (char)(s[4] - 'a' + 'A') : s[4];
	item->recipient.state = plain_state(state);
	l->recipients = s + 5;
	if (!item->recipient.state || !(item->recipient.address = take_string(&l->recipients, l->end)) ||
	    (has_parameters && !take_string(&l->recipients, l->end)) ||
	    (queue_outcome_has_text(state) && !(text = take_string(&l->recipients, l->end))))
		return 0;
	item->recipient.text = text;
	return 1;
}

enum listing_kind
listing_next(struct listing *l, struct listing_item *item)
{
	struct channel_frame f;

	while (l->recipients == l->end) {
		if (!next_frame(l, &f))
			return LISTING_TROUBLE;
		if (f.type == NOTICE_ALL && !l->in_message)
			return LISTING_ALL;
		if (f.type == NOTICE_OVER && l->in_message) {
			l->in_message = 0;
			return LISTING_OVER;
		}
		if (f.type == NOTICE_MESSAGE && !l->in_message && queue_notice_unpack(&item->notice, f.s, (uint32_t)f.len)) {
			l->in_message = 1;
			return LISTING_MESSAGE;
		}
		if (f.type == NOTICE_RCPT && l->in_message) {
			l->recipients = f.s;
			l->end = f.s + f.len;
		} else if (f.type != NOTICE_HELLO) {
			errno = EPROTO;
			return LISTING_TROUBLE;
		}
	}
	return take_recipient(l, item) ? LISTING_RECIPIENT : LISTING_TROUBLE;
}

void
listing_close(struct listing *l)
{
	int e = errno;

	channel_free(&l->keeper);
	errno = e;
}
