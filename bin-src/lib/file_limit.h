/* file_limit: how many descriptors a service may have. What starts it has set a soft limit that is meant for programs that use
 * select(); ours do not. The hard limit is the administrator's. Programs that are started afterwards have the limit, too. */
#ifndef FILE_LIMIT_H
#define FILE_LIMIT_H
#include <sys/resource.h>

/* Raises the limit to wanted, or as far as may be. Returns what it is then; RLIM_INFINITY if there is none. */
rlim_t file_limit_raise(rlim_t wanted);

#endif
