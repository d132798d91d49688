/* der: a certificate of pem.h as a server sends it. */
#ifndef UNIT_DER_H
#define UNIT_DER_H
#include <stddef.h>

enum { DER_MAX = 2048 };

struct der { unsigned char s[DER_MAX]; size_t len; };

/* The last object of a PEM text. */
struct der der_of(const char *pem);

#endif
