/* A worker that runs a program in the place of qmail-remote for each message. The programs are scripts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "bin-src/remote/classic.h"
#include "directory.h"
#include "exitcode.h"
#include "job.h"
#include "unit_worker.h"

/* The program in bin/qmail-remote, and whether it is one file with our own. */
static void
put_program(const char *text, int is_ours)
{
	char script[1024];

	snprintf(script, sizeof script, "#!/bin/sh\n%s\n", text);
	directory_write("bin/qmail-remote", script);
	assert_int_equal(chmod("bin/qmail-remote", 0700), 0);
	unlink("libexec/qmail-remote");
	if (is_ours)
		assert_int_equal(link("bin/qmail-remote", "libexec/qmail-remote"), 0);
	else
		directory_write("libexec/qmail-remote", "");
}

static void
run(void)
{
	PROG = "qmail-rspawn";
	classic_serve();
}

static void
start(const char *text, int is_ours)
{
	put_program(text, is_ours);
	worker_start(run);
}

static int
tear_down(void **state)
{
	unsetenv("QMAILREMOTE");
	unlink("calls");
	return worker_end(state);
}

static void
expect_calls(const char *want)
{
	char got[1024] = "";
	FILE *file = fopen("calls", "r");

	assert_non_null(file);
	got[fread(got, 1, sizeof got - 1, file)] = '\0';
	fclose(file);
	assert_string_equal(got, want);
}

/* --- which program ----------------------------------------------------------------------------------------------- */

static void
ours_is_one_file_under_two_names(void **state)
{
	(void)state;
	put_program("", 1);
	assert_int_equal(classic_is_ours(), 1);
	put_program("", 0);
	assert_int_equal(classic_is_ours(), 0);
	unlink("libexec/qmail-remote");
	assert_int_equal(classic_is_ours(), 0);
	put_program("", 1);
	unlink("bin/qmail-remote");
	assert_int_equal(classic_is_ours(), 0);
}

static void
QMAILREMOTE_names_another_program_unless_it_is_empty(void **state)
{
	(void)state;
	put_program("", 1);
	setenv("QMAILREMOTE", "bin/qmail-remote", 1);
	assert_int_equal(classic_is_ours(), 0);
	setenv("QMAILREMOTE", "", 1);
	assert_int_equal(classic_is_ours(), 1);
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

#define ALL "s@x.test||x.test|a@x.test||b@X.TEST||c@y.test||d@x.test||"
#define ONE "s@x.test||x.test|a@x.test||"

static void
our_program_gets_those_of_a_host_that_stand_together(void **state)
{
	(void)state;
	start("echo \"$@\" >>calls; case $1 in x.test) printf 'r\\0hno. \\0Kok\\0';; *) printf 'r\\0Kok\\0';; esac", 1);
	worker_job(1, ALL, "hello\n", -1, 0);
	worker_expect("1 0 K ok");
	worker_expect("1 1 D no. ");
	worker_expect("1 2 K ok");
	worker_expect("1 3 K ok");
	expect_calls("x.test s@x.test a@x.test b@X.TEST\ny.test s@x.test c@y.test\nx.test s@x.test d@x.test\n");
}

static void
a_program_that_is_not_ours_gets_one_at_a_time(void **state)
{
	(void)state;
	start("echo \"$@\" >>calls; printf 'r\\0Kok\\0'", 0);
	worker_job(1, ALL, "hello\n", -1, 0);
	worker_expect("1 0 K ok");
	worker_expect("1 1 K ok");
	worker_expect("1 2 K ok");
	worker_expect("1 3 K ok");
	expect_calls("x.test s@x.test a@x.test\nx.test s@x.test b@X.TEST\ny.test s@x.test c@y.test\nx.test s@x.test d@x.test\n");
}

static void
the_null_sender_and_foreign_octets_are_arguments_as_they_are(void **state)
{
	(void)state;
	start("printf '[%s]' \"$@\" >calls; printf 'r\\0Kok\\0'", 0);
	worker_job(1, "||x.test|$(id) *;\n-a@x.test||", "hello\n", -1, 0);
	worker_expect("1 0 K ok");
	expect_calls("[x.test][][$(id) *;\n-a@x.test]");
}

/* Each call has it from its start, though all share one file. */
static void
every_call_reads_the_whole_message(void **state)
{
	int fd = memfd_create("message", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, "a file\n", 7), 7);
	start("cat >>calls; printf 'r\\0Kok\\0'", 0);
	worker_job(1, "s||x.test|a@x.test||b@x.test||", "octets\n", -1, 0);
	worker_job(2, "s||x.test|a@x.test||b@x.test||", NULL, fd, 7);
	worker_expect("1 0 K ok");
	worker_expect("1 1 K ok");
	worker_expect("2 0 K ok");
	worker_expect("2 1 K ok");
	expect_calls("octets\noctets\na file\na file\n");
}

static void
a_program_gets_no_other_descriptor(void **state)
{
	(void)state;
	start("for n in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && printf 'Z%s is open\\0' $n; done; printf 'Kok\\0'", 0);
	worker_job(1, ONE, NULL, memfd_create("message", MFD_CLOEXEC), 0);
	worker_expect("1 0 K ok");
}

static void
a_program_that_is_replaced_counts_from_the_next_message_on(void **state)
{
	(void)state;
	start("printf 'Kold\\0'", 0);
	worker_job(1, ONE, "hello\n", -1, 0);
	worker_expect("1 0 K old");
	put_program("printf 'Knew\\0'", 0);
	worker_job(2, ONE, "hello\n", -1, 0);
	worker_expect("2 0 K new");
}

/* --- what goes wrong --------------------------------------------------------------------------------------------- */

/* Nothing of it is a success, or a failure for good. */
static const struct row { const char *rule, *program, *want; } rows[] = {
	{ "a report and an exit status that is none", "printf 'r\\0Kok\\0'; exit 1", "1 0 Z Unable to run qmail-remote. (#4.3.0)" },
	{ "a failure and exit 100", "printf 'h\\0Dno\\0'; exit 100", "1 0 Z Unable to run qmail-remote. (#4.3.0)" },
	{ "a crash behind a report", "printf 'r\\0Kok\\0'; kill -9 $$", "1 0 Z qmail-remote crashed. (#4.3.0)" },
	{ "no report", "exit 0", "1 0 Z " },
	{ "a report without an end", "printf 'r\\0Kok'", "1 0 Z " },
	{ "a report without end", "exec yes", "1 0 Z The report of qmail-remote is too long. (#4.3.0)" },
	{ "it reads nothing", "exec <&-; printf 'r\\0Kok\\0'", "1 0 K ok" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	start(row->program, 0);
	worker_job(1, ONE, "hello\n", -1, 0);
	worker_expect(row->want);
	worker_job(2, ONE, "hello\n", -1, 0);	/* and the worker goes on */
	worker_expect("2 0 ");
}

static void
trouble_is_that_of_all_recipients_of_a_call(void **state)
{
	(void)state;
	start("printf 'r\\0r\\0Kok\\0'; exit 111", 1);
	worker_job(1, "s||x.test|a@x.test||b@x.test||", "hello\n", -1, 0);
	worker_expect("1 0 Z Unable to run");
	worker_expect("1 1 Z Unable to run");
}

static void
a_program_that_is_not_there(void **state)
{
	(void)state;
	start("", 0);
	unlink("bin/qmail-remote");
	worker_job(1, ONE, "hello\n", -1, 0);
	worker_expect("1 0 Z Unable to run qmail-remote. (#4.3.0)");
}

/* "K", text and NUL. */
static void
a_report_of(unsigned long octets, const char *want)
{
	char text[200];

	snprintf(text, sizeof text, "printf K; head -c %lu /dev/zero | tr '\\0' x; printf '\\0'", octets - 2);
	start(text, 0);
	worker_job(1, ONE, "hello\n", -1, 0);
	worker_expect(want);
}

static void
the_largest_report(void **state)
{
	(void)state;
	a_report_of(CLASSIC_REPORT_MAX, "1 0 K xxx");
}

static void
a_report_of_one_octet_more(void **state)
{
	(void)state;
	a_report_of(CLASSIC_REPORT_MAX + 1, "1 0 Z The report of qmail-remote is too long. (#4.3.0)");
}

/* --- qmail-send -------------------------------------------------------------------------------------------------- */

static void
it_ends_with_its_socket(void **state)
{
	(void)state;
	start("", 0);
	worker_hang_up();
	assert_int_equal(worker_exit(), EXIT_OK);
}

#define FRAME(s) s, sizeof s - 1
static const struct nonsense { const char *rule, *s; size_t len; } nonsenses[] = {
	{ "a frame of another type", FRAME("\0\0\0\4Q\0\0\0\1") },
	{ "a job without recipients", FRAME("\0\0\0\025J\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0\0s\0\0x\0") },
	{ "a file without a descriptor", FRAME("\0\0\0\030F\0\0\0\1\0\0\0\5\0\0\0\0\0\0\0\0s\0\0x\0a\0\0") },
	{ "a frame above the bound", FRAME("\x7f\xff\xff\xffJ") },
};
enum { NONSENSES = sizeof nonsenses / sizeof *nonsenses };

static void
nonsense_ends_it_and_runs_nothing(void **state)
{
	const struct nonsense *row = *state;

	start(">calls", 0);
	worker_octets(row->s, row->len);
	worker_expect("end");
	assert_int_equal(worker_exit(), EXIT_TEMP);
	assert_int_equal(access("calls", F_OK), -1);
}

static int
set_up(void **state)
{
	return directory_make(state) || mkdir("bin", 0700) || mkdir("libexec", 0700);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, tear_down)
	const struct CMUnitTest others[] = {
		TEST(ours_is_one_file_under_two_names), TEST(QMAILREMOTE_names_another_program_unless_it_is_empty),
		TEST(our_program_gets_those_of_a_host_that_stand_together), TEST(a_program_that_is_not_ours_gets_one_at_a_time),
		TEST(the_null_sender_and_foreign_octets_are_arguments_as_they_are), TEST(every_call_reads_the_whole_message),
		TEST(a_program_gets_no_other_descriptor), TEST(a_program_that_is_replaced_counts_from_the_next_message_on),
		TEST(trouble_is_that_of_all_recipients_of_a_call), TEST(a_program_that_is_not_there), TEST(the_largest_report),
		TEST(a_report_of_one_octet_more), TEST(it_ends_with_its_socket),
	};
	struct CMUnitTest tests[ROWS + NONSENSES + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, NULL, tear_down, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < NONSENSES; i++)
		tests[ROWS + i] = (struct CMUnitTest){ nonsenses[i].rule, nonsense_ends_it_and_runs_nothing, NULL, tear_down,
		    (void *)(uintptr_t)&nonsenses[i] };
	memcpy(tests + ROWS + NONSENSES, others, sizeof others);
	return cmocka_run_group_tests_name("classic", tests, set_up, directory_remove);
}
