#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/types.h>
#include "endpoint.h"

static const char *const protocols[2] = { "TCP", "TCP6" };

int
endpoint_read(struct endpoint *e, const union endpoint_room *from)
{
	if (from->any.sa_family == AF_INET) {
		struct sockaddr_in four;

		memcpy(&four, from, sizeof four);
		ip46_from_ip4(&e->address, (const char *)&four.sin_addr);
		e->port = ntohs(four.sin_port);
		return 1;
	}
	if (from->any.sa_family == AF_INET6) {
		struct sockaddr_in6 six;
		const char *octets = (const char *)&six.sin6_addr;

		memcpy(&six, from, sizeof six);
		if (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr))
			ip46_from_ip4(&e->address, octets + 12);
		else
			ip46_from_ip6(&e->address, octets);
		e->port = ntohs(six.sin6_port);
		return 1;
	}
	errno = EAFNOSUPPORT;
	return 0;
}

int
endpoint_local(struct endpoint *e, int fd)
{
	union endpoint_room room = { .any.sa_family = AF_UNSPEC };
	socklen_t len = sizeof room;

	return getsockname(fd, &room.any, &len) == 0 && endpoint_read(e, &room);
}

int
endpoint_clear_environment(void)
{
	static const char *const names[] = { "REMOTEIP", "REMOTEPORT", "REMOTEHOST", "REMOTEINFO", "LOCALIP", "LOCALPORT",
		"LOCALHOST", "INTERFACE", "CONNNUM" };
	char name[32];

	for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
		snprintf(name, sizeof name, "%s%s", protocols[i & 1], names[i / 2]);
		if (unsetenv(name) < 0)
			return 0;
	}
	return unsetenv("PROTO") == 0;
}

static int
set_side(const char *protocol, const char *side, const struct endpoint *e)
{
	char name[32], ip[IP46_FMT + 1], port[UINT_FMT];

	ip[ip46_fmt(ip, &e->address)] = '\0';
	port[uint_fmt(port, e->port)] = '\0';
	snprintf(name, sizeof name, "%s%sIP", protocol, side);
	if (setenv(name, ip, 1) < 0)
		return 0;
	snprintf(name, sizeof name, "%s%sPORT", protocol, side);
	return setenv(name, port, 1) == 0;
}

int
endpoint_set_environment(const struct endpoint *remote, const struct endpoint *local)
{
	int six = ip46_is6(&remote->address) ? 1 : 0;

	for (int i = 0; i <= six; i++)
		if (!set_side(protocols[i], "REMOTE", remote) || (local && !set_side(protocols[i], "LOCAL", local)))
			return 0;
	return setenv("PROTO", protocols[six], 1) == 0;
}
