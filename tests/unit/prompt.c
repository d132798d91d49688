/* A line with a password in it: from a descriptor. (On a terminal: tests/system/test_accounts.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/users/prompt.h"

static int
pipe_with(const char *s, size_t len)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], s, len), len);
	close(ends[1]);
	return ends[0];
}

static const struct row { const char *rule, *octets; size_t len; const char *want; int error; } rows[] = {
	{ "a line", "secret\n", 7, "secret", 0 },
	{ "no LF", "secret", 6, "secret", 0 },
	{ "an empty line", "\n", 1, "", 0 },
	{ "the first of two", "one\ntwo\n", 8, "one", 0 },
	{ "blanks stay", " a b \n", 6, " a b ", 0 },
	{ "nothing", "", 0, NULL, EPIPE },
	{ "a NUL", "a\0b\n", 4, NULL, EINVAL },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
line_row(void **state)
{
	const struct row *row = *state;
	stralloc answer = STRALLOC_ZERO;
	int fd = pipe_with(row->octets, row->len);

	assert_int_equal(prompt_read_line(&answer, fd), row->want != NULL);
	if (row->want) {
		assert_string_equal(answer.s, row->want);
		assert_int_equal(answer.len, strlen(row->want));
	} else
		assert_int_equal(errno, row->error);
	close(fd);
	prompt_forget(&answer);
	assert_null(answer.s);
}

static void
rest_stays(void **state)
{
	stralloc answer = STRALLOC_ZERO;
	int fd = pipe_with("one\ntwo\n", 8);

	(void)state;
	assert_int_equal(prompt_read_line(&answer, fd), 1);
	assert_int_equal(prompt_read_line(&answer, fd), 1);
	assert_string_equal(answer.s, "two");
	close(fd);
	prompt_forget(&answer);
}

static void
bound(void **state)
{
	char line[PROMPT_MAX + 2];
	stralloc answer = STRALLOC_ZERO;
	int fd;

	(void)state;
	memset(line, 'x', sizeof line);
	line[PROMPT_MAX] = '\n';
	fd = pipe_with(line, PROMPT_MAX + 1);
	assert_int_equal(prompt_read_line(&answer, fd), 1);
	assert_int_equal(answer.len, PROMPT_MAX);
	close(fd);
	line[PROMPT_MAX] = 'x';
	fd = pipe_with(line, sizeof line);
	assert_int_equal(prompt_read_line(&answer, fd), 0);
	assert_int_equal(errno, EINVAL);
	close(fd);
	prompt_forget(&answer);
}

int
main(void)
{
	const struct CMUnitTest others[] = { cmocka_unit_test(rest_stays), cmocka_unit_test(bound) };
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = line_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("prompt", tests, NULL, NULL);
}
