/* From a recipient to channel and address: interfaces section 6.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/send/route.h"

static const struct files { const char *name, *text; } files[] = {
	{ "me", "me.example\n" },
	{ "locals", "me.example\nLocal.Example\nboth.example\n" },
	{ "percenthack", "hack.example\nlocal.example\n" },
	{ "virtualdomains",
	    "info@virtual.example:info\n"
	    "Virtual.example:vuser\n"
	    ".wild.example:wild\n"
	    ".deep.wild.example:deep\n"
	    "not.wild.example:\n"
	    "both.example:both\n"
	    "ann@both.example:ann\n"
	    "twice.example:first\n"
	    "twice.example:second\n"
	    "no colon is ignored\n"
	    "colons.example:a:b\n" },
	{ "envnoathost", "noat.example\n" },
};

/* want: address after the "prepended|" part */
static const struct row { const char *rule, *recipient, *want; enum route_channel channel; } rows[] = {
	{ "1: no @", "ann", "ann@noat.example", ROUTE_REMOTE },
	{ "1: empty", "", "@noat.example", ROUTE_REMOTE },
	{ "2: percent hack", "ann%far.example@hack.example", "ann@far.example", ROUTE_REMOTE },
	{ "2: the last % counts, again while it applies", "a%b.example%hack.example@hack.example", "a@b.example", ROUTE_REMOTE },
	{ "2: stops at a domain that is not in the list", "a%b.example%far.example@hack.example", "a%b.example@far.example", ROUTE_REMOTE },
	{ "2: without % as it is", "ann@hack.example", "ann@hack.example", ROUTE_REMOTE },
	{ "2: before locals", "ann%far.example@local.example", "ann@far.example", ROUTE_REMOTE },
	{ "2: any case", "ann%far.example@HACK.example", "ann@far.example", ROUTE_REMOTE },
	{ "2: a % elsewhere stays", "a%b@far.example", "a%b@far.example", ROUTE_REMOTE },
	{ "3: local", "Ann@local.example", "Ann@local.example", ROUTE_LOCAL },
	{ "3: any case, address as it was", "Ann@LOCAL.Example", "Ann@LOCAL.Example", ROUTE_LOCAL },
	{ "3: exact domains only", "ann@sub.local.example", "ann@sub.local.example", ROUTE_REMOTE },
	{ "3: locals beats virtualdomains", "bob@both.example", "bob@both.example", ROUTE_LOCAL },
	{ "3: also a whole address there", "ann@both.example", "ann@both.example", ROUTE_LOCAL },
	{ "3: the last @ counts", "a@far.example@local.example", "a@far.example@local.example", ROUTE_LOCAL },
	{ "4: whole address first", "info@virtual.example", "info-|info@virtual.example", ROUTE_LOCAL },
	{ "4: whole address in any case", "INFO@VIRTUAL.example", "info-|INFO@VIRTUAL.example", ROUTE_LOCAL },
	{ "4: domain", "x@virtual.example", "vuser-|x@virtual.example", ROUTE_LOCAL },
	{ "4: suffix", "x@a.wild.example", "wild-|x@a.wild.example", ROUTE_LOCAL },
	{ "4: the longest suffix first", "x@a.deep.wild.example", "deep-|x@a.deep.wild.example", ROUTE_LOCAL },
	{ "4: a suffix is not the domain itself", "x@wild.example", "x@wild.example", ROUTE_REMOTE },
	{ "4: empty prepend stops, remote", "x@not.wild.example", "x@not.wild.example", ROUTE_REMOTE },
	{ "4: of equal keys the last", "x@twice.example", "second-|x@twice.example", ROUTE_LOCAL },
	{ "4: the first colon divides", "x@colons.example", "a:b-|x@colons.example", ROUTE_LOCAL },
	{ "4: no local part", "@virtual.example", "vuser-|@virtual.example", ROUTE_LOCAL },
	{ "5: remote", "ann@far.example", "ann@far.example", ROUTE_REMOTE },
	{ "5: no domain", "ann@", "ann@", ROUTE_REMOTE },
};

static struct route_rules rules;

static void
write_files(const struct files *f, size_t count)
{
	char path[64];

	mkdir("control", 0700);
	for (size_t i = 0; i < count; i++) {
		FILE *file;

		snprintf(path, sizeof path, "control/%s", f[i].name);
		file = fopen(path, "w");
		assert_non_null(file);
		fputs(f[i].text, file);
		fclose(file);
	}
}

static void
remove_files(void)
{
	char path[64];

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "control/%s", files[i].name);
		unlink(path);
	}
}

static void
check(const char *recipient, const char *want, enum route_channel channel)
{
	stralloc address = STRALLOC_ZERO;
	struct route route;
	char got[200];

	assert_int_equal(route_find(&rules, recipient, &address, &route), 1);
	snprintf(got, sizeof got, "%.*s%s%s", (int)route.prepended, address.s, route.prepended ? "|" : "",
	    address.s + route.prepended);
	assert_string_equal(got, want);
	assert_int_equal(route.channel, channel);
	assert_int_equal(address.s[route.at], '@');
	assert_null(strchr(address.s + route.at + 1, '@'));
	assert_int_equal(address.len, strlen(address.s) + 1);
	stralloc_free(&address);
}

static void
run_row(void **state)
{
	const struct row *row = *state;

	check(row->recipient, row->want, row->channel);
}

static void
the_empty_key_takes_the_rest(void **state)
{
	(void)state;
	write_files((struct files[]){ { "virtualdomains", ":rest\nfar.example:\n" } }, 1);
	assert_null(route_reload(&rules));
	check("x@any.example", "rest-|x@any.example", ROUTE_LOCAL);
	check("x@far.example", "x@far.example", ROUTE_REMOTE);
	check("x@local.example", "x@local.example", ROUTE_LOCAL);
}

static void
locals_missing_is_me(void **state)
{
	(void)state;
	unlink("control/locals");
	assert_null(route_reload(&rules));
	check("x@me.example", "x@me.example", ROUTE_LOCAL);
}

static void
an_empty_locals_is_nothing(void **state)
{
	(void)state;
	write_files((struct files[]){ { "locals", "# none\n" }, { "virtualdomains", "" } }, 2);
	assert_null(route_reload(&rules));
	check("x@me.example", "x@me.example", ROUTE_REMOTE);
}

static void
neither_locals_nor_me(void **state)
{
	(void)state;
	remove_files();
	errno = 0;
	assert_string_equal(route_reload(&rules), "control/locals");
	assert_int_equal(errno, ENOENT);
	/* the rules are as before */
	check("x@me.example", "x@me.example", ROUTE_REMOTE);
	assert_string_equal(route_load(&rules), "control/locals");
}

static void
the_name_of_the_file_for_lack_of_me(void **state)
{
	(void)state;
	remove_files();
	write_files((struct files[]){ { "locals", "local.example\n" } }, 1);
	assert_null(route_load(&rules));
	check("x", "x@envnoathost", ROUTE_REMOTE);
}

static int
set_up(void **state)
{
	char where[] = "/tmp/tambo-route-XXXXXX";

	(void)state;
	if (!mkdtemp(where) || chdir(where) < 0)
		return -1;
	write_files(files, sizeof files / sizeof *files);
	return route_load(&rules) ? -1 : 0;
}

static int
tear_down(void **state)
{
	char here[100];

	(void)state;
	route_free(&rules);
	remove_files();
	rmdir("control");
	return getcwd(here, sizeof here) && chdir("/") == 0 ? rmdir(here) : -1;
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS + 5];
	size_t n = 0;

	for (; n < ROWS; n++)
		tests[n] = (struct CMUnitTest){ .name = rows[n].rule, .test_func = run_row,
		    .initial_state = (void *)(uintptr_t)&rows[n] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_empty_key_takes_the_rest);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(locals_missing_is_me);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(an_empty_locals_is_nothing);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(neither_locals_nor_me);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_name_of_the_file_for_lack_of_me);
	return cmocka_run_group_tests_name("route", tests, set_up, tear_down);
}
