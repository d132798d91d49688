/* sts_record: the TXT record _mta-sts.DOMAIN, which says that the domain has a policy of MTA-STS, and of which id (RFC 8461
 * section 3.1).
 * Grammar  v=STSv1;id=ID, other fields of the same form; ID has 1 to STS_ID_MAX letters and digits
 * Trust    the records are hostile */
#ifndef STS_RECORD_H
#define STS_RECORD_H
#include "dns.h"

enum { STS_ID_MAX = 32 };

/* The id, from the answer to a question of DNS_TXT; "" where there is no record that counts, or more than one. */
void sts_record_id(char id[STS_ID_MAX + 1], const struct dns_question *q);

#endif
