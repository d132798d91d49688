/* mbox: what a message looks like in the file, and what a failure leaves; interfaces sections 8.6 and 24 number 13. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/local/mbox.h"

static const char file[] = "mbox";

static const struct row { const char *rule, *before, *message, *want; } rows[] = {
	{ "plain", "", "S: x\n\nhi\n", "From a\nS: x\n\nhi\n\n" },
	{ "empty message", "", "", "From a\n\n" },
	{ "last line without newline", "", "S: x\n\nhi", "From a\nS: x\n\nhi\n\n" },
	{ "From at the start of a line", "", "\nFrom b\n", "From a\n\n>From b\n\n" },
	{ "From in the first line", "", "From b\n", "From a\n>From b\n\n" },
	{ ">From gets one more", "", ">From b\n>>From c\n", "From a\n>>From b\n>>>From c\n\n" },
	{ "From without blank stays", "", "From\nFromage\n", "From a\nFrom\nFromage\n\n" },
	{ "from in lower case stays", "", "from b\n", "From a\nfrom b\n\n" },
	{ "> alone stays", "", ">\n>>>\n>a\n", "From a\n>\n>>>\n>a\n\n" },
	{ "> after F stays", "", "F>rom \n", "From a\nF>rom \n\n" },
	{ "From in the middle of a line stays", "", "x From b\n", "From a\nx From b\n\n" },
	{ "half a From at the end", "", "x\n>>Fro", "From a\nx\n>>Fro\n\n" },
	{ "From and nothing more at the end", "", "x\nFrom ", "From a\nx\n>From \n\n" },
	{ "From broken by a newline", "", "From\n b\nFr\nom \n", "From a\nFrom\n b\nFr\nom \n\n" },
	{ "a newline in half a From begins a line", "", "Fro\nFrom b\n", "From a\nFro\n>From b\n\n" },
	{ "after another message", "From z\n\nz\n\n", "hi\n", "From z\n\nz\n\nFrom a\nhi\n\n" },
	{ "after a last line without newline", "From z\n\nz", "hi\n", "From z\n\nz\n\nFrom a\nhi\n\n" },
	{ "after a message without an empty line", "From z\n\nz\n", "hi\n", "From z\n\nz\n\nFrom a\nhi\n\n" },
	{ "after one octet", "z", "hi\n", "z\n\nFrom a\nhi\n\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
write_file(const char *text)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void
expect_file(const char *want)
{
	char got[4096];
	FILE *f = fopen(file, "r");
	size_t len;

	assert_non_null(f);
	len = fread(got, 1, sizeof got - 1, f);
	got[len] = '\0';
	fclose(f);
	assert_string_equal(got, want);
}

/* step: octets that are handed over at a time. */
static void
deliver(const char *message, size_t step)
{
	size_t len = strlen(message);
	struct mbox m;

	assert_int_equal(mbox_open(&m, file), 1);
	assert_int_equal(mbox_begin(&m, "From a\n", 7), 1);
	for (size_t at = 0; at < len; at += step)
		assert_int_equal(mbox_message(&m, message + at, len - at < step ? len - at : step), 1);
	assert_int_equal(mbox_end(&m), 1);
	assert_int_equal(mbox_flush(&m, file), 1);
	mbox_close(&m);
}

static void
mbox_row(void **state)
{
	const struct row *row = *state;

	for (size_t step = 1; step < 8; step++) {
		write_file(row->before);
		deliver(row->message, step);
		expect_file(row->want);
	}
}

static void
new_file_has_mode_0600(void **state)
{
	struct stat st;

	(void)state;
	unlink(file);
	deliver("x\n", 100);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
}

static void
undo_cuts_the_file(void **state)
{
	static char large[3 * MBOX_BUFFER];
	struct mbox m;

	(void)state;
	write_file("From z\n\nz");
	memset(large, 'x', sizeof large);
	assert_int_equal(mbox_open(&m, file), 1);
	assert_int_equal(mbox_begin(&m, "From a\n", 7), 1);
	assert_int_equal(mbox_message(&m, large, sizeof large), 1);
	mbox_undo(&m);
	mbox_close(&m);
	expect_file("From z\n\nz");
}

static int lseeks = -1, preads = -1;	/* how many work before one fails; -1: all */

off_t __real_lseek(int fd, off_t at, int whence);
off_t __wrap_lseek(int fd, off_t at, int whence);
off_t
__wrap_lseek(int fd, off_t at, int whence)
{
	errno = EIO;
	return lseeks == 0 ? -1 : (lseeks -= lseeks > 0, __real_lseek(fd, at, whence));
}

ssize_t __real_pread(int fd, void *s, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *s, size_t len, off_t at);
ssize_t
__wrap_pread(int fd, void *s, size_t len, off_t at)
{
	errno = EIO;
	return preads == 0 ? -1 : (preads -= preads > 0, __real_pread(fd, s, len, at));
}

static void
expect_no_begin(void)
{
	struct mbox m;

	assert_int_equal(mbox_open(&m, file), 1);
	errno = 0;
	assert_int_equal(mbox_begin(&m, "From a\n", 7), 0);
	assert_int_equal(errno, EIO);
	mbox_undo(&m);
	mbox_close(&m);
	lseeks = preads = -1;
	expect_file("From z\n\nz");
}

static void
a_file_whose_end_is_not_known_is_left_as_it_is(void **state)
{
	struct mbox m;

	(void)state;
	write_file("From z\n\nz");
	lseeks = 0;
	assert_int_equal(mbox_open(&m, file), 0);
	assert_int_equal(errno, EIO);
	lseeks = 1;
	expect_no_begin();
	preads = 0;
	expect_no_begin();
}

/* A line of 1 MiB of '>' is counted, not kept. */
static void
many_quotes(void **state)
{
	static char line[1 << 20];
	struct stat st;
	char end[8];
	int fd;

	(void)state;
	memset(line, '>', sizeof line);
	write_file("");
	{
		struct mbox m;

		assert_int_equal(mbox_open(&m, file), 1);
		assert_int_equal(mbox_begin(&m, "From a\n", 7), 1);
		assert_int_equal(mbox_message(&m, line, sizeof line), 1);
		assert_int_equal(mbox_message(&m, "From b\n", 7), 1);
		assert_int_equal(mbox_end(&m), 1);
		mbox_close(&m);
	}
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, 7 + sizeof line + 1 + 7 + 1);
	fd = open(file, O_RDONLY);
	assert_int_equal(pread(fd, end, sizeof end, st.st_size - 8), 8);
	assert_memory_equal(end, "From b\n\n", 8);
	close(fd);
}

static void
replaced_file_is_opened_again(void **state)
{
	struct mbox a, b;

	(void)state;
	write_file("old\n\n");
	assert_int_equal(mbox_open(&a, file), 1);
	/* as maildir2mbox does, while the lock of the old file is ours */
	assert_int_equal(rename(file, "older"), 0);
	write_file("new\n\n");
	assert_int_equal(mbox_open(&b, file), 1);
	assert_int_equal(b.start, 5);
	mbox_close(&b);
	mbox_close(&a);
	unlink("older");
	expect_file("new\n\n");
}

static const struct kind_row { const char *rule, *path; int error; } kinds[] = {
	{ "/dev/null", "/dev/null", 0 },
	{ "FIFO", "fifo", EINVAL },
	{ "directory", ".", EISDIR },
	{ "missing directory", "no/mbox", ENOENT },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void
kind_row(void **state)
{
	const struct kind_row *row = *state;
	struct mbox m;

	if (!row->error) {
		assert_int_equal(mbox_open(&m, row->path), 1);
		assert_int_equal(mbox_begin(&m, "From a\n", 7), 1);
		assert_int_equal(mbox_message(&m, "x\n", 2), 1);
		assert_int_equal(mbox_end(&m), 1);
		assert_int_equal(mbox_flush(&m, row->path), 1);
		mbox_close(&m);
		return;
	}
	errno = 0;
	assert_int_equal(mbox_open(&m, row->path), 0);
	/* a FIFO that nobody reads may fail before it is looked at */
	if (errno != ENXIO)
		assert_int_equal(errno, row->error);
}

int
main(void)
{
	char dir[] = "/tmp/unit-mbox-XXXXXX";
	struct CMUnitTest tests[ROWS + KINDS + 5];
	size_t n = 0;
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0 || mkfifo("fifo", 0600) < 0)
		return 111;
	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = mbox_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < KINDS; i++)
		tests[n++] = (struct CMUnitTest){ .name = kinds[i].rule, .test_func = kind_row,
		    .initial_state = (void *)(uintptr_t)&kinds[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(new_file_has_mode_0600);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(undo_cuts_the_file);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(a_file_whose_end_is_not_known_is_left_as_it_is);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(many_quotes);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(replaced_file_is_opened_again);
	failed = cmocka_run_group_tests_name("mbox", tests, NULL, NULL);
	unlink(file);
	unlink("fifo");
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
