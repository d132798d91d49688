/* Compiled tables: row L4 of the hostile inputs. Whatever is damaged, a lookup ends, stays inside its memory, and a key
 * that may well be there is not called absent where the damage can be seen. */
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
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "control/table.h"

static const char file[] = "cdb", temporary[] = "cdb.tmp";
enum { HEAD = 2048, KEYS = 300 };

static void
make_table(void)
{
	struct table_maker m;
	char key[32], value[32];

	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_add(&m, "", 0, "empty key", 9), 1);
	assert_int_equal(table_add(&m, "none", 4, "", 0), 1);
	assert_int_equal(table_add(&m, "twice", 5, "first", 5), 1);
	assert_int_equal(table_add(&m, "twice", 5, "second", 6), 1);
	assert_int_equal(table_add(&m, "n\0l", 3, "\0", 1), 1);
	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof key, "key %d", i);
		snprintf(value, sizeof value, "value %d", i);
		assert_int_equal(table_add(&m, key, strlen(key), value, strlen(value)), 1);
	}
	assert_int_equal(table_finish(&m), 1);
	assert_int_equal(access(temporary, F_OK), -1);
}

static const struct find_row { const char *rule, *key; size_t len; int r; const char *want; size_t want_len; } find_rows[] = {
	{ "found", "key 7", 5, 1, "value 7", 7 },
	{ "absent", "key 300", 7, 0, "", 0 },
	{ "the empty key is a key", "", 0, 1, "empty key", 9 },
	{ "an empty value", "none", 4, 1, "", 0 },
	{ "the first of equal keys wins", "twice", 5, 1, "first", 5 },
	{ "any octet, NUL too", "n\0l", 3, 1, "\0", 1 },
	{ "no prefix of a key", "twic", 4, 0, "", 0 },
};

static void
find_row(void **state)
{
	const struct find_row *row = *state;
	stralloc value = STRALLOC_ZERO;
	int absent = 7;

	make_table();
	assert_int_equal(table_find(file, row->key, row->len, &value, &absent), row->r);
	assert_int_equal(absent, 0);
	assert_int_equal(value.len, row->want_len);
	assert_memory_equal(value.s ? value.s : "", row->want, row->want_len);
	stralloc_free(&value);
}

static void
no_file(void **state)
{
	stralloc value = STRALLOC_ZERO;
	struct table t;
	int absent = 0;

	(void)state;
	unlink(file);
	assert_int_equal(table_find(file, "a", 1, &value, &absent), 0);
	assert_int_equal(absent, 1);
	assert_int_equal(table_open(&t, file), 0);
	assert_int_equal(table_get(&t, "a", 1, &value), 0);
	table_close(&t);
	assert_int_equal(table_find(".", "a", 1, &value, &absent), -1);
	assert_int_equal(absent, 0);
	stralloc_free(&value);
}

static void
read_all(stralloc *octets)
{
	struct stat st;
	int fd = open(file, O_RDONLY);

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(stralloc_ready(octets, (size_t)st.st_size), 1);
	octets->len = (size_t)st.st_size;
	assert_int_equal(read(fd, octets->s, octets->len), octets->len);
	close(fd);
}

static void
write_all(const char *s, size_t len)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_int_equal(write(fd, s, len), len);
	close(fd);
}

static int
ask(const char *key)
{
	stralloc value = STRALLOC_ZERO;
	int r = table_find(file, key, strlen(key), &value, NULL);

	stralloc_free(&value);
	return r;
}

/* Cut short at any length: never "absent" */
static void
L4_truncated(void **state)
{
	stralloc octets = STRALLOC_ZERO;

	(void)state;
	make_table();
	read_all(&octets);
	for (size_t len = 0; len < octets.len; len += len < HEAD + 64 || len > octets.len - 64 ? 1 : 61) {
		write_all(octets.s, len);
		assert_int_equal(ask("key 7"), -1);
		assert_int_equal(ask("key 300"), -1);
	}
	stralloc_free(&octets);
}

/* Cut short, and filled with zeros again, as a power cut leaves it */
static void
L4_zeros(void **state)
{
	stralloc octets = STRALLOC_ZERO;

	(void)state;
	make_table();
	read_all(&octets);
	memset(octets.s, 0, octets.len);
	write_all(octets.s, octets.len);
	assert_int_equal(ask("key 7"), -1);
	write_all(octets.s, HEAD + 4);
	assert_int_equal(ask("key 7"), -1);
	stralloc_free(&octets);
}

static void
put_little(char *s, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		s[i] = (char)(n >> 8 * i & 255);
}

/* Pointers beyond the end, in the head and in a hash table; a value longer than the file */
static void
L4_beyond_the_end(void **state)
{
	struct table_maker m;
	stralloc octets = STRALLOC_ZERO;
	uint32_t slots;

	(void)state;
	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_add(&m, "key", 3, "value", 5), 1);
	assert_int_equal(table_finish(&m), 1);
	read_all(&octets);
	slots = HEAD + 8 + 8;	/* behind the one record */
	assert_int_equal(ask("key"), 1);
	put_little(octets.s + HEAD + 4, 0x7fffffff);	/* length of the value */
	write_all(octets.s, octets.len);
	assert_int_equal(ask("key"), -1);
	put_little(octets.s + HEAD + 4, 6);
	write_all(octets.s, octets.len);
	assert_int_equal(ask("key"), 1);	/* octets of the hash table: inside the file, so it cannot be seen */
	put_little(octets.s + HEAD + 4, 5);
	for (int i = 0; i < 2; i++)
		if (memcmp(octets.s + slots + i * 8 + 4, "\0\0\0", 4) != 0)
			put_little(octets.s + slots + i * 8 + 4, 0xfffffff0u);	/* where the record is */
	write_all(octets.s, octets.len);
	assert_int_equal(ask("key"), -1);
	stralloc_free(&octets);
}

/* A hash table without an empty slot, all slots the key's: the chain is followed once around */
static void
L4_loop(void **state)
{
	struct table_maker m;
	stralloc octets = STRALLOC_ZERO;
	char *slots;

	(void)state;
	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_add(&m, "key", 3, "value", 5), 1);
	assert_int_equal(table_finish(&m), 1);
	read_all(&octets);
	slots = octets.s + HEAD + 8 + 8;
	memcpy(slots, memcmp(slots + 4, "\0\0\0", 4) ? slots : slots + 8, 8);
	memcpy(slots + 8, slots, 8);
	octets.s[HEAD + 8] = 'K';	/* the record is no longer the key's, its hash still is */
	write_all(octets.s, octets.len);
	assert_int_equal(ask("key"), 0);
	stralloc_free(&octets);
}

/* A fixed sequence, so that a failure comes back. */
static unsigned int
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned int)(*state >> 33);
}

/* Any damage at all: ends, and ASan has nothing to say */
static void
L4_random_damage(void **unused)
{
	stralloc octets = STRALLOC_ZERO;
	char *copy;
	char key[32];
	uint64_t state = 20;

	(void)unused;
	make_table();
	read_all(&octets);
	copy = malloc(octets.len);
	for (int round = 0; round < 2000; round++) {
		memcpy(copy, octets.s, octets.len);
		for (unsigned int n = next_random(&state) % 30; n; n--)
			copy[next_random(&state) % octets.len] = (char)next_random(&state);
		write_all(copy, octets.len - (next_random(&state) % 3 ? 0 : next_random(&state) % 100));
		for (int i = 0; i < 5; i++) {
			snprintf(key, sizeof key, "key %u", next_random(&state) % (KEYS + 10));
			ask(key);
		}
	}
	free(copy);
	stralloc_free(&octets);
}

/* Replaced during lookup: an open table stays what it was; the next one that is opened is the new one */
static void
L4_replaced(void **state)
{
	struct table_maker m;
	struct table t;
	stralloc value = STRALLOC_ZERO;

	(void)state;
	make_table();
	assert_int_equal(table_open(&t, file), 1);
	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_finish(&m), 1);
	assert_int_equal(table_get(&t, "key 7", 5, &value), 1);
	table_close(&t);
	assert_int_equal(ask("key 7"), 0);
	stralloc_free(&value);
}

/* Cut short while it is open */
static void
L4_cut_while_open(void **state)
{
	struct table t;
	stralloc value = STRALLOC_ZERO;

	(void)state;
	make_table();
	assert_int_equal(table_open(&t, file), 1);
	assert_int_equal(truncate(file, HEAD), 0);
	assert_int_equal(table_get(&t, "key 7", 5, &value), -1);
	table_close(&t);
	stralloc_free(&value);
}

static void
abandoned(void **state)
{
	struct table_maker m;

	(void)state;
	make_table();
	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_add(&m, "a", 1, "b", 1), 1);
	table_abandon(&m);
	assert_int_equal(access(temporary, F_OK), -1);
	assert_int_equal(ask("key 7"), 1);
}

/* Flushed, a table is on disk under its temporary name; then it can get its own, or go */
static void
flushed(void **state)
{
	struct table_maker m;
	struct stat before, after;

	(void)state;
	for (int finish = 0; finish < 2; finish++) {
		make_table();
		assert_int_equal(table_make(&m, file, temporary, 0644), 1);
		assert_int_equal(table_add(&m, "a", 1, "b", 1), 1);
		assert_int_equal(table_flush(&m), 1);
		assert_int_equal(stat(temporary, &before), 0);
		assert_int_equal(ask("a"), 0);
		if (finish)
			assert_int_equal(table_finish(&m), 1);
		else
			table_abandon(&m);
		assert_int_equal(access(temporary, F_OK), -1);
		assert_int_equal(ask("a"), finish);
		assert_int_equal(ask("key 7"), !finish);
		assert_int_equal(stat(file, &after), 0);
		assert_int_equal(before.st_ino == after.st_ino && before.st_size == after.st_size, finish);
	}
}

/* What was added is known before the table is finished */
static void
added_already(void **state)
{
	struct table_maker m;

	(void)state;
	assert_int_equal(table_make(&m, file, temporary, 0644), 1);
	assert_int_equal(table_has(&m, "a", 1), 0);
	assert_int_equal(table_add(&m, "a", 1, "b", 1), 1);
	assert_int_equal(table_has(&m, "a", 1), 1);
	assert_int_equal(table_has(&m, "b", 1), 0);
	assert_int_equal(table_add(&m, "b", 1, "c", 1), 1);
	assert_int_equal(table_finish(&m), 1);
	assert_int_equal(ask("a"), 1);
	assert_int_equal(ask("b"), 1);
}

/* A table of secrets is nobody else's to read from the first octet on, also where somebody was killed before */
static void
secret(void **state)
{
	struct table_maker m;
	struct stat st;

	(void)state;
	write_all("", 0);
	assert_int_equal(rename(file, temporary), 0);
	assert_int_equal(chmod(temporary, 0644), 0);
	assert_int_equal(table_make(&m, file, temporary, 0600), 1);
	assert_int_equal(stat(temporary, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(table_finish(&m), 1);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* A new table that cannot be written whole leaves the old one */
static void
left_over(void **state)
{
	struct table_maker m;
	struct stat st;

	(void)state;
	make_table();
	write_all("", 0);
	assert_int_equal(rename(file, temporary), 0);	/* somebody was killed */
	assert_int_equal(chmod(temporary, 0600), 0);
	make_table();
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(ask("key 7"), 1);
	assert_int_equal(mkdir(temporary, 0700), 0);
	assert_int_equal(table_make(&m, file, temporary, 0644), 0);
	assert_int_equal(rmdir(temporary), 0);
	assert_int_equal(ask("key 7"), 1);
}

enum { ROWS = sizeof find_rows / sizeof *find_rows };

struct keys { int count, long_ones, empty_ones; };

static void
count_key(void *data, const char *key, size_t len)
{
	struct keys *k = data;

	k->count++;
	k->empty_ones += len == 0;
	k->long_ones += len > TABLE_KEY_MAX;
	assert_non_null(key);
}

/* all keys are told, whatever lies between them; in a damaged table it ends */
static void
each_key(void **state)
{
	struct keys k = { .count = 0 };
	stralloc octets = STRALLOC_ZERO;
	struct table t;

	(void)state;
	make_table();
	assert_int_equal(table_open(&t, file), 1);
	assert_int_equal(table_each(&t, count_key, &k), 1);
	assert_int_equal(k.count, KEYS + 5);
	assert_int_equal(k.empty_ones, 1);
	table_close(&t);
	read_all(&octets);
	octets.s[HEAD + 4] = (char)0x7f;	/* a value that is longer */
	write_all(octets.s, octets.len);
	assert_int_equal(table_open(&t, file), 1);
	assert_int_equal(table_each(&t, count_key, &k), -1);
	table_close(&t);
	stralloc_free(&octets);
}

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test(no_file), cmocka_unit_test(L4_truncated), cmocka_unit_test(L4_zeros),
		cmocka_unit_test(L4_beyond_the_end), cmocka_unit_test(L4_loop), cmocka_unit_test(L4_random_damage),
		cmocka_unit_test(L4_replaced), cmocka_unit_test(L4_cut_while_open), cmocka_unit_test(abandoned),
		cmocka_unit_test(flushed), cmocka_unit_test(added_already), cmocka_unit_test(secret),
		cmocka_unit_test(left_over), cmocka_unit_test(each_key),
	};
	char dir[] = "/tmp/unit-table-XXXXXX";
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = find_rows[i].rule, .test_func = find_row,
		    .initial_state = (void *)(uintptr_t)&find_rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	failed = cmocka_run_group_tests_name("table", tests, NULL, NULL);
	unlink(file);
	unlink(temporary);
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
