/* A program of a dot-qmail file: what it gets, what is kept of what it prints, and that it cannot hold us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bin-src/local/program.h"
#include "directory.h"
#include "exitcode.h"

/* tests/unit/units.mk */
pid_t __wrap_fork(void);
pid_t __real_fork(void);
long __wrap_syscall(long number, ...);
long __real_syscall(long number, ...);
static int no_process, no_pidfd;

pid_t
__wrap_fork(void)
{
	if (!no_process)
		return __real_fork();
	errno = EAGAIN;
	return -1;
}

/* The module makes one call that libc does not have: pidfd_open. */
long
__wrap_syscall(long number, ...)
{
	va_list arguments;
	pid_t pid;

	assert_int_equal(number, SYS_pidfd_open);
	va_start(arguments, number);
	pid = va_arg(arguments, pid_t);
	va_end(arguments);
	if (!no_pidfd)
		return __real_syscall(number, pid, 0);
	errno = ENOSYS;
	return -1;
}

static struct report report;
static int input, lowest;

static int
begin(void **state)
{
	(void)state;
	no_process = no_pidfd = 0;
	input = open("control", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	lowest = fcntl(input, F_DUPFD_CLOEXEC, 0);
	close(lowest);
	return input < 0;
}

/* Nothing is left behind: neither a descriptor nor a process. */
static int
end(void **state)
{
	int fd = fcntl(input, F_DUPFD_CLOEXEC, 0);

	(void)state;
	assert_int_equal(fd, lowest);
	close(fd);
	close(input);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	stralloc_free(&report.text);
	return 0;
}

static int
run_waiting(const char *script, int directory, const struct program_wait *wait)
{
	static char *environment[] = { "PATH=/usr/bin:/bin", "NAME=value", NULL };
	int status = program_run((const char *const[]){ "/bin/sh", "-c", script, NULL }, environment, input, directory, wait, &report);
	int e = errno;

	assert_int_equal(stralloc_0(&report.text), 1);
	report.text.len--;
	errno = e;
	return status;
}

static int
run_in(const char *script, int directory)
{
	return run_waiting(script, directory, NULL);
}

static int
run(const char *script)
{
	return run_in(script, -1);
}

/* --- its end ------------------------------------------------------------------------ */

static void
its_exit_status_is_told(void **state)
{
	(void)state;
	assert_int_equal(run("exit 0"), 0);
	assert_int_equal(run("exit 99"), 99);
	assert_int_equal(run("exit 255"), 255);
	assert_int_equal(run("kill -KILL $$"), PROGRAM_CRASHED);
	assert_int_equal(report.text.len, 0);
}

/* The third time the program is let go: it reads what the test writes. */
static void
let_go_the_third_time(void *data)
{
	int *calls = data;

	if (++*calls == 3)
		close(*(calls + 1));
}

static void
who_waits_does_something_meanwhile(void **state)
{
	(void)state;
	for (no_pidfd = 0; no_pidfd < 2; no_pidfd++) {
		int ends[2], calls_and_end[2] = { 0, -1 }, directory = input;
		struct program_wait wait = { 1, let_go_the_third_time, calls_and_end };

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		input = ends[0];
		calls_and_end[1] = ends[1];
		assert_int_equal(run_waiting("cat && exit 9", -1, &wait), 9);
		assert_in_range(calls_and_end[0], 3, 10000);	/* it takes a moment to end */
		close(ends[0]);
		input = directory;
	}
}

static void
one_that_cannot_be_executed_says_why(void **state)
{
	static char *environment[] = { NULL };

	(void)state;
	assert_int_equal(program_run((const char *const[]){ "/absent/program", NULL }, environment, input, -1, NULL, &report), EXIT_TEMP);
	assert_int_equal(stralloc_0(&report.text), 1);
	assert_string_equal(report.text.s, "Unable to run /absent/program: No such file or directory. (#4.3.0)\n");
}

static void
without_a_process_it_is_not_started(void **state)
{
	(void)state;
	no_process = 1;
	assert_int_equal(run("exit 0"), PROGRAM_FAILED);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(report.text.len, 0);
}

static void
without_descriptors_it_is_not_started(void **state)
{
	struct rlimit files, few;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	few = files;
	few.rlim_cur = (rlim_t)lowest + 1;	/* one end of the pipe finds room */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(run("exit 0"), PROGRAM_FAILED);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

static void
an_old_kernel_does_without_a_descriptor_of_its_end(void **state)
{
	(void)state;
	no_pidfd = 1;
	assert_int_equal(run("echo text; exit 3"), 3);
	assert_string_equal(report.text.s, "text\n");
	assert_int_equal(run("kill -KILL $$"), PROGRAM_CRASHED);
}

static void
one_that_closes_its_output_is_waited_for(void **state)
{
	(void)state;
	for (no_pidfd = 0; no_pidfd < 2; no_pidfd++)
		assert_int_equal(run("exec >&- 2>&-; : >went-on; rm went-on; exit 7"), 7);
}

/* A process that it started holds the pipe, and waits for us to write into the other one. */
static void
what_it_left_behind_is_not_waited_for(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(mkfifo("fifo", 0600), 0);
	for (no_pidfd = 0; no_pidfd < 2; no_pidfd++) {
		assert_int_equal(run("cat fifo & echo text; exit 4"), 4);
		assert_string_equal(report.text.s, "text\n");
		fd = open("fifo", O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		close(fd);
		report.text.len = 0;
	}
}

/* --- its output ------------------------------------------------------------------------- */

/* Octets that it prints, and what is kept of them. */
static const struct output_row { const char *rule, *script; size_t len; } output_rows[] = {
	{ "as much as finds room", "printf '%02399d\\n' 0", REPORT_MAX - REPORT_OWN },
	{ "a newline is added", "printf '%02398d' 0", REPORT_MAX - REPORT_OWN - 1 },
	{ "more is dropped", "printf '%02400d\\n' 0", REPORT_MAX - REPORT_OWN },
	{ "much more is read and dropped", "printf '%0300000d\\n' 0", REPORT_MAX - REPORT_OWN },
	{ "nothing", ":", 0 },
	{ "up to a NUL", "printf 'ab\\n\\000cd\\n'", 3 },
	{ "both descriptors, in order", "echo a; echo b >&2; echo c", 6 },
};
enum { OUTPUT_ROWS = sizeof output_rows / sizeof *output_rows };

static void
output_row(void **state)
{
	const struct output_row *row = *state;

	assert_int_equal(run(row->script), 0);
	/* a newline that is added may stand one octet above the room, which is qmail-local's own */
	assert_in_range(report.text.len, row->len, row->len + (row->len == REPORT_MAX - REPORT_OWN));
	assert_true(!row->len || report.text.s[report.text.len - 1] == '\n');
}

static void
a_second_program_gets_the_room_that_is_left(void **state)
{
	(void)state;
	assert_int_equal(run("printf '%02389d\\n' 0"), 0);
	assert_int_equal(run("printf 'abcdefghijklm\\n'"), 0);
	assert_string_equal(report.text.s + REPORT_MAX - REPORT_OWN - 10, "abcdefghij\n");
}

/* --- what it gets -------------------------------------------------------------------------- */

static void
the_environment_is_all_that_it_gets(void **state)
{
	(void)state;
	assert_int_equal(setenv("OURS", "secret", 1), 0);
	assert_int_equal(run("echo \"$NAME$OURS\""), 0);
	assert_string_equal(report.text.s, "value\n");
}

static void
its_descriptors(void **state)
{
	int fd;

	(void)state;
	directory_write("message", "octets\n");
	fd = open("message", O_RDONLY | O_CLOEXEC);
	assert_int_equal(dup2(fd, input), input);
	assert_int_equal(fcntl(input, F_SETFD, FD_CLOEXEC), 0);
	close(fd);
	assert_int_equal(run("read line; echo \"$line\"; cd /proc/$$/fd; for n in 3 4 5 6 7 8 9; do\n"
	    "[ ! -e $n ] || readlink $n; done; [ $(readlink 1) = $(readlink 2) ]"), 0);
	assert_string_equal(report.text.s, "octets\n");
}

static void
its_directory(void **state)
{
	(void)state;
	assert_int_equal(run_in("basename $(pwd)", input), 0);
	assert_string_equal(report.text.s, "control\n");
	report.text.len = 0;
	assert_int_equal(run("[ -d control ]"), 0);
}

static void
one_whose_directory_cannot_be_entered_is_not_run(void **state)
{
	int fd;

	(void)state;
	directory_write("file", "");
	fd = open("file", O_RDONLY | O_CLOEXEC);
	assert_int_equal(run_in("echo text", fd), EXIT_TEMP);
	assert_int_equal(report.text.len, 0);
	close(fd);
}

/* We may have blocked and ignored what we like. */
static void
its_signals_are_those_of_a_fresh_process(void **state)
{
	static const int signals[] = { SIGPIPE, SIGXFSZ, SIGALRM, SIGCHLD, SIGTERM };
	sigset_t set, before;

	(void)state;
	sigfillset(&set);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, &before), 0);
	for (unsigned int i = 0; i < 3; i++)
		signal(signals[i], SIG_IGN);
	assert_int_equal(run("kill -PIPE $$; exit 1"), PROGRAM_CRASHED);
	assert_int_equal(run("kill -XFSZ $$; exit 1"), PROGRAM_CRASHED);
	assert_int_equal(run("kill -ALRM $$; exit 1"), PROGRAM_CRASHED);
	assert_int_equal(run("kill -TERM $$; exit 1"), PROGRAM_CRASHED);
	for (unsigned int i = 0; i < 3; i++)
		signal(signals[i], SIG_DFL);
	assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(its_exit_status_is_told), TEST(who_waits_does_something_meanwhile), TEST(one_that_cannot_be_executed_says_why),
		TEST(without_a_process_it_is_not_started), TEST(without_descriptors_it_is_not_started),
		TEST(an_old_kernel_does_without_a_descriptor_of_its_end), TEST(one_that_closes_its_output_is_waited_for),
		TEST(what_it_left_behind_is_not_waited_for), TEST(a_second_program_gets_the_room_that_is_left),
		TEST(the_environment_is_all_that_it_gets), TEST(its_descriptors), TEST(its_directory),
		TEST(one_whose_directory_cannot_be_entered_is_not_run), TEST(its_signals_are_those_of_a_fresh_process),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + OUTPUT_ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < OUTPUT_ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ output_rows[i].rule, output_row, begin, end,
		    (void *)(uintptr_t)&output_rows[i] };
	closefrom(STDERR_FILENO + 1);	/* what whoever started this left open is not the program's */
	return cmocka_run_group_tests_name("program", all, directory_make, directory_remove);
}
