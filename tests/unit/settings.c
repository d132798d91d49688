/* What control files and variables say to qmail-smtpd, and when they are read anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/smtpd/settings.h"
#include "directory.h"

static struct settings s;
static const char *failed;

/* All that are watched. */
static const char *const files[SETTINGS_FILES] = {
	"me", "smtpgreeting", "localiphost", "rcpthosts", "badmailfrom", "badmailfromnorelay", "badrcptto", "badrcpttonorelay", "badhelo",
	"badhelonorelay", "timeoutsmtpd", "smtpsessiontime", "greetdelay", "databytes", "maxrcpt", "maxmail", "maxhops", "maxsmtperrors",
	"maxsmtpidle", "brtlimit", "tarpitcount", "tarpitdelay", "rejectnullsenders", "submissionauthors", "moreipme", "notipme",
};
enum { OF_OTHERS = 2 };	/* the last ones: whoever watches reads them himself */

/* As if it had been written, and something been put into the directory or taken away, an hour ago. */
static void
settle(const char *path)
{
	const struct timespec then[2] = { { .tv_sec = time(NULL) - 3600 }, { .tv_sec = time(NULL) - 3600 } };

	utimensat(AT_FDCWD, path, then, 0);
	assert_int_equal(utimensat(AT_FDCWD, "control", then, 0), 0);
}

static void
put(const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "control/%s", file);
	directory_write(path, text);
	settle(path);
}

static void
take_away(const char *file)
{
	char path[64];

	snprintf(path, sizeof path, "control/%s", file);
	remove(path);
	settle(path);
}

static void
read_them(void)
{
	assert_int_equal(settings_read(&s, &failed), 1);
}

static int
begin(void **state)
{
	(void)state;
	for (size_t i = 0; i < SETTINGS_FILES; i++)
		take_away(files[i]);
	take_away("morercpthosts.cdb");
	put("me", "me.test\n");
	read_them();
	return 0;
}

/* --- numbers --------------------------------------------------------------------------------------------------------- */

/* What the file says, and what counts. */
static const struct number_row { const char *rule, *file, *text; enum setting_number_name name; unsigned long want; } numbers[] = {
	{ "no file", "timeoutsmtpd", NULL, NUMBER_TIMEOUT, 1200 },
	{ "no number", "timeoutsmtpd", "soon\n", NUMBER_TIMEOUT, 1200 },
	{ "a number and more", "timeoutsmtpd", "30 seconds\n", NUMBER_TIMEOUT, 30 },
	{ "a wait of nothing is one of a second", "timeoutsmtpd", "0\n", NUMBER_TIMEOUT, 1 },
	{ "a wait above the bound", "timeoutsmtpd", "86401\n", NUMBER_TIMEOUT, 86400 },
	{ "a number above 64 bits", "maxhops", "99999999999999999999999\n", NUMBER_MAXHOPS, 10000 },
	{ "the longest delay", "greetdelay", "61\n", NUMBER_GREETDELAY, 60 },
	{ "any size", "databytes", "0\n", NUMBER_DATABYTES, 0 },
	{ "any size, as qmail has it", "databytes", "4294967295\n", NUMBER_DATABYTES, 0 },
	{ "a size next to that", "databytes", "4294967294\n", NUMBER_DATABYTES, 4294967294ul },
	{ "no limit", "maxrcpt", "0\n", NUMBER_MAXRCPT, 100000 },
	{ "no limit of messages", "maxmail", "0\n", NUMBER_MAXMAIL, 1000000000 },
	{ "no limit of a session", "smtpsessiontime", "0\n", NUMBER_SESSION, 604800 },
	{ "not one error", "maxsmtperrors", "0\n", NUMBER_MAXERRORS, 0 },
	{ "a truth", "rejectnullsenders", "7\n", NUMBER_REJECTNULL, 1 },
	{ "the strictest", "submissionauthors", "3\n", NUMBER_AUTHORS, AUTHORS_FROM },
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void
a_number_of_a_file(void **state)
{
	const struct number_row *row = *state;

	if (row->text)
		put(row->file, row->text);
	read_them();
	assert_int_equal(s.numbers[row->name], row->want);
}

static const struct variable_row { const char *rule, *variable, *value; enum setting_number_name name; unsigned long want; } variables[] = {
	{ "a variable", "DATABYTES", "5000", NUMBER_DATABYTES, 5000 },
	{ "a variable that says any", "DATABYTES", "0", NUMBER_DATABYTES, 0 },
	{ "a variable that says so as qmail does", "DATABYTES", "4294967295", NUMBER_DATABYTES, 0 },
	{ "a variable above 64 bits", "DATABYTES", "18446744073709551617", NUMBER_DATABYTES, 1ul << 62 },
	{ "a number and more in a variable", "MAXRCPT", "7x", NUMBER_MAXRCPT, 7 },
	{ "a variable above the bound", "MAXRCPT", "100001", NUMBER_MAXRCPT, 100000 },
	{ "the bound of a variable", "MAXRCPT", "100000", NUMBER_MAXRCPT, 100000 },
	{ "a variable without a value", "BRTLIMIT", "", NUMBER_BRTLIMIT, 9 },
	{ "a blank before it", "BRTLIMIT", " 5", NUMBER_BRTLIMIT, 9 },
	{ "a number below nothing", "BRTLIMIT", "-1", NUMBER_BRTLIMIT, 9 },
	{ "a truth of two digits", "REJECTNULLSENDERS", "10", NUMBER_REJECTNULL, 1 },
	{ "the longest delay of a variable", "SMTPD_GREETDELAY", "600", NUMBER_GREETDELAY, 60 },
	{ "no limit at all", "DISABLE_MAXRCPT", "", NUMBER_MAXRCPT, 100000 },
	{ "no variable of that name", "TIMEOUTSMTPD", "5", NUMBER_TIMEOUT, 1200 },
};
enum { VARIABLES = sizeof variables / sizeof *variables };

/* It takes the place of the file's. */
static void
a_number_of_a_variable(void **state)
{
	const struct variable_row *row = *state;

	put("databytes", "9\n");
	put("maxrcpt", "9\n");
	put("brtlimit", "9\n");
	read_them();
	setenv(row->variable, row->value, 1);
	settings_apply_environment(&s);
	unsetenv(row->variable);
	assert_int_equal(s.numbers[row->name], row->want);
}

/* --- lines and lists --------------------------------------------------------------------------------------------------- */

static void
control_me_stands_in_for_both_names(void **state)
{
	(void)state;
	assert_string_equal(s.greeting.s, "me.test");
	assert_int_equal(s.localiphost.len, 7);
	put("smtpgreeting", "hello there\n");
	put("localiphost", "ip.test\n");
	take_away("me");
	read_them();
	assert_string_equal(s.greeting.s, "hello there");
	assert_memory_equal(s.localiphost.s, "ip.test", 7);
	assert_int_equal(s.me.len, 0);
}

static void
a_list_that_is_empty_is_there_all_the_same(void **state)
{
	(void)state;
	assert_false(s.lists[LIST_RCPTHOSTS].is_there);
	put("rcpthosts", "# nobody\n");
	read_them();
	assert_true(s.lists[LIST_RCPTHOSTS].is_there);
	assert_null(control_map_find(&s.lists[LIST_RCPTHOSTS].entries, "me.test", 7));
	put("rcpthosts", "x.test\n");
	read_them();
	assert_non_null(control_map_find(&s.lists[LIST_RCPTHOSTS].entries, "X.test", 6));
}

static void
DISABLE_BADMAILFROM_leaves_all_other_lists(void **state)
{
	(void)state;
	put("badmailfrom", "@x.test\n");
	put("badmailfromnorelay", "@x.test\n");
	put("badrcptto", "@x.test\n");
	read_them();
	setenv("DISABLE_BADMAILFROM", "", 1);
	settings_apply_environment(&s);
	unsetenv("DISABLE_BADMAILFROM");
	assert_false(s.lists[LIST_BADMAILFROM].is_there || s.lists[LIST_BADMAILFROM_NORELAY].is_there);
	assert_true(s.lists[LIST_BADRCPTTO].is_there);
}

/* --- what cannot be read ------------------------------------------------------------------------------------------------- */

static void
no_name_is_said_and_the_old_settings_stay(void **state)
{
	(void)state;
	take_away("me");
	put("maxrcpt", "5\n");
	assert_int_equal(settings_read(&s, &failed), 0);
	assert_int_equal(errno, ENOENT);
	assert_string_equal(failed, "control/smtpgreeting");
	assert_string_equal(s.greeting.s, "me.test");
	assert_int_equal(s.numbers[NUMBER_MAXRCPT], 1000);
}

/* A directory in the place of any of them. */
static void
each_file_that_cannot_be_read_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < SETTINGS_FILES - OF_OTHERS; i++) {
		char path[64];

		take_away(files[i]);
		snprintf(path, sizeof path, "control/%s", files[i]);
		assert_int_equal(mkdir(path, 0700), 0);
		assert_int_equal(settings_read(&s, &failed), 0);
		assert_string_equal(failed, path);
		assert_int_not_equal(errno, 0);
		assert_int_equal(rmdir(path), 0);
		put("me", "me.test\n");
	}
	assert_string_equal(s.greeting.s, "me.test");
}

/* --- changes ------------------------------------------------------------------------------------------------------------- */

/* As if the last look was long ago. */
static int
have_changed(void)
{
	s.looked_at = 0;
	return settings_have_changed(&s);
}

static void
each_file_is_watched(void **state)
{
	(void)state;
	for (size_t i = 0; i < SETTINGS_FILES; i++) {
		assert_int_equal(have_changed(), 0);
		put(files[i], "7\n");
		if (!have_changed())
			fail_msg("%s has come", files[i]);
		read_them();
		assert_int_equal(have_changed(), 0);
		if (i == 0)
			continue;
		take_away(files[i]);
		if (!have_changed())
			fail_msg("%s has gone", files[i]);
		read_them();
	}
}

static void
they_are_looked_at_once_a_second_at_most(void **state)
{
	(void)state;
	assert_int_equal(have_changed(), 0);
	put("maxrcpt", "7\n");
	s.looked_at += 600000;	/* just now, whatever the time is when the test goes on */
	assert_int_equal(settings_have_changed(&s), 0);
	assert_int_equal(have_changed(), 1);
}

/* An editor has emptied it, and will write it. */
static void
what_is_being_written_is_not_read(void **state)
{
	(void)state;
	put("rcpthosts", "x.test\n");
	read_them();
	assert_int_equal(s.is_unsettled, 0);
	directory_write("control/rcpthosts", "");
	assert_int_equal(have_changed(), 0);
	directory_write("control/rcpthosts", "x.test\ny.test\n");
	assert_int_equal(have_changed(), 0);
	settle("control/rcpthosts");
	assert_int_equal(have_changed(), 1);
	read_them();
	assert_int_equal(have_changed(), 0);
	assert_int_equal(rename("control/rcpthosts", "control/rcpthosts~"), 0);
	assert_int_equal(have_changed(), 0);
	settle("control");
	assert_int_equal(have_changed(), 1);
	remove("control/rcpthosts~");
	settle("control");
}

static void
what_was_being_written_when_it_was_read_does_not_stay(void **state)
{
	(void)state;
	directory_write("control/rcpthosts", "");
	read_them();
	assert_int_equal(s.is_unsettled, 1);
	assert_int_equal(have_changed(), 0);
	directory_write("control/rcpthosts", "x.test\n");
	assert_int_equal(have_changed(), 1);
	read_them();
	assert_int_equal(have_changed(), 0);
	settle("control/rcpthosts");
	assert_int_equal(have_changed(), 1);
	read_them();
	assert_int_equal(s.is_unsettled, 0);
	assert_int_equal(have_changed(), 0);
}

/* --- the table ------------------------------------------------------------------------------------------------------------ */

static void
a_table_that_is_not_there_is_no_trouble(void **state)
{
	(void)state;
	assert_int_equal(settings_open_table(&s), 1);
	assert_int_equal(s.morercpthosts.fd, -1);
	put("morercpthosts.cdb", "no table\n");
	assert_int_equal(settings_open_table(&s), 0);
	assert_int_equal(s.morercpthosts.fd, -1);
}

static void
a_table_that_was_open_is_closed_when_all_is_read_anew(void **state)
{
	struct table_maker m;
	int fd;

	(void)state;
	assert_int_equal(table_make(&m, "control/morercpthosts.cdb", "control/new", 0644), 1);
	assert_int_equal(table_add(&m, "x.test", 6, "", 0), 1);
	assert_int_equal(table_finish(&m), 1);
	assert_int_equal(settings_open_table(&s), 1);
	fd = s.morercpthosts.fd;
	assert_true(fd >= 0);
	read_them();
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(s.morercpthosts.fd, -1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, begin)
	const struct CMUnitTest others[] = {
		TEST(control_me_stands_in_for_both_names), TEST(a_list_that_is_empty_is_there_all_the_same),
		TEST(DISABLE_BADMAILFROM_leaves_all_other_lists),
		TEST(no_name_is_said_and_the_old_settings_stay), TEST(each_file_that_cannot_be_read_is_named), TEST(each_file_is_watched),
		TEST(they_are_looked_at_once_a_second_at_most),
		TEST(what_is_being_written_is_not_read), TEST(what_was_being_written_when_it_was_read_does_not_stay),
		TEST(a_table_that_is_not_there_is_no_trouble),
		TEST(a_table_that_was_open_is_closed_when_all_is_read_anew),
	};
	struct CMUnitTest tests[NUMBERS + VARIABLES + sizeof others / sizeof *others], *next = tests;

	for (size_t i = 0; i < NUMBERS; i++)
		*next++ = (struct CMUnitTest){ numbers[i].rule, a_number_of_a_file, begin, NULL, (void *)(uintptr_t)&numbers[i] };
	for (size_t i = 0; i < VARIABLES; i++)
		*next++ = (struct CMUnitTest){ variables[i].rule, a_number_of_a_variable, begin, NULL, (void *)(uintptr_t)&variables[i] };
	memcpy(next, others, sizeof others);
	return cmocka_run_group_tests_name("settings", tests, directory_make, directory_remove);
}
