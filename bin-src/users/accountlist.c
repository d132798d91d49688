#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/djbunix.h>
#include "accountlist.h"
#include "stralloc_set.h"

#define TEMPORARY VIRTUAL_FILE ".tmp"

int
accountlist_open(struct accountlist *l, int to_change)
{
	*l = (struct accountlist){ .tables = { .accounts = { .fd = -1 }, .passwords = { .fd = -1 } } };
	if (to_change && !virtual_tables_begin(&l->tables))
		return 0;
	if ((!openslurpclose(&l->text, VIRTUAL_FILE) && errno != ENOENT) ||
	    (l->text.len && l->text.s[l->text.len - 1] != '\n' && !stralloc_append(&l->text, '\n'))) {
		accountlist_close(l);
		return 0;
	}
	return 1;
}

int
accountlist_next(const struct accountlist *l, size_t *at, struct virtual_account *v)
{
	const char *line = l->text.s + *at, *end;

	if (*at >= l->text.len)
		return 0;
	end = memchr(line, '\n', l->text.len - *at);	/* accountlist_open has seen to it that there is one */
	if (end == line || *line == '#' || virtual_parse(v, line, (size_t)(end - line)))
		v->address = NULL;
	*at += (size_t)(end - line) + 1;
	return 1;
}

int
accountlist_find(const struct accountlist *l, const char *address, struct virtual_account *v, size_t *at, size_t *len)
{
	size_t next = 0;

	for (;;) {
		*at = next;
		if (!accountlist_next(l, &next, v))
			return 0;
		*len = next - *at;
		if (v->address && strcasecmp(v->address, address) == 0)
			return 1;
	}
}

int
accountlist_append(struct accountlist *l, const struct virtual_account *v)
{
	return virtual_format(&l->text, v, 1) && stralloc_append(&l->text, '\n');
}

int
accountlist_replace(struct accountlist *l, size_t at, size_t len, const struct virtual_account *v)
{
	stralloc line = STRALLOC_ZERO;
	int ok = virtual_format(&line, v, 1) && stralloc_append(&line, '\n') && stralloc_readyplus(&l->text, line.len);

	if (ok) {
		memmove(l->text.s + at + line.len, l->text.s + at + len, l->text.len - at - len);
		memcpy(l->text.s + at, line.s, line.len);
		l->text.len = l->text.len - len + line.len;
	}
	stralloc_free(&line);
	return ok;
}

void
accountlist_remove(struct accountlist *l, size_t at, size_t len)
{
	memmove(l->text.s + at, l->text.s + at + len, l->text.len - at - len);
	l->text.len -= len;
}

unsigned int
accountlist_lines(const struct accountlist *l)
{
	unsigned int n = 0;

	for (size_t i = 0; i < l->text.len; i++)
		n += l->text.s[i] == '\n';
	return n;
}

/* The new file, with the owner and mode of the old one. Returns a descriptor at its beginning, or -1 with errno set. */
static int
write_new(const struct accountlist *l)
{
	int fd = open(TEMPORARY, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat old;
	int ok;

	if (fd < 0)
		return -1;
	/* it may be what somebody who was killed left */
	ok = fchmod(fd, 0600) == 0;
	if (ok && stat(VIRTUAL_FILE, &old) == 0)
		ok = (geteuid() != 0 || fchown(fd, old.st_uid, old.st_gid) == 0) && fchmod(fd, old.st_mode & 0777) == 0;
	ok = ok && allwrite(fd, l->text.s, l->text.len) == l->text.len && fsync(fd) == 0 && lseek(fd, 0, SEEK_SET) == 0;
	if (!ok) {
		int e = errno;

		close(fd);
		unlink(TEMPORARY);
		errno = e;
		return -1;
	}
	return fd;
}

const char *
accountlist_save(struct accountlist *l)
{
	const char *fault;
	int fd = write_new(l);

	if (fd < 0)
		fault = strerror(errno);
	else {
		fault = virtual_tables_compile(&l->tables, fd);
		l->number = l->tables.number;
		close(fd);
		if (!fault && rename(TEMPORARY, VIRTUAL_FILE) < 0)
			fault = strerror(errno);
		if (fault)
			unlink(TEMPORARY);
		else if (!virtual_tables_finish(&l->tables))
			fault = "it is changed, but its tables could not be written: run qmail-newaccounts";
	}
	accountlist_close(l);
	return fault;
}

void
accountlist_close(struct accountlist *l)
{
	int e = errno;

	virtual_tables_abandon(&l->tables);
	if (l->text.s)
		explicit_bzero(l->text.s, l->text.a);
	stralloc_free(&l->text);
	errno = e;
}
