/* sts_cache: the policies of MTA-STS that this host knows, in memory and as files of a directory, which outlive the process.
 * Files    DIRECTORY/DOMAIN: a line of id and time of fetching (seconds of 1970), then the policy as it came. One is written beside
 *          and flushed before it takes its name; what cannot be used, and what has expired, is removed
 * Time     time(2). A policy holds for its max_age, but STS_CACHE_LEAST seconds at least, so that nobody has it fetched for every
 *          message; one that was fetched in the future was fetched now
 * Bounds   STS_CACHE_MAX policies, STS_CACHE_OCTETS of text: what was not asked about for longest makes room */
#ifndef STS_CACHE_H
#define STS_CACHE_H
#include <stddef.h>
#include <stdint.h>
#include "sts_policy.h"
#include "sts_record.h"

enum {
	STS_CACHE_MAX = 10000,
	STS_CACHE_OCTETS = 16 << 20,
	STS_CACHE_LEAST = 300,		/* seconds */
	STS_CACHE_REFRESH = 86400,	/* seconds after which a policy is fetched anew (RFC 8461 section 3.3), or half its max_age */
	STS_DOMAIN_MAX = 253,		/* octets */
};

struct sts_cached {
	char id[STS_ID_MAX + 1];
	uint64_t fetched, expires, refresh;	/* refresh: the caller may put it off */
	uint64_t asked;		/* higher: later */
	struct sts_policy policy;
	char domain[STS_DOMAIN_MAX + 1];
	char text[];
};

struct sts_cache {
	int directory;
	struct sts_cached *entries[STS_CACHE_MAX];	/* sorted by domain */
	size_t len, octets;
	uint64_t questions;
};

/* Whether it is a domain as the functions below want it: lower case, in the letters of host names and '_', without a final dot.
 * It can be the name of a file, and none that begins with a dot. */
int sts_cache_is_domain(const char *domain);

/* Reads the directory, which is made if there is none. Returns 1, or 0 with errno: also where a file cannot be read for now (EIO, ENOMEM ...),
 * so that no policy is forgotten for that. Files that are of no use are removed. */
int sts_cache_open(struct sts_cache *c, const char *directory, uint64_t now);

/* The policy of a domain, until the next call that changes something; NULL: none is known. */
struct sts_cached *sts_cache_find(struct sts_cache *c, const char *domain, uint64_t now);

/* A policy that was fetched takes the place of the one before. Returns NULL; or why the text is none, and nothing changes; or "" with
 * errno: it is not on disk, or, for want of memory, nowhere. */
const char *sts_cache_put(struct sts_cache *c, const char *domain, const char *id, const char *text, size_t len, uint64_t now);

/* Removes what has expired. Returns the policy that is to be fetched anew first, if it is time, or NULL. */
struct sts_cached *sts_cache_sweep(struct sts_cache *c, uint64_t now);

void sts_cache_close(struct sts_cache *c);

#endif
