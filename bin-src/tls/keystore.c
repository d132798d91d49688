#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/bytestr.h>
#include "certificate.h"
#include "keystore.h"
#include "stralloc_set.h"

static const char no_memory[] = "out of memory";

/* --- reading -------------------------------------------------------------------------------------------------------- */

/* Reads a file into text, KEYSTORE_FILE_MAX octets at most. Returns NULL, or why not. */
static const char *
read_file(int directory, const char *name, char text[KEYSTORE_FILE_MAX + 1], size_t *len)
{
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK), e;

	if (fd < 0)
		return strerror(errno);
	errno = 0;
	*len = allread(fd, text, KEYSTORE_FILE_MAX + 1);
	e = errno;
	close(fd);
	if (*len > KEYSTORE_FILE_MAX)
		return "it is too long";
	return e && e != EPIPE ? strerror(e) : NULL;	/* EPIPE: allread at the end of the file */
}

/* Takes a keypair into the next entry. Returns NULL, or why not. */
static const char *
take_pair(struct keystore *k, const char *name, const char *text, size_t len)
{
	struct keystore_entry *e;

	if (k->len == KEYSTORE_MAX)
		return "there are too many files";
	e = realloc(k->entries, (k->len + 1) * sizeof *k->entries);
	if (!e)
		return no_memory;
	k->entries = e;
	e += k->len;
	/* -Wanalyzer-malloc-leak: they are the keystore's */
	*e = (struct keystore_entry){ .pair = calloc(1, sizeof *e->pair), .file = strdup(name) };
	k->len++;	/* -Wanalyzer-malloc-leak: the same */
	if (!e->pair || !e->file)
		return no_memory;
	return keypair_read(e->pair, text, len);
}

static const char *
take_file(struct keystore *k, int directory, const char *name)
{
	char *text = malloc(KEYSTORE_FILE_MAX + 1);
	size_t len = 0;
	const char *why;

	if (!text)
		return no_memory;
	why = read_file(directory, name, text, &len);
	if (!why)
		why = take_pair(k, name, text, len);
	explicit_bzero(text, KEYSTORE_FILE_MAX + 1);
	free(text);
	return why;
}

static int
is_wanted(const char *name)
{
	size_t len = strlen(name);

	return name[0] != '.' && len > 4 && strcmp(name + len - 4, ".pem") == 0;
}

/* Puts "DIRECTORY/file: why" into *trouble. Returns 0. */
static int
complain(stralloc *trouble, const char *directory, const char *file, const char *why)
{
	if (!stralloc_sets(trouble, directory) || (file && (!stralloc_cats(trouble, "/") || !stralloc_cats(trouble, file))) ||
	    !stralloc_cats(trouble, ": ") || !stralloc_cats(trouble, why) || !stralloc_0(trouble))
		trouble->len = 0;
	return 0;
}

static int
take_files(struct keystore *k, const char *directory, DIR *list, stralloc *trouble)
{
	const struct dirent *entry;
	const char *why;

	while (errno = 0, (entry = readdir(list))) {
		if (!is_wanted(entry->d_name))
			continue;
		why = take_file(k, dirfd(list), entry->d_name);
		if (why)
			return complain(trouble, directory, entry->d_name, why);
	}
	return !errno || complain(trouble, directory, NULL, strerror(errno));
}

static int
compare(const void *a, const void *b)
{
	const struct keystore_entry *x = a, *y = b;

	if (x->pair->is_self_signed != y->pair->is_self_signed)
		return x->pair->is_self_signed - y->pair->is_self_signed;
	if ((x->pair->kind == KEY_RSA) != (y->pair->kind == KEY_RSA))
		return x->pair->kind == KEY_RSA ? 1 : -1;
	return strcmp(x->file, y->file);
}

int
keystore_load(struct keystore *k, const char *directory, const char *me, stralloc *trouble)
{
	DIR *list = opendir(directory);
	int r;

	*k = (struct keystore){ .len = 0 };
	if (!list)
		return complain(trouble, directory, NULL, strerror(errno));
	r = (stralloc_sets(&k->me, me) && stralloc_0(&k->me)) || complain(trouble, directory, NULL, no_memory);
	r = r && take_files(k, directory, list, trouble);
	closedir(list);
	if (!r) {
		keystore_free(k);
		return 0;
	}
	case_lowerb(k->me.s, k->me.len);
	if (k->len)
		qsort(k->entries, k->len, sizeof *k->entries, compare);
	return 1;
}

void
keystore_free(struct keystore *k)
{
	for (unsigned int i = 0; i < k->len; i++) {
		if (k->entries[i].pair)
			keypair_free(k->entries[i].pair);
		free(k->entries[i].pair);
		free(k->entries[i].file);
	}
	free(k->entries);
	stralloc_free(&k->me);
	*k = (struct keystore){ .len = 0 };
}

/* --- finding ---------------------------------------------------------------------------------------------------------- */

/* The first keypair that has the name: as it is, or else by a '*'. host: lower case. -1: none. */
static int
find_name(const struct keystore *k, unsigned int kinds, const char *host)
{
	int found = -1, how;

	for (unsigned int i = 0; i < k->len && *host; i++) {
		if (!(k->entries[i].pair->kind & kinds))
			continue;
		how = certificate_is_for(&k->entries[i].pair->names, host);
		if (how == 2)
			return (int)i;
		if (how && found < 0)
			found = (int)i;
	}
	return found;
}

int
keystore_find(const struct keystore *k, unsigned int kinds, const char *host)
{
	char lower[KEY_HOST_MAX + 1];
	size_t len = strlen(host);
	int found;

	if (len > KEY_HOST_MAX)
		len = 0;
	memcpy(lower, host, len);
	if (len && lower[len - 1] == '.')
		len--;
	lower[len] = '\0';
	case_lowerb(lower, len);
	found = find_name(k, kinds, lower);
	if (found < 0)
		found = find_name(k, kinds, k->me.s);
	for (unsigned int i = 0; found < 0 && i < k->len; i++)
		if (k->entries[i].pair->kind & kinds)
			found = (int)i;
	return found;
}

int
keystore_find_file(const struct keystore *k, const char *name, size_t len)
{
	for (unsigned int i = 0; i < k->len; i++) {
		const char *file = k->entries[i].file;

		if (strlen(file) == len + 4 && memcmp(file, name, len) == 0)
			return (int)i;
	}
	return -1;
}
