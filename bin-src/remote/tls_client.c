#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include "monotonic.h"
#include "suites.h"
#include "tls_client.h"

/* --- errors ---------------------------------------------------------------------------------------------------- */

static void
complain(struct tls_client *t, const char *why)
{
	snprintf(t->trouble, sizeof t->trouble, "%s", why);
}

/* Why the engine closed. */
static void
complain_of(struct tls_client *t, int error)
{
	static const struct { int error; const char *text; } texts[] = {
		{ BR_ERR_UNSUPPORTED_VERSION, "it does not know TLS 1.2" },
		{ BR_ERR_BAD_VERSION, "what it sends is not TLS 1.2" },
		{ BR_ERR_UNKNOWN_TYPE, "what it sends is not TLS" },
		{ BR_ERR_BAD_MAC, "a record was damaged" },
		{ BR_ERR_TOO_LARGE, "a record was too large" },
		{ BR_ERR_BAD_CIPHER_SUITE, "no cipher suite is common" },
		{ BR_ERR_BAD_FINISHED, "the handshake was tampered with" },
		{ BR_ERR_BAD_SIGNATURE, "it does not have the key to its certificate" },
		{ BR_ERR_OK, "it ended TLS" },
	};

	if (t->certificate && t->certificate->trouble) {
		complain(t, t->certificate->trouble);
		t->is_own_trouble = 1;
		return;
	}
	if (t->chain.trouble) {
		complain(t, t->chain.trouble);
		return;
	}
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (texts[i].error == error) {
			complain(t, texts[i].text);
			return;
		}
	if (error >= BR_ERR_RECV_FATAL_ALERT && error < BR_ERR_SEND_FATAL_ALERT)
		snprintf(t->trouble, sizeof t->trouble, "it sent alert %d", error - BR_ERR_RECV_FATAL_ALERT);
	else
		snprintf(t->trouble, sizeof t->trouble, "error %d of the TLS protocol", error);
}

/* --- octets ---------------------------------------------------------------------------------------------------- */

static unsigned int
state_of(const struct tls_client *t)
{
	return br_ssl_engine_current_state(&t->context.eng);
}

/* Sends records. Returns what send does. */
static ssize_t
send_records(struct tls_client *t, int fd)
{
	size_t len;
	const unsigned char *s = br_ssl_engine_sendrec_buf(&t->context.eng, &len);
	ssize_t n = send(fd, s, len, MSG_NOSIGNAL);

	if (n > 0)
		br_ssl_engine_sendrec_ack(&t->context.eng, (size_t)n);
	return n;
}

/* Receives some of a record. Returns what recv does. */
static ssize_t
receive_records(struct tls_client *t, int fd)
{
	size_t len;
	unsigned char *s = br_ssl_engine_recvrec_buf(&t->context.eng, &len);
	ssize_t n = recv(fd, s, len, 0);

	if (n > 0)
		br_ssl_engine_recvrec_ack(&t->context.eng, (size_t)n);
	return n;
}

/* The engine is closed. Returns 0 for an end, or -1 with errno. */
static int
ended(const struct tls_client *t)
{
	int error = br_ssl_engine_last_error(&t->context.eng);

	if (error == BR_ERR_OK)
		return 0;
	errno = error >= BR_ERR_RECV_FATAL_ALERT && error < BR_ERR_SEND_FATAL_ALERT ? ECONNRESET : EPROTO;
	return -1;
}

ssize_t
tls_client_receive(struct tls_client *t, int fd, void *to, size_t len)
{
	size_t there;
	unsigned char *s;

	if (state_of(t) & BR_SSL_RECVREC) {
		ssize_t n = receive_records(t, fd);

		if (n <= 0)
			return n;
	}
	if (!(state_of(t) & (BR_SSL_RECVAPP | BR_SSL_RECVREC))) {
		send_records(t, fd);	/* our close_notify, or an alert */
		return ended(t);
	}
	s = br_ssl_engine_recvapp_buf(&t->context.eng, &there);
	if (!s) {
		errno = EAGAIN;
		return -1;
	}
	if (there > len)
		there = len;
	memcpy(to, s, there);
	br_ssl_engine_recvapp_ack(&t->context.eng, there);
	return (ssize_t)there;
}

int
tls_client_has_input(const struct tls_client *t)
{
	return (state_of(t) & BR_SSL_RECVAPP) != 0;
}

static int
has_unsent(const struct tls_client *t)
{
	return (state_of(t) & BR_SSL_SENDREC) != 0;
}

int
tls_client_flush(struct tls_client *t)
{
	br_ssl_engine_flush(&t->context.eng, 0);
	return has_unsent(t);
}

ssize_t
tls_client_send(struct tls_client *t, int fd, const struct iovec *v, int n)
{
	unsigned int state = state_of(t);
	unsigned char *to;
	size_t room;

	if (state & BR_SSL_SENDREC)
		return send_records(t, fd) < 0 ? -1 : 0;
	if (!n)
		return 0;
	if (!(state & BR_SSL_SENDAPP)) {
		if (!(state & BR_SSL_CLOSED) || ended(t) == 0)
			errno = ECONNRESET;
		return -1;
	}
	to = br_ssl_engine_sendapp_buf(&t->context.eng, &room);
	if (room > v->iov_len)
		room = v->iov_len;
	memcpy(to, v->iov_base, room);
	br_ssl_engine_sendapp_ack(&t->context.eng, room);
	return (ssize_t)room;
}

/* --- beginning and end ------------------------------------------------------------------------------------------ */

/* Returns 1, or 0: no random numbers. */
static int
prepare(struct tls_client *t, const char *name, int resumes)
{
	br_ssl_client_context *c = &t->context;
	unsigned char seed[48];

	br_ssl_client_zero(c);
	suites_set(&c->eng);
	br_ssl_engine_set_default_rsavrfy(&c->eng);
	br_ssl_engine_set_default_ecdsa(&c->eng);
	br_ssl_engine_set_buffer(&c->eng, t->records, sizeof t->records, 1);
	server_chain_set(&t->chain, &c->eng);
	t->chain.trouble = NULL;
	t->is_own_trouble = 0;
	if (t->certificate)
		client_certificate_set(t->certificate, c);
	if (getrandom(seed, sizeof seed, 0) != sizeof seed)
		return 0;
	br_ssl_engine_inject_entropy(&c->eng, seed, sizeof seed);
	explicit_bzero(seed, sizeof seed);
	if (resumes)
		br_ssl_engine_set_session_parameters(&c->eng, &t->session);
	return br_ssl_client_reset(c, name, resumes);
}

/* Waits for what the engine needs, and does it. Returns 1, or 0 with trouble set. */
static int
shake(struct tls_client *t, int fd, uint64_t deadline)
{
	int sends = has_unsent(t);
	struct pollfd p = { .fd = fd, .events = sends ? POLLOUT : POLLIN };
	uint64_t now = monotonic_ms(), left = now < deadline ? deadline - now : 0;
	int r = left ? poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left) : 0;
	ssize_t n;

	if (!left) {
		complain(t, "it took too long");
		return 0;
	}
	if (r <= 0)
		return r == 0 || errno == EINTR;
	n = sends ? send_records(t, fd) : receive_records(t, fd);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return 1;
	complain(t, "it closed the connection");
	return 0;
}

int
tls_client_start(struct tls_client *t, int fd, const char *name, const char *key, uint64_t deadline)
{
	int resumes = key && *key && strcmp(key, t->session_key) == 0;

	if (!prepare(t, name, resumes)) {
		complain(t, "this host cannot begin it");
		return 0;
	}
	t->session_key[0] = '\0';
	while (!(state_of(t) & BR_SSL_SENDAPP)) {
		if (state_of(t) & BR_SSL_CLOSED) {
			complain_of(t, br_ssl_engine_last_error(&t->context.eng));
			return 0;
		}
		if (!shake(t, fd, deadline))
			return 0;
	}
	if (key && strlen(key) < sizeof t->session_key) {
		br_ssl_engine_get_session_parameters(&t->context.eng, &t->session);
		snprintf(t->session_key, sizeof t->session_key, "%s", key);
	}
	return 1;
}

void
tls_client_end(struct tls_client *t, int fd)
{
	br_ssl_engine_close(&t->context.eng);
	while (has_unsent(t) && send_records(t, fd) > 0)
		;
}

const char *
tls_client_suite(const struct tls_client *t)
{
	br_ssl_session_parameters session;

	br_ssl_engine_get_session_parameters(&t->context.eng, &session);
	return suites_name(session.cipher_suite);
}
