#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include "places.h"

enum { PAGE = 4096 };

union cell {
	struct queue_place place;
	union cell *next;	/* while it is free */
};

/* A page of cells. Pages with a free cell are in a list. */
struct page {
	struct page *next, *before;
	union cell *free;
	unsigned int used;
	union cell cells[];
};

enum { CELLS = (PAGE - sizeof(struct page)) / sizeof(union cell) };

static struct page *open_pages;

static void
enter(struct page *p)
{
	p->before = NULL;
	p->next = open_pages;
	if (open_pages)
		open_pages->before = p;
	open_pages = p;
}

static void
leave(struct page *p)
{
	*(p->before ? &p->before->next : &open_pages) = p->next;
	if (p->next)
		p->next->before = p->before;
}

static struct page *
new_page(void)
{
	struct page *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	for (size_t i = 0; i + 1 < CELLS; i++)
		p->cells[i].next = &p->cells[i + 1];
	p->free = p->cells;
	enter(p);
	return p;
}

struct queue_place *
place_new(const struct queue_place *place)
{
	struct page *p = open_pages ? open_pages : new_page();
	union cell *c;

	if (!p)
		return NULL;
	c = p->free;
	p->free = c->next;
	p->used++;
	if (!p->free)
		leave(p);
	c->place = *place;
	return &c->place;
}

void
place_free(struct queue_place *place)
{
	struct page *p = (struct page *)((uintptr_t)place & ~(uintptr_t)(PAGE - 1));
	union cell *c = (union cell *)place;

	if (!place)
		return;
	if (!p->free)
		enter(p);
	c->next = p->free;
	p->free = c;
	/* the last page stays: it would be needed again at once */
	if (--p->used == 0 && (p->next || p->before)) {
		leave(p);
		munmap(p, PAGE);
	}
}
