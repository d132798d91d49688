#include <endian.h>
#include <string.h>
#include "siphash.h"

static inline uint64_t
rotate(uint64_t x, unsigned int n)
{
	return x << n | x >> (64 - n);
}

static inline void
mix(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

/* Up to eight octets, the least significant first. */
static inline uint64_t
word(const unsigned char *s, size_t len)
{
	uint64_t x = 0;

	memcpy(&x, s, len);
	return le64toh(x);
}

static inline void
take(uint64_t v[4], uint64_t x)
{
	v[3] ^= x;
	mix(v);
	mix(v);
	v[0] ^= x;
}

uint64_t
siphash(const struct siphash_key *key, const void *octets, size_t len)
{
	uint64_t v[4] = {
		key->k0 ^ UINT64_C(0x736f6d6570736575), key->k1 ^ UINT64_C(0x646f72616e646f6d),
		key->k0 ^ UINT64_C(0x6c7967656e657261), key->k1 ^ UINT64_C(0x7465646279746573),
	};
	const unsigned char *s = octets;
	uint64_t last = (uint64_t)len << 56;

	for (; len >= 8; s += 8, len -= 8)
		take(v, word(s, 8));
	take(v, last | word(s, len));
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
