#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <skalibs/bytestr.h>
#include "certificate.h"
#include "dane.h"
#include "server_proof.h"
#include "trust_anchors.h"

/* --- records --------------------------------------------------------------------------------------------------------- */

static enum dane_kind
settle(struct dane *d, enum dane_kind kind, const char *why)
{
	d->why = why;
	return kind;
}

static enum dane_kind
take_records(struct dane *d)
{
	d->records_len = 0;
	for (size_t i = 0; i < d->answer.records_len && d->records_len < DANE_RECORDS_MAX; i++)
		d->records_len += (size_t)tlsa_read(&d->records[d->records_len], d->answer.records[i].text, d->answer.records[i].len);
	d->records_len = tlsa_keep_strongest(d->records, d->records_len);
	return d->records_len ? DANE_USABLE : settle(d, DANE_UNUSABLE, "it has none that can be used for SMTP");
}

/* The records of a base domain. */
static enum dane_kind
ask_for_records(struct dane *d, struct dns *dns, const char *base, uint16_t port, uint64_t deadline)
{
	char name[DNS_NAME_MAX + sizeof "_65535._tcp."];

	snprintf(d->base, sizeof d->base, "%s", base);
	snprintf(name, sizeof name, "_%u._tcp.%s", (unsigned int)port, base);
	dns_ask(dns, &d->answer, name, DNS_TLSA);
	dns_finish(dns, deadline);
	switch (d->answer.kind) {
	case DNS_FOUND:
		return d->answer.is_authentic ? take_records(d) : settle(d, DANE_NONE, "they are not signed");
	case DNS_NO_NAME:
	case DNS_NO_DATA:
		return settle(d, DANE_NONE, "there are none");
	case DNS_PENDING:
	case DNS_TEMPORARY:
		break;
	}
	return settle(d, DANE_UNKNOWN, d->answer.trouble);
}

/* What a host without signed addresses has: the alias itself may be signed. */
static enum dane_kind
ask_for_alias(struct dane *d, struct dns *dns, const char *host, uint16_t port, uint64_t deadline)
{
	dns_ask(dns, &d->answer, host, DNS_CNAME);
	dns_finish(dns, deadline);
	if (d->answer.kind == DNS_TEMPORARY || d->answer.kind == DNS_PENDING)
		return settle(d, DANE_UNKNOWN, d->answer.trouble);
	if (d->answer.kind == DNS_FOUND && d->answer.is_authentic)
		return ask_for_records(d, dns, host, port, deadline);
	return settle(d, DANE_NONE, "its addresses are not signed");
}

static enum dane_kind
ask(struct dane *d, struct dns *dns, const struct mx *mx, const struct mx_address *a, uint64_t deadline)
{
	const struct mx_host *host = &mx->hosts[a->host];
	/* a domain without MX is the host, as it was called before its CNAMEs were followed */
	const char *name = mx->by_mx || !*mx->domain ? host->name : mx->domain;
	int is_alias = strcasecmp(host->target, name) != 0;
	enum dane_kind kind = DANE_NONE;

	if (!dns_is_local(dns))
		return settle(d, DANE_NONE, "no resolver of this host itself says what is signed");
	if (!mx->is_authentic)
		return settle(d, DANE_NONE, "it is not signed that it is a server of the domain");
	if (!host->is_authentic)
		return is_alias ? ask_for_alias(d, dns, name, a->port, deadline) : settle(d, DANE_NONE, "its addresses are not signed");
	if (is_alias)
		kind = ask_for_records(d, dns, host->target, a->port, deadline);
	return kind == DANE_NONE ? ask_for_records(d, dns, name, a->port, deadline) : kind;
}

/* RFC 7672 section 3.2.2, in lower case. Returns 1, or 0 without memory. */
static int
take_names(struct dane *d, const struct mx *mx, const struct mx_host *host)
{
	const char *const names[] = { d->base, host->name, mx->domain, mx->target };
	int ok = 1;

	d->names.len = 0;
	for (size_t i = 0; ok && i < sizeof names / sizeof *names; i++)
		ok = !*names[i] || (stralloc_cats(&d->names, names[i]) && stralloc_0(&d->names));
	case_lowerb(d->names.s, d->names.len);
	return ok;
}

void
dane_find(struct dane *d, struct dns *dns, const struct mx *mx, const struct mx_address *a, uint64_t deadline)
{
	d->kind = ask(d, dns, mx, a, deadline);
	if (d->kind == DANE_USABLE && !take_names(d, mx, &mx->hosts[a->host]))
		d->kind = settle(d, DANE_UNKNOWN, "out of memory");
}

void
dane_forget(struct dane *d)
{
	dns_free(&d->answer);
	stralloc_free(&d->names);
	*d = (struct dane){ .kind = DANE_NONE };
}

/* --- certificates ------------------------------------------------------------------------------------------------------ */

static int
has_match(const struct dane *d, enum tlsa_usage usage, const unsigned char *der, size_t len)
{
	for (size_t i = 0; i < d->records_len; i++)
		if (d->records[i].usage == usage && tlsa_matches(&d->records[i], der, len))
			return 1;
	return 0;
}

/* One that cannot be read is none. Returns 1, or 0 without memory. */
static int
add_anchor(struct trust_anchors *anchors, const unsigned char *der, size_t len)
{
	if (!trust_anchors_add(anchors, der, len))
		return errno == 0;
	/* the record says so, whatever the certificate does; and so it stands for no server itself */
	anchors->anchors[anchors->len - 1].flags = BR_X509_TA_CA;
	return 1;
}

/* The certificates that records of DANE-TA name. Returns 1, or 0 without memory. */
static int
find_anchors(const struct dane *d, const struct server_chain *c, struct trust_anchors *anchors)
{
	int ok = 1;

	for (size_t i = 1; ok && i < c->len; i++)
		if (has_match(d, TLSA_DANE_TA, c->certificates[i].der, c->certificates[i].len))
			ok = add_anchor(anchors, c->certificates[i].der, c->certificates[i].len);
	/* a server need not send what the record has whole: RFC 7671 section 5.2.1 */
	for (size_t i = 0; ok && i < d->records_len; i++) {
		const struct tlsa *t = &d->records[i];

		if (t->usage == TLSA_DANE_TA && t->selector == TLSA_CERTIFICATE && t->matching == TLSA_FULL)
			ok = add_anchor(anchors, t->data, t->len);
	}
	return ok;
}

/* Returns NULL, or why it does not meet DANE. */
static const char *
check_anchors(const struct dane *d, const struct server_chain *c)
{
	struct trust_anchors anchors = { .len = 0 };
	struct certificate own;
	const char *why;

	if (!find_anchors(d, c, &anchors))
		why = "no memory to check its certificate";
	else if (!anchors.len)
		why = "its certificate is none that its TLSA records name";
	else if (!certificate_read(&own, c->certificates[0].der, c->certificates[0].len))
		why = "its certificate cannot be read";	/* BearSSL takes some that are no DER, whose names nobody would look at */
	else if (!(why = server_proof_path(c, &anchors)))
		why = server_proof_is_for(&d->names, &own);
	trust_anchors_free(&anchors);
	return why;
}

static const char *
check(const struct server_chain *c, const void *of)
{
	static char text[96];
	const struct dane *d = of;
	const char *why;

	if (has_match(d, TLSA_DANE_EE, c->certificates[0].der, c->certificates[0].len))
		return NULL;
	why = check_anchors(d, c);
	snprintf(text, sizeof text, "DANE: %s", why ? why : "");
	return why ? text : NULL;
}

void
dane_demand(const struct dane *d, struct server_chain *chain)
{
	chain->demand = check;
	chain->of = d;
}
