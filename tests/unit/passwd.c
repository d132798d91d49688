/* Whose a local part is by the user database: interfaces section 7, 2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "users/passwd.h"

static const struct user { const char *name; uid_t uid; int found, owns; } users[] = {
	{ "ana", 1000, 1, 1 },
	{ "ana-maria", 1001, 1, 1 },
	{ "root", 0, 1, 1 },
	{ "homeless", 1002, 1, 0 },
	{ "lost", 1003, -1, 0 },	/* the user database does not answer */
	{ "closed", 1004, 1, -1 },	/* home that we may not look at */
	{ "abcdefghijklmnopqrstuvwxyz01234", 1005, 1, 1 },	/* 31 octets */
	{ "abcdefghijklmnopqrstuvwxyz012345", 1006, 1, 1 },	/* 32 */
	{ "alias", 7790, 1, 1 },
};
enum { USERS = sizeof users / sizeof *users };

static int has_alias;

static int
by_name(void *context, const char *name, struct passwd *pw)
{
	(void)context;
	for (size_t i = 0; i < USERS; i++)
		if (!strcmp(users[i].name, name) && (has_alias || strcmp(name, "alias") != 0)) {
			*pw = (struct passwd){ .pw_name = (char *)(uintptr_t)users[i].name, .pw_uid = users[i].uid,
			    .pw_gid = users[i].uid + 1, .pw_dir = (char *)(uintptr_t)users[i].name };
			return users[i].found;
		}
	return 0;
}

static int
owns(void *context, uid_t uid, const char *directory)
{
	(void)context;
	for (size_t i = 0; i < USERS; i++)
		if (!strcmp(users[i].name, directory))
			return users[i].uid == uid ? users[i].owns : 0;
	return 0;
}

static const struct row { const char *rule, *local, *want; } rows[] = {
	{ "a user", "ana", "ana 1000 1001 ana  " },
	{ "in lower case", "ANA", "ana 1000 1001 ana  " },
	{ "with an extension, in its own case", "Ana-Lists", "ana 1000 1001 ana - Lists" },
	{ "with an empty extension", "ana-", "ana 1000 1001 ana - " },
	{ "longest prefix", "ana-maria-x", "ana-maria 1001 1002 ana-maria - x" },
	{ "a prefix ends at a break", "anamaria", "alias 7790 7791 alias - anamaria" },
	{ "several breaks", "ana-a-b", "ana 1000 1001 ana - a-b" },
	{ "root is nobody", "root", "alias 7790 7791 alias - root" },
	{ "nobody, in his own case", "Nobody-x", "alias 7790 7791 alias - Nobody-x" },
	{ "not the owner of his home", "homeless-x", "alias 7790 7791 alias - homeless-x" },
	{ "begins with a break", "-ana", "alias 7790 7791 alias - -ana" },
	{ "empty", "", "alias 7790 7791 alias - " },
	{ "31 octets", "abcdefghijklmnopqrstuvwxyz01234", "abcdefghijklmnopqrstuvwxyz01234 1005 1006 abcdefghijklmnopqrstuvwxyz01234  " },
	{ "32 octets are no user", "abcdefghijklmnopqrstuvwxyz012345", "alias 7790 7791 alias - abcdefghijklmnopqrstuvwxyz012345" },
	{ "user database in trouble", "lost", "temporary, user" },
	{ "user database in trouble for a prefix", "lost-x", "temporary, user" },
	{ "home that cannot be known", "closed-x", "temporary, home" },
};

static const char *
find(const char *local)
{
	static char got[256];
	struct passwd_source source = { .by_name = by_name, .owns = owns };
	stralloc fields = STRALLOC_ZERO;

	switch (passwd_find(&fields, &source, local)) {
	case PASSWD_NO_ALIAS: strcpy(got, "no alias"); break;
	case PASSWD_TEMP_USER: strcpy(got, "temporary, user"); break;
	case PASSWD_TEMP_HOME: strcpy(got, "temporary, home"); break;
	case PASSWD_NO_MEMORY: strcpy(got, "no memory"); break;
	case PASSWD_FOUND:
		assert_int_equal(fields.s[fields.len - 1], '\0');
		memcpy(got, fields.s, fields.len);
		for (size_t i = 0; i + 1 < fields.len; i++)
			if (!got[i])
				got[i] = ' ';
	}
	stralloc_free(&fields);
	return got;
}

static void
find_row(void **state)
{
	const struct row *row = *state;

	has_alias = 1;
	assert_string_equal(find(row->local), row->want);
}

static void
no_alias(void **state)
{
	(void)state;
	has_alias = 0;
	assert_string_equal(find("ana"), "ana 1000 1001 ana  ");
	assert_string_equal(find("nobody"), "no alias");
}

/* --- the machine's own ------------------------------------------------------------------------------------------- */

static const struct machine_row { const char *rule; int error, has_entry, want; } machine[] = {
	{ "the database has the user", 0, 1, 1 },
	{ "it has not", 0, 0, 0 },
	{ "a service cannot be asked: ENOENT", ENOENT, 0, -1 },
	{ "a service cannot be asked: ESRCH", ESRCH, 0, -1 },
	{ "a service does not answer", EAGAIN, 0, -1 },
	{ "an entry without end", ERANGE, 0, -1 },
};
enum { MACHINE = sizeof machine / sizeof *machine };

static const struct machine_row *answering;

int __wrap_getpwnam_r(const char *name, struct passwd *pw, char *room, size_t size, struct passwd **found);
int
__wrap_getpwnam_r(const char *name, struct passwd *pw, char *room, size_t size, struct passwd **found)
{
	(void)name, (void)room, (void)size;
	*found = answering->has_entry ? pw : NULL;
	return answering->error;
}

static void
machine_row(void **state)
{
	stralloc room = STRALLOC_ZERO;
	struct passwd pw;

	answering = *state;
	assert_int_equal(passwd_by_name(&room, "ana", &pw), answering->want);
	stralloc_free(&room);
}

enum { ROWS = sizeof rows / sizeof *rows };

int
main(void)
{
	struct CMUnitTest tests[ROWS + 1 + MACHINE];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = find_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(no_alias);
	for (size_t i = 0; i < MACHINE; i++)
		tests[ROWS + 1 + i] = (struct CMUnitTest){ .name = machine[i].rule, .test_func = machine_row,
		    .initial_state = (void *)(uintptr_t)&machine[i] };
	return cmocka_run_group_tests_name("passwd", tests, NULL, NULL);
}
