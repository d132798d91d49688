/* The program that RCPTCHECK names: what it gets, what its exit codes mean, and that it cannot hold a session for ever (its
 * time is 2 seconds here). */
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
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/smtpd/checkprogram.h"
#include "monotonic.h"

static const struct row { const char *rule, *script; enum checkprogram_result want; const char *text; } rows[] = {
	{ "accept", "exit 0", CHECKPROGRAM_ACCEPT, "" },
	{ "reject", "exit 100", CHECKPROGRAM_REJECT, "" },
	{ "defer", "exit 111", CHECKPROGRAM_DEFER, "" },
	{ "no opinion", "exit 112", CHECKPROGRAM_IGNORE, "" },
	{ "over the limit", "exit 113", CHECKPROGRAM_OVER_LIMIT, "" },
	{ "it could not execute something", "exit 120", CHECKPROGRAM_FAILED, "" },
	{ "a code without meaning", "exit 1", CHECKPROGRAM_FAILED, "" },
	{ "not found in the shell", "exec /nonexistent", CHECKPROGRAM_FAILED, "" },
	{ "a crash", "kill -SEGV $$", CHECKPROGRAM_FAILED, "" },
	{ "a text", "echo '550 no such box ' >&4; exit 100", CHECKPROGRAM_REJECT, "550 no such box" },
	{ "the first line of a text", "printf 'one\\r\\ntwo\\n' >&4; exit 100", CHECKPROGRAM_REJECT, "one" },
	{ "control octets in a text", "printf 'a\\033b\\0c' >&4; exit 100", CHECKPROGRAM_REJECT, "a?b?c" },
	{ "a text with success", "echo hello >&4", CHECKPROGRAM_ACCEPT, "hello" },
	{ "the environment", "echo \"$SENDER $RECIPIENT $HELO $USE_FD4 $SESSION\" >&4", CHECKPROGRAM_ACCEPT,
	    "s@x.example r@y.example mx.example 1 mine" },
	{ "its descriptors", "cd /proc/$$/fd; for n in 0 1 2 4; do [ -e $n ] || echo lacks $n >&4; done\n"
	    "for n in 3 5 6 7 8 9; do [ ! -e $n ] || echo $n $(readlink $n) >&4; done", CHECKPROGRAM_ACCEPT, "" },
	{ "nothing to read", "read x && exit 100; exit 0", CHECKPROGRAM_ACCEPT, "" },
	{ "a child that stays does not hold it", "sleep 3 >&- 2>&- 4>&- & exit 100", CHECKPROGRAM_REJECT, "" },
	{ "its time", "exec sleep 600", CHECKPROGRAM_FAILED, "" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
write_program(const char *script)
{
	FILE *f = fopen("program", "w");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", script);
	fclose(f);
	assert_int_equal(chmod("program", 0755), 0);
}

static enum checkprogram_result
ask(struct checkprogram *p, stralloc *text)
{
	enum checkprogram_result r = checkprogram_ask(p, "s@x.example", "r@y.example", "mx.example", text);

	assert_true(stralloc_0(text));
	assert_int_equal(r == CHECKPROGRAM_FAILED, p->trouble != NULL);
	return r;
}

static void
run_row(void **state)
{
	const struct row *row = *state;
	stralloc text = STRALLOC_ZERO;
	struct checkprogram p;

	write_program(row->script);
	assert_int_equal(checkprogram_start(&p), 1);
	assert_int_equal(checkprogram_applies(&p, 0), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask(&p, &text), row->want);
		if (row->want != CHECKPROGRAM_FAILED)
			assert_string_equal(text.s, row->text);
	}
	checkprogram_close(&p);
	stralloc_free(&text);
}

static void
long_text(void **state)
{
	stralloc text = STRALLOC_ZERO;
	struct checkprogram p;

	(void)state;
	write_program("yes | head -c 300000 | tr -d '\\n' >&4; exit 100");
	assert_int_equal(checkprogram_start(&p), 1);
	assert_int_equal(ask(&p, &text), CHECKPROGRAM_REJECT);
	assert_int_equal(strlen(text.s), CHECKPROGRAM_TEXT_MAX);
	checkprogram_close(&p);
	stralloc_free(&text);
}

static uint64_t endless_until;	/* till then the program has always written more; 0: as it is */

ssize_t __real_read(int fd, void *s, size_t len);
ssize_t __wrap_read(int fd, void *s, size_t len);

ssize_t
__wrap_read(int fd, void *s, size_t len)
{
	if (len == sizeof(struct signalfd_siginfo) || monotonic_ms() >= endless_until)
		return __real_read(fd, s, len);
	memset(s, 'y', len);
	return (ssize_t)len;
}

/* Who is never done with reading looks at the clock, and at the end of the program, all the same. */
static void
text_without_end(void **state)
{
	static const struct { const char *script; enum checkprogram_result want; const char *trouble; } endless[] = {
		{ "exec yes >&4", CHECKPROGRAM_FAILED, "RCPTCHECK took too long" }, { "yes >&4 & exit 100", CHECKPROGRAM_REJECT, "" },
	};
	stralloc text = STRALLOC_ZERO;
	struct checkprogram p;

	(void)state;
	for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
		write_program(endless[i].script);
		endless_until = monotonic_ms() + 10000;
		assert_int_equal(checkprogram_start(&p), 1);
		endless_until = 0;
		assert_int_equal(ask(&p, &text), endless[i].want);
		assert_string_equal(p.trouble ? p.trouble : "", endless[i].trouble);
		checkprogram_close(&p);
	}
	stralloc_free(&text);
}

static void
long_address(void **state)
{
	char address[CHECKPROGRAM_STRING_MAX + 2];
	stralloc text = STRALLOC_ZERO;
	struct checkprogram p;

	(void)state;
	write_program("exit 0");
	memset(address, 'x', sizeof address - 1);
	address[sizeof address - 1] = '\0';
	assert_int_equal(checkprogram_start(&p), 1);
	assert_int_equal(checkprogram_ask(&p, "", address, "", &text), CHECKPROGRAM_FAILED);
	assert_int_equal(checkprogram_ask(&p, "", address + 1, address + 1, &text), CHECKPROGRAM_ACCEPT);
	checkprogram_close(&p);
	stralloc_free(&text);
}

static void
cannot_be_executed(void **state)
{
	stralloc text = STRALLOC_ZERO;
	struct checkprogram p;

	(void)state;
	unlink("program");
	assert_int_equal(checkprogram_start(&p), 1);
	assert_int_equal(ask(&p, &text), CHECKPROGRAM_FAILED);
	checkprogram_close(&p);
	stralloc_free(&text);
}

/* A runner that is gone accepts nobody. */
static void
closed(void **state)
{
	stralloc text = STRALLOC_ZERO;
	struct checkprogram p;

	(void)state;
	write_program("exit 0");
	assert_int_equal(checkprogram_start(&p), 1);
	checkprogram_close(&p);
	assert_int_equal(checkprogram_applies(&p, 0), 1);
	assert_int_equal(ask(&p, &text), CHECKPROGRAM_FAILED);
	stralloc_free(&text);
}

static void
relay_clients(void **state)
{
	static const struct { const char *value; int applies; } values[] = { { NULL, 0 }, { "", 0 }, { "0", 0 }, { "1", 1 } };
	struct checkprogram p;

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		if (values[i].value)
			setenv("RCPTCHECKRELAYCLIENT", values[i].value, 1);
		assert_int_equal(checkprogram_start(&p), 1);
		assert_int_equal(checkprogram_applies(&p, 1), values[i].applies);
		assert_int_equal(checkprogram_applies(&p, 0), 1);
		checkprogram_close(&p);
	}
	unsetenv("RCPTCHECKRELAYCLIENT");
}

static void
not_set(void **state)
{
	struct checkprogram p;

	(void)state;
	unsetenv("RCPTCHECK");
	assert_int_equal(checkprogram_start(&p), 1);
	assert_int_equal(checkprogram_applies(&p, 0), 0);
	setenv("RCPTCHECK", "", 1);
	assert_int_equal(checkprogram_start(&p), 1);
	assert_int_equal(checkprogram_applies(&p, 0), 0);
}

static char top[] = "/tmp/checkprogram.XXXXXX";

static int
set_up(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	return !mkdtemp(top) || chdir(top) < 0 || setenv("RCPTCHECK", "./program", 1) < 0 || setenv("SESSION", "mine", 1) < 0
	    ? -1 : 0;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink("program");
	return rmdir(top);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 7] = {
		[ROWS] = cmocka_unit_test(long_text), cmocka_unit_test(text_without_end), cmocka_unit_test(long_address),
		cmocka_unit_test(cannot_be_executed), cmocka_unit_test(closed), cmocka_unit_test(relay_clients), cmocka_unit_test(not_set),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = run_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("checkprogram", tests, set_up, tear_down);
}
