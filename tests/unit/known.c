/* What is remembered of addresses that deliver, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/known.h"

static struct known k;

static void
remembers_for_a_while(void **state)
{
	(void)state;
	assert_null(known_find(&k, "a@x.example", 1000));
	known_add(&k, "a@x.example", "why", 1000);
	assert_string_equal(known_find(&k, "a@x.example", 1000 + KNOWN_MS - 1), "why");
	assert_null(known_find(&k, "a@x.example", 1000 + KNOWN_MS));
	assert_null(known_find(&k, "A@x.example", 1000));
	assert_null(known_find(&k, "a@x.exampl", 1000));
	assert_null(known_find(&k, "", 1000));
}

static void
forgets(void **state)
{
	(void)state;
	known_add(&k, "a@x.example", "why", 1000);
	known_forget(&k);
	assert_null(known_find(&k, "a@x.example", 1000));
}

static void
what_does_not_fit_is_left_out(void **state)
{
	char address[KNOWN_SIZE + 2];

	(void)state;
	for (size_t len = 1; len < sizeof address; len++) {
		memset(address, 'x', len);
		address[len] = '\0';
		known_add(&k, address, "", 1);
		assert_int_equal(known_find(&k, address, 2) != NULL, len + 2 <= KNOWN_SIZE);
		known_add(&k, "y", address, 1);
		known_add(&k, address, address, 1);
	}
}

/* Many more than there are slots: a found reason is that of the address, always. */
static void
addresses_do_not_mix(void **state)
{
	char address[32];
	unsigned int found = 0;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		snprintf(address, sizeof address, "u%d@x.example", i);
		known_add(&k, address, address, 1);
	}
	for (int i = 0; i < 10000; i++) {
		const char *reason;

		snprintf(address, sizeof address, "u%d@x.example", i);
		reason = known_find(&k, address, 2);
		if (reason)
			assert_string_equal(reason, address);
		found += reason != NULL;
	}
	assert_in_range(found, KNOWN_SLOTS / 2, KNOWN_SLOTS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_for_a_while), cmocka_unit_test(forgets), cmocka_unit_test(what_does_not_fit_is_left_out),
		cmocka_unit_test(addresses_do_not_mix),
	};

	return cmocka_run_group_tests_name("known", tests, NULL, NULL);
}
