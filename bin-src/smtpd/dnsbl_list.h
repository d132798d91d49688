/* dnsbl_list: one line of a file of DNS lists, and what the answers of the DNS mean; RFC 5782, interfaces section 17. */
#ifndef DNSBL_LIST_H
#define DNSBL_LIST_H
#include <stddef.h>
#include <skalibs/ip46.h>
#include "dns.h"
#include "dnsbl.h"

enum { DNSBL_REVERSED = 64 };	/* octets of a reversed IPv6 address, its last dot included */

enum dnsbl_kind {
	DNSBL_BAD_DEFER,	/* zone: 451 */
	DNSBL_BAD_REJECT,	/* -zone, or zone:-text: 553 */
	DNSBL_LOG_ONLY,		/* =zone */
	DNSBL_GOOD,		/* +zone */
};

struct dnsbl_list {
	enum dnsbl_kind kind;
	char zone[DNS_NAME_MAX - DNSBL_REVERSED + 1];
	char text[DNSBL_TEXT_MAX];	/* the reply; "": what the TXT record says */
};

enum dnsbl_state { DNSBL_ABSENT, DNSBL_PRESENT, DNSBL_SILENT };

/* Takes a line (NUL-terminated). Returns 1 and fills *list, 0 if there is none on it, -1 if it makes no sense. */
int dnsbl_list_parse(struct dnsbl_list *list, const char *line);

/* The name to ask for (room for DNS_NAME_MAX + 1 octets): 2.0.0.127.zone, or 32 digits for IPv6 (RFC 5782 section 2.4). */
void dnsbl_list_name(char *name, const struct dnsbl_list *list, const ip46 *client);

/* What the answers say: the A records, and where list->text is empty and it is no good list the TXT records (else NULL).
 * An address counts if it is in 127.0.0.0/8, but not in 127.255.255.0/24, which lists keep for refusing to answer; others
 * are those of a domain that was sold. Without TXT record nothing is listed that needs one. */
enum dnsbl_state dnsbl_list_judge(const struct dns_question *address, const struct dns_question *txt);

/* The text of the reply (room for DNSBL_TEXT_MAX octets): list->text with the address for %IP%, else the first TXT record,
 * cut and cleaned. */
void dnsbl_list_text(char *text, const struct dnsbl_list *list, const ip46 *client, const struct dns_question *txt);

#endif
