/* Names in certificates, and octets that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "certificate.h"

/* A certificate as far as anybody looks: version, serial number, algorithm, issuer "a", validity, subject "b", key, extensions. */
#define PARTS "\xa0\x03\x02\x01\x02" "\x02\x01\x05" "\x30\x00" "\x30\x01" "a" "\x30\x00" "\x30\x01" "b" "\x30\x00"
static const char whole[] = "\x30\x3b\x30\x39" PARTS "\xa3\x23\x30\x21"
	"\x30\x03\x06\x01\x01"		/* an extension that is not known */
	"\x30\x1a\x06\x03\x55\x1d\x11\x01\x01\xff\x04\x10" "\x30\x0e" "\x82\x03" "A.b" "\x82\x03" "a/b" "\x87\x02\x01\x01";
enum { LEN = sizeof whole - 1 };

/* Reads it from memory of exactly this size. Returns what certificate_names says, -1 if there is no certificate. */
static int
read_names(stralloc *names, const char *s, size_t len)
{
	unsigned char *copy = memcpy(test_malloc(len ? len : 1), s, len);
	struct certificate c;
	int r = certificate_read(&c, copy, len) ? certificate_names(names, &c) : -1;

	test_free(copy);
	return r;
}

static void
names_are_found(void **state)
{
	stralloc names = STRALLOC_ZERO;

	(void)state;
	assert_int_equal(read_names(&names, whole, LEN), 1);
	assert_int_equal(names.len, 4);
	assert_memory_equal(names.s, "a.b", 4);
	stralloc_free(&names);
}

static void
no_octet_may_be_missing(void **state)
{
	stralloc names = STRALLOC_ZERO;

	(void)state;
	for (size_t len = 0; len < LEN; len++)
		assert_int_equal(read_names(&names, whole, len), -1);
	assert_int_equal(names.len, 0);
	stralloc_free(&names);
}

/* Each octet, each value: no read beyond the end, which ASan would see, and no name that a host cannot have. */
static void
octets_that_are_wrong(void **state)
{
	char s[LEN];
	stralloc names = STRALLOC_ZERO;

	(void)state;
	for (size_t at = 0; at < LEN; at++)
		for (int value = 0; value < 256; value++) {
			memcpy(s, whole, LEN);
			s[at] = (char)value;
			names.len = 0;
			read_names(&names, s, LEN);
			for (size_t i = 0; i < names.len; i++)
				assert_non_null(strchr("abcdefghijklmnopqrstuvwxyz0123456789.-_*", names.s[i]));
		}
	stralloc_free(&names);
}

static void
signed_by_itself(void **state)
{
	char s[LEN];
	struct certificate c;

	(void)state;
	assert_int_equal(certificate_read(&c, (const unsigned char *)whole, LEN), 1);
	assert_int_equal(certificate_is_self_signed(&c), 0);
	memcpy(s, whole, LEN);
	*(char *)memchr(s, 'b', LEN) = 'a';
	assert_int_equal(certificate_read(&c, (const unsigned char *)s, LEN), 1);
	assert_int_equal(certificate_is_self_signed(&c), 1);
}

static void
hosts(void **state)
{
	static const struct { const char *host; int is_for; } rows[] = {
		{ "a.b", 2 }, { "x.c.d", 1 }, { "x.y.c.d", 0 }, { "c.d", 0 }, { ".c.d", 0 }, { "*.c.d", 2 }, { "", 0 }, { "a", 0 }, { "a.b.", 0 },
	};
	stralloc names = { .s = (char *)(uintptr_t)"*.c.d\0a.b", .len = 10 };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(certificate_is_for(&names, rows[i].host), rows[i].is_for);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(no_octet_may_be_missing),
		cmocka_unit_test(octets_that_are_wrong),
		cmocka_unit_test(signed_by_itself),
		cmocka_unit_test(hosts),
	};

	return cmocka_run_group_tests_name("certificate", tests, NULL, NULL);
}
