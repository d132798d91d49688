/* shadow_state: whether an account of shadow(5) may be used. */
#ifndef SHADOW_STATE_H
#define SHADOW_STATE_H
#include <shadow.h>

/* Whether neither account nor password have expired today (days since 1970), and the password need not be changed first:
 * nobody changes one by mail. A password that is locked is not looked for: no password fits it. */
int shadow_state_is_valid(const struct spwd *sp, long today);

#endif
