/* held_signals: signals that a program holds back (blocked) and lets in only while it waits, in ppoll or epoll_pwait. These let none in
 * when something is ready at once, epoll_pwait neither when it is not to wait at all (time-out 0), so that a program which always has
 * something to do would hear of nothing: not that it is to stop, nor that its children have ended. After each such wait they are let in
 * by this. */
#ifndef HELD_SIGNALS_H
#define HELD_SIGNALS_H
#include <signal.h>

/* Holds back the signals, a list that 0 ends, and has on_signal take them; SIGPIPE is ignored. *outside becomes what was blocked before,
 * without these: for waits, and for programs that are started. Returns 1, or 0 with errno set. */
int held_signals_take(const int *signals, void (*on_signal)(int), sigset_t *outside);

/* outside: the signals that are blocked while the program waits. Handlers of those that have come have run when this returns. */
static inline void
held_signals_let_in(const sigset_t *outside)
{
	sigset_t held;

	sigprocmask(SIG_SETMASK, outside, &held);
	sigprocmask(SIG_SETMASK, &held, NULL);
}

#endif
