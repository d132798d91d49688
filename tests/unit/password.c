/* Hashes of passwords: who logs in, and that everybody else pays the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "users/password.h"

/* "open sesame" */
#define MD5 "$1$saltsalt$Yo6tRKYGO/jWyb1etwHDS/"

static void
new_hash(void **state)
{
	char a[PASSWORD_HASH_MAX], b[PASSWORD_HASH_MAX];

	(void)state;
	assert_int_equal(password_hash(a, "open sesame"), 1);
	assert_int_equal(password_hash(b, "open sesame"), 1);
	assert_memory_equal(a, "$y$", 3);
	assert_string_not_equal(a, b);	/* a salt each */
	assert_true(password_is_hash(a));
	assert_int_equal(password_check(a, NULL, "open sesame"), 1);
	assert_int_equal(password_check(a, NULL, "Open sesame"), 0);
	assert_int_equal(password_check(a, NULL, "open sesame "), 0);
	assert_int_equal(password_check(a, NULL, ""), 0);
	assert_int_equal(password_check(a, b, "open sesame"), 1);
}

static void
other_methods(void **state)
{
	(void)state;
	assert_int_equal(password_check(MD5, NULL, "open sesame"), 1);
	assert_int_equal(password_check(MD5, NULL, "x"), 0);
}

/* What nobody logs in with: neither with a password, nor with the hash itself, nor with nothing. */
static void
no_login(void **state)
{
	static const char *const hashes[] = { NULL, "", "*", "!", "!" MD5, "*0", "*1", "x", "$", "$y$", "$unknown$x$y", MD5 "\n" };

	(void)state;
	for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
		assert_int_equal(password_check(hashes[i], MD5, "open sesame"), 0);
		assert_int_equal(password_check(hashes[i], MD5, ""), 0);
		if (hashes[i])
			assert_int_equal(password_check(hashes[i], MD5, hashes[i]), 0);
	}
}

static void
methods(void **state)
{
	(void)state;
	assert_true(password_is_hash(MD5));
	assert_true(password_is_hash("$6$saltsalt$x"));
	assert_false(password_is_hash(""));
	assert_false(password_is_hash("*"));
	assert_false(password_is_hash("!" MD5));
	assert_false(password_is_hash("secret"));	/* by DES a salt, and the rest */
	assert_false(password_is_hash("$unknown$x$y"));
}

/* The cheapest first; what is equal is in one string, apart. */
static void
costs(void **state)
{
	static const char *const hashes[] = {
		"*", "$3$$8846f7eaee8fb117ad06bdd830b7586c", MD5, "$5$rounds=1000$saltsalt$x", "$5$saltsalt$x", "$5$rounds=5001$saltsalt$x",
		"$6$rounds=1000$saltsalt$x", "$6$saltsalt$x", "$6$rounds=999999999$saltsalt$x", "$2b$05$abcdefghijklmnopqrstuu",
		"$2y$12$abcdefghijklmnopqrstuu", "$7$BU..../....saltsalt", "$7$CU..../....saltsalt", "$y$j75$saltsalt", "$y$j8T$saltsalt",
		"$y$j9T$saltsalt", "$y$jAT$saltsalt", "$y$jFT$saltsalt",
	};

	(void)state;
	for (size_t i = 1; i < sizeof hashes / sizeof *hashes; i++) {
		if (password_cost(hashes[i]) <= password_cost(hashes[i - 1]))
			print_message("%s and %s\n", hashes[i - 1], hashes[i]);
		assert_true(password_cost(hashes[i]) > password_cost(hashes[i - 1]));
	}
	assert_true(password_cost("$5$rounds=5000$saltsalt$x") == password_cost("$5$saltsalt$x"));
	assert_true(password_cost("") == 0 && password_cost("!" MD5) == 0 && password_cost("$unknown$x$y") == 0);
}

/* As long as a login may be. */
static void
long_password(void **state)
{
	char hash[PASSWORD_HASH_MAX], password[511];

	(void)state;
	memset(password, 'x', sizeof password - 1);
	password[sizeof password - 1] = '\0';
	assert_int_equal(password_check(MD5, NULL, password), 0);
	password[PASSWORD_MAX] = '\0';
	assert_int_equal(password_hash(hash, password), 1);
	assert_int_equal(password_check(hash, NULL, password), 1);
	password[PASSWORD_MAX - 1] = 'y';
	assert_int_equal(password_check(hash, NULL, password), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_hash), cmocka_unit_test(other_methods), cmocka_unit_test(no_login), cmocka_unit_test(methods),
		cmocka_unit_test(costs), cmocka_unit_test(long_password),
	};

	return cmocka_run_group_tests_name("password", tests, NULL, NULL);
}
