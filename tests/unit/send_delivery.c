/* Recipients on their way to workers: owners, jobs, answers, and what a failure means for the others that wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/send/delivery.h"
#include "bin-src/send/keeper.h"
#include "bin-src/send/pass.h"
#include "bin-src/send/worker.h"
#include "directory.h"
#include "sending.h"
#include "stored.h"
#include "stralloc_set.h"

static struct channel worker;

static struct destination *
far(void)
{
	return destination_get(&sending->destinations, ROUTE_REMOTE, "far.example", 11);
}

/* Starts the worker that was asked for, and gives it what it may have. */
static void
start(enum route_channel channel)
{
	sending_start(channel, &worker);
	sending_turn();
}

/* --- owners -------------------------------------------------------------------------- */

static void
without_a_local_part_it_is_taken_for_nobody(void **state)
{
	(void)state;
	sending_connect();
	sending_message(1, "s@x", "@here.example", NULL);
	sending_turn();
	assert_int_equal(sending_logged("starting delivery 1: msg 1 to local @here.example\ndelivery 1: success: \nend msg 1\n"), 1);
	sending_expect_nothing(&sending_spawners[ROUTE_LOCAL]);
}

static void
so_many_questions_wait_for_an_answer(void **state)
{
	char address[40];

	(void)state;
	sending_connect();
	for (unsigned int i = 0; i < WORKER_WHO_MAX + 2; i++) {
		snprintf(address, sizeof address, "user%u@here.example", i);
		sending_message(1 + i, "s@x", address, NULL);
	}
	/* who waits for the same answer asks nothing */
	sending_message(1000, "s@x", "user0@here.example", NULL);
	sending_turn();
	for (unsigned int i = 0; i < WORKER_WHO_MAX; i++)
		sending_answer_who();
	sending_expect_nothing(&sending_spawners[ROUTE_LOCAL]);
	assert_int_equal(sending->asked, WORKER_WHO_MAX);
	sending_turn();
	assert_int_equal(sending->asked, 0);
	sending->destinations.channels[ROUTE_LOCAL].limit = 0;	/* only questions from now on */
	sending_turn();
	sending_answer_who();
	sending_answer_who();
	sending_expect_nothing(&sending_spawners[ROUTE_LOCAL]);
}

/* Answers of qmail-lspawn about ana, and what becomes of the recipient. */
#define STRINGS(s) s, sizeof s - 1
static const struct owner_row { const char *rule; char type; const char *text; size_t len; const char *logged; } owner_rows[] = {
	{ "not now", SPAWN_TEMP, STRINGS("no memory"), "delivery 1: deferral: no_memory\n" },
	{ "never", SPAWN_PERM, STRINGS("no such user"), "delivery 1: failure: no_such_user\n" },
	{ "strings are missing", SPAWN_OK, STRINGS("ana\0001\0001\0/home\0-\0"),
	    "delivery 1: deferral: The_answer_of_qmail-lspawn_cannot_be_used._(#4.3.0)/\n" },
	{ "a string too many", SPAWN_OK, STRINGS("ana\0001\0001\0/home\0\0\0x\0"),
	    "delivery 1: deferral: The_answer_of_qmail-lspawn_cannot_be_used._(#4.3.0)/\n" },
	{ "the last string has no end", SPAWN_OK, STRINGS("ana\0001\0001\0/home\0-\0x"),
	    "delivery 1: deferral: The_answer_of_qmail-lspawn_cannot_be_used._(#4.3.0)/\n" },
	{ "nobody's name", SPAWN_OK, STRINGS("\0001\0001\0/home\0\0\0"),
	    "delivery 1: deferral: The_answer_of_qmail-lspawn_cannot_be_used._(#4.3.0)/\n" },
};
enum { OWNER_ROWS = sizeof owner_rows / sizeof *owner_rows };

static void
owner_row(void **state)
{
	const struct owner_row *row = *state;
	struct channel *spawner = &sending_spawners[ROUTE_LOCAL];
	struct channel_frame f;
	char s[100];

	sending_connect();
	sending_message(1, "s@x", "ana@here.example", NULL);
	sending_turn();
	f = sending_expect(spawner, SPAWN_WHO);
	memcpy(s, f.s, 4);
	memcpy(s + 4, row->text, row->len);
	sending_say(spawner, row->type, s, 4 + row->len);
	sending_turn();
	assert_int_equal(sending_logged(row->logged), 1);
	assert_int_equal(sending->asked, 0);
	assert_int_equal(sending->owners.count, 0);
	assert_int_equal(sending->is_leaving, 0);
}

#define ANA "ana:1000:1000:/home/x"	/* as sending.c answers for qmail-lspawn */

/* Whose owner has to be asked for again keeps its place: in front, and in order. */
static void
who_was_first_is_first_again(void **state)
{
	char s[] = "____ana\0001000\0001000\0/home/x\0\0";
	struct channel_frame ana;
	struct destination *d;

	(void)state;
	sending_connect();
	for (uint64_t number = 1; number <= 3; number++)
		sending_message(number, "s@x", "ana@here.example", NULL);
	sending_turn();
	sending_answer_who();
	sending_turn();
	d = destination_get(&sending->destinations, ROUTE_LOCAL, ANA, strlen(ANA));
	assert_int_equal(d->queued, 3);
	sending->owners.generation++;
	sending_turn();
	assert_int_equal(d->queued, 0);
	sending_message(4, "s@x", "ana-y@here.example", NULL);
	sending_turn();
	/* the one that comes last is answered first */
	ana = sending_expect(&sending_spawners[ROUTE_LOCAL], SPAWN_WHO);
	memcpy(s, ana.s, 4);
	sending_answer_who();
	sending->is_leaving = 1;
	sending_turn();
	assert_int_equal(d->queued, 1);
	sending_say(&sending_spawners[ROUTE_LOCAL], SPAWN_OK, s, sizeof s);
	sending_turn();
	assert_int_equal(d->queued, 4);
	for (uint64_t number = 1; number <= 4; number++)
		assert_int_equal(recipient_message(destination_take(d))->number, number);
}

/* --- jobs -------------------------------------------------------------------------------- */

static void
a_job_takes_so_many_recipients(void **state)
{
	char address[40];
	struct job job;

	(void)state;
	sending_connect();
	sending_draft(1, "s@x");
	for (unsigned int i = 0; i < JOB_RECIPIENTS_MAX + 1; i++) {
		snprintf(address, sizeof address, "%u@far.example", i);
		sending_recipient(address, NULL);
	}
	sending_new();
	sending_turn();
	start(ROUTE_REMOTE);
	job = sending_job(&worker);
	assert_int_equal(job_remote_recipients(&job), JOB_RECIPIENTS_MAX);
	assert_string_equal(job_string(&job, job_remote_recipient(JOB_RECIPIENTS_MAX - 1)), "99@far.example");
	assert_int_equal(far()->queued, 1);
}

/* Strings of the longest: the job is parted before it is too long for its frame. */
static void
a_job_takes_so_many_octets_of_strings(void **state)
{
	char address[QUEUE_ADDRESS_MAX + 1], parameters[QUEUE_PARAMETERS_MAX + 1];
	struct job job;
	uint32_t n;

	(void)state;
	memset(address, 'a', sizeof address);
	memcpy(address + QUEUE_ADDRESS_MAX - 12, "@far.example", 13);
	memset(parameters, 'P', QUEUE_PARAMETERS_MAX);
	parameters[QUEUE_PARAMETERS_MAX] = '\0';
	sending_connect();
	sending_draft(1, "s@x");
	for (unsigned int i = 0; i < JOB_RECIPIENTS_MAX; i++)
		sending_recipient(address, parameters);
	sending_new();
	sending_turn();
	start(ROUTE_REMOTE);
	job = sending_job(&worker);
	n = job_remote_recipients(&job);
	assert_in_range(n, 2, JOB_RECIPIENTS_MAX - 1);
	assert_string_equal(job_string(&job, job_remote_recipient(n - 1)), address);
	assert_string_equal(job_string(&job, job_remote_recipient(n - 1) + 1), parameters);
	assert_int_equal(far()->queued, JOB_RECIPIENTS_MAX - n);
}

/* A line of virtualdomains whose prefix has len octets. */
static void
with_a_long_prefix(size_t len)
{
	static char line[JOB_STRINGS_MAX + 100];

	memcpy(line, "virtual.example:ana-", 20);
	memset(line + 20, 'x', len - 4);
	strcpy(line + 16 + len, "\n");
	directory_write("control/virtualdomains", line);
	assert_null(route_reload(&sending->rules));
	assert_int_equal(remove("control/virtualdomains"), 0);
}

/* One octet more, and qmail-lspawn would end because of it. */
static void
a_local_part_that_no_spawner_takes(void **state)
{
	struct channel_frame f;

	(void)state;
	sending_connect();
	with_a_long_prefix(JOB_STRINGS_MAX - 2);
	sending_message(1, "s@x", "b@virtual.example", NULL);
	sending_turn();
	f = sending_expect(&sending_spawners[ROUTE_LOCAL], SPAWN_WHO);
	assert_int_equal(f.len, 4 + JOB_STRINGS_MAX);
	with_a_long_prefix(JOB_STRINGS_MAX - 1);
	sending_message(2, "s@x", "b@virtual.example", NULL);
	sending_turn();
	sending_expect_nothing(&sending_spawners[ROUTE_LOCAL]);
	assert_int_equal(sending_logged("delivery 1: deferral: The_address_is_too_long_for_its_control_file_to_be_right._(#4.3.5)/\n"), 1);
	assert_int_equal(sending->asked, 1);
}

/* The same of a host: a recipient without '@' gets that of control/envnoathost. */
static void
a_host_that_no_spawner_takes(void **state)
{
	static char host[JOB_STRINGS_MAX + 1];
	struct channel_frame f;

	(void)state;
	sending_connect();
	memset(host, 'x', JOB_STRINGS_MAX);
	assert_int_equal(stralloc_setb(&sending->rules.envnoathost, host, JOB_STRINGS_MAX), 1);
	sending_message(1, "s@x", "b", NULL);
	sending_turn();
	f = sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_START);
	assert_int_equal(f.len, 4 + JOB_STRINGS_MAX);
	assert_int_equal(stralloc_append(&sending->rules.envnoathost, 'x'), 1);
	sending_message(2, "s@x", "b", NULL);
	sending_turn();
	sending_expect_nothing(&sending_spawners[ROUTE_REMOTE]);
	assert_int_equal(sending_logged("delivery 1: deferral: The_address_is_too_long_for_its_control_file_to_be_right._(#4.3.5)/\n"), 1);
}

static void
an_address_that_no_job_can_hold(void **state)
{
	(void)state;
	sending_connect();
	with_a_long_prefix(JOB_STRINGS_MAX / 2);	/* it is in the job twice: local part and extension */
	sending_message(1, "s@x", "b@virtual.example", NULL);
	sending_turn();
	sending_answer_who();
	sending_turns(JOB_STRINGS_MAX);
	start(ROUTE_LOCAL);
	sending_turns(JOB_STRINGS_MAX);
	sending_expect_nothing(&worker);
	assert_int_equal(sending_logged("delivery 1: deferral: The_address_is_too_long_for_its_control_file_to_be_right._(#4.3.5)/\n"), 1);
}

static void
messages_do_not_share_a_job(void **state)
{
	struct job job;

	(void)state;
	sending_connect();
	sending_message(1, "s@x", "a@far.example", "b@far.example", NULL);
	sending_message(2, "s@x", "c@far.example", NULL);
	sending_turn();
	start(ROUTE_REMOTE);
	job = sending_job(&worker);
	assert_int_equal(job_remote_recipients(&job), 2);
	sending_expect_nothing(&worker);
	assert_int_equal(far()->queued, 1);
}

static void
what_is_lost_meanwhile_is_not_given(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	m->is_lost = 1;
	start(ROUTE_REMOTE);
	sending_expect_nothing(&worker);
	assert_null(message_find(&sending->messages, 1));
	assert_int_equal(far()->idle, 1);
}

/* control/locals changed: who waits for a remote worker goes back, and is routed anew. */
static void
who_belongs_elsewhere_by_now_goes_back(void **state)
{
	struct message *m;

	(void)state;
	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	directory_write("control/locals", "here.example\nfar.example\n");
	assert_null(route_reload(&sending->rules));
	assert_int_equal(remove("control/locals"), 0);
	start(ROUTE_REMOTE);
	sending_expect_nothing(&worker);
	assert_int_equal(far()->queued, 0);
	assert_int_equal(m->active_remote, 0);
	assert_int_equal(m->due[ROUTE_REMOTE], sending->now);
	sending_turn();
	sending_expect(&sending_spawners[ROUTE_LOCAL], SPAWN_WHO);
}

/* A relay's worker looks up its relay, and what it needs for it, before it shuts itself in. */
static void
a_worker_for_a_relay_is_told_of_a_domain(void **state)
{
	struct channel_frame f;

	(void)state;
	sending_connect();
	directory_write("control/smtproutes", "far.example:relay.example\n");
	sending_message(1, "s@x", "a@Far.example", NULL);
	sending_turn();
	assert_int_equal(remove("control/smtproutes"), 0);
	f = sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_START);
	assert_int_equal(f.len, 4 + strlen("far.example"));
	assert_memory_equal(f.s + 4, "far.example", f.len - 4);
}

static void
nothing_is_given_while_the_keeper_is_behind(void **state)
{
	(void)state;
	sending_connect();
	sending->keeper.open = SEND_OPEN_MAX;
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_turn();
	sending_expect_nothing(&sending_spawners[ROUTE_REMOTE]);
	sending->keeper.open = SEND_OPEN_MAX - 1;
	sending_turn();
	sending_expect(&sending_spawners[ROUTE_REMOTE], SPAWN_START);
}

/* --- answers ------------------------------------------------------------------------------- */

/* A message to a and b at far.example; its job, which worker has. */
static struct job
with_a_job(void)
{
	sending_connect();
	sending_message(1, "s@x", "a@far.example", "b@far.example", NULL);
	sending_turn();
	start(ROUTE_REMOTE);
	return sending_job(&worker);
}

/* A failure of the destination as a whole lets the others wait; that of one recipient does not. */
static const struct judge_row { const char *rule; char letter; const char *text; unsigned int failures; } judge_rows[] = {
	{ "no answer", 'Z', "no answer (#4.4.1)", 1 },
	{ "the network", 'Z', "no route (#4.4.0)", 1 },
	{ "no directory", 'Z', "DNS (#4.4.3)", 1 },
	{ "congestion", 'Z', "busy (#4.4.5)", 1 },
	{ "a system that takes no mail", 'Z', "closing (#4.3.2)", 1 },
	{ "a connection that broke", 'Z', "it broke (#4.4.2)", 0 },
	{ "a recipient", 'Z', "full (#4.2.2)", 0 },
	{ "no status", 'Z', "later", 0 },
	{ "a code within another", 'Z', "odd (#4.4.11)", 0 },
	{ "a failure", 'D', "no (#4.4.1)", 0 },
	{ "a server that takes no mail", 'Z', "its greeting failed. (#4.3.2)\nRemote host said: 421 4.2.1 busy\n", 1 },
	{ "what a server says of one recipient", 'Z', "it does not like recipient.\nRemote host said: 450 4.4.1 no answer\n", 0 },
	{ "what a server quotes", 'Z', "it does not like recipient.\nRemote host said: 450 4.1.1 mx.far.example said: (#4.4.1)\n", 0 },
	{ "another letter", 'X', "no (#4.4.1)", 1 },
};
enum { JUDGE_ROWS = sizeof judge_rows / sizeof *judge_rows };

static void
judge_row(void **state)
{
	const struct judge_row *row = *state;
	struct job job = with_a_job();

	sending_answer(&worker, job.id, 0, row->letter, row->text);
	sending_turn();
	assert_int_equal(far()->failures, row->failures);
}

static void
what_is_no_letter_is_a_deferral_without_text(void **state)
{
	struct job job = with_a_job();
	struct message *m = message_find(&sending->messages, 1);

	(void)state;
	sending_answer(&worker, job.id, 0, '\0', "secret");
	sending_answer(&worker, job.id, 1, 'd', "secret");
	sending_turn();
	assert_int_equal(sending_logged("delivery 1: report mangled, will defer\n"), 1);
	assert_int_equal(sending_logged("delivery 2: report mangled, will defer\n"), 1);
	assert_int_equal(sending_logged("secret"), 0);
	assert_int_equal(m->todo, 2);
	keeper_flush(sending);
	sending_expect_about(SEND_DEFERRED, 1);
}

/* The first who tries again after a back-off speaks for all that wait; before that each fails alone. */
static void
one_that_probes_speaks_for_all(void **state)
{
	struct job job = with_a_job();

	(void)state;
	for (uint64_t number = 2; number <= 4; number++)
		sending_message(number, "s@x", "c@far.example", NULL);
	sending_turn();
	sending_answer(&worker, job.id, 0, 'Z', "no answer (#4.4.1)");
	sending_answer(&worker, job.id, 1, 'Z', "no answer (#4.4.1)");
	sending_turn();
	assert_int_equal(far()->queued, 3);
	assert_int_equal(sending_logged("Not_tried"), 0);
	sending_later(far()->not_before - sending->clock);
	sending_turn();
	sending_turn();
	job = sending_job(&worker);
	assert_int_equal(far()->queued, 2);
	sending_answer(&worker, job.id, 0, 'Z', "no answer again (#4.4.1)");
	sending_turn();
	assert_int_equal(far()->queued, 0);
	assert_int_equal(sending_logged(": deferral: Not_tried,_as_another_attempt_just_failed:_no_answer_again_(#4.4.1)\n"), 2);
	assert_int_equal(far()->failures, 2);
}

static void
a_success_ends_the_back_off(void **state)
{
	struct job job = with_a_job();

	(void)state;
	sending_message(2, "s@x", "c@far.example", NULL);
	sending_turn();
	sending_answer(&worker, job.id, 0, 'Z', "no answer (#4.4.1)");
	sending_turn();
	assert_true(far()->not_before > sending->clock);
	sending_answer(&worker, job.id, 1, 'K', "");
	sending_turn();
	sending_turn();
	assert_int_equal(far()->failures, 0);
	sending_job(&worker);
}

/* --- no worker ------------------------------------------------------------------------------- */

static void
refused(char letter, const char *text)
{
	delivery_refused(sending, far(), letter, text, strlen(text));
}

static void
never_a_worker_fails_the_first_only(void **state)
{
	(void)state;
	sending_connect();
	sending_message(1, "s@x", "a@far.example", NULL);
	sending_message(2, "s@x", "b@far.example", NULL);
	sending_turn();
	refused('D', "no such thing (#5.1.2)");
	assert_int_equal(sending_logged("delivery 1: failure: no_such_thing_(#5.1.2)\n"), 1);
	assert_int_equal(far()->queued, 1);
	assert_int_equal(far()->failures, 0);
	refused('D', "no such thing (#5.1.2)");
	assert_int_equal(far()->queued, 0);
	refused('D', "and nobody waits");
	assert_int_equal(sending->deliveries, 2);
}

/* The rest follows with the next failure: a turn has its limit. */
static void
no_worker_defers_so_many_at_once(void **state)
{
	enum { REFUSED_MAX = 20000 };
	struct message *m;

	(void)state;
	sending_connect();
	sending_draft(1, "s@x");
	for (unsigned int i = 0; i < REFUSED_MAX + 2; i++)
		sending_recipient("a@far.example", NULL);
	m = sending_new();
	while (pass_run(sending))
		;
	assert_int_equal(far()->queued, REFUSED_MAX + 2);
	refused('Z', "not now");
	assert_int_equal(far()->queued, 1);
	assert_int_equal(m->active_remote, 1);
	assert_int_equal(sending_logged("warning: log reader too slow"), 0);
	assert_int_equal(sending->deliveries, REFUSED_MAX + 1);
	assert_int_equal(sending_logged("delivery 1: deferral: not_now\n"), 1);
	assert_int_equal(sending_logged("delivery 2: deferral: Not_tried,_as_another_attempt_just_failed:_not_now\n"), 1);
	assert_int_equal(sending_logged("delivery 20001: deferral: Not_tried,_as_another_attempt_just_failed:_not_now\n"), 1);
}

/* --- the status line ---------------------------------------------------------------------------- */

static void
the_status_is_logged_when_it_changes(void **state)
{
	(void)state;
	delivery_status(sending);
	delivery_status(sending);
	assert_int_equal(sending_logged("status: local 0/20 remote 0/20\n"), 1);
	sending->destinations.channels[ROUTE_REMOTE].busy = 1;
	delivery_status(sending);
	delivery_status(sending);
	assert_int_equal(sending_logged("status: local 0/20 remote 1/20\n"), 1);
	sending->destinations.channels[ROUTE_LOCAL].limit = 5;
	delivery_status(sending);
	sending->is_leaving = 1;
	delivery_status(sending);
	delivery_status(sending);
	assert_int_equal(sending_logged("status: local 0/5 remote 1/20\nstatus: local 0/5 remote 1/20 exitasap\n"), 1);
	assert_int_equal(sending_logged("status: "), 4);
}

static int
end(void **state)
{
	channel_free(&worker);
	return sending_end(state);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, sending_begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(without_a_local_part_it_is_taken_for_nobody), TEST(so_many_questions_wait_for_an_answer),
		TEST(who_was_first_is_first_again), TEST(a_job_takes_so_many_recipients),
		TEST(a_job_takes_so_many_octets_of_strings), TEST(a_local_part_that_no_spawner_takes), TEST(a_host_that_no_spawner_takes),
		TEST(an_address_that_no_job_can_hold),
		TEST(messages_do_not_share_a_job), TEST(what_is_lost_meanwhile_is_not_given),
		TEST(who_belongs_elsewhere_by_now_goes_back), TEST(a_worker_for_a_relay_is_told_of_a_domain),
		TEST(nothing_is_given_while_the_keeper_is_behind),
		TEST(what_is_no_letter_is_a_deferral_without_text), TEST(one_that_probes_speaks_for_all),
		TEST(a_success_ends_the_back_off), TEST(never_a_worker_fails_the_first_only),
		TEST(no_worker_defers_so_many_at_once), TEST(the_status_is_logged_when_it_changes),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + OWNER_ROWS + JUDGE_ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < OWNER_ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ owner_rows[i].rule, owner_row, sending_begin, end,
		    (void *)(uintptr_t)&owner_rows[i] };
	for (size_t i = 0; i < JUDGE_ROWS; i++)
		all[TESTS + OWNER_ROWS + i] = (struct CMUnitTest){ judge_rows[i].rule, judge_row, sending_begin, end,
		    (void *)(uintptr_t)&judge_rows[i] };
	return cmocka_run_group_tests_name("send_delivery", all, sending_home, directory_remove);
}
