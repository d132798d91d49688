/* Whose a local part is: answers of qmail-lspawn, how long they count, how many are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/lib/job.h"
#include "bin-src/send/owner.h"

static struct owners all;

static int
init(void **state)
{
	(void)state;
	return owners_init(&all) ? 0 : -1;
}

static int
clean(void **state)
{
	(void)state;
	while (all.newest)
		owner_free(&all, all.newest);
	free(all.slots);
	return 0;
}

static struct owner *
ask(const char *local)
{
	struct owner *o = owner_get(&all, local, strlen(local));

	assert_non_null(o);
	owner_ask(&all, o);
	return o;
}

#define FACTS(user, dash, ext) user "\0" "1000\0" "1000\0" "/home/" user "\0" dash "\0" ext

static void
known_while_fresh(void **state)
{
	static const char facts[] = FACTS("ana", "-", "list-x");
	const int64_t end = 5 + (int64_t)JOB_WORKER_SECONDS * 1000;
	struct owner *o = ask("ana-list-x");

	(void)state;
	assert_null(owner_known(&all, "ana-list-x", 10, 5));
	assert_int_equal(owner_answer(&all, o, facts, sizeof facts, 5), 1);
	assert_ptr_equal(owner_known(&all, "ana-list-x", 10, 5), o);
	assert_string_equal(o->identity, "ana:1000:1000:/home/ana");
	assert_string_equal(o->dash, "-");
	assert_string_equal(o->ext, "list-x");
	assert_null(owner_known(&all, "ana-list-", 9, 5));
	assert_null(owner_known(&all, "Ana-list-x", 10, 5));
	assert_ptr_equal(owner_known(&all, "ana-list-x", 10, end - 1), o);
	assert_null(owner_known(&all, "ana-list-x", 10, end));
	all.generation++;
	assert_null(owner_known(&all, "ana-list-x", 10, 5));
	/* asked again: the old answer does not come back */
	assert_ptr_equal(ask("ana-list-x"), o);
	assert_null(owner_known(&all, "ana-list-x", 10, 5));
	assert_int_equal(owner_answer(&all, o, facts, sizeof facts, 6), 1);
	assert_ptr_equal(owner_known(&all, "ana-list-x", 10, 7), o);
}

/* Alias has what is nobody's, and the home of somebody may be made a moment later. */
static void
nobodys_is_asked_for_again_soon(void **state)
{
	static const char facts[] = FACTS("alias", "-", "nora-x");
	struct owner *o = ask("nora-x");

	(void)state;
	assert_int_equal(owner_answer(&all, o, facts, sizeof facts, 5), 1);
	assert_ptr_equal(owner_known(&all, "nora-x", 6, 5 + OWNER_NOBODY_SECONDS * 1000 - 1), o);
	assert_null(owner_known(&all, "nora-x", 6, 5 + OWNER_NOBODY_SECONDS * 1000));
}

static void
answer_from_before_a_change(void **state)
{
	static const char facts[] = FACTS("luis", "", "");
	struct owner *o = ask("luis");

	(void)state;
	all.generation++;
	assert_int_equal(owner_answer(&all, o, facts, sizeof facts, 5), 1);
	assert_null(owner_known(&all, "luis", 4, 5));
}

static const struct bad_row { const char *rule, *s; size_t len; } bad_rows[] = {
	{ "malformed: empty", "", 0 },
	{ "malformed: no NUL at all", "ana", 3 },
	{ "malformed: five fields", "ana\0001\0001\0h\0-", 11 },
	{ "malformed: the last without NUL", "ana\0001\0001\0h\0-\0x", 13 },
	{ "malformed: seven fields", "ana\0001\0001\0h\0-\0x\0y", 16 },
	{ "malformed: no user", "\0001\0001\0h\0-\0x", 11 },
};

static void
bad_row(void **state)
{
	const struct bad_row *row = *state;
	char *s = memcpy(malloc(row->len + 1), row->s, row->len);
	struct owner *o = ask("who");

	assert_int_equal(owner_answer(&all, o, s, row->len, 5), 0);
	owner_free(&all, o);
	free(s);
}

static void
the_longest_unused_goes(void **state)
{
	static const char facts[] = FACTS("ana", "-", "x");
	char local[20];

	(void)state;
	for (unsigned int i = 0; i < OWNERS_MAX + 100; i++) {
		snprintf(local, sizeof local, "ana-%u", i);
		assert_int_equal(owner_answer(&all, ask(local), facts, sizeof facts, 5), 1);
		assert_non_null(owner_known(&all, "ana-0", 5, 6));	/* used again and again */
		owners_trim(&all);
	}
	assert_true(all.count <= OWNERS_MAX);
	assert_non_null(owner_known(&all, "ana-0", 5, 6));
	assert_null(owner_known(&all, "ana-1", 5, 6));
	assert_non_null(owner_known(&all, local, strlen(local), 6));
}

int
main(void)
{
	enum { BAD = sizeof bad_rows / sizeof *bad_rows };
	struct CMUnitTest tests[BAD + 4];
	size_t n = 0;

	tests[n++] = (struct CMUnitTest)cmocka_unit_test(known_while_fresh);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(nobodys_is_asked_for_again_soon);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(answer_from_before_a_change);
	for (size_t i = 0; i < BAD; i++)
		tests[n++] = (struct CMUnitTest){ .name = bad_rows[i].rule, .test_func = bad_row,
		    .initial_state = (void *)(uintptr_t)&bad_rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_longest_unused_goes);
	return cmocka_run_group_tests_name("owner", tests, init, clean);
}
