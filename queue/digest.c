#include <string.h>
#include <skalibs/blake2s.h>
#include <skalibs/uint64.h>
#include "queue/digest.h"
#include "siphash.h"

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

void
digest_keyed(char out[QUEUE_KEYED_DIGEST], const char key[QUEUE_KEY], const char *s, size_t len)
{
	struct siphash_key k;

	uint64_unpack_big(key, &k.k0);
	uint64_unpack_big(key + 8, &k.k1);
	uint64_pack_big(out, siphash(&k, s, len));
}

int
digest_keyed_is(const char digest[QUEUE_KEYED_DIGEST], const char key[QUEUE_KEY], const char *s, size_t len)
{
	char d[QUEUE_KEYED_DIGEST];

	digest_keyed(d, key, s, len);
	return memcmp(d, digest, sizeof d) == 0;
}
