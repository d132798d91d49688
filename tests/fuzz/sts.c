/* What a domain says of its mail by MTA-STS, the text of a web server and the TXT record, given any octets. */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "bin-src/remote/sts_policy.h"
#include "bin-src/remote/sts_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* A policy has bounds, and only one with an mx has a host. */
static void
read_policy(const char *text, size_t len)
{
	static const char *const hosts[] = { "mx.example", "a.mx.example", "x" };
	struct sts_policy p;

	if (sts_policy_parse(&p, text, len) != NULL)
		return;
	assert(p.max_age <= STS_AGE_MAX && len >= strlen("version:STSv1\nmode:none\nmax_age:0"));
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
		assert(!sts_policy_has(&p, hosts[i]) || memmem(text, len, "mx:", 3));
	assert(!sts_policy_has(&p, ""));
}

/* The id is letters and digits. */
static void
read_record(const char *text, size_t len)
{
	struct dns_record records[2] = { { .text = text, .len = len }, { .text = text, .len = len / 2 } };
	struct dns_question q = { .kind = DNS_FOUND, .records = records };
	char id[STS_ID_MAX + 1];

	for (q.records_len = 1; q.records_len <= 2; q.records_len++) {
		sts_record_id(id, &q);
		assert(strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == strlen(id));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	read_policy((const char *)octets, len);
	read_record((const char *)octets, len);
	return 0;
}
