#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "domain.h"
#include "ip_address.h"
#include "mx.h"

enum { MX_PORT = 25, HIGHEST_PREFERENCE = 65535 };

/* The addresses of one host: two questions. */
struct asked { struct dns_question a, aaaa; };

/* A look-up under way. */
struct search {
	struct mx *mx;
	struct dns *dns;
	const struct localaddresses *local;	/* NULL: "is it me" is not asked */
	uint64_t deadline;
	uint16_t port;
	const char *host;		/* what is looked for, for the texts */
	char name[DOMAIN_MAX + 1];	/* the same in ASCII */
	int is_relay;			/* of smtproutes */
	struct asked asked[MX_HOSTS_MAX];
};

/* The result is that there is no address. The host is anybody's: its control characters do not show in the text. */
static void __attribute__((format(printf, 3, 4)))
fail(struct search *s, char letter, const char *format, ...)
{
	va_list arguments;

	s->mx->addresses_len = 0;
	s->mx->letter = letter;
	va_start(arguments, format);
	vsnprintf(s->mx->text, sizeof s->mx->text, format, arguments);
	va_end(arguments);
	for (char *c = s->mx->text; *c; c++)
		if (((unsigned char)*c < ' ' && c[1]) || *c == 127)
			*c = '?';
}

static void
fail_for_now(struct search *s, const struct dns_question *q)
{
	fail(s, 'Z', "The DNS says nothing about %.255s now: %s. (#4.4.3)\n", q->name, q->trouble);
}

static void
fail_with_loop(struct search *s)
{
	fail(s, 'D', "Mail for %.255s would come back here: this host is its best mail exchanger, but does not take %s. (#5.4.6)\n",
	    s->host, "it for its own");
}

/* --- order --------------------------------------------------------------------------------------------------- */

/* Puts the numbers below n into order[], each sequence as likely as any other. */
static void
shuffle(unsigned int *order, size_t n)
{
	for (unsigned int i = 0; i < n; i++)
		order[i] = i;
	for (size_t i = n; i > 1; i--) {
		size_t other = arc4random_uniform((uint32_t)i);
		unsigned int last = order[i - 1];

		order[i - 1] = order[other];
		order[other] = last;
	}
}

/* What qsort compares: by preference, then by chance. */
struct ranked { uint16_t preference; unsigned int chance, record; };

static int
compare(const void *one, const void *other)
{
	const struct ranked *a = one, *b = other;

	if (a->preference != b->preference)
		return a->preference < b->preference ? -1 : 1;
	return a->chance < b->chance ? -1 : a->chance > b->chance;
}

static int
has_host(const struct mx *mx, const char *name)
{
	for (size_t i = 0; i < mx->hosts_len; i++)
		if (strcmp(mx->hosts[i].name, name) == 0)
			return 1;
	return 0;
}

static void
add_host(struct mx *mx, const char *name, uint16_t preference)
{
	struct mx_host *host = &mx->hosts[mx->hosts_len];

	if (mx->hosts_len == MX_HOSTS_MAX || has_host(mx, name))
		return;
	snprintf(host->name, sizeof host->name, "%s", name);
	host->target[0] = '\0';
	host->is_authentic = 0;
	host->preference = preference;
	mx->hosts_len++;
}

/* The best hosts of the MX records; a root among others is left out. */
static void
rank_hosts(struct mx *mx, const struct dns_question *q)
{
	struct ranked ranked[DNS_RECORDS_MAX];
	unsigned int chances[DNS_RECORDS_MAX];
	size_t n = q->records_len < DNS_RECORDS_MAX ? q->records_len : DNS_RECORDS_MAX;

	shuffle(chances, n);
	for (unsigned int i = 0; i < n; i++)
		ranked[i] = (struct ranked){ q->records[i].preference, chances[i], i };
	/* cppcheck-suppress uninitvar ; the first n are filled */
	qsort(ranked, n, sizeof *ranked, compare);
	for (size_t i = 0; i < n; i++)
		if (q->records[ranked[i].record].len)
			add_host(mx, q->records[ranked[i].record].text, ranked[i].preference);
}

/* --- addresses ----------------------------------------------------------------------------------------------- */

static void
add_address(struct search *s, const ip46 *ip, unsigned int host)
{
	struct mx *mx = s->mx;

	if (mx->addresses_len == MX_ADDRESSES_MAX)
		return;
	for (size_t i = 0; i < mx->addresses_len; i++)
		if (mx->addresses[i].host == host && ip_address_is_same(&mx->addresses[i].ip, ip))
			return;
	mx->addresses[mx->addresses_len++] = (struct mx_address){ *ip, s->port, mx->hosts[host].preference, host };
}

static void
take_ip(ip46 *ip, const struct dns_question *q, size_t i)
{
	if (q->type == DNS_AAAA)
		ip46_from_ip6(ip, q->records[i].text);
	else
		ip46_from_ip4(ip, q->records[i].text);
}

/* The answers' addresses: IPv6 and IPv4 by turns. */
static void
add_addresses(struct search *s, unsigned int host)
{
	const struct dns_question *kinds[] = { &s->asked[host].aaaa, &s->asked[host].a };
	unsigned int order[2][DNS_RECORDS_MAX] = { { 0 } };
	unsigned int added = 0;
	ip46 ip;

	shuffle(order[0], kinds[0]->records_len);
	shuffle(order[1], kinds[1]->records_len);
	for (size_t i = 0; i < kinds[0]->records_len || i < kinds[1]->records_len; i++)
		for (int kind = 0; kind < 2; kind++)
			if (i < kinds[kind]->records_len && added++ < MX_HOST_ADDRESSES_MAX) {
				take_ip(&ip, kinds[kind], order[kind][i]);
				add_address(s, &ip, host);
			}
}

static int
has_local(const struct localaddresses *local, const struct dns_question *q)
{
	ip46 ip;

	for (size_t i = 0; local && i < q->records_len; i++) {
		take_ip(&ip, q, i);
		if (localaddress_is(local, &ip))
			return 1;
	}
	return 0;
}

static void
ask_addresses(struct search *s)
{
	for (size_t i = 0; i < s->mx->hosts_len; i++) {
		dns_ask(s->dns, &s->asked[i].aaaa, s->mx->hosts[i].name, DNS_AAAA);
		dns_ask(s->dns, &s->asked[i].a, s->mx->hosts[i].name, DNS_A);
	}
	dns_finish(s->dns, s->deadline);
}

/* The first of the questions about the hosts before number n that got no answer; NULL: there are answers. */
static const struct dns_question *
first_trouble(const struct search *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s->asked[i].a.kind == DNS_TEMPORARY)
			return &s->asked[i].a;
		if (s->asked[i].aaaa.kind == DNS_TEMPORARY)
			return &s->asked[i].aaaa;
	}
	return NULL;
}

/* How many of the hosts, from the best, are better than this host; all, if it is none of them (RFC 5321 section 5.1). */
static size_t
hosts_before_us(const struct search *s)
{
	unsigned int ours = HIGHEST_PREFERENCE + 1;
	size_t n = 0;

	for (size_t i = 0; i < s->mx->hosts_len; i++)
		if (s->mx->hosts[i].preference < ours &&
		    (has_local(s->local, &s->asked[i].a) || has_local(s->local, &s->asked[i].aaaa)))
			ours = s->mx->hosts[i].preference;
	while (n < s->mx->hosts_len && s->mx->hosts[n].preference < ours)
		n++;
	return n;
}

static void
note_ttl(struct mx *mx, const struct dns_question *q)
{
	if (q->kind == DNS_FOUND && q->records_len && (!mx->ttl || q->ttl < mx->ttl))
		mx->ttl = q->ttl;
}

/* No host has an address, and that is certain. */
static void
fail_without_address(struct search *s)
{
	if (s->is_relay)	/* control/smtproutes is wrong, not the recipient */
		fail(s, 'Z', "The relay %.255s, which control/smtproutes names, has no address. (#4.4.4)\n", s->host);
	else if (s->mx->by_mx)
		fail(s, 'D', "No mail exchanger of %.255s has an address. (#5.4.4)\n", s->host);
	else
		fail(s, 'D', "The domain %.255s takes no mail: it has neither a mail exchanger nor an address. (#5.1.2)\n", s->host);
}

/* What the answers say of the host besides. */
static void
note_names(struct mx_host *host, const struct asked *asked)
{
	const struct dns_question *const answers[] = { &asked->a, &asked->aaaa };

	memcpy(host->target, host->name, sizeof host->target);
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
		if (answers[i]->kind == DNS_FOUND && !host->is_authentic) {
			memcpy(host->target, answers[i]->name, sizeof host->target);
			host->is_authentic = answers[i]->is_authentic;
		}
}

/* The hosts are known: their addresses. */
static void
find_addresses(struct search *s)
{
	const struct dns_question *trouble;
	size_t usable;

	ask_addresses(s);
	usable = hosts_before_us(s);
	for (unsigned int i = 0; i < usable; i++) {
		add_addresses(s, i);
		note_names(&s->mx->hosts[i], &s->asked[i]);
		note_ttl(s->mx, &s->asked[i].a);
		note_ttl(s->mx, &s->asked[i].aaaa);
	}
	trouble = first_trouble(s, usable);
	if (s->mx->addresses_len)
		s->mx->letter = 'K';
	else if (trouble)
		fail_for_now(s, trouble);
	else if (usable < s->mx->hosts_len)
		fail_with_loop(s);
	else
		fail_without_address(s);
	for (size_t i = 0; i < s->mx->hosts_len; i++) {
		dns_free(&s->asked[i].a);
		dns_free(&s->asked[i].aaaa);
	}
}

/* --- where to look ------------------------------------------------------------------------------------------- */

static void
take_literal(struct search *s, const ip46 *ip)
{
	char name[IP46_FMT];

	name[ip46_fmt(name, ip)] = 0;
	add_host(s->mx, name, 0);
	add_address(s, ip, 0);
	s->mx->letter = 'K';
	if (s->local && localaddress_is(s->local, ip))
		fail_with_loop(s);
}

/* "[1.2.3.4]" or "[IPv6:...]", RFC 5321 4.1.3. */
static void
find_literal(struct search *s)
{
	static const char tag[] = "[IPv6:";
	size_t start = strncasecmp(s->host, tag, sizeof tag - 1) == 0 ? sizeof tag - 1 : 1;
	char text[INET6_ADDRSTRLEN];
	size_t len = strlen(s->host + start);
	ip46 ip;

	if (len < 2 || len > sizeof text || s->host[start + len - 1] != ']') {
		fail(s, 'D', "%.255s is no address of a host. (#5.1.2)\n", s->host);
		return;
	}
	memcpy(text, s->host + start, len - 1);
	text[len - 1] = 0;
	if (!ip_address_parse(&ip, text) || ip46_is6(&ip) != (start > 1))
		fail(s, 'D', "%.255s is no address of a host. (#5.1.2)\n", s->host);
	else
		take_literal(s, &ip);
}

/* The answer to the MX question is there. */
static void
judge_mx(struct search *s, const struct dns_question *q)
{
	s->mx->is_authentic = q->is_authentic;
	note_ttl(s->mx, q);
	switch (q->kind) {
	case DNS_FOUND:
		s->mx->by_mx = 1;
		if (q->records_len == 1 && !q->is_cut && !q->records[0].len) {
			fail(s, 'D', "The domain %.255s accepts no mail: it has a null MX. (#5.1.10)\n", s->host);	/* RFC 7505 section 3 */
			return;
		}
		rank_hosts(s->mx, q);
		find_addresses(s);
		return;
	case DNS_NO_DATA:
		add_host(s->mx, q->name, 0);	/* the implicit MX, RFC 5321 section 5.1 */
		find_addresses(s);
		return;
	case DNS_NO_NAME:
		fail(s, 'D', "There is no domain %.255s. (#5.1.2)\n", s->host);
		return;
	case DNS_PENDING:
	case DNS_TEMPORARY:
		fail_for_now(s, q);
	}
}

static void
find_by_mx(struct search *s)
{
	struct dns_question q = { .kind = DNS_PENDING };

	dns_ask(s->dns, &q, s->name, DNS_MX);
	dns_finish(s->dns, s->deadline);
	snprintf(s->mx->domain, sizeof s->mx->domain, "%.*s", DNS_NAME_MAX, s->name);
	memcpy(s->mx->target, q.name, sizeof s->mx->target);
	judge_mx(s, &q);
	dns_free(&q);
}

static void
find_relay(struct search *s)
{
	s->mx->is_authentic = 1;
	add_host(s->mx, s->name, 0);
	find_addresses(s);
}

/* Nothing is known yet. Hosts and addresses are not touched: most have one or two, and a kept worker pays for each page. */
static void
forget(struct mx *mx)
{
	mx->letter = mx->text[0] = mx->domain[0] = mx->target[0] = '\0';
	mx->hosts_len = mx->addresses_len = 0;
	mx->by_mx = mx->is_authentic = 0;
	mx->ttl = 0;
}

/* Puts the name into ASCII. Returns 0 if it has no such form. */
static int
take_name(struct search *s)
{
	if (domain_to_ascii(s->name, s->host))
		return 1;
	if (errno == ENOMEM)
		fail(s, 'Z', "Out of memory. (#4.3.0)\n");
	else if (s->is_relay)
		fail_without_address(s);
	else
		fail(s, 'D', "There is no domain %.255s. (#5.1.2)\n", s->host);
	return 0;
}

void
mx_find(struct mx *mx, struct dns *d, const struct localaddresses *l, const struct smtproute *route,
    const char *host, uint64_t deadline)
{
	struct search s = { .mx = mx, .dns = d, .local = l, .deadline = deadline, .port = MX_PORT, .host = host };
	ip46 ip;

	forget(mx);
	if (route)
		s.port = route->port;
	if (route && *route->relay) {
		s.local = NULL;
		s.is_relay = 1;
		s.host = route->relay;
	}
	if (s.is_relay && route->is_literal && ip_address_parse(&ip, route->relay))
		take_literal(&s, &ip);
	else if (!s.is_relay && *host == '[')
		find_literal(&s);
	else if (take_name(&s) && s.is_relay)
		find_relay(&s);
	else if (mx->letter == 0)
		find_by_mx(&s);
}
