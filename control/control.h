/* control: the one-value, list and map files of control/.
 * Syntax   the table in control/README.md says which file has which form and which default
 * Trust    the files are the administrator's; the caller's current directory is the qmail home
 * Memory   a result lives in the caller's stralloc; nothing is kept between calls
 * All functions read at most CONTROL_FILE_MAX octets; a larger file is an error (EFBIG). */
#ifndef CONTROL_H
#define CONTROL_H
#include <stddef.h>
#include <skalibs/stralloc.h>

enum { CONTROL_FILE_MAX = 64 << 20 };

/* The first line of file, trailing spaces, tabs and CR removed, not NUL-terminated.
 * Returns 1; 0 if the file does not exist (*value is then empty); -1 with errno set. */
int control_line(stralloc *value, const char *file);

/* The same; where file does not exist, the first line of control/me stands in. 0: neither exists. */
int control_line_or_me(stralloc *value, const char *file);

/* The decimal number that the first line of file starts with. *value keeps what it was (the default) if the file
 * does not exist or starts with no digit; a number above max becomes max.
 * Returns 1, 0 if *value was left alone, -1 with errno set. */
int control_number(unsigned long *value, const char *file, unsigned long max);

/* The entries of a list file, each ended by NUL: trailing blanks and CR removed, empty lines and lines that start
 * with '#' left out. A file of comments only is a present, empty list.
 * Returns 1; 0 if the file does not exist (*entries is then empty); -1 with errno set. */
int control_list(stralloc *entries, const char *file);

/* A set of strings, or a map from a string to a string, compared without ASCII case.
 * {NULL} is a valid empty map. */
struct control_map {
	stralloc text;		/* all entries, ended by NUL, ':' between key and value replaced by NUL */
	size_t *slots;		/* open addressing: offset into text + 1, 0 empty */
	size_t mask;		/* number of slots - 1 */
	int with_values;
};

/* Builds a map from entries as control_list gives them, and takes them over (*entries is empty afterwards).
 * with_values: each entry is split at its first ':', entries without ':' are ignored; of equal keys the last wins.
 * Returns 1, or 0 with errno ENOMEM; *map is then empty, but valid. */
int control_map_build(struct control_map *map, stralloc *entries, int with_values);

/* The value of key (len octets): NUL-terminated, "" in a map without values, valid as long as the map.
 * NULL if there is none. */
const char *control_map_find(const struct control_map *map, const char *key, size_t len);

/* Frees what the map owns and makes it empty. */
void control_map_free(struct control_map *map);

#endif
