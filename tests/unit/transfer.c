/* A message on its way from a client into the queue, the replies and the log, as qmail-qmtpd and qmail-qmqpd have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "bin-src/smtpd/transfer.h"
#include "directory.h"
#include "home.h"
#include "listener.h"
#include "queue/protocol.h"
#include "sandbox.h"
#include "stralloc_set.h"
#include "queued.h"

static struct transfer t;
static stralloc reply;

/* --- what the start needs: this directory is the home, and nobody shuts this process in ----------------------------------- */

const struct sandbox_filter sandbox_session;

int
home_enter(void)
{
	return 1;
}

int
sandbox_enter(const struct sandbox *s)
{
	(void)s;
	return 0;
}

void
queue_client_open(struct queue_client *q, int home)
{
	(void)q;
	assert_int_equal(home, -1);
}

int
queue_client_start_runner(struct queue_client *q)
{
	(void)q;
	return 1;
}

static int
begin(void **state)
{
	static char *const argv[] = { (char *)(uintptr_t)"qmail-qmtpd", NULL };

	(void)state;
	queued_reset();
	t = (struct transfer){ .protocol = "QMTP", .settings = t.settings };
	transfer_start(&t, 1, argv);
	transfer_begin(&t);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	queue_client_abandon(&t.queue);
	stralloc_free(&t.sender);
	stralloc_free(&t.names);
	stralloc_free(&t.replies);
	stralloc_free(&reply);
	unsetenv("RELAYCLIENT");
	return 0;
}

/* --- the log ----------------------------------------------------------------------------------------------------------- */

static int kept, file;

/* Descriptor fd is a file meanwhile: nothing is to be asserted before it is given back. Returns what was written. */
static void
take_descriptor(int fd)
{
	fflush(stdout);
	kept = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	file = open("written", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	dup2(file, fd);
}

static const char *
give_descriptor_back(int fd)
{
	static char text[65536];
	ssize_t n = pread(file, text, sizeof text - 1, 0);

	dup2(kept, fd);
	close(kept);
	close(file);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

/* Ends the message. Returns the line of the log, which is one. */
static const char *
ends(void)
{
	const char *log;
	size_t len;

	take_descriptor(STDERR_FILENO);
	transfer_end(&t, &reply);
	log = give_descriptor_back(STDERR_FILENO);
	len = strlen(log);
	assert_true(len && log[len - 1] == '\n');
	for (size_t i = 0; i < len - 1; i++)
		assert_true(log[i] >= ' ' && log[i] < 127);
	assert_true(stralloc_0(&reply));
	return log;
}

static void
expect_reply(const char *want)
{
	const char *log = ends();

	if (strcmp(reply.s, want) != 0)
		fail_msg("%s, not %s", reply.s, want);
	assert_non_null(strstr(log, *want == 'K' ? " result=accepted qp=7\n" : *want == 'D' ? " result=refused reason=" : " result=deferred reason="));
	assert_int_equal(queued.ended, *want == 'K');
	assert_false(queued.is_open);
}

static void
set(stralloc *s, const char *octets)
{
	assert_true(stralloc_sets(s, octets));
}

static void
octets(const char *s)
{
	transfer_octets(&t, s, strlen(s));
}

static void
sender(const char *address)
{
	set(&t.sender, address);
	transfer_sender(&t);
}

static void
recipient(const char *address)
{
	stralloc s = STRALLOC_ZERO;

	set(&s, address);
	transfer_recipient(&t, &s);
	stralloc_free(&s);
}

/* --- a message ----------------------------------------------------------------------------------------------------------- */

static void
a_message_with_its_envelope(void **state)
{
	const char *log;

	(void)state;
	octets("Subject: x\n");
	octets("\nbody\n");
	sender("s@x.test");
	recipient("a@me.test");
	recipient("b@y.test");
	log = ends();
	assert_string_equal(reply.s, "Kok 5 qp 7");
	assert_string_equal(queued.envelope, "Fs@x.test|Ta@me.test|Tb@y.test|");
	assert_memory_equal(queued.message, "Received: from ", 15);
	assert_non_null(strstr(queued.message, " with QMTP; "));
	assert_string_equal(queued.message + strlen(queued.message) - 18, "\nSubject: x\n\nbody\n");
	assert_non_null(strstr(log, " from=<s@x.test> to=<a@me.test>,<b@y.test> recipients=2 size=17 result=accepted qp=7\n"));
	assert_null(strstr(log, "relay="));
}

static void
RELAYCLIENT_stands_behind_each_recipient(void **state)
{
	(void)state;
	t.relayclient = "@via.test";
	sender("");
	recipient("a@me.test");
	assert_non_null(strstr(ends(), " relay=yes from=<> to=<a@me.test@via.test> "));
	assert_string_equal(queued.envelope, "F|Ta@me.test@via.test|");
}

static const struct limit { const char *rule; unsigned long databytes, maxhops; const char *octets, *want; } limits[] = {
	{ "the largest message", 4, 100, "abc\n", "Kok 5 qp 7" },
	{ "one octet more", 4, 100, "abcd\n", "Dsorry, that message size exceeds my databytes limit (#5.3.4)" },
	{ "any size", 0, 100, "abcd\n", "Kok 5 qp 7" },
	{ "one hop below the limit", 0, 3, "Received: a\ndelivered-to: b\n\n", "Kok 5 qp 7" },
	{ "as many hops as the limit", 0, 2, "Received: a\ndelivered-to: b\n\n", "Dtoo many hops, this message is looping (#5.4.6)" },
	{ "hops in the body", 0, 1, "\nReceived: a\n", "Kok 5 qp 7" },
};
enum { LIMITS = sizeof limits / sizeof *limits };

/* The octets come one by one, as they may. */
static void
a_limit_is_kept(void **state)
{
	const struct limit *row = *state;

	t.settings.numbers[NUMBER_DATABYTES] = row->databytes;
	t.settings.numbers[NUMBER_MAXHOPS] = row->maxhops;
	for (const char *s = row->octets; *s; s++)
		transfer_octets(&t, s, 1);
	sender("s@x.test");
	recipient("a@me.test");
	expect_reply(row->want);
	/* and the next message is taken for itself */
	queued_reset();
	t.settings.numbers[NUMBER_DATABYTES] = 0;
	transfer_begin(&t);
	sender("s@x.test");
	recipient("a@me.test");
	expect_reply("Kok 5 qp 7");
}

static void
the_first_reason_counts_and_gives_the_message_up(void **state)
{
	(void)state;
	octets("a\n");
	transfer_refuse(&t, 'D', "bad (#5.6.0)");
	assert_int_equal(queued.abandoned, 1);
	transfer_refuse(&t, 'Z', "later (#4.3.0)");
	octets("b\n");
	sender("s@x.test");
	recipient("a@me.test");
	assert_int_equal(t.recipients, 0);
	expect_reply("Dbad (#5.6.0)");
}

static void
a_doubt_is_no_failure_though_the_rest_is_wrong(void **state)
{
	(void)state;
	transfer_refuse(&t, 'Z', "out of memory (#4.3.0)");
	sender("s@x.test");
	expect_reply("Zout of memory (#4.3.0)");	/* not: no recipients */
}

static void
a_message_without_recipients(void **state)
{
	(void)state;
	sender("s@x.test");
	expect_reply("Dno recipients (#5.5.1)");
}

static void
a_sender_with_a_NUL(void **state)
{
	(void)state;
	assert_true(stralloc_setb(&t.sender, "s\0@x.test", 9));
	transfer_sender(&t);
	recipient("a@me.test");
	expect_reply("Dthe sender has an octet that no address has (#5.1.7)");
}

static void
what_the_queue_says(void **state)
{
	(void)state;
	queued.result = (struct queue_result){ .code = 53, .text = "unable to write message to queue (#4.3.0)" };
	sender("s@x.test");
	recipient("a@me.test");
	assert_non_null(strstr(ends(), " result=deferred reason=\"unable to write message to queue (#4.3.0)\"\n"));
	assert_string_equal(reply.s, "Zunable to write message to queue (#4.3.0)");
	queued.result = (struct queue_result){ .code = 82, .permanent = 1, .text = "spam \"\033[1m\xff\nqmail-qmtpd: message" };
	transfer_begin(&t);
	sender("s@x.test");
	recipient("a@me.test");
	assert_non_null(strstr(ends(), " result=refused reason=\"spam ??[1m?\"\n"));
}

static void
a_message_that_is_given_up(void **state)
{
	const char *log;

	(void)state;
	octets("a\n");
	sender("s@x.test");
	take_descriptor(STDERR_FILENO);
	transfer_abandon(&t, "timeout");
	log = give_descriptor_back(STDERR_FILENO);
	assert_non_null(strstr(log, " from=<s@x.test> to= recipients=0 size=2 result=incomplete reason=\"timeout\"\n"));
	assert_int_equal(queued.ended, 0);
	assert_int_equal(queued.abandoned, 1);
}

/* From its beginning until it is answered or given up. */
static void
a_message_that_has_begun_is_not_stopped(void **state)
{
	(void)state;
	assert_null(t.in.is_stopping);
	sender("s@x.test");
	recipient("a@me.test");
	ends();
	assert_ptr_equal(t.in.is_stopping, listener_is_stopping);
	transfer_begin(&t);
	assert_null(t.in.is_stopping);
	take_descriptor(STDERR_FILENO);
	transfer_abandon(&t, "");
	give_descriptor_back(STDERR_FILENO);
	assert_ptr_equal(t.in.is_stopping, listener_is_stopping);
}

/* --- lines of the log ------------------------------------------------------------------------------------------------------ */

static const char *
every_octet(void)
{
	static char s[256];

	for (int i = 1; i < 256; i++)
		s[i - 1] = (char)i;
	return s;
}

static void
any_octet_of_anybody_leaves_a_line_whole(void **state)
{
	const char *log;
	size_t quotes = 0;

	(void)state;
	snprintf(t.peer.host, sizeof t.peer.host, "%s", every_octet());
	sender(every_octet());
	recipient(every_octet());
	transfer_refuse(&t, 'D', every_octet());
	log = ends();
	for (const char *s = log; *s; s++)
		quotes += *s == '"';
	assert_int_equal(quotes, 2);
	assert_non_null(strstr(log, "> to=<"));
	take_descriptor(STDERR_FILENO);
	transfer_log(&t, "session", "a \"b\"\nc");
	log = give_descriptor_back(STDERR_FILENO);
	assert_non_null(strstr(log, " reason=\"a ?b?\"\n"));
}

static void
recipients(const char *address, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		recipient(address);
}

/* Between two addresses, once, and all are counted. */
static void
a_long_list_of_recipients_is_cut(void **state)
{
	for (unsigned int first = 100; first < 1000; first += 200) {
		char longest[QUEUE_ADDRESS_MAX + 1], dots[64];
		const char *log;

		end(state);
		begin(state);
		memset(longest, 'a', QUEUE_ADDRESS_MAX);
		longest[QUEUE_ADDRESS_MAX] = '\0';
		sender("s@x.test");
		recipients("a@b", first);
		recipients(longest, 1);
		recipients("a@b", 500);
		snprintf(dots, sizeof dots, ">,... recipients=%u ", first + 501);
		log = ends();
		assert_non_null(strstr(log, dots));
		assert_ptr_equal(strstr(log, ",..."), strstr(log, dots) + 1);
	}
}

static void
the_longest_of_everything_leaves_the_result_in_its_line(void **state)
{
	for (unsigned int count = 1; count <= 4; count++) {
		char address[QUEUE_ADDRESS_MAX + 1];
		const char *log;

		end(state);
		begin(state);
		memset(address, 'a', sizeof address - 1);
		address[QUEUE_ADDRESS_MAX] = '\0';
		memset(t.peer.host, 'h', sizeof t.peer.host - 1);
		t.relayclient = "";
		sender(address);
		recipients(address, count);
		log = ends();
		assert_non_null(strstr(log, " result=accepted qp=7\n"));
	}
}

/* --- replies ----------------------------------------------------------------------------------------------------------------- */

static void
replies_are_netstrings_that_leave_before_a_wait(void **state)
{
	const char *written;

	(void)state;
	transfer_reply(&t, "Kok", 3);
	transfer_reply(&t, "", 0);
	take_descriptor(STDOUT_FILENO);
	t.in.flush(t.in.data);
	t.in.flush(t.in.data);
	written = give_descriptor_back(STDOUT_FILENO);
	assert_string_equal(written, "3:Kok,0:,");
	assert_int_equal(t.is_gone, 0);
}

static int interruptions;	/* of writes to the client, still to come */

ssize_t __real_write(int fd, const void *s, size_t len);
ssize_t __wrap_write(int fd, const void *s, size_t len);

ssize_t
__wrap_write(int fd, const void *s, size_t len)
{
	if (fd != STDOUT_FILENO || !interruptions)
		return __real_write(fd, s, len);
	interruptions--;
	errno = EINTR;
	return -1;
}

/* The server is told to stop while it says that mail is queued: the client has to hear it, or it sends that mail again. */
static void
a_signal_takes_no_reply_away(void **state)
{
	const char *written;

	(void)state;
	transfer_reply(&t, "Kok", 3);
	take_descriptor(STDOUT_FILENO);
	interruptions = 3;
	transfer_flush(&t);
	interruptions = 0;
	written = give_descriptor_back(STDOUT_FILENO);
	assert_string_equal(written, "3:Kok,");
	assert_int_equal(t.is_gone, 0);
}

static void
replies_that_are_gathered_are_bounded(void **state)
{
	static const char text[1000] = "";
	size_t most = 0;

	(void)state;
	take_descriptor(STDOUT_FILENO);
	for (int i = 0; i < 100; i++) {
		transfer_reply(&t, text, sizeof text);
		most = t.replies.len > most ? t.replies.len : most;
	}
	give_descriptor_back(STDOUT_FILENO);
	assert_in_range(most, sizeof text, 40000);
}

static void
a_client_that_is_gone(void **state)
{
	int fd[2], out = dup(STDOUT_FILENO), r;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	close(fd[1]);
	fflush(stdout);
	dup2(fd[0], STDOUT_FILENO);
	transfer_reply(&t, "Kok", 3);
	r = transfer_flush(&t);
	dup2(out, STDOUT_FILENO);
	close(out);
	close(fd[0]);
	assert_int_equal(r, 0);
	assert_int_equal(t.is_gone, 1);
	assert_int_equal(t.replies.len, 0);
}

static void
a_client_that_does_not_read(void **state)
{
	static char much[1 << 20];
	int fd[2], out = dup(STDOUT_FILENO), r;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	while (send(fd[0], much, sizeof much, MSG_NOSIGNAL) > 0)
		;
	t.in.timeout_ms = 10;
	fflush(stdout);
	dup2(fd[0], STDOUT_FILENO);
	transfer_reply(&t, "Kok", 3);
	r = transfer_flush(&t);
	dup2(out, STDOUT_FILENO);
	close(out);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(r, 0);
	assert_int_equal(t.is_gone, 1);
}

/* --- the rest ------------------------------------------------------------------------------------------------------------------ */

static void
why_reading_ended(void **state)
{
	(void)state;
	assert_string_equal(transfer_why(NETSTRING_OK, INPUT_TIMEOUT), "");
	assert_string_equal(transfer_why(NETSTRING_MALFORMED, INPUT_OK), "malformed netstring");
	assert_string_equal(transfer_why(NETSTRING_NO_MEMORY, INPUT_OK), "out of memory");
	assert_string_equal(transfer_why(NETSTRING_FAILED, INPUT_CLOSED), "closed by the client");
	assert_string_equal(transfer_why(NETSTRING_FAILED, INPUT_TIMEOUT), "timeout");
	assert_string_equal(transfer_why(NETSTRING_FAILED, INPUT_SESSION_OVER), "the connection lasted too long");
	assert_string_equal(transfer_why(NETSTRING_FAILED, INPUT_STOPPING), "the server is being stopped");
}

static void
the_start_reads_files_and_then_variables(void **state)
{
	(void)state;
	end(state);
	directory_write("control/databytes", "100\n");
	directory_write("control/timeoutsmtpd", "7\n");
	setenv("DATABYTES", "200", 1);
	setenv("RELAYCLIENT", "", 1);
	begin(state);
	unsetenv("DATABYTES");
	unlink("control/databytes");
	unlink("control/timeoutsmtpd");
	assert_int_equal(t.settings.numbers[NUMBER_DATABYTES], 200);
	assert_int_equal(t.in.timeout_ms, 7000);
	assert_string_equal(t.relayclient, "");
	assert_string_equal(t.peer.ip, "192.0.2.1");
	assert_int_equal(transfer_next(&t), 0);	/* not where somebody else accepts */
}

static int
make_home(void **state)
{
	PROG = "qmail-qmtpd";
	setenv("TCPREMOTEIP", "192.0.2.1", 1);
	if (directory_make(state))
		return -1;
	directory_write("control/me", "me.test\n");
	return 0;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest others[] = {
		TEST(a_message_with_its_envelope), TEST(RELAYCLIENT_stands_behind_each_recipient),
		TEST(the_first_reason_counts_and_gives_the_message_up), TEST(a_doubt_is_no_failure_though_the_rest_is_wrong),
		TEST(a_message_without_recipients), TEST(a_sender_with_a_NUL), TEST(what_the_queue_says), TEST(a_message_that_is_given_up),
		TEST(a_message_that_has_begun_is_not_stopped), TEST(any_octet_of_anybody_leaves_a_line_whole),
		TEST(a_long_list_of_recipients_is_cut), TEST(the_longest_of_everything_leaves_the_result_in_its_line),
		TEST(replies_are_netstrings_that_leave_before_a_wait), TEST(replies_that_are_gathered_are_bounded),
		TEST(a_signal_takes_no_reply_away), TEST(a_client_that_is_gone),
		TEST(a_client_that_does_not_read), TEST(why_reading_ended), TEST(the_start_reads_files_and_then_variables),
	};
	struct CMUnitTest tests[LIMITS + sizeof others / sizeof *others];

	for (size_t i = 0; i < LIMITS; i++)
		tests[i] = (struct CMUnitTest){ limits[i].rule, a_limit_is_kept, begin, end, (void *)(uintptr_t)&limits[i] };
	memcpy(tests + LIMITS, others, sizeof others);
	return cmocka_run_group_tests_name("transfer", tests, make_home, directory_remove);
}
