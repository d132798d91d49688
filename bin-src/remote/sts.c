#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "sts.h"
#include "sts_client.h"
#include "sts_record.h"

void
sts_open(struct sts *s)
{
	*s = (struct sts){ .fd = sts_client_connect() };
	s->is_absent = s->fd < 0 && errno == ENOENT;
}

void
sts_begin(struct sts *s, struct dns *d, const char *domain)
{
	char name[sizeof "_mta-sts." + DNS_NAME_MAX];

	if (s->fd < 0)
		return;
	snprintf(name, sizeof name, "_mta-sts.%.253s", domain);
	dns_ask(d, &s->record, name, DNS_TXT);
}

static void
copy_lower(char to[DNS_NAME_MAX + 1], const char *domain)
{
	size_t len = strnlen(domain, DNS_NAME_MAX);

	for (size_t i = 0; i < len; i++)
		to[i] = (char)tolower((unsigned char)domain[i]);
	to[len] = '\0';
}

int
sts_finish(struct sts *s, const char *domain)
{
	char id[STS_ID_MAX + 1];
	enum sts_answer answer;

	if (s->is_absent)
		return 1;
	if (s->fd < 0)
		return *s->domain && strcasecmp(s->domain, domain) == 0;
	sts_record_id(id, &s->record);
	dns_free(&s->record);
	copy_lower(s->domain, domain);
	answer = sts_client_ask(s->fd, s->domain, id, &s->policy);
	s->fd = -1;
	if (answer != STS_POLICY)
		s->policy.mode = STS_NONE;
	if (answer == STS_NO_ANSWER)
		s->domain[0] = '\0';
	return answer != STS_NO_ANSWER;
}
