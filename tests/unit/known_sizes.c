/* The file that keeps the sizes of a maildir's messages; known_sizes.h; hostile inputs L5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/pop3d/known_sizes.h"
#include "directory.h"

static struct known_name
name_of(uint64_t time, const char *name)
{
	return (struct known_name){ time, name, strlen(name) };
}

static int
open_file(void)
{
	int fd = known_sizes_open(AT_FDCWD);

	assert_true(fd >= 0);
	return fd;
}

/* Writes some messages, each of its time in octets. */
static void
write_sizes(const struct known_name *names, size_t len)
{
	struct known_sizes k = { .at = 0 };
	int fd = open_file();

	known_sizes_begin(&k);
	for (size_t i = 0; i < len; i++)
		known_sizes_add(&k, names + i, names[i].time);
	known_sizes_write(&k, fd);
	known_sizes_free(&k);
	close(fd);
}

/* How many of the messages it knows, whose sizes have to be right. */
static size_t
known(const struct known_name *names, size_t len)
{
	struct known_sizes k = { .at = 0 };
	int fd = open_file();
	uint64_t size;
	size_t n = 0;

	known_sizes_read(&k, fd);
	for (size_t i = 0; i < len; i++)
		if (known_sizes_find(&k, names + i, &size)) {
			assert_int_equal(size, names[i].time);
			n++;
		}
	known_sizes_free(&k);
	close(fd);
	return n;
}

static void
what_was_written_is_known(void **state)
{
	const struct known_name names[] = { name_of(7, "7.a"), name_of(7, "7.a\nb"), name_of(7, "7.b c"), name_of(800, "800.a") },
	    others[] = { name_of(6, "6.x"), name_of(7, "7.a"), name_of(7, "7.a."), name_of(7, "7.b c"), name_of(800, "800.b"),
	        name_of(900, "900.a") },
	    flags[] = { name_of(7, "7.a:2,S"), name_of(800, "800.a:2,") }, colon[] = { { 6, ":2,S", 0 }, name_of(7, "7.a") };

	(void)state;
	assert_int_equal(known(names, 4), 0);
	write_sizes(names, 4);
	assert_int_equal(known(names, 4), 4);
	assert_int_equal(known(others, 6), 2);
	write_sizes(flags, 2);	/* what is behind the colon makes no other name */
	assert_int_equal(known(names, 4), 2);
	write_sizes(colon, 2);	/* nor is nothing before it the end */
	assert_int_equal(known(colon, 2), 2);
	write_sizes(names + 1, 2);	/* shorter: what is left behind it does not count */
	assert_int_equal(known(names, 4), 2);
	write_sizes(names, 0);
	assert_int_equal(known(names, 4), 0);
}

/* A file that is cut anywhere, or has an octet changed, says nothing. */
static void
L5_damage(void **state)
{
	const struct known_name names[] = { name_of(1, "1.a"), name_of(2, "2.b") };
	char octets[200];
	ssize_t len;
	int fd;

	(void)state;
	unlink("pop3-sizes");	/* nothing is to be behind what counts */
	fd = open_file();
	write_sizes(names, 2);
	len = pread(fd, octets, sizeof octets, 0);
	assert_true(len > 40);	/* more than the header */
	for (ssize_t i = len - 1; i >= 0; i--) {
		octets[i] ^= 1;
		assert_int_equal(pwrite(fd, octets, (size_t)len, 0), len);
		assert_int_equal(known(names, 2), 0);
		octets[i] ^= 1;
		assert_int_equal(ftruncate(fd, i), 0);
		assert_int_equal(known(names, 2), 0);
	}
	close(fd);
}

/* What its owner has made up, with a digest that fits, ends at the first thing that is wrong. */
static const struct malformed_row { const char *rule, *name; } malformed[] = {
	{ "no name", "" },
	{ "out of order", "1" },
	{ "twice", "2.b" },
};

static void
L5_malformed(void **state)
{
	const struct malformed_row *row = *state;
	const struct known_name names[] = { name_of(2, "2.b"), name_of(strcmp(row->name, "1") ? 2 : 1, row->name), name_of(3, "3.c") };

	write_sizes(names, 3);
	assert_int_equal(known(names, 1), 1);
	assert_int_equal(known(names + 2, 1), 0);
}

static void
L5_no_file_of_ours(void **state)
{
	struct stat st;

	(void)state;
	unlink("pop3-sizes");
	assert_int_equal(symlink("elsewhere", "pop3-sizes"), 0);
	assert_int_equal(known_sizes_open(AT_FDCWD), -1);
	assert_int_equal(stat("elsewhere", &st), -1);
	assert_int_equal(unlink("pop3-sizes"), 0);
	assert_int_equal(mkfifo("pop3-sizes", 0600), 0);
	assert_int_equal(known_sizes_open(AT_FDCWD), -1);
	assert_int_equal(unlink("pop3-sizes"), 0);
	assert_int_equal(mkdir("pop3-sizes", 0700), 0);
	assert_int_equal(known_sizes_open(AT_FDCWD), -1);
	assert_int_equal(rmdir("pop3-sizes"), 0);
}

/* Without a descriptor nothing is known, and nothing is written. */
static void
none(void **state)
{
	struct known_sizes k = { .at = 0 };
	struct known_name name = name_of(1, "1.a");
	uint64_t size;

	(void)state;
	known_sizes_read(&k, -1);
	assert_int_equal(known_sizes_find(&k, &name, &size), 0);
	known_sizes_begin(&k);
	known_sizes_add(&k, &name, 1);
	known_sizes_write(&k, -1);
	known_sizes_free(&k);
}

int
main(void)
{
	enum { MALFORMED = sizeof malformed / sizeof *malformed };
	struct CMUnitTest tests[4 + MALFORMED] = {
		cmocka_unit_test(what_was_written_is_known),
		cmocka_unit_test(L5_damage),
		cmocka_unit_test(L5_no_file_of_ours),
		cmocka_unit_test(none),
	};

	for (size_t i = 0; i < MALFORMED; i++)
		tests[4 + i] = (struct CMUnitTest){ .name = malformed[i].rule, .test_func = L5_malformed,
		    .initial_state = (void *)(uintptr_t)&malformed[i] };
	return cmocka_run_group_tests_name("known_sizes", tests, directory_make, directory_remove);
}
