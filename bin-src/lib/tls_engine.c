#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "monotonic.h"
#include "service_socket.h"
#include "tls_engine.h"

/* --- what the engine says ------------------------------------------------------------------------------------------- */

/* Copies at most size - 1 octets; what is not allowed, or not printable, becomes '?'. allowed: NULL anything printable. */
static void
take_text(char *to, size_t size, const char *s, size_t len, const char *allowed)
{
	if (len > size - 1)
		len = size - 1;
	for (size_t i = 0; i < len; i++)
		to[i] = s[i] < ' ' || s[i] > '~' || (allowed && !strchr(allowed, s[i])) ? '?' : s[i];
	to[len] = '\0';
}

/* Takes one NAME=value, where it is one of ours. */
static void
take_variable(struct tls_engine *t, const char *s)
{
	static const char in_names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	const char *value = strchr(s, '=');
	const struct { const char *name; char *to; size_t size; } ours[] = {
		{ "SSL_PROTOCOL", t->protocol, sizeof t->protocol }, { "SSL_CIPHER", t->cipher, sizeof t->cipher },
		{ "SSL_TLS_SNI_SERVERNAME", t->host, sizeof t->host }, { "SSL_ALPN", t->alpn, sizeof t->alpn },
	};

	for (size_t i = 0; value && i < sizeof ours / sizeof *ours; i++)
		if (strlen(ours[i].name) == (size_t)(value - s) && strncmp(s, ours[i].name, (size_t)(value - s)) == 0)
			take_text(ours[i].to, ours[i].size, value + 1, strlen(value + 1), in_names);
}

void
tls_engine_tell(const struct tls_engine *t)
{
	setenv("SSL_PROTOCOL", t->protocol, 1);
	setenv("SSL_CIPHER", t->cipher, 1);
	if (*t->host)
		setenv("SSL_TLS_SNI_SERVERNAME", t->host, 1);
}

void
tls_engine_take(struct tls_engine *t, const char *s, size_t len)
{
	strcpy(t->protocol, "TLS");
	strcpy(t->cipher, "unknown");
	t->host[0] = t->alpn[0] = '\0';
	while (len && memchr(s, '\0', len)) {
		size_t n = strlen(s) + 1;

		take_variable(t, s);
		s += n;
		len -= n;
	}
}

/* Ends with an error of this machine. */
static int
fail(struct tls_engine *t, const char *what)
{
	const char *why = strerror(errno);

	tls_engine_close(t);
	t->text[0] = '\0';
	strncat(t->text, what, TLS_ENGINE_TEXT_MAX / 2);
	strncat(t->text, why, TLS_ENGINE_TEXT_MAX / 2);
	return -1;
}

/* Waits for a packet. Returns its octets and the descriptor with it; 0 with errno set. */
static size_t
hear(const struct tls_engine *t, char packet[TLS_ENGINE_PACKET_MAX], int *passed, unsigned int ms)
{
	ssize_t n;

	if (!service_socket_wait(t->control, monotonic_ms() + ms))
		return 0;
	n = service_socket_receive(t->control, packet, TLS_ENGINE_PACKET_MAX, passed);
	if (n == 0)
		errno = ECONNRESET;
	return n < 0 ? 0 : (size_t)n;
}

/* --- the three steps -------------------------------------------------------------------------------------------------- */

int
tls_engine_reach(struct tls_engine *t, int home)
{
	char packet[TLS_ENGINE_PACKET_MAX];
	size_t n;

	memset(t, 0, sizeof *t);
	t->control = service_socket_connect(home, TLS_ENGINE_SOCKET, TLS_ENGINE_REACH_MS);
	if (t->control < 0)
		return fail(t, "unable to reach the TLS engine: ") > 0;
	n = hear(t, packet, NULL, TLS_ENGINE_REACH_MS);
	if (!n)
		return fail(t, "the TLS engine does not answer: ") > 0;
	if (n == 1 && packet[0] == 'R')
		return 1;
	tls_engine_close(t);
	take_text(t->text, sizeof t->text, packet + 1, n - 1, NULL);
	return 0;
}

/* Passes the connection on. 1, or 0 with errno set. */
static int
ask(const struct tls_engine *t, int connection, const char *const *alpn)
{
	enum { NAMES_MAX = 8, PARTS = 2 };
	struct iovec v[1 + PARTS * NAMES_MAX];
	unsigned int n = 0;

	v[n++] = (struct iovec){ (char *)(uintptr_t)"S", 1 };
	for (; alpn && *alpn && n < sizeof v / sizeof *v; alpn++) {
		v[n++] = (struct iovec){ (char *)(uintptr_t)"ALPN=", 5 };
		v[n++] = (struct iovec){ (char *)(uintptr_t)*alpn, strlen(*alpn) + 1 };
	}
	return service_socket_send(t->control, v, n, connection);
}

/* The plain end must not take the place of 0, 1 or 2, which the caller may have closed; and the engine has made it so that it does not
 * wait, or not. 1, or 0 with errno set. */
static int
settle(int *plain)
{
	int fd = *plain, flags;

	if (fd <= STDERR_FILENO) {
		*plain = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		close(fd);
	}
	flags = *plain < 0 ? -1 : fcntl(*plain, F_GETFL);
	return flags >= 0 && fcntl(*plain, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

int
tls_engine_start(struct tls_engine *t, int connection, const char *const *alpn)
{
	char packet[TLS_ENGINE_PACKET_MAX];
	int plain = -1;
	size_t n;

	if (!ask(t, connection, alpn))
		return fail(t, "unable to ask the TLS engine: ");
	n = hear(t, packet, &plain, TLS_ENGINE_HANDSHAKE_MS);
	if (!n)
		return fail(t, "the TLS engine does not answer: ");
	if (packet[0] == 'K' && plain >= 0) {
		if (!settle(&plain))
			return fail(t, "unable to take the plain end: ");
		tls_engine_take(t, packet + 1, n - 1);
		return plain;
	}
	if (plain >= 0)
		close(plain);
	tls_engine_close(t);
	take_text(t->text, sizeof t->text, packet + 1, n - 1, NULL);
	return -1;
}

enum tls_engine_end
tls_engine_end(struct tls_engine *t)
{
	char packet[TLS_ENGINE_PACKET_MAX];
	ssize_t n = t->control < 0 ? 0 : service_socket_receive(t->control, packet, sizeof packet, NULL);

	if (n <= 0) {
		strcpy(t->text, "the TLS engine has not said how the connection ended");
		return TLS_ENGINE_GONE;
	}
	take_text(t->text, sizeof t->text, packet + 1, (size_t)n - 1, NULL);
	return packet[0] == 'C' ? TLS_ENGINE_CLOSED : TLS_ENGINE_BROKEN;
}

void
tls_engine_close(struct tls_engine *t)
{
	if (t->control >= 0)
		close(t->control);
	t->control = -1;
}
