#include <string.h>
#include <bearssl.h>
#include "certificate.h"
#include "tlsa.h"

enum { HEADER = 3 };	/* octets before the data */

/* Whether the data may be what its matching type says. */
static int
is_data(const struct tlsa *t)
{
	struct certificate certificate;

	switch (t->matching) {
	case TLSA_SHA256:
		return t->len == br_sha256_SIZE;
	case TLSA_SHA512:
		return t->len == br_sha512_SIZE;
	case TLSA_FULL:
		return t->len > 0 && (t->selector == TLSA_KEY || certificate_read(&certificate, t->data, t->len));
	}
	return 0;
}

int
tlsa_read(struct tlsa *t, const void *rdata, size_t len)
{
	const unsigned char *s = rdata;

	if (len <= HEADER || (s[0] != TLSA_DANE_TA && s[0] != TLSA_DANE_EE) || s[1] > TLSA_KEY || s[2] > TLSA_SHA512)
		return 0;
	*t = (struct tlsa){ (enum tlsa_usage)s[0], (enum tlsa_selector)s[1], (enum tlsa_matching)s[2], s + HEADER, len - HEADER };
	return is_data(t);
}

/* Whether there is a stronger digest of the same. */
static int
is_weak(const struct tlsa *t, const struct tlsa *records, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (records[i].usage == t->usage && records[i].selector == t->selector && records[i].matching > t->matching)
			return t->matching != TLSA_FULL;
	return 0;
}

size_t
tlsa_keep_strongest(struct tlsa *records, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++)
		/* none of those that were dropped was the strongest */
		if (!is_weak(&records[i], records, kept) && !is_weak(&records[i], records + i, len - i))
			records[kept++] = records[i];
	return kept;
}

/* The length of the record's digest is that of the hash: tlsa_read has seen to it. */
static int
is_digest(const br_hash_class *hash, const struct tlsa *t, const unsigned char *s, size_t len)
{
	unsigned char ours[br_sha512_SIZE];
	br_hash_compat_context context;

	hash->init(&context.vtable);
	hash->update(&context.vtable, s, len);
	hash->out(&context.vtable, ours);
	return memcmp(t->data, ours, t->len) == 0;
}

int
tlsa_matches(const struct tlsa *t, const unsigned char *der, size_t len)
{
	struct certificate certificate;

	if (t->selector == TLSA_KEY) {
		if (!certificate_read(&certificate, der, len))
			return 0;
		der = certificate.key;
		len = certificate.key_len;
	}
	switch (t->matching) {
	case TLSA_FULL:
		return len == t->len && memcmp(der, t->data, len) == 0;
	case TLSA_SHA256:
		return is_digest(&br_sha256_vtable, t, der, len);
	case TLSA_SHA512:
		return is_digest(&br_sha512_vtable, t, der, len);
	}
	return 0;
}
