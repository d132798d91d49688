/* table: compiled tables (cdb), the one place that uses libcdb.
 * Trust    a table may be damaged, truncated or hostile: a lookup then fails, it never crashes, never loops without
 *          end and never calls a key absent because it could not look: the head is checked when the table is opened,
 *          and it is read, not mapped, so that a file cut short meanwhile is an error and not a SIGBUS
 * Limits   a table above TABLE_SIZE_MAX or a value above TABLE_VALUE_MAX is damage (EPROTO) */
#ifndef TABLE_H
#define TABLE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>

#define TABLE_SIZE_MAX UINT32_C(0xffffffff)	/* octets; the format has no larger pointers */
enum { TABLE_VALUE_MAX = 1 << 20 };		/* octets of a value that is handed out */

/* Looks key up in the table in file. Opens, asks, closes: no state is kept, a replaced table is seen at once.
 * Returns 1 and the first value in *value; 0 if the key is not in it, or the file does not exist (then *absent is 1,
 * else 0, if absent is not NULL); -1 with errno set if the file cannot be read or is damaged (EPROTO): the answer is
 * unknown. */
int table_find(const char *file, const char *key, size_t len, stralloc *value, int *absent);

/* An open table for several lookups in one state of it. fd -1: the file did not exist, every key is absent. */
struct table { int fd; uint32_t size; };
int table_open(struct table *t, const char *file);	/* 1; 0 does not exist; -1 errno, *t is then as after 0 */
int table_get(struct table *t, const char *key, size_t len, stralloc *value);	/* 1, 0, -1 as above */
void table_close(struct table *t);

/* Tells each key of an open table, in the order of the file; keys above TABLE_KEY_MAX octets are left out. key is valid
 * during the call. 1, or -1 with errno set (EPROTO: damaged). */
enum { TABLE_KEY_MAX = 1024 };
int table_each(struct table *t, void (*each)(void *data, const char *key, size_t len), void *data);

/* Writes a new table: make, add*, flush?, then finish or abandon. The old file stays until finish has flushed and renamed the
 * new one. Both names stay the caller's and must outlive m; temporary is in file's directory. Of equal keys the first
 * one added is found. Two makers of one file take turns: table_make waits up to TABLE_WAIT for the other one. The
 * table may be read by all (mode 0644). */
enum { TABLE_WAIT = 30 };	/* seconds; then errno is EAGAIN */
struct table_maker { int fd; void *cdb; const char *temporary, *file; };
int table_make(struct table_maker *m, const char *file, const char *temporary, mode_t mode);	/* 1, or 0 with errno set */
int table_add(struct table_maker *m, const char *key, size_t key_len, const char *value, size_t value_len);	/* as make */
int table_has(struct table_maker *m, const char *key, size_t len);	/* whether it was added: 1, 0, -1 with errno set */
int table_flush(struct table_maker *m);	/* where other files change along: 1: all of it is on disk, nothing can be added, and finish
					 * needs no more room; 0: errno, m is as after table_abandon */
int table_finish(struct table_maker *m);	/* 1: file is whole and on disk; 0: errno, the old file is as it was,
						 * m is as after table_abandon (only if the directory could not be
						 * flushed, the new file may be there already) */
void table_abandon(struct table_maker *m);	/* removes the temporary file; errno is kept */

#endif
