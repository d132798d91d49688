/* dotqmail: which file says what to do with mail for an address, and what is in it; see dot-qmail(5).
 * Trust    the extension of the address comes from the network. The file is the user's, so nothing in it is more than
 *          the user may; but a file that is no regular file, too large, or somebody else's is not obeyed
 * Where    in the current directory, the user's home
 * Bounds   a file has at most DOTQMAIL_SIZE_MAX octets */
#ifndef DOTQMAIL_H
#define DOTQMAIL_H
#include <stddef.h>
#include <skalibs/stralloc.h>
#include "report.h"

enum {
	DOTQMAIL_SIZE_MAX = 4 << 20,	/* octets of a file */
	DOTQMAIL_WRITABLE = 002,	/* mode bits (conf-patrn) that a home or a file must not have */
	DOTQMAIL_FORWARD_ONLY = 0100,	/* the file may hold forwards only */
};

enum dotqmail_result {
	DOTQMAIL_FOUND,		/* also where the default delivery stands in */
	DOTQMAIL_ABSENT,	/* nothing for this address: certain */
	DOTQMAIL_TEMPORARY,	/* said in the report */
};

struct dotqmail {
	stralloc lines;		/* the lines, trailing blanks removed, each ended by NUL */
	stralloc file;		/* the name that was found, NUL-terminated */
	int forward_only;
	const char *rest;	/* in ext: what "default" stood for; NULL: none */
};

enum dotqmail_kind {
	DOTQMAIL_NOTHING,	/* a comment, an empty line, an unknown word after '+' */
	DOTQMAIL_BLANK_FIRST,	/* the first line is empty: a mistake */
	DOTQMAIL_PROGRAM,
	DOTQMAIL_MBOX,
	DOTQMAIL_MAILDIR,
	DOTQMAIL_FORWARD,
	DOTQMAIL_LIST,		/* "+list": forwards only from here */
};

struct dotqmail_line {
	enum dotqmail_kind kind;
	const char *text;	/* command, path or address; NUL-terminated, valid as long as the struct dotqmail */
};

/* Writes ext as it stands in file names, NUL-terminated: lower case, ':' for '.'. Returns 1, or 0 with errno ENOMEM. */
int dotqmail_safe(stralloc *safe, const char *ext);

/* The nth name (from 0) to look for, NUL-terminated. safe: as dotqmail_safe gives it.
 * Returns 1, *rest the offset in ext of what "default" stands for, or -1 if the name does not end so;
 * 0 if there are not as many; -1 with errno ENOMEM. */
int dotqmail_candidate(stralloc *name, const char *dash, const stralloc *safe, unsigned int n, long *rest);

/* Looks for the file, checks it, reads it. default_delivery stands in for an empty file, and where there is none and
 * dash is empty. home_owner: the owner of the current directory, whose files are obeyed too. Nothing is said in the
 * report if it is absent. */
enum dotqmail_result dotqmail_find(struct dotqmail *d, const char *dash, const char *ext, const char *default_delivery,
    unsigned int home_owner, struct report *report);

/* 1 if a file .qmail DASH safe SUFFIX exists, 0 if not, -1 with errno set if that cannot be said. */
int dotqmail_exists(const char *dash, const char *safe, const char *suffix);

/* Takes the text of a file (len octets). Returns 1; 0 with errno ENOMEM, or EINVAL if it holds a NUL. */
int dotqmail_take(struct dotqmail *d, const char *s, size_t len);

/* The line at offset *at of d->lines; 0 begins. Returns 1 and moves *at on, or 0 at the end. */
int dotqmail_next(const struct dotqmail *d, size_t *at, struct dotqmail_line *line);

void dotqmail_free(struct dotqmail *d);

#endif
