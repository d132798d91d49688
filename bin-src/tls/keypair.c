#include <errno.h>
#include <string.h>
#include <skalibs/uint16.h>
#include "certificate.h"
#include "keypair.h"

enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 8 * KEY_SIGNATURE_MAX, SECRET_MAX = 16 << 10 };

static const char no_memory[] = "out of memory";

/* --- reading -------------------------------------------------------------------------------------------------------- */

/* One object of the file on its way; room was made before, so that nothing secret is left where it was. */
struct object {
	unsigned char s[SECRET_MAX];
	size_t len;		/* above SECRET_MAX: it is too long */
};

static void
append(void *context, const void *s, size_t len)
{
	struct object *o = context;

	if (o->len + len <= SECRET_MAX)
		memcpy(o->s + o->len, s, len);
	o->len += len;
}

static const char *
take_key(struct keypair *k, const struct object *o)
{
	if (br_skey_decoder_key_type(&k->key))
		return "there is more than one private key";
	br_skey_decoder_init(&k->key);
	br_skey_decoder_push(&k->key, o->s, o->len);
	return br_skey_decoder_last_error(&k->key) ? "the private key is malformed, or of a kind that is not known" : NULL;
}

static const char *
take_certificate(struct keypair *k, const struct object *o)
{
	unsigned char length[3] = { (unsigned char)(o->len >> 16), (unsigned char)(o->len >> 8), (unsigned char)o->len };
	struct certificate c;

	if (!certificate_read(&c, o->s, o->len))
		return "a certificate is malformed";
	if (k->chain.len + sizeof length + o->len > KEY_CHAIN_MAX)
		return "the chain is too long";
	if (!k->chain.len) {
		if (!certificate_names(&k->names, &c))
			return errno == ENOMEM ? no_memory : "the names in the certificate are malformed";
		k->is_self_signed = certificate_is_self_signed(&c);
	}
	if (!stralloc_catb(&k->chain, (const char *)length, sizeof length) || !stralloc_catb(&k->chain, (const char *)o->s, o->len))
		return no_memory;
	return NULL;
}

static const char *
take_object(struct keypair *k, const char *name, const struct object *o, unsigned int *certificates)
{
	if (o->len > SECRET_MAX)
		return "an object is too long";
	if (strcmp(name, "ENCRYPTED PRIVATE KEY") == 0)
		return "the private key is encrypted";
	if (strcmp(name, "PRIVATE KEY") == 0 || strcmp(name, "RSA PRIVATE KEY") == 0 || strcmp(name, "EC PRIVATE KEY") == 0)
		return take_key(k, o);
	if (strcmp(name, "CERTIFICATE") != 0 && strcmp(name, "X509 CERTIFICATE") != 0)
		return NULL;
	return ++*certificates > KEY_CERTIFICATES_MAX ? "there are too many certificates" : take_certificate(k, o);
}

/* Takes the objects of the file one by one. */
static const char *
take_objects(struct keypair *k, const char *pem, size_t len, br_pem_decoder_context *decoder, struct object *o)
{
	unsigned int certificates = 0;
	const char *why;
	size_t n;

	o->len = 0;
	br_pem_decoder_init(decoder);
	while (len) {
		n = br_pem_decoder_push(decoder, pem, len);
		pem += n;
		len -= n;
		switch (br_pem_decoder_event(decoder)) {
		case BR_PEM_BEGIN_OBJ:
			o->len = 0;
			br_pem_decoder_setdest(decoder, append, o);
			break;
		case BR_PEM_END_OBJ:
			why = take_object(k, br_pem_decoder_name(decoder), o, &certificates);
			if (why)
				return why;
			break;
		case BR_PEM_ERROR:
			return "it is no PEM file, or damaged";
		}
	}
	if (!k->chain.len)
		return "there is no certificate in it";
	return br_skey_decoder_key_type(&k->key) ? NULL : "there is no private key in it";
}

/* --- whether they belong together -------------------------------------------------------------------------------------- */

static int
is_rsa_of(const br_rsa_private_key *key, const br_rsa_public_key *public)
{
	unsigned char n[KEY_SIGNATURE_MAX];

	/* -Wanalyzer-null-dereference: who calls has a key of this type */
	return public->nlen == (key->n_bitlen + 7) / 8 && public->nlen <= sizeof n &&
	    br_rsa_compute_modulus_get_default()(n, key) == public->nlen && memcmp(n, public->n, public->nlen) == 0;
}

static int
is_ec_of(const br_ec_private_key *key, const br_ec_public_key *public)
{
	unsigned char room[BR_EC_KBUF_PUB_MAX_SIZE];
	br_ec_public_key computed;

	/* -Wanalyzer-null-dereference: who calls has a key of this type */
	return key->curve == public->curve && br_ec_compute_pub(br_ec_get_default(), &computed, room, key) == public->qlen &&
	    memcmp(computed.q, public->q, public->qlen) == 0;
}

static const char *
find_kind(struct keypair *k)
{
	if (br_skey_decoder_key_type(&k->key) == BR_KEYTYPE_RSA) {
		const br_rsa_private_key *rsa = br_skey_decoder_get_rsa(&k->key);

		k->kind = KEY_RSA;
		/* -Wanalyzer-null-dereference: it has one of this type */
		return rsa->n_bitlen < RSA_BITS_MIN || rsa->n_bitlen > RSA_BITS_MAX ? "its RSA key has not 2048 to 4096 bits" : NULL;
	}
	/* -Wanalyzer-null-dereference: the decoder has a key, and it is none of RSA */
	switch (br_skey_decoder_get_ec(&k->key)->curve) {
	case BR_EC_secp256r1: k->kind = KEY_P256; return NULL;
	case BR_EC_secp384r1: k->kind = KEY_P384; return NULL;
	case BR_EC_secp521r1: k->kind = KEY_P521; return NULL;
	default: return "the curve of its key is none of P-256, P-384 and P-521";
	}
}

static const char *
compare_public_key(const struct keypair *k)
{
	const unsigned char *chain = (const unsigned char *)k->chain.s;
	br_x509_decoder_context decoder;
	const br_x509_pkey *public;
	int belongs;

	br_x509_decoder_init(&decoder, NULL, NULL);
	br_x509_decoder_push(&decoder, chain + 3, (size_t)chain[0] << 16 | (size_t)chain[1] << 8 | chain[2]);
	public = br_x509_decoder_get_pkey(&decoder);
	if (!public)
		return "the first certificate is malformed, or its key of a kind that is not known";
	if (k->kind == KEY_RSA)
		belongs = public->key_type == BR_KEYTYPE_RSA && is_rsa_of(br_skey_decoder_get_rsa(&k->key), &public->key.rsa);
	else
		belongs = public->key_type == BR_KEYTYPE_EC && is_ec_of(br_skey_decoder_get_ec(&k->key), &public->key.ec);
	return belongs ? NULL : "the private key is not that of the first certificate";
}

const char *
keypair_read(struct keypair *k, const char *pem, size_t len)
{
	br_pem_decoder_context decoder;
	struct object o;
	const char *why;

	memset(k, 0, sizeof *k);
	why = take_objects(k, pem, len, &decoder, &o);
	explicit_bzero(&o, sizeof o);
	explicit_bzero(&decoder, sizeof decoder);
	if (!why)
		why = find_kind(k);
	return why ? why : compare_public_key(k);
}

void
keypair_free(struct keypair *k)
{
	stralloc_free(&k->names);
	stralloc_free(&k->chain);
	explicit_bzero(k, sizeof *k);
}

/* --- signing ------------------------------------------------------------------------------------------------------------ */

/* Whether it has the form of what is signed in a handshake, and is nothing else. */
static int
is_exchange(const unsigned char *s, size_t len)
{
	enum { RANDOM = 64, HEADER = 4, NAMED_CURVE = 3 };
	uint16_t curve;
	size_t point;

	if (len < RANDOM + HEADER || s[RANDOM] != NAMED_CURVE)
		return 0;
	uint16_unpack_big((const char *)s + RANDOM + 1, &curve);
	switch (curve) {
	case BR_EC_curve25519: point = 32; break;
	case BR_EC_secp256r1: point = 65; break;
	case BR_EC_secp384r1: point = 97; break;
	case BR_EC_secp521r1: point = 133; break;
	default: return 0;
	}
	return s[RANDOM + 3] == point && len == RANDOM + HEADER + point;
}

static const struct hash {
	const br_hash_class *class;
	const unsigned char *oid;
} hashes[] = {
	[KEY_SHA256] = { &br_sha256_vtable, BR_HASH_OID_SHA256 },
	[KEY_SHA384] = { &br_sha384_vtable, BR_HASH_OID_SHA384 },
	[KEY_SHA512] = { &br_sha512_vtable, BR_HASH_OID_SHA512 },
};

static size_t
octets_of(const struct hash *h)
{
	return (h->class->desc >> BR_HASHDESC_OUT_OFF) & BR_HASHDESC_OUT_MASK;
}

/* The hash of an algorithm, NULL if it is not for the key. */
static const struct hash *
hash_for(const struct keypair *k, unsigned int algorithm)
{
	unsigned int which = algorithm >> 8;

	if (which >= sizeof hashes / sizeof *hashes || !hashes[which].class ||
	    (algorithm & 0xff) != (k->kind == KEY_RSA ? KEY_ALGORITHM_RSA : KEY_ALGORITHM_ECDSA))
		return NULL;
	return &hashes[which];
}

static size_t
sign(const struct keypair *k, const struct hash *h, const unsigned char *value, unsigned char signature[KEY_SIGNATURE_MAX])
{
	const br_rsa_private_key *rsa;

	if (k->kind != KEY_RSA)
		return br_ecdsa_sign_asn1_get_default()(br_ec_get_default(), h->class, value, br_skey_decoder_get_ec(&k->key), signature);
	rsa = br_skey_decoder_get_rsa(&k->key);
	/* -Wanalyzer-null-dereference: the kind is the one that the decoder has */
	return br_rsa_pkcs1_sign_get_default()(h->oid, value, octets_of(h), rsa, signature) ? (rsa->n_bitlen + 7) / 8 : 0;
}

size_t
keypair_sign(const struct keypair *k, unsigned int algorithm, const unsigned char *exchange, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX])
{
	const struct hash *h = hash_for(k, algorithm);
	unsigned char value[KEY_HASH_MAX];
	br_hash_compat_context context;

	if (!h || !is_exchange(exchange, len))
		return 0;
	h->class->init(&context.vtable);
	h->class->update(&context.vtable, exchange, len);
	h->class->out(&context.vtable, value);
	return sign(k, h, value, signature);
}

size_t
keypair_sign_hash(const struct keypair *k, unsigned int algorithm, const unsigned char *hash, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX])
{
	const struct hash *h = hash_for(k, algorithm);

	return h && len == octets_of(h) ? sign(k, h, hash, signature) : 0;
}
