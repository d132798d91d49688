/* The process that starts the program in the place of qmail-queue: what the program gets, what the asking side is told, and that
 * nobody who holds the runner's socket can end it for the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "directory.h"
#include "process.h"
#include "queue/protocol.h"
#include "queue/runner.h"

static int runner, ended;	/* ended: comes to its end when the runner and all that it started have */
static unsigned int descriptors;

/* A runner whose descriptor 2 is ours to watch. */
static int
start(const char *program, int home)
{
	int ends[2], saved = fcntl(2, F_DUPFD_CLOEXEC, 3), fd;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(dup2(ends[1], 2), 2);
	fd = runner_start(program, home);
	assert_int_equal(dup2(saved, 2), 2);
	close(saved);
	close(ends[1]);
	ended = ends[0];
	return fd;
}

static int
set_up(void **state)
{
	(void)state;
	descriptors = process_descriptors();
	directory_write_script("program", "cat > got-message; cat <&1 > got-envelope; echo a text >&6; exit 31");
	runner = start("program", -1);
	return runner < 0;
}

static int
tear_down(void **state)
{
	char c;

	(void)state;
	close(runner);
	assert_int_equal(read(ended, &c, 1), 0);
	close(ended);
	while (waitpid(-1, NULL, 0) > 0)
		;
	assert_int_equal(process_descriptors(), descriptors);
	return 0;
}

static void
close_pipes(const int fds[RUNNER_PIPES])
{
	for (int i = 0; i < RUNNER_PIPES; i++)
		close(fds[i]);
}

/* Starts the program with nothing to read. Returns its wait status. */
static int
run(void)
{
	int fds[RUNNER_PIPES], wait, status;
	pid_t pid;

	wait = runner_run(runner, fds, &pid);
	assert_true(wait >= 0);
	close(fds[RUNNER_MESSAGE]);
	close(fds[RUNNER_ENVELOPE]);
	status = runner_wait(wait);
	close(fds[RUNNER_ERROR]);
	return status;
}

static void
a_program_gets_message_and_envelope_and_says_a_text(void **state)
{
	int fds[RUNNER_PIPES], wait, status;
	char text[20];
	pid_t pid;

	(void)state;
	wait = runner_run(runner, fds, &pid);
	assert_true(wait >= 0);
	assert_true(fcntl(wait, F_GETFD) & FD_CLOEXEC);
	for (int i = 0; i < RUNNER_PIPES; i++)
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(fds[RUNNER_MESSAGE], "octets", 6), 6);
	close(fds[RUNNER_MESSAGE]);
	assert_int_equal(write(fds[RUNNER_ENVELOPE], "Fs", 2), 2);
	close(fds[RUNNER_ENVELOPE]);
	status = runner_wait(wait);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 31);
	assert_int_equal(fcntl(wait, F_GETFD), -1);
	assert_int_equal(read(fds[RUNNER_ERROR], text, sizeof text), 7);
	assert_memory_equal(text, "a text\n", 7);
	close(fds[RUNNER_ERROR]);
	directory_assert_file("got-message", "octets", 6);
	directory_assert_file("got-envelope", "Fs", 2);
}

static void
its_process_id_is_the_programs(void **state)
{
	int fds[RUNNER_PIPES], wait;
	char said[20], want[20];
	ssize_t n;
	pid_t pid;

	(void)state;
	directory_write_script("program", "echo $$ >&6");
	wait = runner_run(runner, fds, &pid);
	assert_true(wait >= 0);
	assert_int_equal(runner_wait(wait), 0);
	n = read(fds[RUNNER_ERROR], said, sizeof said - 1);
	assert_true(n > 0);
	said[n] = '\0';
	snprintf(want, sizeof want, "%d\n", pid);
	assert_string_equal(said, want);
	close_pipes(fds);
}

static void
a_home_is_where_the_program_is_and_runs(void **state)
{
	int home = open("control", O_PATH | O_DIRECTORY | O_CLOEXEC), c = close(runner);

	(void)state;
	assert_int_equal(c, 0);
	close(ended);
	assert_int_equal(rename("program", "control/program"), 0);
	runner = start("program", home);
	assert_true(runner >= 0);
	assert_true(fcntl(home, F_GETFD) >= 0);	/* stays ours */
	close(home);
	run();
	directory_assert_file("control/got-message", "", 0);
}

static void
a_home_that_cannot_be_entered(void **state)
{
	int file = open("program", O_PATH | O_CLOEXEC), status, c = close(runner);

	(void)state;
	assert_int_equal(c, 0);
	close(ended);
	runner = start("program", file);
	close(file);
	status = run();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), QUEUE_HOME);
}

static void
a_program_that_is_not_there(void **state)
{
	int status;

	(void)state;
	assert_int_equal(unlink("program"), 0);
	status = run();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), QUEUE_EXEC);
}

static void
a_program_that_is_killed(void **state)
{
	int status;

	(void)state;
	directory_write_script("program", "kill -KILL $$");
	status = run();
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void
the_program_can_be_ended_by_SIGTERM_and_SIGPIPE(void **state)
{
	int status;

	(void)state;
	signal(SIGPIPE, SIG_IGN);	/* as a server has it */
	close(runner);
	close(ended);
	runner = start("program", -1);
	signal(SIGPIPE, SIG_DFL);
	directory_write_script("program", "kill -TERM $$; exit 1");
	status = run();
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTERM);
	directory_write_script("program", "kill -PIPE $$; exit 1");
	status = run();
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGPIPE);
}

static void
many_run_at_once(void **state)
{
	int fds[2][RUNNER_PIPES], wait[2];
	pid_t pid[2];

	(void)state;
	directory_write_script("program", "read code; exit $code");
	for (int i = 0; i < 2; i++) {
		wait[i] = runner_run(runner, fds[i], &pid[i]);
		assert_true(wait[i] >= 0);
	}
	assert_int_not_equal(pid[0], pid[1]);
	for (int i = 2; i--; ) {	/* the last first */
		char code = (char)('1' + i);

		assert_int_equal(write(fds[i][RUNNER_MESSAGE], &code, 1), 1);
		close_pipes(fds[i]);
		assert_int_equal(WEXITSTATUS(runner_wait(wait[i])), 1 + i);
	}
}

static void
it_holds_none_of_the_parents_descriptors_but_2(void **state)
{
	int ends[2];
	char c;

	(void)state;
	close(runner);
	close(ended);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	runner = start("program", -1);
	close(ends[1]);
	assert_int_equal(read(ends[0], &c, 1), 0);
	close(ends[0]);
	directory_write_script("program", "cd /proc/$$/fd; for n in 0 1 2 6; do [ -e $n ] || echo $n lacks >&6; done\n"
	    "for n in 3 4 5 7 8 9; do [ ! -e $n ] || echo $n is there >&6; done; exit 0");
	{
		int fds[RUNNER_PIPES], wait;
		pid_t pid;

		wait = runner_run(runner, fds, &pid);
		assert_true(wait >= 0);
		assert_int_equal(runner_wait(wait), 0);
		assert_int_equal(read(fds[RUNNER_ERROR], &c, 1), 0);
		close_pipes(fds);
	}
}

static void
it_ends_when_nobody_holds_its_socket_and_the_programs_go_on(void **state)
{
	int fds[RUNNER_PIPES], wait;
	struct pollfd p = { .fd = ended, .events = POLLIN };
	pid_t pid;

	(void)state;
	wait = runner_run(runner, fds, &pid);
	assert_true(wait >= 0);
	close(runner);
	runner = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(poll(&p, 1, 0), 0);
	close(fds[RUNNER_MESSAGE]);
	close(fds[RUNNER_ENVELOPE]);
	assert_int_equal(WEXITSTATUS(runner_wait(wait)), 31);
	close(fds[RUNNER_ERROR]);
}

/* --- others who hold the socket ---------------------------------------------------------- */

/* Sends len octets with count descriptors that are all fd. */
static void
send_raw(int to, size_t len, int fd, size_t count)
{
	char control[CMSG_SPACE(5 * sizeof(int))] = { 0 }, octets[8] = "";
	struct iovec v = { .iov_base = octets, .iov_len = len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(c) + i * sizeof fd, &fd, sizeof fd);
	assert_int_equal(sendmsg(to, count ? &m : &(struct msghdr){ .msg_iov = &v, .msg_iovlen = 1 }, MSG_NOSIGNAL), len);
}

static void
what_is_no_request_ends_nothing_and_leaves_no_descriptor(void **state)
{
	static const struct { size_t len, count; } rows[] = { { 0, 0 }, { 0, 1 }, { 4, 0 }, { 3, 1 }, { 4, 2 }, { 4, 3 }, { 4, 5 } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int ends[2];
		char c;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		send_raw(runner, rows[i].len, ends[1], rows[i].count);
		close(ends[1]);
		assert_int_equal(read(ends[0], &c, 1), 0);	/* it has closed what came */
		close(ends[0]);
		assert_int_equal(WEXITSTATUS(run()), 31);
	}
}

static void
a_program_whose_asker_is_gone_sees_the_end_of_its_input(void **state)
{
	int ends[2], fifo;
	char c;

	(void)state;
	assert_int_equal(mkfifo("gone", 0600), 0);
	directory_write_script("program", "cat; cat <&1; echo > gone");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	send_raw(runner, 4, ends[1], 1);
	close(ends[1]);
	close(ends[0]);
	fifo = open("gone", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fifo, &c, 1), 1);
	close(fifo);
}

/* --- a runner that is none ----------------------------------------------------------------- */

/* Answers one request in the place of a runner: len octets, count descriptors. */
static void
answer(int socket, size_t len, size_t count)
{
	char control[CMSG_SPACE(sizeof(int))], octets[4];
	struct iovec v = { .iov_base = octets, .iov_len = sizeof octets };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int reply;

	if (recvmsg(socket, &m, 0) != 4)
		_exit(1);
	memcpy(&reply, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof reply);
	if (len)
		send_raw(reply, len, 0, count);
	_exit(0);
}

static void
a_runner_that_talks_nonsense_could_not_start_it(void **state)
{
	static const struct { size_t len, count; } rows[] = { { 0, 0 }, { 4, 0 }, { 4, 1 }, { 4, 2 }, { 4, 4 }, { 3, 3 } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int ends[2], fds[RUNNER_PIPES];
		unsigned int before = process_descriptors();
		pid_t child, pid;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		child = fork();
		if (child == 0) {
			close(ends[0]);
			answer(ends[1], rows[i].len, rows[i].count);
		}
		close(ends[1]);
		assert_int_equal(runner_run(ends[0], fds, &pid), -1);
		close(ends[0]);
		assert_int_equal(process_wait(child), 0);
		assert_int_equal(process_descriptors(), before);
	}
}

static void
a_runner_that_is_gone_could_not_start_it(void **state)
{
	int ends[2], fds[RUNNER_PIPES];
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	close(ends[1]);
	assert_int_equal(runner_run(ends[0], fds, &pid), -1);
	close(ends[0]);
}

static void
a_wait_status_that_does_not_come_is_not_known(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	close(ends[1]);
	assert_int_equal(runner_wait(ends[0]), -1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(send(ends[1], "abc", 3, 0), 3);
	assert_int_equal(runner_wait(ends[0]), -1);
	close(ends[1]);
	assert_int_equal(fcntl(ends[0], F_GETFD), -1);
}

/* --- pipes ---------------------------------------------------------------------------------- */

static void
ends_of_pipes_are_close_on_exec_and_above_6(void **state)
{
	int ours[RUNNER_PIPES], theirs[RUNNER_PIPES];
	char c;

	(void)state;
	assert_int_equal(runner_pipes(ours, theirs), 1);
	for (int i = 0; i < RUNNER_PIPES; i++) {
		assert_true(ours[i] > RUNNER_ERROR_FD && theirs[i] > RUNNER_ERROR_FD);
		assert_true(fcntl(ours[i], F_GETFD) & FD_CLOEXEC && fcntl(theirs[i], F_GETFD) & FD_CLOEXEC);
	}
	assert_int_equal(write(ours[RUNNER_MESSAGE], "m", 1), 1);
	assert_int_equal(read(theirs[RUNNER_MESSAGE], &c, 1), 1);
	assert_int_equal(write(ours[RUNNER_ENVELOPE], "e", 1), 1);
	assert_int_equal(read(theirs[RUNNER_ENVELOPE], &c, 1), 1);
	assert_int_equal(write(theirs[RUNNER_ERROR], "t", 1), 1);
	assert_int_equal(read(ours[RUNNER_ERROR], &c, 1), 1);
	close_pipes(ours);
	close_pipes(theirs);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_program_gets_message_and_envelope_and_says_a_text), TEST(its_process_id_is_the_programs),
		TEST(a_home_is_where_the_program_is_and_runs), TEST(a_home_that_cannot_be_entered), TEST(a_program_that_is_not_there),
		TEST(a_program_that_is_killed), TEST(the_program_can_be_ended_by_SIGTERM_and_SIGPIPE), TEST(many_run_at_once),
		TEST(it_holds_none_of_the_parents_descriptors_but_2), TEST(it_ends_when_nobody_holds_its_socket_and_the_programs_go_on),
		TEST(what_is_no_request_ends_nothing_and_leaves_no_descriptor),
		TEST(a_program_whose_asker_is_gone_sees_the_end_of_its_input), TEST(a_runner_that_talks_nonsense_could_not_start_it),
		TEST(a_runner_that_is_gone_could_not_start_it), TEST(a_wait_status_that_does_not_come_is_not_known),
		TEST(ends_of_pipes_are_close_on_exec_and_above_6),
	};

	return cmocka_run_group_tests_name("runner", tests, directory_make, directory_remove);
}
