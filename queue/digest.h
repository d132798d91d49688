/* digest: the digests of the queue's format.
 * Files  BLAKE2s: whoever finds a file can tell whether it is whole
 * Ring   SipHash-2-4 with the ring's ID as its key, which takes a tenth of the time: a message of 4 KiB is digested twice on
 *        its way, and each time before anything else can go on. Who does not know the key can do no better than guess
 *        what octets would pass as others, and it finds damage as well as any digest of its length */
#ifndef DIGEST_H
#define DIGEST_H
#include <stddef.h>
#include "queue/protocol.h"

/* The digest of len octets of a file. */
void digest_of(char out[QUEUE_DIGEST], const char *s, size_t len);

/* 1 if the digest of len octets is digest. */
int digest_is(const char digest[QUEUE_DIGEST], const char *s, size_t len);

/* The same for octets of the ring whose ID is key. */
void digest_keyed(char out[QUEUE_KEYED_DIGEST], const char key[QUEUE_KEY], const char *s, size_t len);
int digest_keyed_is(const char digest[QUEUE_KEYED_DIGEST], const char key[QUEUE_KEY], const char *s, size_t len);

#endif
