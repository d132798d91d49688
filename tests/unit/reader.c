/* The octets of a message: found in the ring and in files, and never another one's. */
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
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "directory.h"
#include "queue/digest.h"
#include "queue/info.h"
#include "queue/reader.h"
#include "queue/record.h"
#include "queue/ring.h"

static const char envelope[] = "Fs@x\0Ta@y\0", message[] = "Subject: x\n\nbody\n";
enum { MESSAGE = sizeof message - 1, NUMBER = 77 };

static struct reader reader;
static struct queue_place place;	/* of the message in the ring */
static stralloc got;

/* --- the ring ------------------------------------------------------------------- */

static int
take(void *data, uint64_t number, uint32_t block, uint32_t blocks)
{
	(void)data, (void)number, (void)block, (void)blocks;
	return 1;
}

static int
take_record(void *data, uint64_t batch, uint64_t offset, const char *s, uint32_t len, const char digest[QUEUE_DIGEST])
{
	(void)data, (void)batch, (void)offset, (void)s, (void)len, (void)digest;
	return 1;
}

static int
take_missing(void *data, uint64_t number, const char *octets, size_t len)
{
	(void)data, (void)number, (void)octets, (void)len;
	return 1;
}

/* A new ring that holds the message. */
static void
make_ring(void)
{
	const struct ring_listener listener = { NULL, take, take_record, take_missing };
	struct record record = { .type = RECORD_MESSAGE, .number = NUMBER, .recipients = 1, .envelope_len = sizeof envelope };
	char path[RING_PATH_MAX], id[RING_ID], header[RECORD_MESSAGE_HEADER];
	struct iovec v[3] = { { header, sizeof header }, { (void *)(uintptr_t)envelope, sizeof envelope },
		{ (void *)(uintptr_t)message, MESSAGE } };
	struct ring_batch batch = { .records = 0 };
	struct ring ring;

	assert_int_equal(ring_create(RING_SIZE_MIN, 1, 1), 1);
	assert_int_equal(ring_find(path, id), 1);
	assert_int_equal(ring_open(&ring, path, id, &listener), 1);
	record_message_header(header, &record);
	assert_int_equal(ring_add(&batch, v, 3), 0);
	place = (struct queue_place){ .kind = PLACE_RING, .offset = ring_payload_offset(&ring, &batch, ring.head),
		.len = ring_record_len(&batch, 0), .message_at = sizeof header + sizeof envelope };
	memcpy(place.digest, ring_digest(&batch, 0), QUEUE_DIGEST);
	assert_int_equal(ring_write(&ring, &batch, 0, 0, 1000, 1), 1);
	stralloc_free(&batch.descriptors);
	stralloc_free(&batch.payload);
	close(ring.fd);
}

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
write_file(const char *path, const char *s, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, s, len), len);
	close(fd);
}

static void
path_of(char path[INFO_PATH_MAX], const char *kind)
{
	info_folder(path, kind, NUMBER);
	mkdir(path, 0700);
	info_path(path, kind, NUMBER);
}

/* mess and info of the message; the octets in the file are s. */
static void
make_files(const char *s, size_t len)
{
	struct info info = { .number = NUMBER, .size = MESSAGE, .recipients = 1, .envelope = envelope, .envelope_len = sizeof envelope,
		.outcomes = "" };
	char path[INFO_PATH_MAX];
	stralloc file = STRALLOC_ZERO;

	digest_of(info.digest, message, MESSAGE);
	assert_int_equal(info_encode(&file, &info, 0), 1);
	path_of(path, "info");
	write_file(path, file.s, file.len);
	stralloc_free(&file);
	path_of(path, "mess");
	write_file(path, s, len);
}

static void
from_a_file(void **state)
{
	(void)state;
	make_files(message, MESSAGE);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_OK);
	assert_int_equal(got.len, MESSAGE);
	assert_memory_equal(got.s, message, MESSAGE);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE - 1), READER_ERROR);
	assert_int_equal(errno, EFBIG);
}

static void
files_that_are_not_the_messages(void **state)
{
	char path[INFO_PATH_MAX], other[MESSAGE];

	(void)state;
	memcpy(other, message, MESSAGE);
	other[3] ^= 1;
	make_files(other, MESSAGE);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	make_files(message, MESSAGE - 1);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	make_files(message, MESSAGE);
	path_of(path, "mess");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	assert_int_equal(mkfifo(path, 0600), 0);	/* and nobody waits for a writer */
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	assert_int_equal(unlink(path), 0);
	path_of(path, "info");
	write_file(path, "tambo info 1\n", 13);
	assert_int_equal(reader_file_whole(NUMBER, &got, MESSAGE), READER_MISFIT);
	assert_int_equal(unlink(path), 0);
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
	make_files(message, MESSAGE);
	assert_int_equal(check(5, &slices), READER_OK);
	assert_true(slices >= MESSAGE / 5);
	memcpy(other, message, MESSAGE);
	other[MESSAGE - 1] ^= 1;
	make_files(other, MESSAGE);
	assert_int_equal(check(1000, &slices), READER_MISFIT);
}

static int
set_up(void **state)
{
	static const char *const folders[] = { "queue", "queue/journal", "queue/new", "queue/mess", "queue/info" };

	if (directory_make(state))
		return -1;
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		assert_int_equal(mkdir(folders[i], 0700), 0);
	make_ring();
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
