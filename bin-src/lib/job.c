#include <errno.h>
#include <string.h>
#include <strings.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "job.h"

enum { JOB_HEADER = 16 };	/* id, number of strings, message size */

int
job_parse(struct job *job, struct channel *c, const struct channel_frame *f)
{
	size_t at = JOB_HEADER;

	if ((f->type != JOB && f->type != JOB_FILE) || f->len < JOB_HEADER)
		return 0;
	uint32_unpack_big(f->s, &job->id);
	uint32_unpack_big(f->s + 4, &job->strings_len);
	uint64_unpack_big(f->s + 8, &job->size);
	job->strings = f->s + at;
	for (uint32_t i = 0; i < job->strings_len; i++) {
		const char *nul = memchr(f->s + at, '\0', f->len - at);

		if (!nul)
			return 0;
		at = (size_t)(nul + 1 - f->s);
	}
	job->message = f->type == JOB ? f->s + at : NULL;
	job->fd = -1;
	if (f->type == JOB)
		return f->len - at == job->size;
	if (f->len != at)
		return 0;
	return (job->fd = channel_take_fd(c)) >= 0;
}

const char *
job_string(const struct job *job, uint32_t n)
{
	const char *s = job->strings;

	if (n >= job->strings_len)
		return NULL;
	while (n--)
		s += strlen(s) + 1;
	return s;
}

uint32_t
job_remote_recipients(const struct job *job)
{
	uint32_t n = job->strings_len - JOB_REMOTE_FIRST_RECIPIENT;

	if (job->strings_len <= JOB_REMOTE_FIRST_RECIPIENT || n % 2 || n / 2 > JOB_RECIPIENTS_MAX)
		return 0;
	return n / 2;
}

uint32_t
job_remote_recipient(uint32_t n)
{
	return JOB_REMOTE_FIRST_RECIPIENT + 2 * n;
}

static const char *
domain_of(const char *address)
{
	const char *at = strrchr(address, '@');

	return at ? at + 1 : "";
}

void
job_remote_take(const struct job *job, struct job_recipient to[JOB_RECIPIENTS_MAX])
{
	const char *host = job_string(job, JOB_REMOTE_HOST), *s = host, *first = NULL;

	for (uint32_t n = job_remote_recipients(job); n; n--, to++) {
		const char *domain;

		to->address = s + strlen(s) + 1;
		to->parameters = s = to->address + strlen(to->address) + 1;
		domain = domain_of(to->address);
		if (!first)
			first = domain;
		to->host = !*domain || strcasecmp(domain, first) == 0 ? host : domain;
	}
}

int
job_put(struct channel *c, uint32_t id, const char *strings, uint32_t strings_len, size_t strings_size,
    uint64_t size, const char *message, int fd)
{
	char header[JOB_HEADER];
	struct iovec v[3] = {
		{ .iov_base = header, .iov_len = sizeof header },
		{ .iov_base = (void *)(uintptr_t)strings, .iov_len = strings_size },
		{ .iov_base = (void *)(uintptr_t)message, .iov_len = message ? (size_t)size : 0 },
	};
	char file[JOB_HEADER + JOB_STRINGS_MAX];

	if (strings_size > JOB_STRINGS_MAX) {
		errno = EMSGSIZE;
		return 0;
	}
	uint32_pack_big(header, id);
	uint32_pack_big(header + 4, strings_len);
	uint64_pack_big(header + 8, size);
	if (message)
		return channel_put(c, JOB, v, 3);
	memcpy(file, header, sizeof header);
	memcpy(file + sizeof header, strings, strings_size);
	return channel_put_fd(c, JOB_FILE, file, sizeof header + strings_size, fd);
}

int
job_answer(struct channel *c, uint32_t id, uint32_t recipient, char letter, const char *text, size_t len)
{
	char header[9];
	struct iovec v[2] = {
		{ .iov_base = header, .iov_len = sizeof header },
		{ .iov_base = (void *)(uintptr_t)text, .iov_len = len > JOB_TEXT_MAX ? JOB_TEXT_MAX : len },
	};

	uint32_pack_big(header, id);
	uint32_pack_big(header + 4, recipient);
	header[8] = letter;
	return channel_put(c, JOB_DONE, v, 2);
}
