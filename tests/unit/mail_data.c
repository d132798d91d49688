/* The message as it goes over the wire: interfaces section 24 number 2, RFC 5321 sections 2.3.8 and 4.5.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bin-src/lib/mail_data.h"

static const struct row { const char *rule, *input, *dots, *plain; } rows[] = {
	{ "LF", "a\nb\n", "a\r\nb\r\n", "a\r\nb\r\n" },
	{ "CR LF", "a\r\nb\r\n", "a\r\nb\r\n", "a\r\nb\r\n" },
	{ "both", "a\r\nb\nc\r\n", "a\r\nb\r\nc\r\n", "a\r\nb\r\nc\r\n" },
	{ "no last line end", "a\nb", "a\r\nb\r\n", "a\r\nb\r\n" },
	{ "CR at the end", "a\nb\r", "a\r\nb\r\n", "a\r\nb\r\n" },
	{ "only a CR", "\r", "\r\n", "\r\n" },
	{ "empty", "", "", "" },
	{ "empty lines", "\n\r\n\n", "\r\n\r\n\r\n", "\r\n\r\n\r\n" },
	{ "bare CR", "a\rb\n", "a b\r\n", "a b\r\n" },
	{ "CR CR LF", "a\r\r\n", "a \r\n", "a \r\n" },
	{ "three CR", "a\r\r\rb\n", "a   b\r\n", "a   b\r\n" },
	{ "CR first", "\ra\n", " a\r\n", " a\r\n" },
	{ "dot", ".\n", "..\r\n", ".\r\n" },
	{ "dot at the end", "a\n.", "a\r\n..\r\n", "a\r\n.\r\n" },
	{ "dots", "..\n.a\n", "...\r\n..a\r\n", "..\r\n.a\r\n" },
	{ "dot later in a line", "a.\n .\n", "a.\r\n .\r\n", "a.\r\n .\r\n" },
	{ "LF dot LF", "a\n.\nb\n", "a\r\n..\r\nb\r\n", "a\r\n.\r\nb\r\n" },
	{ "CR LF dot CR LF", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n", "a\r\n.\r\nb\r\n" },
	{ "CR dot CR: no line begins there", "a\r.\rb\n", "a . b\r\n", "a . b\r\n" },
	{ "CR dot LF", "a\r.\nb\n", "a .\r\nb\r\n", "a .\r\nb\r\n" },
	{ "LF dot CR", "a\n.\rb\n", "a\r\n.. b\r\n", "a\r\n. b\r\n" },
	{ "CR dot at the start", "\r.\n", " .\r\n", " .\r\n" },
	{ "LF CR dot", "a\n\r.\n", "a\r\n .\r\n", "a\r\n .\r\n" },
	{ "CR at the start of a line, alone", "a\n\r\n.\n", "a\r\n\r\n..\r\n", "a\r\n\r\n.\r\n" },
	{ "8-bit", "\303\244\377\n", "\303\244\377\r\n", "\303\244\377\r\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

/* All that comes out, NUL-terminated, with so many octets of room in each call. */
static char *
all(struct mail_data *m, int with_dots, size_t room)
{
	char *out = test_malloc(4 * m->size + 100), *piece = test_malloc(room);
	size_t len = 0;
	ssize_t n;

	mail_data_rewind(m, with_dots);
	while ((n = mail_data_next(m, piece, room)) > 0) {
		assert_true((size_t)n <= room);
		memcpy(out + len, piece, (size_t)n);
		len += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(m->has_ended, 1);
	assert_int_equal(mail_data_next(m, piece, room), 0);
	out[len] = '\0';
	test_free(piece);
	return out;
}

static int
file_of(const char *s, size_t len)
{
	int fd = memfd_create("message", 0);

	assert_int_equal(write(fd, s, len), len);
	return fd;
}

static void
check(struct mail_data *m, const char *dots, const char *plain)
{
	assert_int_equal(mail_data_survey(m), 1);
	assert_int_equal(m->wire_size, strlen(plain));
	for (size_t room = 8; room < 40; room++) {
		char *got = all(m, 1, room);

		assert_string_equal(got, dots);
		test_free(got);
		got = all(m, 0, room);
		assert_string_equal(got, plain);
		test_free(got);
	}
}

static void
encode_row(void **state)
{
	const struct row *row = *state;
	size_t len = strlen(row->input);
	char *s = memcpy(test_malloc(len + !len), row->input, len);
	int fd = file_of(s, len);
	struct mail_data m;

	mail_data_init(&m, s, -1, len);
	check(&m, row->dots, row->plain);
	mail_data_free(&m);
	mail_data_init(&m, NULL, fd, len);
	check(&m, row->dots, row->plain);
	mail_data_free(&m);
	close(fd);
	test_free(s);
}

/* What a straightforward encoder makes of it. */
static size_t
plainly(char *out, const char *s, size_t len, int with_dots)
{
	size_t n = 0;
	int is_start = 1;

	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\n' || (s[i] == '\r' && (i + 1 == len || s[i + 1] == '\n'))) {
			out[n++] = '\r';
			out[n++] = '\n';
			is_start = 1;
			i += s[i] == '\r';
			continue;
		}
		if (is_start && with_dots && s[i] == '.')
			out[n++] = '.';
		out[n++] = s[i] == '\r' ? ' ' : s[i];
		is_start = 0;
	}
	if (!is_start) {
		out[n++] = '\r';
		out[n++] = '\n';
	}
	return n;
}

/* Random messages, in memory and in a file, some longer than one read of it. */
static void
random_messages(void **state)
{
	static const char alphabet[] = "\r\n\r\n..a\0\377";
	static char s[3 * MAIL_DATA_READ], want[6 * MAIL_DATA_READ], got[6 * MAIL_DATA_READ + 8];

	(void)state;
	srand(7);
	for (int round = 0; round < 3000; round++) {
		int is_long = round % 300 == 0, with_dots = round & 1;
		size_t len = is_long ? sizeof s - (size_t)(rand() % 100) : (size_t)(rand() % 60), have = 0, n;
		struct mail_data m;
		int fd;
		ssize_t r;

		for (size_t i = 0; i < len; i++)
			s[i] = is_long && rand() % 8 ? 'x' : alphabet[(size_t)rand() % (sizeof alphabet - 1)];
		n = plainly(want, s, len, with_dots);
		fd = file_of(s, len);
		mail_data_init(&m, round & 2 ? s : NULL, fd, len);
		assert_int_equal(mail_data_survey(&m), 1);
		assert_int_equal(m.wire_size, with_dots ? plainly(got, s, len, 0) : n);
		mail_data_rewind(&m, with_dots);
		while ((r = mail_data_next(&m, got + have, 8 + (size_t)(rand() % 5000))) > 0)
			have += (size_t)r;
		assert_int_equal(r, 0);
		assert_int_equal(have, n);
		assert_memory_equal(got, want, n);
		mail_data_free(&m);
		close(fd);
	}
}

static const struct { const char *input; int any; } octets[] = {
	{ "a: b\n\nc\n", 0 }, { "a: b\n\n\303\244\n", 1 }, { "a: \303\244\n\nb\n", 1 }, { "a: b\r\n\r\n\377", 1 }, { "\377", 1 }, { "", 0 },
};

static void
survey_8bit(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof octets / sizeof *octets; i++) {
		struct mail_data m;

		mail_data_init(&m, octets[i].input, -1, strlen(octets[i].input));
		assert_int_equal(mail_data_survey(&m), 1);
		assert_int_equal(m.has_8bit, octets[i].any);
	}
}

static void
file_that_became_shorter(void **state)
{
	struct mail_data m;
	int fd = file_of("a\n", 2);

	(void)state;
	mail_data_init(&m, NULL, fd, 3);
	assert_int_equal(mail_data_survey(&m), 0);
	mail_data_free(&m);
	close(fd);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 3] = {
		cmocka_unit_test(random_messages), cmocka_unit_test(survey_8bit), cmocka_unit_test(file_that_became_shorter),
	};
	size_t n = 3;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = encode_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return _cmocka_run_group_tests("mail_data", tests, n, NULL, NULL);
}
