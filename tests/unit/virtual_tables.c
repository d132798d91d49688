/* users/accounts compiled: what is in the two tables, who may read them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "users/tables.h"
#include "users/virtual_tables.h"

#define HASH "$1$saltsalt$Yo6tRKYGO/jWyb1etwHDS/"

static void
write_accounts(const char *text, mode_t mode)
{
	directory_write(VIRTUAL_FILE, text);
	assert_int_equal(chmod(VIRTUAL_FILE, mode), 0);
}

/* Compiles. Returns what is wrong, NULL if nothing is; *line is where. */
static const char *
compile(unsigned int *line)
{
	struct virtual_tables t;
	const char *fault;
	int fd = open(VIRTUAL_FILE, O_RDONLY);

	assert_int_equal(virtual_tables_begin(&t), 1);
	fault = virtual_tables_compile(&t, fd);
	*line = t.number;
	close(fd);
	if (fault)
		virtual_tables_abandon(&t);
	else
		assert_int_equal(virtual_tables_finish(&t), 1);
	assert_int_equal(access(VIRTUAL_TABLE_TEMPORARY, F_OK), -1);
	assert_int_equal(access(VIRTUAL_PASSWORDS_TEMPORARY, F_OK), -1);
	return fault;
}

static void
expect(const char *file, const char *address, const char *want)
{
	struct virtual_account v = { .address = NULL };
	stralloc line = STRALLOC_ZERO;
	struct table t;

	assert_int_equal(table_open(&t, file), 1);
	assert_int_equal(virtual_find(&v, &t, address, strlen(address)), want != NULL);
	if (want) {
		assert_int_equal(virtual_format(&line, &v, 1), 1);
		assert_int_equal(stralloc_0(&line), 1);
		assert_string_equal(line.s, want);
	}
	table_close(&t);
	stralloc_free(&line);
	virtual_free(&v);
}

/* What is worked through for who does not exist: the dearest hash, not the first or the last. */
static void
dearest_hash(void **state)
{
	stralloc sample = STRALLOC_ZERO;
	unsigned int line;

	(void)state;
	write_accounts("a@x:$5$saltsalt$x:1:2:/a::\nb@x:$6$saltsalt$x:1:2:/b::\nc@x:$1$saltsalt$x:1:2:/c::\nd@x:$6$saltsalt$y:1:2:/d::\n", 0600);
	assert_null(compile(&line));
	assert_int_equal(table_find(VIRTUAL_PASSWORDS, "", 0, &sample, NULL), 1);
	assert_int_equal(sample.len, strlen("$6$saltsalt$x"));
	assert_memory_equal(sample.s, "$6$saltsalt$x", sample.len);
	stralloc_free(&sample);
}

static void
both_tables(void **state)
{
	struct account a = { .user = NULL };
	stralloc sample = STRALLOC_ZERO;
	const char *table;
	unsigned int line;
	struct stat st;

	(void)state;
	write_accounts("# comment\n\nidle@x.example:*:1:2:/idle::\nAna@x.example:" HASH ":1:2:/ana:5C:catchall", 0640);
	assert_null(compile(&line));
	expect(VIRTUAL_TABLE, "ana@x.example", "ana@x.example::1:2:/ana:5C:catchall");
	expect(VIRTUAL_PASSWORDS, "ana@x.example", "ana@x.example:" HASH ":1:2:/ana:5C:catchall");
	expect(VIRTUAL_PASSWORDS, "luis@x.example", NULL);
	assert_int_equal(stat(VIRTUAL_TABLE, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(stat(VIRTUAL_PASSWORDS, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);	/* as users/accounts */
	assert_int_equal(table_find(VIRTUAL_PASSWORDS, "", 0, &sample, NULL), 1);
	assert_int_equal(sample.len, strlen(HASH));
	assert_int_equal(table_find(VIRTUAL_TABLE, "", 0, &sample, NULL), 1);
	assert_int_equal(sample.len, 0);
	assert_int_equal(tables_find(&a, "x.example-luis", 14, &table), 1);
	assert_string_equal(a.user, "ana@x.example");
	assert_int_equal(tables_find(&a, "y.example-luis", 14, &table), 0);
	stralloc_free(&sample);
	account_free(&a);
}

static void
no_accounts(void **state)
{
	unsigned int line;

	(void)state;
	write_accounts("", 0600);
	assert_null(compile(&line));
	expect(VIRTUAL_TABLE, "ana@x.example", NULL);
	expect(VIRTUAL_PASSWORDS, "ana@x.example", NULL);
}

/* What is refused, and the line that is named; the old tables stay. */
static const struct row { const char *rule, *text; unsigned int line; const char *want; } rows[] = {
	{ "a malformed line", "a@x:*:1:1:/h::\n\na@y\n", 3, "not address:hash:" },
	{ "a malformed last line without LF", "#\na@y", 2, "not address:hash:" },
	{ "an address twice", "a@x:*:1:1:/h::\nA@X:*:1:1:/other::\n", 2, "the address has a line already" },
	{ "two catch-alls", "a@x:*:1:1:/h::catchall\nb@y:*:1:1:/h::catchall\nc@x:*:1:1:/h::catchall\n", 3, "the domain has a" },
	{ "a password for a hash", "a@x:secret:1:1:/h::\n", 1, "the hash is none" },
	{ "a method that is not known", "a@x:$0$x$y:1:1:/h::\n", 1, "the hash is none" },
	{ "no hash", "a@x::1:1:/h::\n", 1, "no hash" },
	{ "uid 0", "a@x:*:0:1:/h::\n", 1, "uid and gid" },
	{ "blanks", " \n", 1, "not address:hash:" },
};

static void
refused_row(void **state)
{
	const struct row *row = *state;
	unsigned int line;
	const char *fault;

	write_accounts("old@x.example:*:1:2:/old::\n", 0600);
	assert_null(compile(&line));
	write_accounts(row->text, 0600);
	fault = compile(&line);
	assert_non_null(fault);
	assert_memory_equal(fault, row->want, strlen(row->want));
	assert_int_equal(line, row->line);
	expect(VIRTUAL_TABLE, "old@x.example", "old@x.example::1:2:/old::");
	expect(VIRTUAL_PASSWORDS, "old@x.example", "old@x.example:*:1:2:/old::");
}

static void
readable_for_all(void **state)
{
	unsigned int line = 7;
	const char *fault;

	(void)state;
	write_accounts("a@x:*:1:1:/h::\n", 0644);
	fault = compile(&line);
	assert_non_null(fault);
	assert_non_null(strstr(fault, "chmod 600"));
	assert_int_equal(line, 0);
}

static void
long_line(void **state)
{
	static char text[VIRTUAL_LINE_MAX + 64];
	unsigned int line;

	(void)state;
	memset(text, 'x', sizeof text - 1);
	write_accounts(text, 0600);
	assert_string_equal(compile(&line), "too long");
	assert_int_equal(line, 1);
}

/* The table that is damaged is named. */
static void
L4_damaged(void **state)
{
	struct account a = { .user = NULL };
	const char *table;

	(void)state;
	directory_write(VIRTUAL_TABLE, "this is no table");
	assert_int_equal(tables_find(&a, "x.example-a", 11, &table), -1);
	assert_int_equal(errno, EPROTO);
	assert_string_equal(table, VIRTUAL_TABLE);
	unlink(VIRTUAL_TABLE);
	directory_write(ACCOUNT_TABLE, "this is no table");
	assert_int_equal(tables_find(&a, "x.example-a", 11, &table), -1);
	assert_int_equal(errno, EPROTO);
	assert_string_equal(table, ACCOUNT_TABLE);
	unlink(ACCOUNT_TABLE);
	assert_int_equal(tables_find(&a, "x.example-a", 11, &table), 0);
	account_free(&a);
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
		cmocka_unit_test(dearest_hash), cmocka_unit_test(both_tables), cmocka_unit_test(no_accounts), cmocka_unit_test(readable_for_all),
		cmocka_unit_test(long_line), cmocka_unit_test(L4_damaged),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = refused_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("virtual_tables", tests, make, directory_remove);
}
