/* A message for a server without 8BITMIME: RFC 6152 section 3, RFC 2045 and 2046. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bin-src/remote/downgrade.h"

#define A "\303\244"	/* an umlaut in UTF-8 */
#define QA "=C3=A4"
#define MIME "MIME-Version: 1.0\n"
#define ENCODING "Content-Transfer-Encoding: "
#define QP ENCODING "quoted-printable\n"
#define TEXT "Content-Type: text/plain; charset=utf-8\n"
#define UNKNOWN "Content-Type: text/plain; charset=unknown-8bit\n"
#define MIXED(b) "Content-Type: multipart/mixed; boundary=" b "\n"
#define FIFTY "12345678901234567890123456789012345678901234567890"

/* want: the message, or "!" and why not. Line ends are CR LF there. */
static const struct row { const char *rule, *input, *want; } rows[] = {
	/* a message of one part */
	{ "no MIME", "Subject: x\n\n" A "\n", "Subject: x\n" MIME UNKNOWN QP "\n" QA "\n" },
	{ "no header", "\n" A "\n", MIME UNKNOWN QP "\n" QA "\n" },
	{ "no last line end", "\n" A, MIME UNKNOWN QP "\n" QA "\n" },
	{ "its encoding is replaced", MIME TEXT ENCODING "8bit\nX: y\n\n" A "\n", MIME TEXT "X: y\n" QP "\n" QA "\n" },
	{ "and that of two lines", MIME TEXT "content-transfer-encoding :\n 8BIT\nX: y\n\n" A "\n", MIME TEXT "X: y\n" QP "\n" QA "\n" },
	{ "and that with a comment", MIME TEXT ENCODING "(a (b\\)) c) 8bit (d)\n\n" A "\n", MIME TEXT QP "\n" QA "\n" },
	{ "7bit that is none", MIME TEXT ENCODING "7bit\n\n" A "\n", MIME TEXT QP "\n" QA "\n" },
	{ "no MIME-Version", TEXT "\n" A "\n", TEXT MIME QP "\n" QA "\n" },
	{ "type of old", MIME "Content-Type: text\n\n" A "\n", MIME "Content-Type: text\n" QP "\n" QA "\n" },
	{ "any other type", MIME "Content-Type: application/x; name=a b\n\n" A "\n", MIME "Content-Type: application/x; name=a b\n" QP
	    "\n" QA "\n" },
	{ "a message with a header in UTF-8, RFC 6532", MIME "Content-Type: message/global\n" ENCODING "8bit\n\nSubject: " A "\n\n" A "\n",
	    MIME "Content-Type: message/global\n" QP "\nSubject: " QA "\n\n" QA "\n" },

	/* quoted-printable */
	{ "what is not itself", "\n=" A "\177\001\n", MIME UNKNOWN QP "\n=3D" QA "=7F=01\n" },
	{ "blanks at the end of a line", "\na \nb\t\n c" A " d\n \n", MIME UNKNOWN QP "\na=20\nb=09\n c" QA " d\n=20\n" },
	{ "a line of 75", "\n" A FIFTY "1234567890123456789\n", MIME UNKNOWN QP "\n" QA FIFTY "1234567890123456789\n" },
	{ "a line of 76", "\n" A FIFTY "12345678901234567890\n", MIME UNKNOWN QP "\n" QA FIFTY "1234567890123456789=\n0\n" },
	{ "no octet is cut", "\n" FIFTY "123456789012345678901234" A "\n", MIME UNKNOWN QP "\n" FIFTY "123456789012345678901234=\n" QA "\n" },
	{ "a dot", "\n.\n." A "\n", MIME UNKNOWN QP "\n.\n." QA "\n" },
	{ "a hyphen that begins a line", "\n-- \n" A "-\n", MIME UNKNOWN QP "\n=2D-=20\n" QA "-\n" },
	{ "a hyphen that comes to begin a line", "\n" A FIFTY "1234567890123456789--b\n",
	    MIME UNKNOWN QP "\n" QA FIFTY "1234567890123456789=\n=2D-b\n" },
	{ "CR LF in the queue", "Subject: x\r\n\r\n" A "\r\nb\r\n", "Subject: x\n" MIME UNKNOWN QP "\n" QA "\nb\n" },

	/* parts */
	{ "only the parts that need it", MIME MIXED("b") ENCODING "8bit\n\npre\n--b\n" TEXT "\n= -\n--b\n" TEXT ENCODING "8bit\n\n" A
	    "\n\n--b--\npost\n",
	    MIME MIXED("b") ENCODING "7bit\n\npre\n--b\n" TEXT "\n= -\n--b\n" TEXT QP "\n" QA "\n\n--b--\npost\n" },
	{ "a part without header", MIME MIXED("b") "\n--b\n\n" A "\n--b--\n", MIME MIXED("b") "\n--b\n" UNKNOWN QP "\n" QA "\n--b--\n" },
	{ "a part that is encoded already", MIME MIXED("b") "\n--b\n" ENCODING "base64\n\nw6Q=\n--b\n" TEXT "\n" A "\n--b--\n",
	    MIME MIXED("b") "\n--b\n" ENCODING "base64\n\nw6Q=\n--b\n" TEXT QP "\n" QA "\n--b--\n" },
	{ "a quoted boundary", MIME "Content-Type: Multipart/Mixed;\n\tcharset=\"x;y\"; (c)\n Boundary=\"a \\\"=b\"\n\n--a \"=b \t\n"
	    TEXT "\n" A "\n--a \"=b--\n",
	    MIME "Content-Type: Multipart/Mixed;\n\tcharset=\"x;y\"; (c)\n Boundary=\"a \\\"=b\"\n\n--a \"=b \t\n" TEXT QP "\n" QA
	    "\n--a \"=b--\n" },
	{ "a boundary that should be quoted", MIME MIXED("=_1/2") "\n--=_1/2\n" TEXT "\n" A "\n--=_1/2--\n",
	    MIME MIXED("=_1/2") "\n--=_1/2\n" TEXT QP "\n" QA "\n--=_1/2--\n" },
	{ "lines that are like a boundary", MIME MIXED("b") "\n--b\n" TEXT "\n--bb\n --b\n" A "\n--b--\n",
	    MIME MIXED("b") "\n--b\n" TEXT QP "\n=2D-bb\n --b\n" QA "\n--b--\n" },
	{ "multiparts in multiparts", MIME MIXED("a") ENCODING "8bit\n\n--a\n" MIXED("ab") ENCODING "binary\n\n--ab\n\nx\n--ab\n" TEXT
	    "\n" A "\n--ab--\n--a\n"
	    MIXED("c") ENCODING "8bit\n\n--c\n\nx\n--c--\n--a--\n",
	    MIME MIXED("a") ENCODING "7bit\n\n--a\n" MIXED("ab") ENCODING "7bit\n\n--ab\n\nx\n--ab\n" TEXT QP "\n" QA "\n--ab--\n--a\n"
	    MIXED("c") ENCODING "8bit\n\n--c\n\nx\n--c--\n--a--\n" },
	{ "the outer boundary ends the inner multipart", MIME MIXED("a") "\n--a\n" MIXED("b") "\n--b\n\nx\n--a\n" TEXT "\n" A "\n--a--\n",
	    MIME MIXED("a") "\n--a\n" MIXED("b") "\n--b\n\nx\n--a\n" TEXT QP "\n" QA "\n--a--\n" },
	{ "a part that ends in its header", MIME MIXED("a") "\n--a\nX: y\n--a\n" TEXT "\n" A "\n--a--\n", MIME MIXED("a")
	    "\n--a\nX: y\n--a\n" TEXT QP "\n" QA "\n--a--\n" },
	{ "no last boundary", MIME MIXED("a") "\n--a\n" TEXT "\n" A "\n", MIME MIXED("a") "\n--a\n" TEXT QP "\n" QA "\n" },
	{ "text that is no part", MIME MIXED("a") "\n" A "\n--" A "\n--a\n\nx\n--a--\n" A "\n--a\n",
	    MIME MIXED("a") "\n?" "?\n?-?" "?\n--a\n\nx\n--a--\n?" "?\n--a\n" },

	/* messages in it */
	{ "a message in a message", MIME "Content-Type: message/rfc822\n" ENCODING "8bit\n\nSubject: x\n\n" A "\n",
	    MIME "Content-Type: message/rfc822\n" ENCODING "7bit\n\nSubject: x\n" MIME UNKNOWN QP "\n" QA "\n" },
	{ "a multipart in a message in a multipart", MIME MIXED("a") "\n--a\nContent-Type: message/rfc822\n\n" MIME MIXED("b")
	    "\n--b\n" TEXT "\n" A "\n--b--\n\n--a\n\nx\n--a--\n",
	    MIME MIXED("a") "\n--a\nContent-Type: message/rfc822\n\n" MIME MIXED("b") "\n--b\n" TEXT QP "\n" QA
	    "\n--b--\n\n--a\n\nx\n--a--\n" },
	{ "a digest", MIME "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n\n" A "\n--a--\n",
	    MIME "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n" MIME UNKNOWN QP "\n" QA "\n--a--\n" },

	/* nonsense that concerns no octet above 127 */
	{ "what is signed stays", MIME MIXED("a") "\n--a\nContent-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--\n--a\n" TEXT
	    "\n" A "\n--a--\n",
	    MIME MIXED("a") "\n--a\nContent-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--\n--a\n" TEXT QP "\n" QA "\n--a--\n" },
	{ "a multipart without boundary stays", MIME MIXED("a") "\n--a\nContent-Type: multipart/x\n\nx\n--a\n" TEXT "\n" A "\n--a--\n",
	    MIME MIXED("a") "\n--a\nContent-Type: multipart/x\n\nx\n--a\n" TEXT QP "\n" QA "\n--a--\n" },
	{ "binary data that are lines", MIME TEXT ENCODING "binary\n\n" A "\n", MIME TEXT QP "\n" QA "\n" },

	/* what cannot be converted */
	{ "a header", "Subject: " A "\n\n" A "\n", "!its header is not ASCII" },
	{ "a message that is no more than a header", A "\n", "!its header is not ASCII" },
	{ "the header of a part", MIME MIXED("a") "\n--a\nX: " A "\n\nx\n--a--\n", "!its header is not ASCII" },
	{ "the header of a message in it", MIME "Content-Type: message/rfc822\n\nSubject: " A "\n\nx\n", "!its header is not ASCII" },
	{ "what is signed", MIME "Content-Type: multipart/signed; boundary=s\n\n--s\n\n" A "\n--s--\n", "!it is signed" },
	{ "what is signed, in something else", MIME MIXED("a") "\n--a\nContent-Type: multipart/signed; boundary=s\n\n--s\n" MIXED("c")
	    "\n--c\n\n" A "\n--a--\n", "!it is signed" },
	{ "text that is no part of what is signed", MIME "Content-Type: multipart/signed; boundary=s\n\n" A "\n--s\n\nx\n--s--\n",
	    "!it is signed" },
	{ "base64 that is none", MIME TEXT ENCODING "base64\n\n" A "\n", "!a part that is encoded is not ASCII" },
	{ "a multipart in base64", MIME MIXED("a") ENCODING "base64\n\n--a\n\n" A "\n--a--\n", "!a part that is encoded is not ASCII" },
	{ "an encoding that nobody knows", MIME TEXT ENCODING "x-y\n\n" A "\n", "!a part that is encoded is not ASCII" },
	{ "two encodings", MIME TEXT ENCODING "8bit\n" ENCODING "8bit\n\n" A "\n", "!its structure is broken" },
	{ "an encoding and something else", MIME TEXT ENCODING "8bit x\n\n" A "\n", "!its structure is broken" },
	{ "no encoding", MIME TEXT ENCODING "\n\n" A "\n", "!its structure is broken" },
	{ "two types", MIME TEXT TEXT "\n" A "\n", "!its structure is broken" },
	{ "a type that is none", MIME "Content-Type: text plain\n\n" A "\n", "!its structure is broken" },
	{ "half a type", MIME "Content-Type: text/\n\n" A "\n", "!its structure is broken" },
	{ "no type", MIME "Content-Type:\n\n" A "\n", "!its structure is broken" },
	{ "no boundary", MIME "Content-Type: multipart/mixed\n\n--a\n\n" A "\n--a--\n", "!its structure is broken" },
	{ "an empty boundary", MIME MIXED("\"\"") "\n--\n\n" A "\n----\n", "!its structure is broken" },
	{ "a boundary without end", MIME MIXED("\"a") "\n--a\n\n" A "\n--a--\n", "!its structure is broken" },
	{ "a boundary that ends in a blank", MIME MIXED("\"a \"") "\n--a\n\n" A "\n--a--\n", "!its structure is broken" },
	{ "two boundaries", MIME MIXED("a; boundary=b") "\n--a\n\n" A "\n--a--\n", "!its structure is broken" },
	{ "a boundary and something else", MIME MIXED("a b") "\n--a\n\n" A "\n--a--\n", "!its structure is broken" },
	{ "a boundary of 71 octets", MIME MIXED(FIFTY "123456789012345678901") "\n--a\n\n" A "\n--a--\n", "!its structure is broken" },
	{ "parameters that make no sense", MIME "Content-Type: multipart/mixed; x y; boundary=a\n\n--a\n\n" A "\n--a--\n",
	    "!its structure is broken" },
	{ "a line in the header that is no field", "Subject: x\nhello\n\n" A "\n", "!its structure is broken" },
	{ "a header that begins with a blank", " x\nSubject: x\n\n" A "\n", "!its structure is broken" },
	{ "a part of message/ that has to be 7bit", MIME "Content-Type: message/partial; id=x\n\n" A "\n",
	    "!a part of its kind may not be encoded" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct downgrade d;

/* All that comes out, NUL-terminated, with so many octets of room in each call. */
static char *
all(int with_dots, size_t room)
{
	char *out = test_malloc(2 * d.wire_size + 100), *piece = test_malloc(room);
	size_t len = 0;
	ssize_t n;

	downgrade_rewind(&d, with_dots);
	while ((n = downgrade_next(&d, piece, room)) > 0) {
		assert_true((size_t)n <= room && len + (size_t)n <= 2 * d.wire_size);
		memcpy(out + len, piece, (size_t)n);
		len += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(d.has_ended, 1);
	out[len] = '\0';
	test_free(piece);
	assert_true(with_dots || len == d.wire_size);
	return out;
}

/* s with CR LF for LF; with_dots: and ".." for a '.' that begins a line. */
static char *
on_the_wire(const char *s, int with_dots)
{
	char *out = test_malloc(3 * strlen(s) + 1), *to = out;

	for (const char *start = s; *s; s++) {
		if (*s == '\n')
			*to++ = '\r';
		if (*s == '.' && with_dots && (s == start || s[-1] == '\n'))
			*to++ = '.';
		*to++ = *s;
	}
	*to = '\0';
	return out;
}

static void
check_result(const char *want)
{
	for (int with_dots = 0; with_dots < 2; with_dots++)
		for (size_t room = 1; room < 100; room += 7) {
			char *got = all(with_dots, room), *wire = on_the_wire(want, with_dots);

			assert_string_equal(got, wire);
			test_free(got);
			test_free(wire);
		}
}

static void
convert_row(void **state)
{
	const struct row *row = *state;
	struct mail_data m;
	int fd = memfd_create("message", 0);

	assert_int_equal(write(fd, row->input, strlen(row->input)), strlen(row->input));
	for (int is_file = 0; is_file < 2; is_file++) {
		mail_data_init(&m, is_file ? NULL : row->input, fd, strlen(row->input));
		if (row->want[0] == '!') {
			assert_int_equal(downgrade_begin(&d, &m), DOWNGRADE_CANNOT);
			assert_string_equal(d.cannot, row->want + 1);
		} else {
			assert_int_equal(downgrade_begin(&d, &m), DOWNGRADE_READY);
			check_result(row->want);
		}
		mail_data_free(&m);
	}
	close(fd);
}

/* What downgrade_begin says of s. */
static enum downgrade_result
result_of(struct mail_data *m, const char *s, size_t len)
{
	mail_data_init(m, s, -1, len);
	return downgrade_begin(&d, m);
}

/* Each octet in lines of any length: the encoded line is decoded, in the plainest way. */
static void
lines_of_any_length(void **state)
{
	enum { MOST = 3 * MIME_PIECE };
	char *line = test_malloc(MOST + 2);
	struct mail_data m;

	(void)state;
	line[0] = '\n';
	for (size_t len = MIME_PIECE - 3; len < MOST; len += len % MIME_PIECE > 3 && len % MIME_PIECE < 1000 ? 199 : 1) {
		char *got, *s;
		size_t at = 1;

		for (size_t i = 1; i <= len; i++)
			line[i] = len & 1 ? (char)(i * 7 | 128) : i % 64 ? ' ' : '\377';
		for (size_t i = 1; i <= len; i++)
			if (line[i] == '\n' || line[i] == '\r')
				line[i] = '-';
		line[len + 1] = '\n';
		assert_int_equal(result_of(&m, line, len + 2), DOWNGRADE_READY);
		got = all(0, 4096);
		for (s = strstr(got, "\r\n\r\n") + 4; *s; s = strstr(s, "\r\n") + 2) {
			size_t width = (size_t)(strstr(s, "\r\n") - s);

			assert_true(width <= 76 && s[width - 1] != ' ');
			for (size_t i = 0; i < width; i++, at++)
				if (s[i] != '=')
					assert_int_equal(line[at], s[i]);
				else if (i + 1 < width) {
					char hex[3] = { s[i + 1], s[i + 2], '\0' };

					assert_int_equal((unsigned char)line[at], strtoul(hex, NULL, 16));
					i += 2;
				} else
					at--;
		}
		assert_int_equal(at, len + 1);
		test_free(got);
	}
	test_free(line);
}

static void
binary_data(void **state)
{
	static const char head[] = MIME ENCODING "binary\n\n";
	static char s[4000];
	struct mail_data m;
	size_t len = sizeof head - 1;

	(void)state;
	memcpy(s, head, len);
	memset(s + len, 'x', sizeof s - len);
	s[len] = '\303';
	s[len + 998] = '\n';
	assert_int_equal(result_of(&m, s, len + 999), DOWNGRADE_READY);
	s[len + 998] = 'x';
	assert_int_equal(result_of(&m, s, len + 999), DOWNGRADE_CANNOT);
	assert_string_equal(d.cannot, "it holds binary data");
	s[len + 10] = '\0';
	assert_int_equal(result_of(&m, s, len + 11), DOWNGRADE_CANNOT);
	s[len + 10] = s[len] = 'x';
	s[len + 2001] = '\303';	/* later than what is no line */
	assert_int_equal(result_of(&m, s, sizeof s), DOWNGRADE_CANNOT);
}

static void
a_boundary_with_blanks_without_end(void **state)
{
	static const char head[] = MIME MIXED("a") "\n--a";
	static char s[3000];
	struct mail_data m;

	(void)state;
	memset(s, ' ', sizeof s);
	memcpy(s, head, sizeof head - 1);
	assert_int_equal(result_of(&m, s, sizeof s), DOWNGRADE_CANNOT);
	assert_string_equal(d.cannot, "its structure is broken");
}

static void
a_field_that_is_too_long(void **state)
{
	static const char head[] = MIME "Content-Type: text/plain; x=", tail[] = "\n\n" A "\n";
	static char s[5000];
	struct mail_data m;

	(void)state;
	memset(s, 'x', sizeof s);
	memcpy(s, head, sizeof head - 1);
	memcpy(s + sizeof s - (sizeof tail - 1), tail, sizeof tail - 1);
	assert_int_equal(result_of(&m, s, sizeof s), DOWNGRADE_CANNOT);
	assert_string_equal(d.cannot, "its structure is broken");
}

/* n messages in each other, the innermost with text. */
static size_t
nest(char *s, unsigned int n)
{
	char *to = s;

	for (; n > 1; n--)
		to = stpcpy(to, "Content-Type: message/rfc822\n\n");
	return (size_t)(stpcpy(to, "\n" A "\n") - s);
}

static void
levels_up_to_the_limit(void **state)
{
	char s[40 * (MIME_DEPTH_MAX + 1)];
	struct mail_data m;

	(void)state;
	assert_int_equal(result_of(&m, s, nest(s, MIME_DEPTH_MAX)), DOWNGRADE_READY);
	assert_int_equal(result_of(&m, s, nest(s, MIME_DEPTH_MAX + 1)), DOWNGRADE_CANNOT);
	assert_string_equal(d.cannot, "it has too many levels");
}

/* A multipart with n parts, the last of them with text. */
static size_t
many_parts(char *s, unsigned int n)
{
	char *to = stpcpy(s, MIME MIXED("a") "\n");

	for (; n > 0; n--)
		to = stpcpy(to, "--a\n\n");
	return (size_t)(stpcpy(to, A "\n") - s);
}

static void
parts_up_to_the_limit(void **state)
{
	char *s = test_malloc(100 + 6 * DOWNGRADE_PARTS_MAX);
	struct mail_data m;

	(void)state;
	assert_int_equal(result_of(&m, s, many_parts(s, DOWNGRADE_PARTS_MAX - 1)), DOWNGRADE_READY);
	assert_int_equal(result_of(&m, s, many_parts(s, DOWNGRADE_PARTS_MAX)), DOWNGRADE_CANNOT);
	assert_string_equal(d.cannot, "it has too many parts");
	test_free(s);
}

static void
a_file_that_became_shorter(void **state)
{
	struct mail_data m;
	int fd = memfd_create("message", 0);

	(void)state;
	assert_int_equal(write(fd, "\n" A, 3), 3);
	mail_data_init(&m, NULL, fd, 10);
	assert_int_equal(downgrade_begin(&d, &m), DOWNGRADE_UNREADABLE);
	mail_data_free(&m);
	close(fd);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS];
	const struct CMUnitTest others[] = {
		cmocka_unit_test(lines_of_any_length), cmocka_unit_test(binary_data), cmocka_unit_test(a_boundary_with_blanks_without_end),
		cmocka_unit_test(a_field_that_is_too_long), cmocka_unit_test(levels_up_to_the_limit), cmocka_unit_test(parts_up_to_the_limit),
		cmocka_unit_test(a_file_that_became_shorter),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = convert_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("downgrade", tests, NULL, NULL) +
	    cmocka_run_group_tests_name("downgrade: others", others, NULL, NULL);
}
