/* A program that gets a text and then what comes here: that it sees all of it, or is killed before it can take a part for the
 * whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/inject/feed.h"
#include "directory.h"
#include "exitcode.h"
#include "process.h"

/* One call of feed_program, in a process whose descriptor 0 is the file input. */
static struct call { const char *const *argv; const char *text, *input; size_t len; int home; } call;

static void
run(void *data)
{
	int in;

	(void)data;
	if (call.home < 0)
		closefrom(3);	/* what whoever runs the tests left open */
	in = open(call.input, O_RDONLY | O_CLOEXEC);
	if (in < 0 || dup2(in, 0) < 0)
		_exit(126);
	_exit(feed_program(call.argv, call.home, call.text, call.len));
}

/* What became of a shell script that was fed. */
static int
feed(const char *script, const char *text, const char *input)
{
	const char *const argv[] = { "sh", "-c", script, NULL };

	call = (struct call){ .argv = argv, .home = -1, .text = text, .len = strlen(text), .input = input };
	return process_run(run, NULL);
}

static void
a_program_gets_the_text_then_the_input(void **state)
{
	(void)state;
	directory_write("input", "the rest\n");
	assert_int_equal(feed("cat > got; exit 3", "Date: x\n", "input"), 3);
	directory_assert_file("got", "Date: x\nthe rest\n", 17);
	assert_int_equal(feed("cat > got", "", "input"), 0);
	directory_assert_file("got", "the rest\n", 9);
	assert_int_equal(feed("cat > got", "text", "/dev/null"), 0);
	directory_assert_file("got", "text", 4);
}

static void
more_than_a_pipe_holds(void **state)
{
	struct stat st;

	(void)state;
	directory_write("large", "");
	assert_int_equal(truncate("large", 1000000), 0);
	assert_int_equal(feed("cat > got", "text", "large"), 0);
	assert_int_equal(stat("got", &st), 0);
	assert_int_equal(st.st_size, 1000004);
}

static void
a_program_that_stops_reading_is_no_error(void **state)
{
	(void)state;
	assert_int_equal(feed("exit 0", "text", "large"), 0);
	assert_int_equal(feed("exec <&-; exit 100", "text", "large"), EXIT_PERM);
}

static void
a_program_that_is_killed_or_cannot_be_run_is_temporary(void **state)
{
	const char *const argv[] = { "no-such-program", NULL };

	(void)state;
	assert_int_equal(feed("kill -KILL $$", "text", "/dev/null"), EXIT_TEMP);
	call = (struct call){ .argv = argv, .home = -1, .text = "", .input = "/dev/null" };
	assert_int_equal(process_run(run, NULL), EXIT_TEMP);
}

/* "." cannot be read: the program is killed while it waits for more, and sees no end. */
static void
input_that_cannot_be_read_kills_before_an_end_is_seen(void **state)
{
	(void)state;
	directory_write("end", "not seen");
	assert_int_equal(feed("cat > got; echo seen > end", "text", "."), EXIT_TEMP);
	directory_assert_file("end", "not seen", 8);
}

static void
the_program_can_be_ended_by_SIGPIPE(void **state)
{
	(void)state;
	assert_int_equal(feed("kill -PIPE $$; exit 3", "", "/dev/null"), EXIT_TEMP);
}

static void
a_program_below_a_home_is_run_here(void **state)
{
	const char *const argv[] = { "bin/program", "argument", NULL };

	(void)state;
	assert_int_equal(mkdir("home", 0700), 0);
	assert_int_equal(mkdir("home/bin", 0700), 0);
	directory_write_script("home/bin/program", "echo $1 > got-here; exit 4");	/* a script is opened through the home */
	call = (struct call){ .argv = argv, .home = open("home", O_PATH | O_DIRECTORY | O_CLOEXEC), .text = "", .input = "/dev/null" };
	assert_int_equal(process_run(run, NULL), 4);
	close(call.home);
	directory_assert_file("got-here", "argument\n", 9);
}

static void
the_program_has_none_of_the_pipe_but_its_end(void **state)
{
	(void)state;
	assert_int_equal(feed("cd /proc/$$/fd; for n in 3 4 5 6 7; do [ ! -e $n ] || exit 1; done; cat > /dev/null; exit 5", "text",
	    "/dev/null"), 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_gets_the_text_then_the_input), cmocka_unit_test(more_than_a_pipe_holds),
		cmocka_unit_test(a_program_that_stops_reading_is_no_error),
		cmocka_unit_test(a_program_that_is_killed_or_cannot_be_run_is_temporary),
		cmocka_unit_test(input_that_cannot_be_read_kills_before_an_end_is_seen),
		cmocka_unit_test(the_program_can_be_ended_by_SIGPIPE), cmocka_unit_test(a_program_below_a_home_is_run_here),
		cmocka_unit_test(the_program_has_none_of_the_pipe_but_its_end),
	};

	return cmocka_run_group_tests_name("feed", tests, directory_make, directory_remove);
}
