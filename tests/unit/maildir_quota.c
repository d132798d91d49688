/* The quota of a maildir: maildirsize as others write it, counting, what is refused, and when it is counted anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "directory.h"
#include "maildir.h"
#include "maildir_quota.h"

struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir);
static int readdirs_left = -1;	/* that succeed; -1: all */
static int readdir_failed;

struct dirent *
__wrap_readdir(DIR *dir)
{
	if (readdirs_left < 0)
		return __real_readdir(dir);
	if (readdirs_left-- > 0)
		return __real_readdir(dir);
	readdirs_left = 0;
	readdir_failed = 1;
	errno = EIO;
	return NULL;
}

static void
put(const char *path, const char *text)
{
	directory_write(path, text);
}

/* A maildir m with messages of 100, 20 and 3 octets, the last one in a folder; and rubbish. */
static int
make_maildir(void **state)
{
	(void)state;
	if (system("rm -rf m") != 0 || !maildir_make("m") || !maildir_make("m/.Sent") || !maildir_make("m/.Trash"))
		return -1;
	put("m/new/1.a,S=100", "");
	put("m/cur/2.b:2,S", "twenty octets long..");
	put("m/.Sent/cur/3.c,S=3:2,S", "");
	put("m/.Trash/cur/4.d,S=5000:2,", "");
	put("m/cur/8.f,S=6000:2,ST", "");
	put("m/.Sent/cur/9.g:2,FT", "in the trash as well");
	put("m/new/.hidden,S=7000", "");
	put("m/tmp/5.e,S=9000", "");
	put("m/.file", "");
	return mkdir("m/new/6.directory", 0700) || symlink("/etc/passwd", "m/new/7.link");
}

static void
expect_count(const char *path, const char *words, uint64_t octets, uint64_t messages)
{
	struct maildir_quota q;

	assert_int_equal(maildir_quota_open(&q, path, words), 1);
	assert_int_equal(q.octets, octets);
	assert_int_equal(q.messages, messages);
	maildir_quota_close(&q);
}

static void
expect_file(const char *want)
{
	char got[8192];
	FILE *f = fopen("m/maildirsize", "r");

	assert_non_null(f);
	got[fread(got, 1, sizeof got - 1, f)] = '\0';
	fclose(f);
	assert_string_equal(got, want);
}

static void
counted(void **state)
{
	struct stat st;

	(void)state;
	expect_count("m", "1000S", 123, 3);
	expect_file("1000S\n123 3\n");
	assert_int_equal(stat("m/maildirsize", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(rmdir("m/tmp"), -1);	/* nothing of ours is left in it, and what was there is */
	assert_int_equal(unlink("m/tmp/5.e,S=9000"), 0);
	assert_int_equal(rmdir("m/tmp"), 0);
}

static void
of_a_folder(void **state)
{
	(void)state;
	expect_count("m/.Sent/", "1000S", 123, 3);
	expect_count("./m/", "1000S", 123, 3);
	assert_int_equal(access("m/.Sent/maildirsize", F_OK), -1);
	/* one that only looks like a folder */
	assert_int_equal(maildir_make(".m") || errno == EEXIST, 1);
	expect_count("./.m/", "1000S", 0, 0);
	assert_int_equal(access("maildirsize", F_OK), -1);
}

/* What maildirsize says, and what then counts; "123 3" where it is counted anew. */
static const struct file_row { const char *rule, *text; uint64_t octets, messages; } file_rows[] = {
	{ "as it is written", "1000S,9C\n500 5\n", 500, 5 },
	{ "a sum", "1000S,9C\n500 5\n-100 -1\n7 1\n", 407, 5 },
	{ "blanks as others write them", "1000S,9C\n         500            5\n       -100           -1\n", 400, 4 },
	{ "nothing yet", "1000S,9C\n", 0, 0 },
	{ "another quota", "2000S,9C\n500 5\n", 123, 3 },
	{ "a quota that begins like it", "1000S,9C0\n500 5\n", 123, 3 },
	{ "less than nothing", "1000S,9C\n-1 0\n", 123, 3 },
	{ "less messages than none", "1000S,9C\n0 -1\n", 123, 3 },
	{ "no LF", "1000S,9C\n500 5", 123, 3 },
	{ "no number", "1000S,9C\n500\n", 123, 3 },
	{ "words", "1000S,9C\nfive hundred\n", 123, 3 },
	{ "a third number", "1000S,9C\n500 5 5\n", 123, 3 },
	{ "too large", "1000S,9C\n99999999999999999999 5\n", 123, 3 },
	{ "a sum that overflows", "1000S,9C\n9223372036854775807 5\n9223372036854775807 5\n", 123, 3 },
	{ "empty", "", 123, 3 },
	{ "quota only", "1000S,9C", 123, 3 },
};

static void
file_row(void **state)
{
	const struct file_row *row = *state;
	struct maildir_quota q;

	assert_int_equal(make_maildir(NULL), 0);
	put("m/maildirsize", row->text);
	/* who only looks gets no new count, and makes none */
	assert_int_equal(maildir_quota_look(&q, "m", "1000S,9C"), row->octets != 123);
	if (row->octets != 123) {
		assert_int_equal(q.octets, row->octets);
		assert_int_equal(q.messages, row->messages);
	}
	expect_file(row->text);
	expect_count("m", "1000S,9C", row->octets, row->messages);
}

/* As large as it may be, and then one octet more. */
static void
long_file(void **state)
{
	static char text[MAILDIR_QUOTA_FILE_MAX + 2];
	size_t len = strlen(strcpy(text, "1000S\n500 5\n"));

	(void)state;
	memset(text + len, ' ', MAILDIR_QUOTA_FILE_MAX - len);
	memcpy(text + MAILDIR_QUOTA_FILE_MAX - 5, "1 1 \n", 5);
	put("m/maildirsize", text);
	expect_count("m", "1000S", 501, 6);
	memcpy(text + MAILDIR_QUOTA_FILE_MAX - 5, "1 1  \n", 6);
	put("m/maildirsize", text);
	expect_count("m", "1000S", 123, 3);
}

static void
no_file_to_follow(void **state)
{
	(void)state;
	put("elsewhere", "1000S\n500 5\n");
	assert_int_equal(symlink("../elsewhere", "m/maildirsize"), 0);
	expect_count("m", "1000S", 123, 3);
	assert_int_equal(unlink("m/maildirsize"), 0);
	assert_int_equal(mkfifo("m/maildirsize", 0600), 0);
	expect_count("m", "1000S", 123, 3);
}

/* "room" means that there is some; the maildir holds 123 octets in 3 messages. */
static const struct take_row { const char *rule, *words; uint64_t octets; int room, never; } take_rows[] = {
	{ "room", "1000S", 877, 1, 0 },
	{ "one octet too much", "1000S", 878, 0, 0 },
	{ "as much as there may ever be", "1000S", 1000, 0, 0 },
	{ "more than there may ever be", "1000S", 1001, 0, 1 },
	{ "room for a message", "4C", 1000000, 1, 0 },
	{ "no room for a message", "3C", 1, 0, 0 },
	{ "both: octets", "130S,9C", 8, 0, 0 },
	{ "both: messages", "9C,130S", 7, 1, 0 },
	{ "both: no message", "130S,3C", 7, 0, 0 },
	{ "full already", "100S", 1, 0, 0 },
	{ "nothing may be there", "0C", 1, 0, 1 },
	{ "as large as a number", "1000S", UINT64_MAX, 0, 1 },
};

static void
take_row(void **state)
{
	const struct take_row *row = *state;
	struct maildir_quota q;
	int never;

	assert_int_equal(make_maildir(NULL), 0);
	assert_int_equal(maildir_quota_open(&q, "m", row->words), 1);
	assert_int_equal(maildir_quota_take(&q, row->octets, &never), row->room);
	assert_int_equal(never, row->never);
	maildir_quota_close(&q);
}

static void
several(void **state)
{
	struct maildir_quota q;
	int never;

	(void)state;
	assert_int_equal(maildir_quota_open(&q, "m", "323S"), 1);
	assert_int_equal(maildir_quota_take(&q, 150, &never), 1);
	assert_int_equal(maildir_quota_take(&q, 51, &never), 0);
	assert_int_equal(maildir_quota_take(&q, 50, &never), 1);
	maildir_quota_reserve(&q);
	expect_file("323S\n123 3\n200 2\n");
	expect_count("m", "323S", 323, 5);
	assert_int_equal(maildir_quota_record(q.root, -50, -1), 1);
	maildir_quota_close(&q);
	expect_count("m", "323S", 273, 4);
}

/* Who holds the file writes into it; where it is another's by now, the next one counts anew. */
static void
file_that_is_held(void **state)
{
	struct maildir_quota q;
	int maildir = open("m", O_RDONLY | O_DIRECTORY), held;

	(void)state;
	assert_true(maildir >= 0);
	errno = 0;
	assert_int_equal(maildir_quota_file(maildir), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(maildir_quota_record_in(-1, maildir, -50, -1), 0);
	assert_int_equal(maildir_quota_open(&q, "m", "323S"), 1);
	held = maildir_quota_file(maildir);
	assert_true(held >= 0);
	assert_int_equal(maildir_quota_record_in(held, maildir, -50, -1), 1);
	expect_file("323S\n123 3\n-50 -1\n");
	maildir_quota_close(&q);
	expect_count("m", "323S", 73, 2);

	expect_count("m", "324S", 123, 3);	/* another file */
	assert_int_equal(maildir_quota_record_in(held, maildir, -50, -1), 0);
	assert_int_equal(access("m/maildirsize", F_OK), -1);
	expect_count("m", "324S", 123, 3);
	assert_int_equal(maildir_quota_record_in(-1, maildir, -50, -1), 0);	/* it was made meanwhile */
	assert_int_equal(access("m/maildirsize", F_OK), -1);
	close(held);
	close(maildir);
}

/* Who comes at the same time waits, until it is written down what the first one took. */
static void
at_the_same_time(void **state)
{
	struct maildir_quota q;
	int never, ends[2], wstat;
	char octet;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(maildir_quota_open(&q, "m", "4C"), 1);
	pid = fork();
	if (pid == 0) {
		if (write(ends[1], "", 1) != 1 || !maildir_quota_open(&q, "m", "4C"))
			_exit(9);
		_exit(maildir_quota_take(&q, 1, &never));
	}
	assert_int_equal(read(ends[0], &octet, 1), 1);
	assert_int_equal(maildir_quota_take(&q, 1, &never), 1);
	maildir_quota_reserve(&q);
	assert_int_equal(waitpid(pid, &wstat, 0), pid);
	assert_int_equal(wstat, 0);	/* it found no room */
	maildir_quota_close(&q);
	close(ends[0]);
	close(ends[1]);
}

/* What maildirsize says was counted long ago. */
static void
put_old(const char *text)
{
	const struct timespec then = { .tv_sec = time(NULL) - 2 * MAILDIR_QUOTA_SECONDS }, old[2] = { then, then };

	put("m/maildirsize", text);
	assert_int_equal(utimensat(AT_FDCWD, "m/maildirsize", old, 0), 0);
}

/* Full, says an old file; but mail was deleted by somebody who does not write it down. */
static void
counted_anew_before_it_is_refused(void **state)
{
	struct maildir_quota q;
	int never;

	(void)state;
	put("m/maildirsize", "1000S\n1000 9\n");
	assert_int_equal(maildir_quota_open(&q, "m", "1000S"), 1);
	assert_int_equal(maildir_quota_take(&q, 1, &never), 0);
	maildir_quota_close(&q);
	put_old("1000S\n1000 9\n");
	assert_int_equal(maildir_quota_open(&q, "m", "1000S"), 1);
	assert_int_equal(maildir_quota_take(&q, 1, &never), 1);
	maildir_quota_close(&q);
	expect_file("1000S\n123 3\n");
}

/* There is room for two messages of 100 octets, and for one until it is counted anew: what was taken before counts, though it is not
 * there yet. */
static const struct batch_row { const char *rule, *words, *old, *want; } batch_rows[] = {
	{ "octets that were taken before a new count", "323S", "323S\n173 3\n", "323S\n123 3\n200 2\n" },
	{ "messages that were taken before a new count", "5C", "5C\n123 4\n", "5C\n123 3\n200 2\n" },
};

static void
batch_row(void **state)
{
	const struct batch_row *row = *state;
	struct maildir_quota q;
	int never;

	assert_int_equal(make_maildir(NULL), 0);
	put_old(row->old);
	assert_int_equal(maildir_quota_open(&q, "m", row->words), 1);
	assert_int_equal(maildir_quota_take(&q, 100, &never), 1);
	assert_int_equal(maildir_quota_take(&q, 100, &never), 1);
	assert_int_equal(maildir_quota_take(&q, 1, &never), 0);
	maildir_quota_reserve(&q);
	expect_file(row->want);
	maildir_quota_close(&q);
}

/* Names that lie: with what was taken it is more than a number holds. */
static void
a_new_count_without_end(void **state)
{
	struct maildir_quota q;
	int never;

	(void)state;
	put("m/new/1.x,S=9999999999999999999", "");
	put("m/new/1.y,S=9999999999999999999", "");
	put_old("1000S\n123 3\n");
	assert_int_equal(maildir_quota_open(&q, "m", "1000S"), 1);
	assert_int_equal(maildir_quota_take(&q, 100, &never), 1);
	assert_int_equal(maildir_quota_take(&q, 900, &never), 0);
	assert_int_equal(maildir_quota_take(&q, 1, &never), 0);
	maildir_quota_close(&q);
}

static void
no_quota(void **state)
{
	static const char *const words[] = { "", "S", "1000", "1000S,", ",1000S", "-5S", "1000X", "99999999999999999999999S", "1000S 5C" };
	struct maildir_quota q;

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		assert_int_equal(maildir_quota_open(&q, "m", words[i]), 0);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(maildir_quota_open(&q, "nowhere", "1000S"), 0);
	assert_int_equal(errno, ENOENT);
}

enum {
	FILES = sizeof file_rows / sizeof *file_rows,
	TAKES = sizeof take_rows / sizeof *take_rows,
	BATCHES = sizeof batch_rows / sizeof *batch_rows,
};

/* Wherever it fails: what was counted up to there is no count. */
static void
a_folder_that_cannot_be_read_counts_nothing(void **state)
{
	struct maildir_quota q;
	int fails = 0;

	(void)state;
	do {
		readdirs_left = fails++;
		readdir_failed = 0;
		unlink("m/maildirsize");
		if (maildir_quota_open(&q, "m", "1000S")) {
			assert_false(readdir_failed);
			maildir_quota_close(&q);
			break;
		}
		assert_int_equal(errno, EIO);
	} while (fails < 1000);
	readdirs_left = -1;
	assert_in_range(fails, 10, 999);
}

/* Each message of a batch waits until the maildir can be read, none has the room that half a count leaves. */
static void
a_new_count_that_fails_changes_nothing(void **state)
{
	struct maildir_quota q;
	int never;

	(void)state;
	put_old("1000S\n1000 9\n");
	assert_int_equal(maildir_quota_open(&q, "m", "1000S"), 1);
	readdirs_left = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(maildir_quota_take(&q, 1, &never), -1);
	readdirs_left = -1;
	assert_int_equal(q.octets, 1000);
	assert_int_equal(q.messages, 9);
	maildir_quota_close(&q);
	expect_file("1000S\n1000 9\n");
}

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test_setup(counted, make_maildir), cmocka_unit_test_setup(of_a_folder, make_maildir),
		cmocka_unit_test_setup(long_file, make_maildir), cmocka_unit_test_setup(no_file_to_follow, make_maildir),
		cmocka_unit_test_setup(several, make_maildir), cmocka_unit_test_setup(file_that_is_held, make_maildir),
		cmocka_unit_test_setup(at_the_same_time, make_maildir),
		cmocka_unit_test_setup(counted_anew_before_it_is_refused, make_maildir), cmocka_unit_test_setup(a_new_count_without_end, make_maildir),
		cmocka_unit_test_setup(no_quota, make_maildir), cmocka_unit_test_setup(a_folder_that_cannot_be_read_counts_nothing, make_maildir),
		cmocka_unit_test_setup(a_new_count_that_fails_changes_nothing, make_maildir),
	};
	struct CMUnitTest tests[FILES + TAKES + BATCHES + sizeof others / sizeof *others];
	size_t n = 0;

	for (size_t i = 0; i < FILES; i++)
		tests[n++] = (struct CMUnitTest){ .name = file_rows[i].rule, .test_func = file_row,
		    .initial_state = (void *)(uintptr_t)&file_rows[i] };
	for (size_t i = 0; i < TAKES; i++)
		tests[n++] = (struct CMUnitTest){ .name = take_rows[i].rule, .test_func = take_row,
		    .initial_state = (void *)(uintptr_t)&take_rows[i] };
	for (size_t i = 0; i < BATCHES; i++)
		tests[n++] = (struct CMUnitTest){ .name = batch_rows[i].rule, .test_func = batch_row,
		    .initial_state = (void *)(uintptr_t)&batch_rows[i] };
	memcpy(tests + n, others, sizeof others);
	return cmocka_run_group_tests_name("maildir_quota", tests, directory_make, directory_remove);
}
