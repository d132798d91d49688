/* accountlist: the lines of users/accounts in memory, to be changed and written back.
 * Calling order  accountlist_open (from then on nobody else changes the file), accountlist_find, _put, _remove,
 *                then accountlist_save or accountlist_close
 * Promise        users/accounts and its tables are replaced whole, or stay as they are: what would make a table that
 *                qmail-newaccounts refuses is not written
 * Memory         holds hashes, which accountlist_close and accountlist_save wipe */
#ifndef ACCOUNTLIST_H
#define ACCOUNTLIST_H
#include <stddef.h>
#include <skalibs/stralloc.h>
#include "users/virtual.h"
#include "users/virtual_tables.h"

struct accountlist {
	stralloc text;
	struct virtual_tables tables;
	unsigned int number;	/* of the line that accountlist_save found wrong, from 1; 0 it is no line */
};

/* Reads users/accounts below the current directory; one that does not exist is empty. to_change: waits until no other one
 * changes it. Returns 1, or 0 with errno set. */
int accountlist_open(struct accountlist *l, int to_change);

/* Finds the line of an address, in any case; malformed lines are nobody's. Returns 1 and fills *v, where it begins and how
 * long it is, its LF counted; 0 there is none. */
int accountlist_find(const struct accountlist *l, const char *address, struct virtual_account *v, size_t *at, size_t *len);

/* The line that begins at *at, which moves on to the next one. Returns 1, fills *v if it is an account (else v->address is
 * NULL); 0 at the end. */
int accountlist_next(const struct accountlist *l, size_t *at, struct virtual_account *v);

/* Appends an account, or puts it in the place of the len octets at at. Returns 1, or 0 (ENOMEM). */
int accountlist_append(struct accountlist *l, const struct virtual_account *v);
int accountlist_replace(struct accountlist *l, size_t at, size_t len, const struct virtual_account *v);

void accountlist_remove(struct accountlist *l, size_t at, size_t len);

unsigned int accountlist_lines(const struct accountlist *l);

/* Writes all. Returns NULL, or what is wrong, in words; l is closed in any case. */
const char *accountlist_save(struct accountlist *l);

void accountlist_close(struct accountlist *l);

#endif
