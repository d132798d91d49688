/* Which rule of a tcprules table counts for an address: section 16 of the interfaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "rules.h"

static const char file[] = "rules.cdb", temporary[] = "rules.tmp";

/* table: keys, parted by blanks ("-": the empty one), each with the variable KEY=its own text; "!KEY" is denied.
 * want: the key that counts, "deny", or "" no rule. */
static const struct row { const char *rule, *table, *address, *want; } rows[] = {
	{ "no rule: everybody", "1.2.3.4", "1.2.3.5", "" },
	{ "the address", "1.2.3.4 1.2.3. -", "1.2.3.4", "1.2.3.4" },
	{ "the longest prefix", "1. 1.2. 1.2.3. -", "1.2.3.4", "1.2.3." },
	{ "a shorter prefix", "1. -", "1.2.3.4", "1." },
	{ "the empty key is the last", "- 2.", "1.2.3.4", "-" },
	{ "a prefix ends in a dot", "1.2.3 1.2.3.40", "1.2.3.4", "" },
	{ "deny", "!1.2.3.4 -", "1.2.3.4", "deny" },
	{ "the first hit decides alone", "1.2.3.4 !1.2.3. !-", "1.2.3.4", "1.2.3.4" },
	{ "deny all others", "1.2.3.4 !-", "1.2.3.5", "deny" },
	{ "a name is not asked for", "=h.example = =.example info@1.2.3.4", "1.2.3.4", "" },
	{ "IPv4 bits", "_00000001 -", "1.2.3.4", "_00000001" },
	{ "IPv4 bits, the longest", "_0 _0000000100000010 _00000001", "1.2.3.4", "_0000000100000010" },
	{ "IPv4 prefixes come before bits", "_00000001000000100000001100000100 1.", "1.2.3.4", "1." },
	{ "IPv4 network as text", "1.2.0.0/16 0.0.0.0/0", "1.2.3.4", "1.2.0.0/16" },
	{ "IPv4 network of all", "0.0.0.0/0 -", "1.2.3.4", "0.0.0.0/0" },
	{ "IPv4 network of odd length", "1.2.3.4/31", "1.2.3.5", "1.2.3.4/31" },
	{ "not in the network", "1.2.3.4/31 -", "1.2.3.6", "-" },
	{ "IPv6 address", "2001:db8::1 -", "2001:db8::1", "2001:db8::1" },
	{ "IPv6 in expanded form", "2001:0db8:0000:0000:0000:0000:0000:0001 -", "2001:db8::1",
	    "2001:0db8:0000:0000:0000:0000:0000:0001" },
	{ "IPv6 as digits", "20010db8000000000000000000000001 -", "2001:db8::1", "20010db8000000000000000000000001" },
	{ "IPv6 network as text", "2001:db8::/32 ::/0", "2001:db8:1::1", "2001:db8::/32" },
	{ "IPv6 network, the longest", "2001:db8::/32 2001:db8::/29 2001:db8:1::/48 -", "2001:db8:1::1", "2001:db8:1::/48" },
	{ "IPv6 network of odd length", "2001:db8::/29 -", "2001:dbf::1", "2001:db8::/29" },
	{ "IPv6 bits", "^0010000000000001 -", "2001:db8::1", "^0010000000000001" },
	{ "IPv6 has no IPv4 rules", "_0010 2. 32. -", "2001:db8::1", "-" },
	{ "IPv4 has no IPv6 rules", "^00000001 ::/0 -", "1.2.3.4", "-" },
	{ "lengths out of range", "1.2.3.4/33 ::/129 ::/ ::/x /1 -", "1.2.3.4", "-" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
add_rule(struct table_maker *m, const char *key)
{
	char value[256] = "+KEY=";
	int deny = *key == '!';

	key += deny;
	strcat(value, key);
	if (strcmp(key, "-") == 0)
		key = "";
	if (deny)
		assert_int_equal(table_add(m, key, strlen(key), "D", 2), 1);
	else
		assert_int_equal(table_add(m, key, strlen(key), value, strlen(value) + 1), 1);
}

static void
make(const char *table)
{
	struct table_maker m;
	char *keys = strdup(table), *save = NULL;

	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	for (char *s = strtok_r(keys, " ", &save); s; s = strtok_r(NULL, " ", &save))
		add_rule(&m, s);
	assert_int_equal(table_finish(&m), 1);
	free(keys);
}

static ip46
address_of(const char *s)
{
	ip46 address;

	memset(&address, 0x55, sizeof address);
	assert_int_equal(ip46_scan(s, &address), strlen(s));
	return address;
}

static void
find_row(void **state)
{
	const struct row *row = *state;
	ip46 address = address_of(row->address);
	stralloc variables = STRALLOC_ZERO;
	struct rules r;

	make(row->table);
	rules_init(&r, file, 0);
	rules_refresh(&r);
	switch (rules_find(&r, &address, &variables)) {
	case RULES_DENY: assert_string_equal("deny", row->want); break;
	case RULES_ALLOW:
		if (*row->want) {
			assert_int_equal(variables.len, strlen(row->want) + 5);
			assert_string_equal(variables.s + 4, row->want);
		} else
			assert_int_equal(variables.len, 0);
		break;
	default: fail();
	}
	rules_close(&r);
	stralloc_free(&variables);
}

static void
add_value(const char *key, const char *value, size_t len)
{
	struct table_maker m;

	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_add(&m, key, strlen(key), value, len), 1);
	assert_int_equal(table_finish(&m), 1);
}

static void
values(void **state)
{
	static const char two[] = "+A=\0+B=x=y", odd[] = "+=x\0+C\0+D=1\0\0E", cut[] = { '+', 'A', '=', 'x' };
	ip46 address = address_of("1.2.3.4");
	stralloc variables = STRALLOC_ZERO;
	struct rules r;

	(void)state;
	rules_init(&r, file, 0);
	add_value("1.2.3.4", two, sizeof two);
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_ALLOW);
	assert_int_equal(variables.len, sizeof "A=\0B=x=y");
	assert_memory_equal(variables.s, "A=\0B=x=y", variables.len);
	add_value("1.2.3.4", odd, sizeof odd);
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_ALLOW);
	assert_string_equal(variables.s, "D=1");
	add_value("1.2.3.4", cut, sizeof cut);
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_TROUBLE);
	rules_close(&r);
	stralloc_free(&variables);
}

/* A table that comes, is replaced, damaged, removed: the next connection sees it. */
static void
replaced(void **state)
{
	ip46 address = address_of("1.2.3.4");
	stralloc variables = STRALLOC_ZERO;
	unsigned int generation;
	struct rules r;
	int fd;

	(void)state;
	unlink(file);
	rules_init(&r, file, 0);
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_NO_FILE);
	r.may_lack = 1;
	assert_int_equal(rules_find(&r, &address, &variables), RULES_ALLOW);
	make("!1.2.3.4");
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_DENY);
	generation = r.generation;
	rules_refresh(&r);
	assert_int_equal(r.generation, generation);
	make("1.2.3.4");
	rules_refresh(&r);
	assert_int_not_equal(r.generation, generation);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_ALLOW);
	fd = open(file, O_WRONLY | O_TRUNC);
	close(fd);
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_TROUBLE);
	unlink(file);
	rules_refresh(&r);
	assert_int_equal(rules_find(&r, &address, &variables), RULES_ALLOW);
	rules_close(&r);
	stralloc_free(&variables);
}

int
main(void)
{
	char dir[] = "/tmp/unit-rules-XXXXXX";
	struct CMUnitTest tests[ROWS + 2];
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = find_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(values);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(replaced);
	failed = cmocka_run_group_tests_name("rules", tests, NULL, NULL);
	unlink(file);
	if (chdir("/") < 0 || rmdir(dir) < 0)
		return 111;
	return failed;
}
