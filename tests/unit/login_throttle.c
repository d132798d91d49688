/* Failed logins slow down those of the same address and account, and nobody else's; row P14 of the hostile inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/users/login_throttle.h"

static struct login_throttle t;
static uint64_t now;

static int
set_up(void **state)
{
	(void)state;
	memset(&t, 0, sizeof t);
	now = 1000000;
	return !login_throttle_init(&t);
}

static uint64_t
admit(struct login_throttle_ticket *ticket, const char *ip, const char *account)
{
	ip46 address;

	memset(&address, 0x55, sizeof address);	/* what an IPv4 address leaves is no part of it */
	assert_int_equal(ip46_scan(ip, &address), strlen(ip));
	return login_throttle_admit(&t, ticket, &address, account, now);
}

/* One attempt that is wrong; returns what it had to wait. */
static uint64_t
wrong(const char *ip, const char *account)
{
	struct login_throttle_ticket ticket;
	uint64_t wait = admit(&ticket, ip, account);

	if (wait != LOGIN_THROTTLE_TOO_MANY)
		login_throttle_wrong(&t, &ticket, now);
	return wait;
}

static uint64_t
right(const char *ip, const char *account)
{
	struct login_throttle_ticket ticket;
	uint64_t wait = admit(&ticket, ip, account);

	if (wait != LOGIN_THROTTLE_TOO_MANY)
		login_throttle_right(&t, &ticket, now);
	return wait;
}

/* An account for each attempt. */
static uint64_t
wrong_of(const char *ip, unsigned int n)
{
	char account[20];

	sprintf(account, "user%u", n);
	return wrong(ip, account);
}

static void
an_address(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_FREE; i++)
		assert_int_equal(wrong_of("192.0.2.1", i), 0);
	for (unsigned int i = LOGIN_THROTTLE_FREE; i < LOGIN_THROTTLE_ADDRESS_MOST; i++)
		assert_int_equal(wrong_of("192.0.2.1", i), (i + 1 - LOGIN_THROTTLE_FREE) * 1000);
	assert_true(wrong_of("192.0.2.1", 99) == LOGIN_THROTTLE_TOO_MANY);
	assert_int_equal(wrong_of("192.0.2.2", 99), 0);
	now += LOGIN_THROTTLE_FORGIVE_MS;
	assert_int_equal(wrong_of("192.0.2.1", 100), LOGIN_THROTTLE_WAIT_MS);
	assert_true(wrong_of("192.0.2.1", 101) == LOGIN_THROTTLE_TOO_MANY);
	now += LOGIN_THROTTLE_FORGIVE_MS * LOGIN_THROTTLE_ADDRESS_MOST;
	assert_int_equal(wrong_of("192.0.2.1", 102), 0);
}

static void
an_ipv6_address_is_a_network(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_FREE; i++)
		wrong_of("2001:db8::1", i);
	assert_int_equal(wrong_of("2001:db8::ffff:2", 99), 1000);
	assert_int_equal(wrong_of("2001:db8:0:1::1", 99), 0);
}

static void
an_account(void **state)
{
	char ip[30];
	uint64_t wait = 0;

	(void)state;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_ACCOUNT_MOST; i++) {
		sprintf(ip, "192.0.%u.%u", i / 100, i % 100);
		wait = wrong(ip, i % 2 ? "ana" : "ANA");
	}
	assert_int_equal(wait, LOGIN_THROTTLE_WAIT_MS);
	assert_true(wrong("198.51.100.1", "Ana") == LOGIN_THROTTLE_TOO_MANY);
	assert_int_equal(wrong("198.51.100.1", "luis"), 0);
}

static void
right_ones_cost_nothing(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3 * LOGIN_THROTTLE_ACCOUNT_MOST; i++)
		assert_int_equal(right("192.0.2.1", "ana"), 0);
}

static void
what_cannot_be_known_costs_nothing(void **state)
{
	struct login_throttle_ticket ticket;

	(void)state;
	for (unsigned int i = 0; i < 3 * LOGIN_THROTTLE_ACCOUNT_MOST; i++) {
		assert_int_equal(admit(&ticket, "192.0.2.1", "ana"), 0);
		login_throttle_unknown(&t, &ticket);
	}
}

/* Charged when they come in, not when they end. */
static void
many_at_once(void **state)
{
	struct login_throttle_ticket ticket;

	(void)state;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_ADDRESS_MOST; i++)
		assert_true(admit(&ticket, "192.0.2.1", "ana") != LOGIN_THROTTLE_TOO_MANY);
	assert_true(admit(&ticket, "192.0.2.1", "ana") == LOGIN_THROTTLE_TOO_MANY);
}

static void
who_is_known_is_not_held_up(void **state)
{
	char ip[30];

	(void)state;
	assert_int_equal(right("198.51.100.1", "ana"), 0);
	for (unsigned int i = 0; i < 2 * LOGIN_THROTTLE_ACCOUNT_MOST; i++) {
		sprintf(ip, "192.0.%u.%u", i / 100, i % 100);
		wrong(ip, "ana");
	}
	assert_int_equal(right("198.51.100.1", "ana"), 0);
	assert_true(right("198.51.100.2", "ana") == LOGIN_THROTTLE_TOO_MANY);
	/* until it fails */
	assert_int_equal(wrong("198.51.100.1", "ana"), 0);
	assert_true(right("198.51.100.1", "ana") == LOGIN_THROTTLE_TOO_MANY);
}

static void
nobody_is_known_for_ever(void **state)
{
	(void)state;
	right("192.0.2.1", "ana");
	now += LOGIN_THROTTLE_KNOWN_MS;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_ADDRESS_MOST; i++)
		wrong_of("192.0.2.1", i);
	assert_true(right("192.0.2.1", "ana") == LOGIN_THROTTLE_TOO_MANY);
}

static void
without_an_address(void **state)
{
	struct login_throttle_ticket ticket;

	(void)state;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_ACCOUNT_MOST; i++)
		assert_true(login_throttle_admit(&t, &ticket, NULL, "ana", now) != LOGIN_THROTTLE_TOO_MANY);
	assert_true(login_throttle_admit(&t, &ticket, NULL, "ana", now) == LOGIN_THROTTLE_TOO_MANY);
	assert_int_equal(login_throttle_admit(&t, &ticket, NULL, "luis", now), 0);
}

/* The one with most to be forgiven stays where 100,000 others come and go. */
static void
many_addresses(void **state)
{
	char ip[30];

	(void)state;
	for (unsigned int i = 0; i < LOGIN_THROTTLE_ADDRESS_MOST; i++)
		wrong_of("192.0.2.1", i);
	for (unsigned int i = 0; i < 100000; i++) {
		sprintf(ip, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		wrong_of(ip, i);
	}
	assert_true(wrong_of("192.0.2.1", 99) == LOGIN_THROTTLE_TOO_MANY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(an_address, set_up), cmocka_unit_test_setup(an_ipv6_address_is_a_network, set_up),
		cmocka_unit_test_setup(an_account, set_up), cmocka_unit_test_setup(right_ones_cost_nothing, set_up),
		cmocka_unit_test_setup(what_cannot_be_known_costs_nothing, set_up), cmocka_unit_test_setup(many_at_once, set_up),
		cmocka_unit_test_setup(who_is_known_is_not_held_up, set_up), cmocka_unit_test_setup(nobody_is_known_for_ever, set_up),
		cmocka_unit_test_setup(without_an_address, set_up), cmocka_unit_test_setup(many_addresses, set_up),
	};

	return cmocka_run_group_tests_name("login_throttle", tests, NULL, NULL);
}
