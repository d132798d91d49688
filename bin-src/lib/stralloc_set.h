/* stralloc_set: puts new octets in the place of what a stralloc holds, also where there are none of them. That is what
 * skalibs says of stralloc_copyb; its version 2.14 (Debian 13) leaves the old octets where the new length is 0, and what
 * stays there is another message's or another user's. admin/lint sees to it that nobody uses those.
 * All return 1, or 0 with errno ENOMEM. */
#ifndef STRALLOC_SET_H
#define STRALLOC_SET_H
#include <stddef.h>
#include <string.h>
#include <skalibs/stralloc.h>

/* The len octets of s, which are not inside sa. */
static inline int
stralloc_setb(stralloc *sa, const char *s, size_t len)
{
	sa->len = 0;
	return stralloc_ready(sa, len ? len : 1) && stralloc_catb(sa, s, len);
}

/* The octets of s without its NUL. */
static inline int
stralloc_sets(stralloc *sa, const char *s)
{
	return stralloc_setb(sa, s, strlen(s));
}

#endif
