/* Domains in the letters of the DNS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/lib/domain.h"

static const struct row { const char *rule, *domain, *want; } rows[] = {
	{ "ASCII stays", "Mail.EXAMPLE", "Mail.EXAMPLE" },
	{ "ASCII stays, whatever it is", "a..b \\", "a..b \\" },
	{ "nothing", "", "" },
	{ "an A-label stays", "xn--bcher-kva.example", "xn--bcher-kva.example" },
	{ "a U-label", "b\xc3\xbc" "cher.example", "xn--bcher-kva.example" },
	{ "lower case", "B\xc3\x9c" "CHER.Example", "xn--bcher-kva.example" },
	{ "composed", "bu\xcc\x88" "cher.example", "xn--bcher-kva.example" },
	{ "not transitional", "fa\xc3\x9f.example", "xn--fa-hia.example" },
	{ "every label", "\xe4\xbe\x8b\xe3\x81\x88.\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88", "xn--r8jz45g.xn--zckzah" },
	{ "an underscore", "_dmarc.\xc3\xbc.example", "_dmarc.xn--tda.example" },
	{ "no UTF-8", "\xff.example", "none" },
	{ "UTF-8 cut short", "a\xc3", "none" },
	{ "a symbol", "\xe2\x98\x83.example", "none" },
	{ "a control character beside", "\xc3\xbc\n.example", "none" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;
	char ascii[DOMAIN_MAX + 1] = "none";

	assert_int_equal(domain_to_ascii(ascii, row->domain), strcmp(row->want, "none") != 0);
	assert_string_equal(ascii, row->want);
}

static void
long_ones(void **state)
{
	char ascii[DOMAIN_MAX + 1], domain[3000];

	(void)state;
	memset(domain, 'a', sizeof domain);
	domain[DOMAIN_MAX] = 0;
	assert_int_equal(domain_to_ascii(ascii, domain), 1);
	domain[DOMAIN_MAX] = 'a';
	domain[DOMAIN_MAX + 1] = 0;
	assert_int_equal(domain_to_ascii(ascii, domain), 0);
	for (size_t i = 0; i + 3 < sizeof domain; i += 3)
		memcpy(domain + i, i % 30 ? "\xc3\xbc" "a" : ".aa", 3);
	domain[sizeof domain - 3] = 0;
	assert_int_equal(domain_to_ascii(ascii, domain), 0);
	domain[600] = 0;
	assert_int_equal(domain_to_ascii(ascii, domain), 0);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 1] = { { NULL } };

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = row_is_right,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(long_ones);
	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
