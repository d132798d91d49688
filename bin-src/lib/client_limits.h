/* client_limits: counts connections in all, of each client address, and of each network: /24 of IPv4, /64 of IPv6.
 * Memory   made once, for as many connections as there may be; a connection costs nothing more. Children do not get it
 *          (lib/unforked.h): after a fork only the parent may call these
 * Trust    addresses are the clients' choice, so their places in the table depend on a random key */
#ifndef CLIENT_LIMITS_H
#define CLIENT_LIMITS_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/ip46.h>

enum client_limits_answer {
	CLIENT_LIMITS_FINE,
	CLIENT_LIMITS_ALL,	/* as many connections as there may be */
	CLIENT_LIMITS_ADDRESS,	/* as many as of one address */
	CLIENT_LIMITS_PREFIX,	/* as many as of one network */
};

struct client_limits {
	size_t most, most_address, most_prefix;
	size_t count;
	uint64_t key;
	struct client_limits_entry { uint64_t high, low; uint32_t prefix, count; } *entries;	/* open addressing; count 0: free */
	size_t mask;		/* number of entries - 1 */
};

/* 1, or 0 with errno set. most: at least 1. */
int client_limits_init(struct client_limits *l, size_t most, size_t most_address, size_t most_prefix);

/* Counts one more connection of address, if that is CLIENT_LIMITS_FINE. */
enum client_limits_answer client_limits_take(struct client_limits *l, const ip46 *address);

/* Connections of the address's network that are counted. */
size_t client_limits_of_prefix(const struct client_limits *l, const ip46 *address);

/* One that was counted has ended. */
void client_limits_give(struct client_limits *l, const ip46 *address);

void client_limits_free(struct client_limits *l);

#endif
