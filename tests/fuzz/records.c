/* Records of the ring and info files, given any octets; the digest of an info file is put right, so that what is behind it is read.
 * The input is an octet, 0: a record, else an info file without magic and digest. */
#include <assert.h>
#include "given.h"
#include "queue/digest.h"
#include "queue/envelope.h"
#include "queue/info.h"
#include "queue/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static const char magic[] = "tambo info 1\n";

/* It is complete, and has as many recipients as are said. */
static void
check_envelope(const char *envelope, uint32_t len, uint32_t recipients)
{
	struct envelope_check check = { .state = ENVELOPE_START };
	size_t used;

	assert(envelope_check(&check, envelope, len, &used) == QUEUE_OK && used == len && check.state == ENVELOPE_COMPLETE);
	assert(check.recipients == recipients);
}

/* What a record says is within it, and written out again it is the same. */
static void
read_record(const char *s, size_t len)
{
	char header[RECORD_MESSAGE_HEADER];
	struct record r;

	if (!record_parse(&r, s, len))
		return;
	assert(r.number);
	switch (r.type) {
	case RECORD_MESSAGE:
		check_envelope(r.envelope, r.envelope_len, r.recipients);
		assert(r.envelope == s + RECORD_MESSAGE_HEADER && r.message == r.envelope + r.envelope_len && r.message + r.message_len == s + len);
		record_message_header(header, &r);
		assert(memcmp(header, s, RECORD_MESSAGE_HEADER) == 0);
		break;
	case RECORD_OUTCOME:
		assert(queue_outcome_is(r.result) && r.text_len <= QUEUE_TEXT_MAX && r.text + r.text_len == s + len);
		record_outcome_header(header, &r);
		assert(memcmp(header, s, RECORD_OUTCOME_HEADER) == 0);
		break;
	case RECORD_END:
		record_end(header, r.number);
		assert(len == RECORD_END_SIZE && memcmp(header, s, RECORD_END_SIZE) == 0);
		break;
	}
}

/* The same for an info file, whose outcomes fill what is left of it. */
static void
read_info(const char *s, size_t len)
{
	static stralloc again, outcomes;
	const char *at;
	struct info_outcome o;
	struct info info;

	if (!info_decode(&info, s, len))
		return;
	check_envelope(info.envelope, info.envelope_len, info.recipients);
	outcomes.len = 0;
	at = info.outcomes;
	for (uint32_t i = 0; i < info.outcomes_len; i++) {
		info_outcome_next(&o, &at);
		assert(o.text + o.text_len == at && at <= s + len - QUEUE_DIGEST && info_outcome_put(&outcomes, &o));
	}
	assert(at == s + len - QUEUE_DIGEST);
	assert(info_encode(&again, &info, outcomes.len) && again.len == len && memcmp(again.s, s, len) == 0);
	assert(!outcomes.len || memcmp(outcomes.s, info.outcomes, outcomes.len) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	size_t at = sizeof magic - 1;
	char *s;

	if (!given_number(&g, 1)) {
		s = given_copy(g.s, g.len);
		read_record(s, g.len);
	} else {
		s = malloc(at + g.len + QUEUE_DIGEST);
		assert(s);
		memcpy(s, magic, at);
		if (g.len)
			memcpy(s + at, g.s, g.len);
		digest_of(s + at + g.len, s, at + g.len);
		read_info(s, at + g.len + QUEUE_DIGEST);
	}
	free(s);
	return 0;
}
