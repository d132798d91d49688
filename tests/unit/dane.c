/* DANE: whether a host has TLSA records that count, and whether a server's certificates meet them. The resolver is this file's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/remote/dane.h"
#include "der.h"
#include "pem.h"

enum { DEADLINE = 77, TLSA_MAX = 3 + DER_MAX };

static struct dane dane;
static struct server_chain chain;

/* --- the resolver ------------------------------------------------------------------------------------------------------- */

/* A zone is "NAME TYPE ANSWER;..." with one of found, unsigned, NO, NODATA, TEMPORARY, and cut (none of the records was taken) for
 * ANSWER. What a zone does not have is NODATA. */
static const char *zone;
static int is_local;
static struct dns_record records[2 * DANE_RECORDS_MAX];
static size_t records_len;
static char asked[500];

int
dns_is_local(const struct dns *d)
{
	(void)d;
	return is_local;
}

void
dns_ask(struct dns *d, struct dns_question *q, const char *name, enum dns_type type)
{
	char key[300], *copy = strdup(zone), *rest = copy, *line;
	const char *answer = "NODATA";

	(void)d;
	dns_free(q);
	q->type = type;
	snprintf(q->name, sizeof q->name, "%.253s", name);
	snprintf(key, sizeof key, "%s %s ", name, type == DNS_TLSA ? "TLSA" : "CNAME");
	snprintf(asked + strlen(asked), sizeof asked - strlen(asked), "%s;", key);
	while ((line = strsep(&rest, ";")))
		if (strncmp(line, key, strlen(key)) == 0)
			answer = line + strlen(key);
	q->trouble = "the test says so";
	q->is_authentic = strcmp(answer, "unsigned") != 0;
	q->kind = strcmp(answer, "NO") == 0 ? DNS_NO_NAME : strcmp(answer, "NODATA") == 0 ? DNS_NO_DATA :
	    strcmp(answer, "TEMPORARY") == 0 ? DNS_TEMPORARY : DNS_FOUND;
	q->records = records;
	q->records_len = q->kind == DNS_FOUND && strcmp(answer, "cut") != 0 ? records_len : 0;
	free(copy);
}

void
dns_finish(struct dns *d, uint64_t deadline)
{
	(void)d;
	assert_int_equal(deadline, DEADLINE);
}

void
dns_free(struct dns_question *q)
{
	memset(q, 0, sizeof *q);
}

/* --- which records -------------------------------------------------------------------------------------------------------- */

static void
add_record(const void *rdata, size_t len)
{
	char *text = malloc(len);

	assert_non_null(text);
	memcpy(text, rdata, len);
	records[records_len++] = (struct dns_record){ .text = text, .len = len };
}

static int
set_up(void **state)
{
	(void)state;
	zone = "";
	is_local = 1;
	asked[0] = '\0';
	memset(&chain, 0, sizeof chain);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	dane_forget(&dane);
	while (records_len)
		free((void *)(uintptr_t)records[--records_len].text);
	return 0;
}

/* A host of x.test at port 25. */
static void
find(const char *name, const char *target, int mx_is_authentic, int host_is_authentic)
{
	static struct mx mx;
	struct mx_address a = { .port = 25, .host = 1 };

	memset(&mx, 0, sizeof mx);
	mx.hosts_len = 2;
	mx.by_mx = 1;
	mx.is_authentic = mx_is_authentic;
	mx.hosts[1].is_authentic = host_is_authentic;
	strcpy(mx.hosts[1].name, name);
	strcpy(mx.hosts[1].target, target);
	strcpy(mx.domain, "X.test");
	strcpy(mx.target, "y.test");
	dane_find(&dane, NULL, &mx, &a, DEADLINE);
}

/* The host is mx.test, its target after '>'; '-' behind either: not signed. want: base domain, or why there is none. */
static const struct row { const char *rule; int is_local, mx_is_authentic, host_is_authentic; const char *target, *zone, *want, *asked; } rows[] = {
	{ "signed", 1, 1, 1, "mx.test", "_25._tcp.mx.test TLSA found", "mx.test", "_25._tcp.mx.test TLSA ;" },
	{ "a resolver elsewhere", 0, 1, 1, "mx.test", "_25._tcp.mx.test TLSA found", "none: no resolver of this host itself says what is signed", "" },
	{ "MX without a signature", 1, 0, 1, "mx.test", "_25._tcp.mx.test TLSA found", "none: it is not signed that it is a server of the domain", "" },
	{ "addresses without a signature", 1, 1, 0, "mx.test", "_25._tcp.mx.test TLSA found", "none: its addresses are not signed", "" },
	{ "records without a signature", 1, 1, 1, "mx.test", "_25._tcp.mx.test TLSA unsigned", "none: they are not signed", "_25._tcp.mx.test TLSA ;" },
	{ "no such name", 1, 1, 1, "mx.test", "_25._tcp.mx.test TLSA NO", "none: there are none", "_25._tcp.mx.test TLSA ;" },
	{ "no records", 1, 1, 1, "mx.test", "", "none: there are none", "_25._tcp.mx.test TLSA ;" },
	{ "no answer", 1, 1, 1, "mx.test", "_25._tcp.mx.test TLSA TEMPORARY", "unknown: the test says so", "_25._tcp.mx.test TLSA ;" },
	{ "records that were left out", 1, 1, 1, "mx.test", "_25._tcp.mx.test TLSA cut", "unusable: it has none that can be used for SMTP", "_25._tcp.mx.test TLSA ;" },
	{ "an alias: where it leads", 1, 1, 1, "a.test", "_25._tcp.a.test TLSA found;_25._tcp.mx.test TLSA found", "a.test", "_25._tcp.a.test TLSA ;" },
	{ "an alias: itself", 1, 1, 1, "a.test", "_25._tcp.mx.test TLSA found", "mx.test", "_25._tcp.a.test TLSA ;_25._tcp.mx.test TLSA ;" },
	{ "an alias, unsigned there: itself", 1, 1, 1, "a.test", "_25._tcp.a.test TLSA unsigned;_25._tcp.mx.test TLSA found", "mx.test",
	    "_25._tcp.a.test TLSA ;_25._tcp.mx.test TLSA ;" },
	{ "an alias, no answer there", 1, 1, 1, "a.test", "_25._tcp.a.test TLSA TEMPORARY;_25._tcp.mx.test TLSA found", "unknown: the test says so",
	    "_25._tcp.a.test TLSA ;" },
	{ "a signed alias of a host that is not", 1, 1, 0, "a.test", "mx.test CNAME found;_25._tcp.mx.test TLSA found", "mx.test",
	    "mx.test CNAME ;_25._tcp.mx.test TLSA ;" },
	{ "an alias that is not signed", 1, 1, 0, "a.test", "mx.test CNAME unsigned;_25._tcp.mx.test TLSA found", "none: its addresses are not signed",
	    "mx.test CNAME ;" },
	{ "an alias of which nobody knows", 1, 1, 0, "a.test", "mx.test CNAME TEMPORARY;_25._tcp.mx.test TLSA found", "unknown: the test says so",
	    "mx.test CNAME ;" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
row_is_right(void **state)
{
	static const char *const kinds[] = { [DANE_NONE] = "none", [DANE_UNUSABLE] = "unusable", [DANE_UNKNOWN] = "unknown" };
	const struct row *row = *state;
	static const char digest[3 + 32] = { 3, 1, 1 };
	char got[300];

	add_record(digest, sizeof digest);
	zone = row->zone;
	is_local = row->is_local;
	find("mx.test", row->target, row->mx_is_authentic, row->host_is_authentic);
	if (dane.kind == DANE_USABLE)
		snprintf(got, sizeof got, "%s", dane.base);
	else
		snprintf(got, sizeof got, "%s: %s", kinds[dane.kind], dane.why);
	assert_string_equal(got, row->want);
	assert_string_equal(asked, row->asked);
}

/* A domain without MX is the host: as it is called, and where its CNAMEs lead. */
static void
without_mx(void **state)
{
	static const char digest[3 + 32] = { 3, 1, 1 };
	struct mx mx = { .is_authentic = 1, .hosts_len = 1, .domain = "x.test", .target = "y.test",
	    .hosts = { { .name = "y.test", .target = "y.test", .is_authentic = 1 } } };
	struct mx_address a = { .port = 2525 };

	(void)state;
	add_record(digest, sizeof digest);
	zone = "_2525._tcp.x.test TLSA found";
	dane_find(&dane, NULL, &mx, &a, DEADLINE);
	assert_int_equal(dane.kind, DANE_USABLE);
	assert_string_equal(dane.base, "x.test");
	assert_string_equal(asked, "_2525._tcp.y.test TLSA ;_2525._tcp.x.test TLSA ;");
}

static void
records_that_are_of_no_use(void **state)
{
	static const char digest[3 + 32] = { 1, 1, 1 };

	(void)state;
	add_record(digest, sizeof digest);
	add_record("\3\1\1", 3);
	zone = "_25._tcp.mx.test TLSA found";
	find("mx.test", "mx.test", 1, 1);
	assert_int_equal(dane.kind, DANE_UNUSABLE);
	assert_string_equal(dane.base, "mx.test");
}

static void
more_records_than_are_kept(void **state)
{
	static const char digest[3 + 32] = { 3, 1, 1 };

	(void)state;
	for (size_t i = 0; i < DANE_RECORDS_MAX + 5; i++)
		add_record(digest, sizeof digest);
	zone = "_25._tcp.mx.test TLSA found";
	find("mx.test", "mx.test", 1, 1);
	assert_int_equal(dane.kind, DANE_USABLE);
	assert_int_equal(dane.records_len, DANE_RECORDS_MAX);
}

static void
a_name_that_is_too_long(void **state)
{
	char name[DNS_NAME_MAX + 1];

	(void)state;
	memset(name, 'x', DNS_NAME_MAX);
	name[DNS_NAME_MAX] = '\0';
	find(name, name, 1, 1);
	assert_int_equal(dane.kind, DANE_NONE);
}

/* --- certificates ----------------------------------------------------------------------------------------------------------- */

static const char *const pems[] = { ['a'] = PEM_ANCHOR, ['b'] = PEM_BELOW, ['e'] = PEM_EXPIRED, ['s'] = PEM_SELF };

#define NOT_NAMED "DANE: its certificate is none that its TLSA records name"

/* records: parts USAGE PEM, of whole certificates; chain: the PEMs that the server sends, '!' behind one: with a header that is no DER;
 * host: of the MX. */
static const struct check { const char *rule, *records, *chain, *host, *want; } checks[] = {
	{ "DANE-EE", "3b", "b", "mx.test.example", NULL },
	{ "DANE-EE, for another name", "3b", "ba", "other.example", NULL },
	{ "DANE-EE, expired", "3e", "e", "mx.test.example", NULL },
	{ "DANE-EE, signed by itself", "3s", "s", "other.example", NULL },
	{ "DANE-EE, one of several", "3s 3e 3b", "b", "mx.test.example", NULL },
	{ "DANE-EE, another certificate", "3s", "b", "mx.test.example", NOT_NAMED },
	{ "DANE-EE, of the authority", "3a", "ba", "mx.test.example", NOT_NAMED },
	{ "DANE-TA", "2a", "ba", "mx.test.example", NULL },
	{ "DANE-TA, which the server does not send", "2a", "b", "mx.test.example", NULL },
	{ "DANE-TA, for another name", "2a", "ba", "other.example", "DANE: its certificate is for another name" },
	{ "DANE-TA, expired", "2a", "ea", "mx.test.example", "DANE: its certificate has expired, or is not valid yet" },
	{ "DANE-TA, another authority", "2s", "ba", "mx.test.example", "DANE: its certificate comes from no authority that is known here" },
	{ "DANE-TA, below it a certificate that only BearSSL can read", "2a", "b!a", "other.example", "DANE: its certificate cannot be read" },
	{ "DANE-TA of the server's own", "2b", "ba", "mx.test.example", "DANE: its certificate comes from no authority that is known here" },
	{ "DANE-TA, or else DANE-EE", "2s 3b", "b", "other.example", NULL },
	{ "DANE-EE, or else DANE-TA", "3s 2a", "ba", "mx.test.example", NULL },
};
enum { CHECKS = sizeof checks / sizeof *checks };

static struct der sent[SERVER_CHAIN_LEN];

/* Octets that no signature covers, which BearSSL takes: the outer length, 0x82 HIGH LOW, with zeros before it. */
static void
lengthen_header(struct der *der)
{
	assert_true(der->s[1] == 0x82 && der->len + 2 <= DER_MAX);
	memmove(der->s + 4, der->s + 2, der->len - 2);
	memcpy(der->s + 1, "\x84\0\0", 3);
	der->len += 2;
}

static void
send_chain(const char *letters)
{
	for (; *letters; letters++) {
		sent[chain.len] = der_of(pems[(unsigned char)*letters]);
		if (letters[1] == '!') {
			lengthen_header(&sent[chain.len]);
			letters++;
		}
		chain.certificates[chain.len].der = sent[chain.len].s;
		chain.certificates[chain.len].len = sent[chain.len].len;
		chain.len++;
	}
}

static const char *
verdict(const char *host)
{
	zone = "_25._tcp.mx.test TLSA found";
	strcpy(asked, "");
	find("mx.test", "mx.test", 1, 1);
	assert_int_equal(dane.kind, DANE_USABLE);
	/* what the certificates of pem.h are for is no name of this zone */
	dane.names.len = 0;
	assert_true(stralloc_cats(&dane.names, host) && stralloc_0(&dane.names));
	dane_demand(&dane, &chain);
	return chain.demand(&chain, chain.of);
}

static void
check_row(void **state)
{
	const struct check *row = *state;
	const char *got;

	for (const char *s = row->records; *s; s += s[2] ? 3 : 2) {
		struct der der = der_of(pems[(unsigned char)s[1]]);
		char rdata[TLSA_MAX] = { (char)(s[0] - '0') };

		memcpy(rdata + 3, der.s, der.len);
		add_record(rdata, 3 + der.len);
	}
	send_chain(row->chain);
	got = verdict(row->host);
	if (row->want && got)
		assert_string_equal(got, row->want);
	else
		assert_true(!row->want && !got);
}

/* A digest of an authority counts only if the server sends the certificate. */
static void
an_authority_by_its_digest(void **state)
{
	static char digest[3 + br_sha256_SIZE] = { 2, 0, 1 };
	struct der anchor = der_of(PEM_ANCHOR);
	br_sha256_context sha;

	(void)state;
	br_sha256_init(&sha);
	br_sha256_update(&sha, anchor.s, anchor.len);
	br_sha256_out(&sha, digest + 3);
	add_record(digest, sizeof digest);
	send_chain("b");
	assert_string_equal(verdict("mx.test.example"), NOT_NAMED);
	send_chain("a");
	assert_null(verdict("mx.test.example"));
}

/* RFC 7672 section 3.2.2: base domain, host, the domain, and where its CNAMEs lead. */
static void
names_of_an_authority(void **state)
{
	static const char want[] = "a.test\0mx.test\0x.test\0y.test";
	static const char digest[3 + 32] = { 2, 0, 1 };

	(void)state;
	add_record(digest, sizeof digest);
	zone = "_25._tcp.a.test TLSA found";
	find("MX.test", "a.test", 1, 1);
	assert_int_equal(dane.names.len, sizeof want);
	assert_memory_equal(dane.names.s, want, sizeof want);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest others[] = {
		T(without_mx), T(records_that_are_of_no_use), T(more_records_than_are_kept), T(a_name_that_is_too_long), T(an_authority_by_its_digest),
		T(names_of_an_authority),
	};
	struct CMUnitTest tests[ROWS + CHECKS + sizeof others / sizeof *others], *next = tests;

	for (size_t i = 0; i < ROWS; i++)
		*next++ = (struct CMUnitTest){ rows[i].rule, row_is_right, set_up, tear_down, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < CHECKS; i++)
		*next++ = (struct CMUnitTest){ checks[i].rule, check_row, set_up, tear_down, (void *)(uintptr_t)&checks[i] };
	memcpy(next, others, sizeof others);
	return cmocka_run_group_tests_name("dane", tests, NULL, NULL);
}
