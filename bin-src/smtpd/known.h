/* known: addresses that were found to deliver a moment ago. Only these are remembered: at worst mail for an address that has
 * just gone is accepted and bounces, never is one refused that has just come.
 * Bounds   KNOWN_SLOTS addresses, of equal hash the last; KNOWN_MS; what does not fit into a slot is not remembered */
#ifndef KNOWN_H
#define KNOWN_H
#include <stddef.h>
#include <stdint.h>

enum {
	KNOWN_SLOTS = 512,
	KNOWN_MS = 5000,
	KNOWN_SIZE = 184,	/* octets of address, reason and their NULs */
};

struct known {
	struct known_slot {
		uint64_t until;		/* monotonic_ms */
		char text[KNOWN_SIZE];	/* address NUL reason NUL */
	} slots[KNOWN_SLOTS];
};

/* Why address delivers, NULL if it is not remembered. */
const char *known_find(const struct known *k, const char *address, uint64_t now);

void known_add(struct known *k, const char *address, const char *reason, uint64_t now);

/* Forgets all, because control files have changed. */
void known_forget(struct known *k);

#endif
