/* tlsclientcert: control/tlsclientcert, which certificate this host shows to which relay or domain that asks for one.
 * Grammar   DOMAIN:NAME, one a line. DOMAIN is that of tlspolicy, where a relay of smtproutes stands for a domain; but empty it is for all
 *           the relays of smtproutes, and for nobody else: a certificate tells who this host is. NAME.pem is a file in
 *           tls/client/; empty: none, which exempts a host from a shorter entry
 * Trust     the file is the administrator's */
#ifndef TLSCLIENTCERT_H
#define TLSCLIENTCERT_H
#include "control/control.h"

/* The table; all zero is a valid empty one. */
struct tlsclientcerts { struct control_map map; };

/* Reads control/tlsclientcert. Returns 1, or 0 with errno (0: a line has no ':'). */
int tlsclientcerts_read(struct tlsclientcerts *c);

/* The NAME for a domain or relay, "" none; ascii as in domain_map.h. */
const char *tlsclientcert_find(const struct tlsclientcerts *c, const char *domain, const char *ascii, int is_relay);

void tlsclientcerts_free(struct tlsclientcerts *c);

#endif
