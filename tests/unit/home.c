/* Which tree a program belongs to. This program is copied into trees and started there: it then says where its home is. */
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
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "home.h"
#include "process.h"

static char argument[] = "say-home";

/* --- in a tree ------------------------------------------------------------------------------ */

static ino_t
inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* Says the inode of the home, once home_open and home_enter agree; else ends with another code. */
static int
say_home(void)
{
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = home_open(), now;
	ino_t home;

	if (fd < 0)
		return errno == ENOENT && !home_enter() && errno == ENOENT ? 7 : 1;
	home = inode_of(fd);
	if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || !(fcntl(fd, F_GETFL) & O_PATH))
		return 2;
	now = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (inode_of(now) != inode_of(here))
		return 3;
	close(fd);
	close(now);
	close(here);
	if (!home_enter())
		return 4;
	now = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (inode_of(now) != home)
		return 5;
	close(now);
	printf("%llu\n", (unsigned long long)home);
	return 0;
}

/* --- the test --------------------------------------------------------------------------------- */

/* Starts path with the current directory from. Returns its exit code; *said is the inode that it said. */
static int
start(const char *from, const char *path, unsigned long long *said)
{
	int ends[2], code;
	char text[40] = "";
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (dup2(ends[1], 1) == 1 && chdir(from) == 0)
			execl(path, path, argument, (char *)NULL);
		_exit(126);
	}
	close(ends[1]);
	code = process_wait(pid);
	assert_true(read(ends[0], text, sizeof text - 1) >= 0);
	close(ends[0]);
	*said = strtoull(text, NULL, 10);
	return code;
}

/* "built-for" is the home of the build here, relative to where the program is started. */
static const struct row { const char *rule, *from, *path, *home; } rows[] = {
	{ "in bin", "tree", "bin/probe", "tree" },
	{ "in libexec", "tree", "libexec/probe", "tree" },
	{ "a relative path from beside", "tree/libexec", "../bin/probe", "tree" },
	{ "a path without the folder's name", "tree/bin", "./probe", "tree" },
	{ "a link to the program", ".", "links/probe", "tree" },
	{ "a link to its folder", ".", "links/bin/probe", "tree" },
	{ "a hard link in another tree", ".", "second/bin/probe", "second" },
	{ "no control", ".", "no-control/bin/probe", "built-for" },
	{ "control is a file", ".", "file-control/bin/probe", "built-for" },
	{ "another folder", ".", "tree/sbin/probe", "built-for" },
	{ "a folder whose name ends in bin", ".", "tree/xbin/probe", "built-for" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
run_row(void **state)
{
	const struct row *row = *state;
	unsigned long long said;
	struct stat st;

	assert_int_equal(start(row->from, row->path, &said), 0);
	assert_int_equal(stat(row->home, &st), 0);
	assert_int_equal(said, st.st_ino);
}

/* The longest path that the kernel takes, and those around HOME_PATH_MAX: nothing is cut to another tree's. */
static void
a_very_long_path(void **state)
{
	unsigned long long said;
	struct stat st;

	(void)state;
	assert_int_equal(stat("tree", &st), 0);
	for (size_t len = HOME_PATH_MAX - 8; len < HOME_PATH_MAX; len++) {
		char path[HOME_PATH_MAX] = "";
		size_t at = 0;

		path[at++] = '.';
		while (at < len - strlen("tree/bin/p"))
			path[at++] = '/';
		memcpy(path + at, "tree/bin/p", strlen("tree/bin/p"));
		assert_int_equal(strlen(path), len);
		assert_int_equal(start(".", path, &said), 0);
		assert_int_equal(said, st.st_ino);
	}
}

static void
no_home_at_all(void **state)
{
	unsigned long long said;

	(void)state;
	assert_int_equal(rename("built-for", "away"), 0);
	assert_int_equal(start(".", "no-control/bin/probe", &said), 7);
	assert_int_equal(rename("away", "built-for"), 0);
}

/* --- trees ------------------------------------------------------------------------------------ */

static void
copy_this_program(const char *to)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	ssize_t n;

	assert_true(from >= 0 && fd >= 0);
	while ((n = sendfile(fd, from, NULL, 1 << 20)) > 0)
		;
	assert_int_equal(n, 0);
	close(from);
	close(fd);
}

static int
set_up(void **state)
{
	static const char *const folders[] = { "built-for", "tree", "tree/control", "tree/bin", "tree/libexec", "tree/sbin", "tree/xbin",
		"second", "second/control", "second/bin", "no-control", "no-control/bin", "file-control", "file-control/bin", "links" };
	static const char *const links[] = { "tree/bin/p", "tree/libexec/probe", "tree/sbin/probe", "tree/xbin/probe",
		"second/bin/probe", "no-control/bin/probe", "file-control/bin/probe" };

	if (directory_make(state))
		return -1;
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		assert_int_equal(mkdir(folders[i], 0700), 0);
	copy_this_program("tree/bin/probe");
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		assert_int_equal(link("tree/bin/probe", links[i]), 0);
	directory_write("file-control/control", "");
	assert_int_equal(symlink("../tree/bin/probe", "links/probe"), 0);
	return symlink("../tree/bin", "links/bin");
}

int
main(int argc, char **argv)
{
	struct CMUnitTest tests[ROWS + 2] = { [ROWS] = cmocka_unit_test(a_very_long_path), [ROWS + 1] = cmocka_unit_test(no_home_at_all) };

	if (argc == 2 && !strcmp(argv[1], argument))
		return say_home();
	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = run_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("home", tests, set_up, directory_remove);
}
