/* Answers of name servers: what is taken of them, and that no octets, however damaged, lead outside them. The module's
 * source is included, so that answers need no network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/lib/dns.c"

static char directory[] = "/tmp/dns-XXXXXX";
static struct dns *resolver;

/* --- messages -------------------------------------------------------------------------------------------------- */

enum { MESSAGE_MAX = 65535 };

struct made {
	unsigned char octets[MESSAGE_MAX];
	size_t len;
};

static void
put_octets(struct made *m, const void *s, size_t len)
{
	assert_true(m->len + len <= MESSAGE_MAX);
	memcpy(m->octets + m->len, s, len);
	m->len += len;
}

static void
put_number(struct made *m, uint32_t n, unsigned int octets)
{
	while (octets--) {
		unsigned char c = (unsigned char)(n >> 8 * octets);

		put_octets(m, &c, 1);
	}
}

static void
put_text_name(struct made *m, const char *name)
{
	while (*name) {
		size_t len = strcspn(name, ".");

		put_number(m, (uint32_t)len, 1);
		put_octets(m, name, len);
		name += len + (name[len] == '.');
	}
	put_number(m, 0, 1);
}

/* A reply with one question. flags: octets 2 and 3. */
static void
begin(struct made *m, uint32_t flags, const char *name, enum dns_type type)
{
	m->len = 0;
	put_number(m, 4711, 2);
	put_number(m, flags, 2);
	put_number(m, 1, 2);
	put_number(m, 0, 2);
	put_number(m, 0, 2);
	put_number(m, 0, 2);
	put_text_name(m, name);
	put_number(m, type, 2);
	put_number(m, CLASS_IN, 2);
}

/* section: 1 answer, 2 authority. */
static void
put_record(struct made *m, int section, const char *owner, unsigned int type, uint32_t ttl, const void *data, size_t len)
{
	unsigned char *counter = m->octets + 4 + 2 * section;
	unsigned int n = (unsigned int)(counter[0] << 8 | counter[1]) + 1;

	counter[0] = (unsigned char)(n >> 8);
	counter[1] = (unsigned char)n;
	put_text_name(m, owner);
	put_number(m, type, 2);
	put_number(m, CLASS_IN, 2);
	put_number(m, ttl, 4);
	put_number(m, (uint32_t)len, 2);
	put_octets(m, data, len);
}

static void
put_alias(struct made *m, const char *owner, const char *target, uint32_t ttl)
{
	struct made name = { .len = 0 };

	put_text_name(&name, target);
	put_record(m, 1, owner, DNS_CNAME, ttl, name.octets, name.len);
}

static void
put_mx(struct made *m, const char *owner, unsigned int preference, const char *target)
{
	struct made data = { .len = 0 };

	put_number(&data, preference, 2);
	put_text_name(&data, target);
	put_record(m, 1, owner, DNS_MX, 300, data.octets, data.len);
}

/* Has the module judge a message as the answer to q's question. */
static void
judge_made(struct dns_question *q, const struct made *made, const char *name, enum dns_type type)
{
	struct state *state;
	unsigned char *copy = memcpy(malloc(made->len), made->octets, made->len);	/* exact size: ASan sees over-reads */

	dns_free(q);
	state = calloc(1, sizeof *state);
	assert_non_null(state);
	state->d = resolver;
	q->state = state;
	q->type = type;
	snprintf(q->name, sizeof q->name, "%s", name);
	resolver->pending++;
	resolver->is_closing = 1;	/* nothing is asked anew */
	take_answer(q, ARES_SUCCESS, 0, copy, (int)made->len);
	resolver->is_closing = 0;
	free(copy);
	assert_int_not_equal(q->kind, DNS_PENDING);
	assert_int_equal(resolver->pending, 0);
}

/* --- what is taken --------------------------------------------------------------------------------------------- */

static void
addresses_and_ttl(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x8180, "X.example", DNS_A);
	put_record(&m, 1, "x.EXAMPLE", DNS_A, 600, "\300\0\2\1", 4);
	put_record(&m, 1, "x.example", DNS_A, 0x80000000, "\300\0\2\2", 4);
	put_record(&m, 1, "x.example", DNS_A, 0x7fffffff, "\300\0\2\3", 4);
	put_record(&m, 1, "x.example", DNS_AAAA, 1, "\300\0\2\3\300\0\2\3\300\0\2\3\300\0\2\3", 16);
	put_record(&m, 1, "y.example", DNS_A, 1, "\300\0\2\4", 4);
	judge_made(&q, &m, "x.example", DNS_A);
	assert_int_equal(q.kind, DNS_FOUND);
	assert_int_equal(q.records_len, 3);
	assert_int_equal(q.records[0].ttl, 600);
	assert_int_equal(q.records[1].ttl, 0);
	assert_int_equal(q.records[2].ttl, TTL_MAX);
	assert_int_equal(q.ttl, 0);
	assert_memory_equal(q.records[2].text, "\300\0\2\3", 5);
	assert_int_equal(q.is_authentic, 0);
	assert_int_equal(q.is_cut, 0);
	dns_free(&q);
}

static void
aliases_in_any_order(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x81a0, "x.example", DNS_MX);
	put_mx(&m, "z.example", 10, "M.example");
	put_alias(&m, "y.example", "z.example", 20);
	put_alias(&m, "x.example", "Y.example", 100);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_FOUND);
	assert_string_equal(q.name, "z.example");
	assert_int_equal(q.links, 2);
	assert_int_equal(q.ttl, 20);
	assert_int_equal(q.is_authentic, 1);
	assert_int_equal(q.records_len, 1);
	assert_int_equal(q.records[0].preference, 10);
	assert_string_equal(q.records[0].text, "m.example");
	dns_free(&q);
}

static void
no_name_at_the_end_of_an_alias(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x8183, "x.example", DNS_MX);
	put_alias(&m, "x.example", "y.example", 20);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_NO_NAME);
	assert_int_equal(q.records_len, 0);
	dns_free(&q);
}

static void
no_data_and_a_referral(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x8180, "x.example", DNS_MX);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_NO_DATA);
	put_record(&m, 2, "example", TYPE_NS, 20, "\1a\0", 3);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_TEMPORARY);
	assert_non_null(q.trouble);
	put_record(&m, 2, "example", TYPE_SOA, 20, "\1a\0", 3);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_NO_DATA);
	assert_null(q.trouble);
	dns_free(&q);
}

static void
records_of_other_types_alone(void **state)
{
	enum { TYPE_DNSKEY = 48 };
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x8180, "x.example", DNS_MX);
	put_record(&m, 1, "x.example", TYPE_DNSKEY, 20, "\1\1\3\15", 4);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_TEMPORARY);
	assert_string_equal(q.trouble, "the answer is to another question");
	put_record(&m, 2, "example", TYPE_SOA, 20, "\1a\0", 3);
	judge_made(&q, &m, "x.example", DNS_MX);
	assert_int_equal(q.kind, DNS_NO_DATA);
	dns_free(&q);
}

/* TXT of 64 KiB: in many records, and in one. */
static void
long_texts(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;
	unsigned char data[60000];
	size_t len = 0;

	(void)state;
	while (len + 256 <= sizeof data) {
		data[len] = 255;
		memset(data + len + 1, 'a', 255);
		len += 256;
	}
	begin(&m, 0x8180, "x.example", DNS_TXT);
	put_record(&m, 1, "x.example", DNS_TXT, 20, data, len);
	put_record(&m, 1, "x.example", DNS_TXT, 20, "\0\3v=1\0\2\0;", 9);
	judge_made(&q, &m, "x.example", DNS_TXT);
	assert_int_equal(q.kind, DNS_FOUND);
	assert_int_equal(q.records_len, 2);
	assert_int_equal(q.records[0].len, len / 256 * 255);
	assert_int_equal(strlen(q.records[0].text), q.records[0].len);
	assert_int_equal(q.records[1].len, 5);
	assert_memory_equal(q.records[1].text, "v=1\0;", 6);
	dns_free(&q);
}

static void
damaged_texts(void **state)
{
	static const struct { const char *data; size_t len; } rows[] = { { "", 0 }, { "\1", 1 }, { "\3ab", 3 }, { "\1a\377", 3 } };
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(&m, 0x8180, "x.example", DNS_TXT);
		put_record(&m, 1, "x.example", DNS_TXT, 20, rows[i].data, rows[i].len);
		judge_made(&q, &m, "x.example", DNS_TXT);
		assert_int_equal(q.kind, DNS_TEMPORARY);
	}
	dns_free(&q);
}

static void
tlsa_as_it_is(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x81a0, "_25._tcp.x.example", DNS_TLSA);
	put_record(&m, 1, "_25._tcp.x.example", DNS_TLSA, 20, "\3\1\1\0abc", 7);
	judge_made(&q, &m, "_25._tcp.x.example", DNS_TLSA);
	assert_int_equal(q.kind, DNS_FOUND);
	assert_int_equal(q.records[0].len, 7);
	assert_memory_equal(q.records[0].text, "\3\1\1\0abc", 8);
	assert_int_equal(q.is_authentic, 1);
	dns_free(&q);
}

static void
too_many_records_are_cut(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	begin(&m, 0x8180, "x.example", DNS_A);
	for (int i = 0; i < DNS_RECORDS_MAX + 1; i++)
		put_record(&m, 1, "x.example", DNS_A, 20, "\300\0\2\1", 4);
	judge_made(&q, &m, "x.example", DNS_A);
	assert_int_equal(q.kind, DNS_FOUND);
	assert_int_equal(q.records_len, DNS_RECORDS_MAX);
	assert_int_equal(q.is_cut, 1);
	dns_free(&q);
}

/* 250 octets a record by a pointer of two: the texts are more than the message. */
static void
too_much_text_is_cut(void **state)
{
	char name[DNS_NAME_MAX + 1];
	struct dns_question q = { .kind = DNS_PENDING };
	struct made m;

	(void)state;
	memset(name, 'a', sizeof name);
	name[63] = name[127] = name[191] = '.';
	name[250] = 0;
	begin(&m, 0x8180, name, DNS_MX);
	for (int i = 0; i < 1000; i++) {
		static const unsigned char pointers[] = "\300\014\0\017\0\1\0\0\0\24\0\4\0\12\300\014";

		put_octets(&m, pointers, sizeof pointers - 1);
	}
	m.octets[6] = 1000 >> 8;
	m.octets[7] = 1000 & 0xff;
	judge_made(&q, &m, name, DNS_MX);
	assert_int_equal(q.kind, DNS_FOUND);
	assert_int_equal(q.records_len, DNS_TEXT_MAX / 251);
	assert_int_equal(q.is_cut, 1);
	dns_free(&q);
}

static void
names(void **state)
{
	static const struct { const char *name; int may_be_asked, is_host; } rows[] = {
		{ "a", 1, 1 }, { "a.b", 1, 1 }, { "_dmarc.a-b.c9", 1, 1 }, { "1.2.0.192.in-addr.arpa", 1, 1 },
		{ "1.0/25.2.0.192.in-addr.arpa", 1, 0 }, { "", 0, 0 }, { ".", 0, 0 }, { ".a", 0, 0 }, { "a..b", 0, 0 }, { "a b", 0, 0 },
		{ "a\\.b", 0, 0 }, { "a\\000", 0, 0 }, { "a\nb", 0, 0 }, { "\xc3\xa9", 0, 0 }, { "a;b", 0, 0 }, { "a$b", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(is_name(rows[i].name, 0), rows[i].may_be_asked);
		assert_int_equal(is_name(rows[i].name, 1), rows[i].is_host);
	}
}

/* Messages with some octets changed, cut or lengthened: an answer of some kind, within its limits. */
static void
damage(void **state)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_CNAME, DNS_TLSA, DNS_PTR };
	struct dns_question q = { .kind = DNS_PENDING };
	struct made good, bad;
	unsigned int kinds[DNS_TEMPORARY + 1] = { 0 };

	(void)state;
	srandom(1);
	for (int round = 0; round < 40000; round++) {
		enum dns_type type = types[random() % 7];

		begin(&good, 0x8180, "x.example", type);
		put_alias(&good, "x.example", "y.example", 9);
		put_mx(&good, "y.example", 10, "mail.y.example");
		put_record(&good, 1, "y.example", DNS_A, 20, "\300\0\2\1", 4);
		put_record(&good, 1, "y.example", DNS_AAAA, 20, "\300\0\2\1\300\0\2\1\300\0\2\1\300\0\2\1", 16);
		put_record(&good, 1, "y.example", DNS_TXT, 20, "\3abc\2de", 7);
		put_record(&good, 1, "y.example", DNS_PTR, 20, "\1a\300\014", 4);
		put_record(&good, 2, "example", TYPE_SOA, 20, "\1a\0", 3);
		bad = good;
		for (long n = random() % 4; n >= 0; n--)
			bad.octets[(size_t)random() % bad.len] = (unsigned char)(random() % 3 ? random() : 0xc0 | random());
		if (random() % 4 == 0)
			bad.len = HEADER_OCTETS + (size_t)random() % (bad.len - HEADER_OCTETS);
		judge_made(&q, &bad, "x.example", type);
		kinds[q.kind]++;
		assert_true(q.records_len <= DNS_RECORDS_MAX);
		for (size_t i = 0; i < q.records_len; i++)
			assert_int_equal(q.records[i].text[q.records[i].len], 0);
	}
	dns_free(&q);
	assert_true(kinds[DNS_FOUND] > 1000 && kinds[DNS_TEMPORARY] > 1000 && kinds[DNS_NO_DATA] > 100);
}

/* --- questions ------------------------------------------------------------------------------------------------- */

/* Nobody listens at port 1: every question ends, at the deadline if not before, and no more than DNS_QUESTIONS_MAX are taken. */
static void
many_questions(void **state)
{
	enum { MANY = DNS_QUESTIONS_MAX + 10 };
	struct dns_question *q = calloc(MANY, sizeof *q);
	uint64_t begin_ms = monotonic_ms();

	(void)state;
	assert_int_equal(dns_is_local(resolver), 1);
	for (int i = 0; i < MANY; i++)
		dns_ask(resolver, &q[i], "x.example", DNS_A);
	dns_finish(resolver, begin_ms + 1000);
	assert_true(monotonic_ms() - begin_ms < 10000);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(q[i].kind, DNS_TEMPORARY);
		assert_non_null(q[i].trouble);
		dns_free(&q[i]);
	}
	free(q);
}

static void
impossible_names_are_not_asked(void **state)
{
	struct dns_question q = { .kind = DNS_PENDING };
	char name[400];

	(void)state;
	memset(name, 'a', sizeof name);
	name[sizeof name - 1] = 0;
	dns_ask(resolver, &q, name, DNS_A);
	assert_int_equal(q.kind, DNS_NO_NAME);
	dns_ask(resolver, &q, "a..b", DNS_A);
	assert_int_equal(q.kind, DNS_NO_NAME);
	assert_int_equal(dns_wait(resolver, 0), 1);
	dns_free(&q);
}

static int
set_up(void **state)
{
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(mkdir("control", 0700), 0);
	file = fopen("control/dnsservers", "w");
	fputs("127.0.0.1:1\n[::1]:1\n", file);
	fclose(file);
	resolver = dns_open();
	return resolver ? 0 : -1;
}

static int
tear_down(void **state)
{
	(void)state;
	dns_close(resolver);
	unlink("control/dnsservers");
	rmdir("control");
	return rmdir(directory);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_and_ttl),
		cmocka_unit_test(aliases_in_any_order),
		cmocka_unit_test(no_name_at_the_end_of_an_alias),
		cmocka_unit_test(no_data_and_a_referral), cmocka_unit_test(records_of_other_types_alone),
		cmocka_unit_test(long_texts),
		cmocka_unit_test(damaged_texts),
		cmocka_unit_test(tlsa_as_it_is),
		cmocka_unit_test(too_many_records_are_cut),
		cmocka_unit_test(too_much_text_is_cut),
		cmocka_unit_test(names),
		cmocka_unit_test(damage),
		cmocka_unit_test(many_questions),
		cmocka_unit_test(impossible_names_are_not_asked),
	};

	return cmocka_run_group_tests_name("dns", tests, set_up, tear_down);
}
