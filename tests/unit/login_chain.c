/* The programs of qmail-authd: what they find, and how a right login is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bin-src/users/login_chain.h"
#include "directory.h"
#include "process.h"

static struct login_chain chain;

static int
set_up(void **state)
{
	directory_make(state);
	memset(&chain, 0, sizeof chain);
	sigemptyset(&chain.signals);
	if (mkdir("bin", 0755) < 0)
		return 1;
	/* notes what it finds, and goes on only if the secret is x */
	directory_write_script("check", "#!/bin/sh\ntr '\\0' / <&3 >given\nexec 3<&-\necho \"$PROTO $TCPREMOTEIP $1\" >found\n"
	    "case $(cat given) in */x/*) exec \"$@\" ;; esac\nexit 1\n");
	directory_write_script("bin/qmail-loggedin", "#!/bin/sh\nprintf o >&4\nexec 4>&-\n[ $# = 0 ] || exec \"$@\"\n");
	directory_write_script("session", "#!/bin/sh\nread -r line\necho \"$line $1\"\necho end >&5\n");
	return 0;
}

static char *const programs[] = { (char *)(uintptr_t)"./check", (char *)(uintptr_t)"--", (char *)(uintptr_t)"./session", (char *)(uintptr_t)"word", NULL };

static struct login_request
request(enum login_question question, const char *secret)
{
	return (struct login_request){ .question = question, .login = "ana", .secret = secret, .challenge = "<1>",
	    .variables = { "TCPREMOTEIP=192.0.2.1" }, .variables_len = 1 };
}

/* Waits for the end of begun; whether the octet came. */
static int
has_begun(int begun, pid_t pid)
{
	char octet;
	int code = process_wait(pid);
	ssize_t n = read(begun, &octet, 1);

	assert_true(n == 1 || code != 0);
	close(begun);
	return n == 1;
}

static void
a_check(void **state)
{
	struct login_request right = request(LOGIN_CHECK, "x"), wrong = request(LOGIN_CHECK, "y");
	unsigned int open = process_descriptors();
	int begun;
	pid_t pid;

	(void)state;
	setenv("PROTO", "of-the-keeper", 1);
	assert_int_equal(login_chain_init(&chain, programs, 0), 1);
	assert_int_equal(login_chain_has(&chain, LOGIN_SESSION), 1);
	pid = login_chain_start(&chain, &right, -1, -1, &begun);
	assert_true(pid > 0);
	assert_int_equal(has_begun(begun, pid), 1);
	directory_assert_file("given", "ana/x/<1>/", 10);
	pid = login_chain_start(&chain, &wrong, -1, -1, &begun);
	assert_int_equal(has_begun(begun, pid), 0);
	login_chain_free(&chain);
	assert_int_equal(process_descriptors(), open);
}

/* The variables are the caller's, the program behind check is absolute. */
static void
what_is_found(void **state)
{
	struct login_request r = request(LOGIN_CHECK, "x");
	char *here = getcwd(NULL, 0), want[4200];
	int begun;
	pid_t pid;

	(void)state;
	setenv("PROTO", "of-the-keeper", 1);
	assert_int_equal(login_chain_init(&chain, programs, 0), 1);
	pid = login_chain_start(&chain, &r, -1, -1, &begun);
	assert_int_equal(has_begun(begun, pid), 1);
	snprintf(want, sizeof want, " 192.0.2.1 %s/bin/qmail-loggedin\n", here);
	directory_assert_file("found", want, strlen(want));
	free(here);
	login_chain_free(&chain);
}

static void
run_session(int session_tells)
{
	struct login_request r = request(LOGIN_SESSION, "x");
	int connection[2], caller[2], begun;
	char got[40] = "";
	pid_t pid;

	assert_int_equal(login_chain_init(&chain, programs, session_tells), 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, caller), 0);
	pid = login_chain_start(&chain, &r, connection[0], caller[0], &begun);
	assert_true(pid > 0);
	close(connection[0]);
	close(caller[0]);
	assert_int_equal(write(connection[1], "hello\n", 6), 6);
	assert_int_equal(read(connection[1], got, sizeof got), 11);
	assert_memory_equal(got, "hello word\n", 11);
	/* the session has the caller's socket, up to its end */
	assert_int_equal(read(caller[1], got, sizeof got), 4);
	assert_int_equal(read(caller[1], got, sizeof got), 0);
	assert_int_equal(has_begun(begun, pid), 1);
	close(connection[1]);
	close(caller[1]);
	login_chain_free(&chain);
}

static void
a_session(void **state)
{
	(void)state;
	run_session(0);
}

/* The checkpassword program goes to the user's home. */
static void
a_session_of_the_home(void **state)
{
	(void)state;
	directory_write_script("check", "#!/bin/sh\ncat <&3 >/dev/null\nexec 3<&-\ncd /\nexec \"$@\"\n");
	run_session(0);
}

static void
a_session_that_tells(void **state)
{
	(void)state;
	directory_write_script("check", "#!/bin/sh\ncat <&3 >/dev/null\nexec 3<&-\ncd /\nexec \"$@\"\n");
	directory_write_script("session", "#!/bin/sh\nprintf o >&4\nexec 4>&-\nread -r line\necho \"$line $1\"\necho end >&5\n");
	unlink("bin/qmail-loggedin");
	run_session(1);
}

static void
command_lines(void **state)
{
	char *const nothing[] = { NULL }, *const no_check[] = { programs[1], programs[2], NULL }, *const no_session[] = { programs[0], programs[1], NULL };
	char *const check[] = { programs[0], NULL };

	(void)state;
	assert_int_equal(login_chain_init(&chain, nothing, 0), 0);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(login_chain_init(&chain, no_check, 0), 0);
	assert_int_equal(login_chain_init(&chain, no_session, 0), 0);
	assert_int_equal(login_chain_init(&chain, check, 0), 1);
	assert_int_equal(login_chain_has(&chain, LOGIN_CHECK), 1);
	assert_int_equal(login_chain_has(&chain, LOGIN_SESSION), 0);
	login_chain_free(&chain);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_check, set_up, directory_remove), cmocka_unit_test_setup_teardown(what_is_found, set_up, directory_remove),
		cmocka_unit_test_setup_teardown(a_session, set_up, directory_remove), cmocka_unit_test_setup_teardown(a_session_of_the_home, set_up, directory_remove),
		cmocka_unit_test_setup_teardown(a_session_that_tells, set_up, directory_remove),
		cmocka_unit_test_setup_teardown(command_lines, set_up, directory_remove),
	};

	return cmocka_run_group_tests_name("login_chain", tests, NULL, NULL);
}
