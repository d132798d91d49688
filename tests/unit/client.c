/* Messages to the queue: what goes over the keeper's socket and when, what a program in the keeper's place gets, and how the
 * first trouble comes out. The keeper is the other end of a socket pair, or a listener that only takes connections. */
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
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "directory.h"
#include "monotonic.h"
#include "process.h"
#include "queue/client.h"
#include "queue/runner.h"

enum { PIECE = 65536 };	/* octets after which the client hands on what it has */

static struct queue_client q;
static struct queue_result result;
static struct channel keeper;	/* the other end of q.keeper */
static unsigned int descriptors;
static char octets[3 * PIECE];

/* The keeper's silence: each wait takes its whole time at once. */
static int is_silent;
static time_t waited;	/* seconds */

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout_ms);
int __real_poll(struct pollfd *p, nfds_t n, int timeout_ms);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __real_clock_gettime(clockid_t clock, struct timespec *t);

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	if (!is_silent || timeout_ms <= 0)
		return __real_poll(p, n, timeout_ms);
	waited += timeout_ms / 1000 + 1;
	return 0;
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = __real_clock_gettime(clock, t);

	t->tv_sec += waited;
	return r;
}

static int
set_up(void **state)
{
	(void)state;
	descriptors = process_descriptors();
	unsetenv("QMAILQUEUE");
	channel_init(&keeper, -1, 0);
	queue_client_open_keeper(&q, -1);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	queue_client_close(&q);
	channel_free(&keeper);
	assert_int_equal(process_descriptors(), descriptors);
	return 0;
}

/* --- the keeper's socket ------------------------------------------------------------------ */

static int
connected(void **state)
{
	int ends[2];

	set_up(state);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	channel_init(&q.keeper, ends[0], QUEUE_FRAME_MAX);
	channel_init(&keeper, ends[1], QUEUE_FRAME_MAX);
	assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	return 0;
}

/* The keeper's next frame has to be this. */
static void
assert_frame(char type, const char *s, size_t len)
{
	struct channel_frame f;

	while (channel_next(&keeper, &f) == 0)
		assert_int_equal(channel_receive(&keeper), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(f.len, len);
	assert_memory_equal(f.s, s, len);
}

static void
assert_no_frame(void)
{
	struct channel_frame f;

	channel_receive(&keeper);
	assert_int_equal(channel_next(&keeper, &f), 0);
}

/* The connection ends here, without another frame. */
static void
assert_hung_up(void)
{
	struct channel_frame f;

	assert_int_equal(channel_next(&keeper, &f), 0);
	assert_int_equal(channel_receive(&keeper), -1);
}

/* The keeper's answer, from octet from up to octet to. */
static void
answer(unsigned char code, size_t from, size_t to)
{
	char frame[CHANNEL_HEADER + 17] = { 0, 0, 0, 17, SUBMIT_RESULT, (char)code };

	uint64_pack_big(frame + CHANNEL_HEADER + 1, 77);
	uint64_pack_big(frame + CHANNEL_HEADER + 9, 1234567890);
	assert_int_equal(write(keeper.fd, frame + from, to - from), to - from);
}

enum { ANSWER = CHANNEL_HEADER + 17 };

static void
says(const char *s)
{
	queue_client_message(&q, s, strlen(s));
}

static void
envelope(const char *sender, const char *recipient)
{
	queue_client_sender(&q, sender, strlen(sender));
	queue_client_recipient(&q, recipient, strlen(recipient));
}

static void
a_message_and_its_answer(void **state)
{
	static const char want[] = "Fs@x\0PRET=HDRS\0Ta@y\0PNOTIFY=NEVER\0Tb@y\0";

	(void)state;
	queue_client_begin(&q);
	says("one ");
	says("two");
	queue_client_sender(&q, "s@x", 3);
	queue_client_sender_parameters(&q, "RET=HDRS");
	queue_client_recipient(&q, "a@y", 3);
	queue_client_recipient_parameters(&q, "NOTIFY=NEVER");
	queue_client_recipient(&q, "b@y", 3);
	queue_client_recipient_parameters(&q, "");
	assert_no_frame();	/* a small message is handed on at its end */
	answer(QUEUE_OK, 0, ANSWER);
	queue_client_end(&q, 1, &result);
	assert_frame(SUBMIT_MESSAGE, "one two", 7);
	assert_frame(SUBMIT_ENVELOPE, want, sizeof want);
	assert_frame(SUBMIT_END, "", 0);
	assert_int_equal(result.code, QUEUE_OK);
	assert_int_equal(result.number, 77);
	assert_int_equal(result.time, 1234567890);
	assert_string_equal(result.text, "");
	assert_false(result.permanent);
	assert_true(q.keeper.fd >= 0);	/* kept for the next */
}

static void
an_answer_in_pieces(void **state)
{
	(void)state;
	queue_client_begin(&q);
	envelope("s@x", "a@y");
	answer(QUEUE_REFUSED, 0, 9);
	assert_int_equal(channel_receive(&q.keeper), 1);
	answer(QUEUE_REFUSED, 9, ANSWER);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_REFUSED);
	assert_true(result.permanent);
	assert_string_equal(result.text, "mail server permanently rejected message (#5.3.0)");
}

static void
a_keeper_that_refuses_early_and_hangs_up(void **state)
{
	(void)state;
	queue_client_begin(&q);
	says("octets");
	envelope("s@x", "a@y");
	answer(QUEUE_WRITE, 0, ANSWER);
	channel_free(&keeper);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_WRITE);
	assert_false(result.permanent);
}

static void
a_keeper_that_never_answers(void **state)
{
	(void)state;
	queue_client_begin(&q);
	envelope("s@x", "a@y");
	alarm(20);	/* if it waits for ever */
	is_silent = 1;
	queue_client_end(&q, 1, &result);
	is_silent = 0;
	alarm(0);
	assert_int_equal(result.code, QUEUE_TIMEOUT);
	assert_in_range(waited, QUEUE_ANSWER_WAIT, QUEUE_ANSWER_WAIT + 10);
}

/* A server's client does not wait as long as a process of this host may. */
static void
patience_is_the_callers(void **state)
{
	(void)state;
	q.patience = QUEUE_SESSION_WAIT;
	waited = 0;
	queue_client_begin(&q);
	envelope("s@x", "a@y");
	is_silent = 1;
	queue_client_end(&q, 1, &result);
	is_silent = 0;
	assert_int_equal(result.code, QUEUE_TIMEOUT);
	assert_in_range(waited, QUEUE_SESSION_WAIT, QUEUE_SESSION_WAIT + 10);
}

static void
a_keeper_that_takes_nothing(void **state)
{
	(void)state;
	assert_int_equal(fcntl(q.keeper.fd, F_SETFL, O_NONBLOCK), 0);
	queue_client_begin(&q);
	alarm(20);
	is_silent = 1;
	for (int i = 0; i < 1000; i++)
		queue_client_message(&q, octets, PIECE);
	is_silent = 0;
	alarm(0);
	envelope("s@x", "a@y");
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_TIMEOUT);
	assert_false(result.permanent);
	assert_int_equal(q.keeper.fd, -1);
}

static void
octets_are_handed_on_by_the_piece(void **state)
{
	(void)state;
	queue_client_begin(&q);
	queue_client_message(&q, octets, PIECE - 1);
	assert_no_frame();
	assert_false(q.streaming);
	queue_client_message(&q, octets, 1);
	assert_frame(SUBMIT_MESSAGE, octets, PIECE);
	assert_true(q.streaming);
	queue_client_message(&q, octets, 2 * PIECE + 1);
	assert_frame(SUBMIT_MESSAGE, octets, PIECE);
	assert_frame(SUBMIT_MESSAGE, octets, PIECE);
	assert_frame(SUBMIT_MESSAGE, octets, 1);
	queue_client_abandon(&q);
	assert_hung_up();
}

static void
the_memory_of_a_large_message_is_bounded(void **state)
{
	struct channel_frame f;

	(void)state;
	queue_client_begin(&q);
	for (int i = 0; i < 1000; i++) {
		queue_client_message(&q, octets, PIECE - 1);
		while (channel_receive(&keeper) == 1)
			while (channel_next(&keeper, &f) == 1)
				;
	}
	assert_int_equal(q.code, 0);
	assert_true(q.message.a < 4 * PIECE);
	assert_true(q.keeper.out.a < 4 * PIECE);
}

static void
a_large_message_is_not_sent_again(void **state)
{
	(void)state;
	queue_client_begin(&q);
	queue_client_message(&q, octets, PIECE);
	assert_frame(SUBMIT_MESSAGE, octets, PIECE);
	envelope("s@x", "a@y");
	channel_free(&keeper);
	/* there is no other keeper: a second attempt would be another code, and wait */
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_TALK);
	assert_false(result.permanent);
	assert_int_equal(q.keeper.fd, -1);
}

static void
a_keeper_that_vanishes_in_the_middle_of_a_large_message(void **state)
{
	(void)state;
	queue_client_begin(&q);
	queue_client_message(&q, octets, PIECE);
	channel_free(&keeper);
	queue_client_message(&q, octets, PIECE);
	assert_int_equal(q.code, QUEUE_TALK);
	queue_client_message(&q, octets, PIECE);
	assert_int_equal(q.message.len, 0);	/* later calls do nothing */
	envelope("s@x", "a@y");
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_TALK);
}

static void
what_is_abandoned_has_no_end(void **state)
{
	(void)state;
	queue_client_begin(&q);
	queue_client_message(&q, octets, PIECE);
	envelope("s@x", "a@y");
	queue_client_abandon(&q);
	assert_frame(SUBMIT_MESSAGE, octets, PIECE);
	assert_hung_up();
	assert_int_equal(q.envelope.len, 0);
}

/* --- trouble -------------------------------------------------------------------------------- */

static void
the_limits_of_an_envelope(void **state)
{
	static const struct { size_t sender, recipient, parameters; unsigned int code; } rows[] = {
		{ QUEUE_ADDRESS_MAX, QUEUE_ADDRESS_MAX, QUEUE_PARAMETERS_MAX, QUEUE_OK },
		{ QUEUE_ADDRESS_MAX + 1, 1, 1, QUEUE_ADDRESS_TOO_LONG },
		{ 1, QUEUE_ADDRESS_MAX + 1, 1, QUEUE_ADDRESS_TOO_LONG },
		{ 1, 1, QUEUE_PARAMETERS_MAX + 1, QUEUE_REFUSED },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char parameters[QUEUE_PARAMETERS_MAX + 2] = "";

		memset(parameters, 'P', rows[i].parameters);
		queue_client_begin(&q);
		queue_client_sender(&q, octets, rows[i].sender);
		queue_client_sender_parameters(&q, parameters);
		queue_client_recipient(&q, octets, rows[i].recipient);
		queue_client_recipient_parameters(&q, parameters);
		if (!rows[i].code)
			answer(QUEUE_OK, 0, ANSWER);
		queue_client_end(&q, 1, &result);
		assert_int_equal(result.code, rows[i].code);
		assert_int_equal(result.permanent, rows[i].code != QUEUE_OK);
		if (rows[i].code)
			assert_hung_up();
		tear_down(state);
		connected(state);
	}
}

static void
the_first_trouble_is_kept(void **state)
{
	(void)state;
	queue_client_begin(&q);
	queue_client_sender(&q, "a\0b", 3);
	queue_client_recipient(&q, octets + 1, QUEUE_ADDRESS_MAX + 1);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_ENVELOPE);
	assert_false(result.permanent);
	assert_hung_up();	/* nothing of it was said */
}

static void
the_message_after_trouble_is_a_new_one(void **state)
{
	(void)state;
	queue_client_begin(&q);
	says("first");
	queue_client_sender(&q, "a\0b", 3);
	queue_client_begin(&q);
	says("second");
	envelope("s@x", "a@y");
	answer(QUEUE_OK, 0, ANSWER);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_OK);
	assert_frame(SUBMIT_MESSAGE, "second", 6);
}

static void
without_memory_for_the_program_nothing_is_sent(void **state)
{
	(void)state;
	q.unusable = QUEUE_NO_MEMORY;
	queue_client_begin(&q);
	says("octets");
	envelope("s@x", "a@y");
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_NO_MEMORY);
	assert_false(result.permanent);
	assert_hung_up();
}

static void
only_codes_from_11_to_40_and_115_are_permanent(void **state)
{
	(void)state;
	for (unsigned int code = 0; code < 256; code++) {
		assert_int_equal(queue_exit_is_permanent(code), (code >= 11 && code <= 40) || code == 115);
		assert_non_null(queue_exit_text(code));
		if (code)
			assert_non_null(strstr(queue_exit_text(code), queue_exit_is_permanent(code) ? "(#5." : "(#4."));
	}
}

/* --- connecting ------------------------------------------------------------------------------ */

static int
listen_here(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SUBMIT_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(QUEUE_SUBMIT_SOCKET);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 10), 0);
	return fd;
}

static void
a_kept_connection_that_ended_or_said_something_is_not_used(void **state)
{
	int listener = listen_here(), fd;

	for (int said = 0; said < 2; said++) {
		connected(state);
		if (said)
			answer(QUEUE_OK, 0, ANSWER);	/* to a message that was never said */
		else
			channel_free(&keeper);
		queue_client_begin(&q);
		assert_int_equal(q.keeper.fd, -1);
		queue_client_message(&q, octets, PIECE);
		fd = accept(listener, NULL, NULL);
		assert_true(fd >= 0);
		close(fd);
		tear_down(state);
	}
	close(listener);
	set_up(state);
}

static void
the_connection_is_made_from_the_home(void **state)
{
	int listener = listen_here(), home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), fd;
	struct stat before, after;

	(void)state;
	assert_int_equal(chdir("elsewhere"), 0);
	assert_int_equal(stat(".", &before), 0);
	queue_client_open_keeper(&q, home);
	queue_client_begin(&q);
	queue_client_message(&q, octets, PIECE);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(stat(".", &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	queue_client_close(&q);
	assert_true(fcntl(home, F_GETFD) >= 0);	/* stays the caller's */
	assert_int_equal(fchdir(home), 0);
	close(home);
	close(listener);
}

static void
a_socket_that_cannot_come_is_not_waited_for(void **state)
{
	(void)state;
	assert_int_equal(rename("run", "away"), 0);
	directory_write("run", "");	/* ENOTDIR */
	queue_client_begin(&q);
	envelope("s@x", "a@y");
	queue_client_end(&q, 1, &result);
	assert_int_equal(unlink("run"), 0);
	assert_int_equal(rename("away", "run"), 0);
	assert_int_equal(result.code, QUEUE_CONNECT);
	assert_false(result.permanent);
}

static void
an_idle_connection_is_kept_for_a_time(void **state)
{
	(void)state;
	q.idle_since = monotonic_ms() / 1000;
	queue_client_rest(&q);
	assert_true(q.keeper.fd >= 0);
	q.idle_since -= QUEUE_KEEP;
	queue_client_rest(&q);
	assert_int_equal(q.keeper.fd, -1);
	assert_hung_up();
	queue_client_rest(&q);	/* harmless without one */
}

/* --- a program instead ----------------------------------------------------------------------- */

/* Opens q with that program in the place of qmail-queue. */
static void
open_program(const char *script)
{
	directory_write_script("bin/qmail-queue", script);
	queue_client_open(&q, -1);
	assert_string_equal(q.program.s, "bin/qmail-queue");
}

static void
submit(const char *message)
{
	queue_client_begin(&q);
	says(message);
	queue_client_sender(&q, "s@x", 3);
	queue_client_sender_parameters(&q, "RET=HDRS");
	queue_client_recipient(&q, "a@y", 3);
	queue_client_recipient_parameters(&q, "NOTIFY=NEVER");
	queue_client_end(&q, 1, &result);
}

static void
which_program_is_run(void **state)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	unlink("bin/qmail-queue");
	unlink("libexec/qmail-queue");
	queue_client_open(&q, -1);
	assert_string_equal(q.program.s, "bin/qmail-queue");	/* none: it fails, and goes around nothing */
	queue_client_close(&q);
	directory_write_script("bin/qmail-queue", "");
	queue_client_open(&q, -1);
	assert_string_equal(q.program.s, "bin/qmail-queue");
	queue_client_close(&q);
	assert_int_equal(link("bin/qmail-queue", "libexec/qmail-queue"), 0);
	queue_client_open(&q, -1);
	assert_int_equal(q.program.len, 0);
	assert_int_equal(chdir("elsewhere"), 0);
	queue_client_open(&q, home);
	assert_int_equal(q.program.len, 0);
	assert_int_equal(fchdir(home), 0);
	close(home);
	setenv("QMAILQUEUE", "", 1);
	queue_client_open(&q, -1);
	assert_int_equal(q.program.len, 0);
	setenv("QMAILQUEUE", "elsewhere/other", 1);
	queue_client_open(&q, -1);
	assert_string_equal(q.program.s, "elsewhere/other");
	queue_client_close(&q);
	queue_client_open_keeper(&q, -1);
	assert_int_equal(q.program.len, 0);
	assert_int_equal(unlink("libexec/qmail-queue"), 0);
}

/* bin/qmail-queue may be one that refuses: neither it nor the queue gets anything. */
static void
while_it_is_not_known_which_program_is_run_nothing_is_sent(void **state)
{
	(void)state;
	open_program("exit 0");
	queue_client_close(&q);
	unlink("bin/qmail-queue");
	assert_int_equal(symlink("qmail-queue", "bin/qmail-queue"), 0);
	queue_client_open(&q, -1);
	assert_int_equal(queue_client_start_runner(&q), 0);
	assert_int_equal(errno, EIO);
	submit("octets");
	assert_int_equal(result.code, QUEUE_HOME);
	assert_false(result.permanent);
}

static void
a_program_gets_message_and_envelope_without_parameters(void **state)
{
	static const char want[] = "Fs@x\0Ta@y\0";

	(void)state;
	for (int with_runner = 0; with_runner < 2; with_runner++) {
		open_program("echo $$ > pid; cat > got-message; cat <&1 > got-envelope");
		if (with_runner)
			assert_int_equal(queue_client_start_runner(&q), 1);
		for (int i = 0; i < 2; i++) {
			char pid[20];

			submit("octets");
			assert_int_equal(result.code, QUEUE_OK);
			directory_assert_file("got-message", "octets", 6);
			directory_assert_file("got-envelope", want, sizeof want);
			assert_true(result.time > 0);
			directory_assert_file("pid", pid, (size_t)snprintf(pid, sizeof pid, "%llu\n", (unsigned long long)result.number));
			assert_int_equal(q.pid, 0);
		}
		queue_client_close(&q);
	}
}

static void
a_large_message_and_a_large_envelope(void **state)
{
	struct stat st;

	(void)state;
	open_program("cat > got-message; cat <&1 > got-envelope");
	queue_client_begin(&q);
	for (int i = 0; i < 5; i++)
		queue_client_message(&q, octets, sizeof octets);
	queue_client_sender(&q, "s@x", 3);
	for (int i = 0; i < 60000; i++)
		queue_client_recipient(&q, "a@y", 3);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_OK);
	assert_int_equal(stat("got-message", &st), 0);
	assert_int_equal(st.st_size, 5 * sizeof octets);
	assert_int_equal(stat("got-envelope", &st), 0);
	assert_int_equal(st.st_size, 5 + 60000 * 5 + 1);
	assert_true(q.envelope.a < 4 * PIECE);
}

static void
how_a_program_ends(void **state)
{
	static const struct { const char *script; unsigned int code; int permanent; } rows[] = {
		{ "exit 31", 31, 1 }, { "exit 71", 71, 0 }, { "kill -KILL $$", QUEUE_BUG, 0 }, { "exit 255", 255, 0 },
		{ "exit 127", 127, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int with_runner = 0; with_runner < 2; with_runner++) {
			open_program(rows[i].script);
			if (with_runner)
				assert_int_equal(queue_client_start_runner(&q), 1);
			submit("octets");
			assert_int_equal(result.code, rows[i].code);
			assert_int_equal(result.permanent, rows[i].permanent);
			queue_client_close(&q);
		}
	assert_int_equal(unlink("bin/qmail-queue"), 0);
	queue_client_open(&q, -1);
	submit("octets");
	assert_int_equal(result.code, QUEUE_EXEC);
}

static void
a_program_that_reads_no_envelope_may_succeed_and_one_that_reads_no_message_not(void **state)
{
	(void)state;
	open_program("cat > /dev/null");
	submit("octets");
	assert_int_equal(result.code, QUEUE_OK);
	queue_client_close(&q);
	open_program("exec <&-; cat <&1 > /dev/null");
	queue_client_begin(&q);
	for (int i = 0; i < 5; i++)	/* more than a pipe holds */
		queue_client_message(&q, octets, sizeof octets);
	assert_true(q.unread);	/* so that the caller need not go on */
	assert_int_equal(q.code, 0);
	queue_client_sender(&q, "s@x", 3);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_READ);
	queue_client_close(&q);
	open_program("exit 31");
	queue_client_begin(&q);
	for (int i = 0; i < 5; i++)
		queue_client_message(&q, octets, sizeof octets);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_REFUSED);	/* its own code says why */
}

static void
a_program_that_stops_reading_raises_no_signal(void **state)
{
	struct sigaction before, after;

	(void)state;
	assert_int_equal(sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL), 0);
	assert_int_equal(sigaction(SIGPIPE, NULL, &before), 0);
	open_program("exit 71");
	queue_client_begin(&q);
	for (int i = 0; i < 5; i++)
		queue_client_message(&q, octets, sizeof octets);
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, 71);
	assert_int_equal(sigaction(SIGPIPE, NULL, &after), 0);
	assert_true(before.sa_handler == after.sa_handler);
}

static void
a_program_that_is_given_up_sees_no_end_of_the_envelope(void **state)
{
	(void)state;
	for (int with_trouble = 0; with_trouble < 2; with_trouble++) {
		open_program("cat > /dev/null; cat <&1 > got-envelope");
		queue_client_begin(&q);
		says("octets");
		queue_client_sender(&q, "s@x", 3);
		queue_client_recipient(&q, "a\0y", with_trouble ? 3 : 1);
		if (with_trouble) {
			queue_client_end(&q, 1, &result);
			assert_int_equal(result.code, QUEUE_ENVELOPE);
		} else
			queue_client_abandon(&q);
		assert_int_equal(q.pid, 0);	/* waited for: */
		directory_assert_file("got-envelope", "", 0);
		queue_client_close(&q);
	}
}

static void
a_program_that_takes_nothing(void **state)
{
	(void)state;
	open_program("exec sleep 0.3");
	queue_client_begin(&q);
	is_silent = 1;
	for (int i = 0; i < 4; i++)
		queue_client_message(&q, octets, PIECE);
	is_silent = 0;
	envelope("s@x", "a@y");
	queue_client_end(&q, 1, &result);
	assert_int_equal(result.code, QUEUE_TIMEOUT);
	assert_false(result.permanent);
}

static void
a_program_that_does_not_end(void **state)
{
	(void)state;
	open_program("cat >/dev/null; exec sleep 0.3");
	assert_int_equal(queue_client_start_runner(&q), 1);
	q.patience = 0;
	submit("octets");
	assert_int_equal(result.code, QUEUE_TIMEOUT);
	assert_false(result.permanent);
}

static void
words_of_the_program(void **state)
{
	char text[QUEUE_ERROR_TEXT_MAX + 1];
	static const struct { const char *script, *text; int permanent; } rows[] = {
		{ "printf Dno >&6; exit 82", "no", 1 },
		{ "printf Zlater >&6; exit 82", "later", 0 },
		{ "printf Dno >&6; exit 88", "no", 1 },
		{ "printf Dn >&6; exit 82", "qq temporary problem (#4.3.0)", 0 },
		{ "printf Xno >&6; exit 82", "qq temporary problem (#4.3.0)", 0 },
		{ "exit 82", "qq temporary problem (#4.3.0)", 0 },
		{ "printf Dno >&6; exit 71", "mail server temporarily rejected message (#4.3.0)", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_program(rows[i].script);
		submit("octets");
		assert_string_equal(result.text, rows[i].text);
		assert_int_equal(result.permanent, rows[i].permanent);
		queue_client_close(&q);
	}
	open_program("printf D%0300d 7 >&6; exit 82");
	submit("octets");
	memset(text, '0', sizeof text);
	text[QUEUE_ERROR_TEXT_MAX - 1] = '\0';
	assert_string_equal(result.text, text);
	directory_write_script("bin/qmail-queue", "cat >/dev/null; cat <&1 >/dev/null");
	submit("octets");	/* the next message has none of it */
	assert_string_equal(result.text, "");
}

static void
a_child_that_the_program_leaves_behind_is_not_waited_for(void **state)
{
	FILE *file;
	int pid;

	(void)state;
	open_program("sleep 600 & echo $! > left; printf Dno >&6; exit 82");
	submit("octets");
	assert_string_equal(result.text, "no");
	file = fopen("left", "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &pid), 1);
	fclose(file);
	assert_int_equal(kill(pid, SIGKILL), 0);
}

static void
without_a_program_there_is_no_runner(void **state)
{
	(void)state;
	assert_int_equal(queue_client_start_runner(&q), 1);
	assert_int_equal(q.runner, -1);
}

static void
a_runner_that_is_gone_is_temporary(void **state)
{
	int ends[2];

	(void)state;
	open_program("exit 31");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	close(ends[1]);
	q.runner = ends[0];
	submit("octets");
	assert_int_equal(result.code, QUEUE_NO_MEMORY);
	assert_false(result.permanent);
	queue_client_abandon(&q);	/* harmless */
}

static int
make(void **state)
{
	if (directory_make(state))
		return -1;
	memset(octets, 'x', sizeof octets);
	return mkdir("run", 0700) || mkdir("bin", 0700) || mkdir("libexec", 0700) || mkdir("elsewhere", 0700);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define CONNECTED(f) cmocka_unit_test_setup_teardown(f, connected, tear_down)
	const struct CMUnitTest tests[] = {
		CONNECTED(a_message_and_its_answer), CONNECTED(an_answer_in_pieces), CONNECTED(a_keeper_that_refuses_early_and_hangs_up),
		CONNECTED(a_keeper_that_never_answers), CONNECTED(patience_is_the_callers), CONNECTED(a_keeper_that_takes_nothing),
		CONNECTED(octets_are_handed_on_by_the_piece), CONNECTED(the_memory_of_a_large_message_is_bounded),
		CONNECTED(a_large_message_is_not_sent_again), CONNECTED(a_keeper_that_vanishes_in_the_middle_of_a_large_message),
		CONNECTED(what_is_abandoned_has_no_end), CONNECTED(the_limits_of_an_envelope), CONNECTED(the_first_trouble_is_kept),
		CONNECTED(the_message_after_trouble_is_a_new_one), CONNECTED(without_memory_for_the_program_nothing_is_sent),
		TEST(only_codes_from_11_to_40_and_115_are_permanent), TEST(a_kept_connection_that_ended_or_said_something_is_not_used),
		TEST(the_connection_is_made_from_the_home), TEST(a_socket_that_cannot_come_is_not_waited_for),
		CONNECTED(an_idle_connection_is_kept_for_a_time), TEST(which_program_is_run), TEST(while_it_is_not_known_which_program_is_run_nothing_is_sent),
		TEST(a_program_gets_message_and_envelope_without_parameters), TEST(a_large_message_and_a_large_envelope),
		TEST(how_a_program_ends), TEST(a_program_that_reads_no_envelope_may_succeed_and_one_that_reads_no_message_not),
		TEST(a_program_that_stops_reading_raises_no_signal), TEST(a_program_that_is_given_up_sees_no_end_of_the_envelope),
		TEST(a_program_that_takes_nothing), TEST(a_program_that_does_not_end), TEST(words_of_the_program), TEST(a_child_that_the_program_leaves_behind_is_not_waited_for),
		TEST(without_a_program_there_is_no_runner),
		TEST(a_runner_that_is_gone_is_temporary),
	};

	return cmocka_run_group_tests_name("client", tests, make, directory_remove);
}
