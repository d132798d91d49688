/* What stands on descriptor 3 of a program with the checkpassword interface: section 13, row P14 of the hostile inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/users/login.h"
#include "exitcode.h"

#define X16 "xxxxxxxxxxxxxxxx"
#define X128 X16 X16 X16 X16 X16 X16 X16 X16

/* Puts the octets on descriptor 3. */
static void
put(const char *s, size_t len)
{
	int ends[2];

	close(LOGIN_FD);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], s, len), len);
	close(ends[1]);
	if (ends[0] != LOGIN_FD) {
		assert_int_equal(dup2(ends[0], LOGIN_FD), LOGIN_FD);
		close(ends[0]);
	}
}

static const struct row { const char *rule, *octets; size_t len; int code; const char *name, *password; } rows[] = {
	{ "name, password, timestamp", "ana\0secret\0<1.2@h>\0", 19, LOGIN_OK, "ana", "secret" },
	{ "an empty timestamp", "ana\0secret\0\0", 12, LOGIN_OK, "ana", "secret" },
	{ "no timestamp", "ana\0secret\0", 11, LOGIN_OK, "ana", "secret" },
	{ "a timestamp without NUL", "ana\0secret\0x", 12, LOGIN_OK, "ana", "secret" },
	{ "any octet", "\xff\n:\0\x80\r \0\0", 9, LOGIN_OK, "\xff\n:", "\x80\r " },
	{ "nothing", "", 0, LOGIN_MISUSED, NULL, NULL },
	{ "no NUL", "ana", 3, LOGIN_MISUSED, NULL, NULL },
	{ "no password", "ana\0", 4, LOGIN_MISUSED, NULL, NULL },
	{ "a password without NUL", "ana\0secret", 10, LOGIN_MISUSED, NULL, NULL },
	{ "an empty password", "ana\0\0\0", 6, LOGIN_REFUSED, NULL, NULL },
	{ "an empty name", "\0secret\0\0", 9, LOGIN_REFUSED, NULL, NULL },
	{ "512 octets", "a\0" X128 X128 X128 X16 X16 X16 X16 X16 X16 X16 "xxxxxxxxxxxxx\0", 512, LOGIN_OK, "a",
	    X128 X128 X128 X16 X16 X16 X16 X16 X16 X16 "xxxxxxxxxxxxx" },
	{ "513 octets", "a\0" X128 X128 X128 X16 X16 X16 X16 X16 X16 X16 "xxxxxxxxxxxxxx\0", 513, LOGIN_REFUSED, NULL, NULL },
	{ "513 octets, a short password", "a\0b\0" X128 X128 X128 X128, 513, LOGIN_REFUSED, NULL, NULL },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
read_row(void **state)
{
	const struct row *row = *state;
	struct login l;

	put(row->octets, row->len);
	assert_int_equal(login_read(&l), row->code);
	assert_int_equal(close(LOGIN_FD), -1);	/* the program that is started does not get it */
	if (row->name) {
		assert_string_equal(l.name, row->name);
		assert_string_equal(l.password, row->password);
	}
}

/* P14: a megabyte is read no further than the bound, and its writer is told. */
static void
p14_endless(void **state)
{
	static char megabyte[1 << 20];
	struct login l;
	int ends[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	memset(megabyte, 'x', sizeof megabyte);
	close(LOGIN_FD);
	assert_int_equal(pipe(ends), 0);
	if (ends[0] != LOGIN_FD) {
		assert_int_equal(dup2(ends[0], LOGIN_FD), LOGIN_FD);
		close(ends[0]);
	}
	assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	assert_in_range(write(ends[1], megabyte, sizeof megabyte), LOGIN_MAX + 1, sizeof megabyte - 1);	/* what fits into the pipe */
	assert_int_equal(login_read(&l), LOGIN_REFUSED);
	assert_int_equal(write(ends[1], megabyte, sizeof megabyte), -1);
	close(ends[1]);
}

static void
no_descriptor(void **state)
{
	struct login l;

	(void)state;
	close(LOGIN_FD);
	assert_int_equal(login_read(&l), LOGIN_MISUSED);
}

static void
no_stream(void **state)
{
	int directory = open("/", O_RDONLY);
	struct login l;

	(void)state;
	if (directory != LOGIN_FD) {
		assert_int_equal(dup2(directory, LOGIN_FD), LOGIN_FD);
		close(directory);
	}
	assert_int_equal(login_read(&l), EXIT_TEMP);
}

static void
passed_on(void **state)
{
	struct login l, again;

	(void)state;
	put("ana\0secret\0x\0", 13);
	assert_int_equal(login_read(&l), LOGIN_OK);
	assert_int_equal(login_pass_on(&l), 1);
	assert_int_equal(login_read(&again), LOGIN_OK);
	assert_int_equal(again.len, 13);
	assert_memory_equal(again.octets, "ana\0secret\0x\0", 13);
}

static void
forgotten(void **state)
{
	static const struct login none;
	struct login l;

	(void)state;
	put("ana\0secret\0x\0", 13);
	assert_int_equal(login_read(&l), LOGIN_OK);
	login_forget(&l);
	assert_memory_equal(&l, &none, sizeof l);
}

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test(p14_endless), cmocka_unit_test(no_descriptor), cmocka_unit_test(no_stream),
		cmocka_unit_test(passed_on), cmocka_unit_test(forgotten),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = read_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("login", tests, NULL, NULL);
}
