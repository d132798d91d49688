#include "suites.h"

#define NAMED(suite) [BR_TLS_##suite & 0xff] = "TLS_" #suite
#define ECDHE_ECDSA(cipher) BR_TLS_ECDHE_ECDSA_WITH_##cipher
#define ECDHE_RSA(cipher) BR_TLS_ECDHE_RSA_WITH_##cipher

/* AES before ChaCha20: processors without instructions for AES do not serve mail */
const uint16_t suites[] = {
	ECDHE_ECDSA(AES_128_GCM_SHA256), ECDHE_RSA(AES_128_GCM_SHA256),
	ECDHE_ECDSA(AES_256_GCM_SHA384), ECDHE_RSA(AES_256_GCM_SHA384),
	ECDHE_ECDSA(CHACHA20_POLY1305_SHA256), ECDHE_RSA(CHACHA20_POLY1305_SHA256),
	ECDHE_ECDSA(AES_128_CBC_SHA256), ECDHE_RSA(AES_128_CBC_SHA256),
	ECDHE_ECDSA(AES_256_CBC_SHA384), ECDHE_RSA(AES_256_CBC_SHA384),
	ECDHE_ECDSA(AES_128_CBC_SHA), ECDHE_RSA(AES_128_CBC_SHA),
	ECDHE_ECDSA(AES_256_CBC_SHA), ECDHE_RSA(AES_256_CBC_SHA),
};
const size_t suites_len = sizeof suites / sizeof *suites;

/* By the second octet: the first is 0xC0, of ChaCha20 0xCC. */
static const char *const names[256] = {
	NAMED(ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), NAMED(ECDHE_RSA_WITH_AES_128_GCM_SHA256),
	NAMED(ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), NAMED(ECDHE_RSA_WITH_AES_256_GCM_SHA384),
	NAMED(ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), NAMED(ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
	NAMED(ECDHE_ECDSA_WITH_AES_128_CBC_SHA256), NAMED(ECDHE_RSA_WITH_AES_128_CBC_SHA256),
	NAMED(ECDHE_ECDSA_WITH_AES_256_CBC_SHA384), NAMED(ECDHE_RSA_WITH_AES_256_CBC_SHA384),
	NAMED(ECDHE_ECDSA_WITH_AES_128_CBC_SHA), NAMED(ECDHE_RSA_WITH_AES_128_CBC_SHA),
	NAMED(ECDHE_ECDSA_WITH_AES_256_CBC_SHA), NAMED(ECDHE_RSA_WITH_AES_256_CBC_SHA),
};

const char *
suites_name(uint16_t suite)
{
	for (size_t i = 0; i < suites_len; i++)
		if (suites[i] == suite)
			return names[suite & 0xff];
	return "unknown";
}

void
suites_set(br_ssl_engine_context *engine)
{
	br_ssl_engine_set_versions(engine, BR_TLS12, BR_TLS12);
	br_ssl_engine_set_suites(engine, suites, suites_len);
	br_ssl_engine_set_hash(engine, br_sha1_ID, &br_sha1_vtable);	/* for HMAC of the last suites */
	br_ssl_engine_set_hash(engine, br_sha256_ID, &br_sha256_vtable);
	br_ssl_engine_set_hash(engine, br_sha384_ID, &br_sha384_vtable);
	br_ssl_engine_set_hash(engine, br_sha512_ID, &br_sha512_vtable);
	br_ssl_engine_set_prf_sha256(engine, br_tls12_sha256_prf);
	br_ssl_engine_set_prf_sha384(engine, br_tls12_sha384_prf);
	br_ssl_engine_set_default_ec(engine);
	br_ssl_engine_set_default_aes_gcm(engine);
	br_ssl_engine_set_default_chapol(engine);
	br_ssl_engine_set_default_aes_cbc(engine);
	br_ssl_engine_add_flags(engine, BR_OPT_NO_RENEGOTIATION);
}
