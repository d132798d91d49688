/* One message, or a batch of them, delivered to a local address: what is left where a step fails, and for whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/local/delivery.h"
#include "bin-src/local/mbox.h"
#include "directory.h"
#include "maildir_quota.h"

enum { MANY = DELIVERY_BATCH };

/* --- steps that fail, by their turn; tests/unit/units.mk -------------------------------- */

int __wrap_maildir_create(struct maildir *m, struct maildir_file *f);
int __real_maildir_create(struct maildir *m, struct maildir_file *f);
int __wrap_maildir_write(struct maildir_file *f, const struct iovec *v, unsigned int n);
int __real_maildir_write(struct maildir_file *f, const struct iovec *v, unsigned int n);
int __wrap_maildir_flush(struct maildir_file *f);
int __real_maildir_flush(struct maildir_file *f);
int __wrap_maildir_publish(struct maildir *m, struct maildir_file *f);
int __real_maildir_publish(struct maildir *m, struct maildir_file *f);
int __wrap_maildir_sync(struct maildir *m);
int __real_maildir_sync(struct maildir *m);
int __wrap_mbox_flush(struct mbox *m, const char *path);
int __real_mbox_flush(struct mbox *m, const char *path);

enum step { CREATE, WRITE, FLUSH, PUBLISH, SYNC, MBOX_FLUSH, STEPS };

static struct { enum step step; unsigned int turn; int error; } failing;	/* turn 0: none */
static unsigned int turns[STEPS];
static unsigned int in_new_at_flush;	/* messages that were visible when the last flush began */

static unsigned int count(const char *folder);

/* Whether it is this one that fails; errno is set then. */
static int
fails(enum step step)
{
	if (++turns[step] != failing.turn || step != failing.step)
		return 0;
	errno = failing.error;
	return 1;
}

int
__wrap_maildir_create(struct maildir *m, struct maildir_file *f)
{
	if (!fails(CREATE))
		return __real_maildir_create(m, f);
	*f = (struct maildir_file){ .fd = -1 };
	return 0;
}

int
__wrap_maildir_write(struct maildir_file *f, const struct iovec *v, unsigned int n)
{
	return !fails(WRITE) && __real_maildir_write(f, v, n);
}

int
__wrap_maildir_flush(struct maildir_file *f)
{
	in_new_at_flush = count("Maildir/new");
	return !fails(FLUSH) && __real_maildir_flush(f);
}

int
__wrap_maildir_publish(struct maildir *m, struct maildir_file *f)
{
	return !fails(PUBLISH) && __real_maildir_publish(m, f);
}

int
__wrap_maildir_sync(struct maildir *m)
{
	return !fails(SYNC) && __real_maildir_sync(m);
}

int
__wrap_mbox_flush(struct mbox *m, const char *path)
{
	return !fails(MBOX_FLUSH) && __real_mbox_flush(m, path);
}

/* --- deliveries --------------------------------------------------------------------------- */

static const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
static struct delivery_account account = { .user = "ann", .home = "home", .default_delivery = "./Maildir/", .qmail_home = -1,
	.environment = environment };
static struct delivery deliveries[MANY], *pointers[MANY];
static enum exitcode codes[MANY];
static int lowest;	/* descriptor that is free */

static unsigned int
count(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned int n = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void
empty(const char *folder)
{
	char path[NAME_MAX + 20];
	DIR *dir = opendir(folder);

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		if (e->d_name[0] != '.')
			assert_int_equal(unlink(path), 0);
	}
	closedir(dir);
}

static int
free_descriptor(void)
{
	int fd = fcntl(account.start, F_DUPFD_CLOEXEC, 0);

	close(fd);
	return fd;
}

static int
begin(void **state)
{
	(void)state;
	failing.turn = 0;
	account.quota = NULL;
	memset(turns, 0, sizeof turns);
	lowest = free_descriptor();
	assert_int_equal(fchdir(account.start), 0);
	return chdir("home");
}

static int
end(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < MANY; i++)
		delivery_free(&deliveries[i]);
	assert_int_equal(free_descriptor(), lowest);
	empty("Maildir/new");
	empty("Maildir/tmp");
	unlink(".qmail");
	unlink("mbox");
	unlink("trace");
	unlink("Maildir/maildirsize");
	return 0;
}

/* A delivery that has its instructions: those of .qmail, if there is one. */
static struct delivery *
prepared(unsigned int i)
{
	struct delivery *d = &deliveries[i];

	*d = (struct delivery){ .account = &account, .sender = "s@x", .local = "ann", .dash = "", .ext = "", .domain = "here.example",
		.message = { .octets = "Subject: x\n\nbody\n", .size = 17, .fd = -1 } };
	pointers[i] = d;
	assert_int_equal(delivery_enter(d, 0), EXIT_OK);
	assert_int_equal(delivery_prepare(d, 0), EXIT_OK);
	return d;
}

static const char *
text_of(struct delivery *d)
{
	assert_int_equal(stralloc_0(&d->report.text), 1);
	d->report.text.len--;
	return d->report.text.s;
}

static void
deliver(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		prepared(i);
	delivery_batch(pointers, n, "./Maildir/", codes);
}

/* --- batches ----------------------------------------------------------------------------------- */

static void
a_full_batch_is_flushed_before_the_first_is_visible(void **state)
{
	(void)state;
	deliver(MANY);
	for (unsigned int i = 0; i < MANY; i++) {
		assert_int_equal(codes[i], EXIT_OK);
		assert_string_equal(text_of(&deliveries[i]), "did 1+0+0\n");
	}
	assert_int_equal(in_new_at_flush, 0);
	assert_int_equal(turns[FLUSH], MANY);
	assert_int_equal(turns[SYNC], 1);
	assert_int_equal(count("Maildir/new"), MANY);
	assert_int_equal(count("Maildir/tmp"), 0);
}

/* Of three messages the second fails in a step, and it alone: the others are delivered. */
static const struct row { const char *rule; enum step step; int error; const char *text; } rows[] = {
	{ "its file cannot be made", CREATE, EACCES, "Unable to write into ./Maildir/: Permission denied. (#4.2.1)\n" },
	{ "the quota ends within it", WRITE, EDQUOT, "Unable to write into ./Maildir/: Disk quota exceeded. (#4.2.2)\n" },
	{ "the disk is full at its flush", FLUSH, ENOSPC, "Unable to write into ./Maildir/: No space left on device. (#4.3.1)\n" },
	{ "the disk fails at its flush", FLUSH, EIO, "Unable to write into ./Maildir/: Input/output error. (#4.2.1)\n" },
	{ "it cannot be moved", PUBLISH, ENOSPC, "Unable to write into ./Maildir/: No space left on device. (#4.3.1)\n" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
fail_row(void **state)
{
	const struct row *row = *state;

	failing.step = row->step;
	failing.turn = 2;
	failing.error = row->error;
	deliver(3);
	assert_int_equal(codes[0], EXIT_OK);
	assert_int_equal(codes[1], EXIT_TEMP);
	assert_int_equal(codes[2], EXIT_OK);
	assert_string_equal(text_of(&deliveries[0]), "did 1+0+0\n");
	assert_string_equal(text_of(&deliveries[1]), row->text);
	assert_string_equal(text_of(&deliveries[2]), "did 1+0+0\n");
	assert_int_equal(count("Maildir/new"), 2);
	assert_int_equal(count("Maildir/tmp"), 0);
}

/* Nobody can say which of the names would survive a power cut: none is delivered, and each is removed again. */
static void
names_that_are_not_flushed_are_removed(void **state)
{
	(void)state;
	failing.step = SYNC;
	failing.turn = 1;
	failing.error = EDQUOT;
	deliver(3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(codes[i], EXIT_TEMP);
		assert_string_equal(text_of(&deliveries[i]), "Unable to write into ./Maildir/: Disk quota exceeded. (#4.2.2)\n");
	}
	assert_int_equal(count("Maildir/new"), 0);
	assert_int_equal(count("Maildir/tmp"), 0);
}

/* --- quota -------------------------------------------------------------------------------------- */

/* What maildirsize says is there, in messages of one size. */
static void
expect_counted(unsigned int messages)
{
	struct maildir_quota q;
	const char *words = account.quota;

	assert_int_equal(maildir_quota_open(&q, "Maildir", words), 1);
	assert_int_equal(q.messages, messages);
	assert_int_equal(q.octets, messages * strlen("Return-Path: <s@x>\nDelivered-To: ann@here.example\nSubject: x\n\nbody\n"));
	maildir_quota_close(&q);
}

static void
a_full_mailbox_takes_what_there_is_room_for(void **state)
{
	(void)state;
	account.quota = "2C";
	deliver(3);
	assert_int_equal(codes[0], EXIT_OK);
	assert_int_equal(codes[1], EXIT_OK);
	assert_int_equal(codes[2], EXIT_TEMP);
	assert_string_equal(text_of(&deliveries[1]), "did 1+0+0\n");
	assert_string_equal(text_of(&deliveries[2]), "The mailbox is full. (#4.2.2)\n");
	assert_int_equal(count("Maildir/new"), 2);
	expect_counted(2);
}

static void
a_message_larger_than_its_mailbox_may_be(void **state)
{
	(void)state;
	account.quota = "66S";
	deliver(1);
	assert_int_equal(codes[0], EXIT_PERM);
	assert_string_equal(text_of(&deliveries[0]), "The message is larger than its mailbox may be. (#5.2.3)\n");
	assert_int_equal(count("Maildir/new"), 0);
	expect_counted(0);
}

/* What was not delivered takes no room, in whichever step it failed. */
static void
what_fails_gives_its_room_back(void **state)
{
	(void)state;
	account.quota = "10C";
	for (unsigned int step = CREATE; step <= PUBLISH; step++) {
		failing.step = (enum step)step;
		failing.turn = turns[step] + 2;
		failing.error = EIO;
		deliver(3);
		assert_int_equal(codes[1], EXIT_TEMP);
		for (unsigned int i = 0; i < 3; i++)
			delivery_free(&deliveries[i]);
		expect_counted(2 * (step - CREATE + 1));
	}
	failing.step = SYNC;
	failing.turn = turns[SYNC] + 1;
	deliver(2);
	assert_int_equal(codes[0], EXIT_TEMP);
	expect_counted(8);
	assert_int_equal(count("Maildir/new"), 8);
}

static void
a_quota_that_makes_no_sense(void **state)
{
	(void)state;
	account.quota = "lots";
	deliver(2);
	assert_int_equal(codes[0], EXIT_TEMP);
	assert_int_equal(codes[1], EXIT_TEMP);
	assert_string_equal(text_of(&deliveries[1]), "Unable to count the mail in ./Maildir/: Invalid argument. (#4.2.1)\n");
	assert_int_equal(count("Maildir/new"), 0);
}

/* --- messages ----------------------------------------------------------------------------------- */

/* One whose file became shorter after it was handed over. */
static void
a_message_that_cannot_be_read_fails_alone(void **state)
{
	struct message m;
	int fd = open("../control/message", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, 100000), 0);
	assert_int_equal(message_of_file(&m, fd), 1);
	for (unsigned int i = 0; i < 3; i++)
		prepared(i);
	deliveries[0].message = m;
	assert_int_equal(ftruncate(fd, 99999), 0);
	delivery_batch(pointers, 3, "./Maildir/", codes);
	assert_int_equal(codes[0], EXIT_TEMP);
	assert_string_equal(text_of(&deliveries[0]), "Unable to write into ./Maildir/: Input/output error. (#4.2.1)\n");
	assert_int_equal(codes[1] | codes[2], EXIT_OK);
	assert_int_equal(count("Maildir/new"), 2);
	assert_int_equal(count("Maildir/tmp"), 0);
	close(fd);
}

static void
a_maildir_that_is_missing_defers_all(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++)
		prepared(i);
	delivery_batch(pointers, 2, "./absent/", codes);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(codes[i], EXIT_TEMP);
		assert_string_equal(text_of(&deliveries[i]), "Unable to open the maildir ./absent/: No such file or directory. (#4.2.1)\n");
	}
}

/* --- what may go into a batch --------------------------------------------------------------------- */

static const struct maildir_row { const char *rule, *file; mode_t mode; const char *path; } maildir_rows[] = {
	{ "one maildir", "./Maildir/\n", 0600, "./Maildir/" },
	{ "comments around it", "# first\n\n./Maildir/\n\n# last\n", 0600, "./Maildir/" },
	{ "two maildirs", "./Maildir/\n./Maildir/\n", 0600, NULL },
	{ "an mbox", "./mbox\n", 0600, NULL },
	{ "a program after it", "./Maildir/\n|true\n", 0600, NULL },
	{ "a program before it", "|true\n./Maildir/\n", 0600, NULL },
	{ "a forward", "./Maildir/\n&bob@far.example\n", 0600, NULL },
	{ "only forwards are allowed", "./Maildir/\n", 0700, NULL },
	{ "a list from here", "+list\n./Maildir/\n", 0600, NULL },
	{ "comments alone", "# nothing\n", 0600, NULL },
	{ "a first line that is blank", "\n./Maildir/\n", 0600, NULL },
};
enum { MAILDIR_ROWS = sizeof maildir_rows / sizeof *maildir_rows };

static void
maildir_row(void **state)
{
	const struct maildir_row *row = *state;
	struct delivery *d;
	const char *path;

	directory_write(".qmail", row->file);
	assert_int_equal(chmod(".qmail", row->mode), 0);
	d = prepared(0);
	path = delivery_maildir(d);
	if (row->path)
		assert_string_equal(path, row->path);
	else
		assert_null(path);
}

/* --- lines, one after another ------------------------------------------------------------------------ */

static enum exitcode
follow(const char *file)
{
	directory_write(".qmail", file);
	assert_int_equal(chmod(".qmail", 0600), 0);
	return delivery_run(prepared(0));
}

static off_t
size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

static void
what_was_done_before_a_failure_stays(void **state)
{
	(void)state;
	assert_int_equal(follow("./Maildir/\n./mbox\n|exit 100\n|: >trace\n"), EXIT_PERM);
	assert_int_equal(count("Maildir/new"), 1);
	assert_true(size_of("mbox") > 0);
	assert_int_equal(size_of("trace"), -1);
	assert_string_equal(text_of(&deliveries[0]), "");	/* no "did": it will be said when all is done */
}

static void
a_stop_is_a_success(void **state)
{
	(void)state;
	assert_int_equal(follow("./mbox\n|exit 99\n./Maildir/\n"), EXIT_OK);
	assert_int_equal(count("Maildir/new"), 0);
	assert_string_equal(text_of(&deliveries[0]), "did 1+0+1\n");
}

static void
an_mbox_that_cannot_be_flushed_is_as_it_was(void **state)
{
	(void)state;
	directory_write("mbox", "From x\n\nearlier\n\n");
	failing.step = MBOX_FLUSH;
	failing.turn = 1;
	failing.error = ENOSPC;
	assert_int_equal(follow("./mbox\n"), EXIT_TEMP);
	assert_string_equal(text_of(&deliveries[0]), "Unable to write to ./mbox: No space left on device. (#4.3.1)\n");
	assert_int_equal(size_of("mbox"), 17);
	delivery_free(&deliveries[0]);
	/* and the lock is gone */
	assert_int_equal(follow("./mbox\n"), EXIT_OK);
	assert_true(size_of("mbox") > 17);
}

static void
without_the_qmail_home_nothing_is_forwarded(void **state)
{
	(void)state;
	assert_int_equal(follow("&bob@far.example\n./Maildir/\n"), EXIT_TEMP);
	assert_string_equal(text_of(&deliveries[0]), "Unable to find the qmail home, so nothing can be forwarded. (#4.3.0)\n");
	assert_int_equal(count("Maildir/new"), 1);
}

/* A program may move the home away under us: the rest is found nevertheless, as the current directory is kept. */
static void
a_home_that_is_moved_meanwhile(void **state)
{
	(void)state;
	assert_int_equal(follow("|mv ../home ../moved\n./Maildir/\n"), EXIT_OK);
	assert_int_equal(count("Maildir/new"), 1);
	assert_int_equal(delivery_enter(&deliveries[0], 0), EXIT_TEMP);
	assert_non_null(strstr(text_of(&deliveries[0]), "Unable to enter the home directory home: No such file or directory. (#4.3.0)\n"));
	assert_int_equal(rename("moved", "home"), 0);
	assert_int_equal(chdir("home"), 0);
}

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	account.start = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdir("home", 0700), 0);
	return !maildir_make("home/Maildir");
}

static int
tear_down(void **state)
{
	assert_int_equal(fchdir(account.start), 0);
	close(account.start);
	return directory_remove(state);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(a_full_batch_is_flushed_before_the_first_is_visible), TEST(names_that_are_not_flushed_are_removed),
		TEST(a_full_mailbox_takes_what_there_is_room_for), TEST(a_message_larger_than_its_mailbox_may_be),
		TEST(what_fails_gives_its_room_back), TEST(a_quota_that_makes_no_sense),
		TEST(a_message_that_cannot_be_read_fails_alone), TEST(a_maildir_that_is_missing_defers_all),
		TEST(what_was_done_before_a_failure_stays), TEST(a_stop_is_a_success),
		TEST(an_mbox_that_cannot_be_flushed_is_as_it_was), TEST(without_the_qmail_home_nothing_is_forwarded),
		TEST(a_home_that_is_moved_meanwhile),
	};
	enum { TESTS = sizeof tests / sizeof *tests };
	struct CMUnitTest all[TESTS + ROWS + MAILDIR_ROWS];

	memcpy(all, tests, sizeof tests);
	for (size_t i = 0; i < ROWS; i++)
		all[TESTS + i] = (struct CMUnitTest){ rows[i].rule, fail_row, begin, end, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < MAILDIR_ROWS; i++)
		all[TESTS + ROWS + i] = (struct CMUnitTest){ maildir_rows[i].rule, maildir_row, begin, end,
		    (void *)(uintptr_t)&maildir_rows[i] };
	return cmocka_run_group_tests_name("local_delivery", all, set_up, tear_down);
}
