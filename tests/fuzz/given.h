/* given: the octets that a target is given, taken apart, and put where a module looks for them. What there is no more of is 0. */
#ifndef FUZZ_GIVEN_H
#define FUZZ_GIVEN_H
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

struct given { const uint8_t *s; size_t len; };

/* A number of so many octets, most significant first. */
static inline uint64_t
given_number(struct given *g, unsigned int octets)
{
	uint64_t n = 0;

	for (; octets; octets--) {
		n = n << 8 | (g->len ? *g->s : 0);
		g->s += g->len != 0;
		g->len -= g->len != 0;
	}
	return n;
}

/* The next octets, most of them at most. */
static inline struct given
given_piece(struct given *g, size_t most)
{
	struct given piece = { g->s, g->len < most ? g->len : most };

	g->s += piece.len;
	g->len -= piece.len;
	return piece;
}

/* The octets up to the next end, which is taken and not counted, or to the last. */
static inline struct given
given_until(struct given *g, char end)
{
	const uint8_t *found = g->len ? memchr(g->s, end, g->len) : NULL;
	struct given piece = given_piece(g, found ? (size_t)(found - g->s) : g->len);

	given_piece(g, 1);
	return piece;
}

/* The octets up to an empty line, which is taken and not counted, or to the last. */
static inline struct given
given_section(struct given *g)
{
	const uint8_t *end = g->len > 1 ? memmem(g->s, g->len, "\n\n", 2) : NULL;
	struct given section = given_piece(g, end ? (size_t)(end + 1 - g->s) : g->len);

	given_piece(g, 1);
	return section;
}

/* A copy of len octets and not one more, so that what is read beyond is seen; the caller frees it. */
static inline char *
given_copy(const void *s, size_t len)
{
	char *copy = calloc(len ? len : 1, 1);

	if (!copy)
		err(1, "copy");
	if (len)
		memcpy(copy, s, len);
	return copy;
}

/* The same with a NUL behind it: a string, which may end before. */
static inline char *
given_string(struct given g)
{
	char *copy = malloc(g.len + 1);

	if (!copy)
		err(1, "copy");
	if (g.len)
		memcpy(copy, g.s, g.len);
	copy[g.len] = '\0';
	return copy;
}

/* A file in memory, which is opened by its path as any file is. fd 0: not made yet. */
struct given_file { int fd; char path[32]; };

/* It holds these octets from now on, and nothing else. */
static inline void
given_write(struct given_file *f, const void *s, size_t len)
{
	if (!f->fd) {
		f->fd = memfd_create("given", MFD_CLOEXEC);
		snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->fd);
	}
	if (f->fd < 0 || ftruncate(f->fd, 0) || pwrite(f->fd, s, len, 0) != (ssize_t)len || lseek(f->fd, 0, SEEK_SET))
		err(1, "write");
}

#endif
