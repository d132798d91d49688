/* What the sender wants to hear: RFC 3461 section 4.1; what a success is: sections 5.2.3, 5.2.7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "notify.h"

static const struct row { const char *rule, *parameters; unsigned int events; } rows[] = {
	{ "no parameters", "", NOTIFY_FAILURE },
	{ "no NOTIFY", "ORCPT=rfc822;a@b", NOTIFY_FAILURE },
	{ "NEVER", "NOTIFY=NEVER", 0 },
	{ "lower case", "ORCPT=rfc822;a@b NOTIFY=never", 0 },
	{ "success alone", "NOTIFY=SUCCESS", NOTIFY_SUCCESS },
	{ "all", "NOTIFY=success,DELAY,Failure ORCPT=x;y", NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY },
	{ "twice the same", "NOTIFY=DELAY,DELAY", NOTIFY_DELAY },
	{ "NEVER among others makes no sense", "NOTIFY=NEVER,SUCCESS", NOTIFY_FAILURE },
	{ "unknown", "NOTIFY=SUCCESS,WHATEVER", NOTIFY_FAILURE },
	{ "empty item", "NOTIFY=SUCCESS,", NOTIFY_FAILURE },
	{ "empty items", "NOTIFY=,", NOTIFY_FAILURE },
	{ "another keyword ends so", "XNOTIFY=NEVER", NOTIFY_FAILURE },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
check_row(void **state)
{
	const struct row *row = *state;

	assert_int_equal(notify_events(row->parameters), row->events);
}

static const struct action_row { const char *rule, *text; int is_remote; enum notify_action action; } actions[] = {
	{ "a remote host took it", "1.2.3.4 accepted message.\n", 1, NOTIFY_RELAYED },
	{ "a mailbox", "did 1+0+0\n", 0, NOTIFY_DELIVERED },
	{ "a program", "did 0+0+1\n", 0, NOTIFY_DELIVERED },
	{ "nothing at all", "did 0+0+0\n", 0, NOTIFY_DELIVERED },
	{ "forwarded", "did 0+1+0\nqp 42\n", 0, NOTIFY_EXPANDED },
	{ "forwarded to many", "did 0+10+0\nqp 42\n", 0, NOTIFY_EXPANDED },
	{ "mailbox and forward", "did 1+1+0\nqp 42\n", 0, NOTIFY_DELIVERED },
	{ "what a program said before", "did 0+1+0\nhello\ndid 0+0+1\n", 0, NOTIFY_DELIVERED },
	{ "cut off", "did 0+1+0", 0, NOTIFY_DELIVERED },
	{ "cut off early", "did ", 0, NOTIFY_DELIVERED },
	{ "no text", "", 0, NOTIFY_DELIVERED },
};
enum { ACTIONS = sizeof actions / sizeof *actions };

static void
check_action(void **state)
{
	const struct action_row *row = *state;
	size_t len = strlen(row->text);
	char *text = memcpy(test_malloc(len + 1), row->text, len);

	assert_int_equal(notify_action(row->is_remote, text, len), row->action);
	test_free(text);
}

static const struct carry_row { const char *rule; int is_recipient, is_list; const char *parameters, *want; } carries[] = {
	{ "none", 0, 0, "", "" },
	{ "alias: of the sender", 0, 0, "ENVID=q RET=HDRS SMTPUTF8 BODY=8BITMIME", "BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q" },
	{ "list: of the sender", 0, 1, "ENVID=q RET=HDRS SMTPUTF8 BODY=8BITMIME", "BODY=8BITMIME SMTPUTF8" },
	{ "alias: ORCPT", 1, 0, "ORCPT=rfc822;a@b", "ORCPT=rfc822;a@b" },
	{ "alias: no SUCCESS", 1, 0, "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b", "NOTIFY=FAILURE ORCPT=rfc822;a@b" },
	{ "alias: SUCCESS alone", 1, 0, "NOTIFY=SUCCESS", "NOTIFY=NEVER" },
	{ "alias: NEVER", 1, 0, "NOTIFY=NEVER", "NOTIFY=NEVER" },
	{ "alias: all", 1, 0, "NOTIFY=delay,failure,success", "NOTIFY=FAILURE,DELAY" },
	{ "alias: nonsense", 1, 0, "NOTIFY=MAYBE", "NOTIFY=FAILURE" },
	{ "list: of the recipient", 1, 1, "NOTIFY=NEVER ORCPT=rfc822;a@b", "" },
};
enum { CARRIES = sizeof carries / sizeof *carries };

static void
check_carry(void **state)
{
	const struct carry_row *row = *state;
	stralloc out = STRALLOC_ZERO;
	int (*carry)(stralloc *, const char *, int) = row->is_recipient ? notify_carry_recipient : notify_carry_sender;

	assert_int_equal(carry(&out, row->parameters, row->is_list) && stralloc_0(&out), 1);
	assert_string_equal(out.s, row->want);
	stralloc_free(&out);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + ACTIONS + CARRIES];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = check_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < ACTIONS; i++)
		tests[ROWS + i] = (struct CMUnitTest){ .name = actions[i].rule, .test_func = check_action,
		    .initial_state = (void *)(uintptr_t)&actions[i] };
	for (size_t i = 0; i < CARRIES; i++)
		tests[ROWS + ACTIONS + i] = (struct CMUnitTest){ .name = carries[i].rule, .test_func = check_carry,
		    .initial_state = (void *)(uintptr_t)&carries[i] };
	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
