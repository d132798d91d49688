/* capabilities: what CAPA says, RFC 2449: the same before the login and after it, but for what belongs to the login itself. */
#ifndef CAPABILITIES_H
#define CAPABILITIES_H
#include <stdint.h>
#include "output.h"

#define CAPABILITIES_EXPIRE_NEVER UINT64_MAX

struct capabilities {
	uint64_t login_delay;	/* seconds between logins that are announced; 0: any */
	uint64_t expire;	/* days that messages are kept, as is announced; CAPABILITIES_EXPIRE_NEVER */
};

/* Reads the control files; the current directory is the home. 1, or 0 with errno set. */
int capabilities_read(struct capabilities *c);

/* Says all of them, but USER, SASL and STLS, without the final line. */
void capabilities_say(const struct capabilities *c, struct output *out);

#endif
