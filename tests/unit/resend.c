/* A message that is sent on, by qmail-local (resend) and by the helpers of dot-qmail files (copy): what reaches the queue, and that
 * nothing does where the message cannot be read. The program under test is a child; the test is the queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "bin-src/local/copy.h"
#include "bin-src/local/resend.h"
#include "directory.h"
#include "queue/protocol.h"
#include "submitted.h"

#define LINE "Delivered-To: ann@here.example\n"
#define MESSAGE "Subject: x\n\nbody without a last newline"
#define TO "bob@far.example\0carol@far.example"

enum { LARGE = 300000 };	/* octets; the client hands on 64 KiB at a time */

static int queue, home;
static struct channel keeper;
static stralloc message, envelope;
static const stralloc recipients = { .s = (char *)(uintptr_t)TO, .len = sizeof TO };
static struct { enum exitcode code; uint64_t number; char text[REPORT_MAX + 1]; } *came;	/* shared with the child */
static pid_t child;

static int
begin(void **state)
{
	(void)state;
	queue = submitted_listen();
	memset(came, 0, sizeof *came);
	channel_init(&keeper, -1, 0);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
	channel_free(&keeper);
	return close(queue);
}

/* Waits for the child's end; its exit status. */
static int
await(void)
{
	int status = 0;

	assert_int_equal(waitpid(child, &status, 0), child);
	child = 0;
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* --- resend ---------------------------------------------------------------------------- */

static void
send_on(const struct resend *r, const struct message *m)
{
	child = fork();
	if (child == 0) {
		struct report report = { .text = STRALLOC_ZERO };

		came->code = resend_message(r, m, &report, &came->number);
		if (report.text.len)
			memcpy(came->text, report.text.s, report.text.len);
		_exit(0);
	}
	assert_true(child > 0);
}

static struct resend
plain(void)
{
	return (struct resend){ .home = home, .line = LINE, .sender = "s@x", .recipients = &recipients };
}

static const struct message in_memory = { .octets = MESSAGE, .size = sizeof MESSAGE - 1, .fd = -1 };

/* Takes what the child submits, accepts it, and waits for its end. */
static void
accept_it(unsigned int code, uint64_t number)
{
	submitted_accept(queue, &keeper);
	assert_int_equal(submitted_take(&keeper, &message, &envelope), 1);
	submitted_answer(&keeper, code, number);
	await();
}

#define OCTETS(text) text, sizeof(text)

static void
assert_envelope(const char *s, size_t len)
{
	assert_int_equal(envelope.len, len);
	assert_memory_equal(envelope.s, s, len);
}

static void
the_copy_is_the_line_and_the_message(void **state)
{
	struct resend r = plain();

	(void)state;
	send_on(&r, &in_memory);
	accept_it(0, 77);
	assert_int_equal(message.len, sizeof LINE MESSAGE - 1);
	assert_string_equal(message.s, LINE MESSAGE);
	assert_envelope(OCTETS("Fs@x\0Tbob@far.example\0Tcarol@far.example\0"));
	assert_int_equal(came->code, EXIT_OK);
	assert_int_equal(came->number, 77);
	assert_string_equal(came->text, "");
}

static void
a_large_file_is_sent_whole(void **state)
{
	struct resend r = plain();
	struct message m;
	char *octets = test_malloc(LARGE);
	int fd = open("large", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	(void)state;
	for (size_t i = 0; i < LARGE; i++)
		octets[i] = (char)(i * 7 / 5);	/* NUL and all others */
	assert_int_equal(write(fd, octets, LARGE), LARGE);	/* and its place is at the end */
	assert_int_equal(message_of_file(&m, fd), 1);
	send_on(&r, &m);
	accept_it(0, 77);
	assert_int_equal(message.len, sizeof LINE - 1 + LARGE);
	assert_memory_equal(message.s + sizeof LINE - 1, octets, LARGE);
	assert_int_equal(came->code, EXIT_OK);
	test_free(octets);
	close(fd);
}

/* The message became shorter while it was read: what was handed on is given up. */
static void
what_cannot_be_read_is_not_queued(void **state)
{
	struct resend r = plain();
	struct message m;
	int fd = open("large", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, LARGE), 0);
	assert_int_equal(message_of_file(&m, fd), 1);
	assert_int_equal(ftruncate(fd, LARGE - 1), 0);
	send_on(&r, &m);
	submitted_accept(queue, &keeper);
	assert_int_equal(submitted_take(&keeper, &message, &envelope), 0);
	await();
	assert_int_equal(came->code, EXIT_TEMP);
	assert_string_equal(came->text, "Unable to copy the message: Input/output error. (#4.3.0)\n");
	close(fd);
}

/* --- envelopes ----------------------------------------------------------------------------- */

static void
parameters_go_along(void **state)
{
	struct resend r = plain();

	(void)state;
	r.sender_parameters = "RET=HDRS ENVID=abc";
	r.parameters = "NOTIFY=FAILURE,DELAY ORCPT=rfc822;ann@here.example";
	send_on(&r, &in_memory);
	accept_it(0, 77);
	assert_envelope(OCTETS("Fs@x\0PRET=HDRS ENVID=abc\0"
	    "Tbob@far.example\0PNOTIFY=FAILURE,DELAY ORCPT=rfc822;ann@here.example\0"
	    "Tcarol@far.example\0PNOTIFY=FAILURE,DELAY ORCPT=rfc822;ann@here.example\0"));
}

static void
a_list_carries_none_on(void **state)
{
	struct resend r = plain();

	(void)state;
	r.sender = "list-owner@here.example";
	r.sender_parameters = "RET=HDRS ENVID=abc";
	r.parameters = "NOTIFY=FAILURE ORCPT=rfc822;ann@here.example";
	r.is_list = 1;
	send_on(&r, &in_memory);
	accept_it(0, 77);
	assert_envelope(OCTETS("Flist-owner@here.example\0Tbob@far.example\0Tcarol@far.example\0"));
}

static void
the_null_sender_and_nobody(void **state)
{
	struct resend r = plain();
	stralloc none = STRALLOC_ZERO;

	(void)state;
	r.sender = "";
	r.recipients = &none;
	send_on(&r, &in_memory);
	accept_it(0, 77);
	assert_envelope(OCTETS("F\0"));
}

static void
an_address_that_is_too_long_by_one(void **state)
{
	struct resend r = plain();
	char address[QUEUE_ADDRESS_MAX + 2];
	stralloc to = { .s = address, .len = QUEUE_ADDRESS_MAX + 1 };

	(void)state;
	memset(address, 'a', sizeof address);
	address[QUEUE_ADDRESS_MAX] = '\0';
	r.recipients = &to;
	send_on(&r, &in_memory);
	accept_it(0, 77);
	assert_int_equal(came->code, EXIT_OK);
	address[QUEUE_ADDRESS_MAX] = 'a';
	address[QUEUE_ADDRESS_MAX + 1] = '\0';
	to.len++;
	send_on(&r, &in_memory);
	await();	/* nothing is submitted */
	assert_int_equal(came->code, EXIT_PERM);
	assert_non_null(strstr(came->text, "(#5.1.3)"));
}

/* --- answers ---------------------------------------------------------------------------------- */

static const struct row { const char *rule; unsigned int code; enum exitcode want; const char *text; } rows[] = {
	{ "refused for good", QUEUE_REFUSED, EXIT_PERM,
	    "Unable to forward the message: mail server permanently rejected message (#5.3.0)\n" },
	{ "the last permanent code", 40, EXIT_PERM, "Unable to forward the message: qq permanent problem (#5.3.0)\n" },
	{ "the first temporary code", 41, EXIT_TEMP, "Unable to forward the message: qq temporary problem (#4.3.0)\n" },
	{ "a full disk", QUEUE_WRITE, EXIT_TEMP, "Unable to forward the message: qq write error or disk full (#4.3.0)\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
answer_row(void **state)
{
	const struct row *row = *state;
	struct resend r = plain();

	send_on(&r, &in_memory);
	accept_it(row->code, 0);
	assert_int_equal(came->code, row->want);
	assert_string_equal(came->text, row->text);
}

/* --- copy --------------------------------------------------------------------------------------- */

/* A helper with fd as descriptor 0, and the file "said" as descriptor 2. */
static void
help(int fd, int at)
{
	child = fork();
	if (child == 0) {
		int said = open("said", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		PROG = "helper";
		setenv("DTLINE", LINE, 1);
		if (dup2(fd, 0) < 0 || dup2(said, 2) < 0)
			_exit(1);
		copy_message(at, "s@x", &recipients);
		_exit(0);
	}
	assert_true(child > 0);
}

static void
assert_said(const char *text)
{
	char s[REPORT_MAX + 1] = { 0 };
	int fd = open("said", O_RDONLY | O_CLOEXEC);

	assert_true(read(fd, s, sizeof s - 1) >= 0);
	close(fd);
	assert_string_equal(s, text);
}

static int
message_file(void)
{
	directory_write("message", MESSAGE);
	return open("message", O_RDWR | O_CLOEXEC);
}

/* A helper with fd as descriptor 0 sends this. */
static void
assert_sends(int fd, const char *octets)
{
	help(fd, home);
	submitted_accept(queue, &keeper);
	assert_int_equal(submitted_take(&keeper, &message, &envelope), 1);
	submitted_answer(&keeper, 0, 4294967296);
	assert_int_equal(await(), 0);
	assert_string_equal(message.s, octets);
	assert_envelope(OCTETS("Fs@x\0Tbob@far.example\0Tcarol@far.example\0"));
	assert_said("helper: qp 4294967296\n");
	channel_free(&keeper);
	close(fd);
}

static void
a_helper_sends_all_of_its_input(void **state)
{
	(void)state;
	assert_sends(message_file(), LINE MESSAGE);
}

static void
a_helper_sends_what_is_left_of_its_input(void **state)
{
	char left[sizeof LINE + sizeof MESSAGE];
	int fd = message_file();

	(void)state;
	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);	/* somebody else has read some of it */
	snprintf(left, sizeof left, "%s%s", LINE, MESSAGE + 5);
	assert_sends(fd, left);
}

static void
a_helper_sends_what_comes_through_a_pipe(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(write(ends[1], MESSAGE, sizeof MESSAGE - 1), sizeof MESSAGE - 1);
	close(ends[1]);
	assert_sends(ends[0], LINE MESSAGE);
}

static void
a_helper_says_why_and_how_it_failed(void **state)
{
	static const struct { unsigned int code; int exit; const char *said; } cases[] = {
		{ QUEUE_REFUSED, EXIT_PERM, "Unable to forward the message: mail server permanently rejected message (#5.3.0)\n" },
		{ QUEUE_NO_MEMORY, EXIT_TEMP, "Unable to forward the message: qq out of memory (#4.3.0)\n" },
	};
	int fd = message_file();

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		help(fd, home);
		submitted_accept(queue, &keeper);
		assert_int_equal(submitted_take(&keeper, &message, &envelope), 1);
		submitted_answer(&keeper, cases[i].code, 0);
		assert_int_equal(await(), cases[i].exit);
		assert_said(cases[i].said);
		channel_free(&keeper);
	}
	close(fd);
}

static void
without_home_or_message_nothing_is_submitted(void **state)
{
	int fd = message_file(), directory = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	help(fd, -1);
	assert_int_equal(await(), EXIT_TEMP);
	help(directory, home);
	assert_int_equal(await(), EXIT_TEMP);
	assert_said("helper: fatal: unable to read the message on descriptor 0: Is a directory\n");
	assert_int_equal(fcntl(queue, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(accept(queue, NULL, NULL), -1);
	close(directory);
	close(fd);
}

/* ------------------------------------------------------------------------------------------------- */

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	submitted_home();
	home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	came = mmap(NULL, sizeof *came, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return came == MAP_FAILED;
}

static int
tear_down(void **state)
{
	stralloc_free(&message);
	stralloc_free(&envelope);
	munmap(came, sizeof *came);
	close(home);
	return directory_remove(state);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(the_copy_is_the_line_and_the_message), TEST(a_large_file_is_sent_whole),
		TEST(what_cannot_be_read_is_not_queued), TEST(parameters_go_along), TEST(a_list_carries_none_on),
		TEST(the_null_sender_and_nobody), TEST(an_address_that_is_too_long_by_one),
		TEST(a_helper_sends_all_of_its_input), TEST(a_helper_sends_what_is_left_of_its_input),
		TEST(a_helper_sends_what_comes_through_a_pipe), TEST(a_helper_says_why_and_how_it_failed),
		TEST(without_home_or_message_nothing_is_submitted),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ rows[i].rule, answer_row, begin, end, (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("resend", all, set_up, tear_down);
}
