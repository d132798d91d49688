/* table: compiled tables (cdb), the one place that uses libcdb.
 * Trust    a table may be damaged, truncated or hostile: a lookup then fails, it never crashes or loops without end
 *          (libcdb checks bounds; a chain is followed at most once around) */
#ifndef TABLE_H
#define TABLE_H
#include <stddef.h>
#include <skalibs/stralloc.h>

/* Looks key up in the table in file. Opens, asks, closes: no state is kept, a replaced table is seen at once.
 * Returns 1 and the first value in *value; 0 if the key is not in it, or the file does not exist (then *absent is 1,
 * if absent is not NULL); -1 with errno set if the file cannot be read or is damaged (EPROTO): the answer is unknown. */
int table_find(const char *file, const char *key, size_t len, stralloc *value, int *absent);

/* An open table for several lookups in one state of it. fd -1: the file did not exist, every key is absent. */
struct table { int fd; void *cdb; };
int table_open(struct table *t, const char *file);	/* 1; 0 does not exist; -1 errno */
int table_get(struct table *t, const char *key, size_t len, stralloc *value);	/* 1, 0, -1 as above */
void table_close(struct table *t);

/* Writes a new table: make, add*, finish. The old file stays until finish has flushed and renamed the new one. */
struct table_maker { int fd; void *cdb; const char *temporary, *file; };
int table_make(struct table_maker *m, const char *file, const char *temporary);	/* 1, or 0 with errno set */
int table_add(struct table_maker *m, const char *key, size_t key_len, const char *value, size_t value_len);
int table_finish(struct table_maker *m);	/* 1: file is whole and on disk; 0: errno, the old file is as it was */
void table_abandon(struct table_maker *m);	/* removes the temporary file */

#endif
