/* ip_address: an IPv4 or IPv6 address as text, RFC 4291 2.2 in full: the scanner of skalibs knows no "::ffff:192.0.2.1". */
#ifndef IP_ADDRESS_H
#define IP_ADDRESS_H
#include <arpa/inet.h>
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

#endif
