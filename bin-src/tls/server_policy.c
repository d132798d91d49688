#include <errno.h>
#include <string.h>
#include "key_chain.h"
#include "server_policy.h"

const char *
server_policy_host(const br_ssl_engine_context *engine)
{
	static const char in_names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	const char *host = br_ssl_engine_get_server_name(engine);

	return host && host[strspn(host, in_names)] == '\0' ? host : "";
}

/* The best hash that the client takes in signatures of the bits: SHA-256 is enough, and everybody has it. 0: none. */
static unsigned int
choose_hash(unsigned int bits)
{
	for (unsigned int hash = KEY_SHA256; hash <= KEY_SHA512; hash++)
		if (bits >> hash & 1)
			return hash;
	return 0;
}

/* Which kinds of keys the client can have to do with, by the suites and curves that it has. */
static unsigned int
choose_kinds(const br_ssl_server_context *context)
{
	uint32_t hashes = br_ssl_server_get_client_hashes(context), curves = br_ssl_server_get_client_curves(context);
	const br_suite_translated *suites;
	unsigned int kinds = 0;
	size_t len;

	suites = br_ssl_server_get_client_suites(context, &len);
	for (size_t i = 0; i < len; i++) {
		if (suites[i][1] >> 12 == BR_SSLKEYX_ECDHE_RSA && choose_hash(hashes & 0xff))
			kinds |= KEY_RSA;
		if (suites[i][1] >> 12 != BR_SSLKEYX_ECDHE_ECDSA || !choose_hash(hashes >> 8 & 0xff))
			continue;
		kinds |= (curves >> BR_EC_secp256r1 & 1 ? KEY_P256 : 0) | (curves >> BR_EC_secp384r1 & 1 ? KEY_P384 : 0) |
		    (curves >> BR_EC_secp521r1 & 1 ? KEY_P521 : 0);
	}
	return kinds;
}

static int
choose(const br_ssl_server_policy_class **class, const br_ssl_server_context *context, br_ssl_server_choices *choices)
{
	struct server_policy *p = (struct server_policy *)(uintptr_t)class;
	uint32_t hashes = br_ssl_server_get_client_hashes(context);
	unsigned int kinds = choose_kinds(context);
	const br_suite_translated *common;
	const unsigned char *chain;
	size_t len;

	if (!kinds)
		return 0;
	chain = key_client_chain(&p->key, kinds, server_policy_host(&context->eng));
	if (!chain) {
		p->trouble = errno == ENOENT ? NULL : "qmail-keyd does not answer";
		return 0;
	}
	choices->chain = p->chain;
	choices->chain_len = key_chain_take(p->chain, chain, p->key.chain_len);
	if (!choices->chain_len)
		return 0;
	if (p->key.kind == KEY_RSA)
		p->algorithm = choose_hash(hashes & 0xff) << 8 | KEY_ALGORITHM_RSA;
	else
		p->algorithm = choose_hash(hashes >> 8 & 0xff) << 8 | KEY_ALGORITHM_ECDSA;
	choices->algo_id = p->algorithm;
	common = br_ssl_server_get_client_suites(context, &len);
	for (size_t i = 0; i < len; i++)
		if (common[i][1] >> 12 == (p->key.kind == KEY_RSA ? BR_SSLKEYX_ECDHE_RSA : BR_SSLKEYX_ECDHE_ECDSA)) {
			choices->cipher_suite = common[i][0];
			return 1;
		}
	return 0;
}

/* Never: nothing but ECDHE is offered. */
static uint32_t
exchange_keys(const br_ssl_server_policy_class **class, unsigned char *data, size_t *len)
{
	(void)class, (void)data, (void)len;
	return 0;
}

static size_t
sign(const br_ssl_server_policy_class **class, unsigned int algorithm, unsigned char *data, size_t data_len, size_t len)
{
	struct server_policy *p = (struct server_policy *)(uintptr_t)class;
	unsigned char signature[KEY_SIGNATURE_MAX];
	size_t n = key_client_sign(&p->key, algorithm, data, data_len, signature);

	if (!n)
		p->trouble = errno == EPERM ? "qmail-keyd did not sign" : "qmail-keyd does not answer";
	if (!n || n > len)
		return 0;
	memcpy(data, signature, n);
	return n;
}

void
server_policy_set(struct server_policy *p, br_ssl_server_context *context)
{
	static const br_ssl_server_policy_class class = {
		.context_size = sizeof *p, .choose = choose, .do_keyx = exchange_keys, .do_sign = sign,
	};

	p->class = &class;
	p->trouble = NULL;
	br_ssl_server_set_policy(context, &p->class);
}
