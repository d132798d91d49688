/* Whether a file is still the one that it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "directory.h"
#include "stamp.h"

static const struct stamp none;

static int
is_same(const struct stamp *before)
{
	struct stamp now = stamp_take("file");

	return stamp_is_same(before, &now);
}

static void
a_file_that_stays(void **state)
{
	struct stamp before = stamp_take("file");
	struct stat st;
	struct stamp of;

	(void)state;
	assert_true(is_same(&before));
	assert_false(is_same(&none));
	assert_int_equal(stat("file", &st), 0);
	of = stamp_of(&st);
	assert_true(stamp_is_same(&before, &of));
}

static void
another_file_of_the_same_name(void **state)
{
	struct stamp before = stamp_take("file");

	(void)state;
	directory_write("file", "text");
	assert_false(is_same(&before));
}

static void
another_size(void **state)
{
	struct stamp before = stamp_take("file");

	(void)state;
	assert_int_equal(truncate("file", 3), 0);
	assert_false(is_same(&before));
}

static void
another_time(void **state)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1000, .tv_nsec = 7 } };
	struct stamp before = stamp_take("file"), then;

	(void)state;
	assert_int_equal(utimensat(AT_FDCWD, "file", times, 0), 0);
	assert_false(is_same(&before));
	then = stamp_take("file");
	then.modified.tv_nsec++;
	assert_false(is_same(&then));
	then.modified.tv_nsec--;
	assert_true(is_same(&then));
	then.changed.tv_nsec ^= 1;	/* written within, and its time set back */
	assert_false(is_same(&then));
}

static void
no_file(void **state)
{
	struct stamp before = stamp_take("file");

	(void)state;
	assert_int_equal(unlink("file"), 0);
	errno = 0;
	assert_false(is_same(&before));
	assert_int_equal(errno, ENOENT);
	assert_true(is_same(&none));
	directory_write("file", "text");
}

/* For more than a second, so that one turns within it. */
static void
a_file_that_was_written_just_now_is_fresh(void **state)
{
	const time_t begin = time(NULL);

	(void)state;
	while (time(NULL) - begin < 2) {
		struct stamp now;

		directory_write("file", "text");
		now = stamp_take("file");
		assert_true(stamp_is_fresh(&now.modified));
		assert_true(stamp_is_fresh(&now.changed));
	}
}

static void
neither_an_old_time_nor_one_to_come_is_fresh(void **state)
{
	const struct timespec old = { .tv_sec = time(NULL) - STAMP_SETTLE - 1 }, to_come = { .tv_sec = time(NULL) + 60 };

	(void)state;
	assert_false(stamp_is_fresh(&old));
	assert_false(stamp_is_fresh(&to_come));
}

static void
set_back(const char *path)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int
are_fresh(void)
{
	struct stamp stamps[] = { stamp_take("file"), stamp_take("other") };

	return stamps_are_fresh(stamps, 2, ".");
}

static void
files_are_fresh_until_all_and_their_directory_were_left_alone(void **state)
{
	(void)state;
	set_back("file");
	set_back(".");
	assert_false(are_fresh());
	directory_write("other", "text");
	set_back(".");
	assert_true(are_fresh());
	set_back("other");
	assert_false(are_fresh());
	assert_int_equal(unlink("other"), 0);
	assert_true(are_fresh());
	set_back(".");
	assert_false(are_fresh());
}

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	directory_write("file", "text");
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_stays), cmocka_unit_test(another_file_of_the_same_name), cmocka_unit_test(another_size),
		cmocka_unit_test(another_time), cmocka_unit_test(no_file),
		cmocka_unit_test(a_file_that_was_written_just_now_is_fresh),
		cmocka_unit_test(neither_an_old_time_nor_one_to_come_is_fresh),
		cmocka_unit_test(files_are_fresh_until_all_and_their_directory_were_left_alone),
	};

	return cmocka_run_group_tests_name("stamp", tests, set_up, directory_remove);
}
