#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/uint32.h>
#include "monotonic.h"
#include "rcptcheck.h"
#include "service_socket.h"

enum { NUMBER = 4 };	/* octets */

void
rcptcheck_init(struct rcptcheck *r, int home)
{
	*r = (struct rcptcheck){ .home = home, .fd = -1 };
}

void
rcptcheck_close(struct rcptcheck *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

/* There will be no answer: accepted, said once, not tried again for a while. */
static enum rcpt_answer
give_up(struct rcptcheck *r, const char *what)
{
	rcptcheck_close(r);
	r->not_before = monotonic_ms() + RCPTCHECK_PAUSE_MS;
	strcpy(r->text, "qmail-rcptd does not answer");
	if (!r->has_said)
		strerr_warnwu(what, " qmail-rcptd, recipients are accepted unseen: ", strerror(errno));
	r->has_said = 1;
	return RCPT_CANNOT_KNOW;
}

int
rcptcheck_connect(struct rcptcheck *r)
{
	if (r->fd >= 0)
		return 1;
	r->fd = service_socket_connect(r->home, RCPTCHECK_SOCKET, RCPTCHECK_WAIT_MS);
	if (r->fd >= 0)
		return 1;
	give_up(r, "reach");
	return 0;
}

/* Sends the question. Returns 1, or 0 with errno set. */
static int
ask(struct rcptcheck *r, const char *address, size_t len)
{
	char number[NUMBER];
	struct iovec v[2] = { { number, NUMBER }, { (char *)(uintptr_t)address, len } };
	struct msghdr message = { .msg_iov = v, .msg_iovlen = 2 };
	ssize_t n;

	uint32_pack_big(number, ++r->number);
	do
		n = sendmsg(r->fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n >= 0;
}

static int
is_letter(char c)
{
	return c == RCPT_DELIVERS || c == RCPT_UNKNOWN || c == RCPT_CANNOT_KNOW || c == RCPT_NOT_LOCAL || c == RCPT_TEMPORARY;
}

/* Takes a packet. Returns 1 and the answer, if it is to the last question, 0 if that is still to come; -1 with errno. */
static int
take(struct rcptcheck *r, enum rcpt_answer *answer)
{
	char packet[NUMBER + 1 + RCPTCHECK_TEXT_MAX];
	uint32_t number;
	size_t len;
	ssize_t n = recv(r->fd, packet, sizeof packet, MSG_TRUNC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	errno = n ? EPROTO : ECONNRESET;
	if (n <= NUMBER || (size_t)n > sizeof packet || !is_letter(packet[NUMBER]))
		return -1;
	uint32_unpack_big(packet, &number);
	if (number != r->number)
		return 0;	/* nobody waits for it any more */
	*answer = (enum rcpt_answer)packet[NUMBER];
	len = (size_t)n - NUMBER - 1;
	memcpy(r->text, packet + NUMBER + 1, len);
	r->text[len] = '\0';
	for (char *s = r->text; s < r->text + len; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
	if (!len)
		strcpy(r->text, "no reason given");
	return 1;
}

enum rcpt_answer
rcptcheck_ask(struct rcptcheck *r, const char *address, size_t len)
{
	enum rcpt_answer answer;
	uint64_t deadline, now;
	int n;

	if (len == 0 || len > RCPTCHECK_ADDRESS_MAX || memchr(address, '\0', len)) {
		strcpy(r->text, "the address is empty or too long");
		return RCPT_CANNOT_KNOW;
	}
	if (r->fd < 0 && monotonic_ms() < r->not_before) {
		strcpy(r->text, "qmail-rcptd does not answer");
		return RCPT_CANNOT_KNOW;
	}
	if (r->fd >= 0 && !ask(r, address, len))
		rcptcheck_close(r);	/* it was started anew since */
	if (r->fd < 0 && (!rcptcheck_connect(r) || !ask(r, address, len)))
		return r->fd < 0 ? RCPT_CANNOT_KNOW : give_up(r, "ask");
	deadline = monotonic_ms() + RCPTCHECK_WAIT_MS;
	for (;;) {
		struct pollfd p = { .fd = r->fd, .events = POLLIN };

		now = monotonic_ms();
		n = now < deadline ? poll(&p, 1, (int)(deadline - now)) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ETIMEDOUT;
			return give_up(r, "hear from");
		}
		n = take(r, &answer);
		if (n)
			return n > 0 ? answer : give_up(r, "hear from");
	}
}
