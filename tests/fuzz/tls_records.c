/* What a hostile client sends for a TLS handshake, to the engine as qmail-tlsd runs it. The key is signed with here: qmail-keyd is a
 * stand-in. The engine's random numbers are the same each time, so that what was found stays found. */
#include <assert.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/tls/keypair.h"
#include "bin-src/tls/server_policy.h"
#include "bin-src/tls/tunnel.h"
#include "monotonic.h"
#include "suites.h"
#include "tests/unit/pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct keypair pair;
static struct server_policy policy;
static br_ssl_server_context server;
static unsigned char records[BR_SSL_BUFSIZE_BIDI];

const unsigned char *
key_client_chain(struct key_client *k, unsigned int kinds, const char *host)
{
	assert(kinds && strlen(host) <= KEY_HOST_MAX);
	if (!(kinds & pair.kind)) {
		errno = ENOENT;
		return NULL;
	}
	k->kind = pair.kind;
	k->chain_len = pair.chain.len;
	return (const unsigned char *)pair.chain.s;
}

size_t
key_client_sign(struct key_client *k, unsigned int algorithm, const unsigned char *exchange, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX])
{
	size_t n = keypair_sign(&pair, algorithm, exchange, len, signature);

	(void)k;
	assert(n > 0);	/* what our own engine asks for is always what qmail-keyd signs */
	return n;
}

/* BearSSL's: no numbers of the system besides ours. */
br_prng_seeder
br_prng_seeder_system(const char **name)
{
	(void)name;
	return NULL;
}

static void
say_end(struct tunnel *t, const char *why)
{
	assert(t->has_ended && (!why || *why));
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	if (keypair_read(&pair, PEM_P256, strlen(PEM_P256)))
		errx(1, "the key cannot be read");
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static const char *alpn[] = { "pop3" };
	struct tunnel t = { .engine = &server.eng, .ended = say_end };
	int net[2], plain[2], control[2];
	const char *why;

	br_ssl_server_zero(&server);
	suites_set(&server.eng);
	br_ssl_engine_add_flags(&server.eng, BR_OPT_ENFORCE_SERVER_PREFERENCES | BR_OPT_FAIL_ON_ALPN_MISMATCH);
	br_ssl_engine_set_buffer(&server.eng, records, sizeof records, 1);
	br_ssl_engine_set_protocol_names(&server.eng, alpn, 1);
	server_policy_set(&policy, &server);
	br_ssl_engine_inject_entropy(&server.eng, "the same octets every time......", 32);
	assert(br_ssl_server_reset(&server));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, net) || socketpair(AF_UNIX, SOCK_STREAM, 0, plain) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) || write(net[1], octets, len) != (ssize_t)len || shutdown(net[1], SHUT_WR))
		err(1, "give octets");
	t.net = net[0];
	t.plain = plain[0];
	t.control = control[0];
	close(plain[1]);
	why = tunnel_handshake(&t, monotonic_ms() + 1000);
	if (!why)
		tunnel_run(&t);
	assert(!why || *why);
	close(net[0]), close(net[1]), close(plain[0]), close(control[0]), close(control[1]);
	return 0;
}
