/* virtual_tables: makes users/accounts.cdb and users/passwords.cdb of users/accounts; all three lie below the current
 * directory, the qmail home. Whoever wants to change users/accounts does it between begin and finish: nobody else is there.
 * Calling order  virtual_tables_begin, virtual_tables_compile, then virtual_tables_finish or virtual_tables_abandon
 * Promise        the old tables stay until finish; each is replaced whole, first the passwords */
#ifndef VIRTUAL_TABLES_H
#define VIRTUAL_TABLES_H
#include <sys/stat.h>
#include "control/table.h"
#include "virtual.h"

#define VIRTUAL_TABLE_TEMPORARY VIRTUAL_TABLE ".tmp"
#define VIRTUAL_PASSWORDS_TEMPORARY VIRTUAL_PASSWORDS ".tmp"

struct virtual_tables {
	struct table_maker accounts, passwords;
	struct virtual_account account;
	stralloc line, public;
	stralloc sample;	/* the dearest hash of an account that can log in */
	uint64_t sample_cost;	/* by password_cost */
	unsigned int number;	/* of the line, from 1 */
};

/* Waits until no other one is at work (TABLE_WAIT). Returns 1, or 0 with errno set. */
int virtual_tables_begin(struct virtual_tables *t);

/* Reads all lines of the file, adds them, and writes it all to disk under the temporary names; the passwords get the file's owner, group and mode.
 * Returns NULL; or what is wrong, in words: with line t->number, or with the whole if that is 0. The caller then abandons. */
const char *virtual_tables_compile(struct virtual_tables *t, int fd);

/* Gives them their names. Returns 1: both are on disk; or 0 with errno set. */
int virtual_tables_finish(struct virtual_tables *t);

void virtual_tables_abandon(struct virtual_tables *t);

#endif
