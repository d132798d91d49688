/* The ring: what is found at a start after every way in which its last writes can have gone wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "queue/digest.h"
#include "queue/ring.h"

enum { SEEN_MAX = 4096 };

/* What a start told. */
struct seen {
	uint64_t batches[SEEN_MAX], missing[SEEN_MAX];
	size_t batches_len, missing_len, records, octets;
	char last[64];
};

static struct ring ring;
static struct seen seen;
static char path[RING_PATH_MAX], id[RING_ID];

struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir);
static int readdir_fails;

struct dirent *
__wrap_readdir(DIR *dir)
{
	if (!readdir_fails)
		return __real_readdir(dir);
	errno = EIO;
	return NULL;
}

ssize_t __real_pread(int fd, void *s, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *s, size_t len, off_t at);
/* A block that cannot be read, -1: none; and how often, -1: always. */
static int64_t bad_block = -1;
static int bad_times;

ssize_t
__wrap_pread(int fd, void *s, size_t len, off_t at)
{
	int64_t octet = bad_block * RING_BLOCK;

	if (bad_block < 0 || !bad_times || octet < at || octet >= at + (off_t)len)
		return __real_pread(fd, s, len, at);
	bad_times--;
	errno = EIO;
	return -1;
}

static int
at_batch(void *data, uint64_t number, uint32_t block, uint32_t blocks)
{
	struct seen *s = data;

	(void)block;
	(void)blocks;
	s->batches[s->batches_len++ % SEEN_MAX] = number;
	return 1;
}

static int
at_record(void *data, uint64_t batch, uint64_t offset, const char *octets, uint32_t len, const char digest[QUEUE_KEYED_DIGEST])
{
	struct seen *s = data;
	char again[RING_RECORD_MAX];

	(void)batch;
	s->records++;
	s->octets += len;
	snprintf(s->last, sizeof s->last, "%.*s", (int)len, octets);
	/* a record is found again by its place alone */
	assert_true(ring_read(ring.fd, ring.size, offset, again, len));
	assert_true(digest_keyed_is(digest, ring.id, again, len));
	return 1;
}

static int
at_missing(void *data, uint64_t number, const char *octets, size_t len)
{
	struct seen *s = data;

	assert_true(len == 0 || octets[len - 1] == octets[len - 1]);	/* readable */
	s->missing[s->missing_len++ % SEEN_MAX] = number;
	return 1;
}

static int
start(void)
{
	const struct ring_listener l = { .data = &seen, .batch = at_batch, .record = at_record, .missing = at_missing };

	ring_close(&ring);
	seen = (struct seen){ .records = 0 };
	assert_int_equal(ring_find(path, id), 1);
	return ring_open(&ring, path, id, &l);
}

/* Writes one batch that holds text as its only record. */
static void
write_one(const char *text, size_t len, uint64_t tail, uint32_t tail_block)
{
	struct ring_batch b = { .records = 0 };
	struct iovec v = { .iov_base = (void *)(uintptr_t)text, .iov_len = len };

	assert_int_equal(ring_add(&ring, &b, &v, 1), 0);
	assert_int_equal(ring_write(&ring, &b, tail, tail_block, 100, 12345), 1);
	stralloc_free(&b.payload);
	stralloc_free(&b.descriptors);
}

static int
make(void **state)
{
	const char *const folders[] = { "queue", "queue/journal", "queue/new" };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_true(mkdir(folders[i], 0700) == 0 || errno == EEXIST);
	ring.fd = -1;
	assert_int_equal(ring_create(RING_SIZE_MIN, 1, 7), 1);
	assert_int_equal(start(), 1);
	return 0;
}

static int
drop(void **state)
{
	(void)state;
	ring_close(&ring);
	unlink(path);
	return 0;
}

/* Writes octets over the ring file at a block. */
static void
spoil(uint32_t block, size_t offset, const char *octets, size_t len)
{
	assert_int_equal(pwrite(ring.fd, octets, len, (off_t)((size_t)block * RING_BLOCK + offset)), len);
}

static void
new_ring(void **state)
{
	(void)state;
	assert_int_equal(seen.batches_len, 1);
	assert_int_equal(seen.records, 0);
	assert_int_equal(ring.next, 2);
	assert_int_equal(ring.limit, 7);
	assert_int_equal(ring_used(&ring), 1);
}

static void
what_was_written_is_found(void **state)
{
	(void)state;
	write_one("first", 5, 2, 1);
	write_one("second", 6, 2, 1);
	assert_int_equal(start(), 1);
	assert_int_equal(seen.batches_len, 2);
	assert_int_equal(seen.batches[0], 2);
	assert_string_equal(seen.last, "second");
	assert_int_equal(ring.next, 4);
	assert_int_equal(ring.limit, 100);
	assert_int_equal(ring.written_at, 12345);
	assert_int_equal(ring_used(&ring), 2);
}

static void
what_is_before_the_tail_is_not_said(void **state)
{
	(void)state;
	write_one("old", 3, 2, 1);
	write_one("new", 3, 0, 0);
	assert_int_equal(start(), 1);
	assert_int_equal(seen.batches_len, 1);
	assert_string_equal(seen.last, "new");
}

static void
torn_last_batch_never_was(void **state)
{
	static char large[20000];

	(void)state;
	memset(large, 'x', sizeof large);
	/* every sector of the last batch in turn is not written */
	for (size_t sector = 0; sector < sizeof large / 512; sector++) {
		uint32_t head;

		write_one("kept", 4, 2, 1);
		head = ring.head;
		write_one(large, sizeof large, 2, 1);
		spoil(head, sector * 512, (char[512]){ 0 }, 512);
		assert_int_equal(start(), 1);
		assert_string_equal(seen.last, "kept");
		assert_int_equal(ring.head, head);
		assert_int_equal(seen.missing_len, 0);
	}
}

static void
missing_batch_is_said(void **state)
{
	uint32_t block;

	(void)state;
	write_one("a", 1, 2, 1);
	block = ring.head;
	write_one("b", 1, 2, 1);
	write_one("c", 1, 2, 1);
	spoil(block, RING_HEADER + RING_DESCRIPTOR, "X", 1);
	assert_int_equal(start(), 1);
	assert_int_equal(seen.batches_len, 2);
	assert_int_equal(seen.missing_len, 1);
	assert_int_equal(seen.missing[0], 3);
	assert_string_equal(seen.last, "c");
}

/* A start while the block cannot be read. */
static int
start_without(uint32_t block)
{
	int ok;

	bad_block = block;
	bad_times = -1;
	ok = start();
	bad_block = -1;
	return ok;
}

/* Not being readable is no proof of not having been: what is there may be acknowledged mail. */
static void
a_block_between_tail_and_the_end_of_the_next_batch_has_to_be_readable(void **state)
{
	static char large[3 * RING_BLOCK];
	uint32_t last, blocks = ring_blocks(&ring), most = blocks / 8;

	(void)state;
	write_one("a", 1, 2, 1);
	last = ring.head;
	memset(large, 'x', sizeof large);
	write_one(large, sizeof large, 2, 1);
	/* without each block of the last batch that would be one that never was; the one before it is the last, then */
	for (uint32_t block = 1; block < ring.head + most; block += block <= last + 4 ? 1 : most / 4) {
		assert_int_equal(start_without(block), 0);
		assert_int_equal(errno, EIO);
		assert_int_equal(seen.batches_len + seen.missing_len, 0);
		assert_int_equal(start(), 1);
		assert_int_equal(ring.next, 4);
	}
	assert_int_equal(start_without(ring.head + most - 1), 0);
	assert_int_equal(start(), 1);
	for (uint32_t block = ring.head + most; block <= blocks; block += most) {
		assert_int_equal(start_without(block % blocks), 1);
		assert_int_equal(seen.batches_len, 2);
		assert_int_equal(ring.next, 4);
	}
}

static void
a_read_that_fails_once_is_done_again(void **state)
{
	(void)state;
	write_one("a", 1, 2, 1);
	bad_block = ring.head - 1;
	bad_times = 1;
	assert_int_equal(start(), 1);
	assert_int_equal(bad_times, 0);
	bad_block = -1;
	assert_string_equal(seen.last, "a");
}

static void
a_ring_of_which_nothing_can_be_read_is_not_an_empty_one(void **state)
{
	(void)state;
	assert_int_equal(start_without(0), 0);
	assert_int_equal(errno, EIO);
	assert_int_equal(start(), 1);
}

static void
goes_around(void **state)
{
	static char large[300000];
	uint64_t tail = 2;
	uint32_t tail_block = 1, before = 0;
	int turns = 0;

	(void)state;
	memset(large, 'x', RING_RECORD_MAX);
	for (int i = 0; i < 100; i++) {
		uint64_t next = ring.next;
		uint32_t head = ring.head;

		write_one(large, RING_RECORD_MAX - 5000u * (unsigned int)(i % 7), tail, tail_block);
		turns += ring.head < before;
		before = ring.head;
		tail = next;	/* the batch before the next is needed, no more */
		tail_block = head;
		assert_true(ring_used(&ring) <= 2 * ring_blocks(&ring) / 8);
	}
	assert_true(turns >= 2);
	assert_int_equal(start(), 1);
	assert_int_equal(seen.batches_len, 2);
	assert_int_equal(seen.missing_len, 0);
	assert_int_equal(ring.next, 102);
}

static void
a_message_cannot_pose_as_a_batch(void **state)
{
	static char fake[3 * RING_BLOCK];
	struct ring other = { .fd = -1 };
	char where[RING_PATH_MAX], other_id[RING_ID];
	int fd;

	(void)state;
	/* a whole batch of another ring, at the start of a block, within a record */
	write_one("x", 1, 2, 1);
	drop(NULL);
	fd = open(path, O_RDONLY);
	assert_int_equal(fd, -1);
	assert_int_equal(ring_create(RING_SIZE_MIN, 900, 1000), 1);
	assert_int_equal(ring_find(where, other_id), 1);
	fd = open(where, O_RDONLY);
	assert_int_equal(pread(fd, fake + RING_BLOCK - RING_HEADER - RING_DESCRIPTOR, RING_BLOCK, 0), RING_BLOCK);
	close(fd);
	unlink(where);
	(void)other;
	assert_int_equal(ring_create(RING_SIZE_MIN, 1, 7), 1);
	assert_int_equal(start(), 1);
	write_one(fake, sizeof fake, 2, 1);
	write_one("last", 4, 2, 1);
	assert_int_equal(start(), 1);
	assert_int_equal(ring.next, 4);
	assert_string_equal(seen.last, "last");
}

static void
header_fields_out_of_range(void **state)
{
	char h[RING_HEADER], digest[QUEUE_KEYED_DIGEST];
	uint32_t block;

	(void)state;
	write_one("kept", 4, 2, 1);
	block = ring.head;
	/* a header with a right digest that claims more than the ring has: rows of fields, each set to ones */
	for (size_t field = 24; field < 72; field += 4) {
		memset(h, 0, sizeof h);
		assert_int_equal(pread(ring.fd, h, 72, RING_BLOCK), 72);
		memset(h + field, 0xff, 4);
		digest_keyed(digest, ring.id, h, 72);
		memcpy(h + 72, digest, sizeof digest);
		spoil(block, 0, h, sizeof h);
		assert_int_equal(start(), 1);
		assert_int_equal(ring.next, 3);
	}
}

static void
no_whole_batch_at_all(void **state)
{
	(void)state;
	spoil(0, 8, "other id", 8);
	assert_int_equal(start(), 0);
	assert_int_equal(errno, EPROTO);
}

static void
two_rings_are_an_error(void **state)
{
	char first[RING_PATH_MAX], moved[RING_PATH_MAX + 4];
	DIR *dir;
	const struct dirent *d;

	(void)state;
	strcpy(first, path);
	assert_int_equal(ring_create(RING_SIZE_MIN, 1, 7), 1);
	assert_int_equal(ring_find(moved, id), -1);
	assert_int_equal(errno, EEXIST);
	dir = opendir(QUEUE_RING_DIR);
	while ((d = readdir(dir)))
		if (d->d_name[0] == '1' && !strstr(first, d->d_name))
			unlinkat(dirfd(dir), d->d_name, 0);
	closedir(dir);
}

/* Else a new ring would be made beside it, and no start would succeed any more. */
static void
a_folder_that_cannot_be_read_is_not_an_empty_one(void **state)
{
	(void)state;
	readdir_fails = 1;
	assert_int_equal(ring_find(path, id), -1);
	assert_int_equal(errno, EIO);
	readdir_fails = 0;
	assert_int_equal(ring_find(path, id), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(new_ring, make, drop),
		cmocka_unit_test_setup_teardown(what_was_written_is_found, make, drop),
		cmocka_unit_test_setup_teardown(what_is_before_the_tail_is_not_said, make, drop),
		cmocka_unit_test_setup_teardown(torn_last_batch_never_was, make, drop),
		cmocka_unit_test_setup_teardown(missing_batch_is_said, make, drop),
		cmocka_unit_test_setup_teardown(a_block_between_tail_and_the_end_of_the_next_batch_has_to_be_readable, make, drop),
		cmocka_unit_test_setup_teardown(a_read_that_fails_once_is_done_again, make, drop),
		cmocka_unit_test_setup_teardown(a_ring_of_which_nothing_can_be_read_is_not_an_empty_one, make, drop),
		cmocka_unit_test_setup_teardown(goes_around, make, drop),
		cmocka_unit_test_setup_teardown(a_message_cannot_pose_as_a_batch, make, drop),
		cmocka_unit_test_setup_teardown(header_fields_out_of_range, make, drop),
		cmocka_unit_test_setup_teardown(no_whole_batch_at_all, make, drop),
		cmocka_unit_test_setup_teardown(two_rings_are_an_error, make, drop),
		cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_read_is_not_an_empty_one, make, drop),
	};
	char dir[] = "/tmp/unit-ring-XXXXXX";
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	failed = cmocka_run_group_tests_name("ring", tests, NULL, NULL);
	rmdir("queue/journal");
	rmdir("queue/new");
	rmdir("queue");
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
