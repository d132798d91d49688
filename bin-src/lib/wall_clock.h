/* wall_clock: the time of day, for comparison with times that the file system wrote. */
#ifndef WALL_CLOCK_H
#define WALL_CLOCK_H
#include <time.h>

/* Seconds since 1970, never less than a time that a file of this machine already has. time() is: it may be a tick of the kernel's
 * clock behind, and a file that was written at the turn of a second is then one from the future. */
static inline time_t
wall_clock_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

#endif
