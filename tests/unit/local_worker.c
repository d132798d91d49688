/* qmail-local as a kept worker: which jobs are done and answered when its socket, its clock or a job is not as it should be. All
 * that is said to it lies in its socket when it starts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include "bin-src/local/worker.h"
#include "directory.h"
#include "job.h"
#include "maildir.h"
#include "unsendable.h"

enum { LARGE = 300000, TELLING = 100 };

/* The worker's clock: 0 when it starts, and this many seconds at every further look; tests/unit/units.mk */
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __real_clock_gettime(clockid_t clock, struct timespec *t);
static time_t age;
static unsigned int looks;

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	if (clock != CLOCK_MONOTONIC)
		return __real_clock_gettime(clock, t);
	*t = (struct timespec){ .tv_sec = looks++ ? age : 0 };
	return 0;
}

static const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
static struct delivery_account account = { .user = "ann", .home = "home", .default_delivery = "./Maildir/", .qmail_home = -1,
	.environment = environment };
static struct channel sender;	/* qmail-send's end */
static int worker;		/* the worker's */

/* --- the test as qmail-send ------------------------------------------------------------- */

static int
begin(void **state)
{
	int ends[2];

	(void)state;
	age = looks = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	channel_init(&sender, ends[0], JOB_FRAME_MAX);
	worker = ends[1];
	return 0;
}

static int
end(void **state)
{
	(void)state;
	channel_free(&sender);
	if (worker >= 0)
		close(worker);
	return 0;
}

#define STRINGS "s@x\0ann\0\0\0here.example\0\0\0"
#define STRINGS_TO(ext) "s@x\0ann-" ext "\0-\0" ext "\0here.example"

/* The octets of the first n strings of a job. */
static size_t
strings_size(uint32_t n)
{
	const char *s = STRINGS;

	while (n--)
		s += strlen(s) + 1;
	return (size_t)(s - STRINGS);
}

static void
give(uint32_t id, uint32_t strings)
{
	static const char message[] = "Subject: x\n\nbody\n";

	assert_int_equal(job_put(&sender, id, STRINGS "\0", strings, strings_size(strings), sizeof message - 1, message, -1), 1);
}

static void
give_program(uint32_t id, const char *strings, size_t size)
{
	static const char message[] = "Subject: x\n\nbody\n";

	assert_int_equal(job_put(&sender, id, strings, JOB_LOCAL_STRINGS, size, sizeof message - 1, message, -1), 1);
	assert_int_equal(channel_flush(&sender), 1);
}

/* Nothing more is said. */
static void
finish(void)
{
	assert_int_equal(channel_flush(&sender), 1);
	assert_int_equal(shutdown(sender.fd, SHUT_WR), 0);
}

/* What a worker that gathers tells through its pipe: 'g' when it waits for more of a batch, as long as need be then, 's' when
 * it syncs a maildir; tests/unit/units.mk */
static int telling = -1;

static void
tell(char c)
{
	if (telling >= 0)
		assert_int_equal(write(telling, &c, 1), 1);
}

static int hurries;	/* who waits for a program waits 10 ms at most, which count as all that it would have waited */
enum { HURRY_MS = 10 };

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	if (hurries && timeout > 1000 && timeout <= JOB_PATIENCE_MS) {
		int r = __real_poll(p, n, HURRY_MS);

		age += r == 0 ? JOB_PATIENCE_MS / 1000 : 0;
		return r;
	}
	if (telling < 0 || timeout <= 0 || timeout > 1000)
		return __real_poll(p, n, timeout);
	tell('g');
	return __real_poll(p, n, -1);
}

int __wrap_maildir_sync(struct maildir *m);
int __real_maildir_sync(struct maildir *m);

int
__wrap_maildir_sync(struct maildir *m)
{
	tell('s');
	return __real_maildir_sync(m);
}

/* In the worker's process: runs it to its end. Nothing of it is open then. */
static _Noreturn void
become_worker(int socket)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* what it warns of does not belong among the results */
	if (null < 0 || dup2(null, STDERR_FILENO) < 0 || dup2(socket, JOB_WORKER_FD) < 0)
		_exit(1);
	if (telling >= 0)
		telling = fcntl(telling, F_DUPFD_CLOEXEC, TELLING);
	for (int fd = JOB_WORKER_FD + 1; fd < TELLING; fd++)
		close(fd);
	closefrom(TELLING + 1);
	account.start = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (worker_run(&account, 0) != EXIT_OK)
		_exit(2);
	close(account.start);
	for (int fd = JOB_WORKER_FD; fd < 100; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			_exit(3);
	_exit(0);
}

static pid_t
start(void)
{
	pid_t pid = fork();

	if (pid == 0)
		become_worker(worker);
	close(worker);
	worker = -1;
	return pid;
}

static void
await(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
run(void)
{
	await(start());
}

/* The next answer, which has to be about this job. Returns its text, NUL-terminated. */
static const char *
answered(uint32_t id, char letter)
{
	static char text[JOB_TEXT_MAX + 1];
	struct channel_frame f;
	uint32_t got;

	while (channel_next(&sender, &f) == 0)
		assert_int_equal(channel_receive(&sender), 1);
	assert_int_equal(f.type, JOB_DONE);
	assert_true(f.len >= 9);
	uint32_unpack_big(f.s, &got);
	assert_int_equal(got, id);
	assert_int_equal(f.s[8], letter);
	memcpy(text, f.s + 9, f.len - 9);
	text[f.len - 9] = '\0';
	return text;
}

static void
no_more_answers(void)
{
	struct channel_frame f;

	assert_int_equal(channel_next(&sender, &f), 0);
	assert_int_equal(channel_receive(&sender), -1);
}

/* Messages in the maildir, which is empty then. */
static unsigned int
delivered(void)
{
	char path[NAME_MAX + 20];
	unsigned int n = 0;
	DIR *dir;

	dir = opendir("home/Maildir/new");
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		snprintf(path, sizeof path, "home/Maildir/new/%s", e->d_name);
		if (e->d_name[0] != '.') {
			assert_int_equal(unlink(path), 0);
			n++;
		}
	}
	closedir(dir);
	return n;
}

/* --- jobs --------------------------------------------------------------------------------- */

static void
more_than_a_batch(void **state)
{
	(void)state;
	for (uint32_t id = 0; id <= JOB_BATCH; id++)
		give(100 + id, JOB_LOCAL_STRINGS);
	finish();
	run();
	for (uint32_t id = 0; id <= JOB_BATCH; id++)
		assert_string_equal(answered(100 + id, 'K'), "did 1+0+0\n");
	no_more_answers();
	assert_int_equal(delivered(), JOB_BATCH + 1);
}

static void
one_whose_strings_are_no_local_jobs_fails_alone(void **state)
{
	static const uint32_t strings[] = { JOB_LOCAL_STRINGS, 4, 6, JOB_LOCAL_STRINGS_ALL, 8, 0 };

	(void)state;
	for (uint32_t id = 0; id < 6; id++)
		give(id, strings[id]);
	finish();
	run();
	for (uint32_t id = 0; id < 6; id++) {
		int good = strings[id] == JOB_LOCAL_STRINGS || strings[id] == JOB_LOCAL_STRINGS_ALL;

		assert_string_equal(answered(id, good ? 'K' : 'Z'),
		    good ? "did 1+0+0\n" : "This is no job for qmail-local. (#4.3.0)\n");
	}
	assert_int_equal(delivered(), 2);
}

/* Files of another length than the job says, and one that is right. */
static void
files_of_another_length_are_not_delivered(void **state)
{
	static const uint64_t sizes[] = { LARGE - 1, LARGE, LARGE + 1 };
	char octets[1] = "";

	(void)state;
	for (uint32_t id = 0; id < 3; id++) {
		int fd = open("message", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		assert_int_equal(pwrite(fd, octets, 1, LARGE - 1), 1);
		assert_int_equal(job_put(&sender, id, STRINGS, JOB_LOCAL_STRINGS, strings_size(JOB_LOCAL_STRINGS), sizes[id], NULL,
		    fd), 1);
		assert_int_equal(channel_flush(&sender), 1);
	}
	finish();
	run();
	assert_string_equal(answered(0, 'Z'), "The message is not as long as it should be. (#4.3.0)\n");
	assert_string_equal(answered(1, 'K'), "did 1+0+0\n");
	answered(2, 'Z');
	assert_int_equal(delivered(), 1);
}

/* What came before the nonsense is done and answered. */
static const struct row { const char *rule; char type; const char *s; size_t len; } rows[] = {
	{ "another type", JOB_DONE, "", 0 },
	{ "a job that is cut", JOB, "\0\0\0\1\0\0\0\5", 8 },
	{ "a file that did not come", JOB_FILE, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", 16 },
	{ "a file with octets behind it", JOB_FILE, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0x", 17 },
	{ "a message that is shorter", JOB, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1", 16 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
nonsense_row(void **state)
{
	const struct row *row = *state;

	give(1, JOB_LOCAL_STRINGS);
	give(2, JOB_LOCAL_STRINGS);
	assert_int_equal(channel_put1(&sender, row->type, row->s, row->len), 1);
	give(3, JOB_LOCAL_STRINGS);
	assert_int_equal(channel_flush(&sender), 1);
	run();
	answered(1, 'K');
	answered(2, 'K');
	no_more_answers();
	assert_int_equal(delivered(), 2);
}

static void
a_frame_that_is_too_long_by_one(void **state)
{
	static const char header[CHANNEL_HEADER] = { 0, (JOB_FRAME_MAX + 1) >> 16, ((JOB_FRAME_MAX + 1) >> 8) & 255,
		(JOB_FRAME_MAX + 1) & 255, JOB };

	(void)state;
	give(1, JOB_LOCAL_STRINGS);
	assert_int_equal(channel_flush(&sender), 1);
	assert_int_equal(write(sender.fd, header, sizeof header), sizeof header);
	run();	/* it does not wait for the rest */
	answered(1, 'K');
	no_more_answers();
	assert_int_equal(delivered(), 1);
}

/* The next that it tells is c. */
static void
told(int from, char c)
{
	char got;

	assert_int_equal(read(from, &got, 1), 1);
	assert_int_equal(got, c);
}

/* A worker that tells, and has done job 1: what follows is gathered. */
static pid_t
start_gathering(int *from)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	telling = ends[1];
	pid = start();
	close(telling);
	telling = -1;
	give(1, JOB_LOCAL_STRINGS);
	assert_int_equal(channel_flush(&sender), 1);
	told(ends[0], 's');
	answered(1, 'K');
	*from = ends[0];
	return pid;
}

/* The first job is done at once; those that follow a batch are gathered, and share a sync. */
static void
jobs_that_follow_a_batch_are_one_batch(void **state)
{
	int from;
	pid_t pid;

	(void)state;
	pid = start_gathering(&from);
	for (uint32_t id = 2; id < 5; id++) {
		give(id, JOB_LOCAL_STRINGS);
		assert_int_equal(channel_flush(&sender), 1);
		told(from, 'g');
	}
	finish();
	told(from, 's');
	for (uint32_t id = 2; id < 5; id++)
		answered(id, 'K');
	no_more_answers();
	await(pid);
	close(from);
	assert_int_equal(delivered(), 4);
}

/* However long it would gather, it does not wait for more than WORKER_BATCH_OCTETS. */
static void
a_batch_is_bounded_in_octets(void **state)
{
	enum { ENOUGH = WORKER_BATCH_OCTETS / JOB_INLINE_MAX };
	static char message[JOB_INLINE_MAX];
	struct pollfd p = { .events = POLLIN };
	char c = 'g';
	pid_t pid;

	(void)state;
	memset(message, '\n', sizeof message);
	pid = start_gathering(&p.fd);
	for (uint32_t id = 2; id < 2 + ENOUGH; id++) {
		assert_int_equal(job_put(&sender, id, STRINGS, JOB_LOCAL_STRINGS, strings_size(JOB_LOCAL_STRINGS),
		    sizeof message, message, -1), 1);
		assert_int_equal(channel_flush(&sender), 1);
	}
	while (c == 'g') {
		assert_int_equal(poll(&p, 1, 10 * 1000), 1);
		assert_int_equal(read(p.fd, &c, 1), 1);
	}
	for (uint32_t id = 2; id < 2 + ENOUGH; id++)
		answered(id, 'K');
	finish();
	await(pid);
	close(p.fd);
	assert_int_equal(delivered(), 1 + ENOUGH);
}

/* --- a program that takes long -------------------------------------------------------------------- */

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* The first job's program reads until the test closes the pipe. */
static void
what_is_not_begun_is_given_back(void **state)
{
	pid_t pid;
	int pipe;

	(void)state;
	assert_int_equal(mkfifo("home/pipe", 0600), 0);
	write_file("home/.qmail-slow", "|cat pipe\n");
	write_file("home/.qmail-quick", "|cat >quick\n");
	give_program(1, STRINGS_TO("slow"), sizeof STRINGS_TO("slow"));
	give_program(2, STRINGS_TO("quick"), sizeof STRINGS_TO("quick"));
	give(3, JOB_LOCAL_STRINGS);
	give(4, JOB_LOCAL_STRINGS_ALL);
	assert_int_equal(channel_flush(&sender), 1);
	hurries = 1;
	pid = start();
	answered(3, 'K');
	answered(4, 'K');
	assert_string_equal(answered(2, JOB_BACK), "Another message for this user takes long. (#4.3.0)\n");
	/* what comes now is not begun either, in a frame or in a file */
	give_program(5, STRINGS_TO("quick"), sizeof STRINGS_TO("quick"));
	assert_int_equal(job_put(&sender, 6, STRINGS, JOB_LOCAL_STRINGS, strings_size(JOB_LOCAL_STRINGS), 1, NULL,
	    open("home/.qmail-quick", O_RDONLY | O_CLOEXEC)), 1);
	finish();
	answered(5, JOB_BACK);
	answered(6, JOB_BACK);
	pipe = open("home/pipe", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(pipe, "done\n", 5), 5);
	close(pipe);
	assert_string_equal(answered(1, 'K'), "done\ndid 0+0+1\n");
	no_more_answers();
	await(pid);
	hurries = 0;
	assert_int_equal(access("home/quick", F_OK), -1);
	assert_int_equal(delivered(), 2);
	assert_true(unlink("home/pipe") == 0 && unlink("home/.qmail-slow") == 0 && unlink("home/.qmail-quick") == 0);
}

/* --- the socket -------------------------------------------------------------------------------- */

/* Who has closed it hears no answer, and hands its jobs over again. */
static void
without_anybody_to_hear_nothing_is_done(void **state)
{
	(void)state;
	for (uint32_t id = 0; id < 3; id++)
		give(id, JOB_LOCAL_STRINGS);
	assert_int_equal(channel_flush(&sender), 1);
	channel_free(&sender);
	run();
	assert_int_equal(delivered(), 0);
}

static void
when_an_answer_goes_nowhere_nothing_more_is_begun(void **state)
{
	struct stat st;

	(void)state;
	account.default_delivery = "./Mailbox";
	for (uint32_t id = 0; id < 3; id++)
		give(id, JOB_LOCAL_STRINGS);
	finish();
	unsendable = JOB_WORKER_FD;
	unsendable_times = -1;
	run();
	unsendable = -1;
	account.default_delivery = "./Maildir/";
	assert_int_equal(stat("home/Mailbox", &st), 0);
	assert_in_range(st.st_size, 1, 200);	/* one message */
	assert_int_equal(unlink("home/Mailbox"), 0);
}

static void
its_end_is_the_workers(void **state)
{
	(void)state;
	finish();
	run();
	no_more_answers();
}

/* --- its time -------------------------------------------------------------------------------------- */

/* qmail-send gives no more to an old one; what it gave is not to be lost. */
static void
what_came_is_done_however_old_it_is(void **state)
{
	(void)state;
	for (uint32_t id = 0; id < JOB_BATCH + 1; id++)
		give(id, JOB_LOCAL_STRINGS);
	finish();
	age = 2 * JOB_WORKER_SECONDS;
	run();
	for (uint32_t id = 0; id < JOB_BATCH + 1; id++)
		answered(id, 'K');
	assert_int_equal(delivered(), JOB_BATCH + 1);
}

static void
without_jobs_it_ends_with_its_time(void **state)
{
	(void)state;
	age = JOB_WORKER_SECONDS;
	run();	/* the socket is open */
	no_more_answers();
}

/* ------------------------------------------------------------------------------------------------------ */

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	assert_int_equal(mkdir("home", 0700), 0);
	return !maildir_make("home/Maildir");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(jobs_that_follow_a_batch_are_one_batch), TEST(a_batch_is_bounded_in_octets), TEST(more_than_a_batch),
		TEST(one_whose_strings_are_no_local_jobs_fails_alone),
		TEST(files_of_another_length_are_not_delivered), TEST(a_frame_that_is_too_long_by_one),
		TEST(what_is_not_begun_is_given_back), TEST(without_anybody_to_hear_nothing_is_done), TEST(its_end_is_the_workers),
		TEST(when_an_answer_goes_nowhere_nothing_more_is_begun),
		TEST(what_came_is_done_however_old_it_is),
		TEST(without_jobs_it_ends_with_its_time),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ rows[i].rule, nonsense_row, begin, end, (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("local_worker", all, set_up, directory_remove);
}
