/* Certificates and keys, given any octets: the text of a file in tls/, a certificate in DER, and what a server sends of them. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/remote/server_chain.h"
#include "bin-src/tls/keypair.h"
#include "certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static void
read_file(const char *s, size_t len)
{
	struct keypair k;
	unsigned char signature[KEY_SIGNATURE_MAX];

	if (!keypair_read(&k, s, len)) {
		assert(k.chain.len > 3 && k.chain.len <= KEY_CHAIN_MAX && (!k.names.len || !k.names.s[k.names.len - 1]));
		assert(keypair_sign(&k, KEY_SHA256 << 8 | KEY_ALGORITHM_RSA, (const unsigned char *)s, len, signature) <= sizeof signature);
	}
	keypair_free(&k);
}

/* Names have the octets of names. */
static void
read_certificate(const unsigned char *s, size_t len)
{
	stralloc names = STRALLOC_ZERO;
	struct certificate c;

	if (certificate_read(&c, s, len)) {
		assert(c.key >= s && c.key + c.key_len <= s + len && c.issuer + c.issuer_len <= s + len && c.subject + c.subject_len <= s + len);
		certificate_is_self_signed(&c);
		if (certificate_names(&names, &c) == 1)
			for (size_t i = 0; i < names.len; i++)
				assert(!names.s[i] || strchr("abcdefghijklmnopqrstuvwxyz0123456789.-_*", names.s[i]));
		certificate_is_for(&names, "a.b");
	}
	stralloc_free(&names);
}

/* Each certificate: two octets of the length that it says, one of how many of these come. */
static void
send_chain(const unsigned char *s, size_t len)
{
	static struct server_chain c;
	static br_ssl_client_context client;
	size_t some;

	br_ssl_client_zero(&client);
	memset(&c, 0, sizeof c);
	server_chain_set(&c, &client.eng);
	c.class->start_chain(&c.class, "a.test");
	for (; len > 3; s += some, len -= some) {
		uint32_t said = (uint32_t)s[0] << 8 | s[1];

		some = s[2] == 255 ? said : s[2];
		s += 3;
		len -= 3;
		if (some > len)
			some = len;
		c.class->start_cert(&c.class, said);
		c.class->append(&c.class, s, some / 2);
		c.class->append(&c.class, s + some / 2, some - some / 2);
		c.class->end_cert(&c.class);
		assert(c.len <= SERVER_CHAIN_LEN && c.used <= SERVER_CHAIN_OCTETS && !c.missing);
	}
	assert((c.class->end_chain(&c.class) == 0) == (c.trouble == NULL));
	for (size_t i = 0; i < c.len; i++) {
		assert(c.certificates[i].der >= c.octets && c.certificates[i].der + c.certificates[i].len <= c.octets + c.used);
		read_certificate(c.certificates[i].der, c.certificates[i].len);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	unsigned char *copy = malloc(len ? len : 1);

	assert(copy);
	memcpy(copy, octets, len);
	read_file((const char *)copy, len);
	read_certificate(copy, len);
	send_chain(copy, len);
	free(copy);
	return 0;
}
