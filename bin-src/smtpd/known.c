#include <string.h>
#include "known.h"

/* FNV-1a. Whoever finds two addresses of one slot makes them be looked up, no more. */
static unsigned int
slot_of(const char *address)
{
	uint32_t hash = 2166136261u;

	for (; *address; address++)
		hash = (hash ^ (unsigned char)*address) * 16777619u;
	return (hash ^ hash >> 16) % KNOWN_SLOTS;
}

const char *
known_find(const struct known *k, const char *address, uint64_t now)
{
	const struct known_slot *slot = &k->slots[slot_of(address)];

	if (slot->until <= now || strcmp(slot->text, address) != 0)
		return NULL;
	return slot->text + strlen(slot->text) + 1;
}

void
known_add(struct known *k, const char *address, const char *reason, uint64_t now)
{
	struct known_slot *slot = &k->slots[slot_of(address)];
	size_t len = strlen(address) + 1, size = strlen(reason) + 1;

	if (len > KNOWN_SIZE || size > KNOWN_SIZE - len)
		return;
	slot->until = now + KNOWN_MS;
	memcpy(slot->text, address, len);
	memcpy(slot->text + len, reason, size);
}

void
known_forget(struct known *k)
{
	for (unsigned int i = 0; i < KNOWN_SLOTS; i++)
		k->slots[i].until = 0;
}
