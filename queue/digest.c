#include <string.h>
#include <skalibs/blake2s.h>
#include "queue/digest.h"

void
digest_of(char out[QUEUE_DIGEST], const char *s, size_t len)
{
	blake2s_ctx ctx = BLAKE2S_INIT(QUEUE_DIGEST);

	blake2s_update(&ctx, s, len);
	blake2s_final(&ctx, out);
}

int
digest_is(const char digest[QUEUE_DIGEST], const char *s, size_t len)
{
	char d[QUEUE_DIGEST];

	digest_of(d, s, len);
	return memcmp(d, digest, sizeof d) == 0;
}
