/* handover: how a process that has served a connection gets the next one from the parent that accepts (lib/listener.h).
 * Way     the process has a pair of sockets of its own. When it is free it sends the parent's end of it over a datagram
 *         socket that all processes share; who it is, the kernel tells. The parent answers over that end with the connection,
 *         and gives the end back, so that it holds descriptors of processes that wait only; or it closes the end: no more
 * Trust   a process may be taken over: the parent believes nothing but the process id that the kernel gives
 * Calls   a process that is shut in needs sendmsg, recvmsg, close and fcntl: every filter with sockets has them */
#ifndef HANDOVER_H
#define HANDOVER_H
#include <sys/types.h>
#include "endpoint.h"

/* What comes with a connection. */
struct handover {
	struct endpoint remote, local;
	int with_local;		/* 0: local is not known */
};

/* The socket that all processes share: the parent hears on shared[0], which does not block. 1, or 0 with errno set. */
int handover_share(int shared[2]);

/* The pair of one process: it keeps pair[0]. 1, or 0 with errno set. */
int handover_pair(int pair[2]);

/* Parent: takes the next word of a process that has started or is free. Returns 1 with its id and the parent's end of its pair
 * (-1: it sent none, it has started only); 0 if nothing has come. A process may say anything as often as it likes: the caller
 * bounds how often it listens. */
int handover_hear(int shared, pid_t *who, int *end);

/* Parent: sends a connection, and end itself. The caller closes both. 1, or 0: that process cannot have it. */
int handover_send(int end, int connection, const struct handover *h);

/* Process: says that it has started. The parent may not hear it: then it finds out late. */
void handover_start(int shared);

/* Process: says that it is free, and closes end. 1, or 0: the parent cannot hear it. */
int handover_ask(int shared, int end);

/* Process: waits for the connection, or for the parent to close; the parent alone decides how long. Returns 1 and fills the
 * rest, or 0: end. */
int handover_receive(int socket, struct handover *h, int *connection, int *end);

#endif
