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

/* The name without the dot that ends it, and the form in ASCII that is looked up ("none": the name itself). */
static const struct dot_row { const char *rule, *domain, *name, *other; } dot_rows[] = {
	{ "no final dot", "a.example", "a.example", "none" },
	{ "a final dot", "a.Example.", "a.Example", "none" },
	{ "one label", "a.", "a", "none" },
	{ "a final dot in other letters", "\xc3\xbc.example.", "\xc3\xbc.example", "xn--tda.example" },
	{ "an ideographic dot", "a.example\xe3\x80\x82", "a.example\xe3\x80\x82", "a.example" },
	{ "the root stays", ".", ".", "none" },
	{ "nothing stays", "", "", "none" },
	{ "two dots stay: no name ends so", "a.example..", "a.example..", "none" },
	{ "two dots of both kinds", "a.example.\xe3\x80\x82", "a.example.\xe3\x80\x82", "a.example.." },
};
enum { DOT_ROWS = sizeof dot_rows / sizeof *dot_rows };

static void
dot_row_is_right(void **state)
{
	const struct dot_row *row = *state;
	char name[DOMAIN_UTF8_MAX + 1], ascii[DOMAIN_MAX + 1];
	const char *other = domain_other_form(ascii, row->domain);

	assert_string_equal(domain_without_dot(name, row->domain), row->name);
	assert_string_equal(other ? other : "none", row->other);
}

static void
the_final_dot_of_a_long_one(void **state)
{
	static char domain[DOMAIN_UTF8_MAX + 3], name[DOMAIN_UTF8_MAX + 1];

	(void)state;
	memset(domain, 'a', sizeof domain - 1);
	domain[DOMAIN_UTF8_MAX] = '.';
	domain[DOMAIN_UTF8_MAX + 1] = '\0';
	assert_int_equal(strlen(domain_without_dot(name, domain)), DOMAIN_UTF8_MAX);
	domain[DOMAIN_UTF8_MAX] = 'a';
	domain[DOMAIN_UTF8_MAX + 1] = '.';
	assert_ptr_equal(domain_without_dot(name, domain), domain);
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
	struct CMUnitTest tests[ROWS + DOT_ROWS + 2] = { { NULL } };

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = row_is_right,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < DOT_ROWS; i++)
		tests[ROWS + i] = (struct CMUnitTest){ .name = dot_rows[i].rule, .test_func = dot_row_is_right,
		    .initial_state = (void *)(uintptr_t)&dot_rows[i] };
	tests[ROWS + DOT_ROWS] = (struct CMUnitTest)cmocka_unit_test(long_ones);
	tests[ROWS + DOT_ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(the_final_dot_of_a_long_one);
	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
