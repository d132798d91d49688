/* The TXT records that say of which id a domain's policy is: RFC 8461 section 3.1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/remote/sts_record.h"

#define ID32 "abcdefghijklmnopqrstuvwxyzABC012"

/* want: the id, "" none. */
static const struct row { const char *rule, *texts[3], *want; } rows[] = {
	{ "of the RFC", { "v=STSv1; id=20160831085700Z;" }, "20160831085700Z" },
	{ "no end", { "v=STSv1;id=1" }, "1" },
	{ "blanks", { "v=STSv1; \t id=1 \t; " }, "1" },
	{ "other fields", { "v=STSv1; x=y; id=1; z=;" }, "" },
	{ "other fields that have values", { "v=STSv1; x=y:~; id=1; z=2=3;" }, "1" },
	{ "the first id", { "v=STSv1; id=1; id=2" }, "1" },
	{ "the longest id", { "v=STSv1; id=" ID32 }, ID32 },
	{ "a longer id", { "v=STSv1; id=" ID32 "x" }, "" },
	{ "an empty id", { "v=STSv1; id=;" }, "" },
	{ "no id", { "v=STSv1; x=y" }, "" },
	{ "nothing", { "v=STSv1;" }, "" },
	{ "another octet in the id", { "v=STSv1; id=a-b" }, "" },
	{ "a blank in a value", { "v=STSv1; id=1; x=a b" }, "" },
	{ "an octet above ASCII", { "v=STSv1; id=1; x=\xff" }, "" },
	{ "no field", { "v=STSv1; id=1; x" }, "" },
	{ "no field between", { "v=STSv1;; id=1" }, "" },
	{ "the version in small letters", { "v=stsv1; id=1" }, "" },
	{ "another version", { "v=STSv2; id=1" }, "" },
	{ "a blank before", { " v=STSv1; id=1" }, "" },
	{ "other records", { "v=spf1 -all", "v=STSv1; id=1", "" }, "1" },
	{ "two records", { "v=STSv1; id=1", "v=STSv1; id=1" }, "" },
	{ "three records", { "v=STSv1; id=1", "v=STSv1; id=2", "v=STSv1; id=3" }, "" },
	{ "one of two is damaged", { "v=STSv1; id=1", "v=STSv1; id=" }, "" },
	{ "none", { NULL }, "" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
read_row(void **state)
{
	const struct row *row = *state;
	struct dns_record records[3];
	struct dns_question q = { .kind = DNS_FOUND, .records = records };
	char id[STS_ID_MAX + 1];

	for (; q.records_len < 3 && row->texts[q.records_len]; q.records_len++) {
		size_t len = strlen(row->texts[q.records_len]);
		char *text = memcpy(test_malloc(len + !len), row->texts[q.records_len], len);	/* exact size: ASan sees over-reads */

		records[q.records_len] = (struct dns_record){ .text = text, .len = len };
	}
	sts_record_id(id, &q);
	assert_string_equal(id, row->want);
	q.kind = DNS_TEMPORARY;
	sts_record_id(id, &q);
	assert_string_equal(id, "");
	while (q.records_len)
		test_free((void *)(uintptr_t)records[--q.records_len].text);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = read_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("sts_record", tests, NULL, NULL);
}
