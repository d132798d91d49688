/* Log lines: quoting (interfaces section 15), a reader that is slow or gone. */
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
#include <unistd.h>
#include "bin-src/send/log.h"

static const struct row { const char *rule, *text, *want; } rows[] = {
	{ "newline", "a\nb\n", "a/b/" },
	{ "space and tab", "a b\tc", "a_b_c" },
	{ "percent", "100%", "100_" },
	{ "control octets", "\001\033[31m\177", "__[31m_" },
	{ "above 126", "caf\xc3\xa9~", "caf__~" },
	{ "others as they are", "<a@b>!\"#$&'*/", "<a@b>!\"#$&'*/" },
};

static void
quoting(void **state)
{
	const struct row *row = *state;
	char got[100] = "";
	struct log log;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(log_init(&log, ends[1]), 1);
	log_text(&log, "x ");
	log_number(&log, 42);
	log_text(&log, " ");
	log_quoted(&log, row->text, strlen(row->text));
	log_end(&log);
	assert_int_equal(log_flush(&log), 1);
	assert_in_range(read(ends[0], got, sizeof got - 1), 6, 90);
	assert_memory_equal(got, "x 42 ", 5);
	got[strlen(got) - 1] = '\0';
	assert_string_equal(got + 5, row->want);
	log_free(&log);
	close(ends[0]);
	close(ends[1]);
}

/* Reads all that is in the pipe. */
static size_t
drain(int fd, char *to, size_t size)
{
	size_t len = 0;
	ssize_t r;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((r = read(fd, to + len, size - len)) > 0)
		len += (size_t)r;
	return len;
}

/* A reader that stands still: nothing waits for it, lines are lost and counted, the others come whole and in order. */
static void
slow_reader(void **state)
{
	static char got[4 * LOG_BUFFER];
	enum { LINES = 40000 };
	unsigned long lost = 0, next = 0, expected = 0;
	size_t len = 0, n;
	struct log log;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	log_init(&log, ends[1]);
	for (unsigned int i = 0; i < LINES; i++) {
		char text[64];

		snprintf(text, sizeof text, "line %u of a log that nobody reads for a while", i);
		log_line(&log, text, NULL);
		if (i % 100 == 0)
			assert_int_not_equal(log_flush(&log), -1);
	}
	assert_int_equal(log_flush(&log), 0);
	do {
		n = drain(ends[0], got + len, sizeof got - len);
		len += n;
	} while (log_flush(&log) == 0 || n);
	for (char *line = got, *end; line < got + len; line = end + 1) {
		unsigned long number;

		end = memchr(line, '\n', (size_t)(got + len - line));
		assert_non_null(end);
		if (sscanf(line, "warning: log reader too slow, lines lost: %lu", &number) == 1)
			lost += number;
		else {
			assert_int_equal(sscanf(line, "line %lu of a log", &number), 1);
			assert_true(number >= next);
			next = number + 1;
			expected++;
		}
	}
	assert_true(lost > 0);
	assert_int_equal(expected + lost, LINES);
	log_free(&log);
	close(ends[0]);
	close(ends[1]);
}

static void
gathering(void **state)
{
	struct log log;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	log_init(&log, ends[1]);
	assert_true(log_due(&log, 1000) == INT64_MAX);
	log_line(&log, "first", NULL);
	assert_int_equal(log_due(&log, 1000), 1000 + LOG_GATHER_MS);
	log_line(&log, "second", NULL);
	assert_int_equal(log_due(&log, 1001), 1000 + LOG_GATHER_MS);
	assert_int_equal(log_flush(&log), 1);
	assert_true(log_due(&log, 1002) == INT64_MAX);
	while (log.len < LOG_PIECE) {
		log_line(&log, "many", NULL);
		assert_int_equal(log_due(&log, 2000), log.len < LOG_PIECE ? 2000 + LOG_GATHER_MS : 2000);
	}
	log_free(&log);
	close(ends[0]);
	close(ends[1]);
}

static void
reader_gone(void **state)
{
	struct log log;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	log_init(&log, ends[1]);
	log_line(&log, "nobody", NULL);
	assert_int_equal(log_flush(&log), -1);
	assert_int_equal(log_flush(&log), 1);
	log_free(&log);
	close(ends[1]);
}

static void
long_line(void **state)
{
	static char text[3 * LOG_LINE_MAX], got[2 * LOG_LINE_MAX];
	struct log log;
	int ends[2];
	size_t len;

	(void)state;
	memset(text, 'a', sizeof text - 1);
	assert_int_equal(pipe(ends), 0);
	log_init(&log, ends[1]);
	log_quoted(&log, text, sizeof text - 1);
	log_text(&log, text);
	log_number(&log, 7);
	log_end(&log);
	assert_int_equal(log_flush(&log), 1);
	len = drain(ends[0], got, sizeof got);
	assert_int_equal(len, LOG_LINE_MAX);
	assert_int_equal(got[len - 1], '\n');
	assert_null(memchr(got, '\n', len - 1));
	log_free(&log);
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS + 4];
	size_t n = 0;

	signal(SIGPIPE, SIG_IGN);
	for (; n < ROWS; n++)
		tests[n] = (struct CMUnitTest){ .name = rows[n].rule, .test_func = quoting,
		    .initial_state = (void *)(uintptr_t)&rows[n] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(slow_reader);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(gathering);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(reader_gone);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(long_line);
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
