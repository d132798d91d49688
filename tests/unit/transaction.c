/* One message for some recipients: what becomes of each, whatever the server says, and when it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bin-src/remote/transaction.h"
#include "server.h"

enum { RECIPIENTS_MAX = 3, STEPS_MAX = 8, TIMEOUT = 20, LARGE = 20 * TRANSACTION_BUFFER };
enum { P = SESSION_PIPELINING, C = SESSION_CHUNKING, D = SESSION_DSN };

static struct session session;
static struct report report;
static struct mail_data data;
static struct transaction t;
static const struct transaction_recipient addresses[SESSION_RECIPIENTS_MAX] = {
	{ .address = "a@x.test" }, { .address = "b@x.test" }, { .address = "c@x.test" },
};

static void
use_message(const char *octets, size_t len)
{
	mail_data_init(&data, octets, -1, len);
	assert_int_equal(mail_data_survey(&data), 1);
}

static void
begin(const struct server_step *steps, unsigned int extensions, unsigned int recipients)
{
	connection_init(&session.connection, server_start(steps));
	session.extensions = extensions;
	assert_int_equal(report_begin(&report, recipients), 1);
}

static int
set_up(void **state)
{
	(void)state;
	session = (struct session){ .timeout = TIMEOUT, .host = "192.0.2.1", .recipients_max = SESSION_RECIPIENTS_MAX };
	connection_init(&session.connection, -1);
	t = (struct transaction){ .sender = "s@x.test", .recipients = addresses, .data = &data, .report = &report };
	use_message("hello\n", 6);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	connection_close(&session.connection);
	server_end();
	mail_data_free(&data);
	report_free(&report);
	return 0;
}

/* want: letter, blank and a piece of the text. */
static void
expect(unsigned int n, const char *want)
{
	stralloc text = STRALLOC_ZERO;
	char letter = report_outcome(&report, n, &text);

	assert_true(stralloc_0(&text));
	if (letter != want[0] || !strstr(text.s, want + 2))
		fail_msg("recipient %u: %c %s, not %s", n, letter, text.s, want);
	stralloc_free(&text);
}

static int
is_open(void)
{
	return session.connection.fd >= 0;
}

#define OK "250 ok\r\n"
#define GO "354 go\r\n"
#define DATA_END "\r\n.\r\n"

/* steps: the server's. want: of each recipient. stays: whether the session is open afterwards. */
static const struct row {
	const char *rule;
	unsigned int extensions;
	struct server_step steps[STEPS_MAX];
	const char *want[RECIPIENTS_MAX];
	int stays;
} rows[] = {
	/* a code for each */
	{ "each recipient has a result of his own", P,
	    { { "DATA\r\n", OK OK "550 no\r\n" "450 later\r\n" GO }, { DATA_END, OK } },
	    { "K accepted message", "D does not like recipient.\nRemote host said: 550 no", "Z does not like recipient.\nRemote host said: 450 later" }, 1 },
	{ "and so one after another", 0,
	    { { "\r\n", OK }, { "\r\n", OK }, { "\r\n", "550 no\r\n" }, { "\r\n", "450 later\r\n" }, { "\r\n", GO }, { DATA_END, OK } },
	    { "K accepted message", "D 550 no", "Z 450 later" }, 1 },
	{ "a message that is refused fails nobody who was deferred", P,
	    { { "DATA\r\n", OK OK "450 later\r\n" GO }, { DATA_END, "554 spam\r\n" } },
	    { "D failed after I sent the message.\nRemote host said: 554 spam", "Z 450 later" }, 1 },
	{ "a message that is deferred defers nobody who was refused", P,
	    { { "DATA\r\n", OK OK "550 no\r\n" GO }, { DATA_END, "451 later\r\n" } }, { "Z 451 later", "D 550 no" }, 1 },
	{ "nobody accepted: each for his own reason", P, { { "DATA\r\n", OK "450 later\r\n" "550 no\r\n" "503 no\r\n" } },
	    { "Z Giving up on 192.0.2.1", "D Giving up on 192.0.2.1" }, 1 },
	{ "nobody accepted and DATA is: an empty message ends it", P,
	    { { "DATA\r\n", OK "450 later\r\n" "550 no\r\n" GO }, { ".\r\n", "554 nobody\r\n" } }, { "Z 450 later", "D 550 no" }, 1 },
	{ "nobody accepted and BDAT is: it is refused or empty", P | C,
	    { { "hello\r\n", OK "450 later\r\n" "550 no\r\n" "554 nobody\r\n" } }, { "Z 450 later", "D 550 no" }, 1 },

	/* the sender and the mail data */
	{ "a sender who is refused is so for all", P, { { "DATA\r\n", "550 no\r\n" "503 MAIL first\r\n" "503 MAIL first\r\n" "503 RCPT first\r\n" } },
	    { "D sender was rejected.\nRemote host said: 550 no", "D sender was rejected" }, 1 },
	{ "a sender who is deferred is so for all", P, { { "DATA\r\n", "450 later\r\n" "503 MAIL first\r\n" "503 MAIL first\r\n" "503 RCPT first\r\n" } },
	    { "Z 450 later", "Z 450 later" }, 1 },
	{ "a sender who is refused and DATA that is not", P,
	    { { "DATA\r\n", "550 no\r\n" "503 MAIL first\r\n" "503 MAIL first\r\n" GO }, { ".\r\n", "554 nobody\r\n" } },
	    { "D 550 no", "D 550 no" }, 1 },
	{ "DATA is deferred", P, { { "DATA\r\n", OK OK OK "451 later\r\n" } }, { "Z failed on DATA command", "Z 451 later" }, 1 },
	{ "DATA is refused", P, { { "DATA\r\n", OK OK OK "554 no\r\n" } }, { "D failed on DATA command", "D 554 no" }, 1 },
	{ "a chunk is deferred", P | C, { { "hello\r\n", OK OK OK "452 no room\r\n" } }, { "Z 452 no room", "Z 452 no room" }, 1 },
	{ "a chunk is refused", P | C, { { "hello\r\n", OK OK OK "552 too large\r\n" } }, { "D 552 too large", "D 552 too large" }, 1 },
	{ "a host that sees to reports says so", P | D, { { "DATA\r\n", OK OK OK GO }, { DATA_END, OK } }, { "k accepted", "k accepted" }, 1 },

	/* nonsense is temporary, and the end of the session */
	{ "MAIL is no message", P, { { "DATA\r\n", "354 what\r\n" OK OK OK } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "a recipient is no message", P, { { "DATA\r\n", OK "354 what\r\n" OK OK } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "DATA is done before it began", P, { { "DATA\r\n", OK OK OK OK } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "a message is no beginning of one", P, { { "DATA\r\n", OK OK OK GO }, { DATA_END, GO } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "no code", P, { { "DATA\r\n", OK OK "OK\r\n" } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "codes that differ within a reply", P, { { "DATA\r\n", OK OK "550-no\r\n250 yes\r\n" } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "an answer to MAIL and one more", 0, { { "\r\n", OK OK } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "an answer to RCPT and one more", 0, { { "\r\n", OK }, { "\r\n", OK "550 no\r\n" } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "an answer to the message with the answer to DATA", P, { { "DATA\r\n", OK OK OK GO OK } }, { "Z made no sense", "Z made no sense" }, 0 },
	{ "a refused recipient stays so when the rest makes no sense", P, { { "DATA\r\n", OK "550 no\r\n" "999 what\r\n" } },
	    { "D 550 no", "Z made no sense" }, 0 },

	{ "an acceptance behind DATA for nobody ends the session", P, { { "DATA\r\n", OK "450 later\r\n" OK } }, { "Z 450 later" }, 0 },
	{ "a refusal behind the reply to a message that went along may be the one", P | C, { { "hello\r\n", OK OK OK "554 spam\r\n" } },
	    { "Z made no sense. Possible duplicate!" }, 0 },
	{ "and behind another", P | C, { { "hello\r\n", OK OK OK OK "554 spam\r\n" } }, { "Z made no sense. Possible duplicate!" }, 0 },
	{ "an acceptance says the same", P | C, { { "hello\r\n", OK OK "250 taken\r\n" OK } }, { "K 250 taken" }, 0 },
	{ "the end of the session is no refusal", P | C, { { "hello\r\n", OK OK "250 taken\r\n" "421 bye\r\n" } }, { "K 250 taken" }, 0 },
	{ "a refusal and one reply more", P | C, { { "hello\r\n", OK OK "554 spam\r\n" OK } }, { "D 554 spam" }, 0 },

	/* it closes at each step */
	{ "it closes instead of an answer to MAIL", P, { { "DATA\r\n", NULL } }, { "Z connection died. (#4.4.2)", "Z connection died. (#4.4.2)" }, 0 },
	{ "it closes instead of an answer to RCPT", P, { { "DATA\r\n", OK "550 no\r\n" }, { "", NULL } }, { "D 550 no", "Z connection died. (#4.4.2)" }, 0 },
	{ "it closes instead of an answer to DATA", P, { { "DATA\r\n", OK OK "450 later\r\n" }, { "", NULL } },
	    { "Z connection died. (#4.4.2)", "Z 450 later" }, 0 },
	{ "it closes after the whole message", P, { { "DATA\r\n", OK OK "550 no\r\n" GO }, { DATA_END, NULL } },
	    { "Z connection died. Possible duplicate! (#4.4.2)", "D 550 no" }, 0 },
	{ "it closes after a message that went along", P | C, { { "hello\r\n", OK OK OK }, { "", NULL } },
	    { "Z Possible duplicate!", "Z Possible duplicate!" }, 0 },
	{ "it closes in the midst of an answer", P, { { "DATA\r\n", OK OK "550-no\r\n" }, { "", NULL } },
	    { "Z connection died. (#4.4.2)", "Z connection died. (#4.4.2)" }, 0 },

	/* 421 ends the session at each step */
	{ "421 to MAIL of a new session", P, { { "DATA\r\n", "421 bye\r\n" } }, { "Z 421 bye", "Z 421 bye" }, 0 },
	{ "421 to RCPT", P, { { "DATA\r\n", OK OK "421 bye\r\n" } }, { "Z ended the session.\nRemote host said: 421 bye", "Z 421 bye" }, 0 },
	{ "421 to DATA", P, { { "DATA\r\n", OK OK "550 no\r\n" "421 bye\r\n" } }, { "Z 421 bye", "D 550 no" }, 0 },
	{ "421 to the message", P, { { "DATA\r\n", OK OK "550 no\r\n" GO }, { DATA_END, "421 bye\r\n" } }, { "Z 421 bye", "D 550 no" }, 0 },
	{ "421 behind a refused sender", P, { { "DATA\r\n", "550 no\r\n" "421 bye\r\n" } }, { "D 550 no", "D 550 no" }, 0 },

	/* room */
	{ "no room for the second: once more", P,
	    { { "DATA\r\n", OK OK "452 too many\r\n" GO }, { DATA_END, OK }, { "DATA\r\n", OK OK GO }, { DATA_END, "550 spam\r\n" } },
	    { "K accepted", "D 550 spam" }, 1 },
	{ "no room, as servers of RFC 821 say it", P,
	    { { "DATA\r\n", OK OK "552 5.5.3 too many\r\n" GO }, { DATA_END, OK }, { "DATA\r\n", OK OK GO }, { DATA_END, OK } },
	    { "K accepted", "K accepted" }, 1 },
	{ "no room for anybody is no failure", P, { { "DATA\r\n", OK "552 5.5.3 too many\r\n" "452 too many\r\n" "503 no\r\n" } },
	    { "Z 552 5.5.3", "Z 452" }, 1 },
	{ "no room in a mailbox is another matter", P, { { "DATA\r\n", OK OK "552 5.2.2 full\r\n" GO }, { DATA_END, OK } },
	    { "K accepted", "D 552 5.2.2 full" }, 1 },
	{ "no room, and the session over: he waits", P, { { "DATA\r\n", OK OK "452 too many\r\n" GO }, { DATA_END, "421 bye\r\n" } },
	    { "Z 421 bye", "Z 452 too many" }, 0 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;
	unsigned int n = 0;

	while (n < RECIPIENTS_MAX && row->want[n])
		n++;
	begin(row->steps, row->extensions, n);
	assert_int_equal(transaction_run(&session, &t), 1);
	for (unsigned int i = 0; i < n; i++)
		expect(i, row->want[i]);
	assert_int_equal(is_open(), row->stays);
}

/* --- where TLS failed ------------------------------------------------------------------------------------------- */

/* The same server, to a session that is in clear text because TLS failed, and to one where nobody minds. */
static void
who_wants_TLS(void **state)
{
	static const struct { struct server_step steps[STEPS_MAX]; const char *want, *in_clear; } wants[] = {
		{ { { "DATA\r\n", "530 STARTTLS first\r\n" OK "503 no\r\n" } },
		    "D sender was rejected.\nRemote host said: 530", "Z sender was rejected.\nThe session is in clear text: TLS failed.\nRemote host said: 530" },
		{ { { "DATA\r\n", "550 5.7.1 STARTTLS first\r\n" OK "503 no\r\n" } }, "D 550 5.7.1", "Z 550 5.7.1" },
		{ { { "DATA\r\n", OK "554-5.7.10 STARTTLS\r\n554 5.7.10 first\r\n" "503 no\r\n" } },
		    "D recipient.\nRemote host said: 554", "Z recipient.\nThe session is in clear text: TLS failed.\nRemote host said: 554" },
		{ { { "DATA\r\n", OK OK "530 5.5.1 STARTTLS first\r\n" } }, "D DATA command.\nRemote", "Z DATA command.\nThe session is in clear text" },
		{ { { "DATA\r\n", OK "450 4.7.1 later\r\n" "503 no\r\n" } }, "Z recipient.\nRemote", "Z recipient.\nRemote" },
		{ { { "DATA\r\n", OK "550 5.1.1 nobody\r\n" "503 no\r\n" } }, "D recipient.\nRemote", "D recipient.\nRemote" },
		{ { { "DATA\r\n", OK "550 nobody\r\n" "503 no\r\n" } }, "D recipient.\nRemote", "D recipient.\nRemote" },
		{ { { "DATA\r\n", OK OK GO }, { DATA_END, "554 5.7.1 spam\r\n" } }, "D the message.\nRemote", "D the message.\nRemote" },
		{ { { "DATA\r\n", OK OK GO }, { DATA_END, "530 5.7.0 STARTTLS first\r\n" } }, "D the message.\nRemote", "Z the message.\nRemote" },
	};

	for (size_t i = 0; i < sizeof wants / sizeof *wants; i++)
		for (int lacks_tls = 0; lacks_tls < 2; lacks_tls++) {
			tear_down(state);
			set_up(state);
			session.lacks_tls = lacks_tls;
			strcpy(session.security, lacks_tls ? "in clear text: TLS failed" : "");
			begin(wants[i].steps, P, 1);
			assert_int_equal(transaction_run(&session, &t), 1);
			expect(0, lacks_tls ? wants[i].in_clear : wants[i].want);
		}
}

/* --- before a command ------------------------------------------------------------------------------------------ */

static const struct server_step silent[] = { { 0 } };
static const struct server_step takes_one[] = { { "DATA\r\n", OK OK GO }, { DATA_END, OK }, { 0 } };

static void
what_is_refused_before_a_command(const char *want)
{
	begin(silent, P, 2);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, want);
	expect(1, want);
	assert_true(is_open());
	connection_close(&session.connection);
	assert_string_equal(server_end(), "");
}

static void
a_message_of_the_size_that_the_server_takes(void **state)
{
	(void)state;
	session.size_max = 7;	/* with CR LF */
	begin(takes_one, P, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "K accepted");
}

static void
a_message_of_one_octet_more(void **state)
{
	(void)state;
	session.size_max = 6;
	what_is_refused_before_a_command("D takes no message of this size. (#5.3.4)");
}

static void
a_sender_that_SMTP_cannot_carry(void **state)
{
	(void)state;
	t.sender = "s\n@x.test";
	what_is_refused_before_a_command("D (#5.1.7)");
}

static void
a_sender_who_needs_SMTPUTF8(void **state)
{
	(void)state;
	t.sender = "j\xc3\xb3@x.test";
	what_is_refused_before_a_command("D (#5.6.7)");
}

static void
a_header_that_needs_SMTPUTF8(void **state)
{
	static const char message[] = "Subject: \xc3\xb3\n\n";

	(void)state;
	use_message(message, sizeof message - 1);
	t.sender_parameters = "SMTPUTF8";
	what_is_refused_before_a_command("D (#5.6.9)");
}

#define PART "Content-Type: multipart/mixed; boundary=b\n\n--b\n"

/* With 8BITMIME and without. */
static void
a_header_within_that_needs_SMTPUTF8(void **state)
{
	static const char *const messages[] = {
		PART "Content-Disposition: attachment; filename=\"\xc3\xb3\"\n\nx\n--b--\n",
		PART "Content-Type: message/rfc822\n\nSubject: \xc3\xb3\n\nx\n--b--\n",
		"Content-Type: message/rfc822\n\n" PART "X: \xc3\xb3\n\nx\n--b--\n",
		"Content-Type: multipart/signed; boundary=b\n\n--b\nX: \xc3\xb3\n\nx\n--b--\n",
	};

	for (size_t i = 0; i < 2 * (sizeof messages / sizeof *messages); i++) {
		tear_down(state);
		set_up(state);
		use_message(messages[i / 2], strlen(messages[i / 2]));
		t.sender_parameters = "SMTPUTF8";
		begin(silent, i % 2 ? P | SESSION_8BITMIME : P, 1);
		assert_int_equal(transaction_run(&session, &t), 1);
		expect(0, "D (#5.6.9)");
	}
}

/* A body needs no more than 8BITMIME; message/global is a type as any other to whom does not know it, RFC 6532 section 3.7. */
static void
what_needs_no_SMTPUTF8(void **state)
{
	static const struct { const char *message, *parameters; } such[] = {
		{ PART "Content-Type: text/plain\n\n\xc3\xb3\n--b--\n", "SMTPUTF8" },
		{ PART "Content-Type: message/global\n\nSubject: \xc3\xb3\n\nx\n--b--\n", "SMTPUTF8" },
		{ "Content-Type: text/plain\n\n--b\nSubject: \xc3\xb3\n\nx\n", "SMTPUTF8" },
		{ PART "X: \xc3\xb3\n\nx\n--b--\n", NULL },
	};

	for (size_t i = 0; i < sizeof such / sizeof *such; i++) {
		tear_down(state);
		set_up(state);
		use_message(such[i].message, strlen(such[i].message));
		t.sender_parameters = such[i].parameters;
		begin(takes_one, P | SESSION_8BITMIME, 1);
		assert_int_equal(transaction_run(&session, &t), 1);
		expect(0, "K accepted");
	}
}

/* The message becomes shorter between the survey and the transaction, which finds that out before its first command. */
static void
shorter_is_deferred_before_a_command(const char *message, size_t len)
{
	int fd = memfd_create("message", MFD_CLOEXEC);

	assert_int_equal(write(fd, message, len), len);
	mail_data_init(&data, NULL, fd, len);
	assert_int_equal(mail_data_survey(&data), 1);
	mail_data_free(&data);
	assert_int_equal(ftruncate(fd, 1), 0);
	what_is_refused_before_a_command("Z Unable to read the message. (#4.3.0)");
	close(fd);
}

static void
a_message_that_becomes_shorter_before_it_is_looked_into(void **state)
{
	static const char message[] = "Subject: x\n\n\xc3\xb3\n";

	(void)state;
	t.sender_parameters = "SMTPUTF8";
	shorter_is_deferred_before_a_command(message, sizeof message - 1);
}

static void
an_address_that_SMTP_cannot_carry_keeps_nobody_from_his_mail(void **state)
{
	static const struct transaction_recipient some[] = { { .address = "a\r\nDATA\r\n@x.test" }, { .address = "b@x.test" }, { .address = "" } };

	(void)state;
	t.recipients = some;
	begin(takes_one, P, 3);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "D (#5.1.3)");
	expect(1, "K accepted");
	expect(2, "D (#5.1.3)");
	connection_close(&session.connection);
	assert_string_equal(server_end(), "MAIL FROM:<s@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nhello\r\n.\r\n");
}

static void
those_who_are_decided_are_left_out(void **state)
{
	(void)state;
	begin(takes_one, P, 2);
	report.recipients[0].message = 'K';
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(1, "K accepted");
	connection_close(&session.connection);
	assert_null(strstr(server_end(), "a@x.test"));
}

/* --- 8-bit octets ---------------------------------------------------------------------------------------------- */

#define EIGHT "Subject: x\n\n.\303\244\n"
#define CONVERTED "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" \
	"Content-Transfer-Encoding: quoted-printable\r\n\r\n"

/* The message arrives with these octets in it. */
static void
is_sent_as(const struct server_step *steps, unsigned int extensions, const char *want)
{
	const char *got;

	use_message(EIGHT, sizeof EIGHT - 1);
	begin(steps, extensions, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "K accepted");
	connection_close(&session.connection);
	got = server_end();
	if (!strstr(got, want))
		fail_msg("%s has no %s", got, want);
}

static void
octets_above_127_for_a_server_that_takes_them(void **state)
{
	(void)state;
	is_sent_as(takes_one, P | SESSION_8BITMIME, " BODY=8BITMIME\r\n");
	is_sent_as(takes_one, P | SESSION_8BITMIME, "Subject: x\r\n\r\n..\303\244\r\n.\r\n");
	is_sent_as(takes_one, P | SESSION_SMTPUTF8, "Subject: x\r\n\r\n..\303\244\r\n.\r\n");
}

static void
octets_above_127_are_converted_for_others(void **state)
{
	static const struct server_step chunk[] = { { "=A4\r\n", OK OK OK }, { 0 } };
	char size[40];

	(void)state;
	is_sent_as(takes_one, P, "MAIL FROM:<s@x.test>\r\n");
	is_sent_as(takes_one, P, CONVERTED "..=C3=A4\r\n.\r\n");
	is_sent_as(chunk, P | C, CONVERTED ".=C3=A4\r\n");
	snprintf(size, sizeof size, " SIZE=%zu\r\n", sizeof CONVERTED ".=C3=A4\r\n" - 1);
	is_sent_as(takes_one, P | SESSION_SIZE, size);
}

static void
a_converted_message_in_chunks(void **state)
{
	static const struct server_step steps[] = { { "RCPT TO:<a@x.test>\r\n", OK OK }, { " LAST\r\n", OK OK OK OK }, { 0 } };
	char *s = test_malloc(TRANSACTION_BUFFER);
	const char *got;
	size_t octets = 0;

	(void)state;
	memset(s, '\377', TRANSACTION_BUFFER);
	s[0] = '\n';
	use_message(s, TRANSACTION_BUFFER);
	begin(steps, P | C, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "K accepted");
	connection_close(&session.connection);
	for (got = server_end(); (got = strchr(got, 'F')); got++)
		octets++;
	assert_int_equal(octets, 2 * (TRANSACTION_BUFFER - 1) + 1);	/* "=FF" for each, and FROM */
	test_free(s);
}

static void
a_message_that_becomes_too_large_when_it_is_converted(void **state)
{
	(void)state;
	use_message(EIGHT, sizeof EIGHT - 1);
	session.size_max = sizeof CONVERTED ".=C3=A4\r\n" - 2;
	what_is_refused_before_a_command("D takes no message of this size. (#5.3.4)");
}

static void
a_message_that_cannot_be_converted(void **state)
{
	(void)state;
	use_message("Subject: \303\244\n\nx\n", 15);
	what_is_refused_before_a_command("D 192.0.2.1 takes no 8-bit mail: it does not know 8BITMIME, and the message cannot be converted, "
	    "as its header is not ASCII. (#5.6.3)\n");
}

static void
a_message_that_becomes_shorter_before_it_is_converted(void **state)
{
	(void)state;
	shorter_is_deferred_before_a_command(EIGHT, sizeof EIGHT - 1);
}

/* --- groups and sessions --------------------------------------------------------------------------------------- */

static void
recipients_above_the_limit_go_in_further_transactions(void **state)
{
	static const struct server_step steps[] = {
		{ "DATA\r\n", OK OK OK GO }, { DATA_END, OK }, { "DATA\r\n", OK "550 no\r\n" "503 no\r\n" }, { 0 },
	};

	(void)state;
	session.recipients_max = 2;
	begin(steps, P, 3);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "K accepted");
	expect(1, "K accepted");
	expect(2, "D 550 no");
	assert_int_equal(session.messages, 2);
}

static void
domains_above_the_limit_need_another_session(void **state)
{
	static const struct server_step steps[] = { { "DATA\r\n", OK OK OK GO }, { DATA_END, OK }, { 0 } };
	static const struct transaction_recipient some[] = { { .address = "a@x.test" }, { .address = "b@y.test" }, { .address = "c@X.test" } };

	(void)state;
	session.domains_max = 1;
	t.recipients = some;
	begin(steps, P, 3);
	assert_int_equal(transaction_run(&session, &t), 0);
	expect(0, "K accepted");
	expect(2, "K accepted");
	assert_true(report_is_open(&report, 1));
	assert_false(session_is_usable(&session));
	assert_string_equal(server_end(),
	    "MAIL FROM:<s@x.test>\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<c@X.test>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n");
}

static void
a_session_takes_no_more_messages_than_it_said(void **state)
{
	static const struct server_step steps[] = { { "DATA\r\n", OK OK GO }, { DATA_END, OK }, { 0 } };

	(void)state;
	session.recipients_max = session.messages_max = 1;
	begin(steps, P, 2);
	assert_int_equal(transaction_run(&session, &t), 0);
	expect(0, "K accepted");
	assert_true(report_is_open(&report, 1));
	assert_false(session_is_usable(&session));
}

/* After a session was used, its end is none of the message. */
static void
a_kept_session_that_has_ended_decides_on_nobody(const struct server_step *steps, unsigned int extensions)
{
	session.messages = 1;
	begin(steps, extensions, 2);
	assert_int_equal(transaction_run(&session, &t), 0);
	assert_true(report_is_open(&report, 0) && report_is_open(&report, 1));
	assert_false(session_is_usable(&session));
}

static void
a_kept_session_that_closes_at_MAIL(void **state)
{
	static const struct server_step steps[] = { { "DATA\r\n", NULL } };

	(void)state;
	a_kept_session_that_has_ended_decides_on_nobody(steps, P);
	assert_int_equal(report.may_be_taken, 0);
}

/* It may have taken the message, and held the replies back. */
static void
a_kept_session_that_closes_after_a_message_that_went_along(void **state)
{
	static const struct server_step closes[] = { { "hello\r\n", NULL } }, takes[] = { { "hello\r\n", OK OK OK OK }, { 0 } };

	(void)state;
	a_kept_session_that_has_ended_decides_on_nobody(closes, P | C);
	server_end();
	session.messages = 0;
	connection_init(&session.connection, server_start(takes));
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(1, "K accepted message.\nRemote host said: 250 ok\n"
	    "A session before ended without an answer after I sent the message. Possible duplicate!\n");
}

static void
a_kept_session_that_says_421_to_MAIL(void **state)
{
	static const struct server_step steps[] = { { "hello\r\n", "421 bye\r\n" }, { 0 } };

	(void)state;
	a_kept_session_that_has_ended_decides_on_nobody(steps, P | C);
	assert_int_equal(report.may_be_taken, 0);
}

static void
a_kept_session_that_says_421_to_RSET(void **state)
{
	static const struct server_step steps[] = { { "hello\r\n", "421 bye\r\n" }, { 0 } };

	(void)state;
	session.needs_reset = 1;
	a_kept_session_that_has_ended_decides_on_nobody(steps, P | C);
	assert_int_equal(report.may_be_taken, 0);
}

/* It has answered: it was there when MAIL came, and may have taken the message. */
static void
a_kept_session_that_closes_after_an_answer(void **state)
{
	static const struct server_step steps[] = { { "hello\r\n", OK }, { "", NULL } };

	(void)state;
	session.messages = 1;
	begin(steps, P | C, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z connection died. Possible duplicate!");
}

static void
a_kept_session_that_makes_no_sense(void **state)
{
	static const struct server_step steps[] = { { "hello\r\n", "hello\r\n" }, { 0 } };

	(void)state;
	session.messages = 1;
	begin(steps, P | C, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z made no sense. Possible duplicate!");
}

/* --- replies that come too late -------------------------------------------------------------------------------- */

/* The first recipient's message has been answered, and the second one's transaction begins. */
static void
two_transactions(const struct server_step *steps, unsigned int extensions, const char *first)
{
	session.recipients_max = 1;
	begin(steps, extensions, 2);
	assert_int_equal(transaction_run(&session, &t), 0);
	expect(0, first);
	assert_true(report_is_open(&report, 1));
	assert_false(is_open());
	assert_null(strstr(server_end(), "QUIT"));
}

static void
what_was_said_since_ends_a_kept_session(void **state)
{
	static const struct server_step late[] = { { "", OK }, { 0 } }, over[] = { { "", NULL } };
	static const struct server_step *const both[] = { late, over };

	for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
		tear_down(state);
		set_up(state);
		session.messages = 1;
		begin(both[i], P | C, 1);
		while (connection_is_quiet(&session.connection))
			usleep(1000);
		assert_int_equal(transaction_run(&session, &t), 0);
		assert_true(report_is_open(&report, 0));
		assert_false(is_open());
		assert_string_equal(server_end(), "");
	}
}

/* What was said to the message before comes first, when the next commands are out. */
static void
a_second_reply_to_a_message_that_was_refused(void **state)
{
	static const struct server_step steps[] = {
		{ "hello\r\n", OK OK "554 spam\r\n" }, { "b@x.test>\r\nDATA\r\n", OK OK OK OK GO }, { 0 },
	};

	(void)state;
	two_transactions(steps, P | C, "D 554 spam");
}

static void
a_second_reply_to_a_message_that_was_accepted(void **state)
{
	static const struct server_step steps[] = { { "hello\r\n", OK OK OK }, { "b@x.test>\r\nDATA\r\n", OK OK OK GO }, { 0 } };

	(void)state;
	two_transactions(steps, P | C, "K accepted");
}

static void
a_late_refusal_is_not_the_next_sender_s(void **state)
{
	static const struct server_step steps[] = {
		{ "DATA\r\n", OK OK GO }, { DATA_END, OK }, { "DATA\r\n", "554 spam\r\n" OK OK GO }, { 0 },
	};

	(void)state;
	two_transactions(steps, P, "K accepted");
}

static void
a_late_refusal_is_not_the_next_recipient_s(void **state)
{
	static const struct server_step steps[] = {
		{ "DATA\r\n", OK OK GO }, { DATA_END, "554 spam\r\n" }, { "DATA\r\n", OK OK "554 spam\r\n" OK GO }, { 0 },
	};

	(void)state;
	two_transactions(steps, P, "D 554 spam");
}

/* All answers have moved by one: what refuses DATA, or the sender, may be what refuses the last recipient. */
static void
a_late_reply_that_makes_a_recipient_s_refusal_that_of_all(void **state)
{
	static const struct server_step accepted[] = { { "DATA\r\n", OK OK OK "550 no\r\n" GO }, { 0 } };
	static const struct server_step refused[] = { { "DATA\r\n", "554 spam\r\n" OK OK "550 no\r\n" GO }, { 0 } };
	static const struct server_step *const both[] = { accepted, refused };

	for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
		tear_down(state);
		set_up(state);
		begin(both[i], P, 2);
		session.messages = 1;
		session.is_in_doubt = 1;
		assert_int_equal(transaction_run(&session, &t), 0);
		assert_true(report_is_open(&report, 0) && report_is_open(&report, 1));
		assert_false(is_open());
		server_end();
	}
}

static void
a_late_reply_that_comes_between_commands(void **state)
{
	static const struct server_step steps[] = {
		{ "\r\n", OK }, { "\r\n", OK }, { "\r\n", GO }, { DATA_END, OK }, { "\r\n", OK OK }, { 0 },
	};

	(void)state;
	two_transactions(steps, 0, "K accepted");
}

/* 354 says that nothing came too late: after it, messages go along again, but not after one that is refused. */
static void
after_354_messages_go_along_again(void **state)
{
	static const struct server_step steps[] = {
		{ "hello\r\n", OK OK OK }, { "DATA\r\n", OK OK GO }, { DATA_END, OK }, { "hello\r\n", OK OK OK }, { "hello\r\n", OK OK OK },
		{ "hello\r\n", OK OK "554 spam\r\n" }, { "DATA\r\n", OK OK OK GO }, { DATA_END, OK }, { "hello\r\n", OK OK OK }, { 0 },
	};
	static struct transaction_recipient seven[7];

	(void)state;
	for (size_t i = 0; i < 7; i++)
		seven[i].address = "a@x.test";
	t.recipients = seven;
	session.recipients_max = 1;
	begin(steps, P | C, 7);
	assert_int_equal(transaction_run(&session, &t), 1);
	for (unsigned int i = 0; i < 7; i++)
		expect(i, i == 4 ? "D 554 spam" : "K accepted");
}

static void
a_transaction_that_was_not_finished_is_reset(void **state)
{
	static const struct server_step refuses[] = {
		{ "DATA\r\n", OK "550 no\r\n" "503 no\r\n" }, { "DATA\r\n", "502 what\r\n" OK OK GO }, { DATA_END, OK }, { 0 },
	};

	(void)state;
	begin(refuses, P, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	assert_int_equal(session.needs_reset, 1);
	assert_int_equal(report_begin(&report, 1), 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "K accepted");	/* whatever it thinks of RSET */
	assert_int_equal(session.needs_reset, 0);
	connection_close(&session.connection);
	assert_non_null(strstr(server_end(), "DATA\r\nRSET\r\nMAIL"));
}

/* --- mail data --------------------------------------------------------------------------------------------------- */

static void
use_large_message(void)
{
	static char octets[LARGE];

	memset(octets, 'x', sizeof octets);
	for (size_t i = 99; i < sizeof octets; i += 100)
		octets[i] = '\n';
	use_message(octets, sizeof octets);
}

static void
a_chunk_that_is_refused_while_others_are_on_their_way(void **state)
{
	static const struct server_step steps[] = { { "RCPT TO:<b@x.test>\r\n", OK OK "450 later\r\n" }, { "BDAT ", "552 too large\r\n" }, { 0 } };

	(void)state;
	use_large_message();
	begin(steps, P | C, 2);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "D 552 too large");
	expect(1, "Z 450 later");
	assert_false(is_open());
}

/* A reply too many would be read as that to the next chunk, and in the end as the message's. */
static void
a_second_reply_to_a_chunk(void **state)
{
	static const struct server_step waits[] = { { "\r\n", OK }, { "\r\n", OK }, { "xxx\r\n", OK OK }, { 0 } };

	(void)state;
	use_large_message();
	begin(waits, C, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z made no sense. (#4.4.2)");
	assert_false(is_open());
	assert_null(strstr(server_end(), " LAST"));
}

static void
a_refusal_behind_the_reply_to_the_last_chunk(void **state)
{
	static const struct server_step steps[] = {
		{ "RCPT TO:<a@x.test>\r\n", OK OK }, { " LAST\r\n", OK OK OK "554 spam\r\n" }, { 0 },
	};
	static char octets[2 * TRANSACTION_BUFFER - 100];

	(void)state;
	memset(octets, 'x', sizeof octets);
	use_message(octets, sizeof octets);
	begin(steps, P | C, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z made no sense. Possible duplicate! (#4.4.2)");
}

static void
a_server_that_says_why_it_closes_in_the_midst_of_the_message(void **state)
{
	static const struct server_step steps[] = { { "DATA\r\n", OK OK "550 no\r\n" GO }, { "xxx\r\n", "452 no room\r\n" }, { "", NULL } };

	(void)state;
	use_large_message();
	begin(steps, P, 2);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z 452 no room");
	expect(1, "D 550 no");
	assert_false(is_open());
}

static void
a_server_that_closes_in_the_midst_of_the_message(void **state)
{
	static const struct server_step steps[] = { { "DATA\r\n", OK OK GO }, { "xxx\r\n", NULL } };

	(void)state;
	use_large_message();
	begin(steps, P, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z connection died. (#4.4.2)");	/* the end was not sent: no duplicate */
}

/* The server is never told the end of a message that cannot be read to its end. */
static void
a_message_that_becomes_shorter_meanwhile(unsigned int extensions, off_t size, const struct server_step *steps, const char *last)
{
	int fd = memfd_create("message", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, size), 0);
	mail_data_init(&data, NULL, fd, (uint64_t)size);
	assert_int_equal(mail_data_survey(&data), 1);
	assert_int_equal(ftruncate(fd, size - 1), 0);
	begin(steps, extensions, 1);
	assert_int_equal(transaction_run(&session, &t), 1);
	expect(0, "Z Unable to read the message while it was sent. (#4.3.0)");
	assert_false(is_open());
	server_end();
	assert_null(strstr(server_end(), last));
	close(fd);
}

static void
a_message_that_becomes_shorter_before_the_dot(void **state)
{
	static const struct server_step steps[] = { { "DATA\r\n", OK OK GO }, { 0 } };

	(void)state;
	a_message_that_becomes_shorter_meanwhile(P, LARGE, steps, "\r\n.\r\n");
}

static void
a_message_that_becomes_shorter_before_the_last_chunk(void **state)
{
	static const struct server_step steps[] = { { "RCPT TO:<a@x.test>\r\n", OK OK }, { 0 } };

	(void)state;
	a_message_that_becomes_shorter_meanwhile(P | C, 2 * TRANSACTION_BUFFER, steps, "LAST");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest others[] = {
		TEST(who_wants_TLS),
		TEST(a_message_of_the_size_that_the_server_takes), TEST(a_message_of_one_octet_more),
		TEST(a_sender_that_SMTP_cannot_carry), TEST(a_sender_who_needs_SMTPUTF8), TEST(a_header_that_needs_SMTPUTF8),
		TEST(a_header_within_that_needs_SMTPUTF8), TEST(what_needs_no_SMTPUTF8), TEST(a_message_that_becomes_shorter_before_it_is_looked_into),
		TEST(an_address_that_SMTP_cannot_carry_keeps_nobody_from_his_mail), TEST(those_who_are_decided_are_left_out),
		TEST(octets_above_127_for_a_server_that_takes_them), TEST(octets_above_127_are_converted_for_others),
		TEST(a_converted_message_in_chunks), TEST(a_message_that_becomes_too_large_when_it_is_converted),
		TEST(a_message_that_cannot_be_converted), TEST(a_message_that_becomes_shorter_before_it_is_converted),
		TEST(recipients_above_the_limit_go_in_further_transactions),
		TEST(domains_above_the_limit_need_another_session), TEST(a_session_takes_no_more_messages_than_it_said),
		TEST(a_kept_session_that_closes_at_MAIL), TEST(a_kept_session_that_says_421_to_MAIL),
		TEST(a_kept_session_that_says_421_to_RSET), TEST(a_kept_session_that_closes_after_an_answer),
		TEST(a_kept_session_that_makes_no_sense), TEST(a_kept_session_that_closes_after_a_message_that_went_along),
		TEST(what_was_said_since_ends_a_kept_session),
		TEST(a_second_reply_to_a_message_that_was_refused),
		TEST(a_second_reply_to_a_message_that_was_accepted), TEST(a_late_refusal_is_not_the_next_sender_s),
		TEST(a_late_refusal_is_not_the_next_recipient_s), TEST(a_late_reply_that_makes_a_recipient_s_refusal_that_of_all),
		TEST(a_late_reply_that_comes_between_commands),
		TEST(after_354_messages_go_along_again), TEST(a_transaction_that_was_not_finished_is_reset),
		TEST(a_chunk_that_is_refused_while_others_are_on_their_way), TEST(a_second_reply_to_a_chunk),
		TEST(a_refusal_behind_the_reply_to_the_last_chunk),
		TEST(a_server_that_says_why_it_closes_in_the_midst_of_the_message),
		TEST(a_server_that_closes_in_the_midst_of_the_message), TEST(a_message_that_becomes_shorter_before_the_dot),
		TEST(a_message_that_becomes_shorter_before_the_last_chunk),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, set_up, tear_down, (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("transaction", tests, NULL, NULL);
}
