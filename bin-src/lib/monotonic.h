/* monotonic: the clock for time-outs, which no change of the wall clock moves. */
#ifndef MONOTONIC_H
#define MONOTONIC_H
#include <stdint.h>
#include <time.h>

/* Milliseconds since some moment before this process began. */
static inline uint64_t
monotonic_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#endif
