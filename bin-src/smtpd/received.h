/* received: the Received field that qmail-smtpd puts on top of a message, RFC 5321 section 4.4.
 * Form      qmail's: "Received: from HOST (HELO h) (info@ip)\n  by LOCAL with PROTOCOL; DATE\n"; the HELO part if h is not
 *           HOST, info if there is one; protocol names of RFC 3848 and RFC 6531 section 4.3; after PROTOCOL, with TLS:
 *           " (TLSv1.2) tls TLS_..."
 * Trust     host, helo and info come from the client: octets other than letters, digits and ". @ % + / = : - [ ]" become '?' */
#ifndef RECEIVED_H
#define RECEIVED_H
#include <time.h>
#include <skalibs/stralloc.h>
#include "peer.h"

enum { RECEIVED_HELO_MAX = 255 };	/* octets of the HELO name that are written */

struct received {
	const char *protocol;	/* NULL: SMTP's, as the rest says; else its name, such as "QMTP" */
	const struct peer *peer;
	const char *helo;	/* NULL: the client said none */
	int is_extended;	/* EHLO */
	int is_smtputf8;	/* MAIL had SMTPUTF8 */
	const char *tls;	/* NULL: none; else its version, such as "TLSv1.2", of letters, digits and "._-", as is cipher */
	const char *cipher;	/* where there is TLS: the suite's name. One of IANA's is in a tls clause: RFC 8314 section 4.3 */
	int is_authenticated;
	time_t time;
};

/* The protocol's name, such as "ESMTPS". */
const char *received_protocol(const struct received *r);

/* Appends the field to *to. Returns 1, or 0 with errno ENOMEM. */
int received_put(stralloc *to, const struct received *r);

#endif
