/* siphash: SipHash-2-4 (Aumasson and Bernstein, 2012), a hash with a secret key: who chooses the octets does not choose their place
 * in a table. */
#ifndef SIPHASH_H
#define SIPHASH_H
#include <stddef.h>
#include <stdint.h>

struct siphash_key { uint64_t k0, k1; };

uint64_t siphash(const struct siphash_key *key, const void *octets, size_t len);

#endif
