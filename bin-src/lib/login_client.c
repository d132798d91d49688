#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include "login_client.h"
#include "monotonic.h"
#include "service_socket.h"

enum { REACH_MS = 5000 };

static void
hang_up(struct login_client *c)
{
	if (c->control >= 0)
		close(c->control);
	c->control = -1;
}

static enum login_client_answer
fail(struct login_client *c, const char *what)
{
	snprintf(c->text, sizeof c->text, "%s: %s", what, strerror(errno));
	hang_up(c);
	return LOGIN_CLIENT_UNKNOWN;
}

/* --- the question ------------------------------------------------------------------------------------------ */

struct packet {
	char s[LOGIN_PACKET_MAX];
	size_t len;
};

/* Appends a string and its NUL, which parts with what it has no room for: it is no right login then. */
static void
put(struct packet *p, const char *s)
{
	size_t room = sizeof p->s / 4 - 1, len = strnlen(s, room);

	memcpy(p->s + p->len, s, len);
	p->len += len;
	p->s[p->len++] = '\0';
}

/* 1, or 0 with errno set. */
static int
ask(const struct login_client *c, enum login_question question, int connection, const char *login, const char *secret,
    const char *challenge)
{
	struct packet p;
	struct iovec v = { p.s, 0 };
	int is_sent;

	p.s[0] = (char)question;
	p.len = 1;
	put(&p, login);
	put(&p, secret);
	put(&p, challenge);
	p.len = login_variables_put(p.s, p.len, sizeof p.s, 0);
	v.iov_len = p.len;
	is_sent = service_socket_send(c->control, &v, 1, connection);
	explicit_bzero(&p, sizeof p);
	return is_sent;
}

/* --- the answer -------------------------------------------------------------------------------------------- */

/* Whether it is an account that can stand in a log and in a header. */
static int
take_account(struct login_client *c, const char *s, size_t len)
{
	if (len == 0 || len > LOGIN_ACCOUNT_MAX)
		return 0;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == 127)
			return 0;
	memcpy(c->account, s, len);
	c->account[len] = '\0';
	return 1;
}

static void
take_text(struct login_client *c, const char *s, size_t len)
{
	if (len > LOGIN_TEXT_MAX)
		len = LOGIN_TEXT_MAX;
	for (size_t i = 0; i < len; i++)
		c->text[i] = s[i] < ' ' || s[i] > '~' ? '?' : s[i];
	c->text[len] = '\0';
}

/* Waits for the answer. */
static enum login_client_answer
hear(struct login_client *c)
{
	char packet[1 + LOGIN_ACCOUNT_MAX];
	ssize_t n;

	if (!service_socket_wait(c->control, monotonic_ms() + LOGIN_CLIENT_MS))
		return fail(c, "qmail-authd does not answer");
	n = service_socket_receive(c->control, packet, sizeof packet, NULL);
	if (n == 0)
		errno = ECONNRESET;
	if (n <= 0)
		return fail(c, "qmail-authd does not answer");
	if (packet[0] == LOGIN_IS_RIGHT && take_account(c, packet + 1, (size_t)n - 1))
		return LOGIN_CLIENT_RIGHT;
	hang_up(c);
	if (packet[0] == LOGIN_IS_WRONG)
		return LOGIN_CLIENT_WRONG;
	take_text(c, packet + 1, packet[0] == LOGIN_IS_UNKNOWN ? (size_t)n - 1 : 0);
	return LOGIN_CLIENT_UNKNOWN;
}

static enum login_client_answer
attempt(struct login_client *c, int home, enum login_question question, int connection, const char *login,
    const char *secret, const char *challenge)
{
	*c = (struct login_client){ .control = service_socket_connect(home, LOGIN_SOCKET, REACH_MS) };
	if (c->control < 0)
		return fail(c, "unable to reach qmail-authd");
	if (!ask(c, question, connection, login, secret, challenge))
		return fail(c, "unable to ask qmail-authd");
	return hear(c);
}

enum login_client_answer
login_client_check(struct login_client *c, int home, const char *login, const char *secret, const char *challenge, int told)
{
	enum login_client_answer answer = attempt(c, home, LOGIN_CHECK, told, login, secret, challenge);

	hang_up(c);
	return answer;
}

enum login_client_answer
login_client_session(struct login_client *c, int home, int connection, const char *login, const char *secret,
    const char *challenge)
{
	return attempt(c, home, LOGIN_SESSION, connection, login, secret, challenge);
}

void
login_client_await_end(struct login_client *c)
{
	struct pollfd p = { .fd = c->control, .events = POLLIN };
	char octet;

	while (c->control >= 0 && (poll(&p, 1, -1) < 0 || service_socket_receive(c->control, &octet, 1, NULL) != 0))
		if (errno != EINTR && errno != EAGAIN && errno != EMSGSIZE)
			break;
	hang_up(c);
}
