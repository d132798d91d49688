/* localaddress: "is it me": the addresses at which this host itself takes mail.
 * What counts   the addresses of the network interfaces; always 0.0.0.0/8, 127.0.0.0/8, :: and ::1, wherever a
 *               connection to them ends here, and multicast and 255.255.255.255, where none can; IPv6 forms that hold an
 *               IPv4 address (::ffff:0:0/96, ::/96, 64:ff9b::/96) are that address. control/moreipme adds addresses or
 *               prefixes (a host behind translation of addresses), control/notipme takes some away, one a line as
 *               IP or IP/BITS; notipme wins, except over 0.0.0.0/8, :: and multicast */
#ifndef LOCALADDRESS_H
#define LOCALADDRESS_H
#include <stddef.h>
#include <skalibs/ip46.h>

enum { LOCALADDRESS_MAX = 4096 };	/* addresses and prefixes of each kind */

struct localaddress_prefix {
	ip46 ip;
	unsigned int bits;
};

struct localaddresses {
	struct localaddress_prefix *own, *not_own;	/* interfaces and moreipme; notipme */
	size_t own_len, not_own_len;
};

/* Asks the kernel and reads the two files; before sandbox_enter. Returns 1, or 0 with errno set, EINVAL for a line that
 * is no address; *l is then empty. */
int localaddresses_read(struct localaddresses *l);

/* 1 if mail sent to ip would come back to this host, or can go nowhere. */
int localaddress_is(const struct localaddresses *l, const ip46 *ip);

/* Turns an IPv6 form of an IPv4 address, ::ffff:1.2.3.4 and the like, into that IPv4 address; others stay. */
void localaddress_unmap(ip46 *ip);

void localaddresses_free(struct localaddresses *l);

#endif
