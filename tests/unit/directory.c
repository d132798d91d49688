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

void
directory_write_script(const char *path, const char *script)
{
	char text[1000];

	assert_in_range(snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script), 0, sizeof text - 1);
	directory_write(path, text);
	assert_int_equal(chmod(path, 0755), 0);
}

void
directory_assert_file(const char *path, const char *want, size_t len)
{
	char got[1000];
	FILE *file = fopen(path, "r");
	size_t n;

	assert_non_null(file);
	n = fread(got, 1, sizeof got, file);
	fclose(file);
	assert_int_equal(n, len);
	assert_memory_equal(got, want, len);
}
