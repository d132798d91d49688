/* account_home: the home of a virtual account, with its Maildir.
 * Trust    the way there may belong to the account's user, who can put links into it: so a directory is made as that user,
 *          by a child of this process, and never as root; what is counted there is read so, too */
#ifndef ACCOUNT_HOME_H
#define ACCOUNT_HOME_H
#include <stdint.h>
#include "users/virtual.h"

enum { ACCOUNT_HOME_MODE = 0711 };	/* qmail-rcptd may look for dot-qmail files */

/* Makes what is missing of the home (mode ACCOUNT_HOME_MODE, and so each directory on the way) and of Maildir in it.
 * Returns 1, or 0 with errno set. */
int account_home_make(const struct virtual_account *v);

/* What mail would find wrong there, in words; NULL nothing. */
const char *account_home_fault(const struct virtual_account *v);

struct account_usage { uint64_t octets, messages; };

/* What maildirsize in its Maildir says of an account with a quota. Returns 1; or 0 if there is none, or it is of another quota: then
 * the next delivery counts. */
int account_home_usage(const struct virtual_account *v, struct account_usage *usage);

#endif
