/* capabilities: what CAPA says, RFC 2449: the same before the login and after it, but for TLS. */
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

/* Says the ways to log in, USER and SASL: RFC 2449 sections 6.2 and 6.3 (5034 section 3) announce them in both states. Before the login
 * they are said only where a login may be tried. STLS is announced before it alone, RFC 2595 section 4. */
void capabilities_say_logins(struct output *out);

/* Says all others, but STLS, without the final line. */
void capabilities_say(const struct capabilities *c, struct output *out);

#endif
