#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue/digest.h"
#include "queue/ring.h"

static const char magic[8] = "tamboq1\n";

enum {
	AT_ID = 8, AT_NUMBER = 24, AT_BLOCK = 32, AT_BLOCKS = 36, AT_RECORDS = 40, AT_TAIL_BLOCK = 44, AT_TAIL = 48,
	AT_LIMIT = 56, AT_TIME = 64, FIXED = 72,
	READ_PIECE = 1 << 20,
};

/* The fields of a batch's header; s: the whole batch in memory. */
struct batch {
	const char *s;
	uint64_t number, tail, limit, time;
	uint32_t block, blocks, records, tail_block;
};

/* --- names -------------------------------------------------------------------- */

static int
unhex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 1 if name is "1." and the hexadecimal ID. */
static int
parse_name(const char *name, char id[RING_ID])
{
	if (strlen(name) != 2 + 2 * RING_ID || name[0] != '1' || name[1] != '.')
		return 0;
	for (int i = 0; i < RING_ID; i++) {
		int high = unhex(name[2 + 2 * i]), low = unhex(name[3 + 2 * i]);

		if (high < 0 || low < 0)
			return 0;
		id[i] = (char)(high * 16 + low);
	}
	return 1;
}

static void
make_path(char path[RING_PATH_MAX], const char *dir, const char id[RING_ID])
{
	int n = snprintf(path, RING_PATH_MAX, "%s/1.", dir);

	for (int i = 0; i < RING_ID; i++)
		n += snprintf(path + n, (size_t)(RING_PATH_MAX - n), "%02x", (unsigned char)id[i]);
}

int
ring_find(char path[RING_PATH_MAX], char id[RING_ID])
{
	DIR *dir = opendir(QUEUE_RING_DIR);
	struct dirent *d;
	char other[RING_ID];
	int found = 0, e;

	if (!dir)
		return errno == ENOENT ? 0 : -1;
	while (errno = 0, (d = readdir(dir)))
		if (parse_name(d->d_name, found ? other : id))
			found++;
	e = found > 1 ? EEXIST : errno;
	closedir(dir);
	errno = e;
	if (e)
		return -1;
	if (found)
		make_path(path, QUEUE_RING_DIR, id);
	return found;
}

/* --- writing -------------------------------------------------------------------- */

static int
sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ok;

	if (fd < 0)
		return 0;
	ok = fsync(fd) == 0;
	close(fd);
	return ok;
}

/* Writes len octets at offset, going on at the ring's start. */
static int
write_around(const struct ring *r, const char *s, size_t len, uint64_t offset)
{
	while (len) {
		size_t n = len < r->size - offset ? len : (size_t)(r->size - offset);
		ssize_t w = pwrite(r->fd, s, n, (off_t)offset);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return 0;
		s += w;
		len -= (size_t)w;
		offset = (offset + (uint64_t)w) % r->size;
	}
	return 1;
}

int
ring_add(const struct ring *r, struct ring_batch *b, const struct iovec *v, unsigned int n)
{
	char descriptor[RING_DESCRIPTOR];
	size_t start = b->payload.len, len;

	if (!stralloc_catv(&b->payload, v, n))
		return -1;
	len = b->payload.len - start;
	uint32_pack_big(descriptor, (uint32_t)len);
	digest_keyed(descriptor + 4, r->id, b->payload.s + start, len);
	if (!stralloc_catb(&b->descriptors, descriptor, sizeof descriptor)) {
		b->payload.len = start;
		return -1;
	}
	return (int)b->records++;
}

uint32_t
ring_batch_blocks(const struct ring_batch *b, size_t extra)
{
	size_t octets = RING_HEADER + b->descriptors.len + b->payload.len + (extra ? extra + RING_DESCRIPTOR : 0);

	return (uint32_t)((octets + RING_BLOCK - 1) / RING_BLOCK);
}

uint64_t
ring_payload_offset(const struct ring *r, const struct ring_batch *b, uint32_t block)
{
	return ((uint64_t)block * RING_BLOCK + RING_HEADER + b->descriptors.len) % r->size;
}

uint32_t
ring_record_len(const struct ring_batch *b, uint32_t index)
{
	uint32_t len;

	uint32_unpack_big(b->descriptors.s + (size_t)index * RING_DESCRIPTOR, &len);
	return len;
}

const char *
ring_digest(const struct ring_batch *b, uint32_t index)
{
	return b->descriptors.s + (size_t)index * RING_DESCRIPTOR + 4;
}

static void
pack_header(char h[FIXED], const struct ring *r, const struct batch *b)
{
	memcpy(h, magic, sizeof magic);
	memcpy(h + AT_ID, r->id, RING_ID);
	uint64_pack_big(h + AT_NUMBER, b->number);
	uint32_pack_big(h + AT_BLOCK, b->block);
	uint32_pack_big(h + AT_BLOCKS, b->blocks);
	uint32_pack_big(h + AT_RECORDS, b->records);
	uint32_pack_big(h + AT_TAIL_BLOCK, b->tail_block);
	uint64_pack_big(h + AT_TAIL, b->tail);
	uint64_pack_big(h + AT_LIMIT, b->limit);
	uint64_pack_big(h + AT_TIME, b->time);
}

/* The batch's octets, padded to whole blocks. */
static int
compose(stralloc *out, const struct ring *r, const struct ring_batch *b, const struct batch *header)
{
	size_t whole = (size_t)header->blocks * RING_BLOCK;
	char digest[QUEUE_KEYED_DIGEST];

	if (!stralloc_ready(out, whole))
		return 0;
	pack_header(out->s, r, header);
	out->len = FIXED;
	stralloc_catb(out, b->descriptors.s, b->descriptors.len);
	digest_keyed(digest, r->id, out->s, out->len);
	stralloc_catb(out, digest, sizeof digest);
	stralloc_catb(out, b->payload.s, b->payload.len);
	memset(out->s + out->len, 0, whole - out->len);
	out->len = whole;
	return 1;
}

int
ring_write(struct ring *r, const struct ring_batch *b, uint64_t tail, uint32_t tail_block, uint64_t limit, uint64_t now)
{
	struct batch header = {
		.number = r->next, .tail = tail ? tail : r->next, .limit = limit, .time = now, .block = r->head,
		.blocks = ring_batch_blocks(b, 0), .records = b->records, .tail_block = tail ? tail_block : r->head,
	};
	stralloc out = STRALLOC_ZERO;
	int ok;

	if (!compose(&out, r, b, &header)) {
		errno = ENOMEM;
		return 0;
	}
	ok = write_around(r, out.s, out.len, (uint64_t)r->head * RING_BLOCK) && fdatasync(r->fd) == 0;
	if (ok) {
		r->next++;
		r->head = (r->head + header.blocks) % ring_blocks(r);
		r->tail = header.tail;
		r->tail_block = header.tail_block;
		r->limit = limit;
		r->written_at = now;
	}
	stralloc_free(&out);
	return ok;
}

void
ring_batch_clear(struct ring_batch *b)
{
	b->descriptors.len = b->payload.len = 0;
	b->records = 0;
}

uint32_t
ring_blocks(const struct ring *r)
{
	return (uint32_t)(r->size / RING_BLOCK);
}

uint32_t
ring_used(const struct ring *r)
{
	uint32_t used = (r->head + ring_blocks(r) - r->tail_block) % ring_blocks(r);

	/* the last flushed batch is always needed, so head on tail_block means full, never empty */
	return used ? used : ring_blocks(r);
}

static int
write_zeros(int fd, uint64_t size)
{
	static const char zeros[65536];

	for (uint64_t at = 0; at < size; at += sizeof zeros)
		if (allwrite(fd, zeros, sizeof zeros) < sizeof zeros)
			return 0;
	return fsync(fd) == 0;
}

int
ring_create(uint64_t size, uint64_t batch, uint64_t limit)
{
	struct ring r = { .size = size, .next = batch };
	struct ring_batch empty = { .records = 0 };
	char path[RING_PATH_MAX], temporary[RING_PATH_MAX];
	int ok;

	if (getrandom(r.id, sizeof r.id, 0) != sizeof r.id)
		return 0;
	make_path(temporary, "queue/new", r.id);
	make_path(path, QUEUE_RING_DIR, r.id);
	r.fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (r.fd < 0)
		return 0;
	ok = write_zeros(r.fd, size) && ring_write(&r, &empty, 0, 0, limit, (uint64_t)time(NULL)) && fsync(r.fd) == 0 &&
	    rename(temporary, path) == 0 && sync_dir(QUEUE_RING_DIR) && sync_dir("queue/new");
	if (!ok) {
		int e = errno;

		unlink(temporary);
		errno = e;
	}
	close(r.fd);
	return ok;
}

/* --- reading -------------------------------------------------------------------- */

int
ring_read(int fd, uint64_t size, uint64_t offset, char *s, size_t len)
{
	while (len) {
		size_t n = len < size - offset ? len : (size_t)(size - offset);
		ssize_t r = pread(fd, s, n, (off_t)offset);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			errno = r < 0 ? errno : EPROTO;
			return 0;
		}
		s += r;
		len -= (size_t)r;
		offset = (offset + (uint64_t)r) % size;
	}
	return 1;
}

/* What was not read: a flag for each block (NULL: all was), and the errno of the last one. */
struct unread {
	unsigned char *blocks;
	int error;
};

/* Reads len octets, whole blocks, at offset `at` of the ring to the same place of s. Returns 1, or 0 (ENOMEM). */
static int
read_piece(const struct ring *r, int fd, char *s, uint64_t at, size_t len, struct unread *u)
{
	if (ring_read(fd, r->size, at, s + at, len))
		return 1;
	/* block by block: what lies beside a bad one counts, and what failed once may be read now */
	for (; len; at += RING_BLOCK, len -= RING_BLOCK) {
		if (ring_read(fd, r->size, at, s + at, RING_BLOCK))
			continue;
		u->error = errno;
		if (!u->blocks && !(u->blocks = calloc(ring_blocks(r), 1)))
			return 0;
		u->blocks[at / RING_BLOCK] = 1;
		memset(s + at, 0, RING_BLOCK);
	}
	return 1;
}

/* Reads the ring as the disk has it: what the page cache holds may never have reached it. Returns 1, or 0 (ENOMEM). */
static int
read_from_disk(const struct ring *r, const char *path, char *s, struct unread *u)
{
	int fd, direct, ok = 1;

	fdatasync(r->fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	direct = fd >= 0;
	if (!direct) {	/* a file system without O_DIRECT */
		posix_fadvise(r->fd, 0, 0, POSIX_FADV_DONTNEED);
		fd = r->fd;
	}
	for (uint64_t at = 0; ok && at < r->size; at += READ_PIECE)
		ok = read_piece(r, fd, s, at, r->size - at < READ_PIECE ? (size_t)(r->size - at) : READ_PIECE, u);
	if (direct)
		close(fd);
	return ok;
}

/* Whether what was not read may be needed: it lies between the tail and where a batch behind the last one would end. Such a batch, or the
 * end of the last, was acknowledged for all that is known. */
static int
lacks_what_counts(const struct ring *r, const struct unread *u)
{
	uint32_t blocks = ring_blocks(r), span = ring_used(r) + blocks / 8;

	for (uint32_t i = 0; u->blocks && i < span && i < blocks; i++)
		if (u->blocks[(r->tail_block + i) % blocks])
			return 1;
	return 0;
}

/* 1 and fills *b if a batch's header stands at block. s: the ring, its start repeated behind its end. */
static int
parse_header(struct batch *b, const struct ring *r, const char *s, uint32_t block)
{
	uint64_t octets;

	b->s = s + (uint64_t)block * RING_BLOCK;
	if (memcmp(b->s, magic, sizeof magic) || memcmp(b->s + AT_ID, r->id, RING_ID))
		return 0;
	uint64_unpack_big(b->s + AT_NUMBER, &b->number);
	uint32_unpack_big(b->s + AT_BLOCK, &b->block);
	uint32_unpack_big(b->s + AT_BLOCKS, &b->blocks);
	uint32_unpack_big(b->s + AT_RECORDS, &b->records);
	uint32_unpack_big(b->s + AT_TAIL_BLOCK, &b->tail_block);
	uint64_unpack_big(b->s + AT_TAIL, &b->tail);
	uint64_unpack_big(b->s + AT_LIMIT, &b->limit);
	uint64_unpack_big(b->s + AT_TIME, &b->time);
	octets = FIXED + (uint64_t)b->records * RING_DESCRIPTOR;
	if (b->block != block || !b->number || !b->tail || b->tail > b->number || b->tail_block >= ring_blocks(r) ||
	    b->blocks > ring_blocks(r) / 8 || octets + QUEUE_KEYED_DIGEST > (uint64_t)b->blocks * RING_BLOCK)
		return 0;
	return digest_keyed_is(b->s + octets, r->id, b->s, octets);
}

/* Calls each for the records of b; returns 1 if all their digests are right (each NULL) or all calls returned 1. */
static int
each_record(const struct ring *r, const struct batch *b, const struct ring_listener *l)
{
	const char *descriptor = b->s + FIXED;
	const char *record = descriptor + (size_t)b->records * RING_DESCRIPTOR + QUEUE_KEYED_DIGEST;
	const char *end = b->s + (uint64_t)b->blocks * RING_BLOCK;

	for (uint32_t i = 0; i < b->records; i++, descriptor += RING_DESCRIPTOR) {
		uint32_t len;
		uint64_t offset = ((uint64_t)b->block * RING_BLOCK + (uint64_t)(record - b->s)) % r->size;

		uint32_unpack_big(descriptor, &len);
		if (len > (size_t)(end - record))
			return 0;
		if (l ? !l->record(l->data, b->number, offset, record, len, descriptor + 4) :
		    !digest_keyed_is(descriptor + 4, r->id, record, len))
			return 0;
		record += len;
	}
	return 1;
}

static int
by_number(const void *a, const void *b)
{
	const struct batch *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* Adds b to the len in all, which has room for as many as a power of two. 1, or 0 (ENOMEM). */
static int
add_header(struct batch **all, size_t len, const struct batch *b)
{
	if (!len || (len & (len - 1)) == 0) {
		struct batch *more = realloc(*all, (len ? 2 * len : 1) * sizeof *more);

		if (!more)
			return 0;
		*all = more;
	}
	(*all)[len] = *b;
	return 1;
}

/* All headers in the ring, in order of their numbers; the caller frees *all. How many, or -1 (ENOMEM). */
static ssize_t
find_headers(struct batch **all, const struct ring *r, const char *s)
{
	size_t n = 0;

	*all = NULL;
	for (uint32_t block = 0; block < ring_blocks(r); block++) {
		struct batch b;

		if (!parse_header(&b, r, s, block))
			continue;
		if (!add_header(all, n, &b)) {
			free(*all);
			return -1;
		}
		n++;
	}
	if (n)
		qsort(*all, n, sizeof **all, by_number);
	return (ssize_t)n;
}

/* Says the batches expected..before, which lie between octet `from` and block `to`. s: the ring. */
static int
say_missing(const struct ring *r, const char *s, const struct ring_listener *l, uint64_t expected, uint64_t before,
    uint32_t from, uint32_t to)
{
	size_t blocks = (to + ring_blocks(r) - from) % ring_blocks(r);
	size_t most = ring_blocks(r) / 8;	/* as much as lies in one piece of memory */

	for (; expected < before; expected++)
		if (!l->missing(l->data, expected, s + (size_t)from * RING_BLOCK,
		    (blocks < most ? blocks : most) * RING_BLOCK))
			return 0;
	return 1;
}

/* Tells the listener about the batches from tail on; last is the newest whole one. */
static int
replay(const struct ring *r, const char *s, const struct batch *all, const struct batch *last,
    const struct ring_listener *l)
{
	uint64_t expected = last->tail;
	uint32_t block = last->tail_block;

	for (const struct batch *b = all; b <= last; b++) {
		/* of an older turn of the ring, or torn: its blocks are written over in part */
		if (b->number < expected || (b != last && !each_record(r, b, NULL)))
			continue;
		if (!say_missing(r, s, l, expected, b->number, block, b->block) ||
		    !l->batch(l->data, b->number, b->block, b->blocks) || !each_record(r, b, l))
			return 0;
		expected = b->number + 1;
		block = (b->block + b->blocks) % ring_blocks(r);
	}
	return 1;
}

static int
understand(struct ring *r, const char *s, const struct unread *u, const struct ring_listener *l)
{
	struct batch *all;
	ssize_t n = find_headers(&all, r, s);
	const struct batch *last;
	int ok;

	if (n < 0) {
		errno = ENOMEM;
		return 0;
	}
	/* a batch that is not whole was never acknowledged if it is the newest */
	while (n > 0 && !each_record(r, &all[n - 1], NULL))
		n--;
	if (n == 0) {
		free(all);
		errno = u->blocks ? u->error : EPROTO;
		return 0;
	}
	last = &all[n - 1];
	r->next = last->number + 1;
	r->head = (last->block + last->blocks) % ring_blocks(r);
	r->tail = last->tail;
	r->tail_block = last->tail_block;
	r->limit = last->limit;
	r->written_at = last->time;
	ok = !lacks_what_counts(r, u);
	if (ok)
		ok = replay(r, s, all, last, l);
	else
		errno = u->error;
	free(all);
	return ok;
}

int
ring_open(struct ring *r, const char *path, const char id[RING_ID], const struct ring_listener *l)
{
	struct unread unread = { NULL, 0 };
	struct stat st;
	size_t again, map;
	char *s;
	int ok, e;

	*r = (struct ring){ .fd = open(path, O_RDWR | O_CLOEXEC) };
	memcpy(r->id, id, RING_ID);
	if (r->fd < 0)
		return 0;
	if (fstat(r->fd, &st) < 0 || st.st_size < RING_SIZE_MIN || st.st_size % RING_BLOCK || st.st_size > UINT32_MAX) {
		ring_close(r);
		errno = EPROTO;
		return 0;
	}
	r->size = (uint64_t)st.st_size;
	again = (size_t)(r->size / 8);
	map = (size_t)r->size + again;
	s = mmap(NULL, map, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ok = s != MAP_FAILED;
	if (ok) {
		madvise(s, map, MADV_HUGEPAGE);	/* a page fault for each page takes longer than reading; without huge pages it takes that */
		ok = read_from_disk(r, path, s, &unread);
		memcpy(s + r->size, s, again);
		ok = ok && understand(r, s, &unread, l);
	}
	e = errno;
	if (s != MAP_FAILED)
		munmap(s, map);
	free(unread.blocks);
	if (!ok)
		ring_close(r);
	errno = e;
	return ok;
}

void
ring_close(struct ring *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}
