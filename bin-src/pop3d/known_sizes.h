/* known_sizes: the file pop3-sizes of a maildir: how large the messages are whose names do not tell it, so that a session need not
 * look at each of a thousand files that the one before it has looked at.
 * Form     digest (8 octets, siphash) of what follows; its length without these 8 octets (most significant first); then for each
 *          message time and size in decimal digits and the name before its colon, a blank between them, NUL behind; ordered by
 *          time, then by name. What is behind all this does not count: a shorter one is written over a longer one
 * Promise  it is whole or it does not count, whoever writes at the same time, and after a power cut. A message of a maildir never
 *          changes, so nothing in it is ever out of date. Who removes it loses time only
 * Trust    it is the user's. What is malformed or out of order ends it; a wrong size misleads as one in a file's name does
 * Sandbox  it is made by known_sizes_open, before; then reading and writing what is open */
#ifndef KNOWN_SIZES_H
#define KNOWN_SIZES_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>

enum {
	KNOWN_SIZES_WORTH = 50,		/* files that were looked at make it worth while to write it */
	KNOWN_SIZES_MAX = 128 << 20,	/* octets that are read or written */
};

/* Whose size it is. */
struct known_name {
	uint64_t time;
	const char *name;
	size_t len;
};

/* By time, then by name: below 0, 0, above 0. */
int known_name_compare(const struct known_name *a, const struct known_name *b);

struct known_sizes {
	stralloc text;
	size_t at;			/* of the line behind next */
	int has_next;
	struct known_name next;
	uint64_t size;			/* next's */
};

/* Opens that of a maildir, given as a descriptor, and makes an empty one if there is none. Returns a descriptor, or -1: then there
 * is nothing to be done with it. */
int known_sizes_open(int maildir);

/* Reads it; fd may be -1. *k is all zero. */
void known_sizes_read(struct known_sizes *k, int fd);

/* The size of a message. Who asks asks in the order of the file. Returns 1, or 0: it is not known. */
int known_sizes_find(struct known_sizes *k, const struct known_name *name, uint64_t *size);

/* For writing: begins anew, *k being all zero; adds a message, in order; writes. What fails is not written, and nobody is told. */
void known_sizes_begin(struct known_sizes *k);
void known_sizes_add(struct known_sizes *k, const struct known_name *name, uint64_t size);
void known_sizes_write(struct known_sizes *k, int fd);

void known_sizes_free(struct known_sizes *k);

#endif
