#include <string.h>
#include <sys/random.h>
#include "client_limits.h"
#include "unforked.h"

enum { IPV4_PREFIX = 24, IPV6_PREFIX = 64, PER_CONNECTION = 2 };

/* What an entry stands for: the bits of an address up to prefix; prefixes of IPv4 are counted from 128. */
static struct client_limits_entry
name(const ip46 *address, int whole)
{
	struct client_limits_entry e = { .count = 0 };

	for (int i = 0; i < 8; i++) {
		e.high = e.high << 8 | (unsigned char)address->ip[i];
		e.low = e.low << 8 | (unsigned char)address->ip[i + 8];
	}
	if (ip46_is6(address)) {
		e.prefix = whole ? 128 : IPV6_PREFIX;
		if (!whole)
			e.low = 0;
		return e;
	}
	e.low = 0;
	e.high >>= 32;
	if (!whole)
		e.high &= ~(uint64_t)0xff;
	e.prefix = 128 + (whole ? 32 : IPV4_PREFIX);
	return e;
}

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0x9e3779b97f4a7c15);
	x ^= x >> 29;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ x >> 32;
}

static size_t
place(const struct client_limits *l, const struct client_limits_entry *e)
{
	return (size_t)mix(mix(mix(l->key ^ e->high) ^ l->key ^ e->low) ^ e->prefix) & l->mask;
}

/* The entry of that name, or the free one where it belongs. */
static struct client_limits_entry *
find(const struct client_limits *l, const struct client_limits_entry *wanted)
{
	size_t i = place(l, wanted);

	while (l->entries[i].count && (l->entries[i].high != wanted->high || l->entries[i].low != wanted->low ||
	    l->entries[i].prefix != wanted->prefix))
		i = (i + 1) & l->mask;
	return &l->entries[i];
}

static void
add(struct client_limits *l, struct client_limits_entry wanted)
{
	struct client_limits_entry *e = find(l, &wanted);

	wanted.count = e->count + 1;
	*e = wanted;
}

/* Frees entry i; those behind it that would not be found any more move up. */
static void
remove_entry(struct client_limits *l, size_t i)
{
	size_t j = i;

	for (;;) {
		size_t home;

		l->entries[i].count = 0;
		do {
			j = (j + 1) & l->mask;
			if (!l->entries[j].count)
				return;
			home = place(l, &l->entries[j]);
		} while (((j - home) & l->mask) < ((j - i) & l->mask));
		l->entries[i] = l->entries[j];
		i = j;
	}
}

static void
subtract(struct client_limits *l, struct client_limits_entry wanted)
{
	struct client_limits_entry *e = find(l, &wanted);

	if (e->count > 1)
		e->count--;
	else if (e->count)
		remove_entry(l, (size_t)(e - l->entries));
}

int
client_limits_init(struct client_limits *l, size_t most, size_t most_address, size_t most_prefix)
{
	size_t size = 16;

	*l = (struct client_limits){ .most = most, .most_address = most_address, .most_prefix = most_prefix };
	while (size < most * PER_CONNECTION * 2)
		size *= 2;
	l->entries = unforked_alloc(size * sizeof *l->entries);
	l->mask = size - 1;
	if (!l->entries)
		return 0;
	/* without random octets the table still counts right */
	if (getrandom(&l->key, sizeof l->key, GRND_NONBLOCK) < 0)
		l->key = (uint64_t)(uintptr_t)l->entries;
	return 1;
}

enum client_limits_answer
client_limits_take(struct client_limits *l, const ip46 *address)
{
	struct client_limits_entry whole = name(address, 1), prefix = name(address, 0);

	if (l->count >= l->most)
		return CLIENT_LIMITS_ALL;
	if (find(l, &whole)->count >= l->most_address)
		return CLIENT_LIMITS_ADDRESS;
	if (find(l, &prefix)->count >= l->most_prefix)
		return CLIENT_LIMITS_PREFIX;
	add(l, whole);
	add(l, prefix);
	l->count++;
	return CLIENT_LIMITS_FINE;
}

size_t
client_limits_of_prefix(const struct client_limits *l, const ip46 *address)
{
	struct client_limits_entry prefix = name(address, 0);

	return find(l, &prefix)->count;
}

void
client_limits_give(struct client_limits *l, const ip46 *address)
{
	subtract(l, name(address, 1));
	subtract(l, name(address, 0));
	if (l->count)
		l->count--;
}

void
client_limits_free(struct client_limits *l)
{
	unforked_free(l->entries, (l->mask + 1) * sizeof *l->entries);
	l->entries = NULL;
}
