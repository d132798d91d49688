/* What a run of qmail-remote printed, for each recipient: interfaces section 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/remote/remote_report.h"

/* report: '|' stands for NUL. want: letter and text of each recipient. */
static const struct row { const char *rule, *report; unsigned int recipients; const char *want; } rows[] = {
	{ "accepted", "r|Kaccepted|", 1, "K accepted;" },
	{ "recipient refused, message refused", "hno such user. |DGiving up.|", 1, "D no such user. Giving up.;" },
	{ "recipient deferred, message refused", "slater. |DGiving up.|", 1, "Z later. Giving up.;" },
	{ "recipient refused is certain without a message report", "hno|", 1, "D no*;" },
	{ "accepted, then deferred", "r|Zlost|", 1, "Z lost;" },
	{ "accepted, then refused", "r|Dspam|", 1, "D spam;" },
	{ "sender refused", "Dsender|", 1, "D sender;" },
	{ "message report alone", "Kok|", 1, "K ok;" },
	{ "nothing", "", 1, "Z *;" },
	{ "no NUL at the end", "r|Kok", 1, "Z *;" },
	{ "recipient only", "r|", 1, "Z *;" },
	{ "unknown letter", "x|Kok|", 1, "Z ok;" },
	{ "unknown letter for the message", "r|Qok|", 1, "Z *;" },
	{ "empty recipient report", "|Kok|", 1, "Z ok;" },
	{ "what follows is ignored", "r|Kok|Dno|", 1, "K ok;" },
	{ "small letters are recipients", "r|kok|", 1, "Z *;" },
	{ "each his own", "r|hno. |slater. |Kok|", 3, "K ok;D no. ok;Z later. ok;" },
	{ "all refused", "ha|sb|Dgive up|", 2, "D agive up;Z bgive up;" },
	{ "a recipient without a report", "r|Kok|", 2, "K ok;Z ok;" },
	{ "a recipient without a report, message refused", "r|Dno|", 2, "D no;Z no;" },
	{ "success of the message alone names nobody", "Kok|", 2, "Z ok;Z ok;" },
	{ "sender refused for all", "Dno|", 2, "D no;D no;" },
	{ "deferred for all", "Zlater|", 2, "Z later;Z later;" },
	{ "more reports than recipients", "r|h|Kok|", 1, "K ok;" },
	{ "first recipient deferred", "s|r|Kok|", 2, "Z ok;K ok;" },
};

static void
merge_row(void **state)
{
	const struct row *row = *state;
	stralloc text = STRALLOC_ZERO;
	size_t len = strlen(row->report);
	char *report = memcpy(test_malloc(len + !len), row->report, len);
	char got[512] = "";
	size_t at = 0;

	for (size_t i = 0; i < len; i++)
		if (report[i] == '|')
			report[i] = '\0';
	for (unsigned int n = 0; n < row->recipients; n++) {
		char letter = remote_report_merge(&text, report, len, row->recipients, n);
		const char *end = memmem(text.s, text.len, "qmail-remote ended", 18);
		int shown = end ? (int)(end - text.s) : (int)text.len;

		at += (size_t)snprintf(got + at, sizeof got - at, "%c %.*s%s;", letter, shown, text.s, end ? "*" : "");
	}
	stralloc_free(&text);
	test_free(report);
	assert_string_equal(got, row->want);
}

enum { ROWS = sizeof rows / sizeof *rows };

int
main(void)
{
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = merge_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("remote_report", tests, NULL, NULL);
}
