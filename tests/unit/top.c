/* Where TOP ends: RFC 1939 section 7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/pop3d/top.h"
#include "directory.h"

/* text: '|' is where it ends. */
static const struct row { const char *rule, *text; uint64_t lines; } rows[] = {
	{ "the header section", "a: b\nc: d\n\n|one\ntwo\n", 0 },
	{ "a line of the body", "a: b\n\none\n|two\n", 1 },
	{ "two lines", "a: b\n\none\ntwo\n|three", 2 },
	{ "more lines than there are", "a: b\n\none\ntwo|", 9 },
	{ "as many as a number can say", "a: b\n\none\n|", UINT64_MAX },
	{ "empty lines of the body", "a: b\n\n\n\n|\n", 2 },
	{ "CR LF", "a: b\r\n\r\none\r\n|two\r\n", 1 },
	{ "no body", "a: b\nc: d\n|", 5 },
	{ "no body, no line end", "a: b|", 0 },
	{ "no header section", "\n|one\n", 0 },
	{ "nothing", "|", 3 },
	{ "a CR alone is no empty line", "a: b\n\r\rc\n\n|one\n", 0 },
	{ "an empty line and no more", "a: b\n\n|", 1 },
};
enum { ROWS = sizeof rows / sizeof *rows };

/* Checks text, in which the end is marked. */
static void
check(const char *text, uint64_t lines)
{
	char *whole = test_malloc(strlen(text));
	size_t want = strcspn(text, "|"), len = strlen(text) - 1;
	uint64_t end = 0;
	int fd;

	memcpy(whole, text, want);
	memcpy(whole + want, text + want + 1, len - want);
	whole[len] = '\0';
	directory_write("message", whole);
	fd = open("message", O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(top_end(fd, len, lines, &end), 1);
	assert_int_equal(end, want);
	close(fd);
	test_free(whole);
}

static void
top_row(void **state)
{
	const struct row *row = *state;

	check(row->text, row->lines);
}

/* Each octet of a text falls on the border between two reads of the file. */
static void
any_border(void **state)
{
	static const char end[] = "\r\n\r\n\ro\r\nt\n|x\r\n";
	enum { READ = 16 * 1024 };
	char text[READ + sizeof end];

	(void)state;
	memset(text, 'h', sizeof text);
	for (size_t i = 0; i < sizeof end; i++) {
		memcpy(text + READ - i, end, sizeof end);
		check(text, 2);
	}
}

static void
became_shorter(void **state)
{
	uint64_t end;
	int fd;

	(void)state;
	directory_write("message", "a: b\n");
	fd = open("message", O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(top_end(fd, 6, 0, &end), 0);
	assert_int_equal(errno, EIO);
	close(fd);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = top_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(any_border);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(became_shorter);
	return cmocka_run_group_tests_name("top", tests, directory_make, directory_remove);
}
