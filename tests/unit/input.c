/* Command lines and data from a client: RFC 5321 section 2.3.8; hostile inputs S2, S13, S14. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/lib/monotonic.h"
#include "bin-src/lib/input.h"

struct fixture {
	struct input in;
	int client;
	unsigned int flushes, rests;
};

static void
flush(void *data)
{
	((struct fixture *)data)->flushes++;
}

static void
rest(void *data)
{
	((struct fixture *)data)->rests++;
}

static int
is_stopping(void)
{
	return 0;
}

static void
begin(struct fixture *f, int type)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, type, 0, fd), 0);
	*f = (struct fixture){ .client = fd[1], .in = { .fd = fd[0], .timeout_ms = 200, .session_end = monotonic_ms() + 60000,
	    .flush = flush, .rest = rest, .is_stopping = is_stopping } };
	f->in.data = f;
	input_start(&f->in);
}

static void
end(struct fixture *f)
{
	close(f->client);
	close(f->in.fd);
}

static void
say(struct fixture *f, const char *s, size_t len)
{
	assert_int_equal(send(f->client, s, len, MSG_NOSIGNAL), len);
}

#define TEXT(s) s, sizeof s - 1
#define MOST 8

/* What lines come of octets: '+' and the line, or the letter of a result. */
static const struct line_row { const char *rule, *octets; size_t len; const char *want[MOST]; } rows[] = {
	{ "a line", TEXT("NOOP\r\n"), { "+NOOP", "closed" } },
	{ "an empty line", TEXT("\r\n"), { "+", "closed" } },
	{ "lines", TEXT("a\r\nb c\r\n"), { "+a", "+b c", "closed" } },
	{ "a line without end", TEXT("a\r\nb"), { "+a", "closed" } },
	{ "NUL", TEXT("a\0b\r\nc\r\n"), { "nul", "+c", "closed" } },
	{ "8 bits", TEXT("\xff\r\n"), { "+\xff", "closed" } },
	{ "LF, more behind it", TEXT("a\nb\r\n"), { "pipelined" } },
	{ "LF, more before it", TEXT("a\r\nb\n"), { "+a", "bare", "closed" } },
	{ "CR inside", TEXT("a\rb\r\n"), { "pipelined" } },
	{ "CR CR LF", TEXT("a\r\r\n"), { "pipelined" } },
	{ "LF CR", TEXT("a\n\r"), { "pipelined" } },
};
enum { ROWS = sizeof rows / sizeof *rows };

static const char *
describe(enum input_result r, const char *line, char *buffer, size_t size)
{
	static const char *const names[] = { [INPUT_TOO_LONG] = "long", [INPUT_NUL] = "nul", [INPUT_BARE] = "bare",
		[INPUT_BARE_PIPELINED] = "pipelined", [INPUT_FLOOD] = "flood", [INPUT_CLOSED] = "closed", [INPUT_TIMEOUT] = "timeout",
		[INPUT_SESSION_OVER] = "over", [INPUT_STOPPING] = "stopping" };

	if (r != INPUT_OK)
		return names[r];
	snprintf(buffer, size, "+%s", line);
	return buffer;
}

/* piece: octets of a packet; each is read by itself. */
static void
run_row(const struct line_row *row, size_t piece)
{
	struct fixture f;

	/* a datagram socket would lose its end; packets keep what is read together apart */
	begin(&f, SOCK_SEQPACKET);
	for (size_t i = 0; i < row->len; i += piece)
		say(&f, row->octets + i, row->len - i < piece ? row->len - i : piece);
	shutdown(f.client, SHUT_WR);
	for (size_t i = 0; i < MOST && row->want[i]; i++) {
		char *line = NULL, buffer[64];
		size_t len = 0;
		enum input_result r = input_line(&f.in, &line, &len);
		const char *got = describe(r, line, buffer, sizeof buffer);

		/* the end of the input comes behind a lone LF as more would */
		if (strcmp(row->want[i], "bare") == 0) {
			assert_true(r == INPUT_BARE || r == INPUT_BARE_PIPELINED);
			break;
		}
		assert_string_equal(got, row->want[i]);
		if (r == INPUT_OK)
			assert_int_equal(len, strlen(got) - 1);
	}
	end(&f);
}

static void
line_row(void **state)
{
	const struct line_row *row = *state;

	for (size_t piece = row->len; piece; piece--)
		run_row(row, piece);
}

static void
lone_LF(void **state)
{
	struct fixture f;
	char *line;
	size_t len;

	(void)state;
	begin(&f, SOCK_STREAM);
	say(&f, TEXT("a\n"));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_BARE);
	say(&f, TEXT("b\r\n"));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
	assert_string_equal(line, "b");
	end(&f);
}

/* It may be what somebody else has put into that group. */
static void
LF_behind_another_line(void **state)
{
	struct fixture f;
	char *line;
	size_t len;

	(void)state;
	begin(&f, SOCK_STREAM);
	say(&f, TEXT("a\r\nb\n"));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_BARE_PIPELINED);
	end(&f);
}

static void
long_lines(void **state)
{
	static const size_t lens[] = { INPUT_LINE_MAX - 2, INPUT_LINE_MAX - 1, 40000, 60000, 70000 };
	static const enum input_result wants[] = { INPUT_OK, INPUT_TOO_LONG, INPUT_TOO_LONG, INPUT_TOO_LONG, INPUT_FLOOD };
	static char octets[70002];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		struct fixture f;
		char *line;
		size_t len;
		enum input_result r;

		begin(&f, SOCK_STREAM);
		memset(octets, 'x', sizeof octets);
		memcpy(octets + lens[i], "\r\n", 2);
		say(&f, octets, lens[i] + 2);
		say(&f, TEXT("next\r\n"));
		r = input_line(&f.in, &line, &len);
		assert_int_equal(r, wants[i]);
		if (r != INPUT_FLOOD) {
			assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
			assert_string_equal(line, "next");
		}
		end(&f);
	}
}

static void
times(void **state)
{
	struct fixture f;
	char *line;
	size_t len;
	uint64_t started = monotonic_ms();

	(void)state;
	begin(&f, SOCK_STREAM);
	say(&f, TEXT("a"));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_TIMEOUT);
	assert_true(monotonic_ms() - started >= 200);
	assert_int_equal(input_data(&f.in), INPUT_OK);	/* the octet is still there */
	input_forget(&f.in);
	assert_int_equal(input_data(&f.in), INPUT_TIMEOUT);
	f.in.session_end = monotonic_ms();
	assert_int_equal(input_data(&f.in), INPUT_SESSION_OVER);
	assert_true(f.flushes >= 3);
	end(&f);
}

static void
pipe_instead_of_a_socket(void **state)
{
	struct fixture f;
	char *line;
	size_t len;
	int fd[2];

	(void)state;
	begin(&f, SOCK_STREAM);
	end(&f);
	assert_int_equal(pipe(fd), 0);
	f.in.fd = fd[0];
	f.client = fd[1];
	input_start(&f.in);
	assert_false(f.in.times_out);
	assert_int_equal(write(fd[1], "a\r\n", 3), 3);
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_TIMEOUT);
	end(&f);
}

/* What comes behind the line is left for whoever reads next. */
static void
an_exact_line(void **state)
{
	struct fixture f;
	char *line, left[16];
	size_t len;

	(void)state;
	begin(&f, SOCK_STREAM);
	f.in.is_exact = 1;
	say(&f, TEXT("USE"));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_TIMEOUT);
	say(&f, TEXT("R a\r\nPASS b\r\nSTAT\r\nQ"));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
	assert_string_equal(line, "USER a");
	assert_true(input_is_empty(&f.in));
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
	assert_string_equal(line, "PASS b");
	assert_int_equal(read(f.in.fd, left, sizeof left), 7);
	assert_memory_equal(left, "STAT\r\nQ", 7);
	end(&f);
}

/* The same from a pipe, which has no way to look ahead. */
static void
an_exact_line_of_a_pipe(void **state)
{
	struct fixture f;
	char *line, left[16];
	int ends[2];
	size_t len;

	(void)state;
	begin(&f, SOCK_STREAM);
	assert_int_equal(pipe(ends), 0);
	f.in.is_exact = 1;
	f.in.fd = ends[0];
	assert_int_equal(write(ends[1], "PASS b\r\nSTAT\r\n", 14), 14);
	assert_int_equal(input_line(&f.in, &line, &len), INPUT_OK);
	assert_string_equal(line, "PASS b");
	assert_int_equal(read(ends[0], left, sizeof left), 6);
	close(ends[1]);
	end(&f);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 7];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = line_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(lone_LF);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(long_lines);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(times);
	tests[ROWS + 3] = (struct CMUnitTest)cmocka_unit_test(pipe_instead_of_a_socket);
	tests[ROWS + 4] = (struct CMUnitTest)cmocka_unit_test(an_exact_line);
	tests[ROWS + 5] = (struct CMUnitTest)cmocka_unit_test(an_exact_line_of_a_pipe);
	tests[ROWS + 6] = (struct CMUnitTest)cmocka_unit_test(LF_behind_another_line);
	return cmocka_run_group_tests_name("input", tests, NULL, NULL);
}
