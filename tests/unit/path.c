/* Paths of MAIL and RCPT: RFC 5321 sections 4.1.2 and 4.1.3; hostile inputs S7, S8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/smtpd/path.h"

#define X10 "xxxxxxxxxx"
#define X60 X10 X10 X10 X10 X10 X10
#define LABEL X60 "."
/* 21 octets; a label of four of it is one of 40 in the DNS */
#define THAI "\xe0\xb8\xa0\xe0\xb8\xb2\xe0\xb8\xa9\xe0\xb8\xb2\xe0\xb9\x84\xe0\xb8\x97\xe0\xb8\xa2"

/* want: the address as stored, "malformed" or "too long"; rest: what is left for the parameters. */
static const struct path_row { const char *rule, *input, *want, *rest; enum path_kind kind; } rows[] = {
	{ "mailbox", "<ann@example.org>", "ann@example.org", "", PATH_FORWARD },
	{ "parameters follow", "<ann@example.org> SIZE=1", "ann@example.org", " SIZE=1", PATH_REVERSE },
	{ "blanks before", " \t<ann@example.org>", "ann@example.org", "", PATH_REVERSE },
	{ "no brackets", "ann@example.org SIZE=1", "ann@example.org", " SIZE=1", PATH_REVERSE },
	{ "no brackets, but the second", "ann@example.org>", "malformed", "", PATH_REVERSE },
	{ "null reverse-path", "<>", "", "", PATH_REVERSE },
	{ "null is no recipient", "<>", "malformed", "", PATH_FORWARD },
	{ "qmail's double bounce", "<#@[]> SIZE=1", "#@[]", " SIZE=1", PATH_REVERSE },
	{ "qmail's double bounce is no recipient", "<#@[]>", "malformed", "", PATH_FORWARD },
	{ "qmail's double bounce has brackets", "#@[]", "malformed", "", PATH_REVERSE },
	{ "an empty literal of others", "<a@[]>", "malformed", "", PATH_REVERSE },
	{ "nothing", "", "malformed", "", PATH_REVERSE },
	{ "blanks only", "  ", "malformed", "", PATH_REVERSE },
	{ "no domain", "<postmaster>", "postmaster", "", PATH_FORWARD },
	{ "all of atext, dots anywhere", "<.a!#$%&'*+-/=?^_`{|}~..b.@x>", ".a!#$%&'*+-/=?^_`{|}~..b.@x", "", PATH_FORWARD },
	{ "percent", "<a%b@x>", "a%b@x", "", PATH_FORWARD },
	{ "quoted: quotes and backslashes go", "<\"a b\\\"\\\\c\"@x>", "a b\"\\c@x", "", PATH_FORWARD },
	{ "quoted: an @ inside", "<\"a@b\"@x>", "a@b@x", "", PATH_FORWARD },
	{ "quoted: empty", "<\"\"@x>", "malformed", "", PATH_FORWARD },
	{ "quoted: empty, no domain", "<\"\">", "malformed", "", PATH_FORWARD },
	{ "quoted: not closed", "<\"a@x>", "malformed", "", PATH_FORWARD },
	{ "quoted: backslash last", "<\"a\\", "malformed", "", PATH_FORWARD },
	{ "quoted: control", "<\"a\tb\"@x>", "malformed", "", PATH_FORWARD },
	{ "quoted: an atom behind", "<\"a\"b@x>", "malformed", "", PATH_FORWARD },
	{ "backslash outside quotes", "<a\\@b@x>", "malformed", "", PATH_FORWARD },
	{ "blank inside", "<a b@x>", "malformed", "", PATH_FORWARD },
	{ "not closed", "<a@x", "malformed", "", PATH_FORWARD },
	{ "octet behind the bracket", "<a@x>y", "malformed", "", PATH_FORWARD },
	{ "bracket inside", "<a<b@x>", "malformed", "", PATH_FORWARD },
	{ "bare LF", "<a\n@x>", "malformed", "", PATH_REVERSE },
	{ "bare CR", "<a\r@x>", "malformed", "", PATH_REVERSE },
	{ "DEL", "<a\177@x>", "malformed", "", PATH_REVERSE },
	{ "source route", "<@a,@b.c:d@e>", "d@e", "", PATH_FORWARD },
	{ "source route of one literal", "<@[127.0.0.1]:d@e>", "d@e", "", PATH_FORWARD },
	{ "source route without mailbox", "<@a,@b:>", "malformed", "", PATH_FORWARD },
	{ "source route without colon", "<@a,@b>", "malformed", "", PATH_FORWARD },
	{ "source route with an empty host", "<@,@b:c@d>", "malformed", "", PATH_FORWARD },
	{ "domain only", "<@x>", "malformed", "", PATH_FORWARD },
	{ "at only", "<a@>", "malformed", "", PATH_FORWARD },
	{ "two at", "<a@b@c>", "malformed", "", PATH_FORWARD },
	{ "domain of one dot", "<a@.>", "malformed", "", PATH_FORWARD },
	{ "domain with a trailing dot", "<a@x.>", "malformed", "", PATH_FORWARD },
	{ "domain with an empty label", "<a@x..y>", "malformed", "", PATH_FORWARD },
	{ "domain with a hyphen first", "<a@-x>", "malformed", "", PATH_FORWARD },
	{ "domain with a hyphen last", "<a@x-.y>", "malformed", "", PATH_FORWARD },
	{ "domain with an underscore", "<a@_x.y>", "a@_x.y", "", PATH_FORWARD },
	{ "label of 60 octets", "<a@" LABEL "x>", "a@" LABEL "x", "", PATH_FORWARD },
	{ "label of 64 octets", "<a@" X60 "xxxx>", "malformed", "", PATH_FORWARD },
	{ "domain of 306 octets", "<a@" LABEL LABEL LABEL LABEL LABEL "x>", "too long", "", PATH_FORWARD },
	{ "local part of 900 octets", "<" X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 "@x>", "too long", "", PATH_REVERSE },
	{ "local part of 840 octets", "<" X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 "@x>",
	    X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 X60 "@x", "", PATH_REVERSE },
	{ "IPv4 literal", "<a@[192.0.2.1]>", "a@[192.0.2.1]", "", PATH_FORWARD },
	{ "IPv4 literal, malformed", "<a@[192.0.2.256]>", "malformed", "", PATH_FORWARD },
	{ "IPv4 literal, not closed", "<a@[192.0.2.1>", "malformed", "", PATH_FORWARD },
	{ "IPv4 literal, a domain behind", "<a@[192.0.2.1]x>", "malformed", "", PATH_FORWARD },
	{ "IPv6 literal", "<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "", PATH_FORWARD },
	{ "IPv6 literal without its tag", "<a@[2001:db8::1]>", "malformed", "", PATH_FORWARD },
	{ "IPv6 literal, malformed", "<a@[IPv6:2001:db8::1::2]>", "malformed", "", PATH_FORWARD },
	{ "IPv6 literal, empty", "<a@[IPv6:]>", "malformed", "", PATH_FORWARD },
	{ "IPv6 literal, endless", "<a@[IPv6:" X60 "]>", "malformed", "", PATH_FORWARD },
	{ "literal, empty", "<a@[]>", "malformed", "", PATH_FORWARD },
	{ "UTF-8", "<\xc3\xbc@b\xc3\xbc.example>", "\xc3\xbc@b\xc3\xbc.example", "", PATH_FORWARD },
	{ "UTF-8, quoted", "<\"\xe2\x82\xac \"@x>", "\xe2\x82\xac @x", "", PATH_FORWARD },
	{ "UTF-8, a label of 84 octets", "<\xc3\xbc@" THAI THAI THAI THAI ".x>", "\xc3\xbc@" THAI THAI THAI THAI ".x", "", PATH_FORWARD },
	{ "UTF-8, a label of 252 octets", "<\xc3\xbc@" THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI ">",
	    "\xc3\xbc@" THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI, "", PATH_FORWARD },
	{ "UTF-8, a label of 253 octets", "<\xc3\xbc@" THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI THAI "x>",
	    "malformed", "", PATH_FORWARD },
	{ "UTF-8, cut off", "<\xc3>", "malformed", "", PATH_FORWARD },
	{ "UTF-8, overlong", "<\xc0\xaf@x>", "malformed", "", PATH_FORWARD },
	{ "UTF-8, surrogate", "<\xed\xa0\x80@x>", "malformed", "", PATH_FORWARD },
	{ "UTF-8, control", "<\xc2\x85@x>", "malformed", "", PATH_FORWARD },
	{ "UTF-8, above U+10FFFF", "<\xf4\x90\x80\x80@x>", "malformed", "", PATH_FORWARD },
	{ "Latin-1", "<\xfc@x>", "malformed", "", PATH_FORWARD },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
parse_row(void **state)
{
	const struct path_row *row = *state;
	size_t len = strlen(row->input);
	char *s = memcpy(test_malloc(len), row->input, len);	/* exact size: ASan sees over-reads */
	struct path p;
	enum path_result r = path_parse(&p, s, len, row->kind);

	assert_string_equal(r == PATH_OK ? p.address : r == PATH_MALFORMED ? "malformed" : "too long", row->want);
	if (r == PATH_OK) {
		assert_int_equal(p.len, strlen(row->want));
		assert_string_equal(row->input + p.end, row->rest);
		assert_int_equal(p.is_internationalized, (unsigned char)row->want[0] > 127);
		assert_int_equal(p.has_literal, strchr(row->want, '[') && !strstr(row->want, "[]"));
		assert_true(p.at == p.len || p.address[p.at] == '@');
	}
	test_free(s);
}

static void
nul_is_no_octet_of_an_address(void **state)
{
	static const char *const inputs[] = { "<\0@x>", "<a@\0>", "<\"\0\"@x>", "<a@[\0]>", "\0<a@x>", "<a@x>\0" };
	static const size_t lens[] = { 5, 5, 7, 7, 6, 6 };
	struct path p;

	(void)state;
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(path_parse(&p, inputs[i], lens[i], PATH_FORWARD), PATH_MALFORMED);
}

/* Every cut of a row's input, and every octet of it replaced: no over-read, and what is taken has no control octet. */
static void
cut_and_replaced(void **state)
{
	struct path p;

	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		size_t len = strlen(rows[i].input);
		unsigned int octets[] = { 0, 1, 9, 10, 13, 34, 60, 62, 64, 91, 92, 93, 127, 128, 195, 255 };

		for (size_t cut = 0; cut <= len; cut++) {
			char *s = memcpy(test_malloc(cut + 1), rows[i].input, cut);

			path_parse(&p, s, cut, rows[i].kind);
			for (size_t o = 0; cut && o < sizeof octets / sizeof *octets; o++) {
				s[cut - 1] = (char)octets[o];
				if (path_parse(&p, s, cut, rows[i].kind) == PATH_OK)
					for (size_t j = 0; j < p.len; j++)
						assert_true((unsigned char)p.address[j] >= 32 && p.address[j] != 127);
			}
			test_free(s);
		}
	}
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = parse_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(nul_is_no_octet_of_an_address);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(cut_and_replaced);
	return cmocka_run_group_tests_name("path", tests, NULL, NULL);
}
