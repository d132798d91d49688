/* The table of control files: in order, found by name, and the same as control/README.md and qmail-control(5) (run from the source
 * tree). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "control/files.h"

static void
is_ordered_and_found(void **state)
{
	(void)state;
	for (const struct control_file *f = control_files; f->name; f++) {
		if (f[1].name)
			assert_true(strcmp(f->name, f[1].name) < 0);
		assert_ptr_equal(control_file_find(f->name), f);
		assert_true(f->standard && *f->readers && *f->meaning && *control_form_name(f->form));
	}
	assert_null(control_file_find("local"));
	assert_null(control_file_find(""));
}

/* The row of README.md that tells about f. */
static void
readme_row(char *s, size_t size, const struct control_file *f)
{
	const char *standard = !*f->standard ? "none" : strcmp(f->standard, "me") == 0 ? "*me*" : f->standard;

	snprintf(s, size, "| %s | %s | %s%s | %s | %s |\n", f->name, control_form_name(f->form), standard,
	    f->required ? ", needs it" : "", f->readers, f->meaning);
}

static void
is_what_the_readme_says(void **state)
{
	FILE *readme = fopen("control/README.md", "r");
	const struct control_file *f = control_files;
	char line[1000], want[1000];
	int in_table = 0;

	(void)state;
	assert_non_null(readme);
	while (fgets(line, sizeof line, readme)) {
		if (in_table) {
			assert_non_null(f->name);
			readme_row(want, sizeof want, f++);
			assert_string_equal(line, want);
		}
		in_table |= strncmp(line, "| --- ", 6) == 0;
	}
	fclose(readme);
	assert_null(f->name);
}

/* What the page says who reads f, in the words of the table. */
static void
page_readers(char *readers, size_t size, const char *page, const struct control_file *f)
{
	char item[100];
	const char *s;
	size_t n = 0;

	snprintf(item, sizeof item, "\n.It Pa %s\n", f->name);
	s = strstr(page, item);
	assert_non_null(s);
	s = strstr(s, "Read by ");
	assert_non_null(s);
	for (s += strlen("Read by "); strncmp(s, ".\n", 2) != 0; s++) {
		assert_true(*s && n + 2 < size);
		if (strncmp(s, " and ", 5) == 0) {
			readers[n++] = ',';
			s += 4;
		}
		readers[n++] = *s == '\n' ? ' ' : *s;
	}
	readers[n] = '\0';
}

static void
is_what_the_page_says(void **state)
{
	static char page[100000];
	FILE *file = fopen("control/qmail-control.5", "r");
	char readers[200];

	(void)state;
	assert_non_null(file);
	page[fread(page, 1, sizeof page - 1, file)] = '\0';
	assert_true(feof(file));
	fclose(file);
	for (const struct control_file *f = control_files; f->name; f++) {
		page_readers(readers, sizeof readers, page, f);
		if (strcmp(readers, f->readers) != 0)
			fail_msg("%s: read by %s, not %s", f->name, readers, f->readers);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_ordered_and_found),
		cmocka_unit_test(is_what_the_readme_says),
		cmocka_unit_test(is_what_the_page_says),
	};

	return cmocka_run_group_tests_name("control_files", tests, NULL, NULL);
}
