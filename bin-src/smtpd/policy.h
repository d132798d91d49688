/* policy: which senders, recipients and names of clients are refused, as control files and the session's variables say.
 * No open relay: without control/rcpthosts only control/me counts (interfaces section 24).
 * Entries compare without ASCII case. Lists of addresses hold "address" or "@domain"; lists of hosts "host" or ".suffix",
 * which stands for all hosts below it. Those of what is refused may hold regular expressions, too (expressions.h). */
#ifndef POLICY_H
#define POLICY_H
#include <stddef.h>
#include "path.h"
#include "settings.h"

enum policy_answer { POLICY_NO = 0, POLICY_YES = 1, POLICY_TROUBLE = -1 };

/* Whether rcpthosts or morercpthosts.cdb has the recipient's domain; an address without a domain is local.
 * POLICY_TROUBLE: the table is damaged, so it is not known. */
enum policy_answer policy_takes_mail_for(const struct settings *s, const char *address, size_t len);

/* Whether address is in one of both lists; those "norelay" are for clients that may not relay. No expression is asked about the
 * null sender. */
int policy_is_bad_sender(const struct settings *s, const char *address, size_t len, int may_relay);
int policy_is_bad_recipient(const struct settings *s, const char *address, size_t len, int may_relay);
int policy_is_bad_helo(const struct settings *s, const char *helo, int may_relay);

/* The null sender, of bounces, or that of double bounces. */
int policy_is_null_sender(const char *address, size_t len);

/* Postmaster without a domain, or of a domain that is taken (RFC 5321 section 4.5.1): never refused for a list's sake. */
int policy_is_postmaster(const char *address, size_t len);

#endif
