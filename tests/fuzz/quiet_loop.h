/* quiet_loop: qmail-send's loop and log, for a target that calls what is ready by itself: nothing is waited for, nothing is logged. */
#ifndef FUZZ_QUIET_LOOP_H
#define FUZZ_QUIET_LOOP_H
#include "bin-src/send/log.h"
#include "bin-src/send/loop.h"

int
loop_add(struct loop *l, struct loop_source *source, uint32_t events)
{
	return l && source->fd >= 0 && events;
}

void
loop_change(struct loop *l, struct loop_source *source, uint32_t events)
{
	(void)l, (void)source, (void)events;
}

void
loop_remove(struct loop *l, struct loop_source *source)
{
	(void)l, (void)source;
}

void
log_line(struct log *log, ...)
{
	(void)log;
}

#endif
