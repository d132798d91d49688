/* Address lists: RFC 5322 sections 3.4 and 4.4, and qmail's rules for completing addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "address822.h"
#include "stralloc_set.h"

static const char *
test_default(void *data, enum address822_default which)
{
	(void)data;
	switch (which) {
	case ADDRESS822_DEFAULTHOST: return "dh.test";
	case ADDRESS822_PLUSDOMAIN: return "plus.test";
	default: return "dd.test";
	}
}

static const struct address822_defaults defaults = { .get = test_default };

static int
note(void *data, stralloc *address)
{
	stralloc *all = data;

	return address822_complete(address, &defaults) && (!all->len || stralloc_append(all, '|')) &&
	    address822_unquote(all, address->s, address->len);
}

static int
note_as_it_is(void *data, stralloc *address)
{
	stralloc *all = data;

	return (!all->len || stralloc_append(all, '|')) && address822_unquote(all, address->s, address->len);
}

#define REFUSED "malformed"

/* want: the addresses in envelope form, joined by '|'; printed: the field body, behind "To:" */
static const struct list_row { const char *rule, *input, *want, *printed; } list_rows[] = {
	{ "addr-spec", "a@b.c", "a@b.c", " a@b.c" },
	{ "list", "a@b.c,d@e.f", "a@b.c|d@e.f", " a@b.c, d@e.f" },
	{ "name and angle", "Joe <a@b.c>", "a@b.c", " Joe <a@b.c>" },
	{ "name without blank before angle", "Joe<a@b.c>", "a@b.c", " Joe <a@b.c>" },
	{ "quoted name", "\"A, B\" <a@b.c>", "a@b.c", " \"A, B\" <a@b.c>" },
	{ "name with a dot, 4.1", "Joe Q. Public <a@b.c>", "a@b.c", " Joe Q. Public <a@b.c>" },
	{ "name with an at", "x@y <a@b.c>", "a@b.c", " x@y <a@b.c>" },
	{ "angle only", "<a@b.c>", "a@b.c", " <a@b.c>" },
	{ "null address", "<>", "", " <>" },
	{ "name and null address", "Joe <>", "", " Joe <>" },
	{ "empty", "", "", "" },
	{ "blanks only", " \t\n ", "", "" },
	{ "comment only", "(no one)", "", " (no one)" },
	{ "comment behind", "a@b.c (Joe)", "a@b.c", " a@b.c (Joe)" },
	{ "comment before", "(Joe) a@b.c", "a@b.c", " (Joe) a@b.c" },
	{ "comment inside moves behind", "a(x)@(y)b.c", "a@b.c", " a@b.c (x) (y)" },
	{ "comment inside angle moves behind", "<a(x)@b.c>", "a@b.c", " <a@b.c> (x)" },
	{ "nested comment", "a@b.c (x (y) \\) z)", "a@b.c", " a@b.c (x (y) \\) z)" },
	{ "comment in a name", "Joe (x) Doe <a@b.c>", "a@b.c", " Joe (x) Doe <a@b.c>" },
	{ "comment keeps its folds", "a@b.c (x\n\ty)", "a@b.c", " a@b.c (x\n\ty)" },
	{ "blanks inside an address, 4.4", "a . b @ c . d", "a.b@c.d", " a.b@c.d" },
	{ "blanks around at, no new address", "a@ b.c", "a@b.c", " a@b.c" },
	{ "quoted local-part", "\"a b\"@c.d", "a b@c.d", " \"a b\"@c.d" },
	{ "quoted pairs", "\"a\\\"\\\\b\"@c.d", "a\"\\b@c.d", " \"a\\\"\\\\b\"@c.d" },
	{ "fold inside a quoted local-part", "\"a\n b\"@c.d", "a b@c.d", " \"a b\"@c.d" },
	{ "CRLF fold inside a quoted local-part", "\"a\r\n b\"@c.d", "a b@c.d", " \"a b\"@c.d" },
	{ "fold behind a backslash", "\"a\\\n b\"@c.d", "a b@c.d", " \"a b\"@c.d" },
	{ "backslash, then a fold", "\"a\\\\\r\n b\"@c.d", "a\\ b@c.d", " \"a\\\\ b\"@c.d" },
	{ "backslash last in a line, outside quotes", "a\\\n", "a@dh.test", " \"a\"@dh.test" },
	{ "empty quoted local-part", "\"\"@c.d", "@c.d", " \"\"@c.d" },
	{ "backslash outside quotes", "a\\ b@c.d", "a b@c.d", " \"a\\ b\"@c.d" },
	{ "domain literal", "a@[127.0.0.1]", "a@[127.0.0.1]", " a@[127.0.0.1]" },
	{ "octets above 127, RFC 6532", "J\303\270ran <j\303\270@\303\270.test>", "j\303\270@\303\270.test",
	    " J\303\270ran <j\303\270@\303\270.test>" },
	{ "octets that are no UTF-8", "\377\200@b.c", "\377\200@b.c", " \377\200@b.c" },
	{ "encoded word", "=?UTF-8?Q?J=C3=B8?= <a@b.c>", "a@b.c", " =?UTF-8?Q?J=C3=B8?= <a@b.c>" },
	{ "route dropped", "<@x.y,@z.w:a@b.c>", "a@b.c", " <a@b.c>" },
	{ "route with one host", "Joe <@x.y:a@b.c>", "a@b.c", " Joe <a@b.c>" },
	{ "route with a literal", "<@[1.2.3.4]:a@b.c>", "a@b.c", " <a@b.c>" },
	{ "route in a route", "<@x.y:@z:a@b.c>", REFUSED, NULL },
	{ "group", "Friends: a@b.c, d@e.f;", "a@b.c|d@e.f", " Friends: a@b.c, d@e.f;" },
	{ "group without blanks", "Friends:a@b.c,d@e.f;", "a@b.c|d@e.f", " Friends: a@b.c, d@e.f;" },
	{ "empty group", "recipient list not shown: ;", "", " recipient list not shown: ;" },
	{ "empty group without blank", "nobody:;", "", " nobody: ;" },
	{ "group with names", "A Group: Joe <a@b.c>;, x@y.z", "a@b.c|x@y.z", " A Group: Joe <a@b.c>;, x@y.z" },
	{ "group without end", "undisclosed-recipients:", "", " undisclosed-recipients:" },
	{ "group without end, members", "x: a@b.c", "a@b.c", " x: a@b.c" },
	{ "missing comma behind a group", "x: a@b.c; d@e.f", "a@b.c|d@e.f", " x: a@b.c;, d@e.f" },
	{ "missing comma before a group", "<a@b.c> x: d@e.f;", "a@b.c|d@e.f", " <a@b.c>, x: d@e.f;" },
	{ "group in a group", "x: y: a@b.c;;", REFUSED, NULL },
	{ "group without a name", ": a@b.c;", REFUSED, NULL },
	{ "no address is lost in a group's name", "a@b.c x: d@e.f;", REFUSED, NULL },
	{ "missing comma", "a@b.c d@e.f", "a@b.c|d@e.f", " a@b.c, d@e.f" },
	{ "missing comma, fold", "a@b.c\n d@e.f", "a@b.c|d@e.f", " a@b.c, d@e.f" },
	{ "missing comma, words", "joe bob", "joe@dh.test|bob@dh.test", " joe@dh.test, bob@dh.test" },
	{ "missing comma, quoted", "joe \"b c\"", "joe@dh.test|b c@dh.test", " joe@dh.test, \"b c\"@dh.test" },
	{ "missing comma, comment between", "a@b.c (x) d@e.f", "a@b.c|d@e.f", " a@b.c (x), d@e.f" },
	{ "missing comma behind angle", "<a@b.c> d@e.f", "a@b.c|d@e.f", " <a@b.c>, d@e.f" },
	{ "missing comma between angles", "<a@b.c><d@e.f>", "a@b.c|d@e.f", " <a@b.c>, <d@e.f>" },
	{ "missing comma before a name", "<a@b.c> Joe <d@e.f>", "a@b.c|d@e.f", " <a@b.c>, Joe <d@e.f>" },
	{ "semicolon outside a group", "a@b.c; d@e.f", "a@b.c|d@e.f", " a@b.c, d@e.f" },
	{ "empty elements, 4.4", ", a@b.c,, d@e.f,", "a@b.c|d@e.f", " , a@b.c, , d@e.f," },
	{ "several at", "a@b@c.d", "a@b@c.d", " a@b@c.d" },
	{ "dot at the start of a local-part", ".a@b.c", ".a@b.c", " .a@b.c" },
	{ "NUL is part of an atom", NULL, NULL, NULL },
	{ "no local-part", "@b.c", REFUSED, NULL },
	{ "no local-part, several at", "@b@c", REFUSED, NULL },
	{ "dots are no local-part", ".@b", REFUSED, NULL },
	{ "at alone", "@", REFUSED, NULL },
	{ "dot alone", ".", REFUSED, NULL },
	{ "no local-part in angle", "<@b.c>", REFUSED, NULL },
	{ "two words in angle", "<joe bob@b.c>", REFUSED, NULL },
	{ "comma in angle", "<a@b.c, d@e.f>", REFUSED, NULL },
	{ "semicolon in angle", "<Undisclosed:@b.c;>", REFUSED, NULL },
	{ "angle in angle", "<a <b@c.d>>", REFUSED, NULL },
	{ "angle not closed", "<a@b.c", REFUSED, NULL },
	{ "angle not opened", "a@b.c>", REFUSED, NULL },
	{ "quotes not closed", "\"a@b.c", REFUSED, NULL },
	{ "comment not closed", "(a@b.c", REFUSED, NULL },
	{ "comment not opened", "a)@b.c", REFUSED, NULL },
	{ "literal not closed", "a@[b.c", REFUSED, NULL },
	{ "literal not opened", "a@b]", REFUSED, NULL },
	{ "backslash last", "a@b\\", REFUSED, NULL },
	{ "backslash last in quotes", "\"a\\\"", REFUSED, NULL },
	{ "complete: default host", "joe", "joe@dh.test", " joe@dh.test" },
	{ "complete: in angle", "Joe <joe>", "joe@dh.test", " Joe <joe@dh.test>" },
	{ "complete: default domain", "joe@h", "joe@h.dd.test", " joe@h.dd.test" },
	{ "complete: plus domain", "joe@h+", "joe@h.plus.test", " joe@h.plus.test" },
	{ "complete: plus with dots", "joe@h.x+", "joe@h.x.plus.test", " joe@h.x.plus.test" },
	{ "complete: plus in the local-part stays", "joe+@h.x", "joe+@h.x", " joe+@h.x" },
	{ "complete: literal has no domain", "joe@[h]", "joe@[h]", " joe@[h]" },
	{ "complete: dot at the end", "joe@h.x.", "joe@h.x", " joe@h.x" },
	{ "complete: one dot only", "joe@h.x..", "joe@h.x.", " joe@h.x." },
	{ "complete: dot, then default domain", "joe@h.", "joe@h.dd.test", " joe@h.dd.test" },
	{ "complete: dot behind a local-part", "joe.", "joe@dh.test", " joe@dh.test" },
	{ "complete: at at the end", "joe@", "joe@dh.test", " joe@dh.test" },
	{ "complete: dot, then at", "joe@.", "joe@dh.test", " joe@dh.test" },
	{ "complete: route, then the rest", "<@x:joe@.>", "joe@dh.test", " <joe@dh.test>" },
	{ "complete: x@[] stays", "x@[]", "x@[]", " x@[]" },
	{ "complete: VERP stays", "list-@h-@[]", "list-@h-@[]", " list-@h-@[]" },
	{ "complete: quoted at is no at", "\"a@b\"", "a@b@dh.test", " \"a@b\"@dh.test" },
	{ "complete: dot in a literal is no dot", "a@b@[c.d]", "a@b@[c.d]", " a@b@[c.d]" },
};
enum { LIST_ROWS = sizeof list_rows / sizeof *list_rows };

/* Reads len octets that have no octet behind them. */
static int
read_by(address822_each *each, const char *s, size_t len, stralloc *all, stralloc *out)
{
	char *copy = malloc(len ? len : 1);	/* exact size: ASan sees over-reads */
	struct address822_printer printer;
	int r;

	assert_non_null(copy);
	/* cppcheck-suppress uninitvar ; all callers fill it */
	memcpy(copy, s, len);
	assert_true(stralloc_sets(out, "To:"));
	address822_printer_init(&printer, out, out->len);
	r = address822_read(copy, len, each, all, &printer);
	free(copy);
	return r;
}

static int
read_exactly(const char *s, size_t len, stralloc *all, stralloc *out)
{
	return read_by(note, s, len, all, out);
}

static void
list_row(void **state)
{
	static const struct list_row nul = { "", "a\0b@c.d", NULL, NULL };
	const struct list_row *row = *state;
	stralloc all = STRALLOC_ZERO, out = STRALLOC_ZERO;

	if (!row->input) {
		assert_int_equal(read_exactly(nul.input, 7, &all, &out), 1);
		assert_int_equal(all.len, 7);
		assert_memory_equal(all.s, nul.input, 7);
	} else if (!row->printed)
		assert_int_equal(read_exactly(row->input, strlen(row->input), &all, &out), 0);
	else {
		assert_int_equal(read_exactly(row->input, strlen(row->input), &all, &out), 1);
		assert_true(stralloc_0(&all) && stralloc_0(&out));
		assert_string_equal(all.s, row->want);
		assert_string_equal(out.s + 3, row->printed);
	}
	stralloc_free(&all);
	stralloc_free(&out);
}

/* Every row read from each of its beginnings: nothing is read beyond, nothing crashes. */
static void
prefixes(void **state)
{
	(void)state;
	for (size_t i = 0; i < LIST_ROWS; i++)
		for (size_t n = 0; list_rows[i].input && n < strlen(list_rows[i].input); n++) {
			stralloc all = STRALLOC_ZERO, out = STRALLOC_ZERO;

			assert_int_not_equal(read_exactly(list_rows[i].input, n, &all, &out), -1);
			stralloc_free(&all);
			stralloc_free(&out);
		}
}

#define TEN "aaaaaaaaaa"
#define FORTY TEN TEN TEN TEN

/* Folding at 80 columns, behind "To:". */
static const struct fold_row { const char *rule, *input, *printed; } fold_rows[] = {
	{ "fold: 80 columns fit", FORTY "@bbb.test, " TEN TEN "@b.te", " " FORTY "@bbb.test, " TEN TEN "@b.te" },
	{ "fold: 81 do not", FORTY "@bbb.test, " TEN TEN "@b.tes", " " FORTY "@bbb.test,\n  " TEN TEN "@b.tes" },
	{ "fold: the comma counts", FORTY "@bbb.test, " TEN TEN "@b.te, x@y.z",
	    " " FORTY "@bbb.test,\n  " TEN TEN "@b.te, x@y.z" },
	{ "fold: best behind a comma", FORTY "@bbb.test, Joe Doe <" TEN TEN "@bbb.te>",
	    " " FORTY "@bbb.test,\n  Joe Doe <" TEN TEN "@bbb.te>" },
	{ "fold: between words where it must", FORTY " " FORTY " <x@y.z>", " " FORTY "\n  " FORTY " <x@y.z>" },
	{ "fold: not before the first", FORTY FORTY "@b.c", " " FORTY FORTY "@b.c" },
	{ "fold: one long address a line", FORTY FORTY "@b.c, " FORTY FORTY "@b.c", " " FORTY FORTY "@b.c,\n  " FORTY FORTY "@b.c" },
	{ "fold: what comes folded is folded anew", "a@b.c,\n\td@e.f", " a@b.c, d@e.f" },
};

static void
fold_row(void **state)
{
	const struct fold_row *row = *state;
	stralloc all = STRALLOC_ZERO, out = STRALLOC_ZERO;

	assert_int_equal(read_exactly(row->input, strlen(row->input), &all, &out), 1);
	assert_true(stralloc_0(&out));
	assert_string_equal(out.s + 3, row->printed);
	stralloc_free(&all);
	stralloc_free(&out);
}

static void
too_long_address(void **state)
{
	stralloc text = STRALLOC_ZERO, all = STRALLOC_ZERO, out = STRALLOC_ZERO;

	(void)state;
	while (text.len <= ADDRESS822_MAX)
		assert_true(stralloc_cats(&text, "a."));
	assert_int_equal(read_exactly(text.s, text.len, &all, &out), 0);
	stralloc_free(&text);
	stralloc_free(&all);
	stralloc_free(&out);
}

/* Comments as deep as a megabyte allows: no recursion. */
static void
deep_comment(void **state)
{
	enum { DEPTH = 500000 };
	stralloc text = STRALLOC_ZERO, all = STRALLOC_ZERO, out = STRALLOC_ZERO;

	(void)state;
	assert_true(stralloc_ready(&text, 2 * DEPTH));
	memset(text.s, '(', DEPTH);
	memset(text.s + DEPTH, ')', DEPTH);
	assert_int_equal(read_exactly(text.s, 2 * DEPTH, &all, &out), 1);
	assert_int_equal(read_exactly(text.s, 2 * DEPTH - 1, &all, &out), 0);
	stralloc_free(&text);
	stralloc_free(&all);
	stralloc_free(&out);
}

static const struct quote_row { const char *rule, *input, *want; } quote_rows[] = {
	{ "quote: dot-atom", "joe.doe", "joe.doe" },
	{ "quote: octets above 127", "j\303\270", "j\303\270" },
	{ "quote: blank", "joe doe", "\"joe doe\"" },
	{ "quote: at", "joe@doe", "\"joe@doe\"" },
	{ "quote: quote and backslash", "a\"\\b", "\"a\\\"\\\\b\"" },
	{ "quote: empty", "", "\"\"" },
	{ "quote: control", "a\001", "\"a\001\"" },
};

static void
quote_row(void **state)
{
	const struct quote_row *row = *state;
	stralloc out = STRALLOC_ZERO;

	assert_true(address822_quote(&out, row->input, strlen(row->input)) && stralloc_0(&out));
	assert_string_equal(out.s, row->want);
	out.len = 0;
	assert_true(address822_unquote(&out, row->want, strlen(row->want)) && stralloc_0(&out));
	assert_string_equal(out.s, row->input);
	stralloc_free(&out);
}

/* What is printed means the same addresses, and is printed the same again, for random lists of what matters. */
static void
printed_means_the_same(void **state)
{
	static const char alphabet[] = "aab.@@,,;:<>()[]\"\\ \n\t\r+\303";
	uint32_t seed = 1;
	unsigned int accepted = 0;

	(void)state;
	for (unsigned int round = 0; round < 300000; round++) {
		stralloc all = STRALLOC_ZERO, out = STRALLOC_ZERO, all_again = STRALLOC_ZERO, out_again = STRALLOC_ZERO;
		char text[24];
		size_t len = round % sizeof text;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			text[i] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
		}
		if (read_exactly(text, len, &all, &out) == 1) {
			assert_int_equal(read_by(note_as_it_is, out.s + 3, out.len - 3, &all_again, &out_again), 1);
			assert_int_equal(all.len, all_again.len);
			assert_int_equal(out.len, out_again.len);
			if (all.len)
				assert_memory_equal(all.s, all_again.s, all.len);
			assert_memory_equal(out.s, out_again.s, out.len);
			accepted++;
		}
		stralloc_free(&all);
		stralloc_free(&out);
		stralloc_free(&all_again);
		stralloc_free(&out_again);
	}
	assert_true(accepted > 10000);
}

static const char *
no_default(void *data, enum address822_default which)
{
	(void)data;
	(void)which;
	return NULL;
}

static const char *
empty_default(void *data, enum address822_default which)
{
	(void)data;
	(void)which;
	return "";
}

static void
defaults_missing(void **state)
{
	const struct address822_defaults none = { .get = no_default }, empty = { .get = empty_default };
	stralloc a = STRALLOC_ZERO;

	(void)state;
	assert_true(stralloc_sets(&a, "joe@h"));
	assert_int_equal(address822_complete(&a, &none), 0);
	assert_true(stralloc_sets(&a, "joe@h.x"));
	assert_int_equal(address822_complete(&a, &none), 1);
	assert_true(stralloc_sets(&a, "joe@h"));
	assert_int_equal(address822_complete(&a, &empty), 1);
	assert_true(stralloc_0(&a));
	assert_string_equal(a.s, "joe@h");
	assert_true(stralloc_sets(&a, "joe"));
	assert_int_equal(address822_complete(&a, &empty), 1);
	assert_true(stralloc_0(&a));
	assert_string_equal(a.s, "joe");
	stralloc_free(&a);
}

static int
stop(void *data, stralloc *address)
{
	(void)data;
	(void)address;
	return 0;
}

static void
each_stops(void **state)
{
	(void)state;
	assert_int_equal(address822_read("a@b", 3, stop, NULL, NULL), -1);
	assert_int_equal(address822_read("a@b", 3, NULL, NULL, NULL), 1);
}

static void
last_at(void **state)
{
	(void)state;
	assert_int_equal(address822_at("a@b", 3), 1);
	assert_int_equal(address822_at("a@b@c", 5), 3);
	assert_int_equal(address822_at("\"a@b\"", 5), 5);
	assert_int_equal(address822_at("\"a@b\"@[c@d]", 11), 5);
	assert_int_equal(address822_at("", 0), 0);
}

enum {
	FOLD_ROWS = sizeof fold_rows / sizeof *fold_rows,
	QUOTE_ROWS = sizeof quote_rows / sizeof *quote_rows,
};

int
main(void)
{
	struct CMUnitTest tests[LIST_ROWS + FOLD_ROWS + QUOTE_ROWS + 7];
	size_t n = 0;

	for (size_t i = 0; i < LIST_ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = list_rows[i].rule, .test_func = list_row,
		    .initial_state = (void *)(uintptr_t)&list_rows[i] };
	for (size_t i = 0; i < FOLD_ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = fold_rows[i].rule, .test_func = fold_row,
		    .initial_state = (void *)(uintptr_t)&fold_rows[i] };
	for (size_t i = 0; i < QUOTE_ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = quote_rows[i].rule, .test_func = quote_row,
		    .initial_state = (void *)(uintptr_t)&quote_rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(prefixes);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(printed_means_the_same);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(too_long_address);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(deep_comment);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(defaults_missing);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(each_stops);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(last_at);
	return cmocka_run_group_tests_name("address822", tests, NULL, NULL);
}
