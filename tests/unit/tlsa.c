/* TLSA records: which are of use, and what they name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <bearssl.h>
#include "bin-src/remote/tlsa.h"
#include "certificate.h"
#include "der.h"
#include "pem.h"

enum { PARAMETERS = 3 };

static struct der below, other;

static int
set_up(void **state)
{
	(void)state;
	below = der_of(PEM_BELOW);
	other = der_of(PEM_EXPIRED);
	return 0;
}

/* --- which are of use ------------------------------------------------------------------------------------------------- */

/* data: octets after the parameters, all zero; with CERTIFICATE a whole certificate. */
enum { CERTIFICATE = -1 };
static const struct usable { const char *rule; unsigned char parameters[PARAMETERS]; int data, want; } usables[] = {
	{ "PKIX-TA", { 0, 0, 1 }, 32, 0 },
	{ "PKIX-EE", { 1, 1, 1 }, 32, 0 },
	{ "DANE-TA", { 2, 0, 1 }, 32, 1 },
	{ "DANE-EE", { 3, 1, 1 }, 32, 1 },
	{ "no usage", { 4, 1, 1 }, 32, 0 },
	{ "a private usage", { 255, 1, 1 }, 32, 0 },
	{ "no selector", { 3, 2, 1 }, 32, 0 },
	{ "no matching type", { 3, 1, 3 }, 32, 0 },
	{ "SHA-256, short", { 3, 1, 1 }, 31, 0 },
	{ "SHA-256, long", { 3, 1, 1 }, 33, 0 },
	{ "SHA-512", { 3, 1, 2 }, 64, 1 },
	{ "SHA-512, short", { 3, 1, 2 }, 32, 0 },
	{ "a certificate", { 2, 0, 0 }, CERTIFICATE, 1 },
	{ "no certificate", { 2, 0, 0 }, 100, 0 },
	{ "a key", { 3, 1, 0 }, 91, 1 },
	{ "no data", { 3, 1, 0 }, 0, 0 },
};
enum { USABLES = sizeof usables / sizeof *usables };

/* From memory of exactly this size. */
static int
reads(const void *rdata, size_t len)
{
	unsigned char *copy = memcpy(test_malloc(len ? len : 1), rdata, len);
	struct tlsa t;
	int r = tlsa_read(&t, copy, len);

	if (r) {
		assert_ptr_equal(t.data, copy + PARAMETERS);
		assert_int_equal(t.len, len - PARAMETERS);
	}
	test_free(copy);
	return r;
}

static void
usable_row(void **state)
{
	const struct usable *row = *state;
	unsigned char rdata[PARAMETERS + DER_MAX] = { 0 };
	size_t len = row->data == CERTIFICATE ? below.len : (size_t)row->data;

	memcpy(rdata, row->parameters, PARAMETERS);
	if (row->data == CERTIFICATE)
		memcpy(rdata + PARAMETERS, below.s, below.len);
	assert_int_equal(reads(rdata, PARAMETERS + len), row->want);
}

static void
no_octet_may_be_missing(void **state)
{
	(void)state;
	for (size_t len = 0; len <= PARAMETERS; len++)
		assert_int_equal(reads("\3\1\1", len), 0);
}

/* --- what they name ------------------------------------------------------------------------------------------------------- */

/* What the record says of a certificate, in data. Returns its octets. */
static size_t
associate(unsigned char *data, const struct der *der, unsigned char selector, unsigned char matching)
{
	struct certificate c;
	const unsigned char *s = der->s;
	size_t len = der->len;
	br_sha256_context sha256;
	br_sha512_context sha512;

	assert_int_equal(certificate_read(&c, der->s, der->len), 1);
	if (selector == TLSA_KEY) {
		s = c.key;
		len = c.key_len;
	}
	switch (matching) {
	case TLSA_SHA256:
		br_sha256_init(&sha256);
		br_sha256_update(&sha256, s, len);
		br_sha256_out(&sha256, data);
		return br_sha256_SIZE;
	case TLSA_SHA512:
		br_sha512_init(&sha512);
		br_sha512_update(&sha512, s, len);
		br_sha512_out(&sha512, data);
		return br_sha512_SIZE;
	}
	memcpy(data, s, len);
	return len;
}

static const struct named { const char *rule; unsigned char parameters[PARAMETERS]; } nameds[] = {
	{ "the certificate", { 2, 0, 0 } }, { "its SHA-256", { 2, 0, 1 } }, { "its SHA-512", { 3, 0, 2 } },
	{ "the key", { 3, 1, 0 } }, { "the key's SHA-256", { 3, 1, 1 } }, { "the key's SHA-512", { 2, 1, 2 } },
};
enum { NAMEDS = sizeof nameds / sizeof *nameds };

/* That one and no other; and not if the last octet is another, or is missing. */
static void
named_row(void **state)
{
	const struct named *row = *state;
	unsigned char rdata[PARAMETERS + DER_MAX];
	struct tlsa t;
	size_t len;

	memcpy(rdata, row->parameters, PARAMETERS);
	len = PARAMETERS + associate(rdata + PARAMETERS, &below, row->parameters[1], row->parameters[2]);
	assert_int_equal(tlsa_read(&t, rdata, len), 1);
	assert_int_equal(t.usage, row->parameters[0]);
	assert_true(tlsa_matches(&t, below.s, below.len));
	assert_false(tlsa_matches(&t, other.s, other.len));
	assert_false(tlsa_matches(&t, below.s, below.len - 1));
	assert_false(tlsa_matches(&t, below.s, 0));
	rdata[len - 1] ^= 1;
	assert_false(tlsa_matches(&t, below.s, below.len));
}

/* --- digests that are weaker than others -------------------------------------------------------------------------------- */

/* Records as USAGE SELECTOR MATCHING. */
static const struct strongest { const char *rule, *records, *want; } strongests[] = {
	{ "one", "311", "311" },
	{ "none", "", "" },
	{ "the stronger, at the end", "311 312", "312" },
	{ "the stronger, at the front", "312 311 311", "312" },
	{ "two of the same", "311 311", "311 311" },
	{ "of another usage", "211 312", "211 312" },
	{ "of another selector", "301 312", "301 312" },
	{ "whole ones stay", "310 311 312 310", "310 312 310" },
	{ "a whole one is not stronger than a digest", "310 311", "310 311" },
};
enum { STRONGESTS = sizeof strongests / sizeof *strongests };

static void
strongest_row(void **state)
{
	const struct strongest *row = *state;
	struct tlsa records[8];
	char got[64] = "";
	size_t len = 0;

	for (const char *s = row->records; *s; s += s[3] ? 4 : 3)
		records[len++] = (struct tlsa){ (enum tlsa_usage)(s[0] - '0'), (enum tlsa_selector)(s[1] - '0'), (enum tlsa_matching)(s[2] - '0'), NULL, 0 };
	len = tlsa_keep_strongest(records, len);
	for (size_t i = 0; i < len; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d%d%d", i ? " " : "", (int)records[i].usage, (int)records[i].selector,
		    (int)records[i].matching);
	assert_string_equal(got, row->want);
}

int
main(void)
{
	struct CMUnitTest tests[USABLES + NAMEDS + STRONGESTS + 1], *next = tests;

	for (size_t i = 0; i < USABLES; i++)
		*next++ = (struct CMUnitTest){ .name = usables[i].rule, .test_func = usable_row, .initial_state = (void *)(uintptr_t)&usables[i] };
	for (size_t i = 0; i < NAMEDS; i++)
		*next++ = (struct CMUnitTest){ .name = nameds[i].rule, .test_func = named_row, .initial_state = (void *)(uintptr_t)&nameds[i] };
	for (size_t i = 0; i < STRONGESTS; i++)
		*next++ = (struct CMUnitTest){ .name = strongests[i].rule, .test_func = strongest_row, .initial_state = (void *)(uintptr_t)&strongests[i] };
	*next = (struct CMUnitTest)cmocka_unit_test(no_octet_may_be_missing);
	return cmocka_run_group_tests_name("tlsa", tests, set_up, NULL);
}
