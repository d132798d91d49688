#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "held_signals.h"
#include "lingering.h"
#include "monotonic.h"
#include "service_loop.h"
#include "service_socket.h"
#include "shortage.h"

int
service_loop_wait(struct service_loop *l, unsigned int len, int takes_callers, uint64_t until)
{
	uint64_t now = monotonic_ms(), ms;
	int is_paused = takes_callers && now < l->paused_until, n;
	struct timespec patience;

	if (is_paused && l->paused_until < until)
		until = l->paused_until;
	ms = until > now ? until - now : 0;
	patience = (struct timespec){ .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };
	l->polled[len] = (struct pollfd){ .fd = takes_callers && !is_paused ? l->listener : -1, .events = POLLIN };
	n = ppoll(l->polled, len + 1, &patience, &l->outside);
	if (n > 0)
		held_signals_let_in(&l->outside);
	for (unsigned int i = 0; n < 0 && i <= len; i++)
		l->polled[i].revents = 0;
	l->has_caller = l->polled[len].revents != 0;
	return n >= 0 || errno == EINTR;
}

int
service_loop_accept(struct service_loop *l, const struct service_users *users)
{
	int fd = l->has_caller ? accept4(l->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;

	if (fd >= 0 && !service_users_have(users, service_socket_peer(fd))) {
		lingering_close(fd);
		return -1;
	}
	if (fd < 0 && l->has_caller && is_shortage(errno))
		l->paused_until = monotonic_ms() + SERVICE_LOOP_PAUSE_MS;
	return fd;
}
