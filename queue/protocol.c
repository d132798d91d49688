#include <string.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue/protocol.h"

void
queue_place_pack(char *s, const struct queue_place *place)
{
	*s++ = (char)place->kind;
	uint64_pack_big(s, place->offset);
	uint32_pack_big(s + 8, place->len);
	uint32_pack_big(s + 12, place->message_at);
	memcpy(s + 16, place->digest, QUEUE_KEYED_DIGEST);
}

int
queue_place_unpack(struct queue_place *place, const char *s)
{
	unsigned char kind = (unsigned char)*s++;

	if (kind > PLACE_FILE)
		return 0;
	place->kind = kind;
	uint64_unpack_big(s, &place->offset);
	uint32_unpack_big(s + 8, &place->len);
	uint32_unpack_big(s + 12, &place->message_at);
	memcpy(place->digest, s + 16, QUEUE_KEYED_DIGEST);
	return 1;
}

void
queue_notice_pack(char *s, const struct queue_notice *notice)
{
	uint64_pack_big(s, notice->number);
	uint64_pack_big(s + 8, notice->birth);
	uint64_pack_big(s + 16, notice->size);
	uint32_pack_big(s + 24, notice->uid);
	uint32_pack_big(s + 28, notice->recipients);
	s[32] = (char)notice->tried;
	queue_place_pack(s + 33, &notice->place);
}

int
queue_notice_unpack(struct queue_notice *notice, const char *s, uint32_t len)
{
	const char *end = s + len, *nul;

	if (len <= QUEUE_NOTICE_PACK || s[len - 1])
		return 0;
	nul = memchr(s + QUEUE_NOTICE_PACK, '\0', len - QUEUE_NOTICE_PACK);
	notice->parameters = nul + 1 < end ? nul + 1 : NULL;
	if (notice->parameters && memchr(nul + 1, '\0', (size_t)(end - nul) - 2))
		return 0;
	uint64_unpack_big(s, &notice->number);
	uint64_unpack_big(s + 8, &notice->birth);
	uint64_unpack_big(s + 16, &notice->size);
	uint32_unpack_big(s + 24, &notice->uid);
	uint32_unpack_big(s + 28, &notice->recipients);
	notice->tried = (uint8_t)s[32];
	notice->sender = s + QUEUE_NOTICE_PACK;
	return queue_place_unpack(&notice->place, s + 33);
}

int
queue_outcome_is(char result)
{
	return result == OUTCOME_DONE || result == OUTCOME_FAILED || result == OUTCOME_SUCCEEDED || result == OUTCOME_DELAYED;
}

int
queue_outcome_has_text(char result)
{
	return result == OUTCOME_FAILED || result == OUTCOME_SUCCEEDED;
}
