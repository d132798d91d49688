/* Questions to qmail-getpw that get no answer: time that runs out, processes that stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/iopause.h>
#include <skalibs/strerr.h>
#include <skalibs/tai.h>
#include "bin-src/local/lookup.h"
#include "job.h"
#include "spawner.h"

static struct lookups l;
static struct spawner s;	/* for its children */

static void
write_getpw(const char *script)
{
	FILE *f = fopen("bin/qmail-getpw", "w");

	assert_non_null(f);
	fputs(script, f);
	fclose(f);
	assert_int_equal(chmod("bin/qmail-getpw", 0755), 0);
}

static int
set_up(void **state)
{
	(void)state;
	memset(&l, 0, sizeof l);
	l.uid = l.gid = 65534;	/* used if the test is root's */
	write_getpw("#!/bin/sh\nexec sleep 600\n");
	return 0;
}

/* Waits for one event or deadline, and for children that have ended. */
static void
turn(void)
{
	iopause_fd x[LOOKUPS_RUNNING];
	tain deadline;
	unsigned int n;
	pid_t pid;
	int wstat;

	tain_addsec_g(&deadline, 1);
	n = lookups_prepare(&l, x, &deadline);
	assert_true(iopause_g(x, n, &deadline) >= 0);
	lookups_act(&l, x);
	while (spawner_reap(&s, &pid, &wstat))
		lookups_reaped(&l, pid, wstat);
}

/* Killed is enough: whoever inherited it may not have waited for it. */
static int
is_alive(int pid)
{
	char path[64], state = 'X';
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f) {
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 'X';
		fclose(f);
	}
	return state != 'X' && state != 'Z';
}

/* Sets the clock forward for a question. */
static void
time_is_over(struct lookup *q)
{
	q->deadline = STAMP;
}

static int
tear_down(void **state)
{
	(void)state;
	lookups_kill(&l);
	while (l.running) {
		struct lookup *q;

		while ((q = lookups_answered(&l)))
			lookups_took(&l, q);
		turn();
	}
	while (l.len)
		lookups_took(&l, &l.list[0]);
	return 0;
}

static void
no_answer_in_time(void **state)
{
	struct lookup *q;
	pid_t pid;

	(void)state;
	assert_int_equal(lookups_ask(&l, SPAWN_WHO, 1, "ana", 3), 1);
	assert_int_equal(l.running, 1);
	assert_null(lookups_answered(&l));
	pid = l.list[0].pid;
	time_is_over(&l.list[0]);
	turn();
	q = lookups_answered(&l);
	assert_non_null(q);
	assert_int_equal(q->id, 1);
	assert_string_equal(q->trouble, "The user database does not answer. (#4.4.3)\n");
	lookups_took(&l, q);
	while (l.running)
		turn();
	assert_int_equal(l.len, 0);
	assert_int_equal(kill(pid, 0), -1);
}

/* A process that cannot be killed keeps its place: there are never more of them than places. */
static void
the_dying_are_counted(void **state)
{
	(void)state;
	for (uint32_t id = 0; id < LOOKUPS_RUNNING + 5; id++)
		assert_int_equal(lookups_ask(&l, SPAWN_WHO, id, "ana", 3), 1);
	assert_int_equal(l.running, LOOKUPS_RUNNING);
	for (unsigned int i = 0; i < l.len; i++)
		time_is_over(&l.list[i]);
	lookups_act(&l, (iopause_fd[LOOKUPS_RUNNING]){ { .revents = 0 } });
	for (unsigned int i = 0; i < LOOKUPS_RUNNING + 5; i++) {
		struct lookup *q = lookups_answered(&l);

		assert_non_null(q);
		assert_non_null(q->trouble);
		lookups_took(&l, q);
	}
	assert_int_equal(l.running, LOOKUPS_RUNNING);
	assert_int_equal(l.len, LOOKUPS_RUNNING);
	assert_int_equal(lookups_ask(&l, SPAWN_WHO, 99, "ana", 3), 1);
	assert_int_equal(l.list[LOOKUPS_RUNNING].state, LOOKUP_WAITS);
	while (l.len > 1)
		turn();
	assert_int_equal(l.list[0].state, LOOKUP_RUNS);
}

/* Its answer counts when it has ended, whatever it left behind, which is killed. */
static void
child_holds_the_output(void **state)
{
	struct lookup *q;
	FILE *f;
	char number[32];
	int pid;

	(void)state;
	write_getpw("#!/bin/sh\nsleep 600 &\necho $! >bin/pid\nprintf 'u\\0001\\0001\\000/h\\000\\000\\000'\n");
	assert_int_equal(lookups_ask(&l, SPAWN_START, 1, "ana", 3), 1);
	while (!(q = lookups_answered(&l)))
		turn();
	assert_null(q->trouble);
	lookups_took(&l, q);
	assert_int_equal(l.len, 0);
	f = fopen("bin/pid", "r");
	assert_non_null(f);
	assert_non_null(fgets(number, sizeof number, f));
	pid = (int)strtol(number, NULL, 10);
	fclose(f);
	unlink("bin/pid");
	for (int i = 0; i < 1000 && is_alive(pid); i++)
		usleep(10000);
	assert_false(is_alive(pid));
}

static void
answer(void **state)
{
	struct lookup *q;

	(void)state;
	write_getpw("#!/bin/sh\nprintf 'u\\0001\\0002\\000/h\\000-\\000%s\\000' \"$1\"\n");
	assert_int_equal(lookups_ask(&l, SPAWN_START, 1, "A-b", 3), 1);
	while (!(q = lookups_answered(&l)))
		turn();
	assert_null(q->trouble);
	assert_string_equal(q->account.ext, "A-b");
	assert_int_equal(q->account.gid, 2);
	lookups_took(&l, q);
	assert_int_equal(l.len, 0);
	assert_int_equal(l.running, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_answer_in_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_dying_are_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(child_holds_the_output, set_up, tear_down),
	};
	char dir[] = "/tmp/unit-lookup-XXXXXX";
	int failed;

	PROG = "lookup";
	signal(SIGCHLD, SIG_DFL);
	if (!mkdtemp(dir) || chmod(dir, 0755) < 0 || chdir(dir) < 0 || mkdir("bin", 0777) < 0
	    || chmod("bin", 0777) < 0)
		return 111;
	tain_now_set_stopwatch_g();
	failed = cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
	unlink("bin/qmail-getpw");
	rmdir("bin");
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
