#include "stamp.h"
#include "wall_clock.h"

struct stamp
stamp_of(const struct stat *st)
{
	return (struct stamp){ .device = st->st_dev, .inode = st->st_ino, .size = st->st_size, .modified = st->st_mtim,
		.changed = st->st_ctim };
}

struct stamp
stamp_take(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? stamp_of(&st) : (struct stamp){ .inode = 0 };
}

static int
is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int
stamp_is_fresh(const struct timespec *t)
{
	time_t now = wall_clock_seconds();

	return t->tv_sec <= now && now - t->tv_sec < STAMP_SETTLE;
}

int
stamp_is_same(const struct stamp *a, const struct stamp *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size && is_same_time(&a->modified, &b->modified) &&
	    is_same_time(&a->changed, &b->changed);
}

int
stamps_are_same(const struct stamp *a, const struct stamp *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!stamp_is_same(&a[i], &b[i]))
			return 0;
	return 1;
}

int
stamps_are_fresh(const struct stamp *stamps, size_t n, const char *directory)
{
	struct stamp around = stamp_take(directory);

	for (size_t i = 0; i < n; i++)
		if (stamp_is_fresh(&stamps[i].modified))
			return 1;
	return stamp_is_fresh(&around.modified);
}
