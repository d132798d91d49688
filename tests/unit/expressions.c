/* Which lines of a list are regular expressions, which of those are taken, and whom they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/expressions.h"

#define ADDRESS EXPRESSIONS_OF_ADDRESSES
#define HOST EXPRESSIONS_OF_HOSTS

struct complaints { unsigned int count; char entry[64], why[128]; };

static void
complain(void *data, const char *entry, const char *why)
{
	struct complaints *c = data;

	c->count++;
	snprintf(c->entry, sizeof c->entry, "%s", entry);
	snprintf(c->why, sizeof c->why, "%s", why);
}

/* The complaints about one entry; *e is what it gave. */
static struct complaints
read_one(struct expressions *e, const char *entry, enum expressions_kind kind)
{
	struct complaints c = { .count = 0 };

	assert_int_equal(expressions_read(e, entry, strlen(entry) + 1, kind, complain, &c), 1);
	assert_int_equal(e->count + c.count <= 1, 1);
	return c;
}

/* --- which lines are expressions --- */

static const struct kind_row { const char *entry; enum expressions_kind kind; int is_expression; } kind_rows[] = {
	{ "ann@example.org", ADDRESS, 0 },
	{ "@example.org", ADDRESS, 0 },
	{ "Ann.B+c-d=e_f@Sub-1.example_x.org", ADDRESS, 0 },
	{ "!#$%&'*+-/=?^_`{|}~@example.org", ADDRESS, 0 },
	{ "!ann@example.org", ADDRESS, 0 },
	{ "uucp!host!ann", ADDRESS, 0 },
	{ "*@example.org", ADDRESS, 0 },
	{ "ann..b.@example.org", ADDRESS, 0 },
	{ "ann@example.org.", ADDRESS, 0 },
	{ "j\xc3\xbcrgen@b\xc3\xbc" "cher.example", ADDRESS, 0 },
	{ "ann@[192.0.2.1]", ADDRESS, 0 },
	{ "ann@[IPv6:2001:db8::1]", ADDRESS, 0 },
	{ "ann", ADDRESS, 0 },
	{ "^ann@example.org", ADDRESS, 1 },
	{ "ann@example.org$", ADDRESS, 1 },
	{ "ann@example\\.org", ADDRESS, 1 },
	{ "!@example\\.org", ADDRESS, 1 },
	{ "!@", ADDRESS, 1 },
	{ "ann@", ADDRESS, 1 },
	{ ".*@example.org", ADDRESS, 1 },
	{ "spam.*", ADDRESS, 1 },
	{ "@.*@", ADDRESS, 1 },
	{ "a@b@c", ADDRESS, 1 },
	{ "[0-9]@example.org", ADDRESS, 1 },
	{ "ann@[0-9]", ADDRESS, 1 },
	{ "ann@[192.0.2.1]x", ADDRESS, 1 },
	{ "(ann|bob)@example.org", ADDRESS, 1 },
	{ "mail.example.org", HOST, 0 },
	{ ".example.org", HOST, 0 },
	{ "[192.0.2.1]", HOST, 0 },
	{ "[IPv6:2001:db8::1]", HOST, 0 },
	{ "!\\.", HOST, 1 },
	{ "!host", HOST, 1 },
	{ "^localhost$", HOST, 1 },
	{ "[0-9]", HOST, 1 },
	{ "a.*", HOST, 1 },
};

static void
kind_row(void **state)
{
	const struct kind_row *row = *state;
	struct expressions e;

	assert_int_equal(read_one(&e, row->entry, row->kind).count, 0);
	assert_int_equal(e.count, row->is_expression);
	expressions_free(&e);
}

/* --- whom they refuse --- */

static const struct match_row { const char *rule, *entry, *text; int refused; } match_rows[] = {
	{ "found anywhere", "bad\\.example", "ann@x.bad.example.org", 1 },
	{ "not found", "bad\\.example", "ann@badxexample", 0 },
	{ "without case", "Bad\\.example", "ann@bAD.Example", 1 },
	{ "anchored", "^ann@.*$", "ann@x", 1 },
	{ "anchored elsewhere", "^ann@.*$", "joann@x", 0 },
	{ "alternatives", "@(a|b)\\.example$", "x@b.example", 1 },
	{ "negated, found", "!@.*\\.example$", "ann@x.example", 0 },
	{ "negated, not found", "!@.*\\.example$", "ann@x.test", 1 },
	{ "negated, without a domain", "!@", "ann", 1 },
	{ "'!' in brackets", "[!%]", "a!b@x", 1 },
	{ "a doubled '!' negates once", "!!+@", "ann!@x", 0 },
	{ "octets above 127", "^.+@x\\.example$", "j\xc3\xbcrgen@x.example", 1 },
	{ "nothing behind '!' is found everywhere", "!()", "ann@x", 0 },
	{ "an interval", "^[0-9]{3,}@", "1234@x", 1 },
	{ "a class", "^[[:digit:]]+@", "12a@x", 0 },
};

static void
match_row(void **state)
{
	const struct match_row *row = *state;
	struct expressions e;

	assert_int_equal(read_one(&e, row->entry, ADDRESS).count, 0);
	assert_int_equal(e.count, 1);
	assert_int_equal(expressions_refuse(&e, row->text, strlen(row->text)), row->refused);
	expressions_free(&e);
}

static void
only_so_many_octets_count(void **state)
{
	char text[EXPRESSION_TEXT_MAX + 1];
	struct expressions e;

	(void)state;
	read_one(&e, "(b$)", ADDRESS);
	assert_false(expressions_refuse(&e, "aab", 2));
	assert_true(expressions_refuse(&e, "aab", 3));
	assert_false(expressions_refuse(&e, "aab", 0));
	memset(text, 'b', sizeof text);
	assert_true(expressions_refuse(&e, text, sizeof text - 1));
	assert_false(expressions_refuse(&e, text, sizeof text));
	expressions_free(&e);
}

static void
several_lines(void **state)
{
	static const char entries[] = "(a\0ann@x\0(b)\0^c@\0!@";
	struct complaints c = { .count = 0 };
	struct expressions e;

	(void)state;
	assert_int_equal(expressions_read(&e, entries, sizeof entries, ADDRESS, complain, &c), 1);
	assert_int_equal(c.count, 1);
	assert_string_equal(c.entry, "(a");
	assert_int_equal(e.count, 3);
	assert_true(expressions_refuse(&e, "b@x", 3));
	assert_true(expressions_refuse(&e, "c@x", 3));
	assert_true(expressions_refuse(&e, "d", 1));
	assert_false(expressions_refuse(&e, "ann@x", 5));
	expressions_free(&e);
	assert_int_equal(e.count, 0);
	assert_false(expressions_refuse(&e, "b@x", 3));
	assert_int_equal(expressions_read(&e, NULL, 0, ADDRESS, complain, &c), 1);
	expressions_free(&e);
}

/* --- limits --- */

static const struct limit_row { const char *entry, *why; } limit_rows[] = {	/* NULL: taken */
	{ "[a-z@", "Unmatched [, [^, [:, [., or [=" },
	{ "(a", "Unmatched ( or \\(" },
	{ "a)@", NULL },
	{ "(*a)", "Invalid preceding regular expression" },
	{ "(a)\\1", "it has a back reference" },
	{ "[\\1]", NULL },
	{ "(\\\\1)", NULL },
	{ "(a){511}", "it repeats too much" },
	{ "(a){255}", NULL },
	{ "[[:alpha:]]{511}", NULL },
	{ "[[:alpha:]]{513}", "it repeats too much" },
	{ "[]a]{512}", NULL },
	{ "^[^@]{1,64}@[^@]{1,255}$", NULL },
	{ "^(([0-9]{1,3}\\.){3}[0-9]{1,3})$", NULL },
	{ "((a{1,20}){1,20}){1,20}", "it repeats too much" },
	{ "(a{1,9}){1,9}{1,9}", "it repeats too much" },
	{ "(a{20}){20,}", NULL },
	{ "(a{20}){24,}", "it repeats too much" },
	{ "((((((((((a)+)+)+)+)+)+)+)+)+)+", "it repeats too much" },
	{ "((((a)+)+)+)+", NULL },
	{ "((a){99999999999999999999999})", "it repeats too much" },
};

static void
limit_row(void **state)
{
	const struct limit_row *row = *state;
	struct expressions e;
	struct complaints c = read_one(&e, row->entry, ADDRESS);

	assert_string_equal(c.why, row->why ? row->why : "");
	assert_string_equal(c.entry, row->why ? row->entry : "");
	assert_int_equal(e.count, row->why ? 0 : 1);
	expressions_free(&e);
}

static void
length(void **state)
{
	char entry[EXPRESSION_LENGTH_MAX + 3];
	struct expressions e;

	(void)state;
	memset(entry, '(', sizeof entry);
	entry[0] = '!';
	entry[EXPRESSION_LENGTH_MAX + 1] = '\0';
	assert_string_equal(read_one(&e, entry, ADDRESS).why, "Unmatched ( or \\(");
	expressions_free(&e);
	memset(entry, '@', sizeof entry);
	entry[0] = '!';
	entry[EXPRESSION_LENGTH_MAX + 1] = '\0';
	assert_int_equal(read_one(&e, entry, ADDRESS).count, 0);
	assert_int_equal(e.count, 1);
	expressions_free(&e);
	entry[EXPRESSION_LENGTH_MAX + 1] = '@';
	entry[EXPRESSION_LENGTH_MAX + 2] = '\0';
	assert_string_equal(read_one(&e, entry, ADDRESS).why, "it is too long");
	expressions_free(&e);
}

static void
number(void **state)
{
	static char entries[(EXPRESSIONS_MAX + 2) * 8];
	struct complaints c = { .count = 0 };
	struct expressions e;
	size_t len = 0;

	(void)state;
	for (unsigned int i = 0; i < EXPRESSIONS_MAX + 2; i++)
		len += (size_t)snprintf(entries + len, sizeof entries - len, "^%u@", i) + 1;
	assert_int_equal(expressions_read(&e, entries, len, ADDRESS, complain, &c), 1);
	assert_int_equal(e.count, EXPRESSIONS_MAX);
	assert_int_equal(c.count, 2);
	assert_string_equal(c.why, "there are too many");
	assert_true(expressions_refuse(&e, "499@x", 5));
	assert_false(expressions_refuse(&e, "500@x", 5));
	expressions_free(&e);
}

/* It answers alike before and after it was made anew. */
static void
an_automaton_that_grows(void **state)
{
	char without[900], with[900];
	struct expressions e;

	(void)state;
	for (size_t i = 0; i < sizeof without; i++)
		without[i] = "ab"[i * i / 7 % 2];
	memcpy(with, without, sizeof with);
	with[sizeof with - 10] = 'a';
	with[sizeof with - 1] = 'c';
	read_one(&e, "(a|b)*a(a|b){8}c", ADDRESS);
	for (size_t i = 0; i < 3 * EXPRESSION_RENEW / sizeof without; i++) {
		assert_false(expressions_refuse(&e, without, sizeof without));
		assert_true(expressions_refuse(&e, with, sizeof with));
		assert_true(e.list[0].met < EXPRESSION_RENEW + sizeof with);
	}
	expressions_free(&e);
}

enum {
	KINDS = sizeof kind_rows / sizeof *kind_rows, MATCHES = sizeof match_rows / sizeof *match_rows,
	LIMITS = sizeof limit_rows / sizeof *limit_rows, ROWS = KINDS + MATCHES + LIMITS,
};

int
main(void)
{
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(only_so_many_octets_count), cmocka_unit_test(several_lines), cmocka_unit_test(length),
		cmocka_unit_test(number), cmocka_unit_test(an_automaton_that_grows),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others], *t = tests;

	for (size_t i = 0; i < KINDS; i++)
		*t++ = (struct CMUnitTest){ .name = kind_rows[i].entry, .test_func = kind_row,
		    .initial_state = (void *)(uintptr_t)&kind_rows[i] };
	for (size_t i = 0; i < MATCHES; i++)
		*t++ = (struct CMUnitTest){ .name = match_rows[i].rule, .test_func = match_row,
		    .initial_state = (void *)(uintptr_t)&match_rows[i] };
	for (size_t i = 0; i < LIMITS; i++)
		*t++ = (struct CMUnitTest){ .name = limit_rows[i].entry, .test_func = limit_row,
		    .initial_state = (void *)(uintptr_t)&limit_rows[i] };
	memcpy(t, others, sizeof others);
	return cmocka_run_group_tests_name("expressions", tests, NULL, NULL);
}
