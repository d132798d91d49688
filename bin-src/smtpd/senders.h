/* senders: which envelope senders belong to a login.
 * Its own    the null sender, because receipts and bounces of a user's programs have it; the login itself; of a login without '@', a user of
 *            this machine, also login@DOMAIN with a domain of control/locals (where there is no such file: of control/me)
 * The table  control/submissionsenders, lines "LOGIN:SENDER", as address_pattern.h has them
 * Compared   without ASCII case */
#ifndef SENDERS_H
#define SENDERS_H
#include "control/control.h"

struct senders {
	stralloc table;		/* entries, each ended by NUL */
	struct control_map locals;
};

/* Reads the files below control/ of the current directory into *s, which is all zero or was read before. Returns 1, or 0 with errno set and
 * *file what could not be read; *s is then as it was. */
int senders_read(struct senders *s, const char **file);

/* Whether sender belongs to login. */
int senders_has(const struct senders *s, const char *login, const char *sender);

void senders_free(struct senders *s);

#endif
