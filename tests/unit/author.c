/* Who a message says has written it, and whether that is one of the owner's addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/smtpd/author.h"

static struct author author;
static char asked[200];		/* addresses, with a bar behind each */
static unsigned int questions;

/* a@x.test and b@x.test are the owner's; of c@x.test nobody knows. */
static enum submission_answer
owner(void *data, const char *address)
{
	size_t len = strlen(asked);

	assert_ptr_equal(data, &author);
	snprintf(asked + len, sizeof asked - len, "%s|", address);
	questions++;
	if (strcmp(address, "c@x.test") == 0)
		return SUBMISSION_UNKNOWN;
	return strcmp(address, "a@x.test") == 0 || strcmp(address, "b@x.test") == 0 || !*address ? SUBMISSION_YES : SUBMISSION_NO;
}

static void
put(struct author_field *f, const char *body)
{
	author_begin(f);
	author_take(f, body, strlen(body));
}

static int
begin(void **state)
{
	(void)state;
	asked[0] = '\0';
	questions = 0;
	return 0;
}

static int
end(void **state)
{
	(void)state;
	author_free(&author);
	return 0;
}

/* from, sender: NULL: there is none. */
static const struct row { const char *rule, *from, *sender, *asked; int by_sender; enum submission_answer want; } rows[] = {
	{ "its own", ": a@x.test\n", NULL, "a@x.test|", 0, SUBMISSION_YES },
	{ "with a name and a comment", ":\n Ann \"x\" <a@x.test> (me)\n", NULL, "a@x.test|", 0, SUBMISSION_YES },
	{ "quotes that need not be", ": \"a\"@x.test\n", NULL, "a@x.test|", 0, SUBMISSION_YES },
	{ "another's", ": d@x.test\n", NULL, "d@x.test|", 0, SUBMISSION_NO },
	{ "another's behind a name like its own", ": \"a@x.test\" <d@x.test>\n", NULL, "d@x.test|", 0, SUBMISSION_NO },
	{ "two of its own", ": a@x.test, b@x.test\n", NULL, "a@x.test|b@x.test|", 0, SUBMISSION_YES },
	{ "another's behind its own", ": a@x.test,\n d@x.test, b@x.test\n", NULL, "a@x.test|d@x.test|", 0, SUBMISSION_NO },
	{ "one that cannot be known", ": a@x.test, c@x.test, d@x.test\n", NULL, "a@x.test|c@x.test|", 0, SUBMISSION_UNKNOWN },
	{ "a group of its own", ": us: a@x.test, b@x.test;\n", NULL, "a@x.test|b@x.test|", 0, SUBMISSION_YES },
	{ "a group of nobody", ": nobody:;\n", NULL, "", 0, SUBMISSION_NO },
	{ "nothing", ":\n", NULL, "", 0, SUBMISSION_NO },
	{ "no field", NULL, NULL, "", 0, SUBMISSION_NO },
	{ "no address", ": <>\n", NULL, "", 0, SUBMISSION_NO },
	{ "what cannot be read", ": \"a@x.test\n", NULL, "", 0, SUBMISSION_NO },
	{ "what cannot be read behind its own", ": a@x.test, \"\n", NULL, "a@x.test|", 0, SUBMISSION_NO },
	{ "a Sender that is not looked at", ": d@x.test\n", ": a@x.test\n", "d@x.test|", 0, SUBMISSION_NO },
	{ "and one of somebody else", ": a@x.test\n", ": d@x.test\n", "a@x.test|", 0, SUBMISSION_YES },
	{ "by Sender", ": d@x.test\n", ": a@x.test\n", "a@x.test|", 1, SUBMISSION_YES },
	{ "by another's Sender", ": a@x.test\n", ": d@x.test\n", "d@x.test|", 1, SUBMISSION_NO },
	{ "by Sender, where there is none", ": a@x.test\n", NULL, "a@x.test|", 1, SUBMISSION_YES },
	{ "by Sender, and neither is there", NULL, NULL, "", 1, SUBMISSION_NO },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	const struct row *row = *state;

	if (row->from)
		put(&author.from, row->from);
	if (row->sender)
		put(&author.sender, row->sender);
	assert_int_equal(author_judge(&author, row->by_sender, owner, &author), row->want);
	assert_string_equal(asked, row->asked);
}

/* Which of them other programs show is theirs to say. */
static void
two_fields(void **state)
{
	(void)state;
	put(&author.from, ": a@x.test\n");
	put(&author.from, ": a@x.test\n");
	assert_int_equal(author_judge(&author, 0, owner, &author), SUBMISSION_NO);
}

static void
octet_by_octet(void **state)
{
	static const char body[] = ":\n a@x.test\n";

	(void)state;
	author_begin(&author.from);
	for (const char *s = body; *s; s++)
		author_take(&author.from, s, 1);
	assert_int_equal(author_judge(&author, 0, owner, &author), SUBMISSION_YES);
}

static void
a_NUL_in_an_address(void **state)
{
	(void)state;
	author_begin(&author.from);
	author_take(&author.from, ": \"a@x.test\0\"@y.test\n", 21);
	assert_int_equal(author_judge(&author, 0, owner, &author), SUBMISSION_NO);
	assert_string_equal(asked, "");
}

/* len octets in all; more than is kept is nobody's. */
static void
check_length(size_t len, enum submission_answer want)
{
	char *body = test_malloc(len);

	memset(body, ' ', len);
	memcpy(body, ": a@x.test", 10);
	author_begin(&author.from);
	author_take(&author.from, body, 100);
	author_take(&author.from, body + 100, len - 100);
	test_free(body);
	assert_int_equal(author_judge(&author, 0, owner, &author), want);
}

static void
the_longest_field(void **state)
{
	(void)state;
	check_length(AUTHOR_OCTETS, SUBMISSION_YES);
}

static void
a_longer_field(void **state)
{
	(void)state;
	check_length(AUTHOR_OCTETS + 1, SUBMISSION_NO);
	assert_string_equal(asked, "");
	author_take(&author.from, "x", 1);
	assert_true(author.from.body.len <= AUTHOR_OCTETS);
}

static void
an_address_above_the_bound(void **state)
{
	static char body[AUTHOR_ADDRESS_MAX + 20];

	(void)state;
	body[0] = ':';
	memset(body + 1, 'x', AUTHOR_ADDRESS_MAX - 6);
	strcpy(body + AUTHOR_ADDRESS_MAX - 5, "@x.test");
	put(&author.from, body);
	assert_int_equal(author_judge(&author, 0, owner, &author), SUBMISSION_NO);
	assert_string_equal(asked, "");
}

static void
check_number(unsigned int n, enum submission_answer want)
{
	author_begin(&author.from);
	author_take(&author.from, ":", 1);
	while (n--)
		author_take(&author.from, "a@x.test,", 9);
	assert_int_equal(author_judge(&author, 0, owner, &author), want);
	assert_int_equal(questions, AUTHOR_ADDRESSES_MAX);
}

static void
the_most_addresses(void **state)
{
	(void)state;
	check_number(AUTHOR_ADDRESSES_MAX, SUBMISSION_YES);
}

static void
one_address_more(void **state)
{
	(void)state;
	check_number(AUTHOR_ADDRESSES_MAX + 1, SUBMISSION_NO);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest others[] = {
		TEST(two_fields), TEST(octet_by_octet), TEST(a_NUL_in_an_address), TEST(the_longest_field), TEST(a_longer_field),
		TEST(an_address_above_the_bound), TEST(the_most_addresses), TEST(one_address_more),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, row_is_right, begin, end, (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("author", tests, NULL, NULL);
}
