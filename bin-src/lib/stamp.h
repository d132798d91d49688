/* stamp: whether a file that was read is still the one that it was, by what stat says of it. For files that are looked at again and
 * again, and read only when they have changed. */
#ifndef STAMP_H
#define STAMP_H
#include <sys/stat.h>
#include <time.h>

/* All zero: there is no such file. */
struct stamp {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
};

/* Of a status that was asked for. */
struct stamp stamp_of(const struct stat *st);

/* Of a path; all zero, with errno set, if it does not exist or cannot be looked at. To be taken before the file is read: what changes while it is
 * read is read again. */
struct stamp stamp_take(const char *path);

int stamp_is_same(const struct stamp *a, const struct stamp *b);

/* The same of n stamps each, in the same order. */
int stamps_are_same(const struct stamp *a, const struct stamp *b, size_t n);

/* Whether a time of a stamp is less than STAMP_SETTLE seconds ago: who writes the file may not be done. One in the future is none of now. */
enum { STAMP_SETTLE = 2 };
int stamp_is_fresh(const struct timespec *time);

/* Whether one of n files of a directory may be half written, or gone until another takes its place. A file that is renamed to its name was
 * written before. */
int stamps_are_fresh(const struct stamp *stamps, size_t n, const char *directory);

#endif
