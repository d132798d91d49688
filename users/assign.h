/* assign: the lines of users/assign, as qmail-newu compiles them into users/cdb.
 *   =local:user:uid:gid:home:dash:ext:    this local part
 *   +prefix:user:uid:gid:home:dash:pre:   each local part that begins so; what follows the prefix goes behind pre
 *   .                                     the end; what comes after it is not read
 * In the table  key '!' local NUL for '=', '!' prefix for '+', in lower case; value user NUL uid NUL gid NUL home NUL
 *               dash NUL ext; under the empty key, the octets that the prefixes end with */
#ifndef ASSIGN_H
#define ASSIGN_H
#include <stddef.h>
#include <skalibs/stralloc.h>

enum { ASSIGN_LINE_MAX = 65536 };	/* octets of a line, its LF not counted */

enum assign_kind {
	ASSIGN_END,		/* "." */
	ASSIGN_COMMENT,		/* begins with '#' */
	ASSIGN_ENTRY,		/* key and value are filled in */
	ASSIGN_MALFORMED,	/* no sign, fewer than seven colons, a NUL, too long */
	ASSIGN_NO_MEMORY,
};

struct assign_entry {
	stralloc key, value;
	int last;		/* the octet that a wildcard's prefix ends with, in lower case; -1 none */
	int usable;		/* 0: uid or gid are no numbers, or user or home are empty: mail for it will be deferred */
};

/* Reads one line (len octets, without its LF). *entry is reused from call to call; {0} at first. */
enum assign_kind assign_parse(struct assign_entry *entry, const char *line, size_t len);

void assign_free(struct assign_entry *entry);

#endif
