#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <skalibs/stralloc.h>
#include <skalibs/types.h>
#include "control/control.h"
#include "ip_address.h"
#include "localaddress.h"

/* Prefixes of RFC 6890 and RFC 6052: addresses here, or none; and IPv6 forms of an IPv4 address. */
static const struct localaddress_prefix
loopback[] = {
	{ { .ip = { 127 }, .is6 = 0 }, 8 },
	{ { .ip = { [15] = 1 }, .is6 = 1 }, 128 },
},
nowhere[] = {
	{ { .ip = { 0 }, .is6 = 0 }, 8 },		/* a connection to 0.0.0.0 ends here */
	{ { .ip = { (char)224 }, .is6 = 0 }, 4 },	/* multicast */
	{ { .ip = { (char)255, (char)255, (char)255, (char)255 }, .is6 = 0 }, 32 },
	{ { .ip = { 0 }, .is6 = 1 }, 128 },
	{ { .ip = { (char)255 }, .is6 = 1 }, 8 },	/* multicast */
},
holds_ipv4[] = {
	{ { .ip = { 0 }, .is6 = 1 }, 96 },
	{ { .ip = { [10] = (char)255, [11] = (char)255 }, .is6 = 1 }, 96 },
	{ { .ip = { 0, 0x64, (char)255, (char)0x9b }, .is6 = 1 }, 96 },
};

#define LENGTH(a) (sizeof (a) / sizeof *(a))

static int
is_within(const ip46 *ip, const struct localaddress_prefix *p)
{
	unsigned int octets = p->bits / 8, rest = p->bits % 8;

	if (ip46_is6(ip) != ip46_is6(&p->ip) || memcmp(ip->ip, p->ip.ip, octets) != 0)
		return 0;
	return !rest || !(((unsigned char)ip->ip[octets] ^ (unsigned char)p->ip.ip[octets]) >> (8 - rest));
}

static int
is_in(const ip46 *ip, const struct localaddress_prefix *list, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (is_within(ip, &list[i]))
			return 1;
	return 0;
}

void
localaddress_unmap(ip46 *ip)
{
	char four[4];

	/* :: and ::1 are themselves */
	if (!ip46_is6(ip) || !is_in(ip, holds_ipv4, LENGTH(holds_ipv4)) || is_within(ip, &loopback[1]) ||
	    is_within(ip, &nowhere[3]))
		return;
	memcpy(four, ip->ip + 12, 4);
	ip46_from_ip4(ip, four);
}

int
localaddress_is(const struct localaddresses *l, const ip46 *address)
{
	ip46 ip = *address;

	localaddress_unmap(&ip);
	if (is_in(&ip, nowhere, LENGTH(nowhere)))
		return 1;
	if (is_in(&ip, l->not_own, l->not_own_len))
		return 0;
	return is_in(&ip, loopback, LENGTH(loopback)) || is_in(&ip, l->own, l->own_len);
}

/* --- reading ------------------------------------------------------------------------------------------------- */

struct list {
	struct localaddress_prefix **items;
	size_t *len;
};

static int
add(struct list to, const ip46 *ip, unsigned int bits)
{
	struct localaddress_prefix *more;

	if (*to.len == LOCALADDRESS_MAX) {
		errno = E2BIG;
		return 0;
	}
	if (!(*to.len & (*to.len + 1)) || !*to.items) {	/* full: room is the next power of two */
		more = realloc(*to.items, (2 * *to.len + 2) * sizeof *more);
		if (!more)
			return 0;
		*to.items = more;
	}
	(*to.items)[(*to.len)++] = (struct localaddress_prefix){ *ip, bits };
	return 1;
}

/* "IP" or "IP/BITS". Returns 1, or 0 with errno set. */
static int
add_entry(struct list to, const char *entry)
{
	struct localaddress_prefix p;
	char text[INET6_ADDRSTRLEN];
	size_t len = strcspn(entry, "/");
	unsigned int most;

	if (len < sizeof text)
		memcpy(text, entry, len);
	text[len < sizeof text ? len : 0] = 0;
	if (!ip_address_parse(&p.ip, text)) {
		errno = EINVAL;
		return 0;
	}
	p.bits = most = ip46_is6(&p.ip) ? 128 : 32;
	if (entry[len] && (!uint0_scan(entry + len + 1, &p.bits) || p.bits > most)) {
		errno = EINVAL;
		return 0;
	}
	if (p.bits >= 96) {
		localaddress_unmap(&p.ip);
		if (most == 128 && !ip46_is6(&p.ip))
			p.bits -= 96;
	}
	return add(to, &p.ip, p.bits);
}

static int
read_file(struct list to, const char *file)
{
	stralloc entries = STRALLOC_ZERO;
	int ok = control_list(&entries, file) >= 0;

	for (size_t i = 0; ok && i < entries.len; i += strlen(entries.s + i) + 1)
		ok = add_entry(to, entries.s + i);
	stralloc_free(&entries);
	return ok;
}

static int
ask_kernel(struct list to)
{
	struct ifaddrs *all;
	ip46 ip;
	int ok = 1;

	if (getifaddrs(&all) < 0)
		return 0;
	for (const struct ifaddrs *i = all; ok && i; i = i->ifa_next) {
		if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		if (i->ifa_addr->sa_family == AF_INET)
			ip46_from_ip4(&ip, (const char *)&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr);
		else
			ip46_from_ip6(&ip, (const char *)&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr);
		ok = add(to, &ip, ip46_is6(&ip) ? 128 : 32);
	}
	freeifaddrs(all);
	return ok;
}

int
localaddresses_read(struct localaddresses *l)
{
	struct list own = { &l->own, &l->own_len }, not_own = { &l->not_own, &l->not_own_len };
	int error;

	memset(l, 0, sizeof *l);
	if (ask_kernel(own) && read_file(own, "control/moreipme") && read_file(not_own, "control/notipme"))
		return 1;
	error = errno;
	localaddresses_free(l);
	errno = error;
	return 0;
}

void
localaddresses_free(struct localaddresses *l)
{
	free(l->own);
	free(l->not_own);
	memset(l, 0, sizeof *l);
}
