/* A message for a POP3 client that has not said UTF8: RFC 6858. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/pop3d/surrogate.h"

#define A "\303\244"	/* an umlaut in UTF-8 */
#define QA "=?utf-8?q?=C3=A4?="
#define MIXED(b) "Content-Type: multipart/mixed; boundary=" b "\n"
#define NAMED "Content-Type: a/b; name=" A "\n"
#define ENCODED "Content-Type: a/b; name*=utf-8''%C3%A4\n"

/* want: line ends are CR LF there. */
static const struct row { const char *rule, *stored, *want; } rows[] = {
	{ "ASCII", "a: b\n c\n\n.x\n", "a: b\n c\n\n..x\n" },
	{ "a body", "a: b\n\n" A "\n." A, "a: b\n\n" A "\n.." A "\n" },
	{ "a header", "Subject: " A "\nb: c\n d\n\nx\n", "Subject: " QA "\nb: c\n d\n\nx\n" },
	{ "a field of several lines", "Subject: " A "\n\t" A "\nb: c\n\nx\n", "Subject: =?utf-8?q?=C3=A4=09=C3=A4?=\nb: c\n\nx\n" },
	{ "its last field", "b: c\nSubject: " A "\n\nx\n", "b: c\nSubject: " QA "\n\nx\n" },
	{ "a field that is left out", "a: b\nReferences: " A "\n " A "\nc: d\n\nx\n", "a: b\nc: d\n\nx\n" },
	{ "no field", "a: b\n" A "\nc: d\n\nx\n", "a: b\nc: d\n\nx\n" },
	{ "no body", "Subject: " A "\n", "Subject: " QA "\n" },
	{ "no line end", "Subject: " A, "Subject: " QA "\n" },
	{ "nothing is left", "References: " A, "" },
	{ "CR LF", "Subject: " A "\r\n\r\n" A "\r\n", "Subject: " QA "\n\n" A "\n" },
	{ "a field that begins with a dot", ".a: b\nSubject: " A "\n\nx\n", "..a: b\nSubject: " QA "\n\nx\n" },
	{ "a dot in a field", "Subject: " A "\n.b: c\n\nx\n", "Subject: " QA "\n..b: c\n\nx\n" },
	{ "a dot of a folded line", "a: b,\n .c\nSubject: " A "\n\nx\n", "a: b,\n .c\nSubject: " QA "\n\nx\n" },
	{ "parts", MIXED("b") "\n" A "\n--b\n" NAMED "\n" A "\n--b\n\nSubject: " A "\n--b--\nSubject: " A "\n",
	    MIXED("b") "\n" A "\n--b\n" ENCODED "\n" A "\n--b\n\nSubject: " A "\n--b--\nSubject: " A "\n" },
	{ "a part that ends in its header", MIXED("b") "\n--b\n" NAMED "--b--\n", MIXED("b") "\n--b\n" ENCODED "--b--\n" },
	{ "a message that ends in a part's header", MIXED("b") "\n--b\n" NAMED, MIXED("b") "\n--b\n" ENCODED },
	{ "a boundary that is not ASCII", "Content-Type: multipart/mixed; boundary=" A "\n\n--" A "\n\nx\n--" A "--\n",
	    "Content-Type: multipart/mixed; boundary*=utf-8''%C3%A4\n\n--" A "\n\nx\n--" A "--\n" },
	{ "a message in it", "Content-Type: message/rfc822\n\nSubject: " A "\n\nSubject: " A "\n",
	    "Content-Type: message/rfc822\n\nSubject: " QA "\n\nSubject: " A "\n" },
	{ "a message of RFC 6532 in it", "Content-Type: message/global\n\nSubject: " A "\n\nx\n",
	    "Content-Type: message/global\n\nSubject: " A "\n\nx\n" },
	{ "what is signed", "Subject: " A "\nContent-Type: multipart/signed; boundary=b\n\n--b\n" NAMED "\nx\n--b--\n",
	    "Subject: " QA "\nContent-Type: multipart/signed; boundary=b\n\n--b\n" NAMED "\nx\n--b--\n" },
	{ "beside what is signed", MIXED("a") "\n--a\nContent-Type: multipart/signed; boundary=b\n\n--b\n" NAMED "\nx\n--b--\n--a\n" NAMED
	    "\nx\n--a--\n", MIXED("a") "\n--a\nContent-Type: multipart/signed; boundary=b\n\n--b\n" NAMED "\nx\n--b--\n--a\n" ENCODED
	    "\nx\n--a--\n" },
};

static void
with_crlf(char *to, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			*to++ = '\r';
		*to++ = *s;
	}
	*to = '\0';
}

/* Gets all of it in pieces of room octets. */
static size_t
take(char *got, const char *octets, size_t len, uint64_t lines, size_t room)
{
	struct surrogate s = { .mime.source = NULL };
	struct mail_data data;
	size_t n = 0;
	ssize_t r;

	mail_data_init(&data, octets, -1, len);
	assert_int_equal(surrogate_begin(&s, &data, 0, lines), 1);
	while ((r = surrogate_next(&s, got + n, room)) > 0)
		n += (size_t)r;
	assert_int_equal(r, 0);
	surrogate_free(&s);
	return n;
}

static void
messages(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (size_t room = 8; room < 1000; room += room < 20 ? 1 : 300) {
			char want[1000], got[1000];
			size_t len = take(got, rows[i].stored, strlen(rows[i].stored), SURROGATE_ALL_LINES, room);

			got[len] = '\0';
			with_crlf(want, rows[i].want);
			if (strcmp(got, want) != 0)
				fail_msg("%s: got\n%swanted\n%s", rows[i].rule, got, want);
		}
}

static void
a_client_that_said_UTF8(void **state)
{
	static const char stored[] = "Subject: " A "\n\n." A "\n", want[] = "Subject: " A "\r\n\r\n.." A "\r\n";
	struct surrogate s = { .mime.source = NULL };
	struct mail_data data;
	char got[100];

	(void)state;
	mail_data_init(&data, stored, -1, sizeof stored - 1);
	assert_int_equal(surrogate_begin(&s, &data, 1, SURROGATE_ALL_LINES), 1);
	assert_int_equal(surrogate_next(&s, got, sizeof got), sizeof want - 1);
	assert_memory_equal(got, want, sizeof want - 1);
	surrogate_free(&s);
}

/* Lines of a part's header count as what they are sent as. */
static void
lines(void **state)
{
	static const char stored[] = MIXED("b") "Subject: " A "\n\n.1\n--b\nTo: a@b, " A " <c@d>\n\n5\n6\n";
	static const char want[] = "Content-Type: multipart/mixed; boundary=b\r\nSubject: " QA "\r\n\r\n..1\r\n--b\r\nTo: a@b,\r\n " QA
	    " <c@d>\r\n\r\n5\r\n6\r\n";
	const char *end = strstr(want, "\r\n\r\n") + 4;
	char got[300];

	(void)state;
	for (uint64_t n = 0; n < 10; n++) {
		size_t len = take(got, stored, sizeof stored - 1, n, 100);

		assert_int_equal(len, end - want);
		assert_memory_equal(got, want, len);
		if (*end)
			end = strstr(end, "\r\n") + 2;
	}
}

/* A field that is kept has at most SURROGATE_FIELD_MAX octets. */
static void
the_longest_field_and_one_octet_more(void **state)
{
	static const char behind[] = A "\n " A "\na: " A "\nx-a: " A "\n\n" A;
	enum { ROOM = 16 * SURROGATE_FIELD_MAX };
	char *stored = test_calloc(1, SURROGATE_FIELD_MAX + 100), *got = test_malloc(ROOM);
	size_t len = SURROGATE_FIELD_MAX - 2 - 2, n;	/* the umlaut and the line end */

	(void)state;
	memcpy(stored, "Subject: ", 9);
	memset(stored + 9, 'x', len - 9);
	memcpy(stored + len, A "\na: b\n\n", 9);
	n = take(got, stored, len + 9, SURROGATE_ALL_LINES, 999);
	assert_memory_equal(got, "Subject: =?utf-8?q?x", 20);
	assert_memory_equal(got + n - strlen("=C3=A4?=\r\na: b\r\n\r\n"), "=C3=A4?=\r\na: b\r\n\r\n", strlen("=C3=A4?=\r\na: b\r\n\r\n"));
	memset(stored + 9, 'x', len);
	memcpy(stored + len + 3, behind, sizeof behind);
	n = take(got, stored, len + 3 + sizeof behind - 1, SURROGATE_ALL_LINES, 999);
	assert_memory_equal(got, "Subject: x", 10);
	assert_int_equal(n, len + 3 + strlen("??\r\n ??\r\nx-a: " QA "\r\n\r\n" A "\r\n"));
	assert_memory_equal(got + len + 3, "??\r\n ??\r\nx-a: " QA "\r\n\r\n" A "\r\n", n - len - 3);
	test_free(stored);
	test_free(got);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages), cmocka_unit_test(a_client_that_said_UTF8), cmocka_unit_test(lines),
		cmocka_unit_test(the_longest_field_and_one_octet_more),
	};

	return cmocka_run_group_tests_name("surrogate", tests, NULL, NULL);
}
