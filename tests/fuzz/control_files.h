/* control_files: control files for a target that reads them once, before its first input, by their names. They are gone afterwards, and the
 * current directory is what it was. */
#ifndef FUZZ_CONTROL_FILES_H
#define FUZZ_CONTROL_FILES_H
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct control_files { int before; char directory[sizeof "/tmp/fuzz-control.XXXXXX"]; };

/* Enters a directory with an empty control/ in it. */
static inline struct control_files
control_files_begin(void)
{
	struct control_files c = { open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "/tmp/fuzz-control.XXXXXX" };

	if (c.before < 0 || !mkdtemp(c.directory) || chdir(c.directory) || mkdir("control", 0700))
		err(1, "prepare");
	return c;
}

static inline void
control_files_write(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		err(1, "%s", name);
}

static inline void
control_files_end(const struct control_files *c)
{
	if (system("rm -r control") || fchdir(c->before) || rmdir(c->directory))
		err(1, "clean up");
	close(c->before);
}

#endif
