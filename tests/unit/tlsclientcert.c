/* control/tlsclientcert: which entry counts for a domain, or a relay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <unistd.h>
#include "bin-src/remote/tlsclientcert.h"
#include "directory.h"

static const char table[] =
	"# who we are\n"
	":usual\n"
	"mx.example:one\n"
	".below.example:two\n"
	"none.example:\n"
	"a.example:first\n"
	"a.example:last\n"
	"xn--fa-hia.example:three\n"
	"colon.example:a:b\n";

static const struct row { const char *rule, *domain, *ascii; int is_relay; const char *want; } rows[] = {
	{ "a domain", "mx.example", NULL, 0, "one" },
	{ "without ASCII case", "MX.Example", NULL, 0, "one" },
	{ "a relay", "mx.example", NULL, 1, "one" },
	{ "below a domain", "a.b.below.example", NULL, 0, "two" },
	{ "all other relays", "other.example", NULL, 1, "usual" },
	{ "no other domain", "other.example", NULL, 0, "" },
	{ "an address is a relay", "192.0.2.1", NULL, 1, "usual" },
	{ "an exemption", "none.example", NULL, 1, "" },
	{ "the last of equals", "a.example", NULL, 0, "last" },
	{ "in other letters", "fa\xc3\x9f.example", "xn--fa-hia.example", 0, "three" },
	{ "whatever the name is", "colon.example", NULL, 0, "a:b" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct tlsclientcerts c;

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	directory_write("control/tlsclientcert", table);
	assert_int_equal(tlsclientcerts_read(&c), 1);
	assert_string_equal(tlsclientcert_find(&c, row->domain, row->ascii, row->is_relay), row->want);
}

static void
without_a_file_nobody_gets_one(void **state)
{
	(void)state;
	unlink("control/tlsclientcert");
	assert_int_equal(tlsclientcerts_read(&c), 1);
	assert_string_equal(tlsclientcert_find(&c, "mx.example", NULL, 1), "");
}

static void
a_line_without_a_colon(void **state)
{
	(void)state;
	directory_write("control/tlsclientcert", ":usual\nmx.example\n");
	assert_int_equal(tlsclientcerts_read(&c), 0);
	assert_int_equal(errno, 0);
}

static int
tear_down(void **state)
{
	(void)state;
	tlsclientcerts_free(&c);
	return 0;
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2] = {
		[ROWS] = cmocka_unit_test_teardown(without_a_file_nobody_gets_one, tear_down),
		[ROWS + 1] = cmocka_unit_test_teardown(a_line_without_a_colon, tear_down),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, NULL, tear_down, (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("tlsclientcert", tests, directory_make, directory_remove);
}
