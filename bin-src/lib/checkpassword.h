/* checkpassword: what a program with that interface (interfaces section 13) says by its exit code. */
#ifndef CHECKPASSWORD_H
#define CHECKPASSWORD_H
#include "exitcode.h"

enum { CHECKPASSWORD_WRONG = 1, CHECKPASSWORD_MISUSED = 2 };

/* Whether an exit code says that the login is wrong. Programs of others have other codes for it than 1, vchkpw has 3; misuse, and what
 * is trouble anywhere here (EXIT_PERM and above; code below 0: it was killed, or did not run), is nothing that is known of the login. */
static inline int
checkpassword_says_wrong(int code)
{
	return code > 0 && code < EXIT_PERM && code != CHECKPASSWORD_MISUSED;
}

#endif
