/* "Is it me": addresses of this host in all their forms, and the two files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/lib/ip_address.h"
#include "directory.h"
#include "localaddress.h"


static const struct row { const char *rule, *more, *not, *address; int want; } rows[] = {
	{ "loopback", "", "", "127.0.0.1", 1 },
	{ "all of 127/8", "", "", "127.255.0.9", 1 },
	{ "0.0.0.0", "", "", "0.0.0.0", 1 },
	{ "0.1.2.3", "", "", "0.1.2.3", 1 },
	{ "::", "", "", "::", 1 },
	{ "::1", "", "", "::1", 1 },
	{ "IPv4-mapped", "", "", "::ffff:127.0.0.1", 1 },
	{ "IPv4-mapped 0.0.0.0", "", "", "::ffff:0.0.0.0", 1 },
	{ "IPv4-compatible", "", "", "::127.0.0.1", 1 },
	{ "NAT64", "", "", "64:ff9b::7f00:1", 1 },
	{ "multicast", "", "", "224.0.0.1", 1 },
	{ "the end of multicast", "", "", "239.255.255.255", 1 },
	{ "IPv6 multicast", "", "", "ff02::1", 1 },
	{ "broadcast", "", "", "255.255.255.255", 1 },
	{ "another host", "", "", "198.51.100.7", 0 },
	{ "another host, IPv6", "", "", "2001:db8::7", 0 },
	{ "one of moreipme", "198.51.100.7\n", "", "198.51.100.7", 1 },
	{ "one of moreipme, mapped", "198.51.100.7\n", "", "::ffff:198.51.100.7", 1 },
	{ "moreipme written mapped", "::ffff:198.51.100.7\n", "", "198.51.100.7", 1 },
	{ "a mapped prefix of moreipme", "::ffff:198.51.100.0/120\n", "", "198.51.100.77", 1 },
	{ "beside one of moreipme", "198.51.100.7\n", "", "198.51.100.6", 0 },
	{ "a prefix of moreipme", "198.51.100.0/30\n", "", "198.51.100.3", 1 },
	{ "beyond the prefix", "198.51.100.0/30\n", "", "198.51.100.4", 0 },
	{ "a prefix of IPv6", "2001:db8::/33\n", "", "2001:db8:7fff::1", 1 },
	{ "beyond the prefix of IPv6", "2001:db8::/33\n", "", "2001:db8:8000::1", 0 },
	{ "a prefix of 0 bits is all IPv4", "0.0.0.0/0\n", "", "198.51.100.7", 1 },
	{ "a prefix of 0 bits of IPv4 is no IPv6", "0.0.0.0/0\n", "", "2001:db8::1", 0 },
	{ "notipme", "", "127.0.0.2\n", "127.0.0.2", 0 },
	{ "beside notipme", "", "127.0.0.2\n", "127.0.0.1", 1 },
	{ "notipme takes away ::1", "", "::1\n", "::1", 0 },
	{ "notipme wins", "198.51.100.7\n", "198.51.100.0/24\n", "198.51.100.7", 0 },
	{ "nothing takes 0.0.0.0 away", "", "0.0.0.0/0\n", "0.0.0.0", 1 },
	{ "nothing takes :: away", "", "::\n", "::", 1 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
address_row(void **state)
{
	const struct row *row = *state;
	struct localaddresses l;
	ip46 ip;

	directory_write("control/moreipme", row->more);
	directory_write("control/notipme", row->not);
	assert_int_equal(localaddresses_read(&l), 1);
	assert_int_equal(ip_address_parse(&ip, row->address), 1);
	assert_int_equal(localaddress_is(&l, &ip), row->want);
	localaddresses_free(&l);
}

static void
nonsense_is_an_error(void **state)
{
	static const char *const lines[] = { "host.example\n", "127.0.0.1/33\n", "127.0.0.1/\n", "1.2.3\n", "::1/129\n", "::/x\n", "1.2.3.4 5\n" };
	struct localaddresses l;

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		directory_write("control/moreipme", lines[i]);
		assert_int_equal(localaddresses_read(&l), 0);
		assert_int_equal(errno, EINVAL);
		assert_null(l.own);
	}
}

static void
many_lines(void **state)
{
	struct localaddresses l;
	FILE *file = fopen("control/moreipme", "w");
	ip46 ip;

	(void)state;
	for (int i = 0; i < 2000; i++)
		fprintf(file, "198.18.%d.%d\n", i / 256, i % 256);
	fclose(file);
	assert_int_equal(localaddresses_read(&l), 1);
	ip_address_parse(&ip, "198.18.7.207");
	assert_int_equal(localaddress_is(&l, &ip), 1);
	ip_address_parse(&ip, "198.18.7.208");
	assert_int_equal(localaddress_is(&l, &ip), 0);
	localaddresses_free(&l);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2] = { { NULL } };

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = address_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(nonsense_is_an_error);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(many_lines);
	return cmocka_run_group_tests_name("localaddress", tests, directory_make, directory_remove);
}
