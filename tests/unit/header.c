/* The header section of a submitted message, and where it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/inject/header.h"

static struct header_input input;

/* The message comes through a pipe in pieces of `piece` octets, so that lines are cut everywhere. */
static int
open_message(const char *s, size_t len, size_t piece)
{
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	if (fork() == 0) {
		close(fd[0]);
		while (len) {
			size_t n = len < piece ? len : piece;

			if (write(fd[1], s, n) != (ssize_t)n)
				_exit(1);
			if (piece < 100)
				usleep(0);
			s += n;
			len -= n;
		}
		_exit(0);
	}
	close(fd[1]);
	return fd[0];
}

static void
read_all_body(stralloc *body)
{
	const char *s;
	ssize_t n;

	while ((n = header_read_body(&input, &s)) > 0)
		assert_true(stralloc_catb(body, s, (size_t)n));
	assert_int_equal(n, 0);
}

static const struct row { const char *rule, *message, *fields, *body; enum header_end end; } rows[] = {
	{ "empty line", "A: b\n\nbody\n", "A: b\n", "body\n", HEADER_EMPTY_LINE },
	{ "fields only", "A: b\nC: d\n", "A: b\nC: d\n", "", HEADER_INPUT_END },
	{ "no input", "", "", "", HEADER_INPUT_END },
	{ "empty header", "\nbody", "", "body", HEADER_EMPTY_LINE },
	{ "last line without LF", "A: b", "A: b\n", "", HEADER_INPUT_END },
	{ "continuation", "A: b\n c\n\td\n\nx", "A: b\n c\n\td\n", "x", HEADER_EMPTY_LINE },
	{ "continuation of blanks is no end", "A: b\n \nC: d\n\nx", "A: b\n \nC: d\n", "x", HEADER_EMPTY_LINE },
	{ "blanks before the colon", "A \t: b\n\nx", "A \t: b\n", "x", HEADER_EMPTY_LINE },
	{ "empty value", "A:\n\nx", "A:\n", "x", HEADER_EMPTY_LINE },
	{ "no field ends the header", "A: b\nhello\nC: d\n", "A: b\n", "hello\nC: d\n", HEADER_BODY_LINE },
	{ "no name", "A: b\n: c\n", "A: b\n", ": c\n", HEADER_BODY_LINE },
	{ "blank inside a name", "A: b\nC c: d\n", "A: b\n", "C c: d\n", HEADER_BODY_LINE },
	{ "octet above 126 in a name", "\303\270: b\n", "", "\303\270: b\n", HEADER_BODY_LINE },
	{ "continuation of nothing", " A: b\nC: d\n", "", " A: b\nC: d\n", HEADER_BODY_LINE },
	{ "CRLF", "A: b\r\n c\r\n\r\nbody\r\n", "A: b\n c\n", "body\r\n", HEADER_EMPTY_LINE },
	{ "CRLF, a line of CR only ends the header of LF lines", "A: b\n\r\nx", "A: b\n", "x", HEADER_EMPTY_LINE },
	{ "CR elsewhere stays", "A: b\rB: c\n\nx\r", "A: b\rB: c\n", "x\r", HEADER_EMPTY_LINE },
	{ "of two CR one stays", "A: b\r\r\n\nx", "A: b\r\n", "x", HEADER_EMPTY_LINE },
	{ "CR alone at the end of the input", "A: b\n\r", "A: b\n", "\r", HEADER_BODY_LINE },
	{ "mbox separator", "From a@b Mon\nA: b\n\nx", "MBOX-Line: From a@b Mon\nA: b\n", "x", HEADER_EMPTY_LINE },
	{ "mbox separator on the first line only", "A: b\nFrom a@b Mon\n", "A: b\n", "From a@b Mon\n", HEADER_BODY_LINE },
	{ "From with blanks before the colon", "From : a\n\nx", "From : a\n", "x", HEADER_EMPTY_LINE },
	{ "quoted mbox separator is none", ">From a\n", "", ">From a\n", HEADER_BODY_LINE },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
check_row(const struct row *row, size_t piece)
{
	stralloc fields = STRALLOC_ZERO, body = STRALLOC_ZERO;
	enum header_end end;
	int fd = open_message(row->message, strlen(row->message), piece);

	header_input_init(&input, fd);
	assert_int_equal(header_read(&input, &fields, 1000, &end), 1);
	assert_int_equal(end, row->end);
	read_all_body(&body);
	assert_true(stralloc_0(&fields) && stralloc_0(&body));
	assert_string_equal(fields.s, row->fields);
	assert_string_equal(body.s, row->body);
	close(fd);
	stralloc_free(&fields);
	stralloc_free(&body);
}

static void
header_row(void **state)
{
	for (size_t piece = 1; piece < 4; piece++)
		check_row(*state, piece);
	check_row(*state, 1000);
}

static void
nul_passes(void **state)
{
	static const char message[] = "A: \0b\n\nx\0y";
	stralloc fields = STRALLOC_ZERO, body = STRALLOC_ZERO;
	enum header_end end;
	int fd = open_message(message, sizeof message - 1, 1);

	(void)state;
	header_input_init(&input, fd);
	assert_int_equal(header_read(&input, &fields, 1000, &end), 1);
	read_all_body(&body);
	assert_int_equal(fields.len, 6);
	assert_memory_equal(fields.s, message, 6);
	assert_int_equal(body.len, 3);
	assert_memory_equal(body.s, "x\0y", 3);
	close(fd);
	stralloc_free(&fields);
	stralloc_free(&body);
}

/* Lines longer than the buffer, and the longest name. */
static void
long_lines(void **state)
{
	enum { LONG = 3 * HEADER_BUFFER + 7 };
	stralloc message = STRALLOC_ZERO, fields = STRALLOC_ZERO, body = STRALLOC_ZERO;
	enum header_end end;
	size_t header_len;
	int fd;

	(void)state;
	for (size_t i = 0; i < HEADER_NAME_MAX - 1; i++)
		assert_true(stralloc_append(&message, 'n'));
	assert_true(stralloc_cats(&message, ": x\nA: "));
	while (message.len < LONG)
		assert_true(stralloc_append(&message, 'v'));
	assert_true(stralloc_cats(&message, "\n"));
	header_len = message.len;
	assert_true(stralloc_cats(&message, "\n"));
	while (message.len < 2 * LONG)
		assert_true(stralloc_append(&message, 'b'));
	fd = open_message(message.s, message.len, message.len);
	header_input_init(&input, fd);
	assert_int_equal(header_read(&input, &fields, header_len, &end), 1);
	read_all_body(&body);
	assert_int_equal(fields.len, header_len);
	assert_memory_equal(fields.s, message.s, header_len);
	assert_int_equal(body.len, message.len - header_len - 1);
	close(fd);
	/* one octet less is too little */
	fields.len = body.len = 0;
	fd = open_message(message.s, message.len, message.len);
	header_input_init(&input, fd);
	assert_int_equal(header_read(&input, &fields, header_len - 1, &end), 0);
	assert_int_equal(errno, EMSGSIZE);
	close(fd);
	/* a name without colon is a line of the body, however long */
	fields.len = 0;
	memset(message.s, 'n', message.len);
	fd = open_message(message.s, message.len, message.len);
	header_input_init(&input, fd);
	assert_int_equal(header_read(&input, &fields, 1000, &end), 1);
	assert_int_equal(end, HEADER_BODY_LINE);
	read_all_body(&body);
	assert_int_equal(body.len, message.len);
	close(fd);
	stralloc_free(&message);
	stralloc_free(&fields);
	stralloc_free(&body);
}

static void
read_error(void **state)
{
	stralloc fields = STRALLOC_ZERO;
	enum header_end end;

	(void)state;
	header_input_init(&input, -1);
	assert_int_equal(header_read(&input, &fields, 1000, &end), 0);
	assert_int_equal(errno, EBADF);
}

static void
fields_one_by_one(void **state)
{
	static const char text[] = "A:b\nLong \t: c\n d\n\te\nX:\n";
	struct header_field f;
	size_t pos = 0;

	(void)state;
	assert_int_equal(header_next(text, sizeof text - 1, &pos, &f), 1);
	assert_int_equal(f.name_len, 1);
	assert_int_equal(f.value, 2);
	assert_int_equal(f.len, 4);
	assert_int_equal(header_next(text, sizeof text - 1, &pos, &f), 1);
	assert_int_equal(f.name_len, 4);
	assert_memory_equal(f.start + f.value, " c\n d\n\te\n", f.len - f.value);
	assert_int_equal(f.len, 16);
	assert_int_equal(header_next(text, sizeof text - 1, &pos, &f), 1);
	assert_int_equal(f.len - f.value, 1);
	assert_int_equal(header_next(text, sizeof text - 1, &pos, &f), 0);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 4];
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = header_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(nul_passes);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(long_lines);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(read_error);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(fields_one_by_one);
	return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
