/* directory: one of its own for a unit test, the current one, with control/ in it, as programs have it. */
#ifndef UNIT_DIRECTORY_H
#define UNIT_DIRECTORY_H
#include <stddef.h>

/* Makes and removes it, with all that is in it; for cmocka's fixtures, of the group or of each test. */
int directory_make(void **state);
int directory_remove(void **state);

/* Puts a new file with that text in the place of path. */
void directory_write(const char *path, const char *text);

/* The same with a shell script that can be run. */
void directory_write_script(const char *path, const char *script);

/* Fails unless the file holds exactly len octets, these. */
void directory_assert_file(const char *path, const char *want, size_t len);

#endif
