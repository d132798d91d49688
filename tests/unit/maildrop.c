/* The messages of a maildir as a POP3 session sees them; maildrop.h, maildir(5); hostile inputs L5. */
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
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "bin-src/pop3d/maildrop.h"
#include "maildir.h"
#include "directory.h"

enum { PATH = 300 };

/* --- a maildir ------------------------------------------------------------------ */

static int
make_box(void **state)
{
	(void)state;
	return mkdir("box", 0700) || mkdir("box/new", 0700) || mkdir("box/cur", 0700) || mkdir("box/tmp", 0700);
}

static int
remove_box(void **state)
{
	(void)state;
	return system("rm -r box");
}

static void
put(const char *path, const char *text)
{
	char whole[PATH];

	snprintf(whole, sizeof whole, "box/%s", path);
	directory_write(whole, text);
}

/* Sets a file's times to seconds. */
static void
touch(const char *path, time_t seconds)
{
	const struct timespec times[2] = { { .tv_sec = seconds }, { .tv_sec = seconds } };
	char whole[PATH];

	snprintf(whole, sizeof whole, "box/%s", path);
	assert_int_equal(utimensat(AT_FDCWD, whole, times, AT_SYMLINK_NOFOLLOW), 0);
}

static int
is_there(const char *path)
{
	char whole[PATH];
	struct stat st;

	snprintf(whole, sizeof whole, "box/%s", path);
	return lstat(whole, &st) == 0;
}

static void
move(const char *from, const char *to)
{
	char old[PATH], new[PATH];

	snprintf(old, sizeof old, "box/%s", from);
	snprintf(new, sizeof new, "box/%s", to);
	assert_int_equal(rename(old, new), 0);
}

static void
begin(struct maildrop *m)
{
	*m = (struct maildrop){ .directory = -1 };
	assert_int_equal(maildrop_open(m, "box"), 1);
	assert_int_equal(maildrop_list(m), 1);
}

/* Checks the names, as a text of them with a blank behind each. */
static void
check_names(const struct maildrop *m, const char *want)
{
	char got[1000] = "";

	for (size_t i = 0; i < m->count; i++) {
		strcat(got, m->names.s + m->messages[i].name);
		strcat(got, " ");
	}
	assert_string_equal(got, want);
}

/* The text of message i. */
static const char *
text_of(struct maildrop *m, size_t i)
{
	static char text[100];
	uint64_t size;
	int fd = maildrop_file(m, i, &size);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, sizeof text - 1);
	assert_int_equal(n, size);
	text[n] = '\0';
	close(fd);
	return text;
}

/* --- the list --------------------------------------------------------------------- */

static void
which_and_in_which_order(void **state)
{
	struct maildrop m;

	(void)state;
	put("cur/300.a.h,S=1:2,S", "1");
	put("new/200.M000002P1Q2.h,S=1", "2");
	put("new/200.M000001P1Q3.h,S=1", "3");
	put("cur/1000.a.h,S=1:2,", "4");
	put("new/no-time", "5");
	touch("new/no-time", 250);
	put("new/12345678901234567890123.too.long.for.a.time", "6");
	touch("new/12345678901234567890123.too.long.for.a.time", 260);
	put("tmp/100.a.h", "no");
	put("new/.hidden", "no");
	begin(&m);
	check_names(&m, "200.M000001P1Q3.h,S=1 200.M000002P1Q2.h,S=1 no-time 12345678901234567890123.too.long.for.a.time "
	    "300.a.h,S=1:2,S 1000.a.h,S=1:2, ");
	assert_int_equal(m.left, 6);
	assert_int_equal(m.octets, 6);
	maildrop_close(&m);
}

static void
only_regular_files(void **state)
{
	struct maildrop m;

	(void)state;
	put("outside", "secret");
	assert_int_equal(symlink("../outside", "box/new/1.link,S=6"), 0);
	assert_int_equal(symlink("nowhere", "box/cur/2.dangling"), 0);
	assert_int_equal(mkdir("box/new/3.directory,S=6", 0700), 0);
	assert_int_equal(mkfifo("box/new/4.fifo,S=6", 0600), 0);
	begin(&m);
	assert_int_equal(m.count, 0);
	assert_int_equal(m.octets, 0);
	maildrop_close(&m);
}

static void
empty(void **state)
{
	struct maildrop m;

	(void)state;
	begin(&m);
	assert_int_equal(m.count, 0);
	assert_int_equal(maildrop_update(&m), 0);
	maildrop_close(&m);
}

/* Files are looked at once, if there are many; messages that are removed or new are none of the file's business. */
static void
sizes_are_kept(void **state)
{
	enum { MANY = 60 };
	struct maildrop m;
	char name[PATH];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "new/%d.a.h", 100 + i);
		put(name, "abc");
	}
	begin(&m);
	assert_int_equal(m.looked_at, MANY);
	assert_int_equal(m.octets, 3 * MANY);
	maildrop_close(&m);
	begin(&m);
	assert_int_equal(m.looked_at, MANY);	/* there was no QUIT */
	maildrop_delete(&m, 0);
	assert_int_equal(maildrop_update(&m), 0);
	maildrop_close(&m);
	put("new/90.a.h", "ab");
	put("cur/500.a.h,W=8:2,", "abcdef");
	begin(&m);
	assert_int_equal(m.looked_at, 2);
	assert_int_equal(m.count, MANY + 1);
	assert_int_equal(m.octets, 3 * (MANY - 1) + 2 + 8);
	maildrop_close(&m);
}

/* --- cur/ as an earlier session saw it ------------------------------------------- */

static time_t later;	/* seconds that the clock is before that of the file system */

/* In the place of the library's. */
int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, clock, now);

	now->tv_sec += later;
	return r;
}

enum { LISTED = KNOWN_SIZES_WORTH + 10 };

static void
put_many(void)
{
	char name[PATH];

	for (int i = 0; i < LISTED; i++) {
		snprintf(name, sizeof name, "cur/%d.a.h:2,%s", 100 + LISTED - i, i % 2 ? "S" : "");
		put(name, "abc");
	}
}

/* Until the file system's clock has gone on since cur/ was changed. */
static void
await_tick(void)
{
	struct stat cur, now;

	do {
		put("tmp/now", "");
		assert_int_equal(stat("box/cur", &cur), 0);
		assert_int_equal(stat("box/tmp/now", &now), 0);
	} while (cur.st_ctim.tv_sec == now.st_ctim.tv_sec && cur.st_ctim.tv_nsec == now.st_ctim.tv_nsec);
}

/* A session that changes nothing, with so many messages; whether it has taken cur/ from the list. */
static int
is_listed(size_t count)
{
	struct maildrop m, other;
	int r;

	begin(&m);
	r = m.is_listed;
	assert_int_equal(m.count, count);
	assert_int_equal(m.octets, 3 * count);
	unlink("box/pop3-sizes");
	begin(&other);
	assert_false(other.is_listed);
	for (size_t i = 0; i < count; i++) {
		assert_string_equal(m.names.s + m.messages[i].name, other.names.s + other.messages[i].name);
		assert_int_equal(m.messages[i].unique, other.messages[i].unique);
		assert_int_equal(m.messages[i].time, other.messages[i].time);
		assert_int_equal(m.messages[i].folder, other.messages[i].folder);
	}
	maildrop_close(&m);
	assert_int_equal(maildrop_update(&other), 0);
	maildrop_close(&other);
	await_tick();
	return r;
}

static void
an_unchanged_cur_is_not_read(void **state)
{
	(void)state;
	later = MAILDROP_SETTLE + 1;
	put_many();
	assert_false(is_listed(LISTED));
	assert_true(is_listed(LISTED));
	put("cur/50.a.h", "abc");
	assert_false(is_listed(LISTED + 1));
	assert_true(is_listed(LISTED + 1));
	put("new/150.b.h", "abc");
	assert_true(is_listed(LISTED + 2));	/* and then it moves to cur/ */
	assert_false(is_listed(LISTED + 2));
	assert_true(is_listed(LISTED + 2));
	move("cur/50.a.h", "cur/50.a.h:2,S");
	assert_false(is_listed(LISTED + 2));
	assert_true(is_listed(LISTED + 2));
	assert_int_equal(unlink("box/cur/50.a.h:2,S"), 0);
	assert_false(is_listed(LISTED + 1));
}

/* It is a message as any other: the ones behind it are in the list too. */
static void
a_name_that_begins_with_a_colon_is_listed(void **state)
{
	(void)state;
	later = MAILDROP_SETTLE + 1;
	put_many();
	put("cur/:2,S", "abc");
	touch("cur/:2,S", 1);
	assert_false(is_listed(LISTED + 1));
	assert_true(is_listed(LISTED + 1));
}

/* The next change might have the same time as the last one. */
static void
a_cur_that_was_just_changed_is_read(void **state)
{
	(void)state;
	later = -1;
	put_many();
	assert_false(is_listed(LISTED));
	assert_false(is_listed(LISTED));
	later = MAILDROP_SETTLE + 1;	/* what was written meanwhile is no list */
	assert_false(is_listed(LISTED));
	assert_true(is_listed(LISTED));
	later = -1;
	assert_false(is_listed(LISTED));
}

static void
what_a_session_removes_is_in_no_list(void **state)
{
	struct maildrop m;

	(void)state;
	later = MAILDROP_SETTLE + 1;
	put_many();
	assert_false(is_listed(LISTED));
	begin(&m);
	assert_true(m.is_listed);
	maildrop_delete(&m, 7);
	assert_int_equal(maildrop_update(&m), 0);
	maildrop_close(&m);
	assert_false(is_listed(LISTED - 1));
}

/* It is torn behind the header, which still names cur/. */
static void
L5_a_damaged_list(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	later = MAILDROP_SETTLE + 1;
	put_many();
	assert_false(is_listed(LISTED));
	fd = open("box/pop3-sizes", O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pwrite(fd, "", 1, st.st_size - 2), 1);
	close(fd);
	assert_false(is_listed(LISTED));
	assert_true(is_listed(LISTED));
}

/* As a user may have made it up: nothing is a message that cannot be a file of cur/. */
static void
L5_a_list_with_other_names(void **state)
{
	static const char *const names[] = { "1.a/../../x", "2.b", ".3", "../new/4.d", "/etc/passwd" };
	struct known_sizes k = { .at = 0 };
	char longest[MAILDIR_NAME_MAX + 2];
	const struct known_name none = { 99, longest, sizeof longest - 1 }, missing = { 100, "100.a", 5 };
	struct maildrop m;
	struct stat st;

	(void)state;
	later = MAILDROP_SETTLE + 1;
	assert_int_equal(stat("box/cur", &st), 0);
	k.state = (struct known_state){ st.st_ino, (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec };
	known_sizes_begin(&k);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		known_sizes_add(&k, &(struct known_name){ i, .name = names[i], .len = strlen(names[i]) }, 3);
	memset(longest, '9', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	known_sizes_add(&k, &none, 3);
	known_sizes_add(&k, &missing, UINT64_C(1) << 60);	/* is looked at, and gone */
	m = (struct maildrop){ .directory = -1 };
	assert_int_equal(maildrop_open(&m, "box"), 1);
	known_sizes_write(&k, m.sizes);
	known_sizes_free(&k);
	assert_int_equal(maildrop_list(&m), 1);
	assert_true(m.is_listed);
	check_names(&m, "");
	maildrop_close(&m);
}

/* The list's memory, which a line is left in, is moved for the names of new/, whose sizes are looked for then. */
static void
L5_a_list_of_more_messages_than_a_session_takes(void **state)
{
	struct known_sizes k = { .at = 0 };
	struct maildrop m = { .directory = -1 };
	struct stat st;
	char name[PATH];

	(void)state;
	later = MAILDROP_SETTLE + 1;
	for (int i = 0; i < 6000; i++) {
		snprintf(name, sizeof name, "new/1.%0240d", i);
		put(name, "abc");
	}
	assert_int_equal(stat("box/cur", &st), 0);
	k.state = (struct known_state){ st.st_ino, (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec };
	known_sizes_begin(&k);
	for (uint64_t i = 0; i < MAILDROP_MESSAGES_MAX + 1; i++) {
		int len = snprintf(name, sizeof name, "%05x", (unsigned int)i);

		known_sizes_add(&k, &(struct known_name){ 1, name, (size_t)len }, 3);
	}
	assert_int_equal(maildrop_open(&m, "box"), 1);
	known_sizes_write(&k, m.sizes);
	known_sizes_free(&k);
	assert_int_equal(maildrop_list(&m), 1);
	assert_true(m.is_listed && m.is_cut);
	assert_int_equal(m.count, MAILDROP_MESSAGES_MAX);
	assert_string_equal(text_of(&m, 0x10000), "abc");	/* behind 0ffff */
	maildrop_close(&m);
}

/* What the file system says is 3 octets. A number that was told is not looked up: that is the use of it. */
static const struct size_row { const char *rule, *name; uint64_t size, file_size; } sizes[] = {
	{ "size: the file's", "1.h", 3, 3 },
	{ "size: S", "1.h,S=7", 7, 7 },
	{ "size: W is what goes over the wire", "1.h,S=7,W=9", 9, 7 },
	{ "size: W alone", "1.h,W=9", 9, 3 },
	{ "size: behind the colon counts nothing", "1.h:2,S=7,W=9", 3, 3 },
	{ "size: S too large to be one", "1.h,S=18446744073709551615", 3, 3 },
	{ "size: W too large to be one", "1.h,S=7,W=18446744073709551615", 7, 7 },
	{ "size: S without a time is looked up for the time only", "h,S=7", 7, 7 },
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static const struct size_row *size_row;

static void
sizes_of_names(void **state)
{
	char path[PATH];
	struct maildrop m;

	(void)state;
	for (size_row = sizes; size_row < sizes + SIZES; size_row++) {
		snprintf(path, sizeof path, "cur/%s", size_row->name);
		put(path, "a\nb");
		begin(&m);
		assert_int_equal(m.count, 1);
		if (m.messages[0].size != size_row->size || m.messages[0].file_size != size_row->file_size)
			fail_msg("%s: %llu %llu", size_row->rule, (unsigned long long)m.messages[0].size,
			    (unsigned long long)m.messages[0].file_size);
		assert_int_equal(m.octets, size_row->size);
		maildrop_delete(&m, 0);
		assert_int_equal(maildrop_update(&m), 0);
		maildrop_close(&m);
	}
}

static void
seen_twice_is_one(void **state)
{
	struct maildrop m;

	(void)state;
	put("new/1.h,S=1", "1");
	put("cur/1.h,S=1:2,S", "2");
	put("cur/2.h:2,S", "3");
	put("cur/2.h:2,RS", "4");
	begin(&m);
	assert_int_equal(m.count, 2);
	assert_string_equal(text_of(&m, 0), "2");
	maildrop_close(&m);
}

static void
not_a_maildir(void **state)
{
	struct maildrop m = { .directory = -1 };

	(void)state;
	assert_int_equal(maildrop_open(&m, "absent"), 0);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(rmdir("box/cur"), 0);
	assert_int_equal(maildrop_open(&m, "box"), 0);
	assert_int_equal(errno, ENOENT);
	put("cur", "a file");
	assert_int_equal(maildrop_open(&m, "box"), 0);
	assert_int_equal(errno, ENOTDIR);
}

/* --- unique-ids ----------------------------------------------------------------------- */

#define SEVENTY "1.3456789012345678901234567890123456789012345678901234567890123456789,"

static const struct uid_row { const char *rule, *name, *uid; } uids[] = {
	{ "uid: the name, with its size", "1.h,S=3", "1.h,S=3" },
	{ "uid: without flags", "1.h,S=3:2,RS", "1.h,S=3" },
	{ "uid: 70 octets", SEVENTY ":2,", SEVENTY },
	{ "uid: 71 octets", SEVENTY "x:2,", "" },
	{ "uid: a blank", "1.a b", "" },
	{ "uid: a newline", "1.a\nb", "" },
	{ "uid: 8 bits", "1.\xe9", "" },
	{ "uid: nothing before the colon", ":2,S", "" },
};
enum { UIDS = sizeof uids / sizeof *uids };

static void
unique_ids(void **state)
{
	char path[PATH], uid[MAILDROP_UID_MAX + 1], before[MAILDROP_UID_MAX + 1] = "";
	struct maildrop m;
	size_t len;

	(void)state;
	for (const struct uid_row *row = uids; row < uids + UIDS; row++) {
		snprintf(path, sizeof path, "cur/%s", row->name);
		put(path, "x");
		begin(&m);
		len = maildrop_uid(&m, 0, uid);
		assert_int_equal(len, strlen(uid));
		if (*row->uid)
			assert_string_equal(uid, row->uid);
		else {
			assert_int_equal(strlen(uid), 40);
			assert_int_equal(strspn(uid, "0123456789abcdef"), 40);
			assert_string_not_equal(uid, before);
			memcpy(before, uid, sizeof uid);
		}
		maildrop_delete(&m, 0);
		assert_int_equal(maildrop_update(&m), 0);
		maildrop_close(&m);
	}
}

/* A digest, too, stays the same when the message moves. */
static void
unique_ids_stay(void **state)
{
	static const char *const names[] = { "1.h,S=1", SEVENTY "more" };
	char path[PATH], before[MAILDROP_UID_MAX + 1], after[MAILDROP_UID_MAX + 1];
	struct maildrop m;

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "new/%s", names[i]);
		put(path, "x");
		begin(&m);
		maildrop_uid(&m, i, before);
		assert_int_equal(maildrop_update(&m), 0);
		maildrop_close(&m);
		snprintf(path, sizeof path, "cur/%s:2,", names[i]);
		assert_true(is_there(path));
		begin(&m);
		maildrop_uid(&m, i, after);
		assert_string_equal(before, after);
		maildrop_close(&m);
	}
}

/* --- others at work -------------------------------------------------------------------- */

static void
moved_messages_are_found(void **state)
{
	struct maildrop m;

	(void)state;
	put("new/1.h,S=1", "1");
	put("cur/2.h,S=1:2,S", "2");
	put("new/no-time", "3");
	begin(&m);
	move("new/1.h,S=1", "cur/1.h,S=1:2,RS");
	move("cur/2.h,S=1:2,S", "new/2.h,S=1");
	move("new/no-time", "cur/no-time:2,");
	assert_string_equal(text_of(&m, 0), "1");
	assert_string_equal(text_of(&m, 1), "2");
	assert_string_equal(text_of(&m, 2), "3");
	maildrop_close(&m);
}

static void
vanished_messages_are_told(void **state)
{
	struct maildrop m;
	uint64_t size;

	(void)state;
	put("new/1.h,S=1", "1");
	put("new/2.h,S=1", "2");
	begin(&m);
	assert_int_equal(unlink("box/new/1.h,S=1"), 0);
	put("new/3.h,S=1", "comes too late");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(maildrop_file(&m, 0, &size), -1);
		assert_int_equal(errno, ENOENT);
	}
	assert_string_equal(text_of(&m, 1), "2");
	assert_int_equal(m.count, 2);
	maildrop_delete(&m, 0);
	assert_int_equal(maildrop_update(&m), 0);
	assert_true(is_there("cur/2.h,S=1:2,"));
	assert_true(is_there("new/3.h,S=1"));
	maildrop_close(&m);
}

/* Where cur/ cannot be read, nothing is known of what was moved there; later it is. */
static void
a_search_that_fails_says_nothing_of_what_is_gone(void **state)
{
	struct maildrop m;
	uint64_t size;
	int cur, none = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	put("new/1.h,S=1", "1");
	put("new/2.h,S=1", "2");
	put("new/3.h,S=1", "3");
	begin(&m);
	assert_int_equal(unlink("box/new/3.h,S=1"), 0);
	assert_int_equal(maildrop_file(&m, 2, &size), -1);
	move("new/1.h,S=1", "cur/1.h,S=1:2,S");
	move("new/2.h,S=1", "cur/2.h,S=1:2,S");
	cur = m.folders[MAILDROP_CUR];
	m.folders[MAILDROP_CUR] = none;
	assert_int_equal(maildrop_file(&m, 0, &size), -1);
	assert_int_equal(errno, ENOTDIR);
	m.folders[MAILDROP_CUR] = cur;
	assert_string_equal(text_of(&m, 0), "1");
	assert_string_equal(text_of(&m, 1), "2");
	assert_true(m.messages[2].is_gone);
	close(none);
	maildrop_close(&m);
}

static void
something_else_in_its_place(void **state)
{
	struct maildrop m;
	uint64_t size;

	(void)state;
	put("outside", "secret");
	put("new/1.h,S=1", "1");
	put("new/2.h,S=1", "2");
	put("new/3.h,S=1", "3");
	begin(&m);
	assert_int_equal(unlink("box/new/1.h,S=1") | unlink("box/new/2.h,S=1") | unlink("box/new/3.h,S=1"), 0);
	assert_int_equal(symlink("../outside", "box/new/1.h,S=1"), 0);
	assert_int_equal(mkfifo("box/new/2.h,S=1", 0600), 0);
	assert_int_equal(mkdir("box/new/3.h,S=1", 0700), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(maildrop_file(&m, i, &size), -1);
	maildrop_close(&m);
}

/* --- the end ------------------------------------------------------------------------------ */

static void
marks(void **state)
{
	struct maildrop m;

	(void)state;
	put("new/1.h,S=10", "1");
	put("cur/2.h,S=20:2,S", "2");
	begin(&m);
	assert_int_equal(m.octets, 30);
	maildrop_delete(&m, 0);
	assert_int_equal(m.left, 1);
	assert_int_equal(m.octets, 20);
	maildrop_undelete(&m);
	assert_int_equal(m.left, 2);
	assert_int_equal(m.octets, 30);
	maildrop_delete(&m, 1);
	maildrop_close(&m);
	assert_true(is_there("new/1.h,S=10"));
	assert_true(is_there("cur/2.h,S=20:2,S"));
}

static void
an_update(void **state)
{
	char longest[256], path[PATH];
	struct maildrop m;

	(void)state;
	put("new/1.h,S=1", "removed");
	put("cur/2.h,S=1:2,S", "removed");
	put("new/3.h,S=1", "seen");
	put("new/4.h,S=1:2,F", "has flags already");
	put("cur/5.h,S=1:2,", "as it is");
	put("new/6.h,S=1", "moved by somebody");
	memset(longest, '7', 255);
	longest[1] = '.';
	longest[255] = '\0';
	snprintf(path, sizeof path, "new/%s", longest);
	put(path, "no room for flags");
	begin(&m);
	assert_int_equal(m.count, 7);
	move("new/6.h,S=1", "cur/6.h,S=1:2,S");
	maildrop_delete(&m, 0);
	maildrop_delete(&m, 1);
	maildrop_delete(&m, 5);
	assert_int_equal(maildrop_update(&m), 0);
	maildrop_close(&m);
	begin(&m);
	snprintf(path, sizeof path, "3.h,S=1:2, 4.h,S=1:2,F 5.h,S=1:2, %s ", longest);
	check_names(&m, path);
	assert_true(is_there("cur/3.h,S=1:2,") && is_there("cur/4.h,S=1:2,F") && is_there("cur/5.h,S=1:2,"));
	maildrop_close(&m);
}

/* Another message of the same name came into cur/ meanwhile: it is not replaced. */
static void
nothing_is_replaced(void **state)
{
	struct maildrop m;

	(void)state;
	put("new/1.h,S=1", "1");
	begin(&m);
	put("cur/1.h,S=1:2,", "2");
	assert_int_equal(maildrop_update(&m), 0);
	assert_true(is_there("new/1.h,S=1") && is_there("cur/1.h,S=1:2,"));
	maildrop_close(&m);
}

static void
what_cannot_be_removed(void **state)
{
	struct maildrop m;

	(void)state;
	put("new/1.h,S=1", "1");
	put("new/2.h,S=1", "2");
	begin(&m);
	assert_int_equal(unlink("box/new/1.h,S=1"), 0);
	assert_int_equal(mkdir("box/new/1.h,S=1", 0700), 0);
	maildrop_delete(&m, 0);
	maildrop_delete(&m, 1);
	assert_int_equal(maildrop_update(&m), 1);
	assert_int_equal(errno, EISDIR);
	assert_false(is_there("new/2.h,S=1"));
	maildrop_close(&m);
}

/* --- the quota of Maildir++ ------------------------------------------------------------------ */

static void
check_quota(const char *want)
{
	char got[200] = "";
	FILE *file = fopen("box/maildirsize", "r");

	assert_non_null(file);
	got[fread(got, 1, sizeof got - 1, file)] = '\0';
	fclose(file);
	assert_string_equal(got, want);
}

static void
quota(void **state)
{
	struct maildrop m;

	(void)state;
	put("maildirsize", "1000S,10C\n600 6\n");
	put("new/1.h,S=100,W=110", "1");
	put("cur/2.h,S=200:2,S", "2");
	put("cur/3.h,S=300:2,ST", "in the trash: does not count");
	put("new/4.h,S=400", "vanishes: whoever removed it says so");
	put("new/5.h,S=500", "stays");
	put("new/6.h", "seven\n");
	touch("new/6.h", 6);
	begin(&m);
	for (size_t i = 0; i < 4; i++)
		maildrop_delete(&m, i);
	maildrop_delete(&m, 5);
	assert_int_equal(unlink("box/new/4.h,S=400"), 0);
	assert_int_equal(maildrop_update(&m), 0);
	check_quota("1000S,10C\n600 6\n-306 -3\n");
	maildrop_close(&m);
	begin(&m);
	assert_int_equal(maildrop_update(&m), 0);
	check_quota("1000S,10C\n600 6\n-306 -3\n");
	maildrop_close(&m);
}

/* A delivery counted meanwhile, perhaps what is removed now: the next one has to count anew. */
static void
quota_that_was_counted_meanwhile(void **state)
{
	struct maildrop m;

	(void)state;
	put("maildirsize", "1000S,10C\n100 1\n");
	put("new/1.h,S=100", "1");
	begin(&m);
	put("tmp/quota", "1000S,10C\n100 1\n");
	move("tmp/quota", "maildirsize");
	maildrop_delete(&m, 0);
	assert_int_equal(maildrop_update(&m), 0);
	assert_false(is_there("maildirsize"));
	maildrop_close(&m);
}

static void
no_quota(void **state)
{
	struct maildrop m;

	(void)state;
	put("new/1.h,S=100", "1");
	begin(&m);
	maildrop_delete(&m, 0);
	assert_int_equal(maildrop_update(&m), 0);
	assert_false(is_there("maildirsize"));
	maildrop_close(&m);
}

/* --- tmp/ ------------------------------------------------------------------------------------- */

static void
old_files_in_tmp(void **state)
{
	struct maildrop m;
	time_t limit = time(NULL) - MAILDROP_TMP_HOURS * 3600;

	(void)state;
	put("tmp/old", "x");
	touch("tmp/old", limit - 60);
	put("tmp/young", "x");
	touch("tmp/young", limit + 600);
	put("tmp/.hidden", "x");
	touch("tmp/.hidden", 1);
	assert_int_equal(symlink("../new", "box/tmp/link"), 0);
	touch("tmp/link", 1);
	assert_int_equal(mkdir("box/tmp/directory", 0700), 0);
	touch("tmp/directory", 1);
	begin(&m);
	maildrop_clean(&m);
	maildrop_close(&m);
	assert_false(is_there("tmp/old"));
	assert_true(is_there("tmp/young") && is_there("tmp/.hidden") && is_there("tmp/link") && is_there("tmp/directory"));
}

#define TEST(f) { #f, f, make_box, remove_box, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(which_and_in_which_order), TEST(sizes_are_kept), TEST(an_unchanged_cur_is_not_read),
		TEST(a_name_that_begins_with_a_colon_is_listed), TEST(a_cur_that_was_just_changed_is_read),
		TEST(what_a_session_removes_is_in_no_list), TEST(L5_a_damaged_list),
		TEST(L5_a_list_with_other_names), TEST(L5_a_list_of_more_messages_than_a_session_takes),
		TEST(only_regular_files), TEST(empty), TEST(sizes_of_names), TEST(seen_twice_is_one),
		TEST(not_a_maildir), TEST(unique_ids), TEST(unique_ids_stay), TEST(moved_messages_are_found),
		TEST(vanished_messages_are_told), TEST(a_search_that_fails_says_nothing_of_what_is_gone),
		TEST(something_else_in_its_place), TEST(marks), TEST(an_update),
		TEST(nothing_is_replaced), TEST(what_cannot_be_removed), TEST(quota),
		TEST(quota_that_was_counted_meanwhile), TEST(no_quota), TEST(old_files_in_tmp),
	};

	return cmocka_run_group_tests_name("maildrop", tests, directory_make, directory_remove);
}
