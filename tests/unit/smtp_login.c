/* What a client says to log in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/remote/smtp_login.h"

static char text[SMTP_LOGIN_TEXT_MAX];

/* The examples of RFC 4648 section 10. */
static void
octets_of_all_lengths(void **state)
{
	static const struct { const char *s, *want; } rows[] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" }, { "\xff\xfe\xfb", "//77" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(smtp_login_encode(text, rows[i].s, strlen(rows[i].s)), 1);
		assert_string_equal(text, rows[i].want);
	}
}

/* RFC 4616 section 4. */
static void
plain(void **state)
{
	(void)state;
	assert_int_equal(smtp_login_plain(text, "tim", "tanstaaftanstaaf"), 1);
	assert_string_equal(text, "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
	assert_int_equal(smtp_login_plain(text, "tim", ""), 1);
	assert_string_equal(text, "AHRpbQA=");
}

static void
the_longest_fits(void **state)
{
	char longest[SMTP_LOGIN_MAX + 1], longer[SMTP_LOGIN_MAX + 2];

	(void)state;
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	assert_int_equal(smtp_login_plain(text, longest, longest), 1);
	assert_int_equal(strlen(text), sizeof text - 1);
	assert_int_equal(smtp_login_plain(text, longer, "x"), 0);
	assert_int_equal(smtp_login_plain(text, "x", longer), 0);
	assert_int_equal(smtp_login_encode(text, longest, 2 * SMTP_LOGIN_MAX + 3), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(octets_of_all_lengths), cmocka_unit_test(plain), cmocka_unit_test(the_longest_fits),
	};

	return cmocka_run_group_tests_name("smtp_login", tests, NULL, NULL);
}
