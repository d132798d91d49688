#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue/envelope.h"
#include "queue/protocol.h"
#include "queue/record.h"

static int
parse_message(struct record *r, const char *s, size_t len)
{
	struct envelope_check check = { .state = ENVELOPE_START };
	size_t used;

	if (len < RECORD_MESSAGE_HEADER)
		return 0;
	uint64_unpack_big(s + 9, &r->birth);
	uint32_unpack_big(s + 17, &r->uid);
	uint32_unpack_big(s + 21, &r->recipients);
	uint32_unpack_big(s + 25, &r->envelope_len);
	if (r->envelope_len > len - RECORD_MESSAGE_HEADER)
		return 0;
	r->envelope = s + RECORD_MESSAGE_HEADER;
	if (envelope_check(&check, r->envelope, r->envelope_len, &used) || check.state != ENVELOPE_COMPLETE ||
	    used != r->envelope_len || check.recipients != r->recipients)
		return 0;
	r->message = r->envelope + r->envelope_len;
	r->message_len = len - RECORD_MESSAGE_HEADER - r->envelope_len;
	return 1;
}

int
record_parse(struct record *r, const char *s, size_t len)
{
	*r = (struct record){ .type = 0 };
	if (len < RECORD_END_SIZE)
		return 0;
	r->type = (enum record_type)(unsigned char)*s;
	uint64_unpack_big(s + 1, &r->number);
	if (!r->number)
		return 0;
	switch (r->type) {
	case RECORD_MESSAGE:
		return parse_message(r, s, len);
	case RECORD_OUTCOME:
		if (len < RECORD_OUTCOME_HEADER)
			return 0;
		uint32_unpack_big(s + 9, &r->recipient);
		r->result = s[13];
		r->text = s + RECORD_OUTCOME_HEADER;
		r->text_len = len - RECORD_OUTCOME_HEADER;
		return queue_outcome_is(r->result) && r->text_len <= QUEUE_TEXT_MAX;
	case RECORD_END:
		return len == RECORD_END_SIZE;
	}
	return 0;
}

void
record_message_header(char s[RECORD_MESSAGE_HEADER], const struct record *r)
{
	s[0] = RECORD_MESSAGE;
	uint64_pack_big(s + 1, r->number);
	uint64_pack_big(s + 9, r->birth);
	uint32_pack_big(s + 17, r->uid);
	uint32_pack_big(s + 21, r->recipients);
	uint32_pack_big(s + 25, r->envelope_len);
}

void
record_outcome_header(char s[RECORD_OUTCOME_HEADER], const struct record *r)
{
	s[0] = RECORD_OUTCOME;
	uint64_pack_big(s + 1, r->number);
	uint32_pack_big(s + 9, r->recipient);
	s[13] = r->result;
}

void
record_end(char s[RECORD_END_SIZE], uint64_t number)
{
	s[0] = RECORD_END;
	uint64_pack_big(s + 1, number);
}
