/* endpoint: the two ends of a TCP connection, as ucspi programs name them in the environment.
 * An IPv4 address in IPv6 clothes is IPv4 everywhere. */
#ifndef ENDPOINT_H
#define ENDPOINT_H
#include <stddef.h>
#include <sys/socket.h>
#include <skalibs/ip46.h>

struct endpoint {
	ip46 address;
	unsigned int port;
};

union endpoint_room {
	struct sockaddr any;
	struct sockaddr_storage room;
};

/* 1, or 0 if it is neither IPv4 nor IPv6. Each octet of *e is set: it goes to other processes. */
int endpoint_read(struct endpoint *e, const union endpoint_room *from);

/* The end of fd on this machine. 1, or 0 with errno set. */
int endpoint_local(struct endpoint *e, int fd);

/* Takes everything that describes a connection out of the environment. 1, or 0 with errno set. */
int endpoint_clear_environment(void);

/* Sets PROTO, TCPREMOTEIP, TCPREMOTEPORT, TCPLOCALIP and TCPLOCALPORT, for IPv6 the names that begin TCP6 as well.
 * local NULL: it is not known. The values are kept here, and are those of the last call. 1, or 0 with errno set. */
int endpoint_set_environment(const struct endpoint *remote, const struct endpoint *local);

#endif
