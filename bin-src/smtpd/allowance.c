#include <string.h>
#include <sys/random.h>
#include "allowance.h"

int
allowance_init(struct allowance *a)
{
	return getrandom(&a->key, sizeof a->key, 0) == sizeof a->key;
}

/* The entry of that account: its own, one that is nobody's, or that of who has been quiet for longest. */
static struct allowance_entry *
find(struct allowance *a, const char *account, uint64_t period)
{
	uint64_t name = siphash(&a->key, account, strlen(account)) | 1;
	struct allowance_entry *set = a->entries[(name >> 1) % ALLOWANCE_SETS], *least = set;

	for (int i = 0; i < ALLOWANCE_WAYS; i++) {
		if (set[i].name == name)
			return &set[i];
		if (set[i].period < least->period)
			least = &set[i];
	}
	*least = (struct allowance_entry){ .name = name, .period = period };
	return least;
}

/* Forgets the periods between the last one that was used and this one. */
static void
advance(struct allowance_entry *e, uint64_t period)
{
	for (int i = 0; i < ALLOWANCE_PERIODS && e->period < period; i++) {
		e->period++;
		e->messages[e->period % ALLOWANCE_PERIODS] = e->recipients[e->period % ALLOWANCE_PERIODS] = 0;
	}
	e->period = period;
}

static uint64_t
sum(const uint32_t counts[ALLOWANCE_PERIODS])
{
	uint64_t n = 0;

	for (int i = 0; i < ALLOWANCE_PERIODS; i++)
		n += counts[i];
	return n;
}

/* More than fits is as good as the most that fits. */
static void
add(uint32_t *count, unsigned long n)
{
	*count = n > UINT32_MAX - *count ? UINT32_MAX : *count + (uint32_t)n;
}

enum allowance_answer
allowance_take(struct allowance *a, const char *account, const struct allowance_limits *limits, unsigned long recipients, uint64_t now)
{
	uint64_t period = now / ALLOWANCE_PERIOD_MS + 1;	/* 0 is that of an entry never used */
	struct allowance_entry *e = find(a, account, period);

	advance(e, period);
	if (limits->messages && sum(e->messages) >= limits->messages)
		return ALLOWANCE_MESSAGES;
	if (limits->recipients && sum(e->recipients) + recipients > limits->recipients)
		return ALLOWANCE_RECIPIENTS;
	add(&e->messages[period % ALLOWANCE_PERIODS], 1);
	add(&e->recipients[period % ALLOWANCE_PERIODS], recipients);
	return ALLOWANCE_OK;
}
