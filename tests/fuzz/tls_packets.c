/* What a network server is told by those that do TLS for it, given any octets: packets of an engine, qmail-tls(7), and the variables
 * of a UCSPI-TLS server. The input is packets: an octet for the length, one whose lowest bit says whether a descriptor comes. */
#include <assert.h>
#include <err.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server_tls.h"
#include "service_socket.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __wrap_service_socket_connect(int home, const char *path, unsigned int wait_ms);

static int engine;	/* our end of what the server has connected to */

int
__wrap_service_socket_connect(int home, const char *path, unsigned int wait_ms)
{
	(void)home, (void)path, (void)wait_ms;
	return engine;
}

static void
check_text(const char *s, size_t most)
{
	assert(strlen(s) <= most);
	for (; *s; s++)
		assert(*s >= ' ' && *s <= '~');
}

static void
check(const struct tls_engine *t)
{
	check_text(t->protocol, sizeof t->protocol - 1);
	check_text(t->cipher, sizeof t->cipher - 1);
	check_text(t->host, sizeof t->host - 1);
	check_text(t->alpn, sizeof t->alpn - 1);
	check_text(t->text, TLS_ENGINE_TEXT_MAX);
	assert(!strpbrk(t->host, " /=\"'"));
}

static void
send_packets(int fd, const uint8_t *octets, size_t len)
{
	size_t some;

	for (; len >= 2; octets += some, len -= some) {
		struct iovec v;
		int passed = octets[1] & 1 ? dup(fd) : -1;

		some = octets[0];
		octets += 2;
		len -= 2;
		if (some > len)
			some = len;
		v = (struct iovec){ (void *)(uintptr_t)octets, some };
		service_socket_send(fd, &v, 1, passed);
		if (passed >= 0)
			close(passed);
	}
}

static void
be_engine(const uint8_t *octets, size_t len)
{
	static const char *const alpn[] = { "smtp", NULL };
	struct tls_engine t;
	int pair[2], connection[2], plain;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) || socketpair(AF_UNIX, SOCK_STREAM, 0, connection))
		err(1, "socketpair");
	engine = pair[0];
	send_packets(pair[1], octets, len);
	shutdown(pair[1], SHUT_WR);
	if (tls_engine_reach(&t, -1)) {
		plain = tls_engine_start(&t, connection[0], alpn);
		assert(plain == -1 || plain > 2);
		if (plain >= 0) {
			check(&t);
			tls_engine_end(&t);
			tls_engine_close(&t);
			close(plain);
		}
	}
	check(&t);
	assert(t.control == -1);
	close(pair[1]), close(connection[0]), close(connection[1]);
}

static void
be_ucspi_server(const uint8_t *octets, size_t len)
{
	struct server_tls t = { .by = SERVER_TLS_UCSPI, .engine.control = -1 };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || write(pair[1], octets, len) != (ssize_t)len || shutdown(pair[1], SHUT_WR))
		err(1, "give octets");
	t.control = dup(pair[0]);
	t.in = dup(pair[0]);
	t.out = dup(pair[0]);
	if (server_tls_start(&t, NULL))
		assert(t.control == -1 && t.is_on);
	else {
		check_text(t.text, sizeof t.text - 1);
		close(t.control), close(t.in), close(t.out);
	}
	check(&t.engine);
	close(pair[0]), close(pair[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	be_engine(octets, len);
	be_ucspi_server(octets, len);
	return 0;
}
