/* login_throttle: failed logins slow down those that follow, of the same address and of the same account.
 * Debt      an attempt is charged when it is admitted, and given back if it turns out right, or if that cannot be known; one is
 *           forgiven a minute. So many at once fare no better than one after another
 * Wait      the first FREE of an address, or of an account, cost nothing; each one more makes an attempt wait a second longer. Of
 *           an address with more than ADDRESS_MOST, or for an account with more than ACCOUNT_MOST, none is looked at
 * Known     who has logged in to an account from an address within a week is not held up there by what others do, until it fails
 * Address   one of IPv4, a /64 of IPv6
 * Memory    fixed. Places depend on a random key; in a full place the entry goes that would have been forgiven first
 * Trust     addresses and accounts are anybody's choice */
#ifndef LOGIN_THROTTLE_H
#define LOGIN_THROTTLE_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/ip46.h>
#include "siphash.h"

enum {
	LOGIN_THROTTLE_FORGIVE_MS = 60000,
	LOGIN_THROTTLE_FREE = 5,
	LOGIN_THROTTLE_ADDRESS_MOST = 20,
	LOGIN_THROTTLE_ACCOUNT_MOST = 100,
	LOGIN_THROTTLE_WAIT_MS = 15000,		/* the longest */
	LOGIN_THROTTLE_KNOWN_MS = 7 * 86400 * 1000,
	LOGIN_THROTTLE_SETS = 1024, LOGIN_THROTTLE_WAYS = 8,
	LOGIN_THROTTLE_NAME_MAX = 512,		/* octets of an account that count */
};
#define LOGIN_THROTTLE_TOO_MANY UINT64_MAX

struct login_throttle_table {
	struct login_throttle_entry { uint64_t name, until; } entries[LOGIN_THROTTLE_SETS][LOGIN_THROTTLE_WAYS];
};

struct login_throttle {
	struct siphash_key key;
	struct login_throttle_table addresses, accounts;	/* until: when the last of its attempts is forgiven */
	struct login_throttle_table known;			/* until: when it is known no more */
};

/* What an attempt was admitted by. */
struct login_throttle_ticket {
	uint64_t address, account, pair;	/* names in the tables; address and pair 0: no address is known */
	int is_charged;
};

/* *t is all zero. 1, or 0 with errno set: no random octets. */
int login_throttle_init(struct login_throttle *t);

/* An attempt comes in at now (monotonic_ms). address NULL: not known. Returns for how many milliseconds it is to wait before it is
 * looked at; or LOGIN_THROTTLE_TOO_MANY: it is not to be looked at, and *ticket is of no use. */
uint64_t login_throttle_admit(struct login_throttle *t, struct login_throttle_ticket *ticket, const ip46 *address,
    const char *account, uint64_t now);

/* How it ended; nothing more is done with the ticket. */
void login_throttle_right(struct login_throttle *t, const struct login_throttle_ticket *ticket, uint64_t now);
void login_throttle_wrong(struct login_throttle *t, const struct login_throttle_ticket *ticket, uint64_t now);
void login_throttle_unknown(struct login_throttle *t, const struct login_throttle_ticket *ticket);

#endif
