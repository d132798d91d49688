/* peer: who is at the other end of a connection, from the variables that tcpserver, ucspi-tcp6, sslserver, s6-tcpserver,
 * tcp-env or the listener have set.
 * Trust     host and info come from the client's name server and ident server: octets that do not belong there become '?' */
#ifndef PEER_H
#define PEER_H
#include <skalibs/ip46.h>

enum { PEER_IP_MAX = 64, PEER_HOST_MAX = 256, PEER_INFO_MAX = 100 };	/* octets, the final NUL included */

struct peer {
	int is_known;			/* 1: address is valid */
	ip46 address;			/* an IPv4 address in IPv6 clothes is IPv4 */
	char ip[PEER_IP_MAX];		/* its text, "unknown" if it is not known */
	unsigned int port;		/* 0 unknown */
	char local_ip[PEER_IP_MAX];	/* "" unknown */
	unsigned int local_port;
	char local_host[PEER_HOST_MAX];	/* TCPLOCALHOST, else local_ip (of IPv6 as [IPv6:...]), else "unknown" */
	char host[PEER_HOST_MAX];	/* TCPREMOTEHOST, "unknown" if there is none */
	char info[PEER_INFO_MAX];	/* TCPREMOTEINFO, "" if there is none */
};

/* Reads the environment. TCP6 names count where PROTO is TCP6 or the plain ones are missing. */
void peer_read(struct peer *peer);

#endif
