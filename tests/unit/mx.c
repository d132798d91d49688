/* From a host to the addresses that are tried: RFC 5321 section 5.1, RFC 7505. The resolver is this file's: a zone a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "bin-src/lib/ip_address.h"
#include "bin-src/remote/mx.h"

/* --- the resolver ---------------------------------------------------------------------------------------------- */

/* A zone is "NAME TYPE DATA,DATA;..." with "NO" (no such name), "NODATA", "TEMPORARY" or "UNUSABLE" for DATA. A CNAME's
 * target stands before the data as "=TARGET ", and '+' before all of it says that it has the AD bit. What a zone does not have is
 * NODATA. */
struct dns { const char *zone; unsigned int asked, finished; };

struct answer {
	struct dns_record records[DNS_RECORDS_MAX];
	char text[DNS_RECORDS_MAX][64];
};

static void
add_record(struct dns_question *q, struct answer *a, const char *data)
{
	struct dns_record *r = &a->records[q->records_len];
	char *text = a->text[q->records_len++];
	ip46 ip = IP46_ZERO;
	int n = 0;

	r->ttl = 300;
	r->text = text;
	if (q->type == DNS_MX) {
		r->preference = (uint16_t)strtoul(data, NULL, 10);
		sscanf(data, "%*u%n", &n);
		snprintf(text, sizeof *a->text, "%s", data[n] ? data + n + 1 : "");
		r->len = strlen(text);
		return;
	}
	assert_int_equal(ip_address_parse(&ip, data), 1);
	r->len = ip46_is6(&ip) ? 16 : 4;
	memcpy(text, ip.ip, r->len);
}

static void
answer(struct dns_question *q, char *data)
{
	struct answer *a = calloc(1, sizeof *a);

	q->state = a;
	q->records = a->records;
	q->is_authentic = *data == '+';
	data += q->is_authentic;
	if (*data == '=') {
		char *target = strsep(&data, " ") + 1;

		snprintf(q->name, sizeof q->name, "%s", target);
		q->links = 1;
	}
	q->trouble = "the test says so";
	q->ttl = 300;
	q->kind = DNS_FOUND;
	if (strcmp(data, "NO") == 0)
		q->kind = DNS_NO_NAME;
	else if (strcmp(data, "NODATA") == 0)
		q->kind = DNS_NO_DATA;
	else if (strcmp(data, "TEMPORARY") == 0)
		q->kind = DNS_TEMPORARY;
	else if (strcmp(data, "UNUSABLE") == 0)
		q->is_cut = 1;
	else
		while (data)
			add_record(q, a, strsep(&data, ","));
}

void
dns_ask(struct dns *d, struct dns_question *q, const char *name, enum dns_type type)
{
	char key[300], *zone = strdup(d->zone), *rest = zone, *line;
	char nothing[] = "NODATA";

	dns_free(q);
	d->asked++;
	q->type = type;
	snprintf(q->name, sizeof q->name, "%s", name);
	snprintf(key, sizeof key, "%s %s ", name, type == DNS_MX ? "MX" : type == DNS_A ? "A" : "AAAA");
	while ((line = strsep(&rest, ";")))
		if (strncasecmp(line, key, strlen(key)) == 0)
			break;
	answer(q, line ? line + strlen(key) : nothing);
	free(zone);
}

void
dns_finish(struct dns *d, uint64_t deadline)
{
	assert_int_equal(deadline, 77);
	d->finished++;
}

void
dns_free(struct dns_question *q)
{
	free(q->state);
	memset(q, 0, sizeof *q);
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

/* want: the letter, then the addresses as HOST/IP, or the code of the text. 192.0.2.99 and 2001:db8::99 are this host. */
static const struct mx_row { const char *rule, *host, *zone, *want; } rows[] = {
	{ "by preference", "x.example", "x.example MX 20 b,10 a,30 c;a A 192.0.2.1;b A 192.0.2.2;c A 192.0.2.3",
	    "K a/192.0.2.1 b/192.0.2.2 c/192.0.2.3" },
	{ "IPv6 and IPv4 by turns", "x.example", "x.example MX 10 a,20 b;a A 192.0.2.1;a AAAA 2001:db8::1;b A 192.0.2.2",
	    "K a/2001:db8::1 a/192.0.2.1 b/192.0.2.2" },
	{ "no MX: the host itself", "x.example", "x.example A 192.0.2.1;x.example AAAA 2001:db8::1",
	    "K x.example/2001:db8::1 x.example/192.0.2.1" },
	{ "an alias with MX", "x.example", "x.example MX =y.example 10 a;a A 192.0.2.1", "K a/192.0.2.1" },
	{ "an alias without MX: what it leads to", "x.example", "x.example MX =y.example NODATA;y.example A 192.0.2.1",
	    "K y.example/192.0.2.1" },
	{ "an MX that is an alias", "x.example", "x.example MX 10 a;a A =b 192.0.2.1", "K a/192.0.2.1" },
	{ "null MX", "x.example", "x.example MX 0;x.example A 192.0.2.1", "D #5.1.10" },
	{ "a root among others is none", "x.example", "x.example MX 0,10 a;a A 192.0.2.1", "K a/192.0.2.1" },
	{ "no such domain", "x.example", "x.example MX NO", "D #5.1.2" },
	{ "neither MX nor address", "x.example", "", "D #5.1.2" },
	{ "no MX, and then no name", "x.example", "x.example A NO;x.example AAAA NO", "D #5.1.2" },
	{ "no answer about MX", "x.example", "x.example MX TEMPORARY;x.example A 192.0.2.1", "Z #4.4.3" },
	{ "no answer about the host", "x.example", "x.example A TEMPORARY", "Z #4.4.3" },
	{ "IPv4 is enough", "x.example", "x.example A 192.0.2.1;x.example AAAA TEMPORARY", "K x.example/192.0.2.1" },
	{ "IPv6 is enough", "x.example", "x.example A TEMPORARY;x.example AAAA 2001:db8::1", "K x.example/2001:db8::1" },
	{ "MX hosts without an address", "x.example", "x.example MX 10 a,20 b;a A NO;a AAAA NO;x.example A 192.0.2.1", "D #5.4.4" },
	{ "one of them unknown", "x.example", "x.example MX 10 a,20 b;a A NO;b A TEMPORARY", "Z #4.4.3" },
	{ "one known is enough", "x.example", "x.example MX 10 a,20 b;a A TEMPORARY;b A 192.0.2.2", "K b/192.0.2.2" },
	{ "unusable MX are no reason for A", "x.example", "x.example MX UNUSABLE;x.example A 192.0.2.1", "D #5.4.4" },
	{ "ourselves best", "x.example", "x.example MX 10 us,20 b;us A 192.0.2.99;b A 192.0.2.2", "D #5.4.6" },
	{ "ourselves best, by IPv6", "x.example", "x.example MX 10 us,20 b;us AAAA 2001:db8::99;b A 192.0.2.2", "D #5.4.6" },
	{ "ourselves second", "x.example", "x.example MX 10 a,20 us,30 c;a A 192.0.2.1;us A 192.0.2.99;c A 192.0.2.3",
	    "K a/192.0.2.1" },
	{ "ourselves among equals", "x.example", "x.example MX 10 a,20 b,20 us;a A 192.0.2.1;b A 192.0.2.2;us A 192.0.2.99",
	    "K a/192.0.2.1" },
	{ "one of many addresses is ours", "x.example", "x.example MX 10 a,20 b;a A 192.0.2.1,192.0.2.99;b A 192.0.2.2", "D #5.4.6" },
	{ "ourselves second, the better one unknown", "x.example", "x.example MX 10 a,20 us;a A TEMPORARY;us A 192.0.2.99", "Z #4.4.3" },
	{ "ourselves second, only a worse one known", "x.example", "x.example MX 10 a,20 us,30 b;a A TEMPORARY;us A 192.0.2.99;b A 192.0.2.2",
	    "Z #4.4.3" },
	{ "ourselves third, the second known", "x.example", "x.example MX 10 a,20 b,30 us;a A TEMPORARY;b A 192.0.2.2;us A 192.0.2.99",
	    "K b/192.0.2.2" },
	{ "ourselves second, the better one gone", "x.example", "x.example MX 10 a,20 us;a A NO;us A 192.0.2.99", "D #5.4.6" },
	{ "ourselves without MX", "x.example", "x.example A 192.0.2.99", "D #5.4.6" },
	{ "MX to 0.0.0.0", "x.example", "x.example MX 10 a;a A 0.0.0.0", "D #5.4.6" },
	{ "MX to ::", "x.example", "x.example MX 10 a;a AAAA ::", "D #5.4.6" },
	{ "MX to 127.0.0.1", "x.example", "x.example MX 10 a,20 b;a A 127.0.0.1;b A 192.0.2.1", "D #5.4.6" },
	{ "MX to a mapped loopback", "x.example", "x.example MX 10 a;a AAAA ::ffff:127.0.0.1", "D #5.4.6" },
	{ "MX to multicast", "x.example", "x.example MX 10 a;a A 224.0.0.1", "D #5.4.6" },
	{ "a host named twice, at its best", "x.example", "x.example MX 20 a,10 a,15 b;a A 192.0.2.1;b A 192.0.2.2",
	    "K a/192.0.2.1 b/192.0.2.2" },
	{ "an address of two hosts, for each", "x.example", "x.example MX 10 a,20 b;a A 192.0.2.1;b A 192.0.2.1", "K a/192.0.2.1 b/192.0.2.1" },
	{ "an address of a host, once", "x.example", "x.example MX 10 a;a A 192.0.2.1,192.0.2.1", "K a/192.0.2.1" },
	{ "other letters", "b\xc3\xbc" "cher.example", "xn--bcher-kva.example MX 10 a;a A 192.0.2.1", "K a/192.0.2.1" },
	{ "no UTF-8", "\xff.example", "", "D #5.1.2" },
	{ "letters that no domain has", "\xe2\x98\x83.example", "", "D #5.1.2" },
	{ "literal", "[192.0.2.1]", "", "K 192.0.2.1/192.0.2.1" },
	{ "literal of IPv6", "[IPv6:2001:db8::1]", "", "K 2001:db8::1/2001:db8::1" },
	{ "the tag has no case", "[ipv6:2001:db8::1]", "", "K 2001:db8::1/2001:db8::1" },
	{ "our literal", "[192.0.2.99]", "", "D #5.4.6" },
	{ "our literal of IPv6", "[IPv6:2001:db8::99]", "", "D #5.4.6" },
	{ "loopback's literal", "[127.0.0.1]", "", "D #5.4.6" },
	{ "0.0.0.0's literal", "[0.0.0.0]", "", "D #5.4.6" },
	{ "our literal, mapped", "[IPv6:::ffff:192.0.2.99]", "", "D #5.4.6" },
	{ "IPv6 without its tag", "[2001:db8::1]", "", "D #5.1.2" },
	{ "IPv4 with the tag", "[IPv6:192.0.2.1]", "", "D #5.1.2" },
	{ "an open literal", "[192.0.2.1", "", "D #5.1.2" },
	{ "an empty literal", "[]", "", "D #5.1.2" },
	{ "only the tag", "[IPv6:]", "", "D #5.1.2" },
	{ "a bracket", "[", "", "D #5.1.2" },
	{ "a name in brackets", "[x.example]", "", "D #5.1.2" },
	{ "a literal with more behind", "[192.0.2.1]x", "", "D #5.1.2" },
	{ "a long literal", "[IPv6:00000000000000000000000000000000000000000000000000000001]", "", "D #5.1.2" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct localaddresses here;
static struct localaddress_prefix own[] = { { IP46_ZERO, 32 }, { IP46_ZERO, 128 } };

static void
render(char *text, size_t size, const struct mx *mx)
{
	const char *code = strchr(mx->text, '#');
	size_t len = (size_t)snprintf(text, size, "%c", mx->letter);
	char ip[IP46_FMT];

	assert_int_equal(mx->letter == 'K', mx->addresses_len > 0);
	if (mx->letter != 'K') {
		assert_non_null(code);
		assert_int_equal(mx->text[strlen(mx->text) - 1], '\n');
		snprintf(text + len, size - len, " %.*s", (int)strcspn(code, ")"), code);
	}
	for (size_t i = 0; i < mx->addresses_len; i++) {
		ip[ip46_fmt(ip, &mx->addresses[i].ip)] = 0;
		len += (size_t)snprintf(text + len, size - len, " %s/%s", mx->hosts[mx->addresses[i].host].name, ip);
	}
}

static void
row_is_right(void **state)
{
	const struct mx_row *row = *state;
	struct dns d = { .zone = row->zone };
	char got[2000];
	struct mx mx;

	mx_find(&mx, &d, &here, NULL, row->host, 77);
	render(got, sizeof got, &mx);
	assert_string_equal(got, row->want);
	assert_true(d.finished <= 2);	/* the MX, then all addresses at once */
	for (size_t i = 0; i < mx.addresses_len; i++)
		assert_int_equal(mx.addresses[i].port, 25);
}

/* --- relays ---------------------------------------------------------------------------------------------------- */

static void
expect_by_route(const struct smtproute *route, const char *zone, const char *want)
{
	struct dns d = { .zone = zone };
	char got[2000];
	struct mx mx;

	mx_find(&mx, &d, &here, route, "x.example", 77);
	render(got, sizeof got, &mx);
	assert_string_equal(got, want);
	for (size_t i = 0; i < mx.addresses_len; i++)
		assert_int_equal(mx.addresses[i].port, route->port);
}

static void
a_relay_has_no_mx_and_may_be_this_host(void **state)
{
	struct smtproute name = { .relay = "r.example", .port = 26 }, literal = { .relay = "127.0.0.1", .is_literal = 1, .port = 27 };
	struct smtproute none = { .relay = "", .port = 28 };

	(void)state;
	expect_by_route(&name, "r.example MX 10 a;r.example A 192.0.2.99;x.example MX 10 b", "K r.example/192.0.2.99");
	expect_by_route(&name, "r.example A TEMPORARY", "Z #4.4.3");
	expect_by_route(&name, "r.example A NO;r.example AAAA NO", "Z #4.4.4");
	expect_by_route(&literal, "", "K 127.0.0.1/127.0.0.1");
	expect_by_route(&none, "x.example MX 10 a;a A 192.0.2.1", "K a/192.0.2.1");
	expect_by_route(&none, "x.example MX 10 a;a A 192.0.2.99", "D #5.4.6");
}

/* --- what is signed -------------------------------------------------------------------------------------------- */

/* want: domain>target of the MX, then HOST>TARGET of the first host; '+' before what is signed. */
static const struct signed_row { const char *rule, *zone, *want; int by_relay; } signed_rows[] = {
	{ "all of it is signed", "x.example MX +10 a;a A +192.0.2.1;a AAAA +2001:db8::1", "+x.example>x.example +a>a", 0 },
	{ "the MX is not", "x.example MX 10 a;a A +192.0.2.1", "x.example>x.example +a>a", 0 },
	{ "the addresses are not", "x.example MX +10 a;a A 192.0.2.1;a AAAA 2001:db8::1", "+x.example>x.example a>a", 0 },
	{ "an address of one kind is", "x.example MX +10 a;a A 192.0.2.1;a AAAA +2001:db8::1", "+x.example>x.example +a>a", 0 },
	{ "that there is none of the other kind does not count", "x.example MX +10 a;a A 192.0.2.1;a AAAA +NODATA", "+x.example>x.example a>a", 0 },
	{ "the domain is an alias", "x.example MX +=y.example 10 a;a A +192.0.2.1", "+x.example>y.example +a>a", 0 },
	{ "the host is an alias", "x.example MX +10 a;a A +=b 192.0.2.1", "+x.example>x.example +a>b", 0 },
	{ "the alias leads where nothing is signed", "x.example MX +10 a;a A =b 192.0.2.1", "+x.example>x.example a>b", 0 },
	{ "no MX, and that is signed", "x.example MX +NODATA;x.example A +192.0.2.1", "+x.example>x.example +x.example>x.example", 0 },
	{ "a relay is the administrator's word", "r.example A +192.0.2.1", "+> +r.example>r.example", 1 },
	{ "a relay's addresses are not", "r.example A 192.0.2.1", "+> r.example>r.example", 1 },
};
enum { SIGNED_ROWS = sizeof signed_rows / sizeof *signed_rows };

static void
signed_row_is_right(void **state)
{
	static const struct smtproute relay = { .relay = "r.example", .port = 25 };
	const struct signed_row *row = *state;
	struct dns d = { .zone = row->zone };
	char got[2000];
	struct mx mx;

	mx_find(&mx, &d, &here, row->by_relay ? &relay : NULL, "x.example", 77);
	assert_int_equal(mx.letter, 'K');
	snprintf(got, sizeof got, "%s%s>%s %s%s>%s", mx.is_authentic ? "+" : "", mx.domain, mx.target, mx.hosts[0].is_authentic ? "+" : "",
	    mx.hosts[0].name, mx.hosts[0].target);
	assert_string_equal(got, row->want);
}

static void
a_literal_is_not_signed(void **state)
{
	struct dns d = { .zone = "" };
	struct mx mx;

	(void)state;
	mx_find(&mx, &d, &here, NULL, "[192.0.2.1]", 77);
	assert_int_equal(mx.letter, 'K');
	assert_false(mx.is_authentic || mx.hosts[0].is_authentic);
}

/* --- chance and limits ----------------------------------------------------------------------------------------- */

static void
equals_are_shuffled(void **state)
{
	unsigned int first[3] = { 0, 0, 0 }, last[3] = { 0, 0, 0 };
	struct dns d = { .zone = "x.example MX 10 a,10 b,10 c,5 z;a A 192.0.2.1;b A 192.0.2.2;c A 192.0.2.3;z A 192.0.2.9" };
	struct mx mx;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		mx_find(&mx, &d, &here, NULL, "x.example", 77);
		assert_int_equal(mx.addresses_len, 4);
		assert_string_equal(mx.hosts[mx.addresses[0].host].name, "z");
		first[mx.hosts[mx.addresses[1].host].name[0] - 'a']++;
		last[mx.hosts[mx.addresses[3].host].name[0] - 'a']++;
	}
	for (int i = 0; i < 3; i++) {
		assert_in_range(first[i], 800, 1200);
		assert_in_range(last[i], 800, 1200);
	}
}

static void
addresses_are_shuffled(void **state)
{
	unsigned int first[3] = { 0, 0, 0 };
	struct dns d = { .zone = "x.example A 192.0.2.1,192.0.2.2,192.0.2.3" };
	struct mx mx;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		mx_find(&mx, &d, &here, NULL, "x.example", 77);
		assert_int_equal(mx.addresses_len, 3);
		first[mx.addresses[0].ip.ip[3] - 1]++;
	}
	for (int i = 0; i < 3; i++)
		assert_in_range(first[i], 800, 1200);
}

static void
many_hosts_and_addresses(void **state)
{
	static char zone[200000];
	size_t len = (size_t)sprintf(zone, "x.example MX 9 best");
	struct dns d = { .zone = zone };
	unsigned int of_one = 0;
	struct mx mx;

	(void)state;
	for (int i = 0; i < DNS_RECORDS_MAX - 1; i++)
		len += (size_t)sprintf(zone + len, ",10 h%d", i);
	len += (size_t)sprintf(zone + len, ";best A 192.0.2.1");
	for (int i = 2; i < 60; i++)
		len += (size_t)sprintf(zone + len, ",192.0.2.%d", i);
	for (int i = 0; i < DNS_RECORDS_MAX - 1; i++)
		len += (size_t)sprintf(zone + len, ";h%d A 198.18.%d.%d,198.19.%d.%d,198.20.%d.%d", i, i / 256, i % 256, i / 256, i % 256,
		    i / 256, i % 256);
	mx_find(&mx, &d, &here, NULL, "x.example", 77);
	assert_int_equal(mx.letter, 'K');
	assert_int_equal(mx.hosts_len, MX_HOSTS_MAX);
	assert_int_equal(mx.addresses_len, MX_ADDRESSES_MAX);
	assert_string_equal(mx.hosts[0].name, "best");
	for (size_t i = 0; i < mx.addresses_len; i++)
		of_one += mx.addresses[i].host == 0;
	assert_int_equal(of_one, MX_HOST_ADDRESSES_MAX);
	assert_int_equal(d.asked, 1 + 2 * MX_HOSTS_MAX);
	assert_int_equal(d.finished, 2);
}

static int
set_up(void **state)
{
	(void)state;
	ip_address_parse(&own[0].ip, "192.0.2.99");
	ip_address_parse(&own[1].ip, "2001:db8::99");
	here.own = own;
	here.own_len = 2;
	return 0;
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + SIGNED_ROWS + 5] = { { NULL } }, *others = tests + ROWS + SIGNED_ROWS;

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = row_is_right,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < SIGNED_ROWS; i++)
		tests[ROWS + i] = (struct CMUnitTest){ .name = signed_rows[i].rule, .test_func = signed_row_is_right,
		    .initial_state = (void *)(uintptr_t)&signed_rows[i] };
	others[0] = (struct CMUnitTest)cmocka_unit_test(a_relay_has_no_mx_and_may_be_this_host);
	others[1] = (struct CMUnitTest)cmocka_unit_test(equals_are_shuffled);
	others[2] = (struct CMUnitTest)cmocka_unit_test(addresses_are_shuffled);
	others[3] = (struct CMUnitTest)cmocka_unit_test(many_hosts_and_addresses);
	others[4] = (struct CMUnitTest)cmocka_unit_test(a_literal_is_not_signed);
	return cmocka_run_group_tests_name("mx", tests, set_up, NULL);
}
