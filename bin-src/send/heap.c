#include <stdlib.h>
#include "heap.h"

void
heap_init(struct heap *h, size_t at)
{
	*h = (struct heap){ .at = at };
}

void
heap_free(struct heap *h)
{
	free(h->entries);
	heap_init(h, h->at);
}

int
heap_reserve(struct heap *h, uint32_t count)
{
	size_t room = (size_t)h->room + h->room / 2 + 64;
	struct heap_entry *entries;

	if (count <= h->room)
		return 1;
	if (room < count)
		room = count;
	entries = realloc(h->entries, (room + 1) * sizeof *entries);
	if (!entries)
		return 0;
	h->entries = entries;
	h->room = (uint32_t)room;
	return 1;
}

static uint32_t *
place_of(const struct heap *h, void *item)
{
	return (uint32_t *)(void *)((char *)item + h->at);
}

static void
settle(struct heap *h, uint32_t at, struct heap_entry e)
{
	h->entries[at] = e;
	*place_of(h, e.item) = at;
}

/* Puts e at the free place at, or further up or down from there. */
static void
sift(struct heap *h, uint32_t at, struct heap_entry e)
{
	for (; at > 1 && h->entries[at / 2].when > e.when; at /= 2)
		settle(h, at, h->entries[at / 2]);
	for (;;) {
		uint32_t child = 2 * at;

		if (child < h->len && h->entries[child + 1].when < h->entries[child].when)
			child++;
		if (child > h->len || h->entries[child].when >= e.when)
			break;
		settle(h, at, h->entries[child]);
		at = child;
	}
	settle(h, at, e);
}

void
heap_put(struct heap *h, void *item, int64_t when)
{
	uint32_t at = *place_of(h, item);

	sift(h, at ? at : ++h->len, (struct heap_entry){ .when = when, .item = item });
}

void
heap_remove(struct heap *h, void *item)
{
	uint32_t at = *place_of(h, item);
	struct heap_entry last;

	if (!at)
		return;
	*place_of(h, item) = 0;
	last = h->entries[h->len--];
	if (last.item != item)
		sift(h, at, last);
}

void *
heap_first(const struct heap *h, int64_t *when)
{
	if (!h->len)
		return NULL;
	*when = h->entries[1].when;
	return h->entries[1].item;
}
