#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"

static const char template[] = "/tmp/tambo-unit-XXXXXX";
static char directory[sizeof template];

int
directory_make(void **state)
{
	(void)state;
	memcpy(directory, template, sizeof template);
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	return mkdir("control", 0700);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

int
directory_remove(void **state)
{
	(void)state;
	return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void
directory_write(const char *path, const char *text)
{
	static const char made[] = "new-file";
	FILE *file = fopen(made, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(made, path), 0);
}
