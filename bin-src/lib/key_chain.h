/* key_chain: the chain that qmail-keyd gives (key_client.h), as BearSSL wants it. */
#ifndef KEY_CHAIN_H
#define KEY_CHAIN_H
#include <stddef.h>
#include <bearssl.h>
#include "key_client.h"

/* Takes a chain of len octets apart; the certificates point into it. Returns how many there are, 0 if it is malformed. */
size_t key_chain_take(br_x509_certificate certificates[KEY_CERTIFICATES_MAX], const unsigned char *chain, size_t len);

#endif
