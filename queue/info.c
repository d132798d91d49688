#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue/digest.h"
#include "queue/envelope.h"
#include "queue/info.h"
#include "stralloc_set.h"

static const char magic[] = "tambo info 1\n";
enum {
	MAGIC = sizeof magic - 1,
	HEADER = MAGIC + 8 + 8 + 8 + 4 + 4 + 1 + QUEUE_DIGEST + 4 + 4,
	INFO_FILE_MAX = 1 << 30,	/* octets; a million recipients that all failed with the longest text are cut off */
};

void
info_outcome_next(struct info_outcome *o, const char **at)
{
	uint32_unpack_big(*at, &o->recipient);
	o->result = (*at)[4];
	uint32_unpack_big(*at + 5, &o->text_len);
	o->text = *at + INFO_OUTCOME_HEADER;
	*at = o->text + o->text_len;
}

int
info_outcome_put(stralloc *outcomes, const struct info_outcome *o)
{
	char header[INFO_OUTCOME_HEADER];

	uint32_pack_big(header, o->recipient);
	header[4] = o->result;
	uint32_pack_big(header + 5, o->text_len);
	return stralloc_catb(outcomes, header, sizeof header) && stralloc_catb(outcomes, o->text, o->text_len);
}

int
info_encode(stralloc *file, const struct info *info, size_t outcomes_size)
{
	char h[HEADER], digest[QUEUE_DIGEST];

	memcpy(h, magic, MAGIC);
	uint64_pack_big(h + MAGIC, info->number);
	uint64_pack_big(h + MAGIC + 8, info->birth);
	uint64_pack_big(h + MAGIC + 16, info->size);
	uint32_pack_big(h + MAGIC + 24, info->uid);
	uint32_pack_big(h + MAGIC + 28, info->recipients);
	h[MAGIC + 32] = (char)info->tried;
	memcpy(h + MAGIC + 33, info->digest, QUEUE_DIGEST);
	uint32_pack_big(h + HEADER - 8, info->envelope_len);
	uint32_pack_big(h + HEADER - 4, info->outcomes_len);
	if (!stralloc_setb(file, h, sizeof h) || !stralloc_catb(file, info->envelope, info->envelope_len) ||
	    !stralloc_catb(file, info->outcomes, outcomes_size))
		return 0;
	digest_of(digest, file->s, file->len);
	return stralloc_catb(file, digest, sizeof digest);
}

/* 1 if the outcomes fill the octets from s to end exactly. */
static int
outcomes_fit(const struct info *info, const char *s, const char *end)
{
	struct info_outcome o;

	for (uint32_t i = 0; i < info->outcomes_len; i++) {
		uint32_t text_len;

		if (end - s < INFO_OUTCOME_HEADER)
			return 0;
		uint32_unpack_big(s + 5, &text_len);
		if (text_len > (size_t)(end - s) - INFO_OUTCOME_HEADER)
			return 0;
		info_outcome_next(&o, &s);
	}
	return s == end;
}

int
info_decode(struct info *info, const char *s, size_t len)
{
	struct envelope_check check = { .state = ENVELOPE_START };
	size_t used;

	if (len < HEADER + QUEUE_DIGEST || memcmp(s, magic, MAGIC) || !digest_is(s + len - QUEUE_DIGEST, s,
	    len - QUEUE_DIGEST))
		return 0;
	len -= QUEUE_DIGEST;
	uint64_unpack_big(s + MAGIC, &info->number);
	uint64_unpack_big(s + MAGIC + 8, &info->birth);
	uint64_unpack_big(s + MAGIC + 16, &info->size);
	uint32_unpack_big(s + MAGIC + 24, &info->uid);
	uint32_unpack_big(s + MAGIC + 28, &info->recipients);
	info->tried = (uint8_t)s[MAGIC + 32];
	memcpy(info->digest, s + MAGIC + 33, QUEUE_DIGEST);
	uint32_unpack_big(s + HEADER - 8, &info->envelope_len);
	uint32_unpack_big(s + HEADER - 4, &info->outcomes_len);
	info->envelope = s + HEADER;
	if (info->envelope_len > len - HEADER)
		return 0;
	info->outcomes = info->envelope + info->envelope_len;
	if (envelope_check(&check, info->envelope, info->envelope_len, &used) || check.state != ENVELOPE_COMPLETE ||
	    used != info->envelope_len || check.recipients != info->recipients)
		return 0;
	return outcomes_fit(info, info->outcomes, s + len);
}

int
info_open_file(const char *path, uint64_t *size)
{
	/* a FIFO is refused, not waited for */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), e = EPROTO;
	struct stat st;

	if (fd < 0) {
		if (errno == ELOOP || errno == ENXIO)
			errno = EPROTO;
		return -1;
	}
	if (fstat(fd, &st) < 0)
		e = errno;
	else if (S_ISREG(st.st_mode)) {
		*size = (uint64_t)st.st_size;
		return fd;
	}
	close(fd);
	errno = e;
	return -1;
}

int
info_read(struct info *info, stralloc *file, uint64_t number)
{
	char path[INFO_PATH_MAX];
	uint64_t size;
	int fd, e = 0;

	info_path(path, "info", number);
	fd = info_open_file(path, &size);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (size > INFO_FILE_MAX)
		e = EPROTO;
	else if (!stralloc_ready(file, size + 1))
		e = ENOMEM;
	else {
		errno = EPROTO;
		file->len = allread(fd, file->s, size);
		if (file->len < size)
			e = errno == EPIPE ? EPROTO : errno;
		else if (!info_decode(info, file->s, file->len) || info->number != number)
			e = EPROTO;
	}
	close(fd);
	errno = e;
	return e ? -1 : 1;
}

void
info_path(char path[INFO_PATH_MAX], const char *kind, uint64_t number)
{
	snprintf(path, INFO_PATH_MAX, "queue/%s/%u/%" PRIu64, kind, (unsigned int)(number % QUEUE_SPLIT), number);
}

void
info_folder(char path[INFO_PATH_MAX], const char *kind, uint64_t number)
{
	snprintf(path, INFO_PATH_MAX, "queue/%s/%u", kind, (unsigned int)(number % QUEUE_SPLIT));
}

void
info_temporary(char path[INFO_PATH_MAX], const char *kind, uint64_t number)
{
	snprintf(path, INFO_PATH_MAX, "queue/new/%s.%" PRIu64, kind, number);
}

uint64_t
info_name(const char *name)
{
	uint64_t n = 0;

	if (*name == '0')
		return 0;
	for (; *name; name++) {
		if (*name < '0' || *name > '9' || n > UINT64_MAX / 10 - 1)
			return 0;
		n = n * 10 + (uint64_t)(*name - '0');
	}
	return n;
}
