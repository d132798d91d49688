/* Header fields for clients that take ASCII only: RFC 6858 section 2, RFC 2047, RFC 2231. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/pop3d/ascii_field.h"
#include "bin-src/pop3d/encoded_words.h"
#include "stralloc_set.h"

#define A "\303\244"	/* an umlaut in UTF-8 */
#define Q(text) "=?utf-8?q?" text "?="
#define NO_ONE "<invalid@internationalized-address.invalid>"
#define TEN "0123456789"
#define FIFTY TEN TEN TEN TEN TEN

/* Line ends are CR LF. want NULL: as it is; "": left out. */
static const struct row { const char *rule, *field, *want; } rows[] = {
	{ "ASCII", "To :  a@b ,\n\t\"c\" <d@e> (f)", NULL },
	{ "no UTF-8", "Subject: \344", NULL },
	{ "half a character", "Subject: a\303", NULL },
	{ "a character of five octets", "Subject: \370\210\200\200\200", NULL },

	/* text */
	{ "Subject", "Subject: Gr" A "\303\237e", "Subject: " Q("Gr=C3=A4=C3=9Fe") },
	{ "folded, and with blanks around", "subject :\n  a\n\t" A " \n ", "subject : " Q("a=09=C3=A4") },
	{ "what is no letter", "Subject: " A " (a=b?) _\"c\"", "Subject: " Q("=C3=A4_=28a=3Db=3F=29_=5F=22c=22") },
	{ "what passes", "Subject: " A "aZ09!*+-/", "Subject: " Q("=C3=A4aZ09!*+-/") },
	{ "more than a line", "Subject: " A FIFTY TEN, "Subject: " Q("=C3=A4" TEN TEN TEN TEN "012345678") "\n " Q("9" TEN) },
	{ "no character is cut", "Subject: " TEN TEN TEN TEN TEN "0" A A A, "Subject: " Q(FIFTY "0") "\n " Q("=C3=A4=C3=A4=C3=A4") },
	{ "a character of four octets", "Comments: \360\237\230\200", "Comments: " Q("=F0=9F=98=80") },
	{ "Content-Description", "Content-Description: " A, "Content-Description: " Q("=C3=A4") },
	{ "one of one's own", "x-a: " A, "x-a: " Q("=C3=A4") },
	{ "a name that fills a line", "X-" FIFTY ": " A, "X-" FIFTY ": \n " Q("=C3=A4") },

	/* addresses */
	{ "a display name", "From: J" A "n <a@b>", "From: " Q("J=C3=A4n") " <a@b>" },
	{ "one in quotes", "From: \"J" A "n, \\\"x\\\"\"<a@b>", "From: " Q("J=C3=A4n=2C_=22x=22") " <a@b>" },
	{ "words and quotes", "From: A. \"J" A "n\" B <a@b>", "From: " Q("A=2E_J=C3=A4n_B") " <a@b>" },
	{ "an address", "From: " A "@b", "From: " Q("=C3=A4=40b") " " NO_ONE },
	{ "a domain", "From: a@" A, "From: " Q("a=40=C3=A4") " " NO_ONE },
	{ "an address in brackets", "Return-Path: <" A "@b>", "Return-Path: " Q("=3C=C3=A4=40b=3E") "\n " NO_ONE },
	{ "both", "Sender: J" A "n <" A "@b>", "Sender: " Q("J=C3=A4n_=3C=C3=A4=40b=3E") "\n " NO_ONE },
	{ "a name that is ASCII", "Sender: Jan <" A "@b>", "Sender: " Q("Jan_=3C=C3=A4=40b=3E") "\n " NO_ONE },
	{ "a local-part in quotes", "To: \"" A ",<\"@b", "To: " Q("=22=C3=A4=2C=3C=22=40b") "\n " NO_ONE },
	{ "a bracket in quotes in brackets", "To: x <\"" A ">\"@b>", "To: " Q("x_=3C=22=C3=A4=3E=22=40b=3E") "\n " NO_ONE },
	{ "a comment is the name", "To: a@b (J" A "n)", "To: " Q("J=C3=A4n") " <a@b>" },
	{ "and in front of brackets", "To: (J" A "n) <a@b>", "To: " Q("J=C3=A4n") " <a@b>" },
	{ "nested and quoted comments", "To: a@b (x (" A ") \\) y)", "To: " Q("x_=28=C3=A4=29_=5C=29_y") " <a@b>" },
	{ "nothing but a comment", "To: (" A ")", "To: " Q("=C3=A4") " " NO_ONE },
	{ "a comment beside a name", "To: x (" A ") <a@b>", "To: " Q("x") " <a@b>" },
	{ "a list", "Cc: a@b, \"c\"  <d@e> , " A " <f@g>,, h@i", "Cc: a@b,\n \"c\"  <d@e>,\n " Q("=C3=A4") " <f@g>,\n h@i" },
	{ "a folded list", "Cc: a@b,\n\t" A "\n <f@g>", "Cc: a@b,\n " Q("=C3=A4") " <f@g>" },
	{ "a comma that is none", "Cc: \"a,b\" <c@d>, (e,f) g@h, " A " <i@j>", "Cc: \"a,b\" <c@d>,\n (e,f) g@h,\n " Q("=C3=A4") " <i@j>" },
	{ "a group", "To: Gr" A " X: a@b, " A "@c;, d@e", "To: " Q("Gr=C3=A4_X") ": a@b,\n " Q("=C3=A4=40c") " " NO_ONE ";,\n d@e" },
	{ "nobody", "To: " A ":;", "To: " Q("=C3=A4") ": ;" },
	{ "a semicolon outside a group", "To: a@b; " A " <c@d>", "To: a@b,\n " Q("=C3=A4") " <c@d>" },
	{ "a literal", "To: " A " <a@[IPv6:::1]>, b@[IPv6:::1]", "To: " Q("=C3=A4") " <a@[IPv6:::1]>,\n b@[IPv6:::1]" },
	{ "a route", "To: " A " <@a,@b:c@d>", "To: " Q("=C3=A4") " <@a,@b:c@d>" },
	{ "a bracket without end", "To: " A " <a@b, c", "To: " Q("=C3=A4") " <a@b, c" },
	{ "quotes without end", "To: \"" A ", <a@b>", "To: " Q("=22=C3=A4=2C_=3Ca=40b=3E") "\n " NO_ONE },
	{ "a comment without end", "To: (" A " ((", "To: " Q("=C3=A4_=28=28") " " NO_ONE },
	{ "a backslash at the end", "To: \"" A "\\", "To: " Q("=22=C3=A4=5C") " " NO_ONE },
	{ "Resent", "resent-to: " A "@b", "resent-to: " Q("=C3=A4=40b") "\n " NO_ONE },

	/* parameters */
	{ "an attachment's name", "Content-Disposition: attachment; filename=\"" A " 1.pdf\"; size=3",
	    "Content-Disposition: attachment; filename*=utf-8''%C3%A4%201.pdf; size=3" },
	{ "and that without quotes", "Content-Type: a/b;name=" A, "Content-Type: a/b; name*=utf-8''%C3%A4" },
	{ "quotes in it", "Content-Type: a/b; name=\"\\\"" A "\\\\\"", "Content-Type: a/b; name*=utf-8''%22%C3%A4%5C" },
	{ "other parameters", "Content-Type: text/plain; charset=\"utf-8\"; name=\"" A "\"; format = flowed",
	    "Content-Type: text/plain; charset=\"utf-8\"; name*=utf-8''%C3%A4;\n format = flowed" },
	{ "more than a line", "Content-Type: text/plain;\n charset=utf-8;\n name=\"" A FIFTY "\"",
	    "Content-Type: text/plain; charset=utf-8;\n name*=utf-8''%C3%A4" FIFTY },
	{ "a comment", "Content-Type: text/plain (" A "); charset=utf-8 (" A "); a=b", "Content-Type: text/plain ; charset=utf-8; a=b" },
	{ "one that is encoded already", "Content-Type: a/b; name*=utf-8''" A "; name*0=" A "; c=d", "Content-Type: a/b; c=d" },
	{ "no name", "Content-Type: a/b; " A "=c", "Content-Type: a/b" },
	{ "no value", "Content-Type: a/b; name; x=" A, "Content-Type: a/b" },
	{ "quotes without end", "Content-Type: a/b; c=d; name=\"" A, "Content-Type: a/b; c=d" },
	{ "a type that is not ASCII", "Content-Type: " A "/b; c=d", "" },

	/* what is left out */
	{ "a field with other grammar", "Message-ID: <" A "@b>", "" },
	{ "Received", "Received: from a by b for <" A "@c>; date", "" },
	{ "no field", A, "" },
	{ "a name that is not ASCII", "Subject" A ": a", "" },
	{ "no name", ": " A, "" },
	{ "a colon later", "a " A " Subject: x", "" },
};

static char *
with_crlf(const char *s)
{
	char *copy = test_calloc(1, 2 * strlen(s) + 3);
	size_t n = 0;

	for (; *s; s++) {
		if (*s == '\n')
			copy[n++] = '\r';
		copy[n++] = *s;
	}
	memcpy(copy + n, "\r\n", 2);
	return copy;
}

static void
fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
		char *field = with_crlf(r->field), *want = with_crlf(r->want ? r->want : r->field);
		stralloc got = STRALLOC_ZERO;

		if (r->want && !*r->want)
			*want = '\0';
		assert_true(stralloc_sets(&got, "before"));
		assert_int_equal(ascii_field(&got, field, strlen(field)), 1);
		assert_true(stralloc_0(&got));
		if (strncmp(got.s, "before", 6) != 0 || strcmp(got.s + 6, want) != 0)
			fail_msg("%s: got\n%swanted\n%s", r->rule, got.s + 6, want);
		stralloc_free(&got);
		test_free(field);
		test_free(want);
	}
}

/* NUL is an octet like any other. */
static void
octets(void **state)
{
	static const char subject[] = "Subject: a\0" A "\r\n", to[] = "To: \0 " A "\r\n", type[] = "Content-Type: a/b; name=\"\0" A "\"\r\n";
	stralloc got = STRALLOC_ZERO;

	(void)state;
	assert_int_equal(ascii_field(&got, subject, sizeof subject - 1), 1);
	assert_int_equal(ascii_field(&got, to, sizeof to - 1), 1);
	assert_int_equal(ascii_field(&got, type, sizeof type - 1), 1);
	assert_true(stralloc_0(&got));
	assert_string_equal(got.s, "Subject: " Q("a=00=C3=A4") "\r\nTo: " Q("=00_=C3=A4") " " NO_ONE "\r\nContent-Type: a/b; name*=utf-8''%00%C3%A4\r\n");
	stralloc_free(&got);
}

/* Encoded, it is one line; what is longer is left out. */
static void
the_longest_parameter_and_one_octet_more(void **state)
{
	char field[2000] = "Content-Type: a/b; name=\"";
	size_t begin = strlen(field), n = (900 - strlen("name*=utf-8''")) / 3;
	stralloc got = STRALLOC_ZERO;

	(void)state;
	n -= n % 2;
	for (size_t i = 0; i < n; i += 2)
		memcpy(field + begin + i, A, 2);
	memcpy(field + begin + n, "\"\r\n", 4);
	assert_int_equal(ascii_field(&got, field, strlen(field)), 1);
	assert_int_equal(got.len, strlen("Content-Type: a/b;\r\n name*=utf-8''\r\n") + 3 * n);
	memcpy(field + begin + n, A "\"\r\n", 6);
	got.len = 0;
	assert_int_equal(ascii_field(&got, field, strlen(field)), 1);
	assert_int_equal(got.len, strlen("Content-Type: a/b\r\n"));
	stralloc_free(&got);
}

/* Lines of at most 76 octets, RFC 2047 section 2. */
static void
every_column(void **state)
{
	static const char text[] = A FIFTY A A A FIFTY FIFTY A;
	stralloc got = STRALLOC_ZERO;

	(void)state;
	for (size_t start = 0; start < 2 * ENCODED_WORDS_COLUMNS; start++) {
		size_t column = start;

		got.len = 0;
		assert_int_equal(encoded_words(&got, &column, text, sizeof text - 1), 1);
		assert_true(stralloc_0(&got));
		for (const char *s = got.s, *end; s; s = end ? end + 2 : NULL) {
			size_t len;

			end = strstr(s, "\r\n");
			len = end ? (size_t)(end - s) : strlen(s);
			assert_true(len <= ENCODED_WORDS_COLUMNS);
			assert_true(s > got.s || !len || start + len <= ENCODED_WORDS_COLUMNS);
			if (!end)
				assert_int_equal(column, len);
		}
	}
	stralloc_free(&got);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields), cmocka_unit_test(octets), cmocka_unit_test(the_longest_parameter_and_one_octet_more),
		cmocka_unit_test(every_column),
	};

	return cmocka_run_group_tests_name("ascii_field", tests, NULL, NULL);
}
