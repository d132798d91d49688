#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "client_certificate.h"
#include "key_chain.h"

void
client_certificate_init(struct client_certificate *c)
{
	c->key.fd = -1;
	c->name[0] = '\0';
}

void
client_certificate_open(struct client_certificate *c)
{
	key_client_connect(&c->key);
}

int
client_certificate_take(struct client_certificate *c, const char *name)
{
	const unsigned char *chain;

	if (c->key.fd >= 0 && *name && strcmp(c->name, name) == 0)
		return 1;
	c->name[0] = '\0';
	chain = key_client_pair(&c->key, name);
	if (!chain && errno == ENOENT)
		return 0;
	c->chain_len = chain ? key_chain_take(c->chain, chain, c->key.chain_len) : 0;
	if (!c->chain_len) {
		key_client_close(&c->key);	/* what else comes on it may be the answer to this */
		return -1;
	}
	snprintf(c->name, sizeof c->name, "%s", name);
	return 1;
}

/* --- BearSSL --------------------------------------------------------------------------------------------------- */

/* The names of authorities. */
static void
ignore(const br_ssl_client_certificate_class **class)
{
	(void)class;
}

static void
ignore_name(const br_ssl_client_certificate_class **class, size_t len)
{
	(void)class, (void)len;
}

static void
ignore_octets(const br_ssl_client_certificate_class **class, const unsigned char *s, size_t len)
{
	(void)class, (void)s, (void)len;
}

static void
choose(const br_ssl_client_certificate_class **class, const br_ssl_client_context *context, uint32_t algorithms,
    br_ssl_client_certificate *choices)
{
	struct client_certificate *c = (struct client_certificate *)(uintptr_t)class;
	int is_rsa = c->key.kind == KEY_RSA;
	uint32_t hashes = is_rsa ? algorithms : algorithms >> 8;

	(void)context;
	choices->chain = NULL;
	choices->chain_len = 0;
	for (int hash = KEY_SHA256; hash <= KEY_SHA512; hash++)
		if (hashes >> hash & 1) {
			choices->auth_type = is_rsa ? BR_AUTH_RSA : BR_AUTH_ECDSA;
			choices->hash_id = hash;
			choices->chain = c->chain;
			choices->chain_len = c->chain_len;
			return;
		}
}

/* Never: nothing but ECDHE is offered. */
static uint32_t
exchange_keys(const br_ssl_client_certificate_class **class, unsigned char *data, size_t *len)
{
	(void)class, (void)data, (void)len;
	return 0;
}

static size_t
sign(const br_ssl_client_certificate_class **class, int hash, size_t hash_len, unsigned char *data, size_t len)
{
	struct client_certificate *c = (struct client_certificate *)(uintptr_t)class;
	unsigned int algorithm = (unsigned int)hash << 8 | (c->key.kind == KEY_RSA ? KEY_ALGORITHM_RSA : KEY_ALGORITHM_ECDSA);
	unsigned char signature[KEY_SIGNATURE_MAX];
	size_t n = key_client_sign_hash(&c->key, algorithm, data, hash_len, signature);

	if (!n) {
		c->trouble = errno == EPERM ? "qmail-keyd did not sign" : "qmail-keyd does not answer";
		key_client_close(&c->key);
	}
	if (!n || n > len)
		return 0;
	memcpy(data, signature, n);
	return n;
}

void
client_certificate_set(struct client_certificate *c, br_ssl_client_context *context)
{
	static const br_ssl_client_certificate_class class = {
		.context_size = sizeof *c, .start_name_list = ignore, .start_name = ignore_name, .append_name = ignore_octets,
		.end_name = ignore, .end_name_list = ignore, .choose = choose, .do_keyx = exchange_keys, .do_sign = sign,
	};

	c->class = &class;
	c->trouble = NULL;
	br_ssl_client_set_client_certificate(context, &c->class);
}
