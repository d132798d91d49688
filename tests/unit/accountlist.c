/* users/accounts in memory: what is found, changed and written back, and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/users/accountlist.h"
#include "directory.h"

#define ANA "ana@x.example:*:1:2:/ana::\n"
#define BEN "ben@x.example:*:3:4:/ben:5C:locked\n"

static void
write_list(const char *text)
{
	directory_write(VIRTUAL_FILE, text);
	assert_int_equal(chmod(VIRTUAL_FILE, 0640), 0);
}

static void
expect_file(const char *want)
{
	char got[4096];
	FILE *f = fopen(VIRTUAL_FILE, "r");
	size_t len;

	assert_non_null(f);
	len = fread(got, 1, sizeof got - 1, f);
	got[len] = '\0';
	fclose(f);
	assert_string_equal(got, want);
	assert_int_equal(access(VIRTUAL_FILE ".tmp", F_OK), -1);
	assert_int_equal(access(VIRTUAL_TABLE_TEMPORARY, F_OK), -1);
	assert_int_equal(access(VIRTUAL_PASSWORDS_TEMPORARY, F_OK), -1);
}

/* Whether the table for deliveries has it. */
static int
is_there(const char *address)
{
	struct virtual_account v = { .address = NULL };
	struct table t;
	int r;

	assert_int_equal(table_open(&t, VIRTUAL_TABLE), 1);
	r = virtual_find(&v, &t, address, strlen(address));
	table_close(&t);
	virtual_free(&v);
	return r;
}

/* What is done to the list, and what then is in the file. */
static const struct row { const char *rule, *before, *operation, *address, *after; } rows[] = {
	{ "appended", ANA, "append", "ben@x.example", ANA BEN },
	{ "appended behind a line without LF", "ana@x.example:*:1:2:/ana::", "append", "ben@x.example", ANA BEN },
	{ "appended to nothing", "", "append", "ben@x.example", BEN },
	{ "replaced by a longer line", "# x\n" ANA "\n# y\n", "replace", "ana@x.example", "# x\n" BEN "\n# y\n" },
	{ "replaced in any case", ANA, "replace", "ANA@x.Example", BEN },
	{ "replaced at the end", "# x\n" ANA, "replace", "ana@x.example", "# x\n" BEN },
	{ "removed at the beginning", ANA BEN, "remove", "ana@x.example", BEN },
	{ "removed at the end", ANA BEN, "remove", "ben@x.example", ANA },
	{ "removed between comments", "# x\n" BEN "# y\n", "remove", "ben@x.example", "# x\n# y\n" },
};

static void
change_row(void **state)
{
	const struct row *row = *state;
	struct virtual_account ben = { .address = NULL }, v = { .address = NULL };
	struct accountlist l;
	struct stat st;
	size_t at, len;

	write_list(row->before);
	assert_null(virtual_parse(&ben, BEN, strlen(BEN) - 1));
	assert_int_equal(accountlist_open(&l, 1), 1);
	assert_int_equal(accountlist_find(&l, row->address, &v, &at, &len), row->operation[0] != 'a');
	if (row->operation[0] == 'a')
		assert_int_equal(accountlist_append(&l, &ben), 1);
	else if (row->operation[2] == 'p')
		assert_int_equal(accountlist_replace(&l, at, len, &ben), 1);
	else
		accountlist_remove(&l, at, len);
	assert_null(accountlist_save(&l));
	expect_file(row->after);
	assert_int_equal(is_there("ben@x.example"), strstr(row->after, "ben@") != NULL);
	assert_int_equal(is_there("ana@x.example"), strstr(row->after, "ana@") != NULL);
	assert_int_equal(stat(VIRTUAL_FILE, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	virtual_free(&ben);
	virtual_free(&v);
}

static void
no_file(void **state)
{
	struct virtual_account ben = { .address = NULL };
	struct accountlist l;
	struct stat st;

	(void)state;
	unlink(VIRTUAL_FILE);
	assert_null(virtual_parse(&ben, BEN, strlen(BEN) - 1));
	assert_int_equal(accountlist_open(&l, 1), 1);
	assert_int_equal(accountlist_lines(&l), 0);
	assert_int_equal(accountlist_append(&l, &ben), 1);
	assert_null(accountlist_save(&l));
	expect_file(BEN);
	assert_int_equal(stat(VIRTUAL_FILE, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	virtual_free(&ben);
}

/* Neither the file nor its tables. */
static void
nonsense_is_not_written(void **state)
{
	struct virtual_account ben = { .address = NULL };
	struct accountlist l;

	(void)state;
	write_list(ANA BEN);
	assert_int_equal(accountlist_open(&l, 1), 1);
	assert_null(accountlist_save(&l));
	assert_null(virtual_parse(&ben, BEN, strlen(BEN) - 1));
	assert_int_equal(accountlist_open(&l, 1), 1);
	assert_int_equal(accountlist_append(&l, &ben), 1);
	assert_string_equal(accountlist_save(&l), "the address has a line already");
	assert_int_equal(l.number, 3);
	expect_file(ANA BEN);
	write_list("nonsense\n" ANA);
	assert_int_equal(accountlist_open(&l, 1), 1);
	assert_non_null(accountlist_save(&l));
	assert_int_equal(l.number, 1);
	expect_file("nonsense\n" ANA);
	assert_int_equal(is_there("ben@x.example"), 1);
	virtual_free(&ben);
}

static void
each_line(void **state)
{
	struct virtual_account v = { .address = NULL };
	struct accountlist l;
	size_t at = 0;

	(void)state;
	write_list("# x\n" ANA "nonsense\n\n" BEN);
	assert_int_equal(accountlist_open(&l, 0), 1);
	assert_int_equal(accountlist_lines(&l), 5);
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(accountlist_next(&l, &at, &v), 1);
		assert_int_equal(v.address != NULL, i == 1 || i == 4);
	}
	assert_int_equal(accountlist_next(&l, &at, &v), 0);
	accountlist_close(&l);
	virtual_free(&v);
}

static int
make(void **state)
{
	return directory_make(state) || mkdir("users", 0700);
}

enum { ROWS = sizeof rows / sizeof *rows };

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test(no_file), cmocka_unit_test(nonsense_is_not_written), cmocka_unit_test(each_line),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = change_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("accountlist", tests, make, directory_remove);
}
