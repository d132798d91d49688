/* A writer: a child of the keeper that makes and removes files. It takes the jobs that are there together, so that the
 * flush of a folder serves many. The order of steps is rule 6 of queue/README.md. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue/digest.h"
#include "queue/reader.h"
#include "keeper.h"
#include "stralloc_set.h"

struct job {
	enum writer_job type;
	uint64_t number;
	uint8_t tried;
	struct queue_place place;
	uint32_t outcomes_len;
	const char *outcomes;	/* packed: offset (8), octets (4) */
	int error;		/* errno, 0: well so far */
};

struct batch {
	const struct ring *ring;
	stralloc frames;	/* the payloads that jobs point into */
	struct job jobs[WRITER_BATCH];
	unsigned int len;
};

/* --- files ------------------------------------------------------------------------------- */

int
writer_sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int e = 0;

	if (fd < 0)
		return 0;
	if (fsync(fd) < 0)
		e = errno;
	close(fd);
	errno = e;
	return !e;
}

int
writer_make_file(const char *path, const char *s, size_t len)
{
	int fd, e;

	/* never the old file again: after a failed flush the next one would succeed and write nothing */
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0)
		return 0;
	e = allwrite(fd, s, len) == len && fsync(fd) == 0 ? 0 : errno;
	close(fd);
	if (e)
		unlink(path);
	errno = e;
	return !e;
}

/* --- making ------------------------------------------------------------------------------- */

/* Adds the outcomes that are records in the ring to those in info. */
static int
merge_outcomes(const struct batch *b, const struct job *j, struct info *info, stralloc *outcomes)
{
	stralloc record = STRALLOC_ZERO;
	const char *at = j->outcomes;
	int ok = 1;

	for (uint32_t i = 0; ok && i < j->outcomes_len; i++, at += 12) {
		struct record r;
		uint64_t offset;
		uint32_t len;

		uint64_unpack_big(at, &offset);
		uint32_unpack_big(at + 8, &len);
		ok = stralloc_ready(&record, len + 1) && ring_read(b->ring->fd, b->ring->size, offset, record.s, len);
		if (!ok)
			break;
		errno = EIO;
		ok = record_parse(&r, record.s, len) && r.type == RECORD_OUTCOME && r.number == j->number &&
		    info_outcome_put(outcomes, &(struct info_outcome){ .recipient = r.recipient, .result = r.result,
		    .text = r.text, .text_len = (uint32_t)r.text_len });
		info->outcomes_len += ok ? 1u : 0u;
	}
	stralloc_free(&record);
	return ok;
}

static int
make_info(const struct batch *b, const struct job *j, struct info *info, size_t old_outcomes)
{
	stralloc outcomes = STRALLOC_ZERO, file = STRALLOC_ZERO;
	char path[INFO_PATH_MAX];
	int ok;

	info_temporary(path, "info", j->number);
	errno = ENOMEM;
	ok = stralloc_setb(&outcomes, info->outcomes, old_outcomes) && merge_outcomes(b, j, info, &outcomes);
	info->outcomes = outcomes.s ? outcomes.s : "";
	ok = ok && info_encode(&file, info, outcomes.len) && writer_make_file(path, file.s, file.len);
	stralloc_free(&outcomes);
	stralloc_free(&file);
	return ok;
}

/* Both files of a message in the ring, flushed, in queue/new/. */
static void
make_both(const struct batch *b, struct job *j)
{
	struct reader reader = reader_of(b->ring);
	stralloc octets = STRALLOC_ZERO;
	struct record r;
	struct info info;
	char path[INFO_PATH_MAX];
	uint32_t at;
	enum reader_result got = reader_ring(&reader, j->number, &j->place, &octets, &at);

	if (got != READER_OK) {
		j->error = got == READER_MISFIT ? EBADMSG : errno;
		stralloc_free(&octets);
		return;
	}
	record_parse(&r, octets.s, octets.len);
	info = (struct info){ .number = j->number, .birth = r.birth, .size = r.message_len, .uid = r.uid,
	    .recipients = r.recipients, .tried = j->tried, .envelope = r.envelope, .envelope_len = r.envelope_len,
	    .outcomes = "" };
	digest_of(info.digest, r.message, r.message_len);
	info_temporary(path, "mess", j->number);
	if (!writer_make_file(path, r.message, r.message_len) || !make_info(b, j, &info, 0))
		j->error = errno;
	stralloc_free(&octets);
}

/* A new info for a message that has files: the old one and what came after it. */
static void
make_newer_info(const struct batch *b, struct job *j)
{
	stralloc file = STRALLOC_ZERO;
	struct info info;
	int r = info_read(&info, &file, j->number);

	if (r != 1)
		j->error = r == 0 || errno == EPROTO ? EBADMSG : errno;
	else {
		if (j->tried)
			info.tried = 1;
		if (!make_info(b, j, &info, (size_t)(file.s + file.len - QUEUE_DIGEST - info.outcomes)))
			j->error = errno;
	}
	stralloc_free(&file);
}

/* --- common steps -------------------------------------------------------------------------- */

static int
is_making(const struct job *j)
{
	return !j->error && (j->type == WRITER_MOVE || j->type == WRITER_INFO);
}

/* Flushes the folders of kind of all jobs that wanted says; a failure is one of each job in that folder. */
static void
sync_folders(struct batch *b, const char *kind, int (*wanted)(const struct job *))
{
	char done[QUEUE_SPLIT] = { 0 };

	for (unsigned int i = 0; i < b->len; i++) {
		unsigned int folder = (unsigned int)(b->jobs[i].number % QUEUE_SPLIT);
		char path[INFO_PATH_MAX];

		if (!wanted(&b->jobs[i]) || done[folder])
			continue;
		done[folder] = 1;
		info_folder(path, kind, b->jobs[i].number);
		if (writer_sync_dir(path))
			continue;
		for (unsigned int n = 0; n < b->len; n++)
			if (wanted(&b->jobs[n]) && b->jobs[n].number % QUEUE_SPLIT == folder)
				b->jobs[n].error = errno;
	}
}

static void
put_in_place(struct job *j, const char *kind)
{
	char from[INFO_PATH_MAX], to[INFO_PATH_MAX];

	info_temporary(from, kind, j->number);
	info_path(to, kind, j->number);
	if (rename(from, to) < 0)
		j->error = errno;
}

static int
is_move(const struct job *j)
{
	return is_making(j) && j->type == WRITER_MOVE;
}

static int
is_unlink(const struct job *j)
{
	return !j->error && j->type == WRITER_UNLINK;
}

static void
remove_file(struct job *j, const char *kind)
{
	char path[INFO_PATH_MAX];

	info_path(path, kind, j->number);
	if (unlink(path) < 0 && errno != ENOENT)
		j->error = errno;
}

/* Of a child that was making a large message and was killed, or gave up: nobody was told of it, so no flush. */
static void
remove_temporary(const struct job *j, const char *kind)
{
	char path[INFO_PATH_MAX];

	info_temporary(path, kind, j->number);
	unlink(path);
}

static void
make_all(struct batch *b)
{
	for (unsigned int i = 0; i < b->len; i++) {
		if (b->jobs[i].type == WRITER_MOVE)
			make_both(b, &b->jobs[i]);
		else if (b->jobs[i].type == WRITER_INFO)
			make_newer_info(b, &b->jobs[i]);
	}
	for (unsigned int i = 0; i < b->len; i++)
		if (is_move(&b->jobs[i]))
			put_in_place(&b->jobs[i], "mess");
	sync_folders(b, "mess", is_move);
	for (unsigned int i = 0; i < b->len; i++)
		if (is_making(&b->jobs[i]))
			put_in_place(&b->jobs[i], "info");
	sync_folders(b, "info", is_making);
}

static void
unlink_all(struct batch *b)
{
	for (unsigned int i = 0; i < b->len; i++)
		if (is_unlink(&b->jobs[i])) {
			remove_file(&b->jobs[i], "info");
			remove_temporary(&b->jobs[i], "info");
			remove_temporary(&b->jobs[i], "mess");
		}
	sync_folders(b, "info", is_unlink);
	for (unsigned int i = 0; i < b->len; i++)
		if (is_unlink(&b->jobs[i]))
			remove_file(&b->jobs[i], "mess");
}

/* --- damage ------------------------------------------------------------------------------ */

/* A record of the ring that cannot be read is kept for people to look at. */
static void
look_at_record(const struct batch *b, struct job *j)
{
	struct reader reader = reader_of(b->ring);
	stralloc octets = STRALLOC_ZERO;
	char path[INFO_PATH_MAX];
	uint32_t at;
	enum reader_result r = reader_ring(&reader, j->number, &j->place, &octets, &at);

	if (r == READER_ERROR)
		j->error = errno;
	else if (r == READER_MISFIT) {
		snprintf(path, sizeof path, "queue/damaged/%llu.record", (unsigned long long)j->number);
		j->error = writer_make_file(path, octets.s, octets.len) && writer_sync_dir("queue/damaged") ? EBADMSG : errno;
	}
	stralloc_free(&octets);
}

static int
files_are_whole(uint64_t number)
{
	struct reader_check *check = NULL;
	char digest[QUEUE_DIGEST];
	uint64_t size;
	int fd, r = (int)reader_file(number, &fd, &size, digest);

	if (r != READER_OK)
		return r;
	check = reader_check_new(fd, size, digest);
	r = READER_ERROR;
	if (check)
		while ((r = reader_check_slice(check, 1 << 20)) == 2)
			;
	reader_check_free(check);
	close(fd);
	return r;
}

static void
look_at_files(struct job *j)
{
	static const char kinds[2][5] = { "info", "mess" };
	int r = files_are_whole(j->number);

	if (r == READER_ERROR)
		j->error = errno;
	if (r != READER_MISFIT)
		return;
	j->error = EBADMSG;
	for (int i = 0; i < 2; i++) {
		char from[INFO_PATH_MAX], to[INFO_PATH_MAX];

		info_path(from, kinds[i], j->number);
		snprintf(to, sizeof to, "queue/damaged/%llu.%s", (unsigned long long)j->number, kinds[i]);
		if (rename(from, to) < 0 && errno != ENOENT)
			j->error = errno;
		info_folder(from, kinds[i], j->number);
		if (!writer_sync_dir("queue/damaged") || !writer_sync_dir(from))
			j->error = errno;
	}
}

/* --- the loop ----------------------------------------------------------------------------- */

static void
take_job(struct batch *b, const struct channel_frame *f, size_t at)
{
	struct job *j = &b->jobs[b->len++];
	const char *s = b->frames.s + at;

	*j = (struct job){ .type = (enum writer_job)f->type, .tried = (uint8_t)s[8] };
	uint64_unpack_big(s, &j->number);
	queue_place_unpack(&j->place, s + 9);
	if (j->type == WRITER_MOVE || j->type == WRITER_INFO) {
		uint32_unpack_big(s + 9 + QUEUE_PLACE_PACK, &j->outcomes_len);
		j->outcomes = s + 9 + QUEUE_PLACE_PACK + 4;
	}
}

/* Copies the jobs that are there: a frame's octets do not outlast the next read. */
static void
gather(struct batch *b, struct channel *keeper)
{
	struct channel_frame f[WRITER_BATCH];
	size_t at[WRITER_BATCH];
	unsigned int n = 0;

	b->len = 0;
	b->frames.len = 0;
	while (n < WRITER_BATCH && channel_next(keeper, &f[n]) == 1) {
		at[n] = b->frames.len;
		if (!stralloc_catb(&b->frames, f[n].s, f[n].len))
			_exit(1);	/* the keeper gives its jobs to the next writer */
		n++;
	}
	for (unsigned int i = 0; i < n; i++)
		take_job(b, &f[i], at[i]);
}

static void
report(const struct batch *b, struct channel *keeper)
{
	for (unsigned int i = 0; i < b->len; i++) {
		char payload[12];

		uint64_pack_big(payload, b->jobs[i].number);
		uint32_pack_big(payload + 8, (uint32_t)b->jobs[i].error);
		if (!channel_put1(keeper, WRITER_REPORT, payload, sizeof payload))
			_exit(1);
	}
	if (channel_flush(keeper) < 0)
		_exit(0);
}

void
writer_run(struct channel *keeper, const struct ring *ring)
{
	struct batch b = { .ring = ring };

	for (;;) {
		gather(&b, keeper);
		if (!b.len) {
			if (channel_receive(keeper) < 0)
				_exit(0);
			continue;
		}
		make_all(&b);
		unlink_all(&b);
		for (unsigned int i = 0; i < b.len; i++) {
			if (b.jobs[i].type == WRITER_ASIDE)
				look_at_record(&b, &b.jobs[i]);
			else if (b.jobs[i].type == WRITER_VERIFY)
				look_at_files(&b.jobs[i]);
		}
		report(&b, keeper);
	}
}
