/* What a submitted message gets and loses, whole and octet by octet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/completion.h"

#define DATE "Date: Thu, 1 Jan 1970 00:00:01 -0000\n"
#define ID "Message-ID: <19700101000001.7.qmail@me.test>\n"
#define HAS "Date: x\nMessage-ID: <y>\n"
#define N50 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
#define N256 N50 N50 N50 N50 N50 "nnnnnn"

static const struct row { const char *rule, *input, *want; } rows[] = {
	{ "all is there", HAS "Subject: a\n\nbody\n", HAS "Subject: a\n\nbody\n" },
	{ "in any case", "dAtE:x\nmessage-id:<y>\n\nbody\n", "dAtE:x\nmessage-id:<y>\n\nbody\n" },
	{ "blanks before the colon", "Date : x\nMessage-ID\t:<y>\n\n", "Date : x\nMessage-ID\t:<y>\n\n" },
	{ "nothing is there", "To: a\n\nbody\n", "To: a\n" DATE ID "\nbody\n" },
	{ "a Date only", "Date: x\n\nb\n", "Date: x\n" ID "\nb\n" },
	{ "a Message-ID only", "Message-ID: <y>\n\nb\n", "Message-ID: <y>\n" DATE "\nb\n" },
	{ "other names that begin or end so", "Dates: x\nX-Message-ID: y\nResent-Date: z\n\n", "Dates: x\nX-Message-ID: y\nResent-Date: z\n" DATE ID "\n" },
	{ "in the body they do not count", "To: a\n\n" HAS, "To: a\n" DATE ID "\n" HAS },
	{ "no header", "\nbody\n", DATE ID "\nbody\n" },
	{ "no body", "To: a\n", "To: a\n" DATE ID },
	{ "no body, but a line that does not end", "To: a", "To: a\n" DATE ID },
	{ "nothing at all", "", DATE ID },
	{ "Bcc", HAS "Bcc: eve@x.test\nTo: a\n\nb\n", HAS "To: a\n\nb\n" },
	{ "Bcc that is folded", HAS "bcc: eve@x.test,\n\tluis@x.test\n ,c\nTo: a\n b\n\n", HAS "To: a\n b\n\n" },
	{ "Bcc several times", "BCC:a\n" HAS "Bcc :b\nBcc:\n\nb\n", HAS "\nb\n" },
	{ "Resent-Bcc", HAS "Resent-Bcc: a\n\n", HAS "\n" },
	{ "other names with Bcc in them", HAS "Bccs: a\nX-Bcc: b\nBc: c\n\n", HAS "Bccs: a\nX-Bcc: b\nBc: c\n\n" },
	{ "a field that only tells of one", HAS "Subject: x\n Bcc: y\n\n", HAS "Subject: x\n Bcc: y\n\n" },
	{ "Bcc in the body", HAS "\nBcc: a\n", HAS "\nBcc: a\n" },
	{ "Bcc last, without a body", HAS "Bcc: a\n", HAS },
	{ "Bcc last, and it does not end", HAS "Bcc: a", HAS },
	{ "a line that is no field ends the header", HAS "hello you\nBcc: a\n\n", HAS "\nhello you\nBcc: a\n\n" },
	{ "a line without a blank and a colon", HAS "hello\n", HAS "\nhello\n" },
	{ "a body and nothing else", "hello you: x\n", DATE ID "\nhello you: x\n" },
	{ "a body and nothing else, that does not end", "hello", DATE ID "\nhello" },
	{ "a line that begins with a colon", HAS ": x\n", HAS "\n: x\n" },
	{ "a blank at the beginning of all", " x: y\n" HAS "\n", DATE ID "\n x: y\n" HAS "\n" },
	{ "a name in other letters", HAS "\xc3\xb3: y\n", HAS "\n\xc3\xb3: y\n" },
	{ "a mailbox's line", "From a@b Thu\n" HAS "\nb\n", "From a@b Thu\n" HAS "\nb\n" },
	{ "a mailbox's line that is quoted", ">From a@b Thu\n" HAS "Bcc: x\n\nb\n", ">From a@b Thu\n" HAS "\nb\n" },
	{ "a blank behind one, where no field is left", "Bcc: x\nFrom a@b Thu\n y\n\n", "From a@b Thu\n" DATE ID "\n y\n\n" },
	{ "a name of the longest length", HAS N256 ": x\n\n", HAS N256 ": x\n\n" },
	{ "and one octet more", HAS N256 "n: x\n\n", HAS "\n" N256 "n: x\n\n" },
	{ "a CR and octets above 127 in a field", HAS "X: \r\xff\n\n", HAS "X: \r\xff\n\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static char got[2000];
static size_t got_len;

static void
take(void *data, const char *s, size_t len)
{
	assert_null(data);
	assert_true(len && got_len + len < sizeof got);
	memcpy(got + got_len, s, len);
	got_len += len;
}

static const struct completion fresh = { .put = take, .time = 1, .serial = 7, .host = "me.test", .host_len = 7 };

static void
expect(const char *input, size_t step, const char *want)
{
	struct completion c = fresh;
	size_t len = strlen(input);

	got_len = 0;
	for (size_t i = 0; i < len; i += step)
		completion_take(&c, input + i, len - i < step ? len - i : step);
	completion_finish(&c);
	got[got_len] = '\0';
	assert_string_equal(got, want);
	assert_false(c.has_no_memory);
}

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	for (size_t step = 1; step < 8; step++)
		expect(row->input, step, row->want);
	expect(row->input, sizeof got, row->want);
}

/* A NUL is an octet as any other. */
static void
a_NUL(void **state)
{
	static const char input[] = HAS "X: \0\n\n\0";
	struct completion c = fresh;

	(void)state;
	got_len = 0;
	completion_take(&c, input, sizeof input - 1);
	completion_finish(&c);
	assert_int_equal(got_len, sizeof input - 1);
	assert_memory_equal(got, input, got_len);
}

/* The fields that say who has written a message, and no others; all are handed on. */
static void
check_author(size_t step, const char *input, unsigned int froms, const char *from, const char *sender)
{
	struct author author = { .from = { .count = 0 } };
	struct completion c = fresh;
	size_t len = strlen(input);

	c.author = &author;
	got_len = 0;
	for (size_t i = 0; i < len; i += step)
		completion_take(&c, input + i, len - i < step ? len - i : step);
	completion_finish(&c);
	assert_int_equal(got_len, len + (input[len - 1] != '\n'));
	assert_memory_equal(got, input, len);
	assert_int_equal(author.from.count, froms);
	assert_int_equal(author.from.body.len, strlen(from));
	assert_memory_equal(author.from.body.s, from, strlen(from));
	assert_int_equal(author.sender.body.len, strlen(sender));
	assert_memory_equal(author.sender.body.s, sender, strlen(sender));
	author_free(&author);
}

static void
who_has_written_it(void **state)
{
	(void)state;
	for (size_t step = 1; step < 9; step++) {
		check_author(step, HAS "From: a\n b\n\tc\nTo: d\n e\nSENDER : s\n\nFrom: x\n", 1, ": a\n b\n\tc\n", ": s\n");
		check_author(step, HAS "From: a, b\\", 1, ": a, b\\\n", "");	/* with the end of line that it gets */
		check_author(step, HAS "Sender:\nfrom:a\nX-From: y\nFrom:b\nResent-From: z\n\n", 2, ":a\n", ":\n");
		check_author(step, ">From a@b:\n" HAS "From: a\nSubject: s\n From: g\nSender: x\n\n", 1, ": a\n", ": x\n");
		check_author(step, HAS "From: a\nFrom a@b: c\n d\nSender: x\n\n", 1, ": a\n", ": x\n");
	}
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = row_is_right, .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(a_NUL);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(who_has_written_it);
	return cmocka_run_group_tests_name("completion", tests, NULL, NULL);
}
