/* netstring: reads "LENGTH:OCTETS," from a client, in pieces, whatever the length.
 * Trust    every octet is hostile. A length has at most NETSTRING_DIGITS digits and no zeros in front
 * Memory   the buffer of input.h; only netstring_string gathers, up to what its caller allows */
#ifndef NETSTRING_H
#define NETSTRING_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "input.h"

enum { NETSTRING_DIGITS = 18 };

enum netstring_result {
	NETSTRING_OK,
	NETSTRING_MALFORMED,	/* not a netstring, or it does not fit into the one around it */
	NETSTRING_FAILED,	/* the client is gone or too slow, the server stops: failure says */
	NETSTRING_NO_MEMORY,
};

struct netstring {
	struct input *in;
	uint64_t left;			/* octets that may still be read: those of the netstring around. UINT64_MAX: no bound */
	enum input_result failure;	/* why NETSTRING_FAILED */
};

/* Reads the length and the colon. */
enum netstring_result netstring_length(struct netstring *n, uint64_t *len);

/* Waits for octets, and takes up to most of them: *len octets at *s, at least one, valid until the next call. They may be
 * changed there. most: not 0. */
enum netstring_result netstring_piece(struct netstring *n, char **s, size_t *len, uint64_t most);

/* Reads len octets and forgets them. */
enum netstring_result netstring_skip(struct netstring *n, uint64_t len);

/* Reads the comma. */
enum netstring_result netstring_comma(struct netstring *n);

/* Reads a whole netstring into *to. If it is longer than most, it is read and forgotten, and *fits is 0. */
enum netstring_result netstring_string(struct netstring *n, stralloc *to, size_t most, int *fits);

#endif
