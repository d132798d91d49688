/* Whether an address delivers: interfaces sections 6.2, 7 and 8.2, and where nobody can know. The home of the test is a
 * directory of its own; the user database is the table of users below. */
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
#include "bin-src/smtpd/deliverable.h"
#include "bin-src/smtpd/fresh_routes.h"

/* users/cdb has nothing: all is asked of this user database. */
static const struct user { const char *name; uid_t uid; const char *home; } users[] = {
	{ "ana", 1000, "ana" }, { "luis", 1001, "luis" }, { "boss", 0, "boss" }, { "alias", 7, "alias" },
	{ "gone", 1002, "gone" }, { "edits", 1003, "edits" }, { "open", 1004, "open" }, { "far", 1005, "far" },
	{ "loop", 1006, "loop" }, { "file", 1007, "ana/.qmail-x" },
};

static int has_alias = 1;

static int
by_name(void *context, const char *name, struct passwd *pw)
{
	(void)context;
	if (strcmp(name, "silent") == 0) {
		errno = EIO;
		return -1;
	}
	for (size_t i = 0; i < sizeof users / sizeof *users; i++)
		if (strcmp(name, users[i].name) == 0 && (has_alias || strcmp(name, "alias") != 0)) {
			*pw = (struct passwd){ .pw_name = (char *)(uintptr_t)users[i].name, .pw_uid = users[i].uid, .pw_gid = 1,
			    .pw_dir = (char *)(uintptr_t)users[i].home };
			return 1;
		}
	return 0;
}

static int
owns(void *context, uid_t uid, const char *directory)
{
	(void)context;
	(void)uid;
	if (strcmp(directory, "far") == 0) {
		errno = EACCES;
		return -1;
	}
	return 1;
}

static const struct passwd_source source = { .by_name = by_name, .owns = owns };

static const struct row { const char *rule, *address, *want; } rows[] = {
	{ "a user: default delivery", "ana@here.example", "K user ana" },
	{ "case does not count", "ANA@Here.Example", "K user ana" },
	{ "no domain: envnoathost", "ana", "K user ana" },
	{ "a file of the extension", "ana-x@here.example", "K user ana, file ana/.qmail-x" },
	{ "the extension in lower case", "ana-X@here.example", "K user ana, file ana/.qmail-x" },
	{ "a dot is a colon", "ana-v.1@here.example", "K user ana, file ana/.qmail-v:1" },
	{ "default at a dash", "ana-list-any-thing@here.example", "K user ana, file ana/.qmail-list-default" },
	{ "default at a dash needs the dash", "ana-list@here.example", "U user ana has neither ana/.qmail-list " },
	{ "default for all", "luis-any@here.example", "K user luis, file luis/.qmail-default" },
	{ "an empty extension", "ana-@here.example", "U user ana has neither ana/.qmail- " },
	{ "nothing there", "ana-nothing@here.example", "U user ana has neither ana/.qmail-nothing" },
	{ "a directory is no file", "ana-dir@here.example", "U user ana" },
	{ "a pipe is deferred", "ana-pipe@here.example", "? ana/.qmail-pipe is not a regular file" },
	{ "a link to nowhere is absent", "ana-dangling@here.example", "U user ana" },
	{ "a link to itself is trouble", "ana-circle@here.example", "? unable to look at ana/.qmail-circle: " },
	{ "a name that no file system takes", "ana-" "0123456789012345678901234567890123456789012345678901234567890123456789"
	    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	    "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123@here.example",
	    "U user ana" },
	{ "no user: alias", "staff@here.example", "K user alias, file alias/.qmail-staff" },
	{ "no user: alias, default", "staff-x@here.example", "K user alias, file alias/.qmail-staff-default" },
	{ "nobody", "nobody@here.example", "U user alias has neither alias/.qmail-nobody " },
	{ "uid 0 is no user", "boss@here.example", "U user alias has neither alias/.qmail-boss " },
	{ "the user database is silent", "silent@here.example", "? unable to ask the user database: " },
	{ "a home that cannot be looked at", "far@here.example", "? unable to look at the home of a user: " },
	{ "a home that is gone: the user himself", "gone@here.example", "K user gone" },
	{ "a home that is gone: extensions", "gone-x@here.example", "? unable to look at gone: " },
	{ "a home that is a file", "file-x@here.example", "? " },
	{ "a sticky home", "edits-x@here.example", "? edits of user edits" },
	{ "a home that everybody writes", "open-x@here.example", "? open of user open" },
	{ "another host", "ana@there.example", "R there.example is not local here" },
	{ "a virtual domain", "x@virtual.example", "K user ana, file ana/.qmail-x" },
	{ "a virtual domain: nobody", "y@virtual.example", "U user ana has neither ana/.qmail-y " },
	{ "a virtual user", "one@there.example", "K user luis, file luis/.qmail-default" },
	{ "percenthack", "ana-x%here.example@hack.example", "K user ana, file ana/.qmail-x" },
	{ "the last @ counts", "a@b@here.example", "U user alias has neither alias/.qmail-a@b " },
	{ "a path is a name", "ana-../../x@here.example", "U user ana has neither ana/.qmail-::/::/x " },
	{ "control octets", "ana-\1\n@here.example", "U user ana has neither ana/.qmail-?? " },
	{ "no local part", "@here.example", "K mail to an empty local part" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct fresh_routes routes;

static void
ask(const char *address, struct verdict *v)
{
	static struct deliverable d;
	const struct account *a = &d.account;

	switch (deliverable_begin(&d, &routes.route, address, v)) {
	case DELIVERABLE_ANSWERED: break;
	case DELIVERABLE_USER: deliverable_user(&source, d.local, v); break;
	case DELIVERABLE_HOME: deliverable_home(a->user, a->home, a->dash, a->ext, v); break;
	}
}

static void
expect(const char *address, const char *want)
{
	char got[RCPTCHECK_TEXT_MAX + 3];
	struct verdict v;

	ask(address, &v);
	snprintf(got, sizeof got, "%c %s", v.answer, v.text);
	if (strncmp(got, want, strlen(want)) != 0)
		fail_msg("%s: %s, not %s", address, got, want);
}

static void
check_row(void **state)
{
	const struct row *row = *state;

	expect(row->address, row->want);
}

static void
put(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void
no_alias(void **state)
{
	(void)state;
	has_alias = 0;
	expect("nobody@here.example", "T there is no user alias");
	has_alias = 1;
}

static void
damaged_table(void **state)
{
	(void)state;
	put("users/cdb", "this is no table");
	expect("ana@here.example", "T unable to read users/cdb");
	expect("ana@there.example", "R ");
	unlink("users/cdb");
}

/* A qmail-local of the site's own may know addresses that ours does not. */
static void
replaced_local(void **state)
{
	(void)state;
	unlink("bin/qmail-local");
	put("bin/qmail-local", "#!/bin/sh\n");
	expect("nobody@here.example", "? bin/qmail-local is not our own");
	expect("ana-x@here.example", "K ");
	unlink("bin/qmail-local");
	assert_int_equal(link("libexec/qmail-local", "bin/qmail-local"), 0);
}

static void
long_texts_are_cut(void **state)
{
	char address[RCPTCHECK_ADDRESS_MAX + 1];
	struct verdict v;

	(void)state;
	memset(address, 'x', sizeof address - 1);
	memcpy(address + sizeof address - 14, "@here.example", 14);
	ask(address, &v);
	assert_int_equal(v.answer, RCPT_UNKNOWN);
	assert_int_equal(strlen(v.text), RCPTCHECK_TEXT_MAX);
}

/* --- control files that change ------------------------------------------------------------------------------------ */

/* As if they had been changed long ago. */
static void
settle(void)
{
	for (int i = 0; i < FRESH_ROUTES_FILES; i++)
		routes.files[i].size++;	/* not as they were, whatever they are now */
}

static void
changes_are_seen(void **state)
{
	(void)state;
	put("control/locals", "here.example\nnew.example\n");
	assert_null(fresh_routes_look(&routes, 10000));
	assert_int_equal(routes.in_doubt, 1);	/* an editor may be at work */
	expect("ana@new.example", "R ");
	put("control/locals", "here.example\n");
	assert_null(fresh_routes_load(&routes));	/* SIGHUP does not wait */
	assert_int_equal(routes.in_doubt, 0);
	assert_null(fresh_routes_look(&routes, 20000));
	assert_int_equal(routes.in_doubt, 0);
}

static void
a_second_look_waits_for_a_second(void **state)
{
	(void)state;
	settle();
	routes.looked_at = 30000;
	assert_null(fresh_routes_look(&routes, 30999));
	assert_int_equal(routes.in_doubt, 0);
	assert_null(fresh_routes_look(&routes, 31000));
	assert_int_equal(routes.in_doubt, 1);
	assert_null(fresh_routes_load(&routes));
}

static void
what_cannot_be_read_leaves_the_old_rules(void **state)
{
	(void)state;
	assert_int_equal(rename("control/me", "control/away"), 0);
	assert_int_equal(rename("control/locals", "control/away2"), 0);
	assert_non_null(fresh_routes_load(&routes));
	assert_int_equal(routes.in_doubt, 1);
	expect("ana@here.example", "K ");
	assert_int_equal(rename("control/away", "control/me"), 0);
	assert_int_equal(rename("control/away2", "control/locals"), 0);
	assert_null(fresh_routes_load(&routes));
	assert_int_equal(routes.in_doubt, 0);
}

static char top[] = "/tmp/deliverable.XXXXXX";

static int
make_home(void **state)
{
	static const char *const folders[] = { "control", "users", "bin", "libexec", "ana", "ana/.qmail-dir", "luis", "alias",
	    "edits", "open", "boss" };
	static const char *const files[] = { "ana/.qmail-x", "ana/.qmail-v:1", "ana/.qmail-list-default", "luis/.qmail-default",
	    "alias/.qmail-staff", "alias/.qmail-staff-default", "libexec/qmail-local" };

	(void)state;
	if (!mkdtemp(top) || chdir(top) < 0)
		return -1;
	umask(022);
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		if (mkdir(folders[i], 0755) < 0)
			return -1;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		put(files[i], "");
	put("control/me", "me.example\n");
	put("control/locals", "here.example\n");
	put("control/virtualdomains", "virtual.example:ana\none@there.example:luis\n");
	put("control/percenthack", "hack.example\n");
	put("control/envnoathost", "here.example\n");
	if (mkfifo("ana/.qmail-pipe", 0644) < 0 || symlink("nowhere", "ana/.qmail-dangling") < 0 ||
	    symlink(".qmail-circle", "ana/.qmail-circle") < 0 || chmod("edits", 01755) < 0 || chmod("open", 0777) < 0 ||
	    link("libexec/qmail-local", "bin/qmail-local") < 0)
		return -1;
	return fresh_routes_load(&routes) ? -1 : 0;
}

static int
remove_home(void **state)
{
	char command[64];

	(void)state;
	route_free(&routes.route);
	snprintf(command, sizeof command, "rm -rf %s", top);
	return system(command);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 7] = {
		[ROWS] = cmocka_unit_test(no_alias), cmocka_unit_test(damaged_table), cmocka_unit_test(replaced_local),
		cmocka_unit_test(long_texts_are_cut), cmocka_unit_test(changes_are_seen),
		cmocka_unit_test(a_second_look_waits_for_a_second), cmocka_unit_test(what_cannot_be_read_leaves_the_old_rules),
	};

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = check_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("deliverable", tests, make_home, remove_home);
}
