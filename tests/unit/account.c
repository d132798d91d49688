/* users/assign, users/cdb and whose a local part is: interfaces section 7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "control/table.h"
#include "users/account.h"
#include "users/assign.h"

static const char file[] = "cdb", temporary[] = "cdb.tmp";

/* What assign_parse says about a line. */
static const struct assign_row { const char *rule, *line, *want; } assign_rows[] = {
	{ "exact", "=ana:ana:1000:1001:/home/ana:-:x:", "!ana\\|ana\\1000\\1001\\/home/ana\\-\\x|" },
	{ "wildcard", "+ana-:ana:1000:1001:/home/ana:-::", "!ana-|ana\\1000\\1001\\/home/ana\\-\\|-" },
	{ "wildcard for all", "+:alias:7:8:/alias:-::", "!|alias\\7\\8\\/alias\\-\\|" },
	{ "the key is lowered", "=AnA:ana:1:1:/h:::", "!ana\\|ana\\1\\1\\/h\\\\|" },
	{ "a wildcard's last octet is lowered", "+Foo:foo:1:1:/h:::", "!foo|foo\\1\\1\\/h\\\\|o" },
	{ "the value keeps its case", "=a:Ana:1:1:/H:-:X:", "!a\\|Ana\\1\\1\\/H\\-\\X|" },
	{ "what follows the last colon is ignored", "=a:a:1:1:/h:::more:", "!a\\|a\\1\\1\\/h\\\\|" },
	{ "an empty exact address", "=:a:1:1:/h:::", "!\\|a\\1\\1\\/h\\\\|" },
	{ "uid that is no number", "=a:a:x:1:/h:::", "!a\\|a\\x\\1\\/h\\\\|(unusable)" },
	{ "no home", "=a:a:1:1::::", "!a\\|a\\1\\1\\\\\\|(unusable)" },
	{ "end", ".", "end" },
	{ "anything that begins with a dot is the end", ".=a:a:1:1:/h:::", "end" },
	{ "comment", "#=a:a:1:1:/h:::", "comment" },
	{ "too few colons", "=a:a:1:1:/h::", "malformed" },
	{ "no sign", "a:a:1:1:/h:::", "malformed" },
	{ "empty line", "", "malformed" },
	{ "sign only", "=", "malformed" },
};

static void
show(char *to, size_t room, const struct assign_entry *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->key.len && n < room - 1; i++)
		to[n++] = e->key.s[i] ? e->key.s[i] : '\\';
	to[n++] = '|';
	for (size_t i = 0; i < e->value.len && n < room - 1; i++)
		to[n++] = e->value.s[i] ? e->value.s[i] : '\\';
	to[n++] = '|';
	if (e->last >= 0)
		to[n++] = (char)e->last;
	to[n] = '\0';
	if (!e->usable)
		strcat(to, "(unusable)");
}

static void
assign_row(void **state)
{
	const struct assign_row *row = *state;
	struct assign_entry entry = { .last = 0 };
	char got[256] = "";
	size_t len = strlen(row->line);
	char *line = memcpy(test_malloc(len + !len), row->line, len);

	switch (assign_parse(&entry, line, len)) {
	case ASSIGN_END: strcpy(got, "end"); break;
	case ASSIGN_COMMENT: strcpy(got, "comment"); break;
	case ASSIGN_MALFORMED: strcpy(got, "malformed"); break;
	case ASSIGN_NO_MEMORY: break;
	case ASSIGN_ENTRY: show(got, sizeof got, &entry);
	}
	test_free(line);
	assign_free(&entry);
	assert_string_equal(got, row->want);
}

static void
assign_bounds(void **state)
{
	struct assign_entry entry = { .last = 0 };
	char *line = test_malloc(ASSIGN_LINE_MAX + 1);

	(void)state;
	memset(line, ':', ASSIGN_LINE_MAX + 1);
	line[0] = '=';
	assert_int_equal(assign_parse(&entry, line, ASSIGN_LINE_MAX + 1), ASSIGN_MALFORMED);
	assert_int_equal(assign_parse(&entry, line, ASSIGN_LINE_MAX), ASSIGN_ENTRY);
	assert_int_equal(assign_parse(&entry, "=a\0:a:1:1:/h:::", 15), ASSIGN_MALFORMED);
	assign_free(&entry);
	test_free(line);
}

static void
make_table(const char *const *lines, const char *last)
{
	struct table_maker m;
	struct assign_entry entry = { .last = 0 };

	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	for (; *lines; lines++) {
		assert_int_equal(assign_parse(&entry, *lines, strlen(*lines)), ASSIGN_ENTRY);
		assert_int_equal(table_add(&m, entry.key.s, entry.key.len, entry.value.s, entry.value.len), 1);
	}
	if (last)
		assert_int_equal(table_add(&m, "", 0, last, strlen(last)), 1);
	assert_int_equal(table_finish(&m), 1);
	assign_free(&entry);
}

static const char *const lines[] = {
	"=ana:ana:1000:1001:home/ana:::",
	"+ana-:ana:1000:1001:home/ana:-::",
	"+ana-list-:list:1002:1002:home/list:-:sub-:",
	"=first:one:1:1:/h:::",
	"=first:two:2:2:/h:::",
	"+Foo:foo:3:3:/h:-::",
	"=broken:x:y:1:/h:::",
	"=minus:x:-1:1:/h:::",
	"=nochange:x:4294967295:1:/h:::",
	"=big:x:18446744073709551617:1:/h:::",
	"=root:root:0:0:/root:::",
	"=:empty:1:1:/h:::",
	NULL,
};

/* user uid gid home dash ext, or what account_find returned */
static const struct find_row { const char *rule, *local, *want; } find_rows[] = {
	{ "exact hit", "ana", "ana 1000 1001 home/ana  " },
	{ "exact hit in another case", "ANA", "ana 1000 1001 home/ana  " },
	{ "wildcard", "ana-x", "ana 1000 1001 home/ana - x" },
	{ "wildcard keeps the case of the rest", "Ana-XyZ", "ana 1000 1001 home/ana - XyZ" },
	{ "wildcard, nothing after it", "ana-", "ana 1000 1001 home/ana - " },
	{ "longest wildcard", "ana-list-x", "list 1002 1002 home/list - sub-x" },
	{ "wildcard with several breaks", "ana-a-b", "ana 1000 1001 home/ana - a-b" },
	{ "wildcard written in capitals", "foobar", "foo 3 3 /h - bar" },
	{ "wildcard matches its own prefix", "FOO", "foo 3 3 /h - " },
	{ "prefix that is no wildcard", "anax", "0" },
	{ "first of equal keys", "first", "one 1 1 /h  " },
	{ "nobody", "luis", "0" },
	{ "uid that is no number", "broken", "-1" },
	{ "negative uid", "minus", "-1" },
	{ "uid that means no change", "nochange", "-1" },
	{ "uid that wraps around", "big", "-1" },
	{ "root is found, to be refused", "root", "root 0 0 /root  " },
	{ "empty local part", "", "empty 1 1 /h  " },
};

static void
find_row(void **state)
{
	const struct find_row *row = *state;
	struct account a = { .user = NULL };
	char got[256];
	int absent, r;

	make_table(lines, "-O");	/* as qmail's own qmail-newu writes the octet of +Foo */
	r = account_find(&a, file, row->local, strlen(row->local), &absent);
	assert_int_equal(absent, 0);
	if (r == 1)
		snprintf(got, sizeof got, "%s %u %u %s %s %s", a.user, a.uid, a.gid, a.home, a.dash, a.ext);
	else
		snprintf(got, sizeof got, "%d", r);
	account_free(&a);
	assert_string_equal(got, row->want);
}

static void
wildcard_for_all(void **state)
{
	static const char *const all[] = { "+:alias:7:8:/alias:-::", NULL };
	struct account a = { .user = NULL };
	int absent;

	(void)state;
	make_table(all, "");
	assert_int_equal(account_find(&a, file, "Any-Body", 8, &absent), 1);
	assert_string_equal(a.ext, "Any-Body");
	assert_int_equal(account_find(&a, file, "", 0, &absent), 1);
	assert_string_equal(a.ext, "");
	account_free(&a);
}

static void
no_table(void **state)
{
	struct account a = { .user = NULL };
	int absent = 0;

	(void)state;
	unlink(file);
	assert_int_equal(account_find(&a, file, "ana", 3, &absent), 0);
	assert_int_equal(absent, 1);
}

/* A table that some other program made, or damage, is not "nobody" */
static void
L4_not_our_table(void **state)
{
	struct account a = { .user = NULL };
	int absent = 1;

	(void)state;
	make_table(lines, NULL);
	assert_int_equal(account_find(&a, file, "luis", 4, &absent), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(absent, 0);
	assert_int_equal(truncate(file, 3000), 0);
	assert_int_equal(account_find(&a, file, "ana", 3, &absent), -1);
	assert_int_equal(absent, 0);
}

static void
long_local(void **state)
{
	struct account a = { .user = NULL };
	char *local = test_malloc(ACCOUNT_LOCAL_MAX + 1);
	int absent;

	(void)state;
	make_table(lines, "-o");
	memset(local, 'o', ACCOUNT_LOCAL_MAX + 1);
	assert_int_equal(account_find(&a, file, local, ACCOUNT_LOCAL_MAX, &absent), 0);
	assert_int_equal(account_find(&a, file, local, ACCOUNT_LOCAL_MAX + 1, &absent), -1);
	assert_int_equal(account_find(&a, file, "a\0b", 3, &absent), -1);
	test_free(local);
}

/* The six fields as qmail-getpw prints them. */
static const struct fields_row { const char *rule, *fields; size_t len; int r; } fields_rows[] = {
	{ "six fields", "ana\0" "1\0" "2\0" "/h\0" "-\0" "x\0", 15, 1 },
	{ "no NUL after ext", "ana\0" "1\0" "2\0" "/h\0" "-\0" "x", 14, 1 },
	{ "empty ext without its NUL", "ana\0" "1\0" "2\0" "/h\0" "-\0", 13, 1 },
	{ "five fields", "ana\0" "1\0" "2\0" "/h\0" "-", 12, 0 },
	{ "seven fields", "ana\0" "1\0" "2\0" "/h\0" "-\0" "x\0" "y\0", 17, 0 },
	{ "octets after the last NUL", "ana\0" "1\0" "2\0" "/h\0" "-\0" "x\0" "y", 16, 0 },
	{ "nothing", "", 0, 0 },
	{ "no user", "\0" "1\0" "2\0" "/h\0" "-\0" "x\0", 12, 0 },
	{ "uid with a sign", "ana\0" "+1\0" "2\0" "/h\0" "-\0" "x\0", 16, 0 },
	{ "empty uid", "ana\0" "\0" "2\0" "/h\0" "-\0" "x\0", 14, 0 },
	{ "uid with blanks", "ana\0" "1 \0" "2\0" "/h\0" "-\0" "x\0", 16, 0 },
};

static void
fields_row(void **state)
{
	const struct fields_row *row = *state;
	struct account a = { .user = NULL };
	char *s = memcpy(test_malloc(row->len + 1), row->fields, row->len);

	assert_int_equal(account_parse(&a, s, row->len), row->r);
	if (row->r) {
		assert_string_equal(a.user, "ana");
		assert_int_equal(a.fields.s[a.fields.len - 1], 0);
	}
	account_free(&a);
	test_free(s);
}

enum {
	ASSIGNS = sizeof assign_rows / sizeof *assign_rows,
	FINDS = sizeof find_rows / sizeof *find_rows,
	FIELDS = sizeof fields_rows / sizeof *fields_rows,
};

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test(assign_bounds), cmocka_unit_test(wildcard_for_all), cmocka_unit_test(no_table),
		cmocka_unit_test(L4_not_our_table), cmocka_unit_test(long_local),
	};
	char dir[] = "/tmp/unit-account-XXXXXX";
	struct CMUnitTest tests[ASSIGNS + FINDS + FIELDS + sizeof others / sizeof *others];
	size_t n = 0;
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	for (size_t i = 0; i < ASSIGNS; i++)
		tests[n++] = (struct CMUnitTest){ .name = assign_rows[i].rule, .test_func = assign_row,
		    .initial_state = (void *)(uintptr_t)&assign_rows[i] };
	for (size_t i = 0; i < FINDS; i++)
		tests[n++] = (struct CMUnitTest){ .name = find_rows[i].rule, .test_func = find_row,
		    .initial_state = (void *)(uintptr_t)&find_rows[i] };
	for (size_t i = 0; i < FIELDS; i++)
		tests[n++] = (struct CMUnitTest){ .name = fields_rows[i].rule, .test_func = fields_row,
		    .initial_state = (void *)(uintptr_t)&fields_rows[i] };
	memcpy(tests + n, others, sizeof others);
	failed = cmocka_run_group_tests_name("account", tests, NULL, NULL);
	unlink(file);
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
