/* Whether bin/NAME is still ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "replaced.h"

static int
set_up(void **state)
{
	if (directory_make(state) || mkdir("bin", 0700) || mkdir("libexec", 0700) || mkdir("elsewhere", 0700))
		return -1;
	directory_write("libexec/program", "ours");
	return link("libexec/program", "bin/program");
}

static void
one_file_under_both_names(void **state)
{
	(void)state;
	assert_int_equal(is_replaced(-1, "program"), 0);
}

static void
a_link_to_it(void **state)
{
	(void)state;
	unlink("bin/program");
	assert_int_equal(symlink("../libexec/program", "bin/program"), 0);
	assert_int_equal(is_replaced(-1, "program"), 0);
}

static void
another_file_of_the_same_octets(void **state)
{
	(void)state;
	unlink("bin/program");
	directory_write("bin/program", "ours");
	assert_int_equal(is_replaced(-1, "program"), 1);
}

static void
one_of_them_is_missing(void **state)
{
	(void)state;
	unlink("libexec/program");
	assert_int_equal(is_replaced(-1, "program"), 1);
	assert_int_equal(rename("bin/program", "libexec/program"), 0);
	assert_int_equal(is_replaced(-1, "program"), 1);
}

static void
what_cannot_be_looked_at_is_not_known(void **state)
{
	(void)state;
	unlink("bin/program");
	assert_int_equal(symlink("program", "bin/program"), 0);
	assert_int_equal(is_replaced(-1, "program"), -1);
	assert_int_equal(errno, ELOOP);
}

static void
a_home_elsewhere(void **state)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(chdir("elsewhere"), 0);
	assert_int_equal(is_replaced(home, "program"), 0);
	assert_int_equal(is_replaced(-1, "program"), 1);
	close(home);
	assert_int_equal(chdir(".."), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, directory_remove)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_file_under_both_names), TEST(a_link_to_it), TEST(another_file_of_the_same_octets),
		TEST(one_of_them_is_missing), TEST(what_cannot_be_looked_at_is_not_known), TEST(a_home_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
