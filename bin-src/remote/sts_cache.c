#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/types.h>
#include "shortage.h"
#include "sts_cache.h"

#define NEW ".new"

enum { HEAD_MAX = STS_ID_MAX + 24 };	/* octets of a file's first line */

int
sts_cache_is_domain(const char *domain)
{
	size_t len = strlen(domain), label = 0;

	for (const char *s = domain; *s; s++) {
		if (*s == '.' ? !label : !(*s >= 'a' && *s <= 'z') && !(*s >= '0' && *s <= '9') && *s != '-' && *s != '_')
			return 0;
		label = *s == '.' ? 0 : label + 1;
	}
	return label && len <= STS_DOMAIN_MAX;
}

/* --- in memory ------------------------------------------------------------------------------------------------------- */

/* Where the domain is, or would be. */
static size_t
place_of(const struct sts_cache *c, const char *domain)
{
	size_t low = 0, high = c->len;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (strcmp(c->entries[middle]->domain, domain) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
is_at(const struct sts_cache *c, size_t i, const char *domain)
{
	return i < c->len && strcmp(c->entries[i]->domain, domain) == 0;
}

/* The file stays. */
static void
forget(struct sts_cache *c, size_t i)
{
	c->octets -= c->entries[i]->policy.len;
	free(c->entries[i]);
	memmove(c->entries + i, c->entries + i + 1, (--c->len - i) * sizeof *c->entries);
}

static void
drop(struct sts_cache *c, size_t i)
{
	unlinkat(c->directory, c->entries[i]->domain, 0);
	forget(c, i);
}

static int
is_older(const struct sts_cached *a, const struct sts_cached *b)
{
	return a->asked != b->asked ? a->asked < b->asked : a->fetched < b->fetched;
}

static void
make_room(struct sts_cache *c, size_t octets)
{
	while (c->len && (c->len == STS_CACHE_MAX || c->octets + octets > STS_CACHE_OCTETS)) {
		size_t oldest = 0;

		for (size_t i = 1; i < c->len; i++)
			if (is_older(c->entries[i], c->entries[oldest]))
				oldest = i;
		drop(c, oldest);
	}
}

static struct sts_cached *
new_entry(const char *domain, const char *id, const struct sts_policy *p, uint64_t fetched)
{
	uint64_t half = p->max_age / 2;
	struct sts_cached *e = calloc(1, sizeof *e + p->len);

	if (!e)
		return NULL;
	strncpy(e->id, id, sizeof e->id - 1);
	strncpy(e->domain, domain, sizeof e->domain - 1);
	memcpy(e->text, p->text, p->len);
	e->policy = *p;
	e->policy.text = e->text;
	e->fetched = fetched;
	e->expires = fetched + (p->max_age < STS_CACHE_LEAST ? STS_CACHE_LEAST : p->max_age);
	e->refresh = fetched + (half < STS_CACHE_LEAST ? STS_CACHE_LEAST : half > STS_CACHE_REFRESH ? STS_CACHE_REFRESH : half);
	return e;
}

/* Puts it in the place of the domain's other one. */
static void
enter(struct sts_cache *c, struct sts_cached *e)
{
	size_t i = place_of(c, e->domain);

	if (is_at(c, i, e->domain)) {
		e->asked = c->entries[i]->asked;
		forget(c, i);
	}
	make_room(c, e->policy.len);
	i = place_of(c, e->domain);
	memmove(c->entries + i + 1, c->entries + i, (c->len++ - i) * sizeof *c->entries);
	c->entries[i] = e;
	c->octets += e->policy.len;
}

/* --- on disk --------------------------------------------------------------------------------------------------------- */

/* Returns 1, or 0 with errno: the file of before is there. */
static int
write_file(const struct sts_cache *c, const struct sts_cached *e)
{
	char head[HEAD_MAX + 1];
	size_t head_len = (size_t)snprintf(head, sizeof head, "%s %llu\n", e->id, (unsigned long long)e->fetched);
	int fd = openat(c->directory, NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), ok, error;

	if (fd < 0)
		return 0;
	ok = allwrite(fd, head, head_len) == head_len && allwrite(fd, e->text, e->policy.len) == e->policy.len && fsync(fd) == 0;
	error = errno;
	close(fd);
	if (ok && renameat(c->directory, NEW, c->directory, e->domain) == 0)
		return 1;
	if (ok)
		error = errno;
	unlinkat(c->directory, NEW, 0);
	errno = error;
	return 0;
}

/* The octets of a file, up to room; -1: it is none, or has more. */
static ssize_t
read_file(const struct sts_cache *c, const char *name, char *s, size_t room)
{
	int fd = openat(c->directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	ssize_t len = -1;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && (size_t)st.st_size <= room &&
	    allread(fd, s, (size_t)st.st_size) == (size_t)st.st_size)
		len = st.st_size;
	if (fd >= 0)
		close(fd);
	return len;
}

/* Whether a file could not be read for now; other errors, such as that it is a link, say that it is none of ours. */
static int
is_passing(int error)
{
	return error == EIO || error == ESTALE || is_shortage(error);
}

/* Enters what a file holds. Returns 1, 0 if that is of no use, -1 with errno: it could not be read for now. */
static int
load(struct sts_cache *c, const char *domain, uint64_t now)
{
	static char s[HEAD_MAX + STS_POLICY_MAX];
	ssize_t len = -1;
	char *end, *blank;
	uint64_t fetched;
	struct sts_policy p;
	struct sts_cached *e;

	errno = 0;
	if (sts_cache_is_domain(domain))
		len = read_file(c, domain, s, sizeof s);
	if (len < 0 && is_passing(errno))
		return -1;
	end = len > 0 ? memchr(s, '\n', (size_t)len) : NULL;
	if (!end)
		return 0;
	*end = '\0';
	blank = strchr(s, ' ');
	if (!blank || blank - s > STS_ID_MAX || !uint640_scan(blank + 1, &fetched) ||
	    sts_policy_parse(&p, end + 1, (size_t)(len - (end + 1 - s))))
		return 0;
	*blank = '\0';
	e = new_entry(domain, s, &p, fetched < now ? fetched : now);
	if (!e)
		return -1;
	if (e->expires <= now) {
		free(e);
		return 0;
	}
	enter(c, e);
	return 1;
}

int
sts_cache_open(struct sts_cache *c, const char *directory, uint64_t now)
{
	const struct dirent *entry;
	DIR *list;
	int loaded = 0, e;

	*c = (struct sts_cache){ .directory = -1 };
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return 0;
	c->directory = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	list = opendir(directory);
	if (c->directory < 0 || !list) {
		if (list)
			closedir(list);
		sts_cache_close(c);
		return 0;
	}
	while (loaded >= 0 && (errno = 0, (entry = readdir(list)))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		loaded = load(c, entry->d_name, now);
		if (!loaded)
			unlinkat(c->directory, entry->d_name, 0);
	}
	e = errno;
	closedir(list);
	if (e)
		sts_cache_close(c);
	errno = e;
	return !e;
}

void
sts_cache_close(struct sts_cache *c)
{
	while (c->len)
		forget(c, c->len - 1);
	if (c->directory >= 0)
		close(c->directory);
	c->directory = -1;
}

/* --- all ------------------------------------------------------------------------------------------------------------- */

struct sts_cached *
sts_cache_find(struct sts_cache *c, const char *domain, uint64_t now)
{
	size_t i = place_of(c, domain);

	if (!is_at(c, i, domain) || c->entries[i]->expires <= now)
		return NULL;
	c->entries[i]->asked = ++c->questions;
	return c->entries[i];
}

const char *
sts_cache_put(struct sts_cache *c, const char *domain, const char *id, const char *text, size_t len, uint64_t now)
{
	struct sts_policy p;
	const char *why = sts_policy_parse(&p, text, len);
	struct sts_cached *e;

	if (why)
		return why;
	e = new_entry(domain, id, &p, now);
	if (!e)
		return "";
	enter(c, e);
	return write_file(c, e) ? NULL : "";
}

struct sts_cached *
sts_cache_sweep(struct sts_cache *c, uint64_t now)
{
	struct sts_cached *first = NULL;

	for (size_t i = c->len; i--; )
		if (c->entries[i]->expires <= now)
			drop(c, i);
		else if (c->entries[i]->refresh <= now && (!first || c->entries[i]->refresh < first->refresh))
			first = c->entries[i];
	return first;
}
