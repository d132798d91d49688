#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/blake2s.h>
#include "queue/digest.h"
#include "queue/info.h"
#include "queue/reader.h"
#include "queue/record.h"
#include "queue/ring.h"

struct reader_check {
	int fd;
	uint64_t size, at;
	char digest[QUEUE_DIGEST];
	blake2s_ctx ctx;
};

void
reader_close(struct reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

struct reader
reader_of(const struct ring *ring)
{
	struct reader r = { .fd = ring->fd, .size = ring->size };

	memcpy(r.id, ring->id, sizeof r.id);
	return r;
}

enum reader_result
reader_open(struct reader *r)
{
	char path[RING_PATH_MAX];
	struct stat st;
	int found;

	if (r->fd >= 0)
		return READER_OK;
	found = ring_find(path, r->id);
	if (found != 1)
		return found;
	r->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (r->fd < 0)
		return errno == ENOENT ? READER_MISFIT : READER_ERROR;
	if (fstat(r->fd, &st) < 0) {
		reader_close(r);
		return READER_ERROR;
	}
	r->size = (uint64_t)st.st_size;
	return READER_OK;
}

enum reader_result
reader_ring(struct reader *r, uint64_t number, const struct queue_place *place, stralloc *message, uint32_t *at)
{
	struct record record;
	enum reader_result opened = reader_open(r);

	if (opened != READER_OK)
		return opened;
	if (place->len > RING_RECORD_MAX || place->offset >= r->size || !stralloc_ready(message, place->len))
		return place->len > RING_RECORD_MAX || place->offset >= r->size ? READER_MISFIT : READER_ERROR;
	if (!ring_read(r->fd, r->size, place->offset, message->s, place->len))
		return READER_ERROR;
	message->len = place->len;
	if (!digest_keyed_is(place->digest, r->id, message->s, message->len) || !record_parse(&record, message->s, message->len) ||
	    record.type != RECORD_MESSAGE || record.number != number)
		return READER_MISFIT;
	*at = (uint32_t)(record.message - message->s);
	return READER_OK;
}

enum reader_result
reader_file(uint64_t number, int *fd, uint64_t *size, char digest[QUEUE_DIGEST])
{
	char path[INFO_PATH_MAX];
	stralloc file = STRALLOC_ZERO;
	struct info info;
	uint64_t there;
	int r = info_read(&info, &file, number);

	stralloc_free(&file);
	if (r != 1)
		return r == 0 || errno == EPROTO ? READER_MISFIT : READER_ERROR;
	*size = info.size;
	memcpy(digest, info.digest, QUEUE_DIGEST);
	info_path(path, "mess", number);
	*fd = info_open_file(path, &there);
	if (*fd < 0)
		return errno == ENOENT || errno == EPROTO ? READER_MISFIT : READER_ERROR;
	if (there == *size)
		return READER_OK;
	close(*fd);
	return READER_MISFIT;
}

enum reader_result
reader_file_whole(uint64_t number, stralloc *message, uint64_t max)
{
	char digest[QUEUE_DIGEST];
	uint64_t size;
	ssize_t n = -1;
	int fd, e = ENOMEM;
	enum reader_result r = reader_file(number, &fd, &size, digest);

	if (r != READER_OK)
		return r;
	if (size > max)
		e = EFBIG;
	else if (stralloc_ready(message, size + 1)) {
		n = pread(fd, message->s, size, 0);
		e = errno;
	}
	close(fd);
	errno = e;
	if (n < 0)
		return READER_ERROR;
	message->len = (size_t)n;
	return message->len == size && digest_is(digest, message->s, message->len) ? READER_OK : READER_MISFIT;
}

struct reader_check *
reader_check_new(int fd, uint64_t size, const char digest[QUEUE_DIGEST])
{
	struct reader_check *c = malloc(sizeof *c);

	if (!c)
		return NULL;
	c->fd = fd;
	c->size = size;
	c->at = 0;
	memcpy(c->digest, digest, QUEUE_DIGEST);
	blake2s_init(&c->ctx, QUEUE_DIGEST);
	return c;
}

int
reader_check_slice(struct reader_check *c, uint32_t max)
{
	char s[65536], digest[QUEUE_DIGEST];

	while (max && c->at < c->size) {
		size_t want = max < sizeof s ? max : sizeof s;
		ssize_t n = pread(c->fd, s, want, (off_t)c->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return READER_ERROR;
		if (n == 0 || (uint64_t)n > c->size - c->at)
			return READER_MISFIT;
		blake2s_update(&c->ctx, s, (size_t)n);
		c->at += (uint64_t)n;
		max -= (uint32_t)n;
	}
	if (c->at < c->size)
		return 2;
	blake2s_final(&c->ctx, digest);
	return memcmp(digest, c->digest, sizeof digest) == 0 ? READER_OK : READER_MISFIT;
}

void
reader_check_free(struct reader_check *c)
{
	free(c);
}
