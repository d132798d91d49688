/* A server's reply, octet by octet and all at once: RFC 5321 section 4.2, row C1 of the hostile inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/remote/smtp_reply.h"

/* want: state, code, text; what is not taken follows '+'. A '~' in the input stands for NUL. */
static const struct row { const char *rule, *input, *want; } rows[] = {
	{ "one line", "250 ok\r\n", "complete 250 250 ok\n" },
	{ "several lines", "250-a\r\n250-b\r\n250 c\r\n", "complete 250 250-a\n250-b\n250 c\n" },
	{ "code alone", "250\r\n", "complete 250 250\n" },
	{ "code and blank", "250 \r\n", "complete 250 250 \n" },
	{ "code alone in the last line", "250-a\r\n250\r\n", "complete 250 250-a\n250\n" },
	{ "bare LF ends a line", "250-a\n250 b\n", "complete 250 250-a\n250 b\n" },
	{ "half a line", "250 ok", "incomplete" },
	{ "CR without LF yet", "250 ok\r", "incomplete" },
	{ "more lines are announced", "250-a\r\n", "incomplete" },
	{ "what follows stays", "250 a\r\n354 b\r\n", "complete 250 250 a\n+354 b\r\n" },
	{ "code changes", "250-a\r\n550 b\r\n", "senseless" },
	{ "code changes to alone", "250-a\r\n251\r\n", "senseless" },
	{ "no code", "hello\r\n", "senseless" },
	{ "empty line", "\r\n", "senseless" },
	{ "two digits", "25 ok\r\n", "senseless" },
	{ "four digits", "2500 ok\r\n", "senseless" },
	{ "code below 200", "150 a\r\n", "senseless" },
	{ "code above 599", "650 a\r\n", "senseless" },
	{ "a second digit above 5", "571 no\r\n", "complete 571 571 no\n" },
	{ "code of others", "299 a\r\n", "complete 299 299 a\n" },
	{ "a blank before", " 250 ok\r\n", "senseless" },
	{ "other octet after the code", "250\tok\r\n", "senseless" },
	{ "NUL", "250 a~b\r\n", "complete 250 250 a?b\n" },
	{ "NUL in the code", "2~0 a\r\n", "senseless" },
	{ "escape sequence", "250 \033[31mred\r\n", "complete 250 250 ?[31mred\n" },
	{ "bare CR", "250 a\rb\r\n", "complete 250 250 a?b\n" },
	{ "CR CR LF", "250 a\r\r\n", "complete 250 250 a?\n" },
	{ "CR in the code", "2\r50 a\r\n", "senseless" },
	{ "tab", "250 a\tb\r\n", "complete 250 250 a b\n" },
	{ "DEL and backspace", "250 a\177\b\r\n", "complete 250 250 a??\n" },
	{ "UTF-8", "550 Grüße, 日本 \360\237\230\200\r\n", "complete 550 550 Grüße, 日本 \360\237\230\200\n" },
	{ "Latin-1", "550 Gr\374\337e\r\n", "complete 550 550 Gr??e\n" },
	{ "C1 control as UTF-8", "550 a\302\233b\r\n", "complete 550 550 a??b\n" },
	{ "overlong UTF-8", "550 \300\257 \340\200\257 \360\200\200\257\r\n", "complete 550 550 ?? ??? ????\n" },
	{ "surrogate", "550 \355\240\200\r\n", "complete 550 550 ???\n" },
	{ "beyond Unicode", "550 \364\220\200\200\r\n", "complete 550 550 ????\n" },
	{ "direction of writing", "550 \342\200\256\r\n", "complete 550 550 ???\n" },
	{ "cut character", "550 a\342\200\r\n", "complete 550 550 a??\n" },
	{ "newline trick for a bounce", "550 a\n\n<b>:\n", "complete 550 550 a\n+\n<b>:\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
show(char *to, size_t room, const struct smtp_reply *reply, const char *rest, size_t len)
{
	int n = 0;

	if (reply->state == SMTP_REPLY_COMPLETE)
		n = snprintf(to, room, "complete %u %s", reply->code, reply->text);
	else
		snprintf(to, room, "%s", reply->state == SMTP_REPLY_SENSELESS ? "senseless" : "incomplete");
	if (n && len)
		snprintf(to + n, room - (size_t)n, "+%.*s", (int)len, rest);
}

static void
take_row(void **state)
{
	const struct row *row = *state;
	size_t len = strlen(row->input), used;
	char *s = memcpy(test_malloc(len), row->input, len);
	struct smtp_reply *reply = test_malloc(sizeof *reply);
	char got[512];

	for (size_t i = 0; i < len; i++)
		if (s[i] == '~')
			s[i] = '\0';
	smtp_reply_begin(reply);
	used = smtp_reply_take(reply, s, len);
	show(got, sizeof got, reply, row->input + used, len - used);
	assert_string_equal(got, row->want);

	smtp_reply_begin(reply);
	for (used = 0; used < len && reply->state == SMTP_REPLY_INCOMPLETE; used++)
		assert_int_equal(smtp_reply_take(reply, s + used, 1), 1);
	show(got, sizeof got, reply, row->input + used, len - used);
	assert_string_equal(got, row->want);
	test_free(reply);
	test_free(s);
}

/* Feeds line again and again; returns the octets taken. */
static size_t
flood(struct smtp_reply *reply, const char *line, size_t len)
{
	size_t all = 0;

	smtp_reply_begin(reply);
	while (reply->state == SMTP_REPLY_INCOMPLETE && all < 10000000)
		all += smtp_reply_take(reply, line, len);
	return all;
}

static void
bounds(void **state)
{
	struct smtp_reply *reply = test_malloc(sizeof *reply);
	char line[5000];

	(void)state;
	assert_int_equal(flood(reply, "250-x\r\n", 7), SMTP_REPLY_OCTETS_MAX + 1);
	assert_int_equal(reply->state, SMTP_REPLY_SENSELESS);
	assert_true(reply->text_len <= SMTP_REPLY_TEXT_MAX);
	smtp_reply_begin(reply);
	smtp_reply_take(reply, "250 ", 4);
	assert_int_equal(flood(reply, "5", 1), 4);

	/* a long line is cut, and does not take the room of the next */
	memset(line, 'a', sizeof line);
	memcpy(line, "550-", 4);
	memcpy(line + sizeof line - 2, "\r\n", 2);
	smtp_reply_begin(reply);
	assert_int_equal(smtp_reply_take(reply, line, sizeof line), sizeof line);
	assert_int_equal(smtp_reply_take(reply, "550 end\r\n", 9), 9);
	assert_int_equal(reply->state, SMTP_REPLY_COMPLETE);
	assert_int_equal(reply->text_len, SMTP_REPLY_LINE_MAX + 1 + 8);
	assert_string_equal(reply->text + SMTP_REPLY_LINE_MAX, "\n550 end\n");

	/* a full text stays whole lines */
	smtp_reply_begin(reply);
	for (int i = 0; i < 8; i++)
		smtp_reply_take(reply, line, sizeof line);
	smtp_reply_take(reply, "550 end\r\n", 9);
	assert_int_equal(reply->state, SMTP_REPLY_COMPLETE);
	assert_true(reply->text_len <= SMTP_REPLY_TEXT_MAX);
	assert_int_equal(reply->text[reply->text_len - 1], '\n');
	assert_int_equal(strlen(reply->text), reply->text_len);
	test_free(reply);
}

static const struct { const char *rule, *input, *status; } statuses[] = {
	{ "none", "250 ok\r\n", "" },
	{ "one", "250 2.1.5 ok\r\n", "2.1.5" },
	{ "alone", "250 2.1.5\r\n", "2.1.5" },
	{ "long parts", "550 5.123.456 no\r\n", "5.123.456" },
	{ "too long", "550 5.1234.5 no\r\n", "" },
	{ "another class", "550 4.1.1 no\r\n", "" },
	{ "an address", "550 5.1.2.3 no\r\n", "" },
	{ "code alone", "550\r\n", "" },
	{ "cut", "550 5.1\r\n", "" },
};

static void
status(void **state)
{
	struct smtp_reply *reply = test_malloc(sizeof *reply);

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
		const char *s = "";
		size_t len;
		char got[32];

		smtp_reply_begin(reply);
		smtp_reply_take(reply, statuses[i].input, strlen(statuses[i].input));
		len = smtp_reply_status(reply, &s);
		snprintf(got, sizeof got, "%.*s", (int)len, s);
		assert_string_equal(got, statuses[i].status);
	}
	test_free(reply);
}

static void
lines(void **state)
{
	static const char input[] = "250-fake\r\n250\r\n", ehlo[] = "250-fake hi\r\n250-SIZE 10\r\n250-\r\n250 DSN\r\n";
	static const char *const want[] = { "fake hi", "SIZE 10", "", "DSN" };
	struct smtp_reply *reply = test_malloc(sizeof *reply);
	const char *line;
	size_t at = 0, len, n = 0;

	(void)state;
	smtp_reply_begin(reply);
	smtp_reply_take(reply, ehlo, sizeof ehlo - 1);
	while (smtp_reply_line(reply, &at, &line, &len)) {
		assert_int_equal(len, strlen(want[n]));
		assert_memory_equal(line, want[n], len);
		n++;
	}
	assert_int_equal(n, 4);
	smtp_reply_begin(reply);
	smtp_reply_take(reply, input, sizeof input - 1);
	at = 0;
	assert_int_equal(smtp_reply_line(reply, &at, &line, &len), 1);
	assert_int_equal(smtp_reply_line(reply, &at, &line, &len), 1);
	assert_int_equal(len, 0);
	assert_int_equal(smtp_reply_line(reply, &at, &line, &len), 0);
	test_free(reply);
}

/* Any octets: bounds only, ASan watches. */
static void
random_octets(void **state)
{
	static const char alphabet[] = "2255504 --\r\n\n\t.a\0\377\302\233\342";
	struct smtp_reply *reply = test_malloc(sizeof *reply);

	(void)state;
	srand(1);
	for (int round = 0; round < 20000; round++) {
		size_t len = 1 + (size_t)(rand() % 40), used = 0;
		char *s = test_malloc(len);
		const char *text;

		for (size_t i = 0; i < len; i++)
			s[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
		smtp_reply_begin(reply);
		used = smtp_reply_take(reply, s, len);
		assert_true(used <= len);
		if (reply->state == SMTP_REPLY_COMPLETE) {
			assert_true(reply->code >= 200 && reply->code <= 599);
			assert_int_equal(strlen(reply->text), reply->text_len);
			smtp_reply_status(reply, &text);
		}
		test_free(s);
	}
	test_free(reply);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 4] = {
		cmocka_unit_test(bounds), cmocka_unit_test(status), cmocka_unit_test(lines), cmocka_unit_test(random_octets),
	};
	size_t n = 4;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = take_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return _cmocka_run_group_tests("smtp_reply", tests, n, NULL, NULL);
}
