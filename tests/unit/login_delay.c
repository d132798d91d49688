/* The time between two logins: RFC 2449 section 6.5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "bin-src/pop3d/login_delay.h"
#include "directory.h"

static void
touch(time_t seconds)
{
	const struct timespec times[2] = { { .tv_sec = seconds }, { .tv_sec = seconds } };

	assert_int_equal(utimensat(AT_FDCWD, "pop3-login", times, AT_SYMLINK_NOFOLLOW), 0);
}

static void
last_login(time_t seconds)
{
	directory_write("pop3-login", "");
	touch(seconds);
}

static void
first_login(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 1);
	assert_int_equal(stat("pop3-login", &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 0);
}

/* A login that was refused does not begin the time anew. */
static void
too_early(void **state)
{
	time_t before = time(NULL) - 1800;
	struct stat st;

	(void)state;
	last_login(before);
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 0);
	assert_int_equal(stat("pop3-login", &st), 0);
	assert_int_equal(st.st_mtime, before);
}

static void
late_enough(void **state)
{
	(void)state;
	last_login(time(NULL) - 7200);
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 1);
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 0);
}

static void
a_time_in_the_future(void **state)
{
	(void)state;
	last_login(time(NULL) + 86400);
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 1);
}

static void
no_file_can_be_made(void **state)
{
	(void)state;
	assert_int_equal(unlink("pop3-login"), 0);
	assert_int_equal(symlink("elsewhere", "pop3-login"), 0);
	touch(1);
	assert_int_equal(login_delay_is_over(AT_FDCWD, 3600), 1);
	assert_int_equal(access("elsewhere", F_OK), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_login),
		cmocka_unit_test(too_early),
		cmocka_unit_test(late_enough),
		cmocka_unit_test(a_time_in_the_future),
		cmocka_unit_test(no_file_can_be_made),
	};

	return cmocka_run_group_tests_name("login_delay", tests, directory_make, directory_remove);
}
