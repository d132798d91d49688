/* A submitted message on its way into the queue: limits, input that comes in pieces or ends in an error, and when the program
 * shuts itself in. Each run is a process of its own, which is not shut in really: the stand-in for it looks at what is true then. */
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/stralloc.h>
#include "bin-src/inject/injection.h"
#include "channel.h"
#include "directory.h"
#include "exitcode.h"
#include "process.h"
#include "queue/protocol.h"
#include "sandbox.h"

/* --- the sandbox ------------------------------------------------------------------------------------- */

const struct sandbox_filter sandbox_client;

static int sandbox_fails;

/* Leaves the file "shut-in", and may not find an octet of the message taken. */
int
sandbox_enter(const struct sandbox *s)
{
	int fd = open("shut-in", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	close(fd);
	if (s->calls != &sandbox_client || lseek(0, 0, SEEK_CUR) > 0)
		_exit(1);
	errno = ENOMEM;
	return sandbox_fails ? -1 : 0;
}

/* --- runs ------------------------------------------------------------------------------------------------ */

static const char *const none[] = { NULL };
static struct run { struct injection_options options; int input; } run;

static void
inject(void *data)
{
	int out = open("output", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	(void)data;
	if (dup2(run.input, 0) < 0 || dup2(out, 1) < 0)
		_exit(126);
	if (!strcmp(getenv("TEST_OUTPUT"), "full"))
		dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), 1);
	_exit(injection_run(&run.options, -1));
}

/* Runs it on a file. */
static int
run_file(const char *path)
{
	int code;

	unlink("shut-in");
	run.input = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(run.input >= 0);
	code = process_run(inject, NULL);
	close(run.input);
	return code;
}

static int
set_up(void **state)
{
	(void)state;
	unsetenv("QMAILQUEUE");
	setenv("TEST_OUTPUT", "", 1);
	sandbox_fails = 0;
	run = (struct run){ .options = { .recipients = RECIPIENTS_AUTO, .arguments = none, .print = 1 } };
	directory_write("input", "Date: x\nMessage-ID: <x>\nFrom: s@x.example\nTo: a@y.example\n\nbody\n");
	return 0;
}

static stralloc
contents(const char *path)
{
	stralloc s = STRALLOC_ZERO;
	FILE *file = fopen(path, "r");
	char piece[65536];
	size_t n;

	assert_non_null(file);
	while ((n = fread(piece, 1, sizeof piece, file)) > 0)
		assert_true(stralloc_catb(&s, piece, n));
	fclose(file);
	assert_true(stralloc_0(&s));
	s.len--;
	return s;
}

static void
assert_contains(const char *path, const char *text)
{
	stralloc s = contents(path);

	assert_non_null(strstr(s.s, text));
	stralloc_free(&s);
}

static int
exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

/* --- shut in ------------------------------------------------------------------------------------------------ */

static void
it_shuts_itself_in_before_the_first_octet(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(run_file("input"), EXIT_OK);
	assert_true(exists("shut-in"));
	sandbox_fails = 1;
	assert_int_equal(run_file("input"), EXIT_TEMP);
	assert_contains("errors", "unable to shut itself in: Cannot allocate memory");
	assert_int_equal(stat("output", &st), 0);
	assert_int_equal(st.st_size, 0);
}

static void
where_a_program_is_run_it_does_not(void **state)
{
	(void)state;
	directory_write_script("program", "cat > message; cat <&1 > envelope");
	setenv("QMAILQUEUE", "./program", 1);
	run.options.print = 0;
	assert_int_equal(run_file("input"), EXIT_OK);
	assert_false(exists("shut-in"));
	assert_contains("message", "From: s@x.example\n");
	assert_contains("message", "\n\nbody\n");
}

/* --- limits --------------------------------------------------------------------------------------------------- */

/* A file of that many octets that is one header, which starts with start. */
static void
make_header(const char *start, size_t size)
{
	FILE *file = fopen("large", "w");
	size_t n = strlen(start);

	assert_non_null(file);
	fputs(start, file);
	for (; n < size - 1; n++)
		putc('x', file);
	putc('\n', file);
	assert_int_equal(fclose(file), 0);
}

#define FIELDS "Date: x\nMessage-ID: <x>\nFrom: s@x.example\nTo: a@y.example\nX: "

static void
a_header_of_exactly_the_limit(void **state)
{
	stralloc got;

	(void)state;
	make_header(FIELDS, INJECTION_MAX);
	assert_int_equal(run_file("large"), EXIT_OK);
	got = contents("output");
	assert_true(got.len > INJECTION_MAX);	/* with Return-Path */
	stralloc_free(&got);
	make_header(FIELDS, INJECTION_MAX + 1);
	assert_int_equal(run_file("large"), EXIT_PERM);
	assert_contains("errors", "the header or its recipients are longer than 16 MiB");
	got = contents("output");
	assert_int_equal(got.len, 0);
	stralloc_free(&got);
}

/* Each takes OCTETS in the envelope, its NUL included. */
static void
recipients_of_exactly_the_limit(void **state)
{
	enum { OCTETS = 32768, MANY = INJECTION_MAX / OCTETS };
	static char address[OCTETS];
	static const char *arguments[MANY + 2];

	(void)state;
	memset(address, 'a', sizeof address - 1);
	memcpy(address + sizeof address - sizeof "@y.example", "@y.example", sizeof "@y.example");
	for (int i = 0; i < MANY; i++)
		arguments[i] = address;
	run.options.arguments = arguments;
	assert_int_equal(run_file("input"), EXIT_OK);
	arguments[MANY] = "a@y.example";
	assert_int_equal(run_file("input"), EXIT_PERM);
	assert_contains("errors", "the header or its recipients are longer than 16 MiB");
}

/* --- input ---------------------------------------------------------------------------------------------------------- */

static void
input_that_comes_octet_by_octet(void **state)
{
	stralloc message = contents("input"), whole, got;
	int ends[2];

	(void)state;
	assert_int_equal(run_file("input"), EXIT_OK);
	whole = contents("output");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);	/* a read takes one packet */
	for (size_t i = 0; i < message.len; i++)
		assert_int_equal(send(ends[1], message.s + i, 1, 0), 1);
	close(ends[1]);
	run.input = ends[0];
	assert_int_equal(process_run(inject, NULL), EXIT_OK);
	close(ends[0]);
	got = contents("output");
	assert_string_equal(got.s, whole.s);
	stralloc_free(&message);
	stralloc_free(&whole);
	stralloc_free(&got);
}

/* A descriptor from which s can be read, and then only an error: the peer is gone and left what we said unread. */
static int
broken_input(const char *s)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(write(ends[0], "x", 1), 1);
	assert_int_equal(write(ends[1], s, strlen(s)), strlen(s));
	close(ends[1]);
	return ends[0];
}

/* A keeper that takes one connection. It reads until the other side hangs up, and exits with the number of messages that came to
 * their end; or, if code is not negative, answers with that at once and hangs up itself. */
static int
start_keeper(int code)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SUBMIT_SOCKET };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	unlink(QUEUE_SUBMIT_SOCKET);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 1), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char answer[22] = { 0, 0, 0, 17, SUBMIT_RESULT, (char)code };
		struct channel_frame f;
		struct channel c;
		int ends = 0;

		channel_init(&c, accept(listener, NULL, NULL), QUEUE_FRAME_MAX);
		if (code >= 0 && (write(c.fd, answer, sizeof answer) != sizeof answer || shutdown(c.fd, SHUT_RD) < 0))
			_exit(126);
		while (code < 0 && channel_receive(&c) >= 0)
			while (channel_next(&c, &f) == 1)
				ends += f.type == SUBMIT_END;
		_exit(ends);
	}
	close(listener);
	return pid;
}

static void
input_that_ends_in_an_error_is_not_queued(void **state)
{
	static char large[100000];
	int keeper;

	(void)state;
	run.options.print = 0;
	run.input = broken_input("From: s@x.example\nTo: a@y.ex");	/* in the header */
	assert_int_equal(process_run(inject, NULL), EXIT_TEMP);
	close(run.input);
	keeper = start_keeper(-1);	/* in the body, when the keeper has a part of it */
	memset(large, 'x', sizeof large - 1);
	memcpy(large, "To: a@y.example\n\n", 17);
	run.input = broken_input(large);
	assert_int_equal(process_run(inject, NULL), EXIT_TEMP);
	close(run.input);
	assert_int_equal(process_wait(keeper), 0);	/* it saw no end */
	assert_contains("errors", "unable to read the message: Connection reset by peer");
}

/* What it had to say is not read: nothing was accepted, that is certain. */
static void
a_keeper_that_hangs_up_while_the_body_comes_is_temporary(void **state)
{
	int keeper = start_keeper(QUEUE_REFUSED);

	(void)state;
	run.options.print = 0;
	make_header("To: a@y.example\n\n", 4 << 20);
	assert_int_equal(run_file("large"), EXIT_TEMP);
	assert_int_equal(process_wait(keeper), 0);
	assert_contains("errors", "communication with mail server failed (#4.4.2)");
}

static void
output_that_cannot_be_written_is_temporary(void **state)
{
	(void)state;
	setenv("TEST_OUTPUT", "full", 1);
	assert_int_equal(run_file("input"), EXIT_TEMP);
	assert_contains("errors", "unable to write the message: No space left on device");
}

static int
make(void **state)
{
	if (directory_make(state))
		return -1;
	directory_write("control/me", "x.example\n");
	setenv("USER", "user", 1);
	/* qmail-queue is not replaced */
	assert_true(mkdir("run", 0700) == 0 && mkdir("bin", 0700) == 0 && mkdir("libexec", 0700) == 0);
	directory_write("bin/qmail-queue", "");
	return link("bin/qmail-queue", "libexec/qmail-queue");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, set_up)
	const struct CMUnitTest tests[] = {
		TEST(it_shuts_itself_in_before_the_first_octet), TEST(where_a_program_is_run_it_does_not), TEST(a_header_of_exactly_the_limit),
		TEST(recipients_of_exactly_the_limit), TEST(input_that_comes_octet_by_octet), TEST(input_that_ends_in_an_error_is_not_queued),
		TEST(a_keeper_that_hangs_up_while_the_body_comes_is_temporary), TEST(output_that_cannot_be_written_is_temporary),
	};

	return cmocka_run_group_tests_name("injection", tests, make, directory_remove);
}
