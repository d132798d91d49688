#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "queue/digest.h"
#include "queue/info.h"
#include "queue/record.h"
#include "queue/ring.h"
#include "stored.h"

static const char envelope[] = "Fs@x\0Ta@y\0";

void
stored_folders(void)
{
	static const char *const folders[] = { "queue", "queue/journal", "queue/new", "queue/mess", "queue/info" };

	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		assert_int_equal(mkdir(folders[i], 0700), 0);
}

/* --- the ring ------------------------------------------------------------------- */

static int
take(void *data, uint64_t number, uint32_t block, uint32_t blocks)
{
	(void)data, (void)number, (void)block, (void)blocks;
	return 1;
}

static int
take_record(void *data, uint64_t batch, uint64_t offset, const char *s, uint32_t len, const char digest[QUEUE_KEYED_DIGEST])
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

struct queue_place
stored_in_ring(uint64_t number, const char *message, size_t len)
{
	const struct ring_listener listener = { NULL, take, take_record, take_missing };
	struct record record = { .type = RECORD_MESSAGE, .number = number, .recipients = 1, .envelope_len = sizeof envelope };
	char path[RING_PATH_MAX], id[RING_ID], header[RECORD_MESSAGE_HEADER];
	struct iovec v[3] = { { header, sizeof header }, { (void *)(uintptr_t)envelope, sizeof envelope },
		{ (void *)(uintptr_t)message, len } };
	struct ring_batch batch = { .records = 0 };
	struct queue_place place;
	struct ring ring;

	if (ring_find(path, id) == 1)
		assert_int_equal(unlink(path), 0);
	assert_int_equal(ring_create(RING_SIZE_MIN, 1, 1), 1);
	assert_int_equal(ring_find(path, id), 1);
	assert_int_equal(ring_open(&ring, path, id, &listener), 1);
	record_message_header(header, &record);
	assert_int_equal(ring_add(&ring, &batch, v, 3), 0);
	place = (struct queue_place){ .kind = PLACE_RING, .offset = ring_payload_offset(&ring, &batch, ring.head),
		.len = ring_record_len(&batch, 0), .message_at = sizeof header + sizeof envelope };
	memcpy(place.digest, ring_digest(&batch, 0), QUEUE_KEYED_DIGEST);
	assert_int_equal(ring_write(&ring, &batch, 0, 0, 1000, 1), 1);
	stralloc_free(&batch.descriptors);
	stralloc_free(&batch.payload);
	close(ring.fd);
	return place;
}

/* --- files ------------------------------------------------------------------------ */

void
stored_file(const char *path, const char *s, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, s, len), len);
	close(fd);
}

const char *
stored_path(const char *kind, uint64_t number)
{
	static char path[INFO_PATH_MAX];

	info_folder(path, kind, number);
	mkdir(path, 0700);
	info_path(path, kind, number);
	return path;
}

void
stored_in_files(uint64_t number, const char *message, const char *octets, size_t len)
{
	struct info info = { .number = number, .size = len, .recipients = 1, .envelope = envelope, .envelope_len = sizeof envelope,
		.outcomes = "" };
	stralloc file = STRALLOC_ZERO;

	digest_of(info.digest, message, len);
	assert_int_equal(info_encode(&file, &info, 0), 1);
	stored_file(stored_path("info", number), file.s, file.len);
	stralloc_free(&file);
	stored_file(stored_path("mess", number), octets, len);
}

void
stored_remove(uint64_t number)
{
	unlink(stored_path("info", number));
	unlink(stored_path("mess", number));
}
