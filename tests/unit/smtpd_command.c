/* One command line after another: what each is answered, what it leaves, and what ends the session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "directory.h"
#include "smtpd.h"
#include "queued.h"

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

static void
expect_end(const char *reason)
{
	assert_int_equal(smtpd->end, SESSION_REFUSED);
	assert_string_equal(smtpd->reason, reason);
}

/* --- lines --------------------------------------------------------------------------------------------------------- */

#define MAIL "MAIL FROM:<s@x.test>"
#define RCPT "RCPT TO:<a@me.test>"

/* lines: parted by '|'; want: the beginning of the answer to the last. end: how the session ends. */
static const struct row { const char *rule, *lines, *want; enum session_end end; } rows[] = {
	/* form */
	{ "in any case", "mail from:<s@x.test>|RcPt tO:<a@me.test>", "250 ", SESSION_GOES_ON },
	{ "blanks behind a command", "NOOP \t  ", "250 ok", SESSION_GOES_ON },
	{ "a tab before an argument", "EHLO\tx.test", "250-me.test", SESSION_GOES_ON },
	{ "blanks before the path", "MAIL FROM:  <s@x.test>", "250 ", SESSION_GOES_ON },
	{ "an empty line", "", "502 unimplemented (#5.5.1)", SESSION_GOES_ON },
	{ "a blank line", "  ", "502 unimplemented (#5.5.1)", SESSION_GOES_ON },
	{ "a blank before a command", " NOOP", "502 unimplemented", SESSION_GOES_ON },
	{ "a command that goes on", "NOOPS", "502 unimplemented", SESSION_GOES_ON },
	{ "a command that is not whole", "NOO", "502 unimplemented", SESSION_GOES_ON },
	{ "EXPN", "EXPN staff", "502 unimplemented", SESSION_GOES_ON },
	{ "an argument that none is asked for", MAIL "|" RCPT "|DATA now", "501 this command has no argument (#5.5.4)", SESSION_GOES_ON },
	{ "NOOP has any", "NOOP whatever", "250 ok", SESSION_GOES_ON },
	{ "VRFY says nothing of users", "VRFY a@me.test", "252 ", SESSION_GOES_ON },
	{ "QUIT", "QUIT", "221 me.test", SESSION_QUIT },
	{ "enhanced codes after EHLO only", "EHLO x.test|NOOP", "250 2.0.0 ok", SESSION_GOES_ON },
	{ "and not after HELO", "EHLO x.test|HELO x.test|NOOP", "250 ok", SESSION_GOES_ON },

	/* order */
	{ "RCPT first", RCPT, "503 MAIL first", SESSION_GOES_ON },
	{ "DATA first", "DATA", "503 MAIL first", SESSION_GOES_ON },
	{ "DATA without recipients", MAIL "|DATA", "503 RCPT first", SESSION_GOES_ON },
	{ "DATA after RSET", MAIL "|" RCPT "|RSET|DATA", "503 MAIL first", SESSION_GOES_ON },
	{ "a second MAIL forgets the first", MAIL "|" RCPT "|" MAIL "|DATA", "503 RCPT first", SESSION_GOES_ON },
	{ "EHLO forgets a transaction", MAIL "|" RCPT "|EHLO x.test|DATA", "503 ", SESSION_GOES_ON },
	{ "HELO forgets a transaction", MAIL "|" RCPT "|HELO x.test|DATA", "503 ", SESSION_GOES_ON },
	{ "a name that is refused forgets nothing", MAIL "|" RCPT "|HELO|RCPT TO:<b@me.test>", "250 ", SESSION_GOES_ON },
	{ "a MAIL that is refused leaves none", MAIL "|MAIL FROM:<|" RCPT, "503 MAIL first", SESSION_GOES_ON },
	{ "MAIL between chunks", MAIL "|" RCPT "|BDAT 0|" MAIL, "503 the message is not at its end: BDAT or RSET", SESSION_GOES_ON },
	{ "RCPT between chunks", MAIL "|" RCPT "|BDAT 0|" RCPT, "503 the message", SESSION_GOES_ON },
	{ "DATA between chunks", MAIL "|" RCPT "|BDAT 0|DATA", "503 the message", SESSION_GOES_ON },
	{ "NOOP between chunks", MAIL "|" RCPT "|BDAT 0|NOOP", "250 ok", SESSION_GOES_ON },

	/* MAIL and RCPT */
	{ "MAIL without FROM", "MAIL <s@x.test>", "501 syntax: MAIL FROM:<address>", SESSION_GOES_ON },
	{ "MAIL without a path", "MAIL FROM:", "501 ", SESSION_GOES_ON },
	{ "a null recipient", MAIL "|RCPT TO:<>", "501 ", SESSION_GOES_ON },
	{ "a null sender", "MAIL FROM:<>", "250 ", SESSION_GOES_ON },
	{ "a parameter that is not offered", "MAIL FROM:<s@x.test> XYZZY=1", "555 a parameter that is not offered (#5.5.4)", SESSION_GOES_ON },
	{ "a parameter twice", "MAIL FROM:<s@x.test> SIZE=1 SIZE=1", "501 syntax error in the parameters", SESSION_GOES_ON },
	{ "SMTPUTF8 without EHLO", "MAIL FROM:<s@x.test> SMTPUTF8", "555 SMTPUTF8 needs EHLO", SESSION_GOES_ON },
	{ "SMTPUTF8 after HELO", "EHLO x.test|HELO x.test|MAIL FROM:<s@x.test> SMTPUTF8", "555 SMTPUTF8 needs EHLO", SESSION_GOES_ON },
	{ "SMTPUTF8", "EHLO x.test|MAIL FROM:<\xc3\xb3@x.test> SMTPUTF8|RCPT TO:<\xc3\xb3@me.test>", "250 2.1.5 ok", SESSION_GOES_ON },
	{ "a sender who needs it", "EHLO x.test|MAIL FROM:<\xc3\xb3@x.test>", "550 5.6.7 ", SESSION_GOES_ON },
	{ "a recipient who needs it", "EHLO x.test|" MAIL "|RCPT TO:<\xc3\xb3@me.test>", "553 5.6.7 ", SESSION_GOES_ON },
	{ "no relay", MAIL "|RCPT TO:<a@y.test>", "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", SESSION_GOES_ON },

	/* names of clients */
	{ "no name", "EHLO", "501 syntax error in the name (#5.5.4)", SESSION_GOES_ON },
	{ "a name with a blank", "EHLO a b", "501 ", SESSION_GOES_ON },
	{ "a name that is not ASCII", "EHLO \xc3\xb3.test", "501 ", SESSION_GOES_ON },
	{ "an address literal", "EHLO [192.0.2.1]", "250-me.test", SESSION_GOES_ON },
	{ "one of IPv6", "EHLO [IPv6:2001:db8::1]", "250-me.test", SESSION_GOES_ON },
	{ "one of IPv6 without its tag", "EHLO [2001:db8::1]", "250-me.test", SESSION_GOES_ON },
	{ "one of IPv6 with a zone", "EHLO [IPv6:fe80::1%wlan0]", "250-me.test", SESSION_GOES_ON },
	{ "one of IPv6 without its tag, with a zone", "EHLO [fe80:0:0:0:1:2:3:4%3]", "250-me.test", SESSION_GOES_ON },
	{ "one of IPv4 with a tag", "EHLO [IPv6:192.0.2.1]", "501 ", SESSION_GOES_ON },
	{ "one of IPv4 with a zone", "EHLO [192.0.2.1%eth0]", "501 ", SESSION_GOES_ON },
	{ "a zone alone", "EHLO [%eth0]", "501 ", SESSION_GOES_ON },
	{ "a literal that does not end", "EHLO [2001:db8::1", "501 ", SESSION_GOES_ON },
	{ "a literal that ends twice", "EHLO [2001:db8::1]]", "501 ", SESSION_GOES_ON },
	{ "a literal of two brackets", "EHLO [[2001:db8::1]", "501 ", SESSION_GOES_ON },
	{ "a bracket", "EHLO [", "501 ", SESSION_GOES_ON },
	{ "a literal that is none", "EHLO [192.0.2]", "501 ", SESSION_GOES_ON },
	{ "a literal and more", "EHLO [192.0.2.1]x", "501 ", SESSION_GOES_ON },
	{ "a literal that ends a path", "EHLO [192.0.2.1]>x", "501 ", SESSION_GOES_ON },

	/* chunks */
	{ "a chunk without a size", MAIL "|" RCPT "|BDAT", "501 syntax: BDAT octets [LAST] (#5.5.4)", SESSION_REFUSED },
	{ "a chunk of a name", "BDAT LAST", "501 ", SESSION_REFUSED },
	{ "a chunk below nothing", "BDAT -1", "501 ", SESSION_REFUSED },
	{ "a chunk with a sign", "BDAT +1", "501 ", SESSION_REFUSED },
	{ "a chunk in other digits", "BDAT 0x10", "501 ", SESSION_REFUSED },
	{ "a chunk and another word", "BDAT 0 MORE", "501 ", SESSION_REFUSED },
	{ "a chunk with two blanks", "BDAT 0  LAST", "501 ", SESSION_REFUSED },
	{ "a chunk above 64 bits", "BDAT 18446744073709551616", "501 ", SESSION_REFUSED },
	{ "a chunk above the bound", "BDAT 4611686018427387905", "501 ", SESSION_REFUSED },
	{ "LAST in any case", MAIL "|" RCPT "|BDAT 0 last", "250 ok 5 qp 7", SESSION_GOES_ON },

	/* other protocols */
	{ "HTTP", "GET / HTTP/1.1", "500 this port speaks SMTP", SESSION_REFUSED },
	{ "HTTP in small letters", "post / HTTP/1.1", "500 this port speaks SMTP", SESSION_REFUSED },
	{ "HTTP within chunks", MAIL "|" RCPT "|BDAT 0|POST /", "500 this port speaks SMTP", SESSION_REFUSED },
	{ "PROXY", "PROXY TCP4 192.0.2.1", "500 this port speaks SMTP", SESSION_REFUSED },
	{ "a word that begins so", "GETS", "502 unimplemented", SESSION_GOES_ON },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	expect(row->lines, row->want);
	assert_int_equal(smtpd->end, row->end);
}

/* --- names of clients, and what EHLO offers -------------------------------------------------------------------------- */

static void
the_longest_name_and_one_octet_more(void **state)
{
	char line[PATH_DOMAIN_MAX + 7] = "HELO ";

	(void)state;
	memset(line + 5, 'x', PATH_DOMAIN_MAX + 1);
	expect(line, "501 ");
	assert_int_equal(smtpd->helo.len, 0);
	line[5 + PATH_DOMAIN_MAX] = '\0';
	expect(line, "250 me.test");
	assert_int_equal(smtpd->helo.len, PATH_DOMAIN_MAX + 1);
}

/* Printers and scanners. */
static void
who_may_relay_says_any_name(void **state)
{
	char line[PATH_DOMAIN_MAX + 7] = "HELO ";

	(void)state;
	smtpd->relayclient = "";
	expect("HELO", "250 me.test");
	assert_string_equal(smtpd->helo.s, "");
	expect("HELO my \tprinter\xe9", "250 me.test");
	assert_string_equal(smtpd->helo.s, "my??printer?");
	expect("EHLO [not an address]", "250-me.test");
	assert_string_equal(smtpd->helo.s, "[not?an?address]");
	memset(line + 5, 'x', PATH_DOMAIN_MAX + 1);
	expect(line, "250 me.test");
	assert_int_equal(smtpd->helo.len, PATH_DOMAIN_MAX + 1);
}

static void
EHLO_offers_the_limits_that_count(void **state)
{
	(void)state;
	*number(NUMBER_DATABYTES) = 1000;
	*number(NUMBER_MAXMAIL) = 3;
	*number(NUMBER_MAXRCPT) = 2;
	assert_string_equal(smtpd_says("EHLO x.test"), "250-me.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
	    "250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-CHUNKING\r\n250 LIMITS MAILMAX=3 RCPTMAX=2");
}

/* RFC 9422 section 4: six digits. What EHLO ends in. */
static const struct limits_row { const char *rule; unsigned long mails, recipients; const char *want; } limits[] = {
	{ "limits that cannot be said whole", 1000000, 100000, "250-CHUNKING\r\n250 LIMITS MAILMAX=999999 RCPTMAX=100000" },
	{ "the largest that can", 999999, 1, "250-CHUNKING\r\n250 LIMITS MAILMAX=999999 RCPTMAX=1" },
};

static void
EHLO_says_limits_that_can_be_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		const char *said;

		*number(NUMBER_MAXMAIL) = limits[i].mails;
		*number(NUMBER_MAXRCPT) = limits[i].recipients;
		said = smtpd_says("EHLO x.test");
		if (strlen(said) < strlen(limits[i].want) || strcmp(said + strlen(said) - strlen(limits[i].want), limits[i].want) != 0)
			fail_msg("%s: %s", limits[i].rule, said);
	}
}

/* What was sent before the reply came would be taken for something else. */
static void
a_client_that_does_not_wait_for_the_last_of_a_group(void **state)
{
	static const char *const lines[] = { "EHLO x.test", "HELO x.test", MAIL "|" RCPT "|DATA" };

	for (size_t i = 0; i < 3; i++) {
		smtpd_end(state);
		smtpd_begin(state);
		smtpd->in.end = 1;	/* an octet has come */
		expect(lines[i], "503 you did not wait for the reply to this command (#5.5.1)");
		expect_end("did not wait for a reply");
		assert_false(queued.is_open);
		assert_int_equal(smtpd->is_extended, 0);
	}
}

/* --- limits, hit exactly and by one ------------------------------------------------------------------------------------ */

static void
recipients_of_a_message(void **state)
{
	(void)state;
	*number(NUMBER_MAXRCPT) = 2;
	expect(MAIL "|" RCPT "|" RCPT, "250 ");
	for (int i = 0; i < 20; i++)
		expect(RCPT, "452 sorry, too many recipients (#4.5.3)");
	assert_int_equal(smtpd->mail.count, 2);
	assert_int_equal(smtpd->refused, 20);
	assert_int_equal(smtpd->refused_lately, 0);	/* the client did nothing wrong */
	expect(RCPT, "421 sorry, too many recipients (#4.5.3)");
	expect_end("too many recipients");
}

static void
recipients_above_the_limit_count_through_all_of_a_session(void **state)
{
	(void)state;
	*number(NUMBER_MAXRCPT) = 1;
	for (int i = 0; i < 10; i++)
		expect(MAIL "|" RCPT "|" RCPT, "452 ");
	expect(MAIL "|" RCPT "|" RCPT, "421 ");
}

static void
messages_of_a_session(void **state)
{
	(void)state;
	*number(NUMBER_MAXMAIL) = 2;
	expect(MAIL "|" MAIL, "250 ");
	expect(MAIL, "421 too many messages in one session (#4.7.0)");
	expect_end("too many messages");
}

static void
a_MAIL_that_is_refused_is_no_message(void **state)
{
	(void)state;
	*number(NUMBER_MAXMAIL) = 1;
	expect("MAIL FROM:<", "501 ");
	expect(MAIL, "250 ");
}

static void
commands_for_nothing(void **state)
{
	(void)state;
	*number(NUMBER_MAXIDLE) = 3;
	expect("NOOP|RSET|VRFY a", "252 ");
	expect(RCPT, "503 ");	/* that is another count */
	expect("HELP", "421 too many commands without a message (#4.7.0)");
	expect_end("too many commands without a message");
}

static void
a_message_begins_the_count_of_commands_for_nothing_anew(void **state)
{
	(void)state;
	*number(NUMBER_MAXIDLE) = 3;
	expect("NOOP|" MAIL "|" RCPT "|BDAT 0 LAST", "250 ");
	expect("NOOP|NOOP|NOOP", "250 ");
	expect("NOOP", "421 ");
}

/* The octets of a chunk have to be read, but those of no message at all are none. */
static void
small_chunks_are_commands_for_nothing(void **state)
{
	(void)state;
	*number(NUMBER_MAXIDLE) = 3;
	expect(MAIL "|" RCPT "|BDAT 0|BDAT 0", "250 ");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	expect("BDAT 0", "421 too many commands without a message");
	expect_end("too many commands without a message");
}

static void
the_last_chunk_of_a_message_may_be_small(void **state)
{
	(void)state;
	*number(NUMBER_MAXIDLE) = 1;
	expect(MAIL "|" RCPT "|BDAT 0 LAST", "250 ");
}

static void
errors_of_form(void **state)
{
	(void)state;
	*number(NUMBER_MAXERRORS) = 3;
	expect("X|DATA|MAIL FROM:<", "501 ");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	assert_string_equal(smtpd_says("X"), "502 unimplemented (#5.5.1)\r\n421 too many errors (#4.7.0)");
	expect_end("too many errors");
}

static void
refused_recipients(void **state)
{
	(void)state;
	*number(NUMBER_BRTLIMIT) = 2;
	expect(MAIL "|RCPT TO:<a@y.test>|RCPT TO:<a@y.test>", "553 ");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	assert_non_null(strstr(smtpd_says("RCPT TO:<a@y.test>"), "\r\n421 too many refused recipients (#4.7.1)"));
	expect_end("too many refused recipients");
	assert_int_equal(smtpd->refused, 3);
}

static void
refused_recipients_count_from_the_last_message_on(void **state)
{
	(void)state;
	*number(NUMBER_BRTLIMIT) = 1;
	expect(MAIL "|RCPT TO:<a@y.test>|" RCPT "|BDAT 0 LAST", "250 ");
	expect(MAIL "|RCPT TO:<a@y.test>", "553 ");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
}

static void
refused_recipients_without_limit(void **state)
{
	(void)state;
	*number(NUMBER_BRTLIMIT) = 0;
	for (int i = 0; i < 200; i++)
		expect(MAIL "|RCPT TO:<a@y.test>", "553 ");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	assert_int_equal(smtpd->refused, 200);
}

/* Two counts may be over at once: the client is told once. */
static void
one_end_of_a_session_is_said_once(void **state)
{
	const char *said;

	(void)state;
	*number(NUMBER_MAXERRORS) = 0;
	*number(NUMBER_BRTLIMIT) = 1;
	smtpd_says(MAIL "|RCPT TO:<a@y.test>");
	said = smtpd_says("RCPT TO:<>");
	assert_non_null(strstr(said, "421 too many errors"));
	assert_null(strstr(said, "421 too many refused"));
}

static void
a_message_of_the_largest_size_and_one_octet_more(void **state)
{
	(void)state;
	*number(NUMBER_DATABYTES) = 1000;
	expect("MAIL FROM:<s@x.test> SIZE=1001", "552 sorry, that message size exceeds my databytes limit (#5.3.4)");
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	expect("MAIL FROM:<s@x.test> SIZE=99999999999999999999", "552 ");
	expect("MAIL FROM:<s@x.test> SIZE=1000", "250 ");
	*number(NUMBER_DATABYTES) = 0;
	expect("MAIL FROM:<s@x.test> SIZE=99999999999999999999", "250 ");
}

static void
null_senders_may_be_refused(void **state)
{
	(void)state;
	*number(NUMBER_REJECTNULL) = 1;
	expect("MAIL FROM:<>", "553 sorry, no mail from the null sender is taken here (#5.7.1)");
	expect("MAIL FROM:<#@[]>", "553 sorry, no mail from the null sender is taken here (#5.7.1)");
	expect(MAIL, "250 ");
}

/* --- refusals in the log: a line each ------------------------------------------------------------------------------------ */

static const struct refusal { const char *rule, *lines, *want; } refusals[] = {
	{ "MAIL without FROM", "MAIL <s@x.test>", "command=MAIL argument=<?s@x.test?> reason=\"syntax: MAIL FROM:<address>\"" },
	{ "a sender that is none", "MAIL FROM:<s", "command=MAIL argument=<?s> reason=\"syntax error in the address\"" },
	{ "parameters of a sender", "MAIL FROM:<s@x.test> SIZE=x", "command=MAIL argument=<s@x.test> reason=\"syntax error in the parameters\"" },
	{ "one that is not offered", "MAIL FROM:<s@x.test> XYZZY", "command=MAIL argument=<s@x.test> reason=\"a parameter that is not offered\"" },
	{ "parameters of a recipient", MAIL "|RCPT TO:<a@me.test> NOTIFY=x",
	  "command=RCPT from=<s@x.test> argument=<a@me.test> reason=\"syntax error in the parameters\"" },
	{ "one that is not offered for a recipient", MAIL "|RCPT TO:<a@me.test> SIZE=1",
	  "command=RCPT from=<s@x.test> argument=<a@me.test> reason=\"a parameter that is not offered\"" },
	{ "a recipient who needs SMTPUTF8", MAIL "|RCPT TO:<\xc3\xb3@me.test>",
	  "command=RCPT from=<s@x.test> argument=<\xc3\xb3@me.test> reason=\"such an address needs SMTPUTF8\"" },
};
enum { REFUSALS = sizeof refusals / sizeof *refusals };

static size_t
count_of(const char *text, const char *part)
{
	size_t n = 0;

	while ((text = strstr(text, part))) {
		text += strlen(part);
		n++;
	}
	return n;
}

static void
each_refusal_has_a_line(void **state)
{
	for (size_t i = 0; i < REFUSALS; i++) {
		const char *log;

		smtpd_end(state);
		smtpd_begin(state);
		smtpd_says(refusals[i].lines);
		log = smtpd_logged();
		if (!strstr(log, refusals[i].want) || count_of(log, "\n") != 1)
			fail_msg("%s: %s", refusals[i].rule, log);
		assert_int_equal(smtpd->refused, strstr(refusals[i].want, "RCPT") != NULL);
	}
}

/* The reason is the refusal's, not that of the session's end. */
static void
the_refusal_that_ends_a_session(void **state)
{
	(void)state;
	*number(NUMBER_MAXERRORS) = 0;
	expect("MAIL FROM:<s@x.test> XYZZY", "555 ");
	assert_non_null(strstr(smtpd_logged(), " reason=\"a parameter that is not offered\"\n"));
	expect_end("too many errors");
	smtpd->end = SESSION_GOES_ON;
	expect("MAIL FROM:<s@x.test> SMTPUTF8", "555 ");
	assert_non_null(strstr(smtpd_logged(), " reason=\"SMTPUTF8 needs EHLO\"\n"));
}

static void
recipients_above_the_limit_have_a_line_a_message(void **state)
{
	const char *log;

	(void)state;
	*number(NUMBER_MAXRCPT) = 1;
	expect(MAIL "|" RCPT "|RCPT TO:<b@me.test>|RCPT TO:<c@me.test>", "452 ");
	expect(MAIL "|" RCPT "|RCPT TO:<d@me.test>", "452 ");
	assert_int_equal(smtpd->refused, 3);
	log = smtpd_logged();
	assert_int_equal(count_of(log, "\n"), 2);
	assert_non_null(strstr(log, " command=RCPT from=<s@x.test> argument=<b@me.test> reason=\"sorry, too many recipients\"\n"));
	assert_non_null(strstr(log, " argument=<d@me.test> "));
}

/* --- what is kept, and what is logged ------------------------------------------------------------------------------------ */

static void
what_a_transaction_keeps(void **state)
{
	static const char recipients[] = "a@me.test\0NOTIFY=NEVER\0b b@ME.test\0";

	(void)state;
	expect("EHLO x.test|MAIL FROM:<s@x.test> BODY=8BITMIME RET=HDRS|RCPT TO:<a@me.test> NOTIFY=NEVER|RCPT TO:<\"b b\"@ME.test>", "250 ");
	assert_string_equal(smtpd->mail.sender.s, "s@x.test");
	assert_non_null(strstr(smtpd->mail.sender_parameters.s, "RET=HDRS"));
	assert_int_equal(smtpd->mail.count, 2);
	assert_int_equal(smtpd->mail.recipients.len, sizeof recipients);
	assert_memory_equal(smtpd->mail.recipients.s, recipients, sizeof recipients);
	session_reset(smtpd);
	assert_int_equal(smtpd->mail.count + smtpd->mail.recipients.len + smtpd->mail.sender.len, 0);
	assert_int_equal(smtpd->is_extended, 1);
	session_forget(smtpd);
	assert_int_equal(smtpd->is_extended + smtpd->reply.is_extended, 0);
	assert_int_equal(smtpd->helo.len, 0);
}

static void
a_refusal_is_a_line_of_the_log_whatever_was_said(void **state)
{
	static const char *const lines[] = { "MAIL FROM:<a\"b c\033[1m\x7f\xff>x", MAIL "|RCPT TO:<\"\\\n reason=\"x\"",
		MAIL "|RCPT TO:<\"a> relay=yes\\\"\"@y.test>" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const char *log;
		size_t quotes = 0, len;

		smtpd_says(lines[i]);
		log = smtpd_logged();
		len = strlen(log);
		assert_true(len && log[len - 1] == '\n');
		for (size_t n = 0; n < len - 1; n++) {
			quotes += log[n] == '"';
			assert_true(log[n] >= ' ' && log[n] < 127);
		}
		assert_int_equal(quotes, 2);	/* those of reason="..." */
	}
}

/* --- STARTTLS ---------------------------------------------------------------------------------------------------------- */

static void
offer_tls(int is_required)
{
	smtpd->tls->by = SERVER_TLS_ENGINE;
	smtpd->tls->is_required = is_required;
}

static void
STARTTLS_is_offered_once(void **state)
{
	(void)state;
	assert_null(strstr(smtpd_says("EHLO x.test"), "STARTTLS"));
	expect("STARTTLS", "502 5.5.1 unimplemented");
	offer_tls(0);
	assert_non_null(strstr(smtpd_says("EHLO x.test"), "\r\n250-STARTTLS\r\n"));
	expect("STARTTLS now", "501 5.5.4 this command has no argument");
	smtpd_says("STARTTLS");
	assert_int_equal(smtpd->is_tls, 1);
	assert_null(strstr(smtpd_says("EHLO x.test"), "STARTTLS"));
	expect("STARTTLS", "503 5.5.1 the connection is protected already");
	assert_int_equal(smtpd_tls.started, 1);
	assert_int_equal(smtpd->errors, 3);
}

static void
what_was_said_before_TLS_is_forgotten(void **state)
{
	(void)state;
	offer_tls(0);
	smtpd_says("EHLO x.test|" MAIL "|" RCPT "|STARTTLS");
	assert_int_equal(smtpd->phase, PHASE_IDLE);
	assert_int_equal(smtpd->helo.len, 0);
	assert_int_equal(smtpd->mail.count, 0);
	assert_true(input_is_empty(&smtpd->in));
	expect(RCPT, "503 MAIL first (#5.5.1)");	/* without enhanced codes */
	expect(MAIL, "503 EHLO first (#5.5.1)");
	expect("EHLO x.test|" MAIL, "250 2.1.0 ok");
}

static void
TLS_that_cannot_begin_changes_nothing(void **state)
{
	(void)state;
	offer_tls(0);
	smtpd_tls.is_there = 0;
	expect("EHLO x.test|" MAIL "|STARTTLS", "454 4.7.0 TLS is not available now (#4.7.0)");
	assert_non_null(strstr(smtpd_logged(), " tls=no auth=- command=STARTTLS from=<s@x.test> argument=<> reason=\"no TLS: busy\"\n"));
	expect(RCPT, "250 ");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	assert_int_equal(smtpd_tls.started, 0);
}

static void
a_handshake_that_fails_is_the_end(void **state)
{
	(void)state;
	offer_tls(0);
	smtpd_tls.succeeds = 0;
	expect("STARTTLS", "");
	expect_end("no TLS: too slow");
	assert_int_equal(smtpd->is_tls, 0);
	assert_int_equal(smtpd->reply.len, 0);
}

static void
nothing_may_be_sent_behind_STARTTLS(void **state)
{
	(void)state;
	offer_tls(0);
	smtpd->in.end = 1;
	expect("STARTTLS", "503 you did not wait for the reply to this command (#5.5.1)");
	expect_end("did not wait for a reply");
	assert_int_equal(smtpd_tls.started, 0);
}

static void
STARTTLS_within_a_message(void **state)
{
	(void)state;
	offer_tls(0);
	smtpd_sends("x\r\n", 3);
	expect(MAIL "|" RCPT "|BDAT 3|STARTTLS", "503 the message is not at its end");
	assert_int_equal(smtpd_tls.started, 0);
}

/* RFC 3207 section 4: NOOP, EHLO, STARTTLS and QUIT are taken without. */
static void
TLS_that_is_required(void **state)
{
	static const char *const refused[] = { MAIL, RCPT, "DATA", "RSET", "HELO x.test", "VRFY a", "HELP" };

	(void)state;
	offer_tls(1);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		expect(refused[i], "530 must issue a STARTTLS command first (#5.7.0)");
	smtpd_sends("a\r\n", 3);
	expect("BDAT 3 LAST", "503 MAIL first");
	assert_true(input_is_empty(&smtpd->in));
	expect("NOOP", "250 ");
	assert_non_null(strstr(smtpd_says("EHLO x.test"), "250-STARTTLS"));
	smtpd_says("STARTTLS");
	expect("EHLO x.test|" MAIL, "250 ");
	expect("QUIT", "221 ");
}

static void
TLS_that_is_required_but_is_not_there(void **state)
{
	(void)state;
	smtpd->tls->is_required = 1;
	smtpd_tls.is_there = 0;
	assert_null(strstr(smtpd_says("EHLO x.test"), "STARTTLS"));
	expect(MAIL, "530 ");
	expect("STARTTLS", "454 ");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, smtpd_begin, smtpd_end)
	const struct CMUnitTest others[] = {
		TEST(the_longest_name_and_one_octet_more), TEST(who_may_relay_says_any_name), TEST(EHLO_offers_the_limits_that_count), TEST(EHLO_says_limits_that_can_be_said),
		TEST(a_client_that_does_not_wait_for_the_last_of_a_group), TEST(recipients_of_a_message),
		TEST(recipients_above_the_limit_count_through_all_of_a_session), TEST(messages_of_a_session),
		TEST(a_MAIL_that_is_refused_is_no_message), TEST(commands_for_nothing),
		TEST(a_message_begins_the_count_of_commands_for_nothing_anew), TEST(errors_of_form), TEST(refused_recipients), TEST(refused_recipients_without_limit),
		TEST(refused_recipients_count_from_the_last_message_on), TEST(small_chunks_are_commands_for_nothing),
		TEST(the_last_chunk_of_a_message_may_be_small), TEST(one_end_of_a_session_is_said_once),
		TEST(a_message_of_the_largest_size_and_one_octet_more), TEST(null_senders_may_be_refused), TEST(each_refusal_has_a_line),
		TEST(the_refusal_that_ends_a_session), TEST(recipients_above_the_limit_have_a_line_a_message), TEST(what_a_transaction_keeps),
		TEST(a_refusal_is_a_line_of_the_log_whatever_was_said), TEST(STARTTLS_is_offered_once),
		TEST(what_was_said_before_TLS_is_forgotten), TEST(TLS_that_cannot_begin_changes_nothing), TEST(a_handshake_that_fails_is_the_end),
		TEST(nothing_may_be_sent_behind_STARTTLS), TEST(STARTTLS_within_a_message), TEST(TLS_that_is_required),
		TEST(TLS_that_is_required_but_is_not_there),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, smtpd_begin, smtpd_end, (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("smtpd_command", tests, smtpd_home, directory_remove);
}
