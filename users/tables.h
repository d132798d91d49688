/* tables: whose a local part is, as far as the tables below the current directory, the qmail home, say it: the virtual
 * accounts first, then users/cdb. What neither has, the user database is asked about (users/passwd.h). */
#ifndef TABLES_H
#define TABLES_H
#include <stddef.h>
#include "users/account.h"

/* Returns 1 and fills *account; 0 if neither table has it; -1 with errno set if that cannot be known now: then *table is
 * the one that cannot be read, or is damaged (EPROTO). */
int tables_find(struct account *account, const char *local, size_t len, const char **table);

#endif
