/* Lines of control/dnsbllist, names that are asked for, and what answers mean: RFC 5782, interfaces section 17. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/dnsbl_list.h"

static const struct row { const char *rule, *line, *want; } rows[] = {
	{ "a zone", "bl.example", "451 bl.example" },
	{ "a minus", "-bl.example", "553 bl.example" },
	{ "a plus", "+wl.example", "good wl.example" },
	{ "a plus with a text", "+wl.example:our friends", "good wl.example our friends" },
	{ "an equals sign", "=bl.example", "log bl.example" },
	{ "a text", "bl.example:go away", "451 bl.example go away" },
	{ "a text with a colon", "bl.example:see http://x/", "451 bl.example see http://x/" },
	{ "a minus before the text", "bl.example:-go away", "553 bl.example go away" },
	{ "a minus at both places", "-bl.example:-go away", "553 bl.example go away" },
	{ "a minus before the text of a list for the log", "=bl.example:-x", "log bl.example x" },
	{ "blanks around", " \tbl.example \t\r", "451 bl.example" },
	{ "a comment behind", "bl.example # ours", "451 bl.example" },
	{ "a comment", "# bl.example", "nothing" },
	{ "a comment with a colon", "bl.example # ours: see there", "451 bl.example" },
	{ "a code in the text", "-bl.example:blocked (#5.7.1)", "553 bl.example blocked (#5.7.1)" },
	{ "blanks", "  ", "nothing" },
	{ "an empty line", "", "nothing" },
	{ "an empty text", "bl.example:", "malformed" },
	{ "a minus without a text", "bl.example:-", "malformed" },
	{ "no zone", "-", "malformed" },
	{ "no zone, but a text", ":text", "malformed" },
	{ "a final dot", "bl.example.", "malformed" },
	{ "two dots", "bl..example", "malformed" },
	{ "a blank in the zone", "bl example", "malformed" },
	{ "control octets in the text", "bl.example:a\1b", "451 bl.example a?b" },
	{ "a label above 63", "0123456789012345678901234567890123456789012345678901234567890123.example", "malformed" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
parse_row(void **state)
{
	static const char *const kinds[] = { "451", "553", "log", "good" };
	const struct row *row = *state;
	struct dnsbl_list list;
	char got[1024] = "nothing";
	int r = dnsbl_list_parse(&list, row->line);

	if (r < 0)
		strcpy(got, "malformed");
	else if (r > 0)
		snprintf(got, sizeof got, "%s %s%s%s", kinds[list.kind], list.zone, *list.text ? " " : "", list.text);
	assert_string_equal(got, row->want);
}

static void
longest_zone(void **state)
{
	char line[400] = "", name[DNS_NAME_MAX + 1];
	struct dnsbl_list list;
	ip46 client;

	(void)state;
	while (strlen(line) < DNS_NAME_MAX - DNSBL_REVERSED - 1)
		strcat(line, "a.");
	strcat(line, "b");
	assert_int_equal(strlen(line), DNS_NAME_MAX - DNSBL_REVERSED);
	assert_int_equal(dnsbl_list_parse(&list, line), 1);
	assert_true(ip46_scan("2001:db8::1", &client));
	dnsbl_list_name(name, &list, &client);
	assert_int_equal(strlen(name), DNS_NAME_MAX);
	strcat(line, "b");
	assert_int_equal(dnsbl_list_parse(&list, line), -1);
}

static void
names(void **state)
{
	struct dnsbl_list list = { .zone = "bl.example" };
	char name[DNS_NAME_MAX + 1];
	ip46 client;

	(void)state;
	assert_true(ip46_scan("192.0.2.99", &client));
	dnsbl_list_name(name, &list, &client);
	assert_string_equal(name, "99.2.0.192.bl.example");
	assert_true(ip46_scan("2001:db8:1:2:3:4:567:89ab", &client));
	dnsbl_list_name(name, &list, &client);	/* the example of RFC 5782 section 2.4 */
	assert_string_equal(name, "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example");
}

/* "a" and "t": what the DNS says of A and TXT: an address, "none", "no name", "silent"; a text. */
static const struct answer_row { const char *rule, *a, *t; enum dnsbl_state want; } answers[] = {
	{ "both", "127.0.0.2", "text", DNSBL_PRESENT },
	{ "an address without a text", "127.0.0.2", "none", DNSBL_ABSENT },
	{ "a text only", "none", "text", DNSBL_PRESENT },
	{ "neither", "none", "none", DNSBL_ABSENT },
	{ "no such name", "no name", "silent", DNSBL_ABSENT },
	{ "a listed one whose text is silent", "127.0.0.2", "silent", DNSBL_PRESENT },
	{ "a silent address", "silent", "text", DNSBL_SILENT },
	{ "all silent", "silent", "silent", DNSBL_SILENT },
	{ "no text, and a silent address", "silent", "none", DNSBL_ABSENT },
	{ "no address, and a silent text", "none", "silent", DNSBL_SILENT },
	{ "a domain that was sold", "192.0.2.1", "text", DNSBL_ABSENT },
	{ "the list refuses to answer", "127.255.255.254", "text", DNSBL_ABSENT },
	{ "address list: listed", "127.0.0.4", NULL, DNSBL_PRESENT },
	{ "address list: not listed", "none", NULL, DNSBL_ABSENT },
	{ "address list: silent", "silent", NULL, DNSBL_SILENT },
	{ "address list: sold", "192.0.2.1", NULL, DNSBL_ABSENT },
};
enum { ANSWERS = sizeof answers / sizeof *answers };

static void
fill(struct dns_question *q, struct dns_record *record, const char *s, char ip[4])
{
	static const char *const words[] = { "none", "no name", "silent" };
	static const enum dns_kind kinds[] = { DNS_NO_DATA, DNS_NO_NAME, DNS_TEMPORARY };
	ip46 address;

	*q = (struct dns_question){ .kind = DNS_FOUND, .records = record, .records_len = 1 };
	*record = (struct dns_record){ .text = s, .len = strlen(s) };
	for (int i = 0; i < 3; i++)
		if (strcmp(s, words[i]) == 0)
			*q = (struct dns_question){ .kind = kinds[i] };
	if (ip && q->kind == DNS_FOUND) {
		assert_true(ip46_scan(s, &address));
		memcpy(ip, address.ip, 4);
		*record = (struct dns_record){ .text = ip, .len = 4 };
	}
}

static void
judge_row(void **state)
{
	const struct answer_row *row = *state;
	struct dns_record records[2];
	struct dns_question a, t;
	char ip[4];

	fill(&a, &records[0], row->a, ip);
	if (row->t)
		fill(&t, &records[1], row->t, NULL);
	assert_int_equal(dnsbl_list_judge(&a, row->t ? &t : NULL), row->want);
}

static void
texts(void **state)
{
	struct dnsbl_list list = { .zone = "bl.example", .text = "%IP% is bad, %IP%!" };
	char text[DNSBL_TEXT_MAX], huge[1000];
	struct dns_record record = { .text = "250 ok\r\n\0\377", .len = 10 };
	struct dns_question txt = { .kind = DNS_FOUND, .records = &record, .records_len = 1 };
	ip46 client;

	(void)state;
	assert_true(ip46_scan("192.0.2.99", &client));
	dnsbl_list_text(text, &list, &client, NULL);
	assert_string_equal(text, "192.0.2.99 is bad, 192.0.2.99!");
	list.text[0] = '\0';
	dnsbl_list_text(text, &list, &client, &txt);
	assert_string_equal(text, "250 ok????");
	dnsbl_list_text(text, &list, &client, &(struct dns_question){ .kind = DNS_TEMPORARY });
	assert_string_equal(text, "bl.example");
	memset(huge, 'x', sizeof huge);
	record = (struct dns_record){ .text = huge, .len = sizeof huge };
	dnsbl_list_text(text, &list, &client, &txt);
	assert_int_equal(strlen(text), DNSBL_TEXT_MAX - 1);
	for (size_t i = 0; i + 4 < sizeof list.text; i += 4)
		memcpy(list.text + i, "%IP%", 5);
	dnsbl_list_text(text, &list, &client, NULL);
	assert_int_equal(strlen(text), DNSBL_TEXT_MAX - 1);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + ANSWERS + 3] = {
		[ROWS + ANSWERS] = cmocka_unit_test(longest_zone), cmocka_unit_test(names), cmocka_unit_test(texts),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = parse_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < ANSWERS; i++)
		tests[ROWS + i] = (struct CMUnitTest){ .name = answers[i].rule, .test_func = judge_row,
		    .initial_state = (void *)(uintptr_t)&answers[i] };
	return cmocka_run_group_tests_name("dnsbl", tests, NULL, NULL);
}
