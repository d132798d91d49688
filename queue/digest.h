/* digest: the BLAKE2s digests (32 octets) of the queue's format. */
#ifndef DIGEST_H
#define DIGEST_H
#include <stddef.h>
#include "queue/protocol.h"

/* The digest of len octets. */
void digest_of(char out[QUEUE_DIGEST], const char *s, size_t len);

/* 1 if the digest of len octets is digest. */
int digest_is(const char digest[QUEUE_DIGEST], const char *s, size_t len);

#endif
