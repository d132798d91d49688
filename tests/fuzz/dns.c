/* Answers of name servers, given any octets, and what is made of them: addresses of MX hosts, TLSA records, answers of DNS lists.
 * The input is answers, each after an octet of flags and a length of two octets. FLAG_BUILT: header, question and the numbers of
 * records are put before it, so that 0xc00c is the name that was asked for. Where there are no more answers, nobody answers. */
#include <assert.h>
#include <ares.h>
#include "bin-src/remote/dane.h"
#include "bin-src/remote/mx.h"
#include "bin-src/smtpd/dnsbl_list.h"
#include "given.h"
#define ares_send give_answer
static void give_answer(void *channel, const unsigned char *question, int len, ares_callback take, void *arg);
/* what takes answers is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/lib/dns.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { FLAG_BUILT = 1, ANSWER_MAX = 4096 };
static struct given answers;
static struct { const unsigned char *s; size_t len; } last;	/* answer */
static unsigned char answer[HEADER_OCTETS + 300 + ANSWER_MAX];

/* Header and question of an answer, for the question that was sent. Returns its octets. */
static size_t
build(unsigned char *to, const unsigned char *question)
{
	size_t name = 0, len;

	while (question[HEADER_OCTETS + name])
		name += 1u + question[HEADER_OCTETS + name];
	len = HEADER_OCTETS + name + 1 + 4;
	memcpy(to, question, len);
	to[2] = (unsigned char)given_number(&answers, 1);
	to[3] = (unsigned char)given_number(&answers, 1);
	to[7] = (unsigned char)given_number(&answers, 1);
	to[9] = (unsigned char)given_number(&answers, 1);
	to[4] = to[6] = to[8] = to[10] = to[11] = 0;
	to[5] = 1;
	return len;
}

static void
give_answer(void *channel, const unsigned char *question, int len, ares_callback take, void *arg)
{
	size_t n = 0;
	struct given piece;
	char *copy;

	(void)channel;
	assert(len > HEADER_OCTETS);
	if (!answers.len) {
		take(arg, ARES_ETIMEOUT, 1, NULL, 0);
		return;
	}
	if (given_number(&answers, 1) & FLAG_BUILT)
		n = build(answer, question);
	piece = given_piece(&answers, given_number(&answers, 2) % ANSWER_MAX);
	if (piece.len)
		memcpy(answer + n, piece.s, piece.len);
	n += piece.len;
	copy = given_copy(answer, n);
	last.s = answer;
	last.len = n;
	take(arg, ARES_SUCCESS, 0, (unsigned char *)copy, (int)n);
	free(copy);
}

/* --- records -------------------------------------------------------------------------------------- */

static void
check_record(const struct dns_question *q, const struct dns_record *r)
{
	struct tlsa tlsa;

	assert(r->text[r->len] == '\0' && r->ttl <= TTL_MAX && r->ttl >= q->ttl);
	switch (q->type) {
	case DNS_A: assert(r->len == 4); break;
	case DNS_AAAA: assert(r->len == 16); break;
	case DNS_TXT: return;
	case DNS_TLSA:
		assert(r->len > 3 && (!tlsa_read(&tlsa, r->text, r->len) || (tlsa.len == r->len - 3 && (const char *)tlsa.data == r->text + 3)));
		break;
	default:
		assert(strlen(r->text) == r->len && (is_name(r->text, q->type != DNS_CNAME) || (!r->len && q->type == DNS_MX)));
		return;
	}
	assert(memmem(last.s, last.len, r->text, r->len));
}

/* It is answered, and what it says is within the bounds of dns.h. */
static void
check_question(const struct dns_question *q)
{
	size_t texts = 0;

	assert(q->kind == DNS_FOUND || q->kind == DNS_NO_NAME || q->kind == DNS_NO_DATA || q->kind == DNS_TEMPORARY);
	assert((q->kind == DNS_TEMPORARY) == (q->trouble != NULL) && (q->kind == DNS_FOUND || !q->records_len));
	assert(q->links <= DNS_LINKS_MAX || q->kind == DNS_TEMPORARY);
	assert(is_name(q->name, 0) && q->records_len <= DNS_RECORDS_MAX);
	for (size_t i = 0; i < q->records_len; i++) {
		check_record(q, q->records + i);
		texts += q->records[i].len + 1;
	}
	assert(texts <= DNS_TEXT_MAX);
}

static void
ask(struct dns *d, enum dns_type type, struct dns_question *q)
{
	dns_ask(d, q, "a.example.", type);
	dns_finish(d, 0);
	assert(!d->pending);
	check_question(q);
}

/* --- what is made of them ------------------------------------------------------------------------- */

/* A permanent failure is never for silence; no address is of this host. */
static void
find_hosts(struct dns *d)
{
	static struct mx mx;
	static const struct localaddresses none;
	struct dane dane = { .kind = DANE_NONE };

	mx_find(&mx, d, &none, NULL, "a.example", 0);
	assert(!d->pending && (mx.letter == 'K' || mx.letter == 'Z' || mx.letter == 'D'));
	assert((mx.letter == 'K') == (mx.addresses_len > 0) && mx.addresses_len <= MX_ADDRESSES_MAX && mx.hosts_len <= MX_HOSTS_MAX);
	assert(mx.letter == 'K' || (*mx.text && strlen(mx.text) < MX_TEXT_MAX));
	for (size_t i = 0; i < mx.addresses_len; i++) {
		assert(mx.addresses[i].host < mx.hosts_len && mx.addresses[i].port == SMTPROUTE_PORT);
		assert(!localaddress_is(&none, &mx.addresses[i].ip) && (!i || mx.addresses[i].preference >= mx.addresses[i - 1].preference));
	}
	if (mx.letter != 'K')
		return;
	dane_find(&dane, d, &mx, mx.addresses, 0);
	assert(!d->pending && dane.records_len <= DANE_RECORDS_MAX && (dane.kind == DANE_USABLE) == (dane.records_len > 0));
	assert(dane.kind == DANE_NONE || dane.kind == DANE_UNKNOWN || (mx.is_authentic && mx.hosts[mx.addresses->host].is_authentic));
	dane_forget(&dane);
}

/* Only an address in 127.0.0.0/8 lists somebody, or a text where there is no answer about addresses. */
static void
ask_list(struct dns *d)
{
	static const struct dnsbl_list list = { .zone = "a.example" };
	struct dns_question address = { .kind = DNS_PENDING }, txt = { .kind = DNS_PENDING };
	char text[DNSBL_TEXT_MAX];
	ip46 client = { .is6 = 0 };
	int is_listed_so = 0;

	ask(d, DNS_TXT, &txt);
	ask(d, DNS_A, &address);
	for (size_t i = 0; i < address.records_len; i++)
		is_listed_so |= *address.records[i].text == 127;
	if (dnsbl_list_judge(&address, NULL) == DNSBL_PRESENT)
		assert(is_listed_so);
	if (dnsbl_list_judge(&address, &txt) == DNSBL_PRESENT)
		assert(is_listed_so || (txt.records_len && !address.records_len));
	dnsbl_list_text(text, &list, &client, &txt);
	for (const char *s = text; *s; s++)
		assert(*s >= ' ' && *s <= '~');
	dns_free(&address);
	dns_free(&txt);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static const enum dns_type types[] = { DNS_A, DNS_CNAME, DNS_PTR, DNS_MX, DNS_TXT, DNS_AAAA, DNS_TLSA };
	struct dns d = { .is_local = 1 };
	struct dns_question q = { .kind = DNS_PENDING };
	struct given g = { octets, len };
	unsigned int what = (unsigned int)given_number(&g, 1) % (sizeof types / sizeof *types + 2);

	answers = g;
	if (what < sizeof types / sizeof *types)
		ask(&d, types[what], &q);
	else if (what == sizeof types / sizeof *types)
		find_hosts(&d);
	else
		ask_list(&d);
	dns_free(&q);
	return 0;
}
