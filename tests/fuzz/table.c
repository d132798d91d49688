/* Compiled tables, whole and damaged, given any keys and values: lookups of users, of virtual accounts and of the rules for clients.
 * The input: how many octets are damaged, for each its place and its value, then keys and values, each after its length. */
#include <assert.h>
#include <cdb.h>
#include <errno.h>
#include "control/table.h"
#include "given.h"
#include "rules.h"
#include "users/account.h"
#include "users/virtual.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { ENTRIES_MAX = 32 };

struct entries {
	struct { struct given key, value; } list[ENTRIES_MAX];
	unsigned int len;
	unsigned int told;	/* by table_each */
};

static void
take_entries(struct entries *e, struct given *g)
{
	for (e->len = 0; g->len && e->len < ENTRIES_MAX; e->len++) {
		e->list[e->len].key = given_piece(g, given_number(g, 1));
		e->list[e->len].value = given_piece(g, given_number(g, 1));
	}
}

static void
make_table(struct given_file *file, const struct entries *e)
{
	struct cdb_make cdb;
	struct table_maker m = { .cdb = &cdb };

	given_write(file, "", 0);
	m.fd = file->fd;
	assert(cdb_make_start(&cdb, m.fd) == 0);
	for (unsigned int i = 0; i < e->len; i++)
		assert(table_add(&m, (const char *)e->list[i].key.s, e->list[i].key.len, (const char *)e->list[i].value.s,
		    e->list[i].value.len));
	assert(cdb_make_finish(&cdb) == 0);
}

static void
damage(const struct given_file *file, struct given *g, unsigned int times)
{
	off_t size = lseek(file->fd, 0, SEEK_END);

	for (; times && size > 0; times--) {
		off_t at = (off_t)given_number(g, 2) % size;
		char octet = (char)given_number(g, 1);

		assert(pwrite(file->fd, &octet, 1, at) == 1);
	}
}

static int
is_same(const struct given *a, const char *s, size_t len)
{
	return a->len == len && (!len || memcmp(a->s, s, len) == 0);
}

static void
check_key(void *data, const char *key, size_t len)
{
	struct entries *e = data;

	assert(len <= TABLE_KEY_MAX);
	if (e)
		assert(e->told < e->len && is_same(&e->list[e->told++].key, key, len));
}

/* --- lookups ------------------------------------------------------------------------------------ */

/* An undamaged table has each key with its first value; a damaged one answers, or is known to be damaged. */
static void
look_up(const char *path, struct entries *e, int is_whole)
{
	static stralloc value;
	struct table t;
	int r = table_open(&t, path);

	assert(r == 1 || (!is_whole && r == -1 && errno == EPROTO));
	for (unsigned int i = 0; r == 1 && i < e->len; i++) {
		struct given key = e->list[i].key;
		unsigned int first = 0;
		int found = table_get(&t, (const char *)key.s, key.len, &value);

		assert(found == 1 || (!is_whole && (found == 0 || errno == EPROTO)));
		while (!is_same(&e->list[first].key, (const char *)key.s, key.len))
			first++;
		assert(!is_whole || is_same(&e->list[first].value, value.s, value.len));
		assert(found == 1 || !value.len || found < 0);
	}
	if (r != 1)
		return;
	e->told = 0;
	assert(table_each(&t, check_key, is_whole ? e : NULL) == 1 || !is_whole);
	assert(!is_whole || e->told == e->len);
	table_close(&t);
}

static void
find_accounts(const char *path, const struct entries *e)
{
	static struct account a;

	for (unsigned int i = 0; i < e->len; i++) {
		char *local = given_copy(e->list[i].key.s, e->list[i].key.len);
		size_t len = e->list[i].key.len;
		int absent, r = account_find(&a, path, local, len, &absent);

		assert(r != 1 || (*a.user && *a.home && a.uid != (uid_t)-1 && a.gid != (gid_t)-1));
		if (len > 1)	/* keys of users/cdb begin with '!' */
			account_find(&a, path, local + 1, len - 1, &absent);
		r = virtual_of_local(&a, path, local, len);
		assert(r != 1 || (a.is_virtual && a.uid && a.gid && *a.home && virtual_is_quota(a.quota)));
		free(local);
	}
}

/* Who is let in gets whole variables. */
static void
ask_rules(const char *path, const struct entries *e)
{
	static stralloc variables;
	struct rules r;

	rules_init(&r, path, 0);
	rules_refresh(&r);
	for (unsigned int i = 0; i < e->len; i++) {
		ip46 ip = { .is6 = e->list[i].key.len % 2 };
		struct given g = e->list[i].value;

		for (int n = 0; n < 16; n++)
			ip.ip[n] = (char)given_number(&g, 1);
		if (rules_find(&r, &ip, &variables) != RULES_ALLOW)
			continue;
		for (size_t at = 0; at < variables.len; at += strlen(variables.s + at) + 1)
			assert(variables.s[variables.len - 1] == '\0' && strchr(variables.s + at, '=') > variables.s + at);
	}
	rules_close(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct given_file file;
	static struct entries entries;
	struct given g = { octets, len }, places;
	unsigned int times = (unsigned int)given_number(&g, 1) % 8;

	places = given_piece(&g, 3 * (size_t)times);
	take_entries(&entries, &g);
	make_table(&file, &entries);
	damage(&file, &places, times);
	look_up(file.path, &entries, !times);
	find_accounts(file.path, &entries);
	ask_rules(file.path, &entries);
	return 0;
}
