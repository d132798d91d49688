/* heap: items in the order of a time, the earliest first. O(log n) to add, move and remove, O(1) to look.
 * Each item holds, in a uint32_t of its own, its place in the heap (0: not in it): so it can be found again. */
#ifndef HEAP_H
#define HEAP_H
#include <stddef.h>
#include <stdint.h>

struct heap_entry { int64_t when; void *item; };

struct heap {
	struct heap_entry *entries;	/* entries[0] is not used, entries[1] is the earliest */
	uint32_t len, room;		/* without entries[0] */
	size_t at;			/* offset of the uint32_t in an item */
};

/* An empty heap of items whose place is kept at offset at. */
void heap_init(struct heap *h, size_t at);
void heap_free(struct heap *h);

/* Makes sure that count items in all can be in the heap. Returns 1, or 0 (ENOMEM). */
int heap_reserve(struct heap *h, uint32_t count);

/* Adds item, or moves it if it is in the heap. There must be room (heap_reserve) for a new one. */
void heap_put(struct heap *h, void *item, int64_t when);

/* Removes item; harmless if it is not in the heap. */
void heap_remove(struct heap *h, void *item);

/* The earliest item and its time; NULL if the heap is empty. */
void *heap_first(const struct heap *h, int64_t *when);

#endif
