/* known_sizes: the file pop3-sizes of a maildir: the messages of an earlier session, and how large they are, so that a session need
 * neither look at each of a thousand files nor, where nothing has changed in cur/ since, read that directory.
 * Form     digest (8 octets, siphash) of what follows; the length of the lines; of which cur/ it is the list (inode, and
 *          seconds and nanoseconds of its last change, 8 each; zeros: of none). Numbers are most significant octet first. Then the
 *          lines: of each message time and size in decimal digits and its name, a blank between them, NUL behind; ordered by time, then by
 *          the name before its colon. What is behind all this does not count: a shorter one is written over a longer one
 * Promise  it is whole or it does not count, whoever writes at the same time, and after a power cut. A message of a maildir never
 *          changes, so no size in it is ever out of date; and as a list it counts for a directory that has not been changed. Who
 *          removes it loses time only
 * Trust    it is the user's. What is malformed or out of order ends it; a wrong size misleads as one in a file's name does, a list
 *          with a message left out as a maildir without it does; what it says is a name may be any octets
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

/* A message: len octets of its name are before the colon, none if it begins with that. */
struct known_name {
	uint64_t time;
	const char *name;	/* whole, NUL-terminated */
	size_t len;
};

/* A directory since its last change; all zero: none. */
struct known_state { uint64_t inode, seconds, nanoseconds; };

/* By time, then by name: below 0, 0, above 0. */
int known_name_compare(const struct known_name *a, const struct known_name *b);

struct known_sizes {
	stralloc text;
	struct known_state state;	/* whose list it is */
	size_t at;			/* of the line behind next */
	int has_next;
	struct known_name next;
	uint64_t size;			/* next's */
};

/* Opens that of a maildir, given as a descriptor, and makes an empty one if there is none. Returns a descriptor, or -1: then there
 * is nothing to be done with it. */
int known_sizes_open(int maildir);

/* Which directory it says that it lists: whether it counts, reading it tells. fd may be -1. */
struct known_state known_sizes_state(int fd);

int known_state_is_same(const struct known_state *a, const struct known_state *b);

/* Reads it; fd may be -1. *k is all zero. */
void known_sizes_read(struct known_sizes *k, int fd);

/* The size of a message. Who asks asks in the order of the file. Returns 1, or 0: it is not known. */
int known_sizes_find(struct known_sizes *k, const struct known_name *name, uint64_t *size);

/* Instead of asking: the next message of the list. name->name is in the text of *k. Returns 1, or 0: there is none. */
int known_sizes_next(struct known_sizes *k, struct known_name *name, uint64_t *size);

/* The text that the names of known_sizes_next are in, which is the caller's then. Nothing more is read of *k. */
stralloc known_sizes_take_text(struct known_sizes *k);

/* For writing: begins anew, *k being all zero but for the state; adds a message, in order; writes. What fails is not written, and nobody
 * is told. */
void known_sizes_begin(struct known_sizes *k);
void known_sizes_add(struct known_sizes *k, const struct known_name *name, uint64_t size);
void known_sizes_write(struct known_sizes *k, int fd);

void known_sizes_free(struct known_sizes *k);

#endif
