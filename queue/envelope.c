#include <string.h>
#include "queue/envelope.h"
#include "queue/protocol.h"

unsigned int
envelope_check(struct envelope_check *c, const char *s, size_t len, size_t *used)
{
	size_t i = 0;

	while (i < len && c->state != ENVELOPE_COMPLETE) {
		const char *nul;
		size_t n;

		if (c->total == QUEUE_ENVELOPE_MAX)
			return QUEUE_REFUSED;
		if (c->state != ENVELOPE_ADDRESS) {
			char kind = s[i++];

			c->total++;
			if (c->state == ENVELOPE_NEXT && !kind) {
				c->state = ENVELOPE_COMPLETE;
				continue;
			}
			if (kind != (c->state == ENVELOPE_START ? 'F' : 'T'))
				return QUEUE_ENVELOPE;
			c->recipients += kind == 'T';
			c->address_len = 0;
			c->state = ENVELOPE_ADDRESS;
			continue;
		}
		nul = memchr(s + i, '\0', len - i);
		n = nul ? (size_t)(nul - (s + i)) : len - i;
		c->address_len += n;
		if (c->address_len > QUEUE_ADDRESS_MAX)
			return QUEUE_ADDRESS_TOO_LONG;
		if (nul) {
			n++;
			c->state = ENVELOPE_NEXT;
		}
		i += n;
		c->total += n;
		if (c->total > QUEUE_ENVELOPE_MAX)
			return QUEUE_REFUSED;
	}
	*used = i;
	return QUEUE_OK;
}

const char *
envelope_sender(const char *envelope)
{
	return envelope + 1;
}

const char *
envelope_next(const char *address)
{
	address += strlen(address) + 1;
	return *address == 'T' ? address + 1 : NULL;
}
