/* A program whose exit status is an answer: yes, no, and when neither is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bin-src/local/condition.h"
#include "directory.h"

/* tests/unit/units.mk */
pid_t __wrap_fork(void);
pid_t __real_fork(void);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __real_waitpid(pid_t pid, int *status, int options);
static int no_process, trouble_waiting;	/* errno, once */

pid_t
__wrap_fork(void)
{
	if (!no_process)
		return __real_fork();
	errno = no_process;
	no_process = 0;
	return -1;
}

pid_t
__wrap_waitpid(pid_t pid, int *status, int options)
{
	if (!trouble_waiting)
		return __real_waitpid(pid, status, options);
	errno = trouble_waiting;
	trouble_waiting = 0;
	return -1;
}

/* What is said of a program that cannot be run does not belong among the results. */
static enum condition
ask(const char *program, const char *argument)
{
	int stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	enum condition answer;

	dup2(null, STDERR_FILENO);
	answer = condition_ask((const char *const[]){ program, argument, NULL });
	dup2(stderr_fd, STDERR_FILENO);
	close(stderr_fd);
	close(null);
	return answer;
}

static enum condition
ask_shell(const char *script)
{
	return condition_ask((const char *const[]){ "sh", "-c", script, NULL });
}

static void
make_program(const char *path, const char *text, mode_t mode)
{
	directory_write(path, text);
	assert_int_equal(chmod(path, mode), 0);
}

/* --- what an exit says -------------------------------------------------------------- */

static const struct row { const char *rule, *script; enum condition want; } rows[] = {
	{ "0", "exit 0", CONDITION_TRUE },
	{ "1", "exit 1", CONDITION_FALSE },
	{ "100", "exit 100", CONDITION_FALSE },
	{ "110", "exit 110", CONDITION_FALSE },
	{ "111", "exit 111", CONDITION_UNKNOWN },
	{ "112", "exit 112", CONDITION_FALSE },
	{ "255", "exit 255", CONDITION_FALSE },
	{ "a crash", "kill -SEGV $$", CONDITION_UNKNOWN },
	{ "killed", "kill -KILL $$", CONDITION_UNKNOWN },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
exit_row(void **state)
{
	const struct row *row = *state;

	assert_int_equal(ask_shell(row->script), row->want);
}

/* --- programs that cannot be run --------------------------------------------------------- */

static void
what_will_never_run_is_a_no(void **state)
{
	char long_name[5000];

	(void)state;
	memset(long_name, 'x', sizeof long_name);
	long_name[0] = '/';
	long_name[sizeof long_name - 1] = '\0';
	make_program("plain", "#!/bin/sh\nexit 0\n", 0600);
	make_program("nonsense", "no program\n", 0700);
	make_program("orphan", "#!/nonexistent/interpreter\n", 0700);
	assert_int_equal(symlink("round", "round"), 0);
	assert_int_equal(ask("./absent", NULL), CONDITION_FALSE);
	assert_int_equal(ask("absent-from-the-path", NULL), CONDITION_FALSE);
	assert_int_equal(ask("./plain", NULL), CONDITION_FALSE);
	assert_int_equal(ask("./nonsense", NULL), CONDITION_FALSE);
	assert_int_equal(ask("./orphan", NULL), CONDITION_FALSE);
	assert_int_equal(ask("./control", NULL), CONDITION_FALSE);
	assert_int_equal(ask("./plain/x", NULL), CONDITION_FALSE);
	assert_int_equal(ask("./round", NULL), CONDITION_FALSE);
	assert_int_equal(ask(long_name, NULL), CONDITION_FALSE);
}

static void
arguments_that_no_program_can_get_are_a_no(void **state)
{
	enum { LEN = 1 << 20 };
	char *argument = test_malloc(LEN);

	(void)state;
	memset(argument, 'x', LEN - 1);
	argument[LEN - 1] = '\0';
	assert_int_equal(ask("true", argument), CONDITION_FALSE);
	test_free(argument);
}

/* It is being written by somebody: later it can be run. */
static void
what_cannot_run_for_now_is_unknown(void **state)
{
	int fd;

	(void)state;
	make_program("busy", "#!/bin/sh\nexit 0\n", 0700);
	fd = open("busy", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ask("./busy", NULL), CONDITION_UNKNOWN);
	close(fd);
	assert_int_equal(ask("./busy", NULL), CONDITION_TRUE);
}

static void
without_a_process_it_is_unknown(void **state)
{
	(void)state;
	no_process = EAGAIN;
	assert_int_equal(ask_shell("exit 0"), CONDITION_UNKNOWN);
	assert_int_equal(ask_shell("exit 0"), CONDITION_TRUE);
}

/* --- waiting -------------------------------------------------------------------------------- */

static void
a_signal_does_not_end_the_wait(void **state)
{
	(void)state;
	trouble_waiting = EINTR;
	assert_int_equal(ask_shell("exit 0"), CONDITION_TRUE);
	trouble_waiting = EINTR;
	assert_int_equal(ask_shell("exit 1"), CONDITION_FALSE);
}

static void
a_status_that_is_lost_is_unknown(void **state)
{
	(void)state;
	trouble_waiting = ECHILD;
	assert_int_equal(ask_shell("exit 0"), CONDITION_UNKNOWN);
	assert_true(wait(NULL) > 0);
}

/* Who started us may ignore SIGCHLD: then the kernel would throw the status away. */
static void
ignored_children_are_waited_for(void **state)
{
	(void)state;
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(ask_shell("exit 0"), CONDITION_TRUE);
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(ask_shell("exit 3"), CONDITION_FALSE);
	signal(SIGCHLD, SIG_DFL);
}

/* --- descriptors ------------------------------------------------------------------------------- */

/* Puts fd in the place of descriptor 0, and closes it. */
static void
become_input(int fd)
{
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
	close(fd);
}

static void
a_file_is_read_from_its_start_each_time(void **state)
{
	(void)state;
	directory_write("message", "first\nsecond\n");
	become_input(open("message", O_RDONLY | O_CLOEXEC));
	assert_int_equal(lseek(STDIN_FILENO, 6, SEEK_SET), 6);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask_shell("read line && [ \"$line\" = first ]"), CONDITION_TRUE);
}

static void
a_pipe_is_taken_as_it_is(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(write(ends[1], "first\nsecond\n", 13), 13);
	close(ends[1]);
	become_input(ends[0]);
	assert_int_equal(ask_shell("read line && [ \"$line\" = first ]"), CONDITION_TRUE);
}

static void
it_has_our_descriptors(void **state)
{
	int fd = open("control", O_RDONLY | O_DIRECTORY), closed = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	char script[80];

	(void)state;
	snprintf(script, sizeof script, "[ -e /proc/$$/fd/%d ] && [ ! -e /proc/$$/fd/%d ]", fd, closed);
	assert_int_equal(ask_shell(script), CONDITION_TRUE);
	close(fd);
	close(closed);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_will_never_run_is_a_no), cmocka_unit_test(arguments_that_no_program_can_get_are_a_no),
		cmocka_unit_test(what_cannot_run_for_now_is_unknown), cmocka_unit_test(without_a_process_it_is_unknown),
		cmocka_unit_test(a_signal_does_not_end_the_wait), cmocka_unit_test(a_status_that_is_lost_is_unknown),
		cmocka_unit_test(ignored_children_are_waited_for), cmocka_unit_test(a_file_is_read_from_its_start_each_time),
		cmocka_unit_test(a_pipe_is_taken_as_it_is), cmocka_unit_test(it_has_our_descriptors),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ rows[i].rule, exit_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("condition", all, directory_make, directory_remove);
}
