/* allowance: how many messages and recipients each account has sent within the last hour.
 * The hour   is of seven periods of ten minutes, the one that runs and the six before it: within no hour there is more than the limit, and
 *            what was used comes back in steps, after 60 to 70 minutes
 * Memory     the same whatever comes: a place in a table for each of ALLOWANCE_SETS * ALLOWANCE_WAYS accounts. Beyond that the one that has
 *            been quiet for longest loses its count. All is lost at a restart
 * Time       monotonic_ms */
#ifndef ALLOWANCE_H
#define ALLOWANCE_H
#include <stdint.h>
#include "siphash.h"

enum { ALLOWANCE_SETS = 2048, ALLOWANCE_WAYS = 8, ALLOWANCE_PERIODS = 7, ALLOWANCE_PERIOD_MS = 600000 };

struct allowance_entry {
	uint64_t name;		/* 0: nobody's */
	uint64_t period;	/* the last one that it was used in */
	uint32_t messages[ALLOWANCE_PERIODS], recipients[ALLOWANCE_PERIODS];	/* by the period's number */
};

/* Of an hour; 0 is any number. */
struct allowance_limits {
	unsigned long messages, recipients;
};

struct allowance {
	struct siphash_key key;
	struct allowance_entry entries[ALLOWANCE_SETS][ALLOWANCE_WAYS];
};

enum allowance_answer { ALLOWANCE_OK, ALLOWANCE_MESSAGES, ALLOWANCE_RECIPIENTS };	/* which limit is reached */

/* Chooses the key; *a is all zero. 1, or 0 with errno set. */
int allowance_init(struct allowance *a);

/* Counts a message of account to so many recipients, or says why not, and counts nothing. What was counted stays if the limits change. */
enum allowance_answer allowance_take(struct allowance *a, const char *account, const struct allowance_limits *limits, unsigned long recipients,
    uint64_t now);

#endif
