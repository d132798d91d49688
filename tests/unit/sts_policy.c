/* Policies of MTA-STS: RFC 8461 section 3.2, and which MX hosts they have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/remote/sts_policy.h"

#define BEGIN "version: STSv1\nmode: enforce\nmax_age: 604800\n"
#define AGED(age) "version: STSv1\nmode: none\nmax_age: " age "\n"
#define NAMED(name) BEGIN "mx: " name "\n"
#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz."

/* want: mode and max_age, or why it is no policy. */
static const struct row { const char *rule, *text, *want; } rows[] = {
	{ "of the RFC", "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n", "enforce 604800" },
	{ "CR LF", "version: STSv1\r\nmode: testing\r\nmx: a.example\r\nmax_age: 1\r\n", "testing 1" },
	{ "no end of the last line", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 12", "testing 12" },
	{ "no end but CR", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 12\r", "testing 12" },
	{ "blanks", "version:STSv1  \nmode: \t testing\t\nmx:a.example \r\n\nmax_age:  1\n\r\n", "testing 1" },
	{ "any order", "mx: a.example\nmax_age: 1\nmode: enforce\nversion: STSv1", "enforce 1" },
	{ "other keys", BEGIN "x-1_2.3: \xc3\xa4 : what\nx:\nmx: a.example\nMX: *\nMode: 7\n", "enforce 604800" },
	{ "the first counts", "version: STSv1\nversion: STSv2\nmode: none\nmode: x\nmax_age: 5\nmax_age: x\n", "none 5" },
	{ "none needs no mx", AGED("0"), "none 0" },
	{ "a year", AGED("31557600"), "none 31557600" },
	{ "C5: ten years", AGED("315576000"), "none 31557600" },
	{ "more than a year", AGED("9999999999"), "none 31557600" },
	{ "eleven digits", AGED("00000000001"), "its max_age is no number of seconds" },
	{ "no digit", AGED(""), "its max_age is no number of seconds" },
	{ "a sign", AGED("-1"), "its max_age is no number of seconds" },
	{ "a fraction", AGED("1.5"), "its max_age is no number of seconds" },
	{ "nothing", "", "it has no version" },
	{ "no version", "mode: none\nmax_age: 1\n", "it has no version" },
	{ "another version", "version: STSv2\nmode: none\nmax_age: 1\n", "it has another version" },
	{ "a version in small letters", "version: stsv1\nmode: none\nmax_age: 1\n", "it has another version" },
	{ "no mode", "version: STSv1\nmax_age: 1\nmx: a.example\n", "it has no mode" },
	{ "a mode that is not known", "version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.example\n", "it has a mode that is not known" },
	{ "no max_age", "version: STSv1\nmode: none\n", "it has no max_age" },
	{ "no mx", BEGIN, "it has no mx" },
	{ "a line without a colon", NAMED("a.example") "nonsense\n", "a line of it makes no sense" },
	{ "a blank before the colon", NAMED("a.example") "x : y\n", "a line of it makes no sense" },
	{ "a blank before the key", NAMED("a.example") " x: y\n", "a line of it makes no sense" },
	{ "no key", NAMED("a.example") ": y\n", "a line of it makes no sense" },
	{ "a key of 33 letters", NAMED("a.example") "a23456789012345678901234567890123: y\n", "a line of it makes no sense" },
	{ "a control octet", NAMED("a.example") "x: \001\n", "a line of it makes no sense" },
	{ "CR in a line", NAMED("a.example") "x: y\rmode: none\n", "a line of it makes no sense" },
	{ "HTML", "<!DOCTYPE html>\n<html><body>404</body></html>\n", "a line of it makes no sense" },
	{ "'*' alone", NAMED("*"), "an mx is no host name" },
	{ "'*.' alone", NAMED("*."), "an mx is no host name" },
	{ "'*' within", NAMED("a.*.example"), "an mx is no host name" },
	{ "'*' in a label", NAMED("a*.example"), "an mx is no host name" },
	{ "a final dot", NAMED("a.example."), "an mx is no host name" },
	{ "an empty label", NAMED("a..example"), "an mx is no host name" },
	{ "an empty mx", NAMED(""), "an mx is no host name" },
	{ "two names", NAMED("a.example b.example"), "an mx is no host name" },
	{ "other letters", NAMED("\xc3\xa4.example"), "an mx is no host name" },
	{ "a name of 252 octets", NAMED(LABEL LABEL LABEL LABEL "x"), "enforce 604800" },
	{ "a name of 254 octets", NAMED(LABEL LABEL LABEL LABEL "xyz"), "an mx is no host name" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
parse_row(void **state)
{
	const struct row *row = *state;
	size_t len = strlen(row->text);
	char *text = memcpy(test_malloc(len + !len), row->text, len);	/* exact size: ASan sees over-reads */
	struct sts_policy p;
	const char *why = sts_policy_parse(&p, text, len);
	char got[100];

	snprintf(got, sizeof got, "%s %u", why ? "" : sts_mode_name(p.mode), p.max_age);
	assert_string_equal(why ? why : got, row->want);
	test_free(text);
}

static void
a_NUL(void **state)
{
	static const char text[] = NAMED("a.example") "x: \0\n";
	struct sts_policy p;

	(void)state;
	assert_string_equal(sts_policy_parse(&p, text, sizeof text - 1), "a line of it makes no sense");
}

static void
the_longest(void **state)
{
	static const char begin[] = NAMED("a.example");
	char *text = test_malloc(STS_POLICY_MAX + 1);
	struct sts_policy p;

	(void)state;
	memset(text, '\n', STS_POLICY_MAX + 1);
	memcpy(text, begin, sizeof begin - 1);
	assert_null(sts_policy_parse(&p, text, STS_POLICY_MAX));
	assert_true(sts_policy_has(&p, "a.example"));
	assert_string_equal(sts_policy_parse(&p, text, STS_POLICY_MAX + 1), "it is too long");
	test_free(text);
}

/* Cut anywhere, and each octet changed to each value: nothing is read that is not there. */
static void
octets_that_are_wrong(void **state)
{
	static const char whole[] = "version: STSv1\r\nmode: enforce\nmx: *.b\nmax_age: 1\n";
	struct sts_policy p;

	(void)state;
	for (size_t len = 0; len < sizeof whole - 1; len++) {
		char *text = memcpy(test_malloc(sizeof whole - 1), whole, sizeof whole - 1);

		for (unsigned int value = 0; value < 256; value++) {
			text[len] = (char)value;
			if (!sts_policy_parse(&p, text, sizeof whole - 1))
				sts_policy_has(&p, "a.b");
		}
		memcpy(text, whole, sizeof whole - 1);
		text = test_realloc(text, len + !len);
		if (len < sizeof whole - 2)
			assert_non_null(sts_policy_parse(&p, text, len));
		test_free(text);
	}
}

static const struct match { const char *host; int is_one; } matches[] = {
	{ "mail.example.com", 1 }, { "MAIL.Example.COM", 1 }, { "ail.example.com", 0 }, { "x.mail.example.com", 0 }, { "example.com", 0 },
	{ "mail.example.co", 0 }, { "mail.example.comm", 0 }, { "a.example.net", 1 }, { "A.EXAMPLE.NET", 1 }, { "a.b.example.net", 0 },
	{ "example.net", 0 }, { ".example.net", 1 }, { "aexample.net", 0 }, { "xn--4ca.example.net", 1 }, { "", 0 }, { "net", 0 },
	{ "other.example", 0 }, { "*.example.net", 1 },
};

static void
hosts_that_are_the_policy_s(void **state)
{
	static const char text[] = "version: STSv1\nmode: testing\nx: other.example\nmx: mail.example.com\nmx: *.Example.net\nmax_age: 1\n";
	struct sts_policy p;

	(void)state;
	assert_null(sts_policy_parse(&p, text, sizeof text - 1));
	for (size_t i = 0; i < sizeof matches / sizeof *matches; i++)
		if (sts_policy_has(&p, matches[i].host) != matches[i].is_one)
			fail_msg("%s", matches[i].host);
}

int
main(void)
{
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(a_NUL), cmocka_unit_test(the_longest), cmocka_unit_test(octets_that_are_wrong),
		cmocka_unit_test(hosts_that_are_the_policy_s),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = parse_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("sts_policy", tests, NULL, NULL);
}
