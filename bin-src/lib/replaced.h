/* replaced: whether the administrator put another program in the place of one of ours. What is installed as bin/NAME, the name that scripts
 * and users know, is one file with libexec/NAME, which nobody but we start; where the two differ, bin/NAME is the site's own.
 * Trust    both directories are root's */
#ifndef REPLACED_H
#define REPLACED_H

/* name: such as "qmail-local". home: a descriptor of the qmail home, or -1 where the current directory is it.
 * Returns 0 if the two names are one file, 1 if they are not or one of them is missing, -1 with errno where that is not known: two stats, at
 * each call. A caller that asks only to save work, or because it knows the rules of its own program alone, takes doubt for 1. */
int is_replaced(int home, const char *name);

#endif
