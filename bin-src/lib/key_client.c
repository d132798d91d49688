#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/uint16.h>
#include <skalibs/uint32.h>
#include "key_client.h"
#include "monotonic.h"
#include "service_socket.h"

enum { CHAIN_HEADER = 6 };

int
key_client_connect(struct key_client *k)
{
	k->fd = service_socket_connect(-1, KEY_SOCKET, KEY_WAIT_MS);
	return k->fd >= 0;
}

void
key_client_close(struct key_client *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

/* Asks, and waits for an answer of least to most octets that begins with this letter. Returns its length, or -1 with errno set:
 * refused if there was a 'N'. */
static ssize_t
ask(const struct key_client *k, const struct iovec *v, unsigned int n, unsigned char *answer, size_t least, size_t most, int refused)
{
	const unsigned char letter = *(const unsigned char *)v->iov_base;
	ssize_t r;

	if (k->fd < 0) {
		errno = ENOTCONN;
		return -1;
	}
	if (!service_socket_send(k->fd, v, n, -1) || !service_socket_wait(k->fd, monotonic_ms() + KEY_WAIT_MS))
		return -1;
	r = service_socket_receive(k->fd, answer, most, NULL);
	if (r < 0)
		return -1;
	errno = r == 0 ? ECONNRESET : r == 1 && answer[0] == 'N' ? refused : EPROTO;
	return (size_t)r >= least && answer[0] == letter ? r : -1;
}

/* Asks for a chain. Returns it as key_client_chain does. */
static const unsigned char *
ask_chain(struct key_client *k, const struct iovec *v, unsigned int n, unsigned int kinds)
{
	ssize_t r = ask(k, v, n, k->packet, CHAIN_HEADER + 1, sizeof k->packet, ENOENT);

	if (r < 0)
		return NULL;
	if (!(k->packet[1] & kinds)) {
		errno = EPROTO;
		return NULL;
	}
	k->kind = (enum key_kind)k->packet[1];
	uint32_unpack_big((const char *)k->packet + 2, &k->number);
	k->chain_len = (size_t)r - CHAIN_HEADER;
	return k->packet + CHAIN_HEADER;
}

const unsigned char *
key_client_chain(struct key_client *k, unsigned int kinds, const char *host)
{
	unsigned char head[2] = { 'C', (unsigned char)kinds };
	struct iovec v[2] = { { head, sizeof head }, { (char *)(uintptr_t)host, strnlen(host, KEY_HOST_MAX) } };

	return ask_chain(k, v, 2, kinds);
}

const unsigned char *
key_client_pair(struct key_client *k, const char *name)
{
	struct iovec v[2] = { { (char *)(uintptr_t)"P", 1 }, { (char *)(uintptr_t)name, strlen(name) } };

	if (strlen(name) > KEY_NAME_MAX) {
		errno = ENOENT;
		return NULL;
	}
	return ask_chain(k, v, 2, KEY_RSA | KEY_P256 | KEY_P384 | KEY_P521);
}

/* Asks by this letter for a signature of the octets. Returns its length, or 0 with errno set. */
static size_t
ask_signature(const struct key_client *k, char letter, unsigned int algorithm, const unsigned char *s, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX])
{
	unsigned char answer[1 + KEY_SIGNATURE_MAX];
	char head[7] = { letter };
	struct iovec v[2] = { { head, sizeof head }, { (void *)(uintptr_t)s, len } };
	ssize_t r;

	uint32_pack_big(head + 1, k->number);
	uint16_pack_big(head + 5, (uint16_t)algorithm);
	r = ask(k, v, 2, answer, 2, sizeof answer, EPERM);
	if (r < 0)
		return 0;
	memcpy(signature, answer + 1, (size_t)r - 1);
	return (size_t)r - 1;
}

size_t
key_client_sign(struct key_client *k, unsigned int algorithm, const unsigned char *exchange, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX])
{
	return ask_signature(k, 'S', algorithm, exchange, len, signature);
}

size_t
key_client_sign_hash(struct key_client *k, unsigned int algorithm, const unsigned char *hash, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX])
{
	return ask_signature(k, 'H', algorithm, hash, len, signature);
}
