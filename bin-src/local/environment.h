/* environment: what a program in a dot-qmail file learns about the delivery; interfaces section 8.4.
 * Trust    every value but USER and HOME holds octets that somebody on the network chose
 * Cleaning a value that begins with "()" gets '_' as its first octet: a bash from before 2014 takes such a value as a
 *          function, and runs what follows it. Names are ours alone, so a bash that looks for functions under the names
 *          BASH_FUNC_...%% finds none. Nothing else in a value is read by a shell before a script uses it. */
#ifndef ENVIRONMENT_H
#define ENVIRONMENT_H
#include <skalibs/stralloc.h>

struct environment_values {
	const char *user, *home, *sender, *new_sender, *local, *ext, *host;
	const char *rest;	/* DEFAULT; NULL: unset */
	const char *delivered_to, *return_path, *from_line;	/* whole lines, NUL-terminated */
};

/* Sets *variables to NAME=value, each ended by NUL; a NAME alone is to be unset. Returns 1, or 0 with errno ENOMEM. */
int environment_build(stralloc *variables, const struct environment_values *v);

/* A new environment: base (ended by NULL) changed by variables, to which its pointers point. The caller frees the array.
 * Returns NULL with errno ENOMEM. */
char **environment_merge(const char *const *base, const stralloc *variables);

#endif
