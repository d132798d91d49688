/* Questions to qmail-getpw: those that get no answer, time that runs out, processes that stay; kept processes, which are
 * this program itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/iopause.h>
#include <skalibs/strerr.h>
#include <skalibs/tai.h>
#include "bin-src/local/lookup.h"
#include "job.h"
#include "spawner.h"
#include "users/passwd.h"

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
	iopause_fd x[LOOKUPS_FDS];
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

/* Starts what can be started. */
static void
begin(void)
{
	iopause_fd x[LOOKUPS_FDS];
	tain deadline = tain_infinite;

	lookups_prepare(&l, x, &deadline);
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
	begin();
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
	begin();
	assert_int_equal(l.running, LOOKUPS_RUNNING);
	for (unsigned int i = 0; i < l.len; i++)
		time_is_over(&l.list[i]);
	lookups_act(&l, (iopause_fd[LOOKUPS_FDS]){ { .revents = 0 } });
	for (unsigned int i = 0; i < LOOKUPS_RUNNING + 5; i++) {
		struct lookup *q = lookups_answered(&l);

		assert_non_null(q);
		assert_non_null(q->trouble);
		lookups_took(&l, q);
	}
	assert_int_equal(l.running, LOOKUPS_RUNNING);
	assert_int_equal(l.len, LOOKUPS_RUNNING);
	assert_int_equal(lookups_ask(&l, SPAWN_WHO, 99, "ana", 3), 1);
	begin();
	assert_int_equal(l.list[LOOKUPS_RUNNING].state, LOOKUP_WAITS);
	while (l.len > 1)
		turn();
	begin();
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

/* --- kept processes ---------------------------------------------------------------- */

/* What this program is as qmail-getpw: it does what the local part says. */
static int
be_getpw(int socket)
{
	char question[1024], answer[2048];
	ssize_t n;

	while ((n = recv(socket, question, sizeof question - 1, 0)) > 4) {
		size_t len = 5;

		question[n] = '\0';
		if (!strcmp(question + 4, "never"))
			pause();
		if (!strcmp(question + 4, "dies"))
			return 1;
		memcpy(answer, question, 4);
		answer[0] ^= (char)(strcmp(question + 4, "other number") ? 0 : 1);
		answer[4] = (char)(strcmp(question + 4, "no alias") ? 0 : GETPW_NO_ALIAS);
		if (!strcmp(question + 4, "short"))
			len = 4;
		else if (!answer[4]) {
			static const char user[] = "u\0" "1\0" "2\0" "/h\0" "-";

			memcpy(answer + len, user, sizeof user);
			len += sizeof user;
			memcpy(answer + len, question + 4, (size_t)n - 3);
			len += (size_t)n - 3;
		}
		if (send(socket, answer, len, MSG_NOSIGNAL) < 0)
			return 1;
	}
	return 0;
}

static int
set_up_kept(void **state)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to;
	off_t place = 0;
	struct stat st;

	set_up(state);
	assert_int_equal(unlink("bin/qmail-getpw"), 0);
	to = open("bin/qmail-getpw", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_int_equal(fstat(from, &st), 0);
	while (place < st.st_size)
		assert_true(sendfile(to, from, &place, (size_t)(st.st_size - place)) > 0);
	close(from);
	close(to);
	return link("bin/qmail-getpw", "libexec/qmail-getpw");
}

static int
tear_down_kept(void **state)
{
	tear_down(state);
	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		if (l.kept.processes[i].pid)
			kept_getpw_kill(&l.kept, i);
		while (l.kept.processes[i].pid)
			turn();
	}
	return unlink("libexec/qmail-getpw");
}

static void
ask(uint32_t id, const char *local)
{
	assert_int_equal(lookups_ask(&l, SPAWN_WHO, id, local, strlen(local)), 1);
}

/* Waits for an answer. Returns the question's id, and its trouble, NULL if there is none; else the answer is local. */
static uint32_t
next(const char *local, const char **trouble)
{
	struct lookup *q;
	uint32_t id;

	while (!(q = lookups_answered(&l)))
		turn();
	id = q->id;
	*trouble = q->trouble;
	if (!q->trouble)
		assert_string_equal(q->account.ext, local);
	lookups_took(&l, q);
	return id;
}

static int
count_processes(void)
{
	int n = 0;

	for (int i = 0; i < KEPT_GETPW_MAX; i++)
		n += l.kept.processes[i].pid != 0;
	return n;
}

static void
one_kept_process_answers_many_questions(void **state)
{
	const char *trouble;

	(void)state;
	for (uint32_t id = 0; id < LOOKUPS_MAX; id++)
		ask(id, id % 2 ? "ana" : "no alias");
	for (uint32_t id = 0; id < LOOKUPS_MAX; id++) {
		assert_int_equal(next("ana", &trouble), id);
		assert_int_equal(!trouble, id % 2);
	}
	assert_int_equal(count_processes(), 1);
	assert_int_equal(l.len, 0);
}

static void
what_lies_behind_a_slow_question_is_asked_of_another(void **state)
{
	const char *trouble;

	(void)state;
	ask(0, "never");
	for (uint32_t id = 1; id < 40; id++)
		ask(id, "ana");
	for (uint32_t id = 1; id < 40; id++) {
		assert_int_equal(next("ana", &trouble), id);
		assert_null(trouble);
	}
	assert_int_equal(count_processes(), 2);
	assert_int_equal(l.len, 1);
	time_is_over(&l.list[0]);
	assert_int_equal(next(NULL, &trouble), 0);
	assert_string_equal(trouble, "The user database does not answer. (#4.4.3)\n");
}

static void
only_the_question_that_kills_a_process_fails(void **state)
{
	const char *trouble;

	(void)state;
	ask(0, "ana");
	ask(1, "dies");
	ask(2, "luis");
	ask(3, "luis");
	assert_int_equal(next("ana", &trouble), 0);
	assert_null(trouble);
	assert_int_equal(next(NULL, &trouble), 1);
	assert_string_equal(trouble, "Unable to ask the user database. (#4.3.0)\n");
	assert_int_equal(next("luis", &trouble), 2);
	assert_null(trouble);
	assert_int_equal(next("luis", &trouble), 3);
	assert_null(trouble);
}

static void
an_answer_of_no_shape_is_temporary(void **state)
{
	const char *trouble;

	(void)state;
	ask(0, "short");
	assert_int_equal(next(NULL, &trouble), 0);
	assert_string_equal(trouble, "Unable to ask the user database. (#4.3.0)\n");
}

static void
an_answer_to_no_question_is_none(void **state)
{
	const char *trouble;

	(void)state;
	ask(0, "other number");
	ask(1, "ana");
	assert_int_equal(next("ana", &trouble), 1);
	assert_null(trouble);
	time_is_over(&l.list[0]);
	assert_int_equal(next(NULL, &trouble), 0);
	assert_string_equal(trouble, "The user database does not answer. (#4.4.3)\n");
}

/* Somebody killed a process that had nothing to do. */
static void
a_process_that_died_idle_costs_no_question(void **state)
{
	const char *trouble;

	(void)state;
	ask(0, "ana");
	assert_int_equal(next("ana", &trouble), 0);
	assert_int_equal(kill(l.kept.processes[0].pid, SIGKILL), 0);
	while (is_alive(l.kept.processes[0].pid))
		usleep(1000);
	ask(1, "ana");
	assert_int_equal(next("ana", &trouble), 1);
	assert_null(trouble);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_answer_in_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_dying_are_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(child_holds_the_output, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_kept_process_answers_many_questions, set_up_kept, tear_down_kept),
		cmocka_unit_test_setup_teardown(what_lies_behind_a_slow_question_is_asked_of_another, set_up_kept, tear_down_kept),
		cmocka_unit_test_setup_teardown(only_the_question_that_kills_a_process_fails, set_up_kept, tear_down_kept),
		cmocka_unit_test_setup_teardown(an_answer_of_no_shape_is_temporary, set_up_kept, tear_down_kept),
		cmocka_unit_test_setup_teardown(an_answer_to_no_question_is_none, set_up_kept, tear_down_kept),
		cmocka_unit_test_setup_teardown(a_process_that_died_idle_costs_no_question, set_up_kept, tear_down_kept),
	};
	char dir[] = "/tmp/unit-lookup-XXXXXX";
	int failed;

	PROG = "lookup";
	if (argc == 3 && !strcmp(argv[1], "-W"))
		return be_getpw(atoi(argv[2]));
	signal(SIGCHLD, SIG_DFL);
	if (!mkdtemp(dir) || chmod(dir, 0755) < 0 || chdir(dir) < 0 || mkdir("bin", 0777) < 0 || mkdir("libexec", 0755) < 0
	    || chmod("bin", 0777) < 0)
		return 111;
	tain_now_set_stopwatch_g();
	failed = cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
	unlink("bin/qmail-getpw");
	rmdir("bin");
	rmdir("libexec");
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
