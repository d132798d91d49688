/* control/smtproutes: which entry counts for a domain, and what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/remote/smtproute.h"
#include "directory.h"
#include "domain.h"

static const char table[] =
	"# a comment\n"
	"whole.example:relay.example\n"
	".example:suffix.example:26\n"
	".sub.example:longer.example\n"
	"exempt.example:\n"
	"port.example::2525\n"
	"colon.example:relay.example:\n"
	"four.example:192.0.2.1:465\n"
	"fourbrackets.example:[192.0.2.1]\n"
	"six.example:[2001:db8::1]\n"
	"sixport.example:[2001:db8::1]:587\n"
	"login.example:relay.example:587|ann|se:cr|et\n"
	"loginonly.example:relay.example|ann|\n"
	"twice.example:first.example\n"
	"TWICE.example:second.example\n"
	"[192.0.2.9]:literal.example\n"
	"badport.example:relay.example:smtp\n"
	"zeroport.example:relay.example:0\n"
	"bigport.example:relay.example:65536\n"
	"hugeport.example:relay.example:4294967321\n"
	"open.example:[2001:db8::1\n"
	"bare.example:2001:db8::1\n"
	"noaddress.example:[relay.example]\n"
	"tail.example:[192.0.2.1]x\n"
	"blanks.example:relay.example:587 ann sec ret\n"
	"tabs.example:192.0.2.1\t ann\t\tse|cret\n"
	"blankuser.example:relay.example ann\n"
	"blankrelay.example: relay.example ann secret\n"
	"blankbars.example:relay.example | ann | secret\n"
	"blankbar.example:relay.example ann|ret secret\n"
	"nopassword.example:relay.example|ann\n"
	"nouser.example:relay.example||x\n"
	"b\xc3\xbc" "cher.example:utf8.example\n"
	"xn--fa-hia.example:ascii.example\n"
	".xn--fa-hia.example:below.example\n"
	"no colon\n";

/* want: RELAY PORT USER PASSWORD, "literal" after an address; "none"; "nonsense". */
static const struct route_row { const char *rule, *domain, *want; } rows[] = {
	{ "the whole domain", "whole.example", "relay.example 25" },
	{ "without ASCII case", "Whole.EXAMPLE", "relay.example 25" },
	{ "a suffix, with a port", "other.example", "suffix.example 26" },
	{ "a suffix counts below every level", "a.b.c.example", "suffix.example 26" },
	{ "the longer suffix counts", "a.sub.example", "longer.example 25" },
	{ "a suffix is not the domain itself", "sub.example", "suffix.example 26" },
	{ "nothing matches", "example", "none" },
	{ "no part of a label", "whole.examples", "none" },
	{ "an empty relay is by MX", "exempt.example", " 25" },
	{ "an empty relay with a port", "port.example", " 2525" },
	{ "an empty port", "colon.example", "relay.example 25" },
	{ "IPv4", "four.example", "192.0.2.1 literal 465" },
	{ "IPv4 in brackets", "fourbrackets.example", "192.0.2.1 literal 25" },
	{ "IPv6", "six.example", "2001:db8::1 literal 25" },
	{ "IPv6 with a port", "sixport.example", "2001:db8::1 literal 587" },
	{ "user and password, with colons and bars in it", "login.example", "relay.example 587 ann se:cr|et" },
	{ "an empty password", "loginonly.example", "relay.example 25 ann " },
	{ "user and password behind blanks", "blanks.example", "relay.example 587 ann sec ret" },
	{ "behind tabs", "tabs.example", "192.0.2.1 literal 25 ann se|cret" },
	{ "a user behind a blank without a password", "blankuser.example", "nonsense" },
	{ "a blank before the relay", "blankrelay.example", "nonsense" },
	{ "blanks on both sides of each bar", "blankbars.example", "nonsense" },
	{ "a bar in a user behind blanks", "blankbar.example", "nonsense" },
	{ "of equal keys the last", "twice.example", "second.example 25" },
	{ "an address literal", "[192.0.2.9]", "literal.example 25" },
	{ "a literal has no suffixes", "[192.0.2.9.example]", "none" },
	{ "other letters", "b\xc3\xbc" "cher.example", "utf8.example 25" },
	{ "other letters, written in ASCII", "fa\xc3\x9f.example", "ascii.example 25" },
	{ "other letters below, written in ASCII", "\xc3\xbc.fa\xc3\x9f.example", "below.example 25" },
	{ "no UTF-8", "\xff.examples", "none" },
	{ "a domain that ends in a dot", "x.", "none" },
	{ "dots only", "...", "none" },
	{ "no domain", "", "none" },
	{ "a port that is no number", "badport.example", "nonsense" },
	{ "port 0", "zeroport.example", "nonsense" },
	{ "port 65536", "bigport.example", "nonsense" },
	{ "a port that overflows", "hugeport.example", "nonsense" },
	{ "an open bracket", "open.example", "nonsense" },
	{ "IPv6 without brackets", "bare.example", "nonsense" },
	{ "a name in brackets", "noaddress.example", "nonsense" },
	{ "something after the bracket", "tail.example", "nonsense" },
	{ "a user without a password", "nopassword.example", "nonsense" },
	{ "a password without a user", "nouser.example", "nonsense" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct smtproutes routes;

static void
write_table(const char *text)
{
	directory_write("control/smtproutes", text);
	assert_int_equal(smtproutes_read(&routes), 1);
}

static const char *
found(const char *domain)
{
	static char text[1024];
	char ascii[DOMAIN_MAX + 1];
	struct smtproute r;

	switch (smtproute_find(&routes, domain, domain_other_form(ascii, domain), &r)) {
	case 1:
		snprintf(text, sizeof text, "%s%s %u%s%s%s%s", r.relay, r.is_literal ? " literal" : "", (unsigned int)r.port,
		    *r.user ? " " : "", r.user, *r.user ? " " : "", r.password);
		return text;
	case 0:
		assert_string_equal(r.relay, "");
		assert_int_equal(r.port, 25);
		return "none";
	default:
		return "nonsense";
	}
}

static void
route_row(void **state)
{
	const struct route_row *row = *state;

	assert_string_equal(found(row->domain), row->want);
}

static void
the_rest(void **state)
{
	(void)state;
	smtproutes_free(&routes);
	write_table(":smart.example\n.example:\n");
	assert_string_equal(found("x.org"), "smart.example 25");
	assert_string_equal(found("[192.0.2.1]"), "smart.example 25");
	assert_string_equal(found("x.example"), " 25");
}

static void
a_long_domain_or_relay(void **state)
{
	char domain[400], entry[900], endless[2000];

	(void)state;
	memset(domain, 'a', sizeof domain);
	domain[sizeof domain - 1] = 0;
	smtproutes_free(&routes);
	snprintf(entry, sizeof entry, "x.example:%s\n%s:y.example\n", domain, domain);
	write_table(entry);
	assert_string_equal(found("x.example"), "nonsense");
	assert_string_equal(found(domain), "y.example 25");
	memset(endless, '.', sizeof endless);
	endless[sizeof endless - 1] = 0;
	assert_string_equal(found(endless), "none");
}

static void
no_file(void **state)
{
	(void)state;
	smtproutes_free(&routes);
	assert_int_equal(unlink("control/smtproutes"), 0);
	assert_int_equal(smtproutes_read(&routes), 1);
	assert_string_equal(found("whole.example"), "none");
	smtproutes_free(&routes);
}

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	write_table(table);
	return 0;
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 3] = { { NULL } };

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = route_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(the_rest);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(a_long_domain_or_relay);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(no_file);
	return cmocka_run_group_tests_name("smtproute", tests, set_up, directory_remove);
}
