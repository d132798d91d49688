/* account_limits: how many messages an account may send within an hour, and to how many recipients.
 * For all    control/submissionmessages and control/submissionrecipients
 * For some   control/submissionlimits, lines "LOGIN:MESSAGES:RECIPIENTS", with logins as address_pattern.h has them. The first line that means
 *            the account counts; an empty number is that for all
 * Malformed  lines make the file one that cannot be read: who has mistyped a limit hears of it */
#ifndef ACCOUNT_LIMITS_H
#define ACCOUNT_LIMITS_H
#include <skalibs/stralloc.h>
#include "allowance.h"

enum {
	ACCOUNT_LIMITS_MESSAGES = 200, ACCOUNT_LIMITS_RECIPIENTS = 1000,	/* where no file says so */
	ACCOUNT_LIMITS_MAX = 1000000000,	/* what is above counts as that */
};

struct account_limits {
	struct allowance_limits all;
	stralloc table;		/* entries, each ended by NUL */
};

/* Reads the files below control/ of the current directory into *l, which is all zero. Returns 1, or 0 with errno set and *file what could
 * not be read; *l is all zero then. */
int account_limits_read(struct account_limits *l, const char **file);

struct allowance_limits account_limits_of(const struct account_limits *l, const char *account);

void account_limits_free(struct account_limits *l);

#endif
