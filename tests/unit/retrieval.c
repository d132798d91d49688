/* Messages on their way to a POP3 client: RFC 1939 sections 3, 5 and 7, RFC 6858 section 4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bin-src/lib/monotonic.h"
#include "bin-src/pop3d/retrieval.h"

#define A "\303\244"	/* an umlaut in UTF-8 */
#define QA "=?utf-8?q?=C3=A4?="

/* What a client is told lies in a file. */
struct fixture {
	struct output out;
	char *got;
	size_t len;
};

static int
make(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	if (!f || (f->out.fd = memfd_create("client", MFD_CLOEXEC)) < 0)
		return 1;
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

	close(f->out.fd);
	free(f->got);
	free(f);
	return 0;
}

static void
end(struct fixture *f)
{
	off_t size;

	output_flush(&f->out);
	size = lseek(f->out.fd, 0, SEEK_CUR);
	f->got = calloc(1, (size_t)size + 1);
	assert_non_null(f->got);
	f->len = (size_t)size;
	assert_int_equal(pread(f->out.fd, f->got, f->len, 0), size);
}

/* A message of len octets, as stored, of which its file tells size. */
static void
open_stored(struct retrieval *r, const char *stored, size_t len, size_t size)
{
	int fd = memfd_create("message", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, stored, len), len);
	retrieval_open(r, fd, size);
}

static const struct row { const char *rule, *stored, *sent; } rows[] = {
	{ "LF", "a: b\n\nc\n", "a: b\r\n\r\nc\r\n" },
	{ "CR LF stays", "a: b\r\n\r\nc\r\n", "a: b\r\n\r\nc\r\n" },
	{ "dots", ".\n..\na.\n.b\n", "..\r\n...\r\na.\r\n..b\r\n" },
	{ "a dot alone at the end", "a\n.", "a\r\n..\r\n" },
	{ "no final newline", "a", "a\r\n" },
	{ "a CR alone is no line end, nor is there one behind it", "a\r.\rb\n", "a . b\r\n" },
	{ "nothing", "", "" },
	{ "a body in UTF-8", "a: b\n\n" A "\n", "a: b\r\n\r\n" A "\r\n" },
};

static void
messages(void **state)
{
	struct fixture *f = *state;
	char want[1000] = "";

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct retrieval r;

		open_stored(&r, rows[i].stored, strlen(rows[i].stored), strlen(rows[i].stored));
		assert_int_equal(retrieval_begin(&r, 0), 1);
		assert_int_equal(retrieval_send(&r, &f->out), 1);
		output_text(&f->out, ".\r\n");
		strcat(want, rows[i].sent);
		strcat(want, ".\r\n");
		retrieval_close(&r);
	}
	end(f);
	assert_int_equal(f->len, strlen(want));
	assert_memory_equal(f->got, want, f->len);
}

/* lines: -1 all; want with UTF8, and without. */
static const struct top_row { const char *rule; int lines; const char *stored, *utf8, *ascii; } tops[] = {
	{ "all of it", -1, "Subject: " A "\n\n." A "\n", "Subject: " A "\r\n\r\n.." A "\r\n", "Subject: " QA "\r\n\r\n.." A "\r\n" },
	{ "no line", 0, "Subject: " A "\n\n1\n2\n", "Subject: " A "\r\n\r\n", "Subject: " QA "\r\n\r\n" },
	{ "a line", 1, "Subject: " A "\n\n1\n2\n", "Subject: " A "\r\n\r\n1\r\n", "Subject: " QA "\r\n\r\n1\r\n" },
	{ "UTF-8 behind the last line", 1, "Subject: a\n\n1\n" A "\n", "Subject: a\r\n\r\n1\r\n", "Subject: a\r\n\r\n1\r\n" },
	{ "more lines than there are", 9, "Subject: " A "\n\n1\n", "Subject: " A "\r\n\r\n1\r\n", "Subject: " QA "\r\n\r\n1\r\n" },
	{ "lines that only the stored message has", 3, "Content-Type: message/rfc822\n\nReceived: " A "\n " A "\nX: y\n\nz\n",
	    "Content-Type: message/rfc822\r\n\r\nReceived: " A "\r\n " A "\r\nX: y\r\n", "Content-Type: message/rfc822\r\n\r\nX: y\r\n\r\nz\r\n" },
	{ "lines that only the surrogate has", 2, "Content-Type: message/rfc822\n\nTo: a@b, " A "@c\n\nz\n",
	    "Content-Type: message/rfc822\r\n\r\nTo: a@b, " A "@c\r\n\r\n",
	    "Content-Type: message/rfc822\r\n\r\nTo: a@b,\r\n =?utf-8?q?=C3=A4=40c?= <invalid@internationalized-address.invalid>\r\n" },
};

static void
tops_and_surrogates(void **state)
{
	struct fixture *f = *state;
	char want[4000] = "";

	for (size_t i = 0; i < 2 * (sizeof tops / sizeof *tops); i++) {
		const struct top_row *t = &tops[i / 2];
		struct retrieval r;
		int is_utf8 = (int)(i % 2);

		open_stored(&r, t->stored, strlen(t->stored), strlen(t->stored));
		assert_int_equal(t->lines < 0 ? retrieval_begin(&r, is_utf8) : retrieval_begin_top(&r, is_utf8, (uint64_t)t->lines), 1);
		assert_int_equal(retrieval_send(&r, &f->out), 1);
		strcat(want, is_utf8 ? t->utf8 : t->ascii);
		retrieval_close(&r);
	}
	end(f);
	assert_string_equal(f->got, want);
}

/* Wherever in the buffer a message begins, it is sent whole. */
static void
a_message_at_any_place(void **state)
{
	static const char line[] = ".x\n";
	enum { LINES = 30000 };
	struct fixture *f = *state;
	char *stored = test_malloc(3 * LINES);

	for (size_t i = 0; i < LINES; i++)
		memcpy(stored + 3 * i, line, 3);
	for (size_t before = OUTPUT_SIZE - 9; before < OUTPUT_SIZE; before++) {
		struct retrieval r;

		output_flush(&f->out);
		for (size_t i = 0; i < before; i++)
			output_text(&f->out, "-");
		open_stored(&r, stored, 3 * LINES, 3 * LINES);
		assert_int_equal(retrieval_begin(&r, 0), 1);
		assert_int_equal(retrieval_send(&r, &f->out), 1);
		retrieval_close(&r);
	}
	end(f);
	assert_int_equal(f->len, 9 * (OUTPUT_SIZE - 5) + 9 * 5 * LINES);
	test_free(stored);
}

static void
a_message_that_became_shorter(void **state)
{
	struct fixture *f = *state;
	struct retrieval r;

	open_stored(&r, "abc\n", 4, 5);
	assert_int_equal(retrieval_begin(&r, 0), 0);
	assert_int_equal(errno, EIO);
	assert_int_equal(retrieval_begin(&r, 1), 1);
	assert_int_equal(retrieval_send(&r, &f->out), 0);
	assert_int_equal(errno, EIO);
	assert_int_equal(retrieval_begin_top(&r, 1, 9), 0);
	assert_int_equal(errno, EIO);
	retrieval_close(&r);
}

static void
a_client_that_is_gone(void **state)
{
	struct fixture *f = *state;
	struct retrieval r;

	f->out.is_broken = 1;
	open_stored(&r, "abc\n", 4, 4);
	assert_int_equal(retrieval_begin(&r, 0), 1);
	assert_int_equal(retrieval_send(&r, &f->out), 1);
	assert_int_equal(f->out.len, 0);
	retrieval_close(&r);
}

#define TEST(t) { #t, t, make, destroy, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(messages), TEST(tops_and_surrogates), TEST(a_message_at_any_place), TEST(a_message_that_became_shorter),
		TEST(a_client_that_is_gone),
	};

	return cmocka_run_group_tests_name("retrieval", tests, NULL, NULL);
}
