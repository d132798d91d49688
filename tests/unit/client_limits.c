/* Connections of an address and of a network are counted right, in whatever order they come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "client_limits.h"

static const char letters[] = { [CLIENT_LIMITS_FINE] = '.', [CLIENT_LIMITS_ALL] = 'c', [CLIENT_LIMITS_ADDRESS] = 'a', [CLIENT_LIMITS_PREFIX] = 'n' };

/* steps: "+ADDRESS" a connection, "-ADDRESS" its end; want: a letter for each connection. At most 6 in all, 2 of an
 * address, 4 of a network. */
static const struct row { const char *rule, *steps, *want; } rows[] = {
	{ "of one address", "+1.2.3.4 +1.2.3.4 +1.2.3.4 +1.2.3.5", "..a." },
	{ "of one network", "+1.2.3.1 +1.2.3.2 +1.2.3.3 +1.2.3.4 +1.2.3.5 +1.2.4.5", "....n." },
	{ "in all", "+1.1.1.1 +2.1.1.1 +3.1.1.1 +4.1.1.1 +5.1.1.1 +6.1.1.1 +7.1.1.1", "......c" },
	{ "what has ended counts no more", "+1.2.3.4 +1.2.3.4 -1.2.3.4 +1.2.3.4 +1.2.3.4", "...a" },
	{ "what was refused does not count", "+1.2.3.4 +1.2.3.4 +1.2.3.4 -1.2.3.4 -1.2.3.4 +1.2.3.4 +1.2.3.4", "..a.." },
	{ "one IPv6 address", "+2001:db8::1 +2001:db8::1 +2001:db8::1 +2001:db8::2", "..a." },
	{ "an IPv6 network has 64 bits", "+2001:db8::1 +2001:db8:0:0:1::2 +2001:db8::3 +2001:db8::4 +2001:db8:0:0:ffff::5 +2001:db8:0:1::1",
	    "....n." },
	{ "IPv4 and IPv6 with the same bits", "+::102:304 +102:304:: +0.0.0.0 +0.0.0.0 +:: +::", "......" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
steps_row(void **state)
{
	const struct row *row = *state;
	struct client_limits l;
	char *steps = strdup(row->steps), *save = NULL, got[64] = "";
	size_t n = 0;

	assert_int_equal(client_limits_init(&l, 6, 2, 4), 1);
	for (char *s = strtok_r(steps, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		ip46 address;

		memset(&address, 0x55, sizeof address);	/* what an IPv4 address leaves is no part of it */
		assert_int_equal(ip46_scan(s + 1, &address), strlen(s + 1));
		if (*s == '-')
			client_limits_give(&l, &address);
		else
			got[n++] = letters[client_limits_take(&l, &address)];
	}
	assert_string_equal(got, row->want);
	client_limits_free(&l);
	free(steps);
}

/* Many addresses, at random, against plain counting. */
static void
random_steps(void **state)
{
	enum { ADDRESSES = 64, STEPS = 200000 };
	unsigned int counts[ADDRESSES] = { 0 }, all = 0;
	struct client_limits l;

	(void)state;
	srand(1);
	assert_int_equal(client_limits_init(&l, 100, 5, 1000), 1);
	for (int i = 0; i < STEPS; i++) {
		int a = rand() % ADDRESSES;
		char octets[4] = { 10, (char)(a % 3), (char)(a * 7), (char)a };
		ip46 address = IP46_ZERO;

		ip46_from_ip4(&address, octets);
		if (rand() % 2 && counts[a]) {
			client_limits_give(&l, &address);
			counts[a]--;
			all--;
		} else {
			enum client_limits_answer want = all == 100 ? CLIENT_LIMITS_ALL : counts[a] == 5 ? CLIENT_LIMITS_ADDRESS : CLIENT_LIMITS_FINE;

			assert_int_equal(client_limits_take(&l, &address), want);
			counts[a] += want == CLIENT_LIMITS_FINE;
			all += want == CLIENT_LIMITS_FINE;
		}
		assert_int_equal(l.count, all);
	}
	for (int a = 0; a < ADDRESSES; a++)
		for (; counts[a]; counts[a]--) {
			char octets[4] = { 10, (char)(a % 3), (char)(a * 7), (char)a };
			ip46 address = IP46_ZERO;

			ip46_from_ip4(&address, octets);
			client_limits_give(&l, &address);
		}
	for (size_t i = 0; i <= l.mask; i++)
		assert_int_equal(l.entries[i].count, 0);
	client_limits_free(&l);
}

static void
connections_of_a_network(void **state)
{
	static const struct { const char *address; size_t after; } steps[] = { { "10.0.0.1", 1 }, { "10.0.0.200", 2 }, { "10.0.1.1", 1 },
	    { "2001:db8::1", 1 }, { "2001:db8::ff:1", 2 }, { "2001:db8:0:1::1", 1 }, { "10.0.0.1", 3 } };
	struct client_limits l;
	ip46 address;

	(void)state;
	assert_int_equal(client_limits_init(&l, 100, 5, 100), 1);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		assert_int_equal(ip46_scan(steps[i].address, &address), strlen(steps[i].address));
		assert_int_equal(client_limits_of_prefix(&l, &address), steps[i].after - 1);
		assert_int_equal(client_limits_take(&l, &address), CLIENT_LIMITS_FINE);
		assert_int_equal(client_limits_of_prefix(&l, &address), steps[i].after);
	}
	client_limits_give(&l, &address);
	assert_int_equal(client_limits_of_prefix(&l, &address), 2);
	client_limits_free(&l);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = steps_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(random_steps);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(connections_of_a_network);
	return cmocka_run_group_tests_name("client_limits", tests, NULL, NULL);
}
