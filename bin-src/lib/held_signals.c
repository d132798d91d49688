#include "held_signals.h"

int
held_signals_take(const int *signals, void (*on_signal)(int), sigset_t *outside)
{
	struct sigaction act = { .sa_handler = on_signal };
	sigset_t taken;

	sigemptyset(&taken);
	for (const int *s = signals; *s; s++)
		sigaddset(&taken, *s);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &taken, outside) < 0)
		return 0;
	for (const int *s = signals; *s; s++) {
		if (sigaction(*s, &act, NULL) < 0)
			return 0;
		sigdelset(outside, *s);
	}
	return 1;
}
