#include <string.h>
#include <sys/random.h>
#include "login_throttle.h"

enum { ADDRESS = 'a', ACCOUNT = 'n', SECOND_MS = 1000 };

/* --- tables ----------------------------------------------------------------------------------------------- */

/* The entry of that name; if it has none, one that is free or may go, with until 0. */
static struct login_throttle_entry *
entry(struct login_throttle_table *t, uint64_t name)
{
	struct login_throttle_entry *set = t->entries[name % LOGIN_THROTTLE_SETS], *least = set;

	for (int i = 0; i < LOGIN_THROTTLE_WAYS; i++) {
		if (set[i].name == name)
			return &set[i];
		if (set[i].until < least->until)
			least = &set[i];
	}
	*least = (struct login_throttle_entry){ .name = name };
	return least;
}

/* Until when that name is in the table; 0: it is not. */
static uint64_t
until(const struct login_throttle_table *t, uint64_t name)
{
	const struct login_throttle_entry *set = t->entries[name % LOGIN_THROTTLE_SETS];

	for (int i = 0; i < LOGIN_THROTTLE_WAYS; i++)
		if (set[i].name == name)
			return set[i].until;
	return 0;
}

/* How many attempts of that name are not forgiven. */
static uint64_t
debt(const struct login_throttle_table *t, uint64_t name, uint64_t now)
{
	uint64_t end = until(t, name);

	return end > now ? (end - now + LOGIN_THROTTLE_FORGIVE_MS - 1) / LOGIN_THROTTLE_FORGIVE_MS : 0;
}

static void
charge(struct login_throttle_table *t, uint64_t name, uint64_t now)
{
	struct login_throttle_entry *e = entry(t, name);

	e->until = (e->until > now ? e->until : now) + LOGIN_THROTTLE_FORGIVE_MS;
}

static void
give_back(struct login_throttle_table *t, uint64_t name)
{
	/* one that is not there any more would come back empty */
	if (until(t, name) > LOGIN_THROTTLE_FORGIVE_MS)
		entry(t, name)->until -= LOGIN_THROTTLE_FORGIVE_MS;
}

/* --- names: never 0 ------------------------------------------------------------------------------------------ */

static uint64_t
name_of(const struct login_throttle *t, const char *s, size_t len)
{
	return siphash(&t->key, s, len) | 1;
}

static uint64_t
address_name(const struct login_throttle *t, const ip46 *address)
{
	char s[2 + 8] = { ADDRESS, (char)ip46_is6(address) };
	size_t len = ip46_is6(address) ? 8 : 4;

	memcpy(s + 2, address->ip, len);
	return name_of(t, s, 2 + len);
}

static uint64_t
account_name(const struct login_throttle *t, const char *account)
{
	char s[1 + LOGIN_THROTTLE_NAME_MAX] = { ACCOUNT };
	size_t len = 1;

	for (; *account && len < sizeof s; account++)
		s[len++] = *account >= 'A' && *account <= 'Z' ? (char)(*account + ('a' - 'A')) : *account;
	return name_of(t, s, len);
}

static uint64_t
pair_name(const struct login_throttle *t, uint64_t address, uint64_t account)
{
	const uint64_t pair[2] = { address, account };

	return name_of(t, (const char *)pair, sizeof pair);
}

/* --- attempts -------------------------------------------------------------------------------------------------- */

int
login_throttle_init(struct login_throttle *t)
{
	return getrandom(&t->key, sizeof t->key, 0) == sizeof t->key;
}

static void
charge_both(struct login_throttle *t, const struct login_throttle_ticket *ticket, uint64_t now)
{
	if (ticket->address)
		charge(&t->addresses, ticket->address, now);
	charge(&t->accounts, ticket->account, now);
}

uint64_t
login_throttle_admit(struct login_throttle *t, struct login_throttle_ticket *ticket, const ip46 *address, const char *account,
    uint64_t now)
{
	uint64_t of_address, of_account, most, wait;

	*ticket = (struct login_throttle_ticket){ .account = account_name(t, account) };
	if (address) {
		ticket->address = address_name(t, address);
		ticket->pair = pair_name(t, ticket->address, ticket->account);
		if (until(&t->known, ticket->pair) > now)
			return 0;
	}
	of_address = ticket->address ? debt(&t->addresses, ticket->address, now) : 0;
	of_account = debt(&t->accounts, ticket->account, now);
	if (of_address >= LOGIN_THROTTLE_ADDRESS_MOST || of_account >= LOGIN_THROTTLE_ACCOUNT_MOST)
		return LOGIN_THROTTLE_TOO_MANY;
	ticket->is_charged = 1;
	charge_both(t, ticket, now);
	most = of_address > of_account ? of_address : of_account;
	if (most < LOGIN_THROTTLE_FREE)
		return 0;
	wait = (most + 1 - LOGIN_THROTTLE_FREE) * SECOND_MS;
	return wait < LOGIN_THROTTLE_WAIT_MS ? wait : LOGIN_THROTTLE_WAIT_MS;
}

void
login_throttle_unknown(struct login_throttle *t, const struct login_throttle_ticket *ticket)
{
	if (!ticket->is_charged)
		return;
	if (ticket->address)
		give_back(&t->addresses, ticket->address);
	give_back(&t->accounts, ticket->account);
}

void
login_throttle_right(struct login_throttle *t, const struct login_throttle_ticket *ticket, uint64_t now)
{
	login_throttle_unknown(t, ticket);
	if (ticket->pair)
		entry(&t->known, ticket->pair)->until = now + LOGIN_THROTTLE_KNOWN_MS;
}

void
login_throttle_wrong(struct login_throttle *t, const struct login_throttle_ticket *ticket, uint64_t now)
{
	if (ticket->pair && until(&t->known, ticket->pair))
		entry(&t->known, ticket->pair)->until = 0;
	if (!ticket->is_charged)
		charge_both(t, ticket, now);
}
