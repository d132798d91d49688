/* Virtual accounts: the lines of users/accounts, and whose an address or a local part is; row L4 of the hostile inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "control/table.h"
#include "directory.h"
#include "users/virtual.h"

#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16

static const char table[] = "accounts.cdb", temporary[] = "accounts.cdb.tmp";

/* --- lines ------------------------------------------------------------------------------------------------------ */

/* What virtual_parse makes of a line, as virtual_format writes it, or the beginning of what it finds wrong. */
static const struct line_row { const char *rule, *line, *want; } line_rows[] = {
	{ "an account", "ana@x.example:$y$j9T$a/b.$c:1001:1002:/srv/ana:100S,5C:locked",
	    "ana@x.example:$y$j9T$a/b.$c:1001:1002:/srv/ana:100S,5C:locked" },
	{ "no quota, no flags", "ana@x.example:*:1:1:mail/ana::", "ana@x.example:*:1:1:mail/ana::" },
	{ "no hash", "ana@x.example::1:1:mail/ana::", "ana@x.example::1:1:mail/ana::" },
	{ "the address is lowered", "Ana@X.Example:*:1:1:/Home::", "ana@x.example:*:1:1:/Home::" },
	{ "flags in any order", "a@x:*:1:1:/h::locked,extensions,catchall", "a@x:*:1:1:/h::catchall,extensions,locked" },
	{ "a flag twice", "a@x:*:1:1:/h::locked,locked", "a@x:*:1:1:/h::locked" },
	{ "messages before octets", "a@x:*:1:1:/h:5C,100S:", "a@x:*:1:1:/h:5C,100S:" },
	{ "UTF-8", "mañana@año.example:*:1:1:/h::", "mañana@año.example:*:1:1:/h::" },
	{ "atext of RFC 5322", "!#$%&'*+-/=?^_`{|}~@x:*:1:1:/h::", "the part before @" },
	{ "atext but the slash", "a!#$%&'*+-=?^_`{|}~.b@x:*:1:1:/h::", "a!#$%&'*+-=?^_`{|}~.b@x:*:1:1:/h::" },
	{ "a local part of 64 octets", X64 "@x:*:1:1:/h::", X64 "@x:*:1:1:/h::" },
	{ "a local part of 65 octets", "y" X64 "@x:*:1:1:/h::", "the part before @" },
	{ "a domain of 256 octets", "a@" X64 X64 X64 X64 ":*:1:1:/h::", "what stands behind @" },
	{ "no domain", "ana:*:1:1:/h::", "the address is not" },
	{ "an empty local part", "@x:*:1:1:/h::", "the part before @" },
	{ "an empty domain", "a@:*:1:1:/h::", "what stands behind @" },
	{ "two @", "a@b@x:*:1:1:/h::", "what stands behind @" },
	{ "a dash first", "-a@x:*:1:1:/h::", "the part before @" },
	{ "a blank", "a b@x:*:1:1:/h::", "the part before @" },
	{ "a quote", "\"a\"@x:*:1:1:/h::", "the part before @" },
	{ "a path", "../a@x:*:1:1:/h::", "the part before @" },
	{ "a path as domain", "a@../x:*:1:1:/h::", "what stands behind @" },
	{ "an empty label", "a@x..y:*:1:1:/h::", "what stands behind @" },
	{ "a dot last", "a@x.:*:1:1:/h::", "what stands behind @" },
	{ "a tab in the address", "a\t@x:*:1:1:/h::", "the part before @" },
	{ "too few fields", "a@x:*:1:1:/h:", "not address:hash:" },
	{ "too many fields", "a@x:*:1:1:/h:::", "not address:hash:" },
	{ "an empty line", "", "not address:hash:" },
	{ "a blank in the hash", "a@x:$y$ :1:1:/h::", "no password hash" },
	{ "uid 0", "a@x:*:0:1:/h::", "uid and gid" },
	{ "gid 0", "a@x:*:1:0:/h::", "uid and gid" },
	{ "a name for a uid", "a@x:*:vmail:1:/h::", "uid and gid" },
	{ "no uid", "a@x:*::1:/h::", "uid and gid" },
	{ "a negative uid", "a@x:*:-1:1:/h::", "uid and gid" },
	{ "the uid that means no change", "a@x:*:4294967295:1:/h::", "uid and gid" },
	{ "a uid that wraps around", "a@x:*:18446744073709551617:1:/h::", "uid and gid" },
	{ "no home", "a@x:*:1:1:::", "no home" },
	{ "a CR in the home", "a@x:*:1:1:/h\r::", "no home" },
	{ "a quota without letter", "a@x:*:1:1:/h:100:", "a quota is" },
	{ "a quota of nothing", "a@x:*:1:1:/h:0S:", "a quota is" },
	{ "a negative quota", "a@x:*:1:1:/h:-1S:", "a quota is" },
	{ "a quota that wraps around", "a@x:*:1:1:/h:18446744073709551617S:", "a quota is" },
	{ "a quota that ends in a comma", "a@x:*:1:1:/h:100S,:", "a quota is" },
	{ "two quotas of octets", "a@x:*:1:1:/h:100S,100S:", "a quota is" },
	{ "three quotas", "a@x:*:1:1:/h:1S,1C,1S:", "a quota is" },
	{ "a flag that is not known", "a@x:*:1:1:/h::lock", "a flag" },
	{ "a flag that begins like another", "a@x:*:1:1:/h::lockedin", "a flag" },
	{ "an empty flag", "a@x:*:1:1:/h::locked,", "a flag" },
	{ "a comma only", "a@x:*:1:1:/h::,", "a flag" },
};

static void
line_row(void **state)
{
	const struct line_row *row = *state;
	struct virtual_account v = { .address = NULL };
	stralloc got = STRALLOC_ZERO;
	size_t len = strlen(row->line);
	char *line = memcpy(test_malloc(len + !len), row->line, len);	/* exact size: ASan sees over-reads */
	const char *fault = virtual_parse(&v, line, len);

	test_free(line);
	if (fault)
		assert_memory_equal(fault, row->want, strlen(row->want));
	else {
		assert_int_equal(virtual_format(&got, &v, 1), 1);
		assert_int_equal(stralloc_0(&got), 1);
		assert_string_equal(got.s, row->want);
	}
	stralloc_free(&got);
	virtual_free(&v);
}

static void
long_lines(void **state)
{
	struct virtual_account v = { .address = NULL };
	char *line = test_malloc(VIRTUAL_LINE_MAX + 1);

	(void)state;
	memset(line, ':', VIRTUAL_LINE_MAX + 1);
	assert_string_equal(virtual_parse(&v, line, VIRTUAL_LINE_MAX + 1), "too long");
	assert_non_null(virtual_parse(&v, line, VIRTUAL_LINE_MAX));
	assert_string_equal(virtual_parse(&v, "a@x:*:1:1:/h\0::", 15), "a NUL in it");
	test_free(line);
	virtual_free(&v);
}

static void
hash_is_left_out(void **state)
{
	static const char line[] = "a@x:secret:1:2:/h:5C:locked";
	struct virtual_account v = { .address = NULL };
	stralloc got = STRALLOC_ZERO;

	(void)state;
	assert_null(virtual_parse(&v, line, strlen(line)));
	assert_int_equal(virtual_format(&got, &v, 0), 1);
	assert_int_equal(stralloc_0(&got), 1);
	assert_string_equal(got.s, "a@x::1:2:/h:5C:locked");
	stralloc_free(&got);
	virtual_free(&v);
}

/* --- tables ----------------------------------------------------------------------------------------------------- */

struct record { const char *key; size_t len; const char *value; };
#define DOMAIN(name) { "\0" name, sizeof name, "" }
#define CATCHALL(name, address) { "\0*" name, 1 + sizeof name, address }
#define ACCOUNT(address, rest) { address, sizeof address - 1, address "::" rest }

static const struct record records[] = {
	{ "", 0, "" },
	DOMAIN("x.example"), DOMAIN("all.example"), DOMAIN("x.example-y.example"), DOMAIN("broken.example"),
	ACCOUNT("ana@x.example", "1001:1002:mail/ana:5000S:"),
	ACCOUNT("ana-list@x.example", "1001:1002:mail/list::"),
	ACCOUNT("open@x.example", "1003:1003:/srv/open::extensions"),
	ACCOUNT("c@x.example-y.example", "1004:1004:/srv/c::"),
	ACCOUNT("rest@all.example", "1005:1005:/srv/rest::catchall"),
	ACCOUNT("ben@all.example", "1006:1006:/srv/ben::"),
	CATCHALL("all.example", "rest@all.example"),
	CATCHALL("broken.example", "gone@broken.example"),
	{ "root@broken.example", 19, "root@broken.example::0:0:/root::" },
	{ "short@broken.example", 20, "short@broken.example" },
	{ "empty@broken.example", 20, "" },
	{ "other@broken.example", 20, "ana@x.example::1001:1002:mail/ana::" },
	{ X64 "@x.example", 74, X64 "@x.example::1007:1007:/srv/x::" },
};

static void
make_table(const struct record *r, size_t n)
{
	struct table_maker m;

	assert_int_equal(table_make(&m, table, temporary, 0644), 1);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(table_add(&m, r[i].key, r[i].len, r[i].value, strlen(r[i].value)), 1);
	assert_int_equal(table_finish(&m), 1);
}

/* user uid gid home quota dash ext, or what virtual_of_local returned */
static const struct local_row { const char *rule, *local, *want; } local_rows[] = {
	{ "an account", "x.example-ana", "ana@x.example 1001 1002 mail/ana 5000S  " },
	{ "in any case", "X.Example-ANA", "ana@x.example 1001 1002 mail/ana 5000S  " },
	{ "an extension", "x.example-ana-Work", "ana@x.example 1001 1002 mail/ana 5000S - Work" },
	{ "an extension with dashes", "x.example-ana-a-b", "ana@x.example 1001 1002 mail/ana 5000S - a-b" },
	{ "an empty extension", "x.example-ana-", "ana@x.example 1001 1002 mail/ana 5000S - " },
	{ "an account with a dash", "x.example-ana-list", "ana-list@x.example 1001 1002 mail/list   " },
	{ "an extension of the longest", "x.example-ana-list-x", "ana-list@x.example 1001 1002 mail/list  - x" },
	{ "extensions delivered as the account", "x.example-open-any-thing", "open@x.example 1003 1003 /srv/open   " },
	{ "an account by itself beats the catch-all", "all.example-ben", "ben@all.example 1006 1006 /srv/ben   " },
	{ "the catch-all account", "all.example-nobody", "rest@all.example 1005 1005 /srv/rest   " },
	{ "the catch-all account for no user", "all.example-", "rest@all.example 1005 1005 /srv/rest   " },
	{ "the catch-all does not beat extensions", "all.example-ben-x", "ben@all.example 1006 1006 /srv/ben  - x" },
	{ "the longest domain", "x.example-y.example-c", "c@x.example-y.example 1004 1004 /srv/c   " },
	{ "nobody of the domain", "x.example-luis", "0" },
	{ "no user of the domain", "x.example-", "0" },
	{ "a domain without accounts", "z.example-ana", "0" },
	{ "the domain alone", "x.example", "0" },
	{ "not an address", "ana@x.example", "0" },
	{ "a user that begins like an account", "x.example-anax", "0" },
	{ "dashes only", "-----", "0" },
	{ "a name of 64 octets", "x.example-" X64, X64 "@x.example 1007 1007 /srv/x   " },
	{ "its extension", "x.example-" X64 "-" X64, X64 "@x.example 1007 1007 /srv/x  - " X64 },
	{ "longer than any name", "x.example-" X64 "x", "0" },
	{ "no user and no domain", "-", "0" },
	{ "nothing", "", "0" },
	{ "the key of a domain is no account", "x.example-@x.example", "0" },
	{ "the key of a catch-all is no domain", "*all.example-x", "0" },
	/* row L4 */
	{ "uid 0 in the table", "broken.example-root", "-1" },
	{ "too few fields in the table", "broken.example-short", "-1" },
	{ "an empty value", "broken.example-empty", "-1" },
	{ "another's line under the key", "broken.example-other", "-1" },
	{ "a catch-all account that is not there", "broken.example-x", "-1" },
};

static void
expect_local(const char *local, const char *want)
{
	struct account a = { .user = NULL };
	char got[512];
	size_t len = strlen(local);
	char *copy = memcpy(test_malloc(len + !len), local, len);
	int r = virtual_of_local(&a, table, copy, len);

	test_free(copy);
	if (r == 1) {
		assert_true(a.is_virtual);
		snprintf(got, sizeof got, "%s %u %u %s %s %s %s", a.user, a.uid, a.gid, a.home, a.quota, a.dash, a.ext);
	} else
		snprintf(got, sizeof got, "%d", r);
	if (r < 0)
		assert_int_equal(errno, EPROTO);
	account_free(&a);
	assert_string_equal(got, want);
}

static void
local_row(void **state)
{
	const struct local_row *row = *state;

	make_table(records, sizeof records / sizeof *records);
	expect_local(row->local, row->want);
}

static void
addresses(void **state)
{
	struct virtual_account v = { .address = NULL };
	struct table t;

	(void)state;
	make_table(records, sizeof records / sizeof *records);
	assert_int_equal(table_open(&t, table), 1);
	assert_int_equal(virtual_find(&v, &t, "Ana@x.example", 13), 1);
	assert_string_equal(v.address, "ana@x.example");
	assert_int_equal(virtual_find(&v, &t, "ana-x@x.example", 15), 0);	/* extensions do not log in */
	assert_int_equal(virtual_find(&v, &t, "nobody@all.example", 18), 0);
	assert_int_equal(virtual_find(&v, &t, "", 0), 0);
	assert_int_equal(virtual_find(&v, &t, "\0x.example", 10), 0);
	assert_int_equal(virtual_find(&v, &t, "short@broken.example", 20), -1);
	assert_int_equal(errno, EPROTO);
	table_close(&t);
	virtual_free(&v);
}

static void
no_table(void **state)
{
	(void)state;
	unlink(table);
	expect_local("x.example-ana", "0");
}

/* What is no table of ours says nothing about anybody; but a local part without '-' needs no table. */
static void
L4_not_our_table(void **state)
{
	(void)state;
	make_table(records + 1, 1);
	expect_local("z.example-ana", "-1");
	expect_local("ana", "0");
	make_table(records, sizeof records / sizeof *records);
	assert_int_equal(truncate(table, 3000), 0);
	expect_local("x.example-ana", "-1");
	expect_local("ana", "0");
}

/* Every octet damaged, one after the other: another answer, none or an error, and never a crash or a loop. */
static void
L4_any_octet_damaged(void **state)
{
	static char octets[1 << 16];
	struct account a = { .user = NULL };
	FILE *f;
	size_t len;

	(void)state;
	make_table(records, sizeof records / sizeof *records);
	f = fopen(table, "r");
	assert_non_null(f);
	len = fread(octets, 1, sizeof octets, f);
	fclose(f);
	assert_in_range(len, 2048, sizeof octets - 1);
	for (size_t i = 0; i < len; i++) {
		char was = octets[i];

		octets[i] = (char)~was;
		f = fopen(table, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(octets, 1, len, f), len);
		fclose(f);
		octets[i] = was;
		if (virtual_of_local(&a, table, "x.example-ana-x", 15) == 1)
			assert_true(a.uid != 0);
	}
	account_free(&a);
}

static void
long_local(void **state)
{
	struct account a = { .user = NULL };
	char *local = test_malloc(ACCOUNT_LOCAL_MAX + 1);

	(void)state;
	make_table(records, sizeof records / sizeof *records);
	memset(local, '-', ACCOUNT_LOCAL_MAX + 1);
	assert_int_equal(virtual_of_local(&a, table, local, ACCOUNT_LOCAL_MAX), 0);
	assert_int_equal(virtual_of_local(&a, table, local, ACCOUNT_LOCAL_MAX + 1), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(virtual_of_local(&a, table, "x.example-a\0-", 13), -1);
	memcpy(local, "all.example-", 12);
	assert_int_equal(virtual_of_local(&a, table, local, ACCOUNT_LOCAL_MAX), 1);
	assert_string_equal(a.user, "rest@all.example");
	memset(local, 'a', ACCOUNT_LOCAL_MAX);
	assert_int_equal(virtual_of_local(&a, table, local, ACCOUNT_LOCAL_MAX), 0);
	account_free(&a);
	test_free(local);
}

enum {
	LINES = sizeof line_rows / sizeof *line_rows,
	LOCALS = sizeof local_rows / sizeof *local_rows,
};

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test(long_lines), cmocka_unit_test(hash_is_left_out), cmocka_unit_test(addresses), cmocka_unit_test(no_table),
		cmocka_unit_test(L4_not_our_table), cmocka_unit_test(L4_any_octet_damaged), cmocka_unit_test(long_local),
	};
	struct CMUnitTest tests[LINES + LOCALS + sizeof others / sizeof *others];
	size_t n = 0;

	for (size_t i = 0; i < LINES; i++)
		tests[n++] = (struct CMUnitTest){ .name = line_rows[i].rule, .test_func = line_row,
		    .initial_state = (void *)(uintptr_t)&line_rows[i] };
	for (size_t i = 0; i < LOCALS; i++)
		tests[n++] = (struct CMUnitTest){ .name = local_rows[i].rule, .test_func = local_row,
		    .initial_state = (void *)(uintptr_t)&local_rows[i] };
	memcpy(tests + n, others, sizeof others);
	return cmocka_run_group_tests_name("virtual", tests, directory_make, directory_remove);
}
