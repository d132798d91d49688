/* ip_address: what skalibs does not have of IPv4 and IPv6 addresses: text in all forms of RFC 4291 section 2.2, as "::ffff:192.0.2.1",
 * and comparing. */
#ifndef IP_ADDRESS_H
#define IP_ADDRESS_H
#include <arpa/inet.h>
#include <string.h>
#include <skalibs/ip46.h>

/* Turns the whole text into *ip. Returns 1, or 0 if it is no address (or has a zone, brackets, a prefix length). */
static inline int
ip_address_parse(ip46 *ip, const char *text)
{
	char octets[16];

	if (inet_pton(AF_INET, text, octets) == 1)
		return ip46_from_ip4(ip, octets);
	if (inet_pton(AF_INET6, text, octets) == 1)
		return ip46_from_ip6(ip, octets);
	return 0;
}

static inline int
ip_address_is_same(const ip46 *a, const ip46 *b)
{
	return ip46_is6(a) == ip46_is6(b) && memcmp(a->ip, b->ip, ip46_is6(a) ? 16 : 4) == 0;
}

#endif
