#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "become.h"

FILE *__wrap_fopen(const char *path, const char *mode);

/* What the next file says; NULL: it is not there. */
static const char *text;
static int error;

FILE *
__wrap_fopen(const char *path, const char *mode)
{
	assert_true(strcmp(path, "/etc/passwd") == 0 || strcmp(path, "/etc/group") == 0);
	if (text)
		return fmemopen((char *)(uintptr_t)text, strlen(text), mode);
	errno = error;
	return NULL;
}

static const struct row { const char *rule, *text, *name; int found; unsigned int uid, gid; } users[] = {
	{ "the first", "qmaild:x:7:8::/:\nqmails:x:9:10::/:\n", "qmaild", 1, 7, 8 },
	{ "a later one", "qmaild:x:7:8::/:\nqmails:x:9:10::/:\n", "qmails", 1, 9, 10 },
	{ "a name that is only the beginning of one", "qmaild:x:7:8::/:\n", "qmail", 0, 0, 0 },
	{ "a line that is none", "what\nqmaild:x:seven:8::/:\n\nqmaild:x:7:8::/:\n", "qmaild", 1, 7, 8 },
	{ "nobody", "root:x:0:0::/:\n", "qmaild", 0, 0, 0 },
	{ "no LF", "qmaild:x:7:8::/:", "qmaild", 1, 7, 8 },
};

static void
find_user(void **state)
{
	(void)state;
	for (const struct row *r = users; r < users + sizeof users / sizeof *users; r++) {
		uid_t uid = 99;
		gid_t gid = 99;

		text = r->text;
		if (become_find_user(r->name, &uid, &gid) != r->found || uid != (r->found ? r->uid : 99) || gid != (r->found ? r->gid : 99))
			fail_msg("%s: %u %u", r->rule, uid, gid);
	}
}

static void
find_group(void **state)
{
	gid_t gid = 99;

	(void)state;
	text = "root:x:0:\nnot a line\nqmail:x:12:ana,luis\n";
	assert_int_equal(become_find_group("nofiles", &gid), 0);
	assert_int_equal(gid, 99);
	assert_int_equal(become_find_group("qmail", &gid), 1);
	assert_int_equal(gid, 12);
}

/* Trouble is not the same as that there is no such user. */
static void
no_file(void **state)
{
	uid_t uid;
	gid_t gid;

	(void)state;
	text = NULL;
	error = ENOENT;
	assert_int_equal(become_find_user("qmaild", &uid, &gid), 0);
	error = EMFILE;
	assert_int_equal(become_find_user("qmaild", &uid, &gid), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(become_find_group("qmail", &gid), -1);
	assert_int_equal(errno, EMFILE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(find_user), cmocka_unit_test(find_group), cmocka_unit_test(no_file),
	};

	return cmocka_run_group_tests_name("become", tests, NULL, NULL);
}
