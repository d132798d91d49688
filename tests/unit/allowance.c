/* What an account may send within an hour. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/allowance.h"

static struct allowance a;
static struct allowance_limits limits;

static int
begin(void **state)
{
	(void)state;
	memset(&a, 0, sizeof a);
	limits.messages = limits.recipients = 0;
	return !allowance_init(&a);
}

enum { HOUR = 3600000, PERIOD = ALLOWANCE_PERIOD_MS };

static void
messages_exactly_and_one_more(void **state)
{
	(void)state;
	limits.messages = 2;
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1000000, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_MESSAGES);
	assert_int_equal(allowance_take(&a, "luis", &limits, 1, 0), ALLOWANCE_OK);	/* another account's is another one */
}

static void
recipients_exactly_and_one_more(void **state)
{
	(void)state;
	limits.recipients = 10;
	assert_int_equal(allowance_take(&a, "ana", &limits, 11, 0), ALLOWANCE_RECIPIENTS);
	assert_int_equal(allowance_take(&a, "ana", &limits, 8, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 3, 0), ALLOWANCE_RECIPIENTS);	/* and nothing is counted */
	assert_int_equal(allowance_take(&a, "ana", &limits, 2, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_RECIPIENTS);
}

static void
without_limits(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(allowance_take(&a, "ana", &limits, UINT32_MAX, 0), ALLOWANCE_OK);
}

/* Never before an hour has passed, and no later than 70 minutes. */
static void
what_was_used_comes_back(void **state)
{
	(void)state;
	limits.messages = 1;
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, PERIOD - 1), ALLOWANCE_OK);
	for (uint64_t now = PERIOD - 1; now < HOUR + PERIOD; now += PERIOD / 10)
		assert_int_equal(allowance_take(&a, "ana", &limits, 1, now), ALLOWANCE_MESSAGES);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, HOUR + PERIOD), ALLOWANCE_OK);
}

static void
in_the_steps_it_was_used_in(void **state)
{
	(void)state;
	limits.recipients = 10;
	assert_int_equal(allowance_take(&a, "ana", &limits, 4, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 6, PERIOD), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 4, 7 * PERIOD), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 7 * PERIOD), ALLOWANCE_RECIPIENTS);
	assert_int_equal(allowance_take(&a, "ana", &limits, 6, 8 * PERIOD), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 8 * PERIOD), ALLOWANCE_RECIPIENTS);
}

static void
after_days_all_is_there(void **state)
{
	(void)state;
	limits.messages = 1;
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 1000 * (uint64_t)HOUR), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 1000 * (uint64_t)HOUR), ALLOWANCE_MESSAGES);
}

/* More accounts than there are places: who sends on keeps the count, as long as the others are older. */
static void
more_accounts_than_places(void **state)
{
	char name[20];

	(void)state;
	limits.messages = 1;
	for (int i = 0; i < 2 * ALLOWANCE_SETS * ALLOWANCE_WAYS; i++) {
		snprintf(name, sizeof name, "user%d", i);
		assert_int_equal(allowance_take(&a, name, &limits, 1, 0), ALLOWANCE_OK);
	}
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, PERIOD), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, PERIOD), ALLOWANCE_MESSAGES);
}

/* As an administrator changes them. */
static void
with_other_limits(void **state)
{
	(void)state;
	limits.messages = 3;
	for (int i = 0; i < 3; i++)
		assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_OK);
	limits.messages = 2;
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_MESSAGES);
	limits.messages = 4;
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_OK);
	assert_int_equal(allowance_take(&a, "ana", &limits, 1, 0), ALLOWANCE_MESSAGES);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, begin)
	const struct CMUnitTest tests[] = {
		TEST(messages_exactly_and_one_more), TEST(recipients_exactly_and_one_more), TEST(without_limits), TEST(what_was_used_comes_back),
		TEST(in_the_steps_it_was_used_in), TEST(after_days_all_is_there), TEST(more_accounts_than_places),
		TEST(with_other_limits),
	};

	return cmocka_run_group_tests_name("allowance", tests, NULL, NULL);
}
