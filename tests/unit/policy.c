/* Which senders, recipients and clients are refused: interfaces sections 2, 11 and 24. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/policy.h"
#include "stralloc_set.h"

static void
fill(struct setting_list *list, const char *entries, size_t len)
{
	stralloc text = STRALLOC_ZERO;

	assert_true(stralloc_setb(&text, entries, len));
	assert_int_equal(control_map_build(&list->entries, &text, 0), 1);
	list->is_there = 1;
}

static void
no_complaint(void *data, const char *entry, const char *why)
{
	(void)data;
	fail_msg("%s: %s", entry, why);
}

#define FILL(list, entries) fill(list, entries, sizeof entries)	/* the last NUL ends the last entry */

static const struct relay_row { const char *rule, *address; int with_file, without; } relay_rows[] = {
	{ "a domain of the list", "a@b.example", 1, 0 },
	{ "without case", "a@B.EXAMPLE", 1, 0 },
	{ "below it", "a@x.b.example", 0, 0 },
	{ "above it", "a@example", 0, 0 },
	{ "a suffix", "a@x.y.c.example", 1, 0 },
	{ "the suffix itself", "a@c.example", 0, 0 },
	{ "a name that ends like a suffix", "a@xc.example", 0, 0 },
	{ "me", "a@me.example", 0, 1 },
	{ "me, without case", "a@ME.example", 0, 1 },
	{ "no domain", "postmaster", 1, 1 },
	{ "the last @ counts", "a@b.example@d.example", 0, 0 },
	{ "the last @ counts, the other way", "a@d.example@b.example", 1, 0 },
	{ "a percent sign does not", "a%d.example@b.example", 1, 0 },
	{ "an empty domain", "a@", 0, 0 },
	{ "dots", "a@...", 0, 0 },
};

static void
relay_row(void **state)
{
	const struct relay_row *row = *state;
	struct settings s = { .me = { .s = (char *)(uintptr_t)"me.example", .len = 10 }, .morercpthosts = { .fd = -1 } };
	size_t len = strlen(row->address);

	assert_int_equal(policy_takes_mail_for(&s, row->address, len), row->without);
	FILL(&s.lists[LIST_RCPTHOSTS], "b.example\0.c.example");
	assert_int_equal(policy_takes_mail_for(&s, row->address, len), row->with_file);
	control_map_free(&s.lists[LIST_RCPTHOSTS].entries);
}

static void
lists_of_addresses(void **state)
{
	struct settings s = { .morercpthosts = { .fd = -1 } };

	(void)state;
	assert_false(policy_is_bad_sender(&s, "a@b", 3, 0));
	FILL(&s.lists[LIST_BADMAILFROM], "Bad@b\0@c");
	FILL(&s.lists[LIST_BADMAILFROM_NORELAY], "@d");
	assert_true(policy_is_bad_sender(&s, "bad@B", 5, 1));
	assert_false(policy_is_bad_sender(&s, "good@b", 6, 1));
	assert_true(policy_is_bad_sender(&s, "any@C", 5, 1));
	assert_false(policy_is_bad_sender(&s, "any@x.c", 7, 1));
	assert_true(policy_is_bad_sender(&s, "any@d", 5, 0));
	assert_false(policy_is_bad_sender(&s, "any@d", 5, 1));
	assert_false(policy_is_bad_sender(&s, "", 0, 0));
	assert_false(policy_is_bad_recipient(&s, "bad@b", 5, 0));
	control_map_free(&s.lists[LIST_BADMAILFROM].entries);
	control_map_free(&s.lists[LIST_BADMAILFROM_NORELAY].entries);
}

static void
names_of_clients(void **state)
{
	struct settings s = { .morercpthosts = { .fd = -1 } };

	(void)state;
	FILL(&s.lists[LIST_BADHELO], "localhost\0.bad.example");
	FILL(&s.lists[LIST_BADHELO_NORELAY], "[192.0.2.1]");
	assert_true(policy_is_bad_helo(&s, "LOCALHOST", 1));
	assert_true(policy_is_bad_helo(&s, "x.y.bad.example", 1));
	assert_false(policy_is_bad_helo(&s, "bad.example", 1));
	assert_true(policy_is_bad_helo(&s, "[192.0.2.1]", 0));
	assert_false(policy_is_bad_helo(&s, "[192.0.2.1]", 1));
	control_map_free(&s.lists[LIST_BADHELO].entries);
	control_map_free(&s.lists[LIST_BADHELO_NORELAY].entries);
}

static void
expressions(void **state)
{
	static const char of_addresses[] = "!@.*\\.example$", of_hosts[] = "!\\.";
	struct settings s = { .morercpthosts = { .fd = -1 } };
	struct setting_list *senders = &s.lists[LIST_BADMAILFROM_NORELAY], *helos = &s.lists[LIST_BADHELO];

	(void)state;
	senders->is_there = helos->is_there = 1;
	assert_int_equal(expressions_read(&senders->expressions, of_addresses, sizeof of_addresses, EXPRESSIONS_OF_ADDRESSES,
	    no_complaint, NULL), 1);
	assert_int_equal(expressions_read(&helos->expressions, of_hosts, sizeof of_hosts, EXPRESSIONS_OF_HOSTS, no_complaint, NULL), 1);
	assert_false(policy_is_bad_sender(&s, "a@b.example", 11, 0));
	assert_true(policy_is_bad_sender(&s, "a@b.test", 8, 0));
	assert_false(policy_is_bad_sender(&s, "a@b.test", 8, 1));
	assert_false(policy_is_bad_sender(&s, "", 0, 0));
	assert_false(policy_is_bad_recipient(&s, "a@b.test", 8, 0));
	assert_true(policy_is_bad_helo(&s, "localhost", 1));
	assert_false(policy_is_bad_helo(&s, "a.b", 1));
	senders->is_there = helos->is_there = 0;
	assert_false(policy_is_bad_sender(&s, "a@b.test", 8, 0));
	assert_false(policy_is_bad_helo(&s, "localhost", 1));
	expressions_free(&senders->expressions);
	expressions_free(&helos->expressions);
}

static void
postmaster(void **state)
{
	(void)state;
	assert_true(policy_is_postmaster("postmaster", 10));
	assert_true(policy_is_postmaster("PostMaster@x", 12));
	assert_false(policy_is_postmaster("postmasters", 11));
	assert_false(policy_is_postmaster("postmaster@a@b", 14));
	assert_false(policy_is_postmaster("", 0));
}

enum { ROWS = sizeof relay_rows / sizeof *relay_rows };

int
main(void)
{
	struct CMUnitTest tests[ROWS + 4];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = relay_rows[i].rule, .test_func = relay_row,
		    .initial_state = (void *)(uintptr_t)&relay_rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(lists_of_addresses);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(names_of_clients);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(postmaster);
	tests[ROWS + 3] = (struct CMUnitTest)cmocka_unit_test(expressions);
	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
