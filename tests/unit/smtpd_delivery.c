/* Mail data on their way into the queue: what arrives there, what is answered, and what is given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "directory.h"
#include "listener.h"
#include "smtpd.h"
#include "queued.h"

#define TRANSACTION "EHLO x.test|MAIL FROM:<s@x.test>|RCPT TO:<a@me.test>"

static unsigned long *
number(enum setting_number_name name)
{
	return &smtpd->settings->numbers[name];
}

static void
expect(const char *lines, const char *want)
{
	const char *got = smtpd_says(lines);

	if (strncmp(got, want, strlen(want)) != 0)
		fail_msg("%s: %s, not %s", lines, got, want);
}

/* DATA and octets, which the client has sent in time. */
static void
expect_data(const char *octets, const char *want)
{
	char all[1024];

	smtpd_sends(octets, strlen(octets));
	snprintf(all, sizeof all, "354 go ahead\r\n%s", want);
	expect("DATA", all);
}

static void
expect_chunk(const char *octets, const char *last, const char *want)
{
	char line[64];

	smtpd_sends(octets, strlen(octets));
	snprintf(line, sizeof line, "BDAT %zu%s", strlen(octets), last);
	expect(line, want);
}

/* Of the message, without the Received field of two lines. */
static void
expect_message(const char *want)
{
	const char *s = strstr(queued.message, "\n  by ");

	assert_memory_equal(queued.message, "Received: from ", 15);
	assert_non_null(s);
	assert_string_equal(strchr(s + 1, '\n') + 1, want);
}

static void
expect_nothing_queued(void)
{
	assert_int_equal(queued.ended, 0);
	assert_false(queued.is_open);
}

/* --- what arrives ---------------------------------------------------------------------------------------------------- */

static void
a_message_with_its_envelope(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test|MAIL FROM:<s@x.test> RET=HDRS|RCPT TO:<a@me.test> NOTIFY=NEVER|RCPT TO:<b@me.test>");
	expect_data("Subject: x\r\n\r\n..a\r\n.b\r\n\r\n.\r\n", "250 2.0.0 ok 5 qp 7");
	expect_message("Subject: x\n\n.a\nb\n\n");
	assert_string_equal(queued.envelope, "Fs@x.test|PRET=HDRS|Ta@me.test|PNOTIFY=NEVER|Tb@me.test|");
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	assert_int_equal(smtpd->messages, 1);
	assert_non_null(strstr(smtpd_logged(), " from=<s@x.test> to=<a@me.test>,<b@me.test> recipients=2 size=18 result=accepted qp=7\n"));
}

static void
an_empty_message(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	expect_data(".\r\n", "250 ");
	expect_message("");
}

static void
what_follows_the_dot_is_the_next_command(void **state)
{
	char *line;
	size_t len;

	(void)state;
	smtpd_says(TRANSACTION);
	expect_data("a\r\n.\r\nNOOP\r\n", "250 ");
	assert_int_equal(input_line(&smtpd->in, &line, &len), INPUT_OK);
	assert_string_equal(line, "NOOP");
}

static void
chunks_are_one_message(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	expect_chunk("a\r", "", "250 2.0.0 2 octets received");
	expect_chunk("\n.\r", "", "250 2.0.0 3 octets received");
	expect_chunk("", "", "250 2.0.0 0 octets received");
	expect_chunk("\n..b\r\n", "", "250 2.0.0 6 octets received");
	expect_chunk("", " LAST", "250 2.0.0 ok 5 qp 7");
	expect_message("a\n.\n..b\n");
}

static void
octets_behind_a_chunk_are_none_of_it(void **state)
{
	char *line;
	size_t len;

	(void)state;
	smtpd_says(TRANSACTION);
	smtpd_sends("a\r\nNOOP\r\n", 9);
	expect("BDAT 3 LAST", "250 ");
	expect_message("a\n");
	assert_int_equal(input_line(&smtpd->in, &line, &len), INPUT_OK);
	assert_string_equal(line, "NOOP");
}

/* --- what the queue says ------------------------------------------------------------------------------------------------ */

/* A doubt of the queue is never a failure for good. */
static const struct answer { const char *rule; struct queue_result result; const char *want, *result_logged; } answers[] = {
	{ "trouble", { .code = 53, .text = "unable to write message to queue (#4.3.0)" }, "451 4.3.0 unable to write message to queue (#4.3.0)", "deferred" },
	{ "a refusal", { .code = 31, .permanent = 1, .text = "mail server permanently rejected message (#5.3.0)" },
	    "554 5.3.0 mail server permanently rejected message (#5.3.0)", "refused" },
	{ "a refusal with a code of its own", { .code = 82, .permanent = 1, .text = "spam (#5.7.1)" }, "554 5.7.1 spam (#5.7.1)", "refused" },
	{ "a code of another class", { .code = 82, .text = "later (#5.7.1)" }, "451 4.3.0 later (#5.7.1) (#4.3.0)", "deferred" },
	{ "a text of any octets", { .code = 82, .permanent = 1, .text = "a\033[1m\"\xff\r\n250 ok" }, "554 5.3.0 a?[1m\"? (#5.3.0)", "refused" },
	{ "no text", { .code = 82, .permanent = 1, .text = "" }, "554 5.3.0  (#5.3.0)", "refused" },
};
enum { ANSWERS = sizeof answers / sizeof *answers };

static void
the_queue_says(void **state)
{
	const struct answer *row = *state;
	char logged[32];
	const char *log;

	queued.result = row->result;
	smtpd_says(TRANSACTION);
	expect_data("a\r\n.\r\n", row->want);
	assert_int_equal(smtpd->messages, 0);
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	snprintf(logged, sizeof logged, " result=%s", row->result_logged);
	log = smtpd_logged();
	assert_non_null(strstr(log, logged));
	assert_null(strstr(log, " qp="));
	assert_ptr_equal(strchr(log, '\n'), log + strlen(log) - 1);
}

/* --- what is refused ----------------------------------------------------------------------------------------------------- */

#define HOPS "Received: a\r\nDELIVERED-To: b\r\n"
static const struct refusal { const char *rule, *octets, *want; unsigned long databytes, maxhops; } refusals[] = {
	{ "the largest message", "123456\r\n.\r\n", "250 ", 7, 100 },
	{ "one octet more", "1234567\r\n.\r\n", "552 5.3.4 sorry, that message size exceeds my databytes limit (#5.3.4)", 7, 100 },
	{ "one hop below the limit", HOPS "\r\n.\r\n", "250 ", 0, 3 },
	{ "as many hops as the limit", HOPS "\r\n.\r\n", "554 5.4.6 too many hops, this message is looping (#5.4.6)", 0, 2 },
	{ "hops in the body", "\r\n" HOPS ".\r\n", "250 ", 0, 1 },
	{ "a bare LF", "a\nb\r\n.\r\n", "550 5.6.0 a line of the message ends with LF and no CR before it (#5.6.0)", 0, 100 },
	{ "a bare CR", "a\rb\r\n.\r\n", "550 5.6.0 there is a CR without LF in the message (#5.6.0)", 0, 100 },
	{ "a dot between bare LFs is no end", "a\n.\nb\r\n.\r\n", "550 5.6.0 ", 0, 100 },
	{ "bare LF, and too large", "a\nbcdefgh\r\n.\r\n", "550 5.6.0 ", 3, 100 },
	{ "too many hops, and too large", HOPS "\r\n.\r\n", "554 5.4.6 ", 3, 2 },
};
enum { REFUSALS = sizeof refusals / sizeof *refusals };

static void
refusal_is_right(void **state)
{
	const struct refusal *row = *state;
	int is_taken = row->want[0] == '2';

	*number(NUMBER_DATABYTES) = row->databytes;
	*number(NUMBER_MAXHOPS) = row->maxhops;
	smtpd_says(TRANSACTION);
	expect_data(row->octets, row->want);
	assert_int_equal(queued.ended, is_taken);
	assert_false(queued.is_open);
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	assert_non_null(strstr(smtpd_logged(), is_taken ? " result=accepted" : " result=refused reason="));
	/* and the next message is taken for itself */
	*number(NUMBER_DATABYTES) = 0;
	smtpd_says(TRANSACTION);
	expect_data("a\r\n.\r\n", "250 ");
}

static void
a_chunk_that_is_refused_refuses_all_that_follow(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	expect_chunk("a\nb", "", "550 5.6.0 ");
	expect_nothing_queued();
	expect_chunk("RSET\r\n", "", "503 5.5.1 this message was refused (#5.5.1)");
	expect_chunk("b\r\n", " LAST", "503 5.5.1 this message was refused");
	expect_nothing_queued();
	smtpd_says("RSET|" TRANSACTION);
	expect_chunk("a\r\n", " LAST", "250 ");
}

static void
a_last_chunk_that_is_refused_ends_the_message(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	expect_chunk("a\r", " LAST", "550 5.6.0 there is a CR without LF");
	expect_nothing_queued();
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	assert_int_equal(smtpd->errors, 0);
}

static void
a_chunk_that_is_known_to_be_too_large_is_not_begun(void **state)
{
	char line[32];
	static char octets[1000 + 125 + 4097];

	(void)state;
	*number(NUMBER_DATABYTES) = 1000;
	smtpd_says(TRANSACTION);
	snprintf(line, sizeof line, "BDAT %zu LAST", sizeof octets);
	smtpd_sends(octets, sizeof octets);
	expect(line, "552 5.3.4 ");
	expect_nothing_queued();
	expect_message("");	/* nothing of it was handed on */
}

static void
chunks_without_a_transaction_are_read_and_forgotten(void **state)
{
	(void)state;
	smtpd_says("EHLO x.test");
	expect_chunk("MAIL FROM:<s@x.test>\r\n", "", "503 5.5.1 MAIL first");
	smtpd_says("MAIL FROM:<s@x.test>");
	expect_chunk("RCPT TO:<a@me.test>\r\n", " LAST", "503 5.5.1 RCPT first");
	assert_int_equal(smtpd->phase, PHASE_SENDER);
	assert_int_equal(smtpd->errors, 2);
	assert_true(input_is_empty(&smtpd->in));
	expect_nothing_queued();
}

static void
RSET_gives_up_what_came_in_chunks(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	expect_chunk("a\r\n", "", "250 ");
	assert_true(queued.is_open);
	smtpd_says("RSET");
	assert_int_equal(queued.abandoned, 1);
	expect_nothing_queued();
}

/* --- a client that goes, or falls silent ---------------------------------------------------------------------------------- */

static const struct end { const char *rule, *command; enum session_end end; const char *said, *logged; } ends[] = {
	{ "gone in DATA", "DATA", SESSION_CLOSED, "354 go ahead", "the client closed the connection" },
	{ "silent in DATA", "DATA", SESSION_TIMEOUT, "354 go ahead\r\n451 4.4.2 timeout (#4.4.2)", "timeout" },
	{ "too long in DATA", "DATA", SESSION_OVER, "354 go ahead\r\n421 4.4.2 the session has lasted too long (#4.4.2)", "the session has lasted too long" },
	{ "gone in a chunk", "BDAT 100 LAST", SESSION_CLOSED, "", "the client closed the connection" },
	{ "silent in a chunk", "BDAT 100", SESSION_TIMEOUT, "451 4.4.2 timeout", "timeout" },
	{ "too long in a chunk", "BDAT 100", SESSION_OVER, "421 4.4.2 ", "the session has lasted too long" },
};
enum { ENDS = sizeof ends / sizeof *ends };

static void
what_is_not_whole_is_not_queued(void **state)
{
	const struct end *row = *state;
	char logged[128];

	smtpd_says(TRANSACTION);
	smtpd_sends("a\r\n.\r", 5);
	if (row->end == SESSION_CLOSED)
		smtpd_closes();
	if (row->command[0] == 'B')	/* what has come already is read, whatever the time */
		assert_int_equal(input_data(&smtpd->in), INPUT_OK);
	if (row->end == SESSION_TIMEOUT)
		smtpd->in.timeout_ms = 0;
	if (row->end == SESSION_OVER)
		smtpd->in.session_end = 0;
	expect(row->command, row->said);
	assert_int_equal(smtpd->end, row->end);
	assert_int_equal(queued.abandoned, 1);
	expect_nothing_queued();
	snprintf(logged, sizeof logged, " result=incomplete reason=\"%s", row->logged);
	assert_non_null(strstr(smtpd_logged(), logged));
}

static void
a_message_that_has_begun_is_finished_though_the_server_is_being_stopped(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	smtpd_is_stopping = 1;
	expect_data("a\r\n.\r\n", "250 ");
	assert_int_equal(queued.ended, 1);
	assert_ptr_equal(smtpd->in.is_stopping, listener_is_stopping);	/* it counts again */
}

static void
the_chunks_of_a_message_as_well(void **state)
{
	(void)state;
	smtpd_says(TRANSACTION);
	expect_chunk("a\r\n", "", "250 ");
	smtpd_is_stopping = 1;
	expect_chunk("b\r\n", " LAST", "250 2.0.0 ok");
	assert_int_equal(queued.ended, 1);
}

static void
a_chunk_of_no_message_waits_for_nothing_when_the_server_is_being_stopped(void **state)
{
	(void)state;
	smtpd_is_stopping = 1;
	expect("BDAT 5", "421 the server is being stopped (#4.3.2)");
	assert_int_equal(smtpd->end, SESSION_STOPPED);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, smtpd_begin, smtpd_end)
	const struct CMUnitTest others[] = {
		TEST(a_message_with_its_envelope), TEST(an_empty_message), TEST(what_follows_the_dot_is_the_next_command),
		TEST(chunks_are_one_message), TEST(octets_behind_a_chunk_are_none_of_it), TEST(a_chunk_that_is_refused_refuses_all_that_follow),
		TEST(a_last_chunk_that_is_refused_ends_the_message), TEST(a_chunk_that_is_known_to_be_too_large_is_not_begun),
		TEST(chunks_without_a_transaction_are_read_and_forgotten), TEST(RSET_gives_up_what_came_in_chunks),
		TEST(a_message_that_has_begun_is_finished_though_the_server_is_being_stopped), TEST(the_chunks_of_a_message_as_well),
		TEST(a_chunk_of_no_message_waits_for_nothing_when_the_server_is_being_stopped),
	};
	struct CMUnitTest tests[ANSWERS + REFUSALS + ENDS + sizeof others / sizeof *others], *next = tests;

	for (size_t i = 0; i < ANSWERS; i++)
		*next++ = (struct CMUnitTest){ answers[i].rule, the_queue_says, smtpd_begin, smtpd_end, (void *)(uintptr_t)&answers[i] };
	for (size_t i = 0; i < REFUSALS; i++)
		*next++ = (struct CMUnitTest){ refusals[i].rule, refusal_is_right, smtpd_begin, smtpd_end, (void *)(uintptr_t)&refusals[i] };
	for (size_t i = 0; i < ENDS; i++)
		*next++ = (struct CMUnitTest){ ends[i].rule, what_is_not_whole_is_not_queued, smtpd_begin, smtpd_end, (void *)(uintptr_t)&ends[i] };
	memcpy(next, others, sizeof others);
	return cmocka_run_group_tests_name("smtpd_delivery", tests, smtpd_home, directory_remove);
}
