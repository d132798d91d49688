/* Keys and chains in a directory: what is read, which is for whom, and what is signed with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/tls/keystore.h"
#include "directory.h"
#include "pem.h"

enum { ANY = KEY_RSA | KEY_P256 | KEY_P384 | KEY_P521 };

static struct keystore k;
static stralloc trouble = STRALLOC_ZERO;

static int
set_up(void **state)
{
	directory_make(state);
	return mkdir("tls", 0700);
}

static int
tear_down(void **state)
{
	stralloc_free(&trouble);
	return directory_remove(state);
}

static int
forget(void **state)
{
	(void)state;
	keystore_free(&k);
	return 0;
}

static int
load_three(void **state)
{
	(void)state;
	directory_write("tls/0-self.pem", PEM_SELF);
	directory_write("tls/1-rsa.pem", "text before\n" PEM_RSA "text after\n");
	directory_write("tls/2-p256.pem", PEM_P256);
	directory_write("tls/.hidden.pem", "no PEM");
	directory_write("tls/README", "no PEM");
	directory_write("tls/.pem", "no PEM");
	return !keystore_load(&k, "tls", "MAIL.test.example", &trouble);
}

static void
each_host_gets_its_chain(void **state)
{
	static const struct { const char *host; unsigned int kinds; const char *file; } rows[] = {
		{ "mail.test.example", ANY, "2-p256.pem" }, { "MAIL.Test.Example", ANY, "2-p256.pem" }, { "mail.test.example.", ANY, "2-p256.pem" },
		{ "mail.test.example", KEY_RSA, "1-rsa.pem" }, { "mail.test.example", KEY_P384, "0-self.pem" }, { "mail.test.example", KEY_P521, NULL },
		{ "mail.test.example", KEY_P384 | KEY_RSA, "1-rsa.pem" }, { "mail.test.example", 0, NULL },
		{ "only.self.example", ANY, "0-self.pem" }, { "only.self.example", KEY_RSA, "1-rsa.pem" },
		{ "a.wild.example", ANY, "1-rsa.pem" }, { "a.b.wild.example", ANY, "2-p256.pem" }, { "wild.example", ANY, "2-p256.pem" },
		{ ".wild.example", ANY, "2-p256.pem" }, { "*.wild.example", ANY, "1-rsa.pem" }, { "upper.example", ANY, "1-rsa.pem" },
		{ "", ANY, "2-p256.pem" }, { ".", ANY, "2-p256.pem" }, { "unknown.example", ANY, "2-p256.pem" },
		{ "unknown.example", KEY_RSA | KEY_P384, "1-rsa.pem" }, { "127.0.0.1", ANY, "2-p256.pem" },
	};
	char name[2 * KEY_HOST_MAX];

	(void)state;
	assert_int_equal(k.len, 3);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int found = keystore_find(&k, rows[i].kinds, rows[i].host);

		if (rows[i].file)
			assert_string_equal(k.entries[found].file, rows[i].file);
		else
			assert_int_equal(found, -1);
	}
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_string_equal(k.entries[keystore_find(&k, ANY, name)].file, "2-p256.pem");
}

/* Files that cannot be used, and why; each beside one that can. */
static const struct refused { const char *text, *why; } refused[] = {
	{ "", "there is no certificate in it" },
	{ "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate is malformed" },
	{ "-----BEGIN CERTIFICATE-----\n!!!!\n", "it is no PEM file, or damaged" },
	{ PEM_P256 PEM_RSA, "there is more than one private key" },
	{ "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the private key is malformed, or of a kind that is not known" },
	{ "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "the private key is encrypted" },
	{ PEM_SMALL, "its RSA key has not 2048 to 4096 bits" },
};

static void
files_that_cannot_be_used(void **state)
{
	char want[200];

	(void)state;
	directory_write("tls/1-rsa.pem", PEM_RSA);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		directory_write("tls/bad.pem", refused[i].text);
		assert_int_equal(keystore_load(&k, "tls", "me", &trouble), 0);
		snprintf(want, sizeof want, "tls/bad.pem: %s", refused[i].why);
		assert_string_equal(trouble.s, want);
		assert_null(k.entries);
	}
	assert_int_equal(unlink("tls/bad.pem"), 0);
	assert_int_equal(keystore_load(&k, "none", "me", &trouble), 0);
	assert_string_equal(trouble.s, "none: No such file or directory");
}

static void
a_directory_without_a_file_has_no_chain(void **state)
{
	(void)state;
	assert_int_equal(mkdir("empty", 0700), 0);
	assert_int_equal(keystore_load(&k, "empty", "me", &trouble), 1);
	assert_int_equal(k.len, 0);
	assert_int_equal(keystore_find(&k, ANY, "me"), -1);
	assert_int_equal(keystore_find_file(&k, "", 0), -1);
}

static void
each_file_has_its_name(void **state)
{
	static const struct { const char *name, *file; } rows[] = {
		{ "0-self", "0-self.pem" }, { "2-p256", "2-p256.pem" }, { "2-P256", NULL }, { "2-p25", NULL }, { "2-p256.", NULL }, { "2-p256.pem", NULL },
		{ ".hidden", NULL }, { "", NULL }, { "../tls/0-self", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int found = keystore_find_file(&k, rows[i].name, strlen(rows[i].name));

		if (rows[i].file)
			assert_string_equal(k.entries[found].file, rows[i].file);
		else
			assert_int_equal(found, -1);
	}
}

/* A key with another's certificate: the one is cut off before the certificate, the other after it. */
static void
a_key_of_another_certificate(void **state)
{
	static const char *const texts[] = { PEM_RSA, PEM_P256, PEM_SELF };
	char text[20000];

	(void)state;
	for (int key = 0; key < 3; key++)
		for (int chain = 0; chain < 3; chain++) {
			struct keypair pair;
			const char *begin = strstr(texts[chain], "-----BEGIN CERT"), *why;

			snprintf(text, sizeof text, "%s%.*s", begin, (int)(strstr(texts[key], "-----BEGIN CERT") - texts[key]), texts[key]);
			why = keypair_read(&pair, text, strlen(text));
			if (key == chain)
				assert_null(why);
			else
				assert_string_equal(why, "the private key is not that of the first certificate");
			keypair_free(&pair);
		}
}

static void
chains_that_are_too_long(void **state)
{
	static char text[100000];
	struct keypair pair;
	size_t len = (size_t)snprintf(text, sizeof text, "%s", PEM_RSA);

	(void)state;
	for (int i = 0; i < KEY_CERTIFICATES_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof text - len, "%s", strstr(PEM_RSA, "-----BEGIN CERT"));
	assert_string_equal(keypair_read(&pair, text, len), "there are too many certificates");
	keypair_free(&pair);
}

/* --- signing ---------------------------------------------------------------------------------------------------------- */

/* The exchange with a curve: its octets, of 101 at least, in memory of exactly this size. */
static unsigned char *
new_exchange(unsigned char curve, unsigned char point, size_t *len)
{
	unsigned char *s;

	*len = 64 + 4 + (size_t)point;
	s = test_malloc(*len);
	memset(s, 7, *len);
	memcpy(s + 64, (unsigned char []){ 3, 0, curve, point }, 4);
	return s;
}

/* Whether the signature of the hash, one of SHA-256, is that of the pair's certificate. */
static int
is_valid_of_hash(const struct keypair *pair, const unsigned char hash[32], const unsigned char *signature, size_t signature_len)
{
	const unsigned char *chain = (const unsigned char *)pair->chain.s;
	unsigned char signed_hash[32];
	br_x509_decoder_context decoder;
	const br_x509_pkey *key;

	br_x509_decoder_init(&decoder, NULL, NULL);
	br_x509_decoder_push(&decoder, chain + 3, (size_t)chain[0] << 16 | (size_t)chain[1] << 8 | chain[2]);
	key = br_x509_decoder_get_pkey(&decoder);
	if (pair->kind != KEY_RSA)
		return (int)br_ecdsa_vrfy_asn1_get_default()(br_ec_get_default(), hash, 32, &key->key.ec, signature, signature_len);
	return br_rsa_pkcs1_vrfy_get_default()(signature, signature_len, BR_HASH_OID_SHA256, 32, &key->key.rsa, signed_hash) &&
	    memcmp(hash, signed_hash, 32) == 0;
}

/* The same, the signature being that of an exchange. */
static int
is_valid(const struct keypair *pair, const unsigned char *exchange, size_t len, const unsigned char *signature, size_t signature_len)
{
	unsigned char hash[32];
	br_sha256_context sha;

	br_sha256_init(&sha);
	br_sha256_update(&sha, exchange, len);
	br_sha256_out(&sha, hash);
	return is_valid_of_hash(pair, hash, signature, signature_len);
}

static void
handshakes_are_signed(void **state)
{
	static const unsigned char curves[][2] = { { 29, 32 }, { 23, 65 }, { 24, 97 }, { 25, 133 } };
	unsigned char signature[KEY_SIGNATURE_MAX];

	(void)state;
	for (unsigned int i = 0; i < k.len; i++)
		for (int c = 0; c < 4; c++) {
			const struct keypair *pair = k.entries[i].pair;
			unsigned int kind = pair->kind == KEY_RSA ? KEY_ALGORITHM_RSA : KEY_ALGORITHM_ECDSA;
			size_t len, n;
			unsigned char *exchange = new_exchange(curves[c][0], curves[c][1], &len);

			n = keypair_sign(pair, KEY_SHA256 << 8 | kind, exchange, len, signature);
			assert_true(n > 0 && is_valid(pair, exchange, len, signature, n));
			exchange[0] ^= 1;
			assert_false(is_valid(pair, exchange, len, signature, n));
			assert_true(keypair_sign(pair, KEY_SHA384 << 8 | kind, exchange, len, signature));
			assert_true(keypair_sign(pair, KEY_SHA512 << 8 | kind, exchange, len, signature));
			test_free(exchange);
		}
}

static void
nothing_else_is_signed(void **state)
{
	static const unsigned int algorithms[] = { 0x0403, 0x0203, 0x0303, 0x0703, 0x0003, 0xff04, 0x0804, 0xffff0401, 0x0400 };
	const struct keypair *rsa = k.entries[keystore_find(&k, KEY_RSA, "")].pair;
	unsigned char signature[KEY_SIGNATURE_MAX], *exchange;
	size_t len;

	(void)state;
	exchange = new_exchange(29, 32, &len);
	for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
		assert_int_equal(keypair_sign(rsa, algorithms[i], exchange, len, signature), 0);
	assert_int_equal(keypair_sign(rsa, 0x0401, exchange, len - 1, signature), 0);
	assert_int_equal(keypair_sign(rsa, 0x0401, exchange, 67, signature), 0);
	assert_int_equal(keypair_sign(rsa, 0x0401, exchange, 0, signature), 0);
	for (size_t i = 64; i < 68; i++) {
		exchange[i] ^= 1;
		assert_int_equal(keypair_sign(rsa, 0x0401, exchange, len, signature), 0);
		exchange[i] ^= 1;
	}
	assert_int_equal(keypair_sign(rsa, 0x0401, exchange, len, signature), 256);
	test_free(exchange);
}

static void
hashes_are_signed(void **state)
{
	unsigned char hash[KEY_HASH_MAX + 1], signature[KEY_SIGNATURE_MAX];

	(void)state;
	memset(hash, 7, sizeof hash);
	for (unsigned int i = 0; i < k.len; i++) {
		const struct keypair *pair = k.entries[i].pair;
		unsigned int kind = pair->kind == KEY_RSA ? KEY_ALGORITHM_RSA : KEY_ALGORITHM_ECDSA;
		size_t n = keypair_sign_hash(pair, KEY_SHA256 << 8 | kind, hash, 32, signature);

		assert_true(n > 0 && is_valid_of_hash(pair, hash, signature, n));
		assert_true(keypair_sign_hash(pair, KEY_SHA384 << 8 | kind, hash, 48, signature));
		assert_true(keypair_sign_hash(pair, KEY_SHA512 << 8 | kind, hash, 64, signature));
	}
}

static void
no_hash_of_another_length_or_kind_is_signed(void **state)
{
	static const struct { unsigned int algorithm; size_t len; } rows[] = {
		{ 0x0401, 31 }, { 0x0401, 33 }, { 0x0401, 0 }, { 0x0401, 48 }, { 0x0501, 32 }, { 0x0501, 64 }, { 0x0601, 48 }, { 0x0601, 65 }, { 0x0403, 32 },
		{ 0x0201, 20 }, { 0x0101, 16 }, { 0x0001, 36 }, { 0x0301, 28 }, { 0x0701, 64 }, { 0xff01, 32 },
	};
	const struct keypair *rsa = k.entries[keystore_find(&k, KEY_RSA, "")].pair;
	unsigned char hash[KEY_HASH_MAX + 1] = { 0 }, signature[KEY_SIGNATURE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(keypair_sign_hash(rsa, rows[i].algorithm, hash, rows[i].len, signature), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_host_gets_its_chain, load_three, forget),
		cmocka_unit_test_setup_teardown(handshakes_are_signed, load_three, forget),
		cmocka_unit_test_setup_teardown(nothing_else_is_signed, load_three, forget),
		cmocka_unit_test_setup_teardown(hashes_are_signed, load_three, forget),
		cmocka_unit_test_setup_teardown(no_hash_of_another_length_or_kind_is_signed, load_three, forget),
		cmocka_unit_test_setup_teardown(each_file_has_its_name, load_three, forget),
		cmocka_unit_test_teardown(a_directory_without_a_file_has_no_chain, forget),
		cmocka_unit_test_teardown(files_that_cannot_be_used, forget),
		cmocka_unit_test(a_key_of_another_certificate),
		cmocka_unit_test(chains_that_are_too_long),
	};

	return cmocka_run_group_tests_name("keystore", tests, set_up, tear_down);
}
