/* Bounces and reports that children submit: what is believed of what they report, how many run, and that none holds anything.
 * In most tests the test itself plays the children, and a process that does nothing stands for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "bin-src/send/bouncer.h"
#include "bin-src/send/keeper.h"
#include "bin-src/send/pass.h"
#include "directory.h"
#include "sending.h"
#include "stored.h"
#include "submitted.h"

enum { RETRY_MS = 1000 };

/* --- the children that the test plays ------------------------------------------------- */

int __wrap_pipe2(int ends[2], int flags);
int __real_pipe2(int ends[2], int flags);
pid_t __wrap_fork(void);
pid_t __real_fork(void);

static enum { PLAYED, REAL, FAILING } forks;
static struct { pid_t pid; int out; } children[2 * BOUNCER_CHILDREN];
static unsigned int started;
static int last_end;

int
__wrap_pipe2(int ends[2], int flags)
{
	int r = __real_pipe2(ends, flags);

	last_end = ends[1];
	return r;
}

int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
static int watching_fails;

int
__wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	if (!watching_fails || operation != EPOLL_CTL_ADD)
		return __real_epoll_ctl(epoll, operation, fd, event);
	errno = ENOSPC;
	return -1;
}

pid_t
__wrap_fork(void)
{
	pid_t pid;

	if (forks == FAILING) {
		errno = EAGAIN;
		return -1;
	}
	if (forks == REAL)
		return __real_fork();
	pid = __real_fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		closefrom(3);
		raise(SIGSTOP);
		_exit(1);
	}
	waitpid(pid, NULL, WUNTRACED);	/* it holds no end of the pipe any more */
	children[started].pid = pid;
	children[started++].out = fcntl(last_end, F_DUPFD_CLOEXEC, 0);
	return pid;
}

static void
close_child(unsigned int i)
{
	if (children[i].out >= 0)
		close(children[i].out);
	children[i].out = -1;
}

static int
begin(void **state)
{
	forks = PLAYED;
	started = 0;
	return sending_begin(state);
}

static int
end(void **state)
{
	for (unsigned int i = 0; i < started; i++) {
		close_child(i);
		if (children[i].pid > 0) {
			kill(children[i].pid, SIGKILL);
			waitpid(children[i].pid, NULL, 0);
		}
	}
	return sending_end(state);
}

/* Waits for the end of a child that was killed; one that was not ends by itself now. */
static void
assert_killed(unsigned int i)
{
	int status;

	kill(children[i].pid, SIGCONT);
	assert_int_equal(waitpid(children[i].pid, &status, 0), children[i].pid);
	children[i].pid = 0;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
assert_running(unsigned int i)
{
	assert_int_equal(waitpid(children[i].pid, NULL, WNOHANG), 0);
}

/* Puts a report into s; returns its octets. */
static size_t
make_report(char *s, uint64_t number, char what, uint64_t bounce, const char *text)
{
	uint64_pack_big(s, number);
	s[8] = what;
	uint64_pack_big(s + 9, bounce);
	s[17] = (char)(unsigned char)strlen(text);
	memcpy(s + 18, text, strlen(text));
	return 18 + strlen(text);
}

static void
hear(void)
{
	assert_int_equal(loop_wait(&sending->loop, 0), 1);
	keeper_flush(sending);
}

static void
say_octets(unsigned int i, const char *s, size_t len)
{
	assert_int_equal(write(children[i].out, s, len), len);
	hear();
}

static void
report(unsigned int i, uint64_t number, char what, uint64_t bounce, const char *text)
{
	char s[18 + 255];

	say_octets(i, s, make_report(s, number, what, bounce, text));
}

/* A message whose only recipient failed, and whose bounce waits. */
static struct message *
failed(uint64_t number)
{
	struct message *m;

	if (sending->keeper.channel.fd < 0)
		sending_connect();
	m = sending_message(number, "s@x", "a@far.example", NULL);
	sending_attempt();
	pass_outcome(sending, &m->recipients[0], ROUTE_REMOTE, 'D', "no such user", 12);
	keeper_flush(sending);
	sending_expect_outcome(number, 0, OUTCOME_FAILED);
	assert_int_equal(m->in_bounce, 1);
	return m;
}

static void
assert_tried_later(struct message *m)
{
	assert_int_equal(m->in_bounce, 0);
	assert_int_equal(m->is_ended, 0);
	assert_int_equal(pass_next(sending), sending->now + SEND_SYSTEM_RETRY);
}

/* --- what a child reports ------------------------------------------------------------------- */

static void
a_report_in_pieces_is_one_report(void **state)
{
	struct message *m = failed(1);
	char s[18];

	(void)state;
	bouncer_run(sending);
	make_report(s, 1, 'K', 77, "");
	for (size_t i = 0; i < sizeof s; i++) {
		assert_int_equal(m->in_bounce, 1);
		say_octets(0, s + i, 1);
	}
	assert_int_equal(sending_logged("bounce msg 1 qp 77\nend msg 1\n"), 1);
	sending_expect_about(SEND_END, 1);
	assert_int_equal(bouncer_is_busy(sending), 1);
	close_child(0);
	hear();
	assert_int_equal(bouncer_is_busy(sending), 0);
	assert_int_equal(sending_logged("warning"), 0);
}

static void
reports_come_in_any_order(void **state)
{
	char s[2 * 18];
	size_t len;

	(void)state;
	failed(1);
	failed(2);
	bouncer_run(sending);
	assert_int_equal(started, 1);
	len = make_report(s, 2, 'K', 78, "");
	len += make_report(s + len, 1, 'K', 79, "");
	say_octets(0, s, len);
	assert_int_equal(sending_logged("bounce msg 2 qp 78\nend msg 2\nbounce msg 1 qp 79\nend msg 1\n"), 1);
}

static void
what_it_did_not_report_is_tried_again(void **state)
{
	struct message *m;

	(void)state;
	failed(1);
	m = failed(2);
	bouncer_run(sending);
	report(0, 1, 'K', 77, "");
	sending_expect_about(SEND_END, 1);
	say_octets(0, "\0\0\0\0\0\0\0\2K\0\0", 11);	/* it ends within a report */
	close_child(0);
	hear();
	assert_tried_later(m);
	assert_int_equal(sending_logged("warning: a child for bounces ended before it had submitted them; trying again later\n"), 1);
	sending_expect_nothing(&sending_keeper);
	sending_later(SEND_SYSTEM_RETRY * 1000);
	sending_attempt();
	assert_int_equal(m->in_bounce, 1);
}

static void
a_report_of_anothers_message_ends_it(void **state)
{
	struct message *m, *others;

	(void)state;
	sending->bouncer.batch = 1;
	m = failed(1);
	others = failed(2);
	bouncer_run(sending);
	assert_int_equal(started, 2);
	report(0, 2, 'K', 77, "");
	assert_killed(0);
	assert_running(1);
	assert_tried_later(m);
	assert_int_equal(others->in_bounce, 1);
	sending_expect_nothing(&sending_keeper);
	report(1, 2, 'K', 78, "");
	sending_expect_about(SEND_END, 2);
}

static void
a_second_report_of_a_message_ends_it(void **state)
{
	struct message *m;

	(void)state;
	failed(1);
	m = failed(2);
	bouncer_run(sending);
	report(0, 1, 'K', 77, "");
	report(0, 1, 'K', 77, "");
	assert_killed(0);
	assert_tried_later(m);
	sending_expect_about(SEND_END, 1);
	sending_expect_nothing(&sending_keeper);
}

static void
trouble_is_logged_and_tried_again(void **state)
{
	static const char reports[] = { 'Z', 'x' };

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct message *m = failed(1 + i);

		bouncer_run(sending);
		report(i, 1 + i, reports[i], 0, "disk full\n");
		assert_tried_later(m);
		assert_int_equal(m->bounce_refused, 0);
		heap_remove(&sending->due, m);
	}
	assert_int_equal(sending_logged("warning: unable to queue the bounce of msg 1: disk_full/; trying again later\n"), 1);
	assert_int_equal(sending_logged("warning: unable to queue the bounce of msg 2: disk_full/; trying again later\n"), 1);
}

/* First with the message, then without it, and given up only when the message is too old. */
static void
a_refused_bounce_goes_without_the_message(void **state)
{
	struct message *m = failed(1);

	(void)state;
	bouncer_run(sending);
	report(0, 1, 'D', 0, "no");
	assert_tried_later(m);
	assert_int_equal(m->bounce_refused, 1);
	sending_later(SEND_SYSTEM_RETRY * 1000);
	sending_attempt();
	bouncer_run(sending);
	report(1, 1, 'D', 0, "no");
	assert_tried_later(m);
	sending->now = m->birth + sending->lifetime;
	sending_attempt();
	bouncer_run(sending);
	report(2, 1, 'D', 0, "no");
	assert_tried_later(m);
	sending->now += SEND_SYSTEM_RETRY;
	sending_attempt();
	bouncer_run(sending);
	report(3, 1, 'D', 0, "no");
	assert_int_equal(sending_logged("alert: bounce of msg 1 was refused again and again, and is given up: no\nend msg 1\n"), 1);
	sending_expect_about(SEND_END, 1);
}

static void
octets_that_are_missing_are_asked_for(void **state)
{
	struct message *m = failed(1);

	(void)state;
	bouncer_run(sending);
	report(0, 1, '?', 0, "");
	sending_expect_about(SEND_WHERE, 1);
	assert_int_equal(m->in_bounce, 0);
	/* a keeper that insists is believed so often; then the bounce goes without the message */
	m->is_sought = 0;
	m->misfits = PASS_MISFITS_MAX;
	m->in_bounce = 1;
	bouncer_add(sending, m);
	bouncer_run(sending);
	report(1, 1, '?', 0, "");
	assert_int_equal(m->bounce_refused, 1);
	assert_tried_later(m);
}

/* --- how many, and how long ------------------------------------------------------------------------ */

static void
a_child_gets_a_batch(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < BOUNCER_BATCH + 1; i++)
		failed(1 + i);
	bouncer_run(sending);
	assert_int_equal(started, 2);
	assert_int_equal(sending->bouncer.children[0].count, BOUNCER_BATCH);
	assert_int_equal(sending->bouncer.children[1].count, 1);
	assert_int_equal(sending->bouncer.waiting.len, 0);
}

static void
so_many_children_run_at_once(void **state)
{
	(void)state;
	sending->bouncer.batch = 1;
	for (unsigned int i = 0; i < BOUNCER_CHILDREN + 2; i++)
		failed(1 + i);
	bouncer_run(sending);
	bouncer_run(sending);
	assert_int_equal(started, BOUNCER_CHILDREN);
	/* each that ends makes room for one */
	report(3, 4, 'K', 77, "");
	close_child(3);
	hear();
	bouncer_run(sending);
	assert_int_equal(started, BOUNCER_CHILDREN + 1);
	assert_int_equal(sending->bouncer.children[3].messages[0]->number, BOUNCER_CHILDREN + 1);
}

static void
one_that_hangs_is_ended_after_its_time(void **state)
{
	struct message *m;
	int64_t end_at;

	(void)state;
	sending->lifetime = INT64_MAX / 2;
	m = failed(1);
	end_at = sending->clock + BOUNCER_MS;
	assert_int_equal(bouncer_run(sending), end_at);
	sending_later(BOUNCER_MS - 1);
	assert_int_equal(bouncer_run(sending), end_at);
	assert_running(0);
	sending_later(1);
	assert_int_equal(bouncer_run(sending), INT64_MAX);
	assert_killed(0);
	assert_tried_later(m);
	assert_int_equal(sending_logged("warning: ending a child that cannot submit its bounces\n"), 1);
}

static void
without_a_process_it_is_tried_again(void **state)
{
	struct message *m = failed(1);
	unsigned int descriptors = sending_descriptors();

	(void)state;
	forks = FAILING;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(bouncer_run(sending), sending->clock + RETRY_MS);
		/* and not in each turn until then */
		sending_later(1);
		assert_int_equal(bouncer_run(sending), sending->clock + RETRY_MS - 1);
		sending_later(RETRY_MS - 1);
	}
	assert_int_equal(sending_descriptors(), descriptors);
	assert_int_equal(m->in_bounce, 1);
	assert_int_equal(bouncer_is_busy(sending), 0);
	assert_int_equal(sending_logged("warning: unable to start a child for bounces: Resource temporarily unavailable; trying again\n"), 3);
	forks = PLAYED;
	watching_fails = 1;
	assert_int_equal(bouncer_run(sending), sending->clock + RETRY_MS);
	watching_fails = 0;
	assert_int_equal(sending_descriptors(), descriptors);
	assert_int_equal(sending_logged("warning: unable to start a child for bounces: No space left on device; trying again\n"), 1);
	sending_later(RETRY_MS);
	bouncer_run(sending);
	report(0, 1, 'K', 77, "");
	sending_expect_about(SEND_END, 1);
}

static void
killed_ones_leave_their_bounces_for_the_next_start(void **state)
{
	struct message *m = failed(1);

	(void)state;
	bouncer_run(sending);
	bouncer_kill(sending);
	assert_killed(0);
	assert_int_equal(bouncer_is_busy(sending), 0);
	assert_tried_later(m);
	sending_expect_nothing(&sending_keeper);
}

static void
none_is_started_while_leaving(void **state)
{
	(void)state;
	failed(1);
	sending->is_leaving = 1;
	assert_int_equal(bouncer_run(sending), INT64_MAX);
	assert_int_equal(started, 0);
}

/* --- reports of success and delay ------------------------------------------------------------------------ */

/* A message of which the first recipient succeeded and the second is delayed: both are to be reported. */
static struct message *
succeeded_and_delayed(void)
{
	struct message *m;

	sending_connect();
	sending->delay_notice = 1;
	sending_draft(1, "s@x");
	sending_recipient("a@far.example", "NOTIFY=SUCCESS");
	sending_recipient("b@far.example", "NOTIFY=DELAY");
	m = sending_new();
	sending_attempt();
	sending_later(1000);
	pass_outcome(sending, &m->recipients[0], ROUTE_REMOTE, 'K', "", 0);
	pass_outcome(sending, &m->recipients[1], ROUTE_REMOTE, 'Z', "later", 5);
	keeper_flush(sending);
	sending_expect_outcome(1, 0, OUTCOME_SUCCEEDED);
	sending_expect_about(SEND_DEFERRED, 1);
	assert_int_equal(m->in_report, 1);
	return m;
}

static void
successes_are_reported_before_delays(void **state)
{
	struct message *m = succeeded_and_delayed();

	(void)state;
	bouncer_run(sending);
	assert_int_equal(m->is_delay_report, 0);
	assert_int_equal(m->recipients[0].in_report, 1);
	assert_int_equal(m->recipients[1].in_report, 0);
	report(0, 1, 'K', 77, "");
	assert_int_equal(sending_logged("report msg 1 qp 77\n"), 1);
	sending_expect_outcome(1, 0, OUTCOME_DONE);
	assert_int_equal(m->in_report, 1);
	bouncer_run(sending);
	assert_int_equal(m->is_delay_report, 1);
	assert_int_equal(m->recipients[1].in_report, 1);
	report(1, 1, 'K', 78, "");
	sending_expect_outcome(1, 1, OUTCOME_DELAYED);
	assert_int_equal(m->in_report + m->owes_report, 0);
	assert_int_equal(m->recipients[1].state, RECIPIENT_TODO);
}

static void
a_refused_report_is_given_up(void **state)
{
	struct message *m = succeeded_and_delayed();

	(void)state;
	bouncer_run(sending);
	report(0, 1, 'Z', 0, "not now");
	assert_int_equal(m->in_report, 0);
	assert_int_equal(m->owes_report, 1);
	assert_int_equal(m->recipients[0].state, RECIPIENT_SUCCEEDED);
	sending_expect_nothing(&sending_keeper);
	/* the end of the next pass begins it again */
	sending_later(400 * 1000);
	sending_attempt();
	pass_outcome(sending, &m->recipients[1], ROUTE_REMOTE, 'Z', "later", 5);
	assert_int_equal(m->in_report, 1);
	bouncer_run(sending);
	report(1, 1, 'D', 0, "never");
	assert_int_equal(sending_logged("warning: unable to queue the report of msg 1: never; it is given up\n"), 1);
	sending_expect_outcome(1, 0, OUTCOME_DONE);
}

/* --- real children ---------------------------------------------------------------------------------------- */

/* Waits until no child runs. */
static void
await_children(void)
{
	while (bouncer_is_busy(sending))
		assert_int_equal(loop_wait(&sending->loop, -1), 1);
	while (waitpid(-1, NULL, 0) > 0)
		;
	keeper_flush(sending);
}

static void
a_child_submits_its_bounces(void **state)
{
	stralloc message = STRALLOC_ZERO, envelope = STRALLOC_ZERO;
	int queue = submitted_listen();
	struct channel c;

	(void)state;
	forks = REAL;
	failed(1);
	failed(2);
	bouncer_run(sending);
	submitted_accept(queue, &c);
	for (uint64_t number = 1; number <= 2; number++) {
		assert_int_equal(submitted_take(&c, &message, &envelope), 1);
		assert_int_equal(envelope.len, sizeof "F\0Ts@x\0");
		assert_memory_equal(envelope.s, "F\0Ts@x\0", sizeof "F\0Ts@x\0");
		assert_non_null(strstr(message.s, "<a@far.example>:\nno such user\n"));
		assert_non_null(strstr(message.s, sending_octets));
		submitted_answer(&c, 0, 76 + number);
	}
	await_children();
	assert_int_equal(sending_logged("bounce msg 1 qp 77\n"), 1);
	assert_int_equal(sending_logged("bounce msg 2 qp 78\n"), 1);
	sending_expect_about(SEND_END, 1);
	sending_expect_about(SEND_END, 2);
	channel_free(&c);
	close(queue);
	stralloc_free(&message);
	stralloc_free(&envelope);
}

/* A child is shut in, and could start no program. */
static void
a_program_put_in_place_later_is_not_run(void **state)
{
	stralloc message = STRALLOC_ZERO, envelope = STRALLOC_ZERO;
	int queue = submitted_listen();
	struct channel c;

	(void)state;
	forks = REAL;
	assert_int_equal(rename("bin/qmail-queue", "bin/aside"), 0);
	failed(1);
	bouncer_run(sending);
	submitted_accept(queue, &c);
	assert_int_equal(submitted_take(&c, &message, &envelope), 1);
	submitted_answer(&c, 0, 77);
	await_children();
	assert_int_equal(rename("bin/aside", "bin/qmail-queue"), 0);
	assert_int_equal(sending_logged("bounce msg 1 qp 77\n"), 1);
	channel_free(&c);
	close(queue);
	stralloc_free(&message);
	stralloc_free(&envelope);
}

static void
ready(void *context, void *owner, uint32_t events)
{
	(void)context, (void)owner, (void)events;
}

/* A worker sees the end of its socket only when nobody holds it. */
static void
a_child_holds_nothing_of_ours(void **state)
{
	stralloc message = STRALLOC_ZERO, envelope = STRALLOC_ZERO;
	struct loop_source worker = { .ready = ready };
	int queue, ends[2];
	struct channel c;
	char octet;

	(void)state;
	forks = REAL;
	queue = submitted_listen();
	failed(1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	worker.fd = ends[0];
	assert_int_equal(loop_add(&sending->loop, &worker, 0), 1);
	bouncer_run(sending);
	submitted_accept(queue, &c);
	assert_int_equal(submitted_take(&c, &message, &envelope), 1);	/* it waits for the answer now */
	loop_remove(&sending->loop, &worker);
	close(ends[0]);
	assert_int_equal(recv(ends[1], &octet, 1, MSG_DONTWAIT), 0);
	submitted_answer(&c, 0, 77);
	await_children();
	channel_free(&c);
	close(ends[1]);
	close(queue);
	stralloc_free(&message);
	stralloc_free(&envelope);
}

static void
octets_that_a_child_cannot_find_are_asked_for(void **state)
{
	struct message *m = failed(1);

	(void)state;
	forks = REAL;
	stored_remove(1);
	bouncer_run(sending);
	await_children();
	assert_int_equal(m->is_sought, 1);
	sending_expect_about(SEND_WHERE, 1);
}

/* As where there is no descriptor, or an I/O error: nothing is wrong with the message. */
static void
octets_that_a_child_cannot_read_are_tried_again(void **state)
{
	struct message *m = failed(1);

	(void)state;
	forks = REAL;
	stored_remove(1);
	assert_int_equal(rename("queue/info/1", "queue/info/aside"), 0);
	directory_write("queue/info/1", "");	/* ENOTDIR */
	bouncer_run(sending);
	await_children();
	assert_int_equal(unlink("queue/info/1"), 0);
	assert_int_equal(rename("queue/info/aside", "queue/info/1"), 0);
	assert_int_equal(m->is_sought, 0);
	assert_tried_later(m);
	assert_int_equal(sending_logged("warning: unable to queue the bounce of msg 1: Not_a_directory; trying again later\n"), 1);
	sending_expect_nothing(&sending_keeper);
}

/* Nobody is delayed any more when the child starts: it submits nothing. */
static void
a_delay_that_is_over_is_not_reported(void **state)
{
	struct message *m;

	(void)state;
	forks = REAL;
	sending_connect();
	m = sending_message(1, "s@x", "a@far.example", NULL);
	m->in_report = 1;
	assert_int_equal(bouncer_add(sending, m), 1);
	bouncer_run(sending);
	await_children();	/* no queue is there */
	assert_int_equal(m->in_report, 0);
	assert_int_equal(sending_logged("report"), 0);
}

/* --------------------------------------------------------------------------------------------------------------- */

static int
home(void **state)
{
	if (sending_home(state))
		return -1;
	submitted_home();
	return 0;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_report_in_pieces_is_one_report), TEST(reports_come_in_any_order), TEST(what_it_did_not_report_is_tried_again),
		TEST(a_report_of_anothers_message_ends_it), TEST(a_second_report_of_a_message_ends_it),
		TEST(trouble_is_logged_and_tried_again), TEST(a_refused_bounce_goes_without_the_message),
		TEST(octets_that_are_missing_are_asked_for), TEST(a_child_gets_a_batch), TEST(so_many_children_run_at_once),
		TEST(one_that_hangs_is_ended_after_its_time), TEST(without_a_process_it_is_tried_again),
		TEST(killed_ones_leave_their_bounces_for_the_next_start), TEST(none_is_started_while_leaving),
		TEST(successes_are_reported_before_delays), TEST(a_refused_report_is_given_up),
		TEST(a_child_submits_its_bounces), TEST(a_program_put_in_place_later_is_not_run), TEST(a_child_holds_nothing_of_ours),
		TEST(octets_that_a_child_cannot_find_are_asked_for), TEST(octets_that_a_child_cannot_read_are_tried_again),
		TEST(a_delay_that_is_over_is_not_reported),
	};

	return cmocka_run_group_tests_name("bouncer", tests, home, directory_remove);
}
