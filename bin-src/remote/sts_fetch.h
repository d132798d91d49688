/* sts_fetch: a policy of MTA-STS, from the web server of its domain (RFC 8461 section 3.3), in a process of its own.
 * Asked     https://mta-sts.DOMAIN/.well-known/mta-sts.txt, at the addresses of the DNS, but for those that are this host whatever the
 *           DNS says (127.0.0.0/8, ::1 and the like). TLS 1.2 at least, with a certificate for that name by an authority of
 *           control/tlscafile. No redirection is followed; anything but 200 and text/plain is a failure
 * Library   libcurl with OpenSSL: nothing else links it. Names are resolved by lib/dns before
 * Shut in   before the first octet: internet sockets, no file, no program
 * Bounds    STS_POLICY_MAX octets, as many of header fields, STS_FETCH_SECONDS for all of it
 * Tests     set MTASTSPORT in the environment: the port, instead of 443, and loopback addresses count then */
#ifndef STS_FETCH_H
#define STS_FETCH_H
#include "sts_policy.h"

enum { STS_FETCH_SECONDS = 60 };	/* section 3.3: a minute is a reasonable time-out */

/* What all fetches have in common; in the process that forks them. */
void sts_fetch_prepare(void);

/* Fetches, says on the socket fd, a packet, 'P' and the text or 'E' and the reason, and exits. The current directory is the home. */
_Noreturn void sts_fetch_run(int fd, const char *domain);

#endif
