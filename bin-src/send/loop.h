/* loop: waits for many descriptors at once (epoll). A source is a member of what owns the descriptor. */
#ifndef LOOP_H
#define LOOP_H
#include <stdint.h>

struct loop_source {
	int fd;			/* -1: not watched */
	uint32_t events;	/* EPOLLIN, EPOLLOUT that are waited for */
	void (*ready)(void *context, void *owner, uint32_t events);
	void *owner;
};

struct loop {
	int fd;
	int highest;		/* descriptor that was ever watched */
	void *context;		/* for every ready, and for awake */
	void (*awake)(void *context);	/* what comes first when a wait is over; NULL: nothing */
};

/* Returns 1, or 0 with errno. */
int loop_init(struct loop *l, void *context);

/* Watches source->fd for events from now on. Returns 1, or 0 with errno. A source must be removed before its
 * descriptor is closed, and may not be freed before loop_wait returned. */
int loop_add(struct loop *l, struct loop_source *source, uint32_t events);
void loop_change(struct loop *l, struct loop_source *source, uint32_t events);	/* cheap if nothing changes */
void loop_remove(struct loop *l, struct loop_source *source);	/* harmless if it is not watched; trouble ends the process */

/* Waits for at most timeout_ms (-1: without end), calls awake, and ready for what is. Signals interrupt it; those of blocked
 * are let in only here. Returns 1, or 0 with errno. */
int loop_wait(struct loop *l, int timeout_ms);

#endif
