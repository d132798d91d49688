/* login_delay: the time between two logins of a user: LOGIN-DELAY, RFC 2449 section 6.5.
 * Where  the time of the last login is that of the file pop3-login in the maildir. It is the user's: who removes it logs in */
#ifndef LOGIN_DELAY_H
#define LOGIN_DELAY_H
#include <stdint.h>

/* Whether a login is allowed that comes seconds after the last one at least; then it is the last one. A file that cannot be
 * written delays nobody, nor does a time in the future. maildir: an open directory. */
int login_delay_is_over(int maildir, uint64_t seconds);

#endif
