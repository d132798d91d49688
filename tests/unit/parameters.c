/* ESMTP parameters of MAIL and RCPT: RFC 1870, 3461, 6152, 6531, 6533; hostile inputs S9. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/parameters.h"

#define M PARAMETERS_MAIL
#define R PARAMETERS_RCPT
#define X20 "xxxxxxxxxxxxxxxxxxxx"
#define X100 X20 X20 X20 X20 X20

/* want: the text for the queue, or "malformed", "unknown". */
static const struct parameters_row { const char *rule, *input, *want; enum parameters_command command; } rows[] = {
	{ "none", "", "", M },
	{ "blanks only", " \t ", "", M },
	{ "SIZE is not handed on", " SIZE=12345", "", M },
	{ "SIZE twice", " SIZE=1 SIZE=1", "malformed", M },
	{ "SIZE negative", " SIZE=-1", "malformed", M },
	{ "SIZE empty", " SIZE=", "malformed", M },
	{ "SIZE without value", " SIZE", "malformed", M },
	{ "SIZE hexadecimal", " SIZE=0x10", "malformed", M },
	{ "SIZE of 20 digits", " SIZE=99999999999999999999", "", M },
	{ "SIZE of 21 digits", " SIZE=999999999999999999999", "malformed", M },
	{ "BODY", " body=8bitmime", "BODY=8BITMIME", M },
	{ "BODY 7BIT", " BODY=7bit", "BODY=7BIT", M },
	{ "BODY=BINARYMIME is not offered", " BODY=BINARYMIME", "unknown", M },
	{ "BODY without value", " BODY", "malformed", M },
	{ "SMTPUTF8", " SmtpUtf8", "SMTPUTF8", M },
	{ "SMTPUTF8 with a value", " SMTPUTF8=1", "malformed", M },
	{ "RET", " RET=hdrs", "RET=HDRS", M },
	{ "RET unknown", " RET=BODY", "malformed", M },
	{ "ENVID", " ENVID=QQ+2B314159", "ENVID=QQ+2B314159", M },
	{ "ENVID empty", " ENVID=", "malformed", M },
	{ "ENVID of 100 octets", " ENVID=" X100, "ENVID=" X100, M },
	{ "ENVID of 101 octets", " ENVID=" X100 "x", "malformed", M },
	{ "ENVID with an encoded LF", " ENVID=a+0Ab", "malformed", M },
	{ "ENVID with an encoded NUL", " ENVID=a+00b", "malformed", M },
	{ "ENVID with an encoded DEL", " ENVID=a+7Fb", "malformed", M },
	{ "ENVID with a cut escape", " ENVID=a+4", "malformed", M },
	{ "ENVID with a plus alone", " ENVID=a+", "malformed", M },
	{ "ENVID with lower case digits", " ENVID=a+2b", "malformed", M },
	{ "ENVID with 8 bits", " ENVID=\xfc", "malformed", M },
	{ "ENVID with =", " ENVID=a=b", "malformed", M },
	{ "several, in their order", "\tRET=FULL  ENVID=x BODY=8BITMIME SMTPUTF8 SIZE=0 ", "RET=FULL ENVID=x BODY=8BITMIME SMTPUTF8", M },
	{ "NOTIFY is not for MAIL", " NOTIFY=NEVER", "unknown", M },
	{ "AUTH is not handed on", " AUTH=<>", "", M },
	{ "AUTH with an address", " AUTH=e+3Dmc2@example.com BODY=7BIT", "BODY=7BIT", M },
	{ "AUTH twice", " AUTH=<> AUTH=<>", "malformed", M },
	{ "AUTH empty", " AUTH=", "malformed", M },
	{ "AUTH without value", " AUTH", "malformed", M },
	{ "AUTH with an encoded LF", " AUTH=a+0Ab", "malformed", M },
	{ "AUTH of 500 octets", " AUTH=" X100 X100 X100 X100 X100, "", M },
	{ "AUTH of 501 octets", " AUTH=" X100 X100 X100 X100 X100 "x", "malformed", M },
	{ "AUTH is not for RCPT", " AUTH=<>", "unknown", R },
	{ "unknown", " XYZZY=1", "unknown", M },
	{ "unknown without keyword", " =1", "unknown", M },
	{ "keyword cut off", " SIZ=1", "unknown", M },
	{ "NOTIFY never", " NOTIFY=never", "NOTIFY=NEVER", R },
	{ "NOTIFY list", " NOTIFY=DELAY,success", "NOTIFY=SUCCESS,DELAY", R },
	{ "NOTIFY all", " NOTIFY=success,failure,delay", "NOTIFY=SUCCESS,FAILURE,DELAY", R },
	{ "NOTIFY never is alone", " NOTIFY=NEVER,DELAY", "malformed", R },
	{ "NOTIFY unknown", " NOTIFY=SOMETIMES", "malformed", R },
	{ "NOTIFY empty", " NOTIFY=", "malformed", R },
	{ "NOTIFY with a comma last", " NOTIFY=DELAY,", "malformed", R },
	{ "NOTIFY twice", " NOTIFY=DELAY NOTIFY=DELAY", "malformed", R },
	{ "ORCPT", " ORCPT=rfc822;ana+2Bx@h.example", "ORCPT=rfc822;ana+2Bx@h.example", R },
	{ "ORCPT without type", " ORCPT=;a", "malformed", R },
	{ "ORCPT without address", " ORCPT=rfc822;", "malformed", R },
	{ "ORCPT without semicolon", " ORCPT=a@b", "malformed", R },
	{ "ORCPT with a bad type", " ORCPT=rfc+0A;a@b", "malformed", R },
	{ "ORCPT with encoded CR LF", " ORCPT=rfc822;a+0D+0Ab", "malformed", R },
	{ "ORCPT of 501 octets", " ORCPT=rfc822;" X100 X100 X100 X100 X100, "malformed", R },
	{ "ORCPT utf-8", " ORCPT=utf-8;\xc3\xbc@x", "ORCPT=utf-8;\xc3\xbc@x", R },
	{ "ORCPT utf-8 with escapes", " ORCPT=UTF-8;a\\x{FC}@x", "ORCPT=UTF-8;a\\x{FC}@x", R },
	{ "ORCPT utf-8 with an escaped LF", " ORCPT=utf-8;a\\x{A}@x", "malformed", R },
	{ "ORCPT utf-8 with a cut escape", " ORCPT=utf-8;a\\x{FC", "malformed", R },
	{ "ORCPT utf-8, malformed", " ORCPT=utf-8;\xc3@x", "malformed", R },
	{ "ORCPT rfc822 with 8 bits", " ORCPT=rfc822;\xc3\xbc@x", "malformed", R },
	{ "SIZE is not for RCPT", " SIZE=1", "unknown", R },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
parse_row(void **state)
{
	const struct parameters_row *row = *state;
	size_t len = strlen(row->input);
	char *s = memcpy(test_malloc(len + 1), row->input, len);
	struct parameters p;
	enum parameters_result r = parameters_parse(&p, s, len, row->command);

	assert_string_equal(r == PARAMETERS_OK ? p.text : r == PARAMETERS_MALFORMED ? "malformed" : "unknown", row->want);
	test_free(s);
}

static void
sizes(void **state)
{
	struct parameters p;

	(void)state;
	assert_int_equal(parameters_parse(&p, " SIZE=12345", 11, M), PARAMETERS_OK);
	assert_true(p.has_size && p.size == 12345);
	assert_int_equal(parameters_parse(&p, " SIZE=99999999999999999999", 26, M), PARAMETERS_OK);
	assert_true(p.size == UINT64_C(1) << 63);
	assert_int_equal(parameters_parse(&p, " SIZE=9223372036854775808", 25, M), PARAMETERS_OK);
	assert_true(p.size == UINT64_C(1) << 63);
}

static void
a_thousand(void **state)
{
	char s[4096];
	struct parameters p;

	(void)state;
	for (size_t i = 0; i < 1000; i++)
		memcpy(s + i * 4, " A=1", 4);
	assert_int_equal(parameters_parse(&p, s, 4000, M), PARAMETERS_UNKNOWN);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = parse_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(sizes);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(a_thousand);
	return cmocka_run_group_tests_name("parameters", tests, NULL, NULL);
}
