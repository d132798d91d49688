/* shortage: whether an error of accept(2) or of a socket is a want of descriptors or memory. It passes: who accepts has to pause until then,
 * or the loop turns without rest; a peer to whom nothing could be sent is not gone. */
#ifndef SHORTAGE_H
#define SHORTAGE_H
#include <errno.h>

static inline int
is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

#endif
