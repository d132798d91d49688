/* The forms of control files: interfaces section 2. */
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
#include "control/control.h"

static const char file[] = "control-under-test";

static void
write_file(const char *text, size_t len)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

static const struct line_row { const char *rule, *text, *want; } line_rows[] = {
	{ "line: first line only", "a.example\nb.example\n", "a.example" },
	{ "line: trailing blanks and CR go", "a.example \t\r\n", "a.example" },
	{ "line: leading blanks stay", " a", " a" },
	{ "line: no newline", "a", "a" },
	{ "line: empty file", "", "" },
};

static void
line_row(void **state)
{
	const struct line_row *row = *state;
	stralloc value = STRALLOC_ZERO;

	write_file(row->text, strlen(row->text));
	assert_int_equal(control_line(&value, file), 1);
	assert_int_equal(value.len, strlen(row->want));
	assert_memory_equal(value.s ? value.s : "", row->want, value.len);
	stralloc_free(&value);
}

static const struct number_row { const char *rule, *text; int r; unsigned long want; } number_rows[] = {
	{ "number: leading digits", "42 apples\n", 1, 42 },
	{ "number: no digit keeps the default", "many\n", 0, 7 },
	{ "number: negative keeps the default", "-5\n", 0, 7 },
	{ "number: above the maximum", "99999999999999999999999\n", 1, 1000 },
};

static void
number_row(void **state)
{
	const struct number_row *row = *state;
	unsigned long n = 7;

	write_file(row->text, strlen(row->text));
	assert_int_equal(control_number(&n, file, 1000), row->r);
	assert_int_equal(n, row->want);
}

static const struct list_row { const char *rule, *text, *want; size_t len; } list_rows[] = {
	{ "list: comments, empty lines, blanks", "a \n\n#c\n b\t\n", "a\0 b", 5 },
	{ "list: last line without newline", "a\nb", "a\0b", 4 },
	{ "list: CR", "a\r\nb\r\n", "a\0b", 4 },
	{ "list: comments only is present and empty", "#\n", "", 0 },
};

static void
list_row(void **state)
{
	const struct list_row *row = *state;
	stralloc list = STRALLOC_ZERO;

	write_file(row->text, strlen(row->text));
	assert_int_equal(control_list(&list, file), 1);
	assert_int_equal(list.len, row->len);
	assert_memory_equal(list.s ? list.s : "", row->want, list.len);
	stralloc_free(&list);
}

static void
map_rules(void **state)
{
	stralloc list = STRALLOC_ZERO;
	struct control_map map;
	const char text[] = "Dom:one\ndom:two:three\nnocolon\n:all\nempty:\n";

	(void)state;
	write_file(text, sizeof text - 1);
	assert_int_equal(control_list(&list, file), 1);
	assert_int_equal(control_map_build(&map, &list, 1), 1);
	assert_string_equal(control_map_find(&map, "DOM", 3), "two:three");
	assert_null(control_map_find(&map, "nocolon", 7));
	assert_null(control_map_find(&map, "dom\0", 4));
	assert_string_equal(control_map_find(&map, "", 0), "all");
	assert_string_equal(control_map_find(&map, "empty", 5), "");
	control_map_free(&map);
	assert_null(control_map_find(&map, "dom", 3));
	assert_int_equal(control_list(&list, file), 1);
	assert_int_equal(control_map_build(&map, &list, 0), 1);
	assert_non_null(control_map_find(&map, "nocolon", 7));
	assert_string_equal(control_map_find(&map, "empty:", 6), "");
	control_map_free(&map);
}

static void
absent_file(void **state)
{
	stralloc value = STRALLOC_ZERO;
	unsigned long n = 7;

	(void)state;
	unlink(file);
	assert_int_equal(control_line(&value, file), 0);
	assert_int_equal(control_list(&value, file), 0);
	assert_int_equal(control_number(&n, file, 9), 0);
	assert_int_equal(n, 7);
	assert_int_equal(control_line(&value, "."), -1);
	assert_int_equal(errno, EINVAL);
	stralloc_free(&value);
}

enum {
	LINES = sizeof line_rows / sizeof *line_rows,
	NUMBERS = sizeof number_rows / sizeof *number_rows,
	LISTS = sizeof list_rows / sizeof *list_rows,
};

int
main(void)
{
	char dir[] = "/tmp/unit-control-XXXXXX";
	struct CMUnitTest tests[LINES + NUMBERS + LISTS + 2];
	size_t n = 0;
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	for (size_t i = 0; i < LINES; i++)
		tests[n++] = (struct CMUnitTest){ .name = line_rows[i].rule, .test_func = line_row,
		    .initial_state = (void *)(uintptr_t)&line_rows[i] };
	for (size_t i = 0; i < NUMBERS; i++)
		tests[n++] = (struct CMUnitTest){ .name = number_rows[i].rule, .test_func = number_row,
		    .initial_state = (void *)(uintptr_t)&number_rows[i] };
	for (size_t i = 0; i < LISTS; i++)
		tests[n++] = (struct CMUnitTest){ .name = list_rows[i].rule, .test_func = list_row,
		    .initial_state = (void *)(uintptr_t)&list_rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(map_rules);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(absent_file);
	failed = cmocka_run_group_tests_name("control", tests, NULL, NULL);
	unlink(file);
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
