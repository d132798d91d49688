/* What became of a message's recipients, as a worker answers it and as qmail-remote prints it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/remote/remote_report.h"
#include "bin-src/remote/report.h"

/* recipients: own letter and message's letter of each ('-': none). printed: '|' for NUL. answers: letter, text of each. The text
 * of a recipient is "oN ", that of a message "mN ". */
static const struct row { const char *rule, *recipients, *printed, *answers; } rows[] = {
	{ "all accepted", "rK rK", "r|r|Km0 |", "Km0 ;Km1 ;" },
	{ "one refused", "rK hK", "r|ho1 |Km0 |", "Km0 ;Do1 ;" },
	{ "one refused, one deferred, none accepted", "hD sD", "ho0 |so1 |Dm0 |", "Do0 m0 ;Zo1 m1 ;" },
	{ "sender refused", "-D -D", "Dm0 |", "Dm0 ;Dm1 ;" },
	{ "sender deferred", "-Z -Z", "Zm0 |", "Zm0 ;Zm1 ;" },
	{ "message refused after one recipient was", "hD rD", "ho0 |r|Dm0 |", "Do0 m0 ;Dm1 ;" },
	{ "to a host with DSN", "rk hk", "r|ho1 |Km0 |", "km0 ;Do1 ;" },
	{ "two transactions, the second failed", "rK rZ", "r|sm1 |Km0 |", "Km0 ;Zm1 ;" },
	{ "two transactions, the second refused", "rK rD", "r|hm1 |Km0 |", "Km0 ;Dm1 ;" },
	{ "the first one failed", "rZ rK", "sm0 |r|Km1 |", "Zm0 ;Km1 ;" },
	{ "the second transaction did not begin", "rK -Z", "r|sm1 |Km0 |", "Km0 ;Zm1 ;" },
	{ "the second sender was refused", "rK -D", "r|hm1 |Km0 |", "Km0 ;Dm1 ;" },
	{ "nothing is known", "-- --", "ZNothing is known about the message. (#4.3.0)\n|", "Z;Z;" },
	{ "nothing is known of one", "rK --", "r|s|Km0 |", "Km0 ;Z;" },
	{ "one sender refused, another deferred", "-D -Z", "h|sm1 |Dm0 |", "Dm0 ;Zm1 ;" },
	{ "refused without a question, others deferred", "hD -Z", "ho0 |sm1 |Dm0 |", "Do0 m0 ;Zm1 ;" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
fill(struct report *r, const char *recipients)
{
	unsigned int len = (unsigned int)(strlen(recipients) + 1) / 3;
	char text[16];

	assert_int_equal(report_begin(r, len), 1);
	for (unsigned int n = 0; n < len; n++, recipients += 3) {
		struct report_recipient *p = &r->recipients[n];

		if (recipients[0] != '-') {
			p->own = recipients[0];
			snprintf(text, sizeof text, "o%u ", n);
			if (p->own != 'r')
				p->own_text = report_text(r, NULL, text, NULL);
		}
		if (recipients[1] != '-') {
			p->message = recipients[1];
			snprintf(text, sizeof text, "m%u ", n);
			p->message_text = report_text(r, NULL, text, NULL);
		}
	}
}

static void
report_row(void **state)
{
	const struct row *row = *state;
	struct report r = { .recipients = NULL };
	stralloc text = STRALLOC_ZERO, printed = STRALLOC_ZERO;
	char got[256] = "";
	size_t at = 0;

	fill(&r, row->recipients);
	for (unsigned int n = 0; n < r.len; n++) {
		char letter = report_outcome(&r, n, &text);

		at += (size_t)snprintf(got + at, sizeof got - at, "%c%.*s;", letter, (int)text.len, text.s ? text.s : "");
	}
	assert_string_equal(got, row->answers);
	assert_int_equal(report_print(&r, &printed), 1);
	for (size_t i = 0; i < printed.len; i++)
		got[i] = printed.s[i] ? printed.s[i] : '|';
	got[printed.len] = '\0';
	assert_string_equal(got, row->printed);
	stralloc_free(&text);
	stralloc_free(&printed);
	report_free(&r);
}

/* What is printed means to qmail-rspawn what a worker answers. */
static void
both_say_the_same(void **state)
{
	static const char own[] = "-rhs", message[] = "KkZD";
	struct report r = { .recipients = NULL };
	stralloc text = STRALLOC_ZERO, printed = STRALLOC_ZERO;

	(void)state;
	srand(3);
	for (int round = 0; round < 5000; round++) {
		char recipients[16] = "";
		unsigned int len = 1 + (unsigned int)rand() % 4;

		for (unsigned int n = 0; n < len; n++) {
			char *s = recipients + 3 * n;

			s[0] = own[rand() % 4];
			/* delivered are only those who were accepted, or others of whose transaction were */
			s[1] = message[s[0] == '-' ? 2 + rand() % 2 : rand() % 4];
			s[2] = ' ';
		}
		recipients[3 * len - 1] = '\0';
		fill(&r, recipients);
		printed.len = 0;
		assert_int_equal(report_print(&r, &printed), 1);
		for (unsigned int n = 0; n < len; n++) {
			char letter = report_outcome(&r, n, &text);

			if (letter == 'k')
				letter = 'K';
			assert_int_equal(remote_report_merge(&text, printed.s, printed.len, len, n), letter);
		}
	}
	stralloc_free(&text);
	stralloc_free(&printed);
	report_free(&r);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 1] = { cmocka_unit_test(both_say_the_same) };
	size_t n = 1;

	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = report_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return _cmocka_run_group_tests("report", tests, n, NULL, NULL);
}
