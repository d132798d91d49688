#include "schedule.h"

/* c of the rule, by channel */
static const int64_t step[] = { [ROUTE_LOCAL] = 10, [ROUTE_REMOTE] = 20 };

uint64_t
schedule_root(uint64_t n)
{
	uint64_t root = 0;

	/* one binary digit at a time, the highest first; 32 of them */
	for (uint64_t bit = UINT64_C(1) << 31; bit; bit >>= 1)
		if ((root + bit) * (root + bit) <= n)
			root += bit;
	return root;
}

/* Seconds from birth to now; 0 for a birth in the future. */
static uint64_t
age(int64_t birth, int64_t now)
{
	return now > birth ? (uint64_t)now - (uint64_t)birth : 0;
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t
schedule_next(int64_t birth, int64_t now, enum route_channel channel)
{
	int64_t root = (int64_t)schedule_root(age(birth, now)) + step[channel];

	return earlier(birth, now) + root * root;
}

int64_t
schedule_resume(int64_t birth, int64_t last, enum route_channel channel)
{
	int64_t root = ((int64_t)schedule_root(age(birth, last)) / step[channel] + 1) * step[channel];

	return earlier(birth, last) + root * root;
}

int
schedule_is_over(int64_t birth, int64_t now, int64_t lifetime)
{
	return age(birth, now) > (uint64_t)lifetime;
}
