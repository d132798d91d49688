/* schedule: when a message that has to wait is tried again (interfaces section 6.3).
 * Times    seconds of the wall clock
 * Rule     an attempt at age a is followed by one at age (floor(sqrt(a)) + c)^2; so, while attempts are punctual, they
 *          are made at the ages 0, c^2, (2c)^2, (3c)^2 ...: 400 s, 1600 s, 3600 s ... for remote recipients (c = 20),
 *          100 s, 400 s, 900 s ... for local ones (c = 10)
 * Future   a message that was born later than now (the clock was set back) counts as born now */
#ifndef SCHEDULE_H
#define SCHEDULE_H
#include <stdint.h>
#include "route.h"

/* The largest integer whose square is not above n. */
uint64_t schedule_root(uint64_t n);

/* When to try again after an attempt at now. */
int64_t schedule_next(int64_t birth, int64_t now, enum route_channel channel);

/* When to try again a message about which only this is known: it was tried, and not later than at last. The first
 * punctual time that is later than last; the caller takes one that has passed as "at once". */
int64_t schedule_resume(int64_t birth, int64_t last, enum route_channel channel);

/* 1 if a message is too old at now to be tried again after a pass that starts now. */
int schedule_is_over(int64_t birth, int64_t now, int64_t lifetime);

#endif
