/* What a POP3 client is told: gathered replies, clients that do not read. RFC 1939 section 3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/lib/monotonic.h"
#include "bin-src/pop3d/output.h"

enum { MOST = 4 << 20 };

struct fixture {
	struct output out;
	int client;
	pthread_t reader;
	char *got;
	size_t len;
};

static int
make(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	int fd[2];

	if (!f || !(f->got = malloc(MOST)) || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
		return 1;
	f->client = fd[0];
	f->out.fd = fd[1];
	f->out.timeout_ms = 60000;
	f->out.session_end = monotonic_ms() + 3600000;
	output_start(&f->out);
	*state = f;
	return 0;
}

static int
destroy(void **state)
{
	struct fixture *f = *state;

	close(f->client);
	free(f->got);
	free(f);
	return 0;
}

static void *
read_all(void *data)
{
	struct fixture *f = data;
	ssize_t n;

	while ((n = read(f->client, f->got + f->len, MOST - f->len)) > 0)
		f->len += (size_t)n;
	return NULL;
}

static void
client_reads(struct fixture *f)
{
	assert_int_equal(pthread_create(&f->reader, NULL, read_all, f), 0);
}

/* Everything that was told until now. */
static void
end(struct fixture *f)
{
	output_flush(&f->out);
	close(f->out.fd);
	assert_int_equal(pthread_join(f->reader, NULL), 0);
}

static void
nothing_leaves_before_a_flush(void **state)
{
	struct fixture *f = *state;
	char got[100];

	output_text(&f->out, "+OK ");
	output_number(&f->out, 0);
	output_put(&f->out, " x", 1);
	output_number(&f->out, UINT64_MAX);
	assert_int_equal(recv(f->client, got, sizeof got, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	output_flush(&f->out);
	output_flush(&f->out);
	assert_int_equal(recv(f->client, got, sizeof got, MSG_DONTWAIT), 26);
	assert_memory_equal(got, "+OK 0 18446744073709551615", 26);
	close(f->out.fd);
}

static void
more_than_the_buffer(void **state)
{
	struct fixture *f = *state;

	client_reads(f);
	for (uint64_t i = 0; i < 100000; i++) {
		output_number(&f->out, 1000000 + i);
		output_text(&f->out, "\r\n");
	}
	end(f);
	assert_int_equal(f->len, 900000);
	for (size_t i = 0; i < 100000; i++)
		assert_int_equal(strtoul(f->got + 9 * i, NULL, 10), 1000000 + i);
}

static void
a_client_that_is_gone(void **state)
{
	struct fixture *f = *state;
	size_t room;

	shutdown(f->client, SHUT_RDWR);
	output_text(&f->out, "+OK\r\n");
	assert_false(f->out.is_broken);
	output_flush(&f->out);
	assert_true(f->out.is_broken);
	/* nothing more is tried */
	output_text(&f->out, "+OK\r\n");
	assert_null(output_room(&f->out, &room));
	output_flush(&f->out);
	assert_int_equal(f->out.len, 0);
	close(f->out.fd);
}

static void
a_client_that_does_not_read(void **state)
{
	struct fixture *f = *state;

	f->out.timeout_ms = 20;
	output_start(&f->out);
	while (!f->out.is_broken)	/* until its socket is full */
		output_text(&f->out, "0123456789");
	close(f->out.fd);
}

#define TEST(t) { #t, t, make, destroy, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_leaves_before_a_flush), TEST(more_than_the_buffer), TEST(a_client_that_is_gone), TEST(a_client_that_does_not_read),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
