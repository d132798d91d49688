/* What a client writes: nothing of an address or a parameter ends a line or begins another parameter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/remote/session.h"
#include "bin-src/remote/smtp_command.h"

enum { ALL = SESSION_SIZE | SESSION_8BITMIME | SESSION_SMTPUTF8 | SESSION_DSN };

/* want: NULL, it cannot be carried */
static const struct address_row { const char *rule, *address; unsigned int extensions; const char *want; } addresses[] = {
	{ "dot-atom", "ana@x.example", 0, "<ana@x.example>" },
	{ "blank", "a b@x.example", 0, "<\"a b\"@x.example>" },
	{ "quote and backslash", "a\"\\@x.example", 0, "<\"a\\\"\\\\\"@x.example>" },
	{ "bracket in the local-part", "a>b@x.example", 0, "<\"a>b\"@x.example>" },
	{ "two signs", "a@b@x.example", 0, "<\"a@b\"@x.example>" },
	{ "no domain", "postmaster", 0, "<postmaster>" },
	{ "literal", "a@[IPv6:::1]", 0, "<a@[IPv6:::1]>" },
	{ "null", "", 0, "<>" },
	{ "LF", "a\n@x.example", ALL, NULL },
	{ "CR", "a@x.example\r", ALL, NULL },
	{ "tab", "a\tb@x.example", ALL, NULL },
	{ "DEL", "a\177@x.example", ALL, NULL },
	{ "blank in the domain", "a@x.example SIZE=1", ALL, NULL },
	{ "bracket in the domain", "a@x>.example", ALL, NULL },
	{ "quote in the domain", "a@\"x\".example", ALL, NULL },
	{ "UTF-8", "josé@x.example", ALL, "<josé@x.example>" },
	{ "U-label", "ana@bücher.example", ALL, "<ana@bücher.example>" },
	{ "U-label for a host without SMTPUTF8", "ana@bücher.example", 0, "<ana@xn--bcher-kva.example>" },
	{ "quoted before a U-label", "a b@bücher.example", 0, "<\"a b\"@xn--bcher-kva.example>" },
};
enum { ADDRESSES = sizeof addresses / sizeof *addresses };

static void
address_row(void **state)
{
	const struct address_row *row = *state;
	stralloc got = STRALLOC_ZERO;
	char want[200];

	assert_int_equal(smtp_command_can_carry(row->address), row->want != NULL);
	if (!row->want)
		return;
	assert_int_equal(smtp_command_rcpt(&got, row->address, NULL, row->extensions), 1);
	snprintf(want, sizeof want, "RCPT TO:%s\r\n", row->want);
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.s, want, got.len);
	stralloc_free(&got);
}

static void
long_addresses(void **state)
{
	char address[SMTP_COMMAND_ADDRESS_MAX + 2];

	(void)state;
	memset(address, 'a', sizeof address);
	address[SMTP_COMMAND_ADDRESS_MAX] = '\0';
	assert_int_equal(smtp_command_can_carry(address), 1);
	address[SMTP_COMMAND_ADDRESS_MAX] = 'a';
	address[SMTP_COMMAND_ADDRESS_MAX + 1] = '\0';
	assert_int_equal(smtp_command_can_carry(address), 0);
}

static void
needs_utf8(void **state)
{
	(void)state;
	assert_int_equal(smtp_command_needs_utf8("ana@x.example"), 0);
	assert_int_equal(smtp_command_needs_utf8(""), 0);
	assert_int_equal(smtp_command_needs_utf8("josé@x.example"), 1);
	assert_int_equal(smtp_command_needs_utf8("josé"), 1);
	assert_int_equal(smtp_command_needs_utf8("josé@bücher.example"), 1);
	assert_int_equal(smtp_command_needs_utf8("ana@bücher.example"), 0);
	assert_int_equal(smtp_command_needs_utf8("ana@\xff.example"), 1);
}

#define ACCENTS "éééééééééééééééééééééééééééééééé"

/* want: what follows the path */
static const struct parameter_row { const char *rule, *parameters; unsigned int extensions; const char *want; } parameters[] = {
	{ "all of a recipient", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b", ALL, " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b" },
	{ "no DSN", "NOTIFY=SUCCESS ORCPT=rfc822;a@b", ALL & ~SESSION_DSN, "" },
	{ "none", "", ALL, "" },
	{ "others' are left out", "FOO=1 NOTIFY=NEVER BAR", ALL, " NOTIFY=NEVER" },
	{ "a list with NEVER", "NOTIFY=NEVER,DELAY", ALL, "" },
	{ "an empty word", "NOTIFY=DELAY,,SUCCESS", ALL, "" },
	{ "a line end", "NOTIFY=NEVER\r\nDATA ORCPT=rfc822;a\r\nb", ALL, "" },
	{ "UTF-8 with SMTPUTF8", "ORCPT=utf-8;josé@b", ALL, " ORCPT=utf-8;josé@b" },
	{ "UTF-8 without", "ORCPT=utf-8;josé@b", SESSION_DSN, " ORCPT=utf-8;jos\\x{E9}@b" },
	{ "UTF-8 without, of all lengths", "ORCPT=UTF-8;a\\x{5C}ß√😀@b", SESSION_DSN, " ORCPT=utf-8;a\\x{5C}\\x{DF}\\x{221A}\\x{1F600}@b" },
	{ "UTF-8 of another type without", "ORCPT=rfc822;josé@b", SESSION_DSN, "" },
	{ "what is no UTF-8 without", "NOTIFY=NEVER ORCPT=utf-8;jos\351@b", SESSION_DSN, " NOTIFY=NEVER" },
	{ "UTF-8 and a control octet without", "ORCPT=utf-8;josé\n@b", SESSION_DSN, "" },
	{ "only a type of UTF-8", "ORCPT=utf-8;", SESSION_DSN, "" },
	{ "UTF-8 that is too long then", "ORCPT=utf-8;" ACCENTS ACCENTS ACCENTS, SESSION_DSN, "" },
	{ "no type", "ORCPT=;a", ALL, "" },
	{ "no address", "ORCPT=rfc822;", ALL, "" },
};
enum { PARAMETERS = sizeof parameters / sizeof *parameters };

static void
parameter_row(void **state)
{
	const struct parameter_row *row = *state;
	stralloc got = STRALLOC_ZERO;
	char want[200];

	assert_int_equal(smtp_command_rcpt(&got, "a@b", row->parameters, row->extensions), 1);
	snprintf(want, sizeof want, "RCPT TO:<a@b>%s\r\n", row->want);
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.s, want, got.len);
	stralloc_free(&got);
}

#define LETTERS "abcdefghijklmnopqrstuvwxyabcdefghijklmnopqrstuvwxy"
#define BLANKS "+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20+20"

/* An ENVID of any form that qmail-smtpd takes goes on as it is: its 100 octets count before they are encoded. */
static void
envids(void **state)
{
	static const struct { const char *value; int goes; } rows[] = {
		{ "a", 1 }, { "a+2Bb", 1 }, { LETTERS LETTERS, 1 }, { LETTERS LETTERS "a", 0 }, { BLANKS BLANKS LETTERS, 1 },
		{ BLANKS BLANKS BLANKS BLANKS, 1 }, { BLANKS BLANKS BLANKS BLANKS "a", 0 },
		{ BLANKS BLANKS BLANKS BLANKS "+", 0 }, { "", 0 },
		{ "jos\303\251", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char given[400], want[500];
		struct smtp_command_mail mail = { .sender = "a@b", .parameters = given, .extensions = SESSION_DSN };
		stralloc got = STRALLOC_ZERO;

		snprintf(given, sizeof given, "ENVID=%s", rows[i].value);
		snprintf(want, sizeof want, "MAIL FROM:<a@b>%s%s\r\n", rows[i].goes ? " " : "", rows[i].goes ? given : "");
		assert_int_equal(smtp_command_mail(&got, &mail), 1);
		assert_true(stralloc_0(&got));
		assert_string_equal(got.s, want);
		stralloc_free(&got);
	}
}

/* Whatever is in them: one line, no more parameters than there may be. */
static void
random_octets(void **state)
{
	static const char alphabet[] = "a@.\"\\ <>\r\n\t;=,+\377\303\251NOTIFY=ORCPT=RET=ENVID=x;";
	stralloc got = STRALLOC_ZERO;

	(void)state;
	srand(5);
	for (int round = 0; round < 20000; round++) {
		char address[25], words[49];
		size_t n = (size_t)rand() % sizeof address, m = (size_t)rand() % sizeof words;
		struct smtp_command_mail mail = { .sender = address, .parameters = words, .extensions = (unsigned int)rand() % 64 };
		size_t blanks = 0;

		for (size_t i = 0; i < n; i++)
			address[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
		for (size_t i = 0; i < m; i++)
			words[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
		address[n] = words[m] = '\0';
		if (!smtp_command_can_carry(address))
			continue;
		got.len = 0;
		assert_int_equal(smtp_command_mail(&got, &mail), 1);
		assert_int_equal(smtp_command_rcpt(&got, address, words, mail.extensions), 1);
		for (size_t i = 0; i < got.len; i++)
			blanks += got.s[i] == '\n' || got.s[i] == '\r';
		assert_int_equal(blanks, 4);
	}
	stralloc_free(&got);
}

int
main(void)
{
	struct CMUnitTest tests[ADDRESSES + PARAMETERS + 4] = {
		cmocka_unit_test(long_addresses), cmocka_unit_test(needs_utf8), cmocka_unit_test(envids), cmocka_unit_test(random_octets),
	};
	size_t n = 4;

	for (size_t i = 0; i < ADDRESSES; i++)
		tests[n++] = (struct CMUnitTest){ .name = addresses[i].rule, .test_func = address_row,
		    .initial_state = (void *)(uintptr_t)&addresses[i] };
	for (size_t i = 0; i < PARAMETERS; i++)
		tests[n++] = (struct CMUnitTest){ .name = parameters[i].rule, .test_func = parameter_row,
		    .initial_state = (void *)(uintptr_t)&parameters[i] };
	return _cmocka_run_group_tests("smtp_command", tests, n, NULL, NULL);
}
