#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/types.h>
#include "peer.h"

static int
is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Copies as much of value as fits; octets that are neither letters, digits nor in also become '?'. */
static void
copy(char *to, size_t size, const char *value, const char *also)
{
	size_t n = 0;

	for (; value && value[n] && n < size - 1; n++)
		to[n] = is_alphanumeric(value[n]) || strchr(also, value[n]) ? value[n] : '?';
	to[n] = '\0';
}

/* The variable PREFIX NAME: of TCP and TCP6, the one that counts. */
static const char *
get(const char *name)
{
	static const char *const prefixes[2] = { "TCP", "TCP6" };
	const char *protocol = getenv("PROTO");
	int six = protocol && strcmp(protocol, "TCP6") == 0;

	for (int i = 0; i < 2; i++) {
		char variable[32];
		const char *value;

		snprintf(variable, sizeof variable, "%s%s", prefixes[i ^ six], name);
		value = getenv(variable);
		if (value)
			return value;
	}
	return NULL;
}

/* Reads the address in s and writes its text. Returns 1, or 0 if it is none. */
static int
read_address(ip46 *address, char text[PEER_IP_MAX], const char *s)
{
	struct in6_addr octets;
	char bare[PEER_IP_MAX];
	size_t n = s ? strcspn(s, "%") : 0;	/* a link-local address may be followed by %interface */

	if (!n || n >= sizeof bare)
		return 0;
	memcpy(bare, s, n);
	bare[n] = '\0';
	if (inet_pton(AF_INET, bare, &octets) == 1)
		ip46_from_ip4(address, (const char *)&octets);
	else if (inet_pton(AF_INET6, bare, &octets) != 1)	/* ip46_scan knows no ::ffff:192.0.2.1 */
		return 0;
	else if (IN6_IS_ADDR_V4MAPPED(&octets))
		ip46_from_ip4(address, (const char *)&octets + 12);
	else
		ip46_from_ip6(address, (const char *)&octets);
	text[ip46_fmt(text, address)] = '\0';
	return 1;
}

static unsigned int
read_port(const char *s)
{
	unsigned int port;

	return s && uint0_scan(s, &port) && port <= 65535 ? port : 0;
}

void
peer_read(struct peer *peer)
{
	static const char host[] = "-._:%[]", info[] = "-._:@%+/=[]";
	ip46 local;
	int is_6;

	*peer = (struct peer){ .port = read_port(get("REMOTEPORT")), .local_port = read_port(get("LOCALPORT")) };
	peer->is_known = read_address(&peer->address, peer->ip, get("REMOTEIP"));
	if (!peer->is_known)
		copy(peer->ip, sizeof peer->ip, "unknown", "");
	is_6 = read_address(&local, peer->local_ip, get("LOCALIP")) && ip46_is6(&local);
	copy(peer->local_host, sizeof peer->local_host, get("LOCALHOST"), host);
	if (!peer->local_host[0] && is_6)
		snprintf(peer->local_host, sizeof peer->local_host, "[IPv6:%s]", peer->local_ip);	/* no name has a colon */
	else if (!peer->local_host[0])
		copy(peer->local_host, sizeof peer->local_host, peer->local_ip[0] ? peer->local_ip : "unknown", host);
	copy(peer->host, sizeof peer->host, get("REMOTEHOST"), host);
	if (!peer->host[0])
		copy(peer->host, sizeof peer->host, "unknown", "");
	copy(peer->info, sizeof peer->info, get("REMOTEINFO"), info);
}
