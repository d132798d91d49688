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
	memset(e, 0, sizeof *e);
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

/* The room of one variable, NAME=value, which is the environment's from then on: setenv would keep each value that there
 * ever was, and a process that serves has little memory of its own. */
struct variable { char octets[16 + IP46_FMT + 1]; };

static int
set(struct variable *v, const char *protocol, const char *name, const char *value)
{
	snprintf(v->octets, sizeof v->octets, "%s%s=%s", protocol, name, value);
	return putenv(v->octets) == 0;
}

static int
set_side(struct variable v[2], const char *protocol, int is_remote, const struct endpoint *e)
{
	char ip[IP46_FMT + 1], port[UINT_FMT];

	ip[ip46_fmt(ip, &e->address)] = '\0';
	port[uint_fmt(port, e->port)] = '\0';
	return set(&v[0], protocol, is_remote ? "REMOTEIP" : "LOCALIP", ip) &&
	    set(&v[1], protocol, is_remote ? "REMOTEPORT" : "LOCALPORT", port);
}

int
endpoint_set_environment(const struct endpoint *remote, const struct endpoint *local)
{
	static struct variable protocol, sides[2][2][2];
	int six = ip46_is6(&remote->address) ? 1 : 0;

	for (int i = 0; i <= six; i++)
		if (!set_side(sides[i][0], protocols[i], 1, remote) || (local && !set_side(sides[i][1], protocols[i], 0, local)))
			return 0;
	return set(&protocol, "", "PROTO", protocols[six]);
}
