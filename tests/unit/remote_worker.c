/* A kept qmail-remote, in a process of its own: this test is qmail-send, and the servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "bin-src/remote/worker.h"
#include "job.h"
#include "unit_worker.h"

enum { SERVERS = 3, HOST_KEPT = 1023 };	/* octets of the longest host whose session is kept */

static int servers[SERVERS];	/* our ends; which of them is dialled next, the worker's process counts */
static int clients[SERVERS];

/* --- in the worker's process ----------------------------------------------------------------------------------- */

static struct dial dial;
static int service[2];	/* the worker's end of a connection to a service, and the other one; -1 none */

int
dial_service(const struct dial *d)
{
	(void)d;
	return service[0];
}

char
dial_host(struct dial *d, const char *host, struct session *s, stralloc *text)
{
	static unsigned int dialled;

	(void)d, (void)host;
	text->len = 0;
	if (dialled == SERVERS)
		return 'Z';
	connection_init(&s->connection, clients[dialled++]);
	s->timeout = 20;
	s->extensions = SESSION_PIPELINING;
	s->recipients_max = SESSION_RECIPIENTS_MAX;
	s->messages = s->messages_max = 0;
	s->needs_reset = 0;
	return 'K';
}

int
dial_is_same(const struct dial *d, const char *host, const char *other)
{
	(void)d;
	return strcmp(host, other) == 0;
}

/* --- qmail-send -------------------------------------------------------------------------------------------------- */

static const char *trouble;

static void
run(void)
{
	for (unsigned int i = 0; i < SERVERS; i++)
		close(servers[i]);
	close(service[1]);
	PROG = "qmail-remote";
	_exit(worker_run(&dial, trouble));
}

static void
start_worker(void)
{
	worker_start(run);
	for (unsigned int i = 0; i < SERVERS; i++)
		close(clients[i]);
}

static int
set_up(void **state)
{
	(void)state;
	service[0] = service[1] = -1;
	/* 3 is the worker's socket's: nothing else may be there */
	if (fcntl(JOB_WORKER_FD, F_GETFD) < 0)
		assert_int_equal(dup2(STDERR_FILENO, JOB_WORKER_FD), JOB_WORKER_FD);
	for (unsigned int i = 0; i < SERVERS; i++) {
		int fd[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
		servers[i] = fd[0];
		clients[i] = fd[1];
		assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	}
	return 0;
}

static int
tear_down(void **state)
{
	for (unsigned int i = 0; i < SERVERS; i++)
		close(servers[i]);
	trouble = NULL;
	dial.is_spent = 0;
	return worker_end(state);
}

static unsigned int
descriptors_of_worker(void)
{
	char path[64];
	unsigned int n = 0;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)worker_pid());
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* --- servers ------------------------------------------------------------------------------------------------------- */

#define OK "250 ok\r\n"

/* What server i hears until that ends so, or until the client closes; the same text until the next call. */
static const char *
hears(unsigned int i, const char *end)
{
	static char s[8192];
	size_t len = 0, n = strlen(end);

	while (len < sizeof s - 1 && (len < n || memcmp(s + len - n, end, n) != 0)) {
		ssize_t r = recv(servers[i], s + len, sizeof s - 1 - len, 0);

		if (r <= 0)
			break;
		len += (size_t)r;
	}
	s[len] = '\0';
	return s;
}

/* Until the client closes, which resets where something was not read. */
static void
hears_nothing(unsigned int i)
{
	char octet;

	assert_true(recv(servers[i], &octet, 1, 0) <= 0);
}

static void
says(unsigned int i, const char *s)
{
	assert_int_equal(send(servers[i], s, strlen(s), MSG_NOSIGNAL), strlen(s));
}

/* replies: up to that to DATA, which is 354. */
static void
takes_message(unsigned int i, const char *replies)
{
	assert_non_null(strstr(hears(i, "DATA\r\n"), "MAIL FROM"));
	says(i, replies);
	hears(i, "\r\n.\r\n");
	says(i, OK);
}

/* --- tests --------------------------------------------------------------------------------------------------------- */

#define ONE "s@x.test||x.test|a@x.test||"

static void
jobs_are_answered_by_their_ids_and_recipients(void **state)
{
	(void)state;
	start_worker();
	worker_job(5, "s@x.test||x.test|a@x.test||b@x.test||c@x.test||", "hello\n", -1, 0);
	worker_job(6, ONE, "hello\n", -1, 0);
	takes_message(0, OK OK "550 no\r\n" "450 later\r\n" "354 go\r\n");
	worker_expect("5 0 K ");
	worker_expect("5 1 D ");
	worker_expect("5 2 Z ");
	takes_message(0, OK OK "354 go\r\n");
	worker_expect("6 0 K ");
}

static void
recipients_of_several_hosts_keep_their_numbers(void **state)
{
	(void)state;
	start_worker();
	worker_job(7, "s@x.test||x.test|a@x.test||b@y.test||c@x.test||", "hello\n", -1, 0);
	takes_message(0, OK OK "550 no\r\n" "354 go\r\n");	/* a and c */
	worker_expect("7 0 K ");
	worker_expect("7 2 D ");
	assert_string_equal(hears(0, "QUIT\r\n"), "QUIT\r\n");
	takes_message(1, OK OK "354 go\r\n");
	worker_expect("7 1 K ");
}

static void
trouble_defers_every_recipient_and_ends_the_worker(void **state)
{
	(void)state;
	trouble = "Unable to read control files";
	start_worker();
	worker_job(1, "s@x.test||x.test|a@x.test||b@y.test||", "hello\n", -1, 0);
	worker_expect("1 0 Z Unable to read control files. (#4.3.0)");
	worker_expect("1 1 Z Unable to read control files. (#4.3.0)");
	worker_expect("end");
	assert_int_equal(worker_exit(), 0);
	hears_nothing(0);
}

static void
a_worker_that_lost_a_service_ends_with_its_job(void **state)
{
	(void)state;
	dial.is_spent = 1;
	start_worker();
	worker_job(1, ONE, "hello\n", -1, 0);
	takes_message(0, OK OK "354 go\r\n");
	worker_expect("1 0 K ");
	worker_expect("end");
	assert_int_equal(worker_exit(), 0);
}

/* While it waits; what comes for it first is done. */
static void
a_worker_ends_with_its_service(void **state)
{
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, service), 0);
	start_worker();
	close(service[0]);
	worker_job(1, ONE, "hello\n", -1, 0);
	takes_message(0, OK OK "354 go\r\n");
	worker_expect("1 0 K ");
	close(service[1]);
	worker_expect("end");
	assert_int_equal(worker_exit(), 0);
	assert_string_equal(hears(0, "QUIT\r\n"), "QUIT\r\n");
}

static void
a_session_ends_with_the_socket_of_the_worker(void **state)
{
	(void)state;
	start_worker();
	worker_job(1, ONE, "hello\n", -1, 0);
	takes_message(0, OK OK "354 go\r\n");
	worker_expect("1 0 K ");
	worker_hang_up();
	assert_int_equal(worker_exit(), 0);
	assert_string_equal(hears(0, "QUIT\r\n"), "QUIT\r\n");
}

static void
a_server_that_speaks_or_closes_while_nothing_is_to_be_done_is_left(void **state)
{
	(void)state;
	start_worker();
	for (unsigned int i = 0; i < 2; i++) {
		worker_job(i, ONE, "hello\n", -1, 0);
		takes_message(i, OK OK "354 go\r\n");
		worker_expect(i ? "1 0 K " : "0 0 K ");
		if (i == 0)
			says(0, "421 bye\r\n");
		else
			shutdown(servers[1], SHUT_WR);
		hears_nothing(i);
	}
	worker_job(2, ONE, "hello\n", -1, 0);
	takes_message(2, OK OK "354 go\r\n");
	worker_expect("2 0 K ");
}

static void
a_file_is_sent_and_closed(void **state)
{
	int fd = memfd_create("message", MFD_CLOEXEC);	/* the channel closes it */
	unsigned int before;

	(void)state;
	assert_int_equal(write(fd, "hello\n", 6), 6);
	start_worker();
	worker_job(1, ONE, "hello\n", -1, 0);
	takes_message(0, OK OK "354 go\r\n");
	worker_expect("1 0 K ");
	before = descriptors_of_worker();
	worker_job(2, ONE, NULL, fd, 6);
	hears(0, "DATA\r\n");
	says(0, OK OK "354 go\r\n");
	assert_string_equal(hears(0, "\r\n.\r\n"), "hello\r\n.\r\n");
	says(0, OK);
	worker_expect("2 0 K ");
	worker_job(3, ONE, "hello\n", -1, 0);	/* by then it has closed it */
	takes_message(0, OK OK "354 go\r\n");
	worker_expect("3 0 K ");
	assert_int_equal(descriptors_of_worker(), before);
}

/* A session is kept by its host's name, as far as that is kept. */
static void
a_session_with_a_host_of(size_t len, int is_kept)
{
	char job[2 * HOST_KEPT + 64], host[HOST_KEPT + 2];

	memset(host, 'x', len);
	host[len] = '\0';
	snprintf(job, sizeof job, "s@x.test||%s|a||", host);
	start_worker();
	for (unsigned int i = 0; i < 2; i++) {
		worker_job(i, job, "hello\n", -1, 0);
		takes_message(is_kept ? 0 : i, OK OK "354 go\r\n");
		worker_expect(i ? "1 0 K " : "0 0 K ");
	}
}

static void
a_session_with_the_longest_host_is_kept(void **state)
{
	(void)state;
	a_session_with_a_host_of(HOST_KEPT, 1);
}

static void
a_session_with_a_longer_host_is_not(void **state)
{
	(void)state;
	a_session_with_a_host_of(HOST_KEPT + 1, 0);
}

/* --- nonsense ---------------------------------------------------------------------------------------------------- */

#define FRAME(s) s, sizeof s - 1
static const struct nonsense { const char *rule, *s; size_t len; } nonsenses[] = {
	{ "a frame of another type", FRAME("\0\0\0\4Q\0\0\0\1") },
	{ "an answer", FRAME("\0\0\0\11A\0\0\0\1\0\0\0\0K") },
	{ "an empty job", FRAME("\0\0\0\0J") },
	{ "a job without recipients", FRAME("\0\0\0\025J\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0\0s\0\0x\0") },
	{ "a recipient without parameters", FRAME("\0\0\0\027J\0\0\0\1\0\0\0\4\0\0\0\0\0\0\0\0s\0\0x\0a\0") },
	{ "a file without a descriptor", FRAME("\0\0\0\030F\0\0\0\1\0\0\0\5\0\0\0\0\0\0\0\0s\0\0x\0a\0\0") },
	{ "a frame above the bound", FRAME("\x7f\xff\xff\xffJ") },
};
enum { NONSENSES = sizeof nonsenses / sizeof *nonsenses };

/* It ends without an answer, which qmail-send takes for a deferral, and without a word to anybody. */
static void
nonsense_ends_the_worker(void **state)
{
	const struct nonsense *row = *state;

	start_worker();
	worker_octets(row->s, row->len);
	worker_expect("end");
	assert_int_equal(worker_exit(), 0);
	hears_nothing(0);
}

static void
more_recipients_than_a_job_may_have(void **state)
{
	char job[64 + 3 * (JOB_RECIPIENTS_MAX + 1)] = "s@x.test||x.test|";

	(void)state;
	for (unsigned int i = 0; i <= JOB_RECIPIENTS_MAX; i++)
		strcat(job, "a||");
	start_worker();
	worker_job(1, job, "hello\n", -1, 0);
	worker_expect("end");
	assert_int_equal(worker_exit(), 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest others[] = {
		TEST(jobs_are_answered_by_their_ids_and_recipients), TEST(recipients_of_several_hosts_keep_their_numbers),
		TEST(trouble_defers_every_recipient_and_ends_the_worker),
		TEST(a_worker_that_lost_a_service_ends_with_its_job), TEST(a_worker_ends_with_its_service),
		TEST(a_session_ends_with_the_socket_of_the_worker),
		TEST(a_server_that_speaks_or_closes_while_nothing_is_to_be_done_is_left), TEST(a_file_is_sent_and_closed),
		TEST(a_session_with_the_longest_host_is_kept), TEST(a_session_with_a_longer_host_is_not),
		TEST(more_recipients_than_a_job_may_have),
	};
	struct CMUnitTest tests[NONSENSES + sizeof others / sizeof *others];

	for (size_t i = 0; i < NONSENSES; i++)
		tests[i] = (struct CMUnitTest){ nonsenses[i].rule, nonsense_ends_the_worker, set_up, tear_down, (void *)(uintptr_t)&nonsenses[i] };
	memcpy(tests + NONSENSES, others, sizeof others);
	return cmocka_run_group_tests_name("remote_worker", tests, NULL, NULL);
}
