/* mx: which addresses take the mail for a host, in the order in which to try them (RFC 5321 section 5.1).
 * By MX       preference first, at random among equals; no MX: the host's own addresses; null MX: D 5.1.10 (RFC 7505 section 3).
 *             Addresses of one MX host: IPv6 and IPv4 by turns, IPv6 first, each kind at random. One that two hosts have is each one's:
 *             what a server has to prove depends on its name
 * Ourselves   if one of the MX hosts is this host (localaddress.h), it and all with the same or a higher number of
 *             preference are dropped; none left: D 5.4.6. Addresses that are no destination (0.0.0.0, ::, multicast,
 *             loopback) are never tried
 * A relay     of smtproutes and a port are taken as given, "is it me" is not asked; its addresses, no MX
 * Literal     [1.2.3.4], [IPv6:2001:db8::1]: that address (RFC 5321 4.1.3)
 * Letters     a host in other letters than ASCII is looked up in its form for the DNS (domain.h)
 * A CNAME     at the host is followed (RFC 5321 5.1); an MX or relay host that is an alias too, though it should not be
 *             (RFC 2181 10.3)
 * Limits      the MX_HOSTS_MAX best hosts, MX_ADDRESSES_MAX addresses, MX_HOST_ADDRESSES_MAX of one host. All questions
 *             for addresses are asked at once
 * Trouble     of a resolver leaves out the addresses it is about. Mail goes to those that are known, be they a backup's, but never to
 *             a host as good as this one or worse: where such are the only ones, and where none is known, it is temporary. (If
 *             a host that is left out is ourselves, a backup returns the mail, and the count of hops ends that.) Only a
 *             statement of a name server that there is nothing makes a permanent failure */
#ifndef MX_H
#define MX_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/ip46.h>
#include "dns.h"
#include "localaddress.h"
#include "smtproute.h"

enum { MX_HOSTS_MAX = 20, MX_ADDRESSES_MAX = 40, MX_HOST_ADDRESSES_MAX = 8, MX_TEXT_MAX = 512 };

struct mx_address {
	ip46 ip;
	uint16_t port;
	uint16_t preference;	/* 0 where there was no MX */
	unsigned int host;	/* index into hosts */
};

struct mx_host {
	char name[DNS_NAME_MAX + 1];	/* as the MX names it: for TLS and logs; a literal's address */
	char target[DNS_NAME_MAX + 1];	/* where its CNAMEs lead; without any, name */
	int is_authentic;		/* an answer with its addresses had the AD bit, see dns.h */
	uint16_t preference;
};

struct mx {
	char letter;		/* 'K': addresses_len > 0; 'Z' or 'D': none, and text says why */
	char text[MX_TEXT_MAX];	/* "Sorry, I couldn't find ... (#5.1.2)\n": what qmail-remote reports */
	int by_mx;		/* the hosts stood in MX records */
	int is_authentic;	/* the MX answer had the AD bit, see dns.h; or the host is a relay, which nobody but smtproutes names */
	char domain[DNS_NAME_MAX + 1];	/* whose MX was asked for, in ASCII; "" nobody's */
	char target[DNS_NAME_MAX + 1];	/* where its CNAMEs lead; without any, domain */
	uint32_t ttl;		/* seconds for which this result holds, 0 for no DNS answer */
	size_t addresses_len, hosts_len;
	struct mx_address addresses[MX_ADDRESSES_MAX];
	struct mx_host hosts[MX_HOSTS_MAX];	/* last, for the sake of the pages that are never touched */
};

/* Finds the addresses for host, a domain as it stands in an address. route: what smtproute_find gave, NULL for none.
 * Waits until the clock of monotonic.h shows deadline at most. */
void mx_find(struct mx *mx, struct dns *d, const struct localaddresses *l, const struct smtproute *route,
    const char *host, uint64_t deadline);

#endif
