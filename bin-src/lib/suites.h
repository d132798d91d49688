/* suites: the cipher suites that qmail-tlsd and qmail-remote offer, in their order of preference: ECDHE only (qmail-keyd decrypts nothing), AEAD first,
 * then CBC for old clients. */
#ifndef SUITES_H
#define SUITES_H
#include <stddef.h>
#include <stdint.h>
#include <bearssl.h>

extern const uint16_t suites[];
extern const size_t suites_len;

/* TLS 1.2 with these suites and no renegotiation, for an engine that was zeroed. */
void suites_set(br_ssl_engine_context *engine);

/* The name of one of them as registered with IANA (RFC 8314 section 4.3 wants that in Received fields), "unknown" of another. */
const char *suites_name(uint16_t suite);

#endif
