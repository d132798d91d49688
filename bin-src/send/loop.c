#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "held_signals.h"
#include "loop.h"

enum { EVENTS = 256 };	/* taken in one turn */

int
loop_init(struct loop *l, void *context)
{
	*l = (struct loop){ .fd = epoll_create1(EPOLL_CLOEXEC), .context = context };
	l->highest = l->fd;
	return l->fd >= 0;
}

static int
control(struct loop *l, int operation, struct loop_source *source, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = source };

	if (epoll_ctl(l->fd, operation, source->fd, &e) < 0)
		return 0;
	source->events = events;
	return 1;
}

int
loop_add(struct loop *l, struct loop_source *source, uint32_t events)
{
	if (source->fd > l->highest)
		l->highest = source->fd;
	return control(l, EPOLL_CTL_ADD, source, events);
}

void
loop_change(struct loop *l, struct loop_source *source, uint32_t events)
{
	if (source->fd >= 0 && source->events != events)
		control(l, EPOLL_CTL_MOD, source, events);
}

void
loop_remove(struct loop *l, struct loop_source *source)
{
	/* a child may still have the descriptor: what stayed watched would be used when it is gone */
	if (source->fd >= 0 && !control(l, EPOLL_CTL_DEL, source, 0))
		strerr_diefusys(EXIT_TEMP, "stop watching a descriptor");
	source->fd = -1;
}

int
loop_wait(struct loop *l, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	sigset_t none;
	int n;

	sigemptyset(&none);
	n = epoll_pwait(l->fd, events, EVENTS, timeout_ms, &none);
	if (n < 0)
		return errno == EINTR;
	held_signals_let_in(&none);
	if (l->awake)
		l->awake(l->context);
	for (int i = 0; i < n; i++) {
		struct loop_source *source = events[i].data.ptr;

		/* an earlier one of this turn may have removed it */
		if (source->fd >= 0)
			source->ready(l->context, source->owner, events[i].events);
	}
	return 1;
}
