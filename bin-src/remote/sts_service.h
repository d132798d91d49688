/* sts_service: says what the policy of MTA-STS of a domain is, out of its cache, and has those fetched that it does not know.
 * Fetches   a new domain, a new id of its TXT record, and once a day whatever is known. A fetch that failed is not repeated for
 *           STS_SERVICE_AGAIN_S seconds for the same id, and changes nothing: what was known counts until it expires
 * Waits     who asks about what is being fetched waits STS_ANSWER_MS at most, then hears what is known. Only the fetch goes on
 * Bounds    STS_SERVICE_CLIENTS connections, each of which has to ask within STS_SERVICE_IDLE_MS; STS_SERVICE_FETCHES at a time, of which
 *           STS_SERVICE_REFRESHES for those that nobody waits for; more wait
 * Trust     who asks is one of users, and may have been taken over: it can have policies fetched, and no more. What was fetched is
 *           hostile, but counts for the domain only that it was fetched for: each answer comes over a socket of its own */
#ifndef STS_SERVICE_H
#define STS_SERVICE_H
#include <stdint.h>
#include <sys/types.h>
#include "siphash.h"
#include "sts_cache.h"
#include "sts_client.h"

enum {
	STS_SERVICE_CLIENTS = 2000,
	STS_SERVICE_IDLE_MS = 15 * 60 * 1000,	/* longer than qmail-remote lives as a worker */
	STS_SERVICE_FETCHES = 16,
	STS_SERVICE_REFRESHES = 4,
	STS_SERVICE_FETCH_MS = 65000,
	STS_SERVICE_AGAIN_S = 300,	/* RFC 8461 section 3.3 */
	STS_SERVICE_REFRESH_S = 3600,	/* before a daily fetch that failed is repeated */
	STS_SERVICE_FAILURES = 4096,	/* that are remembered */
	STS_SERVICE_USERS = 8,
};

struct sts_asking {
	int fd;			/* -1: free */
	uint64_t deadline;
	char domain[STS_DOMAIN_MAX + 1];	/* "": it has not asked yet */
	char id[STS_ID_MAX + 1];
};

struct sts_fetching {
	int fd;			/* -1: free */
	int is_refresh;
	uint64_t deadline;
	char domain[STS_DOMAIN_MAX + 1];
	char id[STS_ID_MAX + 1];
};

struct sts_service {
	/* the caller's */
	int listener;		/* does not block */
	int fetcher;		/* who is sent, for each fetch, a packet with the domain and a socket for the answer: 'P' and text, or 'E' and why not */
	uid_t users[STS_SERVICE_USERS];	/* who may ask */
	unsigned int users_len;
	struct sts_cache cache;	/* opened */

	uint64_t now, wall;	/* of this turn: monotonic_ms, and time(2) */
	uint64_t sweep;		/* when to look for what is to be refreshed */
	uint64_t listen_again;	/* 0: accepting is not paused */
	uint64_t said;		/* that somebody was turned away */
	unsigned int clients_len;	/* none at and above is taken, nor was touched before it was needed */
	struct sts_asking clients[STS_SERVICE_CLIENTS];
	struct sts_fetching fetches[STS_SERVICE_FETCHES];
	struct siphash_key key;
	struct { uint64_t hash, until; } failures[STS_SERVICE_FAILURES];
};

/* Returns 1, or 0 with errno. */
int sts_service_start(struct sts_service *s);

/* One turn: waits for whatever comes next, and does what there is to do. Returns 0 when fetcher has closed its end. */
int sts_service_turn(struct sts_service *s);

#endif
