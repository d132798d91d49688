/* send/relays: which remote mail is of one destination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/send/relays.h"
#include "directory.h"

static const char table[] =
	"whole.example:Relay.Example\n"
	".example:relay.example:25\n"
	"port.example:relay.example:26\n"
	"exempt.example:\n"
	"other.port.example::26\n"
	"login.example:relay.example|ann|secret\n"
	"nonsense.example:relay.example:smtp\n"
	"six.example:[2001:DB8::1]:587\n";

static const struct row { const char *rule, *domain, *name; } rows[] = {
	{ "a relay, in lower case", "whole.example", "RELAY relay.example:25" },
	{ "the same relay by another entry", "other.example", "RELAY relay.example:25" },
	{ "the domain in any case", "WHOLE.example", "RELAY relay.example:25" },
	{ "another port", "port.example", "RELAY relay.example:26" },
	{ "an address", "six.example", "RELAY 2001:db8::1:587" },
	{ "no login in the name, which anybody may see", "login.example", "RELAY relay.example:25" },
	{ "an empty relay: the domain itself", "Exempt.example", "exempt.example" },
	{ "an empty relay with a port", "other.port.example", "other.port.example" },
	{ "an entry that makes no sense", "nonsense.example", "nonsense.example" },
	{ "no entry", "Elsewhere.test", "elsewhere.test" },
	{ "a domain that would look like a relay", "RELAY relay.test:25", "relay relay.test:25" },
	{ "no domain", "", "" },
};

static struct relays relays;

static const char *
name_of(const char *domain)
{
	static stralloc name;
	int is_relay = relays_destination(&relays, domain, &name);

	assert_int_equal(is_relay, strncmp(name.s, "RELAY ", 6) == 0);
	assert_int_equal(name.len, strlen(name.s) + 1);
	return name.s;
}

static void
destination_row(void **state)
{
	const struct row *row = *state;

	assert_string_equal(name_of(row->domain), row->name);
}

static void
the_file_is_looked_at_once_a_second(void **state)
{
	(void)state;
	directory_write("control/smtproutes", "x.example:one.example\n");
	relays_look(&relays, 100500);
	assert_string_equal(name_of("x.example"), "RELAY relay.example:25");
	relays_look(&relays, 101000);
	assert_string_equal(name_of("x.example"), "RELAY one.example:25");
	assert_int_equal(unlink("control/smtproutes"), 0);
	relays_look(&relays, 102000);
	assert_string_equal(name_of("x.example"), "x.example");
}

static void
a_file_that_cannot_be_read_is_none(void **state)
{
	(void)state;
	directory_write("control/smtproutes", "x.example:one.example\n");
	relays_look(&relays, 200000);
	assert_string_equal(name_of("x.example"), "RELAY one.example:25");
	assert_int_equal(unlink("control/smtproutes"), 0);
	assert_int_equal(mkdir("control/smtproutes", 0700), 0);
	relays_look(&relays, 201000);
	assert_string_equal(name_of("x.example"), "x.example");
	assert_int_equal(rmdir("control/smtproutes"), 0);
}

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	directory_write("control/smtproutes", table);
	relays_look(&relays, 100000);
	return 0;
}

static int
tear_down(void **state)
{
	smtproutes_free(&relays.routes);
	return directory_remove(state);
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, destination_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(the_file_is_looked_at_once_a_second);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(a_file_that_cannot_be_read_is_none);
	return cmocka_run_group_tests_name("relays", tests, set_up, tear_down);
}
