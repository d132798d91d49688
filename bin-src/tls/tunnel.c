#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include "monotonic.h"
#include "tunnel.h"

/* --- errors ----------------------------------------------------------------------------------------------------------- */

const char *
tunnel_error(int error)
{
	static const struct { int error; const char *text; } texts[] = {
		{ BR_ERR_UNSUPPORTED_VERSION, "the client does not know TLS 1.2" },
		{ BR_ERR_BAD_VERSION, "what the client sends is not TLS 1.2" },
		{ BR_ERR_UNKNOWN_TYPE, "what the client sends is not TLS" },
		{ BR_ERR_BAD_MAC, "a record was damaged" },
		{ BR_ERR_TOO_LARGE, "a record was too large" },
		{ BR_ERR_BAD_CIPHER_SUITE, "no cipher suite is common" },
		{ BR_ERR_BAD_FINISHED, "the handshake was tampered with" },
		{ BR_ERR_SEND_FATAL_ALERT + BR_ALERT_NO_APPLICATION_PROTOCOL, "the client wants another protocol" },
	};
	static char number[64];

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (texts[i].error == error)
			return texts[i].text;
	if (error >= BR_ERR_SEND_FATAL_ALERT)
		snprintf(number, sizeof number, "refused with alert %d", error - BR_ERR_SEND_FATAL_ALERT);
	else if (error >= BR_ERR_RECV_FATAL_ALERT)
		snprintf(number, sizeof number, "the client sent alert %d", error - BR_ERR_RECV_FATAL_ALERT);
	else
		snprintf(number, sizeof number, "error %d of the TLS protocol", error);
	return number;
}

/* --- octets ------------------------------------------------------------------------------------------------------------ */

static int
would_wait(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* Sends records. 1 if some went out, 0 if none can, -1 if the connection is broken. */
static int
send_records(struct tunnel *t)
{
	size_t len;
	const unsigned char *s = br_ssl_engine_sendrec_buf(t->engine, &len);
	ssize_t n = send(t->net, s, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		t->net_is_full = 1;
		return would_wait() ? 0 : -1;
	}
	br_ssl_engine_sendrec_ack(t->engine, (size_t)n);
	return 1;
}

/* Receives records. 1 if some came, 0 if none are there, -1 at the end or if the connection is broken (errno 0: the end). */
static int
receive_records(struct tunnel *t)
{
	size_t len;
	unsigned char *s = br_ssl_engine_recvrec_buf(t->engine, &len);
	ssize_t n = recv(t->net, s, len, MSG_DONTWAIT);

	if (n < 0 && would_wait())
		return 0;
	if (n <= 0) {
		if (n == 0)
			errno = 0;
		return -1;
	}
	br_ssl_engine_recvrec_ack(t->engine, (size_t)n);
	return 1;
}

/* --- the handshake ------------------------------------------------------------------------------------------------------ */

/* Waits for the client, if must_wait, until the deadline. Returns NULL, or why to go on no longer. */
static const char *
await_client(const struct tunnel *t, short events, uint64_t deadline, int must_wait)
{
	struct pollfd p[2] = { { .fd = t->net, .events = events }, { .fd = t->control, .events = POLLIN } };
	uint64_t now = monotonic_ms();

	if (now >= deadline || (must_wait && poll(p, 2, (int)(deadline - now)) == 0))
		return "the client took too long";
	return p[1].revents ? "the server has given up" : NULL;
}

/* Sends what the engine still has to say, such as an alert, as far as that goes without waiting. */
static void
say_last(struct tunnel *t)
{
	while (br_ssl_engine_current_state(t->engine) & BR_SSL_SENDREC && send_records(t) > 0)
		;
}

const char *
tunnel_handshake(struct tunnel *t, uint64_t deadline)
{
	const char *why = NULL;

	while (!why) {
		unsigned int state = br_ssl_engine_current_state(t->engine);
		int r = 1;

		if (state & BR_SSL_SENDAPP)
			return NULL;
		if (state & BR_SSL_CLOSED)
			return tunnel_error(br_ssl_engine_last_error(t->engine));
		if (state & BR_SSL_SENDREC)
			r = send_records(t);
		else if (state & BR_SSL_RECVREC)
			r = receive_records(t);
		why = r < 0 ? "the client has closed the connection" :
		    await_client(t, state & BR_SSL_SENDREC ? POLLOUT : POLLIN, deadline, r == 0);
	}
	say_last(t);
	return why;
}

/* --- after it ----------------------------------------------------------------------------------------------------------- */

/* No more octets come from the client. */
static void
end_plain(struct tunnel *t, const char *why)
{
	if (t->has_ended)
		return;
	t->has_ended = 1;
	t->ended(t, why);
	shutdown(t->plain, SHUT_WR);
}

static void
server_goes(struct tunnel *t)
{
	if (!t->server_is_gone)
		t->deadline = monotonic_ms() + TUNNEL_CLOSE_MS;
	t->server_is_gone = 1;
}

/* Nothing more is to be sent after what is in the buffers. */
static void
begin_close(struct tunnel *t)
{
	server_goes(t);
	t->is_closing = 1;
	br_ssl_engine_close(t->engine);
}

/* Hands the client's octets to the server, or throws them away if there is none any more. 1 if some went, 0 if none can. */
static int
deliver(struct tunnel *t)
{
	size_t len;
	const unsigned char *s = br_ssl_engine_recvapp_buf(t->engine, &len);
	ssize_t n = t->server_is_gone ? (ssize_t)len : send(t->plain, s, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		t->plain_is_full = 1;
		if (!would_wait())
			server_goes(t);
		return !would_wait();
	}
	br_ssl_engine_recvapp_ack(t->engine, (size_t)n);
	return 1;
}

/* Takes what the server says. */
static void
take_plain(struct tunnel *t)
{
	size_t len;
	unsigned char *s = br_ssl_engine_sendapp_buf(t->engine, &len);
	ssize_t n = recv(t->plain, s, len, MSG_DONTWAIT);

	if (n > 0) {
		br_ssl_engine_sendapp_ack(t->engine, (size_t)n);
		br_ssl_engine_flush(t->engine, 0);
	} else if (n == 0 || !would_wait())
		begin_close(t);
}

/* Writes what can be written. 1, or 0: the connection is broken. */
static int
push(struct tunnel *t)
{
	for (;;) {
		unsigned int state = br_ssl_engine_current_state(t->engine);
		int r = 0;

		if (state & BR_SSL_SENDREC && !t->net_is_full)
			r = send_records(t);
		if (r < 0) {
			end_plain(t, "the connection was broken");
			return 0;
		}
		if (state & BR_SSL_RECVAPP && !t->plain_is_full)
			r |= deliver(t);
		if (!r)
			return 1;
	}
}

/* Whether all has been said: our close_notify is out, and with it the last of what there was to be sent. */
static int
is_said(const struct tunnel *t)
{
	return t->is_closing && !(br_ssl_engine_current_state(t->engine) & BR_SSL_SENDREC);
}

/* The connection has ended without close_notify, or is broken. 1, or 0: nothing can be sent, or is to be. */
static int
end_client(struct tunnel *t, int error)
{
	t->net_is_at_end = 1;
	end_plain(t, error ? "the connection was broken" : "the client has closed the connection without close_notify");
	return !error && !is_said(t);
}

/* Waits, and does what can be done on what has come. 1, or 0: there is nothing more to wait for. */
static int
turn(struct tunnel *t)
{
	unsigned int state = br_ssl_engine_current_state(t->engine);
	int is_ending = !(state & (BR_SSL_SENDAPP | BR_SSL_RECVAPP | BR_SSL_RECVREC));	/* a last alert waits to be sent */
	struct pollfd net = { .fd = t->net }, plain = { .fd = t->plain }, p[2];
	uint64_t now = monotonic_ms();

	if (is_ending)
		server_goes(t);
	if (state & BR_SSL_SENDREC)
		net.events |= POLLOUT;
	if (state & BR_SSL_RECVREC && !t->net_is_at_end)
		net.events |= POLLIN;
	if (state & BR_SSL_RECVAPP && !t->server_is_gone)
		plain.events |= POLLOUT;
	if (state & BR_SSL_SENDAPP && !t->is_closing)
		plain.events |= POLLIN;
	else if (!t->server_is_gone)
		plain.events |= POLLRDHUP;
	if ((t->deadline && now >= t->deadline) || (!net.events && !plain.events))
		return 0;
	p[0] = net.events ? net : (struct pollfd){ .fd = -1 };	/* an end that nobody looks at would be told again and again */
	p[1] = plain.events ? plain : (struct pollfd){ .fd = -1 };
	if (poll(p, 2, t->deadline ? (int)(t->deadline - now) : -1) < 0)
		return 1;
	t->net_is_full = t->plain_is_full = 0;
	if (p[0].revents & ~POLLOUT && net.events & POLLIN && receive_records(t) < 0 && !end_client(t, errno))
		return 0;
	if (p[1].revents & (POLLHUP | POLLRDHUP | POLLERR))
		server_goes(t);
	if (p[1].revents & (POLLIN | POLLHUP | POLLERR) && plain.events & POLLIN)
		take_plain(t);
	return 1;
}

void
tunnel_run(struct tunnel *t)
{
	int has_shut = 0, error;

	while (push(t)) {
		if (br_ssl_engine_current_state(t->engine) & BR_SSL_CLOSED) {
			error = br_ssl_engine_last_error(t->engine);
			end_plain(t, error ? tunnel_error(error) : NULL);
			break;
		}
		if (is_said(t) && !has_shut) {
			has_shut = 1;
			shutdown(t->net, SHUT_WR);
			t->deadline = monotonic_ms() + TUNNEL_LINGER_MS;
		}
		if (!turn(t))
			break;
	}
	end_plain(t, "the server has ended it");
}
