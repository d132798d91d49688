/* What a submission server makes of a message of any octets, and whose it takes it for. */
#include <assert.h>
#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include "bin-src/smtpd/completion.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* A message that was completed, and what was found of its author. */
static struct made {
	char octets[16384];
	size_t len;
	enum submission_answer answer;
} whole, pieces;

static void
put(void *data, const char *s, size_t len)
{
	struct made *m = data;

	assert(len && m->len + len < sizeof m->octets);
	memcpy(m->octets + m->len, s, len);
	m->len += len;
}

static enum submission_answer
owner(void *data, const char *address)
{
	(void)data;
	assert(*address && strlen(address) <= AUTHOR_ADDRESS_MAX);
	return strcmp(address, "a@x.test") == 0 ? SUBMISSION_YES : SUBMISSION_NO;
}

static void
make(struct made *m, const char *s, size_t len, size_t step)
{
	struct author author = { .from = { .count = 0 } };
	struct completion c = { .put = put, .data = m, .time = 1, .serial = 1, .host = "x.test", .host_len = 6, .author = &author };

	m->len = 0;
	for (size_t i = 0; i < len; i += step)
		completion_take(&c, s + i, len - i < step ? len - i : step);
	completion_finish(&c);
	assert(!c.has_no_memory && author.from.body.len <= AUTHOR_OCTETS && author.sender.body.len <= AUTHOR_OCTETS);
	m->octets[m->len] = '\0';
	m->answer = author_judge(&author, 0, owner, NULL);
	author_free(&author);
}

/* How many fields of this name a reader of the message sees. */
static unsigned int
fields(const struct made *m, const char *name)
{
	const char *s = m->octets, *end = s + m->len;
	size_t len = strlen(name);
	unsigned int n = 0;

	while (s < end && *s != '\n') {
		const char *lf = memchr(s, '\n', (size_t)(end - s)), *colon = s + len;

		if ((size_t)(end - s) > len && strncasecmp(s, name, len) == 0) {
			while (isblank((unsigned char)*colon))
				colon++;
			n += *colon == ':';
		}
		s = lf ? lf + 1 : end;
	}
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	const char *s = (const char *)octets;

	if (len > 8000)
		return 0;
	make(&whole, s, len, len + 1);
	make(&pieces, s, len, 1);
	assert(whole.len == pieces.len && memcmp(whole.octets, pieces.octets, whole.len) == 0 && whole.answer == pieces.answer);
	assert(fields(&whole, "Bcc") == 0 && fields(&whole, "Date") > 0 && fields(&whole, "Message-ID") > 0);
	if (whole.answer == SUBMISSION_YES)
		assert(fields(&whole, "From") == 1);
	return 0;
}
