/* What a hostile server sends for TLS, to qmail-remote's side of it. The client's random numbers are the same each time, so that a whole
 * session of a server can be an input: the seeds are such ones. */
#include <assert.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/remote/tls_client.h"
#include "monotonic.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
ssize_t __wrap_getrandom(void *s, size_t len, unsigned int flags);

ssize_t
__wrap_getrandom(void *s, size_t len, unsigned int flags)
{
	memset(s, 'r', len);
	(void)flags;
	return (ssize_t)len;
}

/* BearSSL's: no numbers of the system besides. */
br_prng_seeder
br_prng_seeder_system(const char **name)
{
	(void)name;
	return NULL;
}

static const int mark;

/* Says what a server may have to prove, of the certificates that have come. */
static const char *
demand(const struct server_chain *c, const void *of)
{
	assert(c->len > 0 && of == &mark);
	return c->certificates[0].der[c->certificates[0].len - 1] & 1 ? NULL : "it is even";
}

/* Until the end, or all octets have come. */
static void
talk(struct tls_client *t, int fd)
{
	const struct iovec quit = { .iov_base = (char[]){ "QUIT\r\n" }, .iov_len = 6 };
	char reply[100];
	ssize_t n;

	if (tls_client_send(t, fd, &quit, 1) == 6)
		tls_client_flush(t);
	do {
		n = tls_client_receive(t, fd, reply, sizeof reply);
		assert(n <= (ssize_t)sizeof reply && (n >= 0 || errno));
	} while (n > 0 || (n < 0 && errno == EAGAIN));
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct tls_client t;
	int net[2];

	t.chain.demand = len % 5 == 0 ? demand : NULL;
	t.chain.of = &mark;
	t.session_key[0] = '\0';
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, net) || write(net[1], octets, len) != (ssize_t)len || shutdown(net[1], SHUT_WR))
		err(1, "give octets");
	if (tls_client_start(&t, net[0], "mx.x.test", "key", monotonic_ms() + 1000))
		talk(&t, net[0]);
	else
		assert(*t.trouble && strlen(t.trouble) < sizeof t.trouble);
	tls_client_end(&t, net[0]);
	close(net[0]), close(net[1]);
	return 0;
}
