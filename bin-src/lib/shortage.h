/* shortage: whether an error of accept(2) is a want of descriptors or memory. It passes, and until then the one that came waits: who accepts
 * has to pause, or the loop turns without rest. */
#ifndef SHORTAGE_H
#define SHORTAGE_H
#include <errno.h>

static inline int
is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

#endif
