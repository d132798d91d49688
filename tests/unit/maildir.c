/* maildir: names, and what is where at each step; maildir(5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "maildir.h"

static const struct host_row { const char *rule, *host, *want; } hosts[] = {
	{ "host: plain", "mail.a.example", "mail.a.example" },
	{ "host: slash", "a/b", "a\\057b" },
	{ "host: colon", "a:b", "a\\072b" },
	{ "host: comma, which begins a size", "a,S=1", "a\\054S=1" },
	{ "host: blank, newline, DEL", "a b\n\177", "a\\040b\\012\\177" },
	{ "host: octet above 127", "\xe9", "\\351" },
	{ "host: empty", "", "localhost" },
};
enum { HOSTS = sizeof hosts / sizeof *hosts };

static void
host_row(void **state)
{
	const struct host_row *row = *state;
	char got[MAILDIR_HOST_MAX + 1];

	maildir_escape_host(got, row->host);
	assert_string_equal(got, row->want);
}

static const struct size_row { const char *rule, *name; int r; uint64_t size; } sizes[] = {
	{ "size: ours", "1.M2P3Q4.h,S=56", 1, 56 },
	{ "size: before flags", "1.M2P3Q4.h,S=56:2,S", 1, 56 },
	{ "size: before another number", "1.h,S=56,W=57:2,", 1, 56 },
	{ "size: none", "1.h:2,S", 0, 0 },
	{ "size: flag S is none", "1.h:2,S=5", 0, 0 },
	{ "size: no digits", "1.h,S=", 0, 0 },
	{ "size: junk behind", "1.h,S=5x", 0, 0 },
	{ "size: negative", "1.h,S=-5", 0, 0 },
	{ "size: too large", "1.h,S=99999999999999999999999", 0, 0 },
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void
size_row(void **state)
{
	const struct size_row *row = *state;
	uint64_t size = 0;

	assert_int_equal(maildir_name_size(row->name, &size), row->r);
	assert_int_equal(size, row->size);
}

static void
wire_size(void **state)
{
	uint64_t size = 0;

	(void)state;
	assert_int_equal(maildir_name_wire_size("1.h,S=56,W=58:2,S", &size), 1);
	assert_int_equal(size, 58);
	assert_int_equal(maildir_name_wire_size("1.h,S=56:2,S,W=58", &size), 0);
	assert_int_equal(size, 58);
}

static void
longest_host_fits(void **state)
{
	char host[1000], escaped[MAILDIR_HOST_MAX + 1], name[MAILDIR_NAME_MAX + 1];

	(void)state;
	memset(host, ':', sizeof host);
	host[sizeof host - 1] = '\0';
	maildir_escape_host(escaped, host);
	assert_int_equal(strlen(escaped), MAILDIR_HOST_MAX);
	maildir_name(name, escaped);
	assert_true(strlen(name) + sizeof ",S=18446744073709551615" - 1 <= MAILDIR_NAME_MAX);
	assert_string_equal(name + strlen(name) - MAILDIR_HOST_MAX, escaped);
}

static void
names_differ(void **state)
{
	char a[MAILDIR_NAME_MAX + 1], b[MAILDIR_NAME_MAX + 1];
	char pid[32];

	(void)state;
	maildir_name(a, "h");
	maildir_name(b, "h");
	assert_string_not_equal(a, b);
	snprintf(pid, sizeof pid, "P%ldQ", (long)getpid());
	assert_non_null(strstr(a, pid));
}

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
steps_of_a_delivery(void **state)
{
	struct maildir m;
	struct maildir_file f;
	const struct iovec octets[] = { { (void *)(uintptr_t)"hel", 3 }, { NULL, 0 }, { (void *)(uintptr_t)"lo\n", 3 } };
	char path[MAILDIR_NAME_MAX + 20];
	struct stat st;
	uint64_t size;

	(void)state;
	assert_int_equal(maildir_open(&m, "./box/"), 1);
	assert_int_equal(maildir_create(&m, &f), 1);
	assert_int_equal(maildir_write(&f, octets, 2), 1);
	assert_int_equal(maildir_write(&f, octets + 2, 1), 1);
	assert_int_equal(count("box/new"), 0);
	assert_int_equal(maildir_flush(&f), 1);
	assert_int_equal(maildir_publish(&m, &f), 1);
	assert_int_equal(maildir_sync(&m), 1);
	assert_int_equal(count("box/new"), 1);
	assert_int_equal(count("box/tmp"), 0);
	snprintf(path, sizeof path, "box/new/%s", f.name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(maildir_name_size(f.name, &size), 1);
	assert_int_equal(size, st.st_size);
	maildir_abandon(&m, &f);
	assert_int_equal(count("box/new"), 0);
	assert_int_equal(maildir_create(&m, &f), 1);
	assert_int_equal(count("box/tmp"), 1);
	maildir_abandon(&m, &f);
	assert_int_equal(count("box/tmp"), 0);
	maildir_abandon(&m, &f);
	maildir_close(&m);
}

static void
nothing_is_replaced(void **state)
{
	struct maildir m;
	struct maildir_file f;
	char path[MAILDIR_NAME_MAX + 40];
	FILE *other;

	(void)state;
	assert_int_equal(maildir_open(&m, "box"), 1);
	assert_int_equal(maildir_create(&m, &f), 1);
	snprintf(path, sizeof path, "box/new/%s,S=0", f.name);
	other = fopen(path, "w");
	assert_non_null(other);
	fclose(other);
	assert_int_equal(maildir_publish(&m, &f), 0);
	assert_int_equal(errno, EEXIST);
	maildir_abandon(&m, &f);
	assert_int_equal(unlink(path), 0);
	maildir_close(&m);
}

static void
make(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(maildir_make("box"), 1);
	assert_int_equal(maildir_make("box"), 0);
	assert_int_equal(errno, EEXIST);
	for (int i = 0; i < 4; i++) {
		static const char *const paths[] = { "box", "box/tmp", "box/new", "box/cur" };

		assert_int_equal(stat(paths[i], &st), 0);
		assert_int_equal(st.st_mode, S_IFDIR | 0700);
	}
}

static void
incomplete(void **state)
{
	struct maildir m;

	(void)state;
	assert_int_equal(maildir_open(&m, "absent"), 0);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(rmdir("box/tmp"), 0);
	assert_int_equal(maildir_open(&m, "box"), 0);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(mkdir("box/tmp", 0700), 0);
	assert_int_equal(rmdir("box/new"), 0);
	assert_int_equal(maildir_open(&m, "box"), 0);
	assert_int_equal(errno, ENOENT);
}

int
main(void)
{
	char dir[] = "/tmp/unit-maildir-XXXXXX";
	struct CMUnitTest tests[HOSTS + SIZES + 7];
	size_t n = 0;
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	for (size_t i = 0; i < HOSTS; i++)
		tests[n++] = (struct CMUnitTest){ .name = hosts[i].rule, .test_func = host_row,
		    .initial_state = (void *)(uintptr_t)&hosts[i] };
	for (size_t i = 0; i < SIZES; i++)
		tests[n++] = (struct CMUnitTest){ .name = sizes[i].rule, .test_func = size_row,
		    .initial_state = (void *)(uintptr_t)&sizes[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(wire_size);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(longest_host_fits);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(names_differ);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(make);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(steps_of_a_delivery);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(nothing_is_replaced);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(incomplete);
	failed = cmocka_run_group_tests_name("maildir", tests, NULL, NULL);
	rmdir("box/tmp");
	rmdir("box/cur");
	rmdir("box");
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
