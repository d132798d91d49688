/* The text and the MIME form of bounces: interfaces section 6.5, RFC 3464, RFC 6533. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/send/bounce.h"
#include "queue/protocol.h"
#include "stralloc_set.h"

/* --- one bounce ------------------------------------------------------------------ */

struct input {
	const struct bounce_recipient *recipients;
	uint32_t count;
	const char *message;
	size_t size;
	int broken;	/* reading the message fails */
	stralloc out;
};

static int
recipient(void *data, uint32_t n, struct bounce_recipient *r)
{
	struct input *in = data;

	if (n >= in->count)
		return 0;
	*r = in->recipients[n];
	return 1;
}

static int
read_message(void *data, uint64_t offset, char *s, size_t len)
{
	struct input *in = data;

	assert_true(offset + len <= in->size);
	memcpy(s, in->message + offset, len);
	errno = EIO;
	return !in->broken;
}

static void
put(void *data, const char *s, size_t len)
{
	struct input *in = data;

	assert_int_equal(stralloc_catb(&in->out, s, len), 1);
}

static struct bounce_settings settings;

static int
set_up(void **state)
{
	(void)state;
	stralloc_setb(&settings.from, "MAILER-DAEMON", 14);
	stralloc_setb(&settings.host, "mail.example", 13);
	stralloc_setb(&settings.double_to, "postmaster", 11);
	stralloc_setb(&settings.double_host, "mail.example", 13);
	settings.max = BOUNCE_MAX;
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	bounce_free(&settings);
	return 0;
}

static enum bounce_report report;	/* what write_bounce reports of */
static const char *parameters_of_sender;

/* Writes it; in->out is then NUL-terminated. */
static int
write_bounce(struct input *in, const char *sender, enum bounce_kind kind)
{
	struct bounce b = {
		.settings = &settings, .kind = kind, .number = 42, .birth = 1000000000, .now = 1000000060,
		.sender = sender, .size = in->size, .data = in, .recipient = recipient, .read = read_message, .put = put,
		.report = report, .parameters = parameters_of_sender, .until = 1000604800,
	};
	const char *parameters = NULL;
	int r = bounce_write(&b, &parameters);

	assert_int_equal(stralloc_0(&in->out), 1);
	return r;
}

static struct input
input_of(const struct bounce_recipient *recipients, uint32_t count, const char *message)
{
	return (struct input){ .recipients = recipients, .count = count, .message = message, .size = strlen(message) };
}

#define TEXT(s) .text = s, .text_len = sizeof s - 1

static const struct bounce_recipient ann = { .address = "ann@far.example", TEXT("No such user. (#5.1.1)\n") };
static const char small_message[] = "Subject: hello\n\nworld\n";

/* --- the old form, octet for octet ---------------------------------------------------- */

static const struct plain_row {
	const char *rule, *sender;
	enum bounce_kind kind;
	struct bounce_recipient recipients[2];
	uint32_t count;
	const char *want;	/* from the "Hi." on, without the message */
} plain_rows[] = {
	{ "qsbmf: single", "bob@here.example", BOUNCE_SINGLE,
	    { { .address = "ann@far.example", TEXT("No such user. (#5.1.1)\n") } }, 1,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<ann@far.example>:\nNo such user. (#5.1.1)\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <bob@here.example>\n" },
	{ "qsbmf: two, in order", "bob@here.example", BOUNCE_SINGLE,
	    { { .address = "a@x", TEXT("one") }, { .address = "b@x", TEXT("two\n\n\n") } }, 2,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<a@x>:\none\n\n<b@x>:\ntwo\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <bob@here.example>\n" },
	{ "qsbmf: an empty line in a report becomes '/'", "bob@here.example", BOUNCE_SINGLE,
	    { { .address = "a@x", TEXT("one\n\ntwo\n\n\nthree") } }, 1,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<a@x>:\none\n/two\n//three\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <bob@here.example>\n" },
	{ "qsbmf: a report that starts with an empty line", "bob@here.example", BOUNCE_SINGLE,
	    { { .address = "a@x", TEXT("\n<evil@x>:\nfine\n") } }, 1,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<a@x>:\n/<evil@x>:\nfine\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <bob@here.example>\n" },
	{ "qsbmf: newline in an address becomes '_'", "b\nb@here.example", BOUNCE_SINGLE,
	    { { .address = "a\n\nb@x", TEXT("") } }, 1,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<a__b@x>:\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <\"b_b\"@here.example>\n" },
	{ "qsbmf: reports without a word", "bob@here.example", BOUNCE_SINGLE,
	    { { .address = "a@x", TEXT("") }, { .address = "b@x", TEXT("\n\n") } }, 2,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<a@x>:\n\n<b@x>:\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <bob@here.example>\n" },
	{ "qsbmf: control octets of a report", "bob@here.example", BOUNCE_SINGLE,
	    { { .address = "a@x", TEXT("\033[31mred\033[0m\r\n\ttab") } }, 1,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<a@x>:\n?[31mred?[0m?\n\ttab\n\n"
	    "--- Below this line is a copy of the message.\n\n"
	    "Return-Path: <bob@here.example>\n" },
	{ "qsbmf: double", "", BOUNCE_DOUBLE,
	    { { .address = "ann@far.example", TEXT("gone\n") } }, 1,
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "A bounce message could not be delivered, it bounced itself. I have given up on it.\n\n"
	    "<ann@far.example>:\ngone\n\n"
	    "--- Below this line is the original bounce.\n\n"
	    "Return-Path: <>\n" },
};

static void
plain_row(void **state)
{
	const struct plain_row *row = *state;
	struct input in = input_of(row->recipients, row->count, small_message);
	const char *body;
	char want[2000];

	settings.is_plain = 1;
	assert_int_equal(write_bounce(&in, row->sender, row->kind), 1);
	settings.is_plain = 0;
	body = strstr(in.out.s, "\n\n");
	assert_non_null(body);
	snprintf(want, sizeof want, "%s%s", row->want, small_message);
	assert_string_equal(body + 2, want);
	assert_null(strstr(in.out.s, "MIME-Version"));
	stralloc_free(&in.out);
}

/* --- the MIME form ---------------------------------------------------------------------- */

/* The boundary of the bounce in s. */
static const char *
boundary_of(const char *s)
{
	static char boundary[80];
	const char *at = strstr(s, "\tboundary=\"");

	assert_non_null(at);
	assert_int_equal(sscanf(at, "\tboundary=\"%70[^\"]\"", boundary), 1);
	return boundary;
}

/* Cuts the bounce into its header and parts, which are NUL-terminated in it. Returns how many. */
static unsigned int
cut(char *s, char *parts[5])
{
	char delimiter[90];
	unsigned int n = 0;

	snprintf(delimiter, sizeof delimiter, "\n--%s", boundary_of(s));
	parts[n++] = s;
	while ((s = strstr(s, delimiter))) {
		*s = '\0';
		s += strlen(delimiter);
		if (strcmp(s, "--\n") == 0)
			return n;
		assert_int_equal(*s, '\n');
		assert_true(n < 5);
		parts[n++] = ++s;
	}
	fail_msg("no end of the last part");
	return 0;
}

static void
report_parts(void **state)
{
	struct input in = input_of(&ann, 1, small_message);
	char *parts[5];

	(void)state;
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	assert_int_equal(cut(in.out.s, parts), 4);
	assert_int_equal(strncmp(parts[0],
	    "Date: Sun, 9 Sep 2001 01:47:40 -0000\n"
	    "From: MAILER-DAEMON@mail.example\n"
	    "To: bob@here.example\n"
	    "Subject: failure notice\n"
	    "Message-ID: <42.1000000000.bounce@mail.example>\n"
	    "Auto-Submitted: auto-replied\n"
	    "MIME-Version: 1.0\n"
	    "Content-Type: multipart/report; report-type=delivery-status;\n", 200), 0);
	assert_null(strstr(parts[0], "8bit"));
	assert_string_equal(parts[1],
	    "Content-Type: text/plain; charset=us-ascii\n\n"
	    "Hi. This is the qmail-send program at mail.example.\n"
	    "Your message did not reach the addresses below. I have given up on them.\n\n"
	    "<ann@far.example>:\nNo such user. (#5.1.1)\n\n"
	    "--- Below this line is a copy of the message.\n");
	assert_string_equal(parts[2],
	    "Content-Type: message/delivery-status\n\n"
	    "Reporting-MTA: dns; mail.example\n"
	    "Arrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Final-Recipient: rfc822; ann@far.example\n"
	    "Action: failed\n"
	    "Status: 5.1.1\n"
	    "Diagnostic-Code: X-Qmail; No such user. (#5.1.1)\n");
	assert_string_equal(parts[3],
	    "Content-Type: message/rfc822\n\nReturn-Path: <bob@here.example>\nSubject: hello\n\nworld\n");
	stralloc_free(&in.out);
}

static const struct status_row { const char *rule, *text, *status, *diagnostic; } status_rows[] = {
	{ "what a remote host is said to have said, but no reply", "Remote host said: x\n", "5.0.0", "X-Qmail; Remote host said: x" },
	{ "status: none is 5.0.0", "no idea", "5.0.0", "X-Qmail; no idea" },
	{ "status: in parentheses", "x (#5.7.1) y (#5.1.1)", "5.7.1", "X-Qmail; x (#5.7.1) y (#5.1.1)" },
	{ "status: malformed ones are passed over", "(#5.1) (#5.1.1234) (#9.1.1) (#5..1) (#5.2.2)", "5.2.2",
	    "X-Qmail; (#5.1) (#5.1.1234) (#9.1.1) (#5..1) (#5.2.2)" },
	{ "status: a temporary class that became permanent", "full (#4.2.2)", "5.2.2", "X-Qmail; full (#4.2.2)" },
	{ "status: the remote host's own", "192.0.2.1 does not like recipient.\n"
	    "Remote host said: 550 5.1.1 <ann@far.example>: unknown\nGiving up on 192.0.2.1.\n", "5.1.1",
	    "smtp; 550 5.1.1 <ann@far.example>: unknown" },
	{ "status: the remote host's own, before what it quotes", "It does not like recipient.\nRemote host said: 550 5.7.1 no (#5.1.1)\n", "5.7.1",
	    "smtp; 550 5.7.1 no (#5.1.1)" },
	{ "status: in parentheses of a reply without one", "It does not like recipient.\nRemote host said: 550 sorry (#5.1.1)\n", "5.1.1",
	    "smtp; 550 sorry (#5.1.1)" },
	{ "status: ours before the remote host's", "It failed. (#4.3.2)\nRemote host said: 421 4.2.1 busy\n", "5.3.2", "smtp; 421 4.2.1 busy" },
	{ "status: of several lines", "Remote host said: 550-5.7.26 first\n550-5.7.26 second\n550 5.7.26 end\nGiving up.\n",
	    "5.7.26", "smtp; 550-5.7.26 first\n 550-5.7.26 second\n 550 5.7.26 end" },
	{ "status: too long in the queue", "Cannot connect. (#4.4.1)\n"
	    "I am not going to try again; this message has been in the queue too long.\n", "4.4.7",
	    "X-Qmail; Cannot connect. (#4.4.1)\n I am not going to try again; this message has been in the queue too long." },
	{ "status: no field can be smuggled in", "x\nStatus: 2.0.0\n\nFinal-Recipient: rfc822; evil@x\n\ty", "5.0.0",
	    "X-Qmail; x\n Status: 2.0.0\n Final-Recipient: rfc822; evil@x\n ?y" },
	{ "status: 8 bits", "caf\xc3\xa9", "5.0.0", "X-Qmail; caf??" },
};

static void
status_row(void **state)
{
	const struct status_row *row = *state;
	struct bounce_recipient r = { .address = "ann@far.example", .text = row->text, .text_len = strlen(row->text) };
	struct input in = input_of(&r, 1, small_message);
	char *parts[5], want[1000];

	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	assert_int_equal(cut(in.out.s, parts), 4);
	snprintf(want, sizeof want, "Action: failed\nStatus: %s\nDiagnostic-Code: %s\n", row->status, row->diagnostic);
	assert_string_equal(strstr(parts[2], "Action: "), want);
	stralloc_free(&in.out);
}

/* --- the parameters of RFC 3461 ------------------------------------------------------------- */

static const struct dsn_row {
	const char *rule, *sender, *parameters;
	enum bounce_report report;
	struct bounce_recipient recipient;
	const char *greeting;	/* beginning of the first part's text */
	const char *status;	/* the whole of the second part, after its type */
	const char *returned;
} dsn_rows[] = {
	{ "dsn: delivered", "b@x", "RET=FULL ENVID=a+2Bb", BOUNCE_SUCCEEDED,
	    { .address = "ann@far.example", TEXT("secret\ndid 1+0+0\n"), .action = NOTIFY_DELIVERED, .parameters = "ORCPT=rfc822;A+40b" },
	    "This is the mail server at mail.example.\n"
	    "You asked to be told: your message got to the addresses below.\n\n"
	    "<ann@far.example>:\nIt was delivered.\n\n"
	    "--- Below this line is a copy of the message's header.\n",
	    "Original-Envelope-Id: a+b\nReporting-MTA: dns; mail.example\nArrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Original-Recipient: rfc822; A@b\nFinal-Recipient: rfc822; ann@far.example\nAction: delivered\nStatus: 2.0.0\n",
	    "Content-Type: text/rfc822-headers\n\nReturn-Path: <b@x>\nSubject: hello\n" },
	{ "dsn: relayed", "b@x", NULL, BOUNCE_SUCCEEDED,
	    { .address = "ann@far.example", TEXT("1.2.3.4 took it.\nRemote host said: 250 2.6.0 ok\n"), .action = NOTIFY_RELAYED },
	    "This is the mail server at mail.example.\n"
	    "You asked to be told: your message got to the addresses below.\n\n"
	    "<ann@far.example>:\nIt was handed on to a mail server that will not report its delivery.\n"
	    "1.2.3.4 took it.\nRemote host said: 250 2.6.0 ok\n\n",
	    "Reporting-MTA: dns; mail.example\nArrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Final-Recipient: rfc822; ann@far.example\nAction: relayed\nStatus: 2.6.0\nDiagnostic-Code: smtp; 250 2.6.0 ok\n",
	    "Content-Type: text/rfc822-headers\n\nReturn-Path: <b@x>\nSubject: hello\n" },
	{ "dsn: expanded, a lying text", "b@x", "", BOUNCE_SUCCEEDED,
	    { .address = "ann@far.example", TEXT("(#5.1.1)\nRemote host said: 550 5.1.1 no\n"), .action = NOTIFY_EXPANDED },
	    "This is the mail server at mail.example.\n",
	    "Reporting-MTA: dns; mail.example\nArrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Final-Recipient: rfc822; ann@far.example\nAction: expanded\nStatus: 2.0.0\n",
	    "Content-Type: text/rfc822-headers\n\nReturn-Path: <b@x>\nSubject: hello\n" },
	{ "dsn: delayed", "b@x", "RET=FULL", BOUNCE_DELAYED,
	    { .address = "ann@far.example", TEXT("full (#4.2.2)\n") },
	    "This is the mail server at mail.example.\n"
	    "Your message did not reach the addresses below yet. You need not send it again: I keep trying\n"
	    "until Sun, 16 Sep 2001 01:46:40 -0000.\n\n"
	    "<ann@far.example>:\nfull (#4.2.2)\n\n",
	    "Reporting-MTA: dns; mail.example\nArrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Final-Recipient: rfc822; ann@far.example\nAction: delayed\nStatus: 4.2.2\n"
	    "Diagnostic-Code: X-Qmail; full (#4.2.2)\nWill-Retry-Until: Sun, 16 Sep 2001 01:46:40 -0000\n",
	    "Content-Type: text/rfc822-headers\n\nReturn-Path: <b@x>\nSubject: hello\n" },
	{ "dsn: failed, header wanted", "b@x", "RET=hdrs ENVID=x+", BOUNCE_FAILED,
	    { .address = "ann@far.example", TEXT("no (#5.1.1)\n"), .parameters = "ORCPT=x400;+zz+0a+4 NOTIFY=FAILURE" },
	    "Hi. This is the qmail-send program at mail.example.\n",
	    "Original-Envelope-Id: x+\nReporting-MTA: dns; mail.example\nArrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Original-Recipient: x400; +zz+0a+4\nFinal-Recipient: rfc822; ann@far.example\nAction: failed\nStatus: 5.1.1\n"
	    "Diagnostic-Code: X-Qmail; no (#5.1.1)\n",
	    "Content-Type: text/rfc822-headers\n\nReturn-Path: <b@x>\nSubject: hello\n" },
	{ "dsn: nothing can be smuggled in", "b@x", "ENVID=+0A+0D+0AX:+00", BOUNCE_FAILED,
	    { .address = "ann@far.example", TEXT("no\n"), .parameters = "ORCPT=rfc822;+0AAction:+20relayed" },
	    "Hi. This is the qmail-send program at mail.example.\n",
	    "Original-Envelope-Id: ___X:_\nReporting-MTA: dns; mail.example\nArrival-Date: Sun, 9 Sep 2001 01:46:40 -0000\n\n"
	    "Original-Recipient: rfc822; _Action: relayed\nFinal-Recipient: rfc822; ann@far.example\nAction: failed\nStatus: 5.0.0\n"
	    "Diagnostic-Code: X-Qmail; no\n",
	    "Content-Type: message/rfc822\n\nReturn-Path: <b@x>\nSubject: hello\n\nworld\n" },
};

static void
dsn_row(void **state)
{
	const struct dsn_row *row = *state;
	struct input in = input_of(&row->recipient, 1, small_message);
	const char *text, *status;
	char *parts[5];
	int ok;

	report = row->report;
	parameters_of_sender = row->parameters;
	ok = write_bounce(&in, row->sender, BOUNCE_SINGLE);
	report = BOUNCE_FAILED;
	parameters_of_sender = NULL;
	assert_int_equal(ok, 1);
	assert_int_equal(cut(in.out.s, parts), 4);
	text = strstr(parts[1], "\n\n");
	status = strstr(parts[2], "\n\n");
	assert_true(text && status);
	assert_int_equal(strncmp(text + 2, row->greeting, strlen(row->greeting)), 0);
	assert_string_equal(status + 2, row->status);
	assert_string_equal(parts[3], row->returned);
	stralloc_free(&in.out);
}

/* --- UTF-8 and 8 bits ---------------------------------------------------------------------- */

static const struct utf8_row {
	const char *rule, *sender, *address, *text, *message;
	const char *type, *text_type, *status_type, *final, *message_type;
	int header_8bit;
} utf8_rows[] = {
	{ "8 bits: in a report, UTF-8", "bob@x", "ann@y", "caf\xc3\xa9", "A: b\n\n", "delivery-status", "utf-8",
	    "message/delivery-status", "rfc822; ann@y", "message/rfc822", 1 },
	{ "8 bits: in a report, unknown", "bob@x", "ann@y", "caf\xe9", "A: b\n\n", "delivery-status", "unknown-8bit",
	    "message/delivery-status", "rfc822; ann@y", "message/rfc822", 1 },
	{ "8 bits: in the message", "bob@x", "ann@y", "x", "A: b\n\ncaf\xe9\n", "delivery-status", "us-ascii",
	    "message/delivery-status", "rfc822; ann@y", "message/rfc822\nContent-Transfer-Encoding: 8bit", 1 },
	{ "ASCII: a local part that needs quotes", "bob@x", "a \"b@y", "x", "A: b\n\n", "delivery-status", "us-ascii",
	    "message/delivery-status", "rfc822; \"a \\\"b\"@y", "message/rfc822", 0 },
	{ "UTF-8: a local part that needs quotes", "bob@x", "j\xc3\xbc r@y", "x", "A: b\n\n", "delivery-status", "utf-8",
	    "message/delivery-status", "utf-8; \"j\\x{FC}\\x{20}r\"@y", "message/rfc822", 1 },
	{ "UTF-8: recipient, ASCII sender", "bob@x", "j\xc3\xbc+r@y", "x", "A: b\n\n", "delivery-status", "utf-8",
	    "message/delivery-status", "utf-8; j\\x{FC}\\x{2B}r@y", "message/rfc822", 1 },
	{ "UTF-8: three and four octets", "bob@x", "\xe2\x82\xac\xf0\x9f\x98\x80@y", "x", "A: b\n\n", "delivery-status",
	    "utf-8", "message/delivery-status", "utf-8; \\x{20AC}\\x{1F600}@y", "message/rfc822", 1 },
	{ "UTF-8: recipient that is none", "bob@x", "j\xfcr@y", "x", "A: b\n\n", "delivery-status", "unknown-8bit",
	    "message/delivery-status", "rfc822; j_r@y", "message/rfc822", 1 },
	{ "UTF-8: sender", "b\xc3\xb6""b@x", "j\xc3\xbcr@y", "caf\xc3\xa9", "A: b\n\n", "global-delivery-status", "utf-8",
	    "message/global-delivery-status\nContent-Transfer-Encoding: 8bit", "utf-8; j\xc3\xbcr@y",
	    "message/global\nContent-Transfer-Encoding: 8bit", 1 },
	{ "UTF-8: a sender that is none", "b\xf6""b@x", "ann@y", "x", "A: b\n\n", "delivery-status", "us-ascii",
	    "message/delivery-status", "rfc822; ann@y", "message/rfc822", 0 },
};

static void
utf8_row(void **state)
{
	const struct utf8_row *row = *state;
	struct bounce_recipient r = { .address = row->address, .text = row->text, .text_len = strlen(row->text) };
	struct input in = input_of(&r, 1, row->message);
	char *parts[5], want[200];

	assert_int_equal(write_bounce(&in, row->sender, BOUNCE_SINGLE), 1);
	assert_int_equal(cut(in.out.s, parts), 4);
	snprintf(want, sizeof want, "report-type=%s;\n", row->type);
	assert_non_null(strstr(parts[0], want));
	assert_int_equal(strstr(parts[0], "\nContent-Transfer-Encoding: 8bit") != NULL, row->header_8bit);
	snprintf(want, sizeof want, "Content-Type: text/plain; charset=%s\n", row->text_type);
	assert_memory_equal(parts[1], want, strlen(want));
	snprintf(want, sizeof want, "Content-Type: %s\n\nReporting-MTA: ", row->status_type);
	assert_memory_equal(parts[2], want, strlen(want));
	snprintf(want, sizeof want, "\nFinal-Recipient: %s\n", row->final);
	assert_non_null(strstr(parts[2], want));
	snprintf(want, sizeof want, "Content-Type: %s\n\nReturn-Path: ", row->message_type);
	assert_memory_equal(parts[3], want, strlen(want));
	stralloc_free(&in.out);
}

/* --- what is returned -------------------------------------------------------------------------- */

static void
header_only_beyond_the_limit(void **state)
{
	static const char message[] = "Received: a\n\tb\nSubject: hello\n\nbody that is not returned\n";
	struct input in = input_of(&ann, 1, message);
	char *parts[5];

	(void)state;
	settings.max = sizeof message - 1;
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	assert_non_null(strstr(in.out.s, "body that is not returned"));
	in.out.len = 0;
	settings.max--;
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	settings.max = BOUNCE_MAX;
	assert_int_equal(cut(in.out.s, parts), 4);
	assert_non_null(strstr(parts[1], "--- Below this line is a copy of the message's header.\n"));
	assert_string_equal(parts[3], "Content-Type: text/rfc822-headers\n\n"
	    "Return-Path: <bob@here.example>\nReceived: a\n\tb\nSubject: hello\n");
	stralloc_free(&in.out);
}

/* RFC 6532 section 3.7: a message whose header is in UTF-8 is no message/rfc822, whoever gets it. */
static void
a_header_in_UTF_8_for_an_ASCII_sender(void **state)
{
	static const struct { const char *parameters, *message, *type; } returned[] = {
		{ "SMTPUTF8", "Subject: caf\xc3\xa9\n\nx\n", "message/global\nContent-Transfer-Encoding: 8bit\n" },
		{ "SMTPUTF8 RET=HDRS", "Subject: caf\xc3\xa9\n\nx\n", "message/global-headers\nContent-Transfer-Encoding: 8bit\n" },
		{ "SMTPUTF8", "Subject: x\n\ncaf\xc3\xa9\n", "message/rfc822\nContent-Transfer-Encoding: 8bit\n" },
		{ "SMTPUTF8", "Subject: caf\xe9\n\nx\n", "message/rfc822\nContent-Transfer-Encoding: 8bit\n" },
		{ "BODY=8BITMIME", "Subject: caf\xc3\xa9\n\nx\n", "message/rfc822\nContent-Transfer-Encoding: 8bit\n" },
		{ "SMTPUTF8", "Subject: x\n\nx\n", "message/rfc822\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof returned / sizeof *returned; i++) {
		struct input in = input_of(&ann, 1, returned[i].message);
		char *parts[5], want[200];

		parameters_of_sender = returned[i].parameters;
		assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
		parameters_of_sender = NULL;
		assert_int_equal(cut(in.out.s, parts), 4);
		assert_non_null(strstr(parts[0], "report-type=delivery-status;\n"));
		snprintf(want, sizeof want, "Content-Type: %s\nReturn-Path: ", returned[i].type);
		assert_memory_equal(parts[3], want, strlen(want));
		stralloc_free(&in.out);
	}
}

static void
a_header_without_end(void **state)
{
	enum { SIZE = 3 * BOUNCE_HEADER_MAX };
	char *message = malloc(SIZE + 1);
	struct input in;
	char *parts[5];
	size_t len;

	(void)state;
	memset(message, 'x', SIZE);
	for (unsigned int i = 50; i < SIZE; i += 51)
		message[i] = '\n';
	message[SIZE] = '\0';
	in = input_of(&ann, 1, message);
	settings.max = 1000;
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	assert_int_equal(cut(in.out.s, parts), 4);
	len = strlen(parts[3]);
	assert_in_range(len, BOUNCE_HEADER_MAX - 51, BOUNCE_HEADER_MAX + 100);
	assert_int_equal(parts[3][len - 1], '\n');
	in.out.len = 0;
	/* not even a line end */
	memset(message, 'x', SIZE);
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	assert_int_equal(cut(in.out.s, parts), 4);
	assert_in_range(strlen(parts[3]), BOUNCE_HEADER_MAX, BOUNCE_HEADER_MAX + 100);
	settings.max = BOUNCE_MAX;
	stralloc_free(&in.out);
	free(message);
}

static const char *const odd_messages[] = { "", "\n", "\nbody", "no end of line", "A: b\n", "A: b\n\n" };

static void
odd_messages_come_back_as_they_are(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof odd_messages / sizeof *odd_messages; i++) {
		struct input in = input_of(&ann, 1, odd_messages[i]);
		char *parts[5], want[200];

		assert_int_equal(write_bounce(&in, "b@x", BOUNCE_SINGLE), 1);
		assert_int_equal(cut(in.out.s, parts), 4);
		snprintf(want, sizeof want, "Content-Type: message/rfc822\n\nReturn-Path: <b@x>\n%s", odd_messages[i]);
		assert_string_equal(parts[3], want);
		in.out.len = 0;
		settings.max = 0;	/* no limit */
		assert_int_equal(write_bounce(&in, "b@x", BOUNCE_SINGLE), 1);
		settings.max = BOUNCE_MAX;
		stralloc_free(&in.out);
	}
}

static void
without_the_message(void **state)
{
	struct input in = input_of(&ann, 1, small_message);
	struct bounce b = {
		.settings = &settings, .kind = BOUNCE_SINGLE, .number = 42, .sender = "bob@x", .size = in.size,
		.without_message = 1, .data = &in, .recipient = recipient, .read = read_message, .put = put,
	};
	const char *parameters;
	char *parts[5];

	(void)state;
	in.broken = 1;
	assert_int_equal(bounce_write(&b, &parameters), 1);
	stralloc_0(&in.out);
	assert_int_equal(cut(in.out.s, parts), 3);
	assert_null(strstr(parts[1], "copy"));
	stralloc_free(&in.out);
}

static void
a_message_that_cannot_be_read(void **state)
{
	struct input in = input_of(&ann, 1, small_message);

	(void)state;
	in.broken = 1;
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 0);
	assert_int_equal(errno, EIO);
	stralloc_free(&in.out);
}

static void
long_lines_are_broken(void **state)
{
	static char text[10000];
	struct bounce_recipient r = { .address = "ann@far.example", .text = text, .text_len = sizeof text };
	struct input in = input_of(&r, 1, small_message);

	(void)state;
	memset(text, 'x', sizeof text);
	assert_int_equal(write_bounce(&in, "bob@here.example", BOUNCE_SINGLE), 1);
	for (char *line = in.out.s, *lf; (lf = strchr(line, '\n')); line = lf + 1)
		assert_true(lf - line <= 998);
	stralloc_free(&in.out);
}

/* --- envelopes, kinds, addresses -------------------------------------------------------------------- */

static const struct envelope_row { const char *rule, *sender; enum bounce_kind kind; const char *from, *to; } envelope_rows[] = {
	{ "envelope: single", "bob@here.example", BOUNCE_SINGLE, "", "bob@here.example" },
	{ "envelope: VERP", "list-@here.example-@[]", BOUNCE_SINGLE, "", "list-@here.example" },
	{ "envelope: double", "", BOUNCE_DOUBLE, "#@[]", "postmaster@mail.example" },
	{ "envelope: triple", "#@[]", BOUNCE_TRIPLE, NULL, NULL },
};

static void
envelope_row(void **state)
{
	const struct envelope_row *row = *state;
	stralloc from = STRALLOC_ZERO, to = STRALLOC_ZERO;

	assert_int_equal(bounce_kind_of(&settings, row->sender), row->kind);
	if (!row->from)
		return;
	assert_int_equal(bounce_envelope(&settings, row->kind, row->sender, &from, &to), 1);
	assert_string_equal(from.s, row->from);
	assert_string_equal(to.s, row->to);
	stralloc_free(&from);
	stralloc_free(&to);
}

static const struct to_row { const char *rule, *sender, *want; } to_rows[] = {
	{ "To: quoted where it has to be", "a b\"c\\d@x.example", "To: \"a b\\\"c\\\\d\"@x.example\n" },
	{ "To: no field can be smuggled in", "a\nBcc: all@x", "To: \"a_Bcc: all\"@x\n" },
	{ "To: nor by the domain", "a@x\nBcc: all", "To: a@x_Bcc: all\n" },
	{ "To: VERP", "list-@here.example-@[]", "To: list-@here.example\n" },
};

/* An address of a queue that is longer than any of SMTP, and twice as long once it is quoted. */
static void
to_without_room(void **state)
{
	static const char want[] = "To: undisclosed-recipients:;\n";
	struct input in = input_of(&ann, 1, small_message);
	char sender[QUEUE_ADDRESS_MAX + 1];

	(void)state;
	memset(sender, '"', sizeof sender);
	memcpy(sender + sizeof sender - sizeof "@x", "@x", sizeof "@x");
	assert_int_equal(write_bounce(&in, sender, BOUNCE_SINGLE), 1);
	assert_memory_equal(strstr(in.out.s, "To: "), want, sizeof want - 1);
	stralloc_free(&in.out);
}

static void
to_row(void **state)
{
	const struct to_row *row = *state;
	struct input in = input_of(&ann, 1, small_message);

	assert_int_equal(write_bounce(&in, row->sender, BOUNCE_SINGLE), 1);
	assert_memory_equal(strstr(in.out.s, "To: "), row->want, strlen(row->want));
	stralloc_free(&in.out);
}

static const struct file_row { const char *rule, *file, *text; int drops, plain; unsigned long max; } file_rows[] = {
	{ "files: none", NULL, NULL, 0, 0, BOUNCE_MAX },
	{ "files: doublebounceto empty", "doublebounceto", "", 1, 0, BOUNCE_MAX },
	{ "files: doublebounceto with an empty first line", "doublebounceto", "\n", 1, 0, BOUNCE_MAX },
	{ "files: doublebounceto @", "doublebounceto", "@\n", 1, 0, BOUNCE_MAX },
	{ "files: doublebounceto", "doublebounceto", "root\n", 0, 0, BOUNCE_MAX },
	{ "files: bounceformat", "bounceformat", "qsbmf\n", 0, 1, BOUNCE_MAX },
	{ "files: another bounceformat", "bounceformat", "mime\n", 0, 0, BOUNCE_MAX },
	{ "files: bouncemaxbytes", "bouncemaxbytes", "1000\n", 0, 0, 1000 },
	{ "files: no limit", "bouncemaxbytes", "0\n", 0, 0, 0 },
};

static void
file_row(void **state)
{
	const struct file_row *row = *state;
	struct bounce_settings b = { .max = 0 };
	char where[] = "/tmp/tambo-bounce-XXXXXX", path[60] = "";

	assert_non_null(mkdtemp(where));
	assert_int_equal(chdir(where), 0);
	assert_int_equal(mkdir("control", 0700), 0);
	if (row->file) {
		FILE *f;

		snprintf(path, sizeof path, "control/%s", row->file);
		f = fopen(path, "w");
		assert_non_null(f);
		fputs(row->text, f);
		fclose(f);
	}
	assert_null(bounce_load(&b));
	assert_int_equal(b.drops_doubles, row->drops);
	assert_int_equal(bounce_kind_of(&b, ""), row->drops ? BOUNCE_DROPPED : BOUNCE_DOUBLE);
	assert_int_equal(b.is_plain, row->plain);
	assert_int_equal(b.max, row->max);
	assert_string_equal(b.from.s, "MAILER-DAEMON");
	assert_string_equal(b.host.s, "bouncehost");
	bounce_free(&b);
	unlink(path);
	rmdir("control");
	assert_int_equal(chdir("/"), 0);
	rmdir(where);
}

#define COUNT(rows) (sizeof rows / sizeof *rows)
#define ADD(rows, function) \
	for (size_t i = 0; i < COUNT(rows); i++) \
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = function, \
		    .initial_state = (void *)(uintptr_t)&rows[i] }

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test(report_parts),
		cmocka_unit_test(header_only_beyond_the_limit),
		cmocka_unit_test(a_header_in_UTF_8_for_an_ASCII_sender), cmocka_unit_test(a_header_without_end),
		cmocka_unit_test(odd_messages_come_back_as_they_are),
		cmocka_unit_test(without_the_message),
		cmocka_unit_test(a_message_that_cannot_be_read),
		cmocka_unit_test(long_lines_are_broken), cmocka_unit_test(to_without_room),
	};
	struct CMUnitTest tests[COUNT(plain_rows) + COUNT(status_rows) + COUNT(utf8_rows) + COUNT(envelope_rows) +
	    COUNT(to_rows) + COUNT(file_rows) + COUNT(dsn_rows) + COUNT(others)];
	size_t n = 0;

	ADD(plain_rows, plain_row);
	ADD(status_rows, status_row);
	ADD(utf8_rows, utf8_row);
	ADD(envelope_rows, envelope_row);
	ADD(to_rows, to_row);
	ADD(file_rows, file_row);
	ADD(dsn_rows, dsn_row);
	memcpy(tests + n, others, sizeof others);
	return cmocka_run_group_tests_name("bounce", tests, set_up, tear_down);
}
