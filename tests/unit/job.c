/* What goes over a worker's socket: jobs and answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "job.h"

static struct channel a, b;

static int
set_up(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	channel_init(&a, fd[0], JOB_FRAME_MAX);
	channel_init(&b, fd[1], JOB_FRAME_MAX);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	channel_free(&a);
	channel_free(&b);
	return 0;
}

static struct channel_frame
next(void)
{
	struct channel_frame f;
	int r;

	assert_int_equal(channel_flush(&a), 1);
	while ((r = channel_next(&b, &f)) == 0)
		assert_int_equal(channel_receive(&b), 1);
	assert_int_equal(r, 1);
	return f;
}

/* Sends the len octets of s as a frame, and parses that. */
static int
parses(struct job *job, char type, const char *s, size_t len)
{
	struct channel_frame f;

	assert_true(channel_put1(&a, type, s, len));
	f = next();
	return job_parse(job, &b, &f);
}

#define REMOTE "s@x\0\0one.test\0a@one.test\0\0b@TWO.test\0NOTIFY=NEVER\0c@One.Test\0\0d\0\0"

static void
a_job_with_its_message(void **state)
{
	static const char message[] = "octets\0of\n";
	struct channel_frame f;
	struct job job;

	(void)state;
	assert_true(job_put(&a, 7, REMOTE, 11, sizeof REMOTE - 1, sizeof message, message, -1));
	f = next();
	assert_int_equal(job_parse(&job, &b, &f), 1);
	assert_int_equal(job.id, 7);
	assert_int_equal(job.fd, -1);
	assert_int_equal(job.size, sizeof message);
	assert_memory_equal(job.message, message, sizeof message);
	assert_int_equal(job_remote_recipients(&job), 4);
	assert_string_equal(job_string(&job, JOB_REMOTE_HOST), "one.test");
	assert_string_equal(job_string(&job, job_remote_recipient(1)), "b@TWO.test");
	assert_string_equal(job_string(&job, job_remote_recipient(1) + 1), "NOTIFY=NEVER");
	assert_null(job_string(&job, 11));
}

static void
the_host_of_each_recipient(void **state)
{
	static const char *const hosts[] = { "one.test", "TWO.test", "one.test", "one.test" };
	struct job_recipient recipients[JOB_RECIPIENTS_MAX];
	struct channel_frame f;
	struct job job;

	(void)state;
	assert_true(job_put(&a, 7, REMOTE, 11, sizeof REMOTE - 1, 0, "", -1));
	f = next();
	assert_int_equal(job_parse(&job, &b, &f), 1);
	job_remote_take(&job, recipients);
	for (uint32_t n = 0; n < 4; n++) {
		assert_string_equal(recipients[n].host, hosts[n]);
		assert_ptr_equal(recipients[n].address, job_string(&job, job_remote_recipient(n)));
		assert_ptr_equal(recipients[n].parameters, job_string(&job, job_remote_recipient(n) + 1));
	}
}

static void
a_job_with_a_file(void **state)
{
	struct channel_frame f;
	struct job job;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(job_put(&a, 8, "a\0b\0", 2, 4, 1 << 20, NULL, fd));
	f = next();
	assert_int_equal(job_parse(&job, &b, &f), 1);
	assert_null(job.message);
	assert_int_equal(job.size, 1 << 20);
	assert_true(job.fd >= 0);
	close(job.fd);
}

static void
strings_above_the_limit(void **state)
{
	static char strings[JOB_STRINGS_MAX + 1];

	(void)state;
	assert_false(job_put(&a, 1, strings, 1, sizeof strings, 0, "", -1));
	assert_int_equal(errno, EMSGSIZE);
}

#define ID "\0\0\0\1"
#define COUNT(n) "\0\0\0" n
#define SIZE(n) "\0\0\0\0\0\0\0" n
#define FRAME(s) s, sizeof s - 1

static const struct malformed { const char *rule; char type; const char *s; size_t len; } malformed[] = {
	{ "another type", 'A', FRAME(ID COUNT("\0") SIZE("\0")) },
	{ "empty", 'J', FRAME("") },
	{ "a cut header", 'J', FRAME(ID COUNT("\0") "\0\0\0\0\0\0\0") },
	{ "fewer strings than it says", 'J', FRAME(ID COUNT("\2") SIZE("\0") "a\0") },
	{ "a string without end", 'J', FRAME(ID COUNT("\1") SIZE("\0") "abc") },
	{ "very many strings", 'J', FRAME(ID "\xff\xff\xff\xff" SIZE("\0") "a\0") },
	{ "a shorter message than it says", 'J', FRAME(ID COUNT("\1") SIZE("\4") "a\0xyz") },
	{ "a longer message than it says", 'J', FRAME(ID COUNT("\1") SIZE("\2") "a\0xyz") },
	{ "a file without a descriptor", 'F', FRAME(ID COUNT("\1") SIZE("\2") "a\0") },
	{ "a file with octets", 'F', FRAME(ID COUNT("\1") SIZE("\2") "a\0xy") },
};

static void
malformed_row(void **state)
{
	const struct malformed *row = *state;
	struct job job;

	assert_int_equal(parses(&job, row->type, row->s, row->len), 0);
}

static void
no_remote_job(void **state)
{
	struct job job;

	(void)state;
	for (uint32_t n = 0; n <= JOB_REMOTE_FIRST_RECIPIENT + 2 * JOB_RECIPIENTS_MAX + 3; n++) {
		job.strings_len = n;
		assert_int_equal(job_remote_recipients(&job), n <= JOB_REMOTE_FIRST_RECIPIENT || (n - JOB_REMOTE_FIRST_RECIPIENT) % 2 ||
		    n > JOB_REMOTE_FIRST_RECIPIENT + 2 * JOB_RECIPIENTS_MAX ? 0 : (n - JOB_REMOTE_FIRST_RECIPIENT) / 2);
	}
}

static void
an_answer(void **state)
{
	static char text[JOB_TEXT_MAX + 100];
	struct channel_frame f;

	(void)state;
	assert_true(job_answer(&a, 0x01020304, 5, 'K', text, sizeof text));
	f = next();
	assert_int_equal(f.type, JOB_DONE);
	assert_memory_equal(f.s, "\1\2\3\4\0\0\0\5K", 9);
	assert_int_equal(f.len, 9 + JOB_TEXT_MAX);
}

int
main(void)
{
	enum { ROWS = sizeof malformed / sizeof *malformed };
	const struct CMUnitTest others[] = {
		cmocka_unit_test_setup_teardown(a_job_with_its_message, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_host_of_each_recipient, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_job_with_a_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(strings_above_the_limit, set_up, tear_down),
		cmocka_unit_test(no_remote_job),
		cmocka_unit_test_setup_teardown(an_answer, set_up, tear_down),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ malformed[i].rule, malformed_row, set_up, tear_down, (void *)(uintptr_t)&malformed[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
