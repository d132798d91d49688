/* envelope: the envelope as qmail-queue reads it on descriptor 1: 'F' sender NUL ('T' recipient NUL)* NUL.
 * Trust   any octets; a check in pieces, so that nothing has to be whole in memory */
#ifndef ENVELOPE_H
#define ENVELOPE_H
#include <stddef.h>
#include <stdint.h>

enum envelope_state { ENVELOPE_START, ENVELOPE_ADDRESS, ENVELOPE_NEXT, ENVELOPE_COMPLETE };

/* {0} is a check that has seen nothing. */
struct envelope_check {
	enum envelope_state state;
	size_t address_len;	/* octets of the address that is being read */
	size_t total;		/* octets up to now, kinds and NULs included */
	uint32_t recipients;
};

/* Goes on over len octets; *used says how many belong to the envelope (fewer than len once it is complete).
 * Returns QUEUE_OK, or what makes the envelope bad for good or for now: QUEUE_ENVELOPE (syntax),
 * QUEUE_ADDRESS_TOO_LONG, QUEUE_REFUSED (over QUEUE_ENVELOPE_MAX). */
unsigned int envelope_check(struct envelope_check *c, const char *s, size_t len, size_t *used);

/* The sender of a complete, checked envelope, NUL-terminated. */
const char *envelope_sender(const char *envelope);

/* The address after address (a result of envelope_sender or of this function), NULL after the last. */
const char *envelope_next(const char *address);

#endif
