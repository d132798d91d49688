/* The octets of a message: found in the ring and in files, and never another one's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "queue/reader.h"
#include "queue/ring.h"
#include "stored.h"

static const char message[] = "Subject: x\n\nbody\n";
enum { MESSAGE = sizeof message - 1, NUMBER = 77 };

static struct reader reader;
static struct queue_place place;	/* of the message in the ring */
static stralloc got;

/* --- the ring ------------------------------------------------------------------- */

static void
from_the_ring(void **state)
{
	uint32_t at = 0;

	(void)state;
	assert_int_equal(reader_ring(&reader, NUMBER, &place, &got, &at), READER_OK);
	assert_int_equal(at, place.message_at);
	assert_int_equal(got.len - at, MESSAGE);
	assert_memory_equal(got.s + at, message, MESSAGE);
}

static void
a_place_that_is_not_the_messages(void **state)
{
	struct queue_place p;
	uint32_t at;

	(void)state;
	assert_int_equal(reader_ring(&reader, NUMBER + 1, &place, &got, &at), READER_MISFIT);
	p = place;
	p.digest[0] ^= 1;
	assert_int_equal(reader_ring(&reader, NUMBER, &p, &got, &at), READER_MISFIT);
	p = place;
	p.offset++;
	assert_int_equal(reader_ring(&reader, NUMBER, &p, &got, &at), READER_MISFIT);
	p = place;
	p.len--;
	assert_int_equal(reader_ring(&reader, NUMBER, &p, &got, &at), READER_MISFIT);
	p.len = RING_RECORD_MAX + 1;
	assert_int_equal(reader_ring(&reader, NUMBER, &p, &got, &at), READER_MISFIT);
	p = place;
	p.offset = RING_SIZE_MIN;
	assert_int_equal(reader_ring(&reader, NUMBER, &p, &got, &at), READER_MISFIT);
	p.offset = UINT64_MAX;
	assert_int_equal(reader_ring(&reader, NUMBER, &p, &got, &at), READER_MISFIT);
}

static void
no_ring(void **state)
{
	struct reader other = { .fd = -1 };
	uint32_t at;

	(void)state;
	assert_int_equal(rename("queue/journal", "queue/away"), 0);
	assert_int_equal(mkdir("queue/journal", 0700), 0);
	assert_int_equal(reader_ring(&other, NUMBER, &place, &got, &at), READER_MISFIT);
	assert_int_equal(rmdir("queue/journal"), 0);
	assert_int_equal(rename("queue/away", "queue/journal"), 0);
}

/* --- files ------------------------------------------------------------------------ */

static void
from_a_file(void **state)
{
	(void)state;
	stored_in_files(NUMBER, message, message, MESSAGE);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_OK);
	assert_int_equal(got.len, MESSAGE);
	assert_memory_equal(got.s, message, MESSAGE);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE - 1), READER_ERROR);
	assert_int_equal(errno, EFBIG);
}

static void
files_that_are_not_the_messages(void **state)
{
	char other[MESSAGE];

	(void)state;
	memcpy(other, message, MESSAGE);
	other[3] ^= 1;
	stored_in_files(NUMBER, message, other, MESSAGE);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	stored_in_files(NUMBER, message, message, MESSAGE);
	assert_int_equal(truncate(stored_path("mess", NUMBER), MESSAGE - 1), 0);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	stored_in_files(NUMBER, message, message, MESSAGE);
	assert_int_equal(unlink(stored_path("mess", NUMBER)), 0);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	assert_int_equal(mkfifo(stored_path("mess", NUMBER), 0600), 0);	/* and nobody waits for a writer */
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	assert_int_equal(unlink(stored_path("mess", NUMBER)), 0);
	stored_file(stored_path("info", NUMBER), "tambo info 1\n", 13);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	assert_int_equal(unlink(stored_path("info", NUMBER)), 0);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
}

/* Checks the file in slices of max octets. */
static int
check(uint32_t max, unsigned int *slices)
{
	char digest[QUEUE_DIGEST];
	struct reader_check *c;
	uint64_t size;
	int fd, r;

	assert_int_equal(reader_file(NUMBER, &fd, &size, digest), READER_OK);
	c = reader_check_new(fd, size, digest);
	assert_non_null(c);
	for (*slices = 1; (r = reader_check_slice(c, max)) == 2; ++*slices)
		;
	reader_check_free(c);
	close(fd);
	return r;
}

static void
a_check_in_slices(void **state)
{
	char other[MESSAGE];
	unsigned int slices;

	(void)state;
	stored_in_files(NUMBER, message, message, MESSAGE);
	assert_int_equal(check(5, &slices), READER_OK);
	assert_true(slices >= MESSAGE / 5);
	memcpy(other, message, MESSAGE);
	other[MESSAGE - 1] ^= 1;
	stored_in_files(NUMBER, message, other, MESSAGE);
	assert_int_equal(check(1000, &slices), READER_MISFIT);
}

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	stored_folders();
	place = stored_in_ring(NUMBER, message, MESSAGE);
	reader.fd = -1;
	return 0;
}

static int
tear_down(void **state)
{
	reader_close(&reader);
	stralloc_free(&got);
	return directory_remove(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(from_the_ring), cmocka_unit_test(a_place_that_is_not_the_messages), cmocka_unit_test(no_ring),
		cmocka_unit_test(from_a_file), cmocka_unit_test(files_that_are_not_the_messages), cmocka_unit_test(a_check_in_slices),
	};

	return cmocka_run_group_tests_name("reader", tests, set_up, tear_down);
}
