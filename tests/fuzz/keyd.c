/* A connection to qmail-keyd on which any packets come: the input is what the client may use, then packets, an octet for the length of
 * each. Nothing but what is laid down comes back, and with a server's key no signature of anything but an exchange. */
#include <assert.h>
#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/pem.h"
#define main keyd_main
#include "bin-src/tls/qmail-keyd.c"	/* NOLINT(bugprone-suspicious-include): what answers is static there */
#undef main
#include "no_sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct worker worker;

/* --- no question reaches these --------------------------------------------------------------- */

const struct sandbox_filter sandbox_signer;

/* --- questions ----------------------------------------------------------------------------------- */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const files[] = { PEM_RSA, PEM_P256, PEM_SELF };
	enum { FILES = sizeof files / sizeof *files };
	static struct keystore_entry entries[FILES];
	static struct keypair pairs[FILES];
	static char names[FILES][6] = { "r.pem", "p.pem", "s.pem" };

	(void)argc, (void)argv, (void)keyd_main;
	for (size_t i = 0; i < FILES; i++) {
		if (keypair_read(pairs + i, files[i], strlen(files[i])))
			errx(1, "a key cannot be read");
		entries[i] = (struct keystore_entry){ pairs + i, names[i] };
	}
	worker.keys.entries = worker.client_keys.entries = entries;
	worker.keys.len = worker.client_keys.len = FILES;
	if (!stralloc_catb(&worker.keys.me, "mail.test.example", 18))
		errx(1, "out of memory");
	return 0;
}

static void
check_answer(unsigned int rights, const uint8_t *question, size_t len, const uint8_t *said, size_t said_len)
{
	int is_chain = said[0] == 'C' || said[0] == 'P';

	assert(rights & (question[0] == 'C' || question[0] == 'S' ? SERVER_KEYS : CLIENT_KEYS));
	if (said_len == 1 && said[0] == 'N')
		return;
	assert(said[0] == question[0]);
	if (is_chain)
		assert(said_len > 6 + 3 && said_len <= 6 + KEY_CHAIN_MAX && (said[0] == 'P' || said[1] & question[1]));
	else
		assert(said_len <= 1 + KEY_SIGNATURE_MAX);
	if (said[0] == 'S')
		assert(len > 7 + 64 && question[7 + 64] == 3);
	else if (said[0] == 'H')
		assert(len == 7 + 32 || len == 7 + 48 || len == 7 + 64);
	else
		assert(is_chain);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	unsigned char said[6 + KEY_CHAIN_MAX + 1];
	int pair[2], is_open = 1;
	ssize_t n;
	size_t some;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		err(1, "socketpair");
	worker.answers[pair[0]] = 0;
	worker.rights[pair[0]] = len ? *octets++ % 4 : 0;
	len -= len != 0;
	for (; is_open && len; octets += some, len -= some) {
		some = *octets++;
		len--;
		if (some > len)
			some = len;
		if (send(pair[1], octets, some, 0) != (ssize_t)some)
			err(1, "send");
		is_open = answer(&worker, pair[0]);
		n = recv(pair[1], said, sizeof said, MSG_DONTWAIT);
		if (n > 0)
			check_answer(worker.rights[pair[0]], octets, some, said, (size_t)n);
		assert(is_open ? n > 0 || !some : 1);
		assert(worker.rights[pair[0]] & CLIENT_KEYS || worker.answers[pair[0]] <= KEY_QUESTIONS_MAX);
	}
	close(pair[0]), close(pair[1]);
	return 0;
}
