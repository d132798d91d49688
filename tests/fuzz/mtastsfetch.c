/* What libcurl hands to qmail-mtastsfetch of a web server's answer, and what name servers say of its host, given any octets. The input is
 * the number of addresses of four and of sixteen octets, the addresses, the media type up to a NUL, and then the text, in pieces, each
 * after its length of two octets, with the highest bit for one of the header. */
#include <assert.h>
#include "given.h"
#define main fetch_main
#include "bin-src/remote/qmail-mtastsfetch.c"	/* NOLINT(bugprone-suspicious-include): what takes them is static there */
#undef main
#include "no_sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { RECORDS_MAX = 10, IS_HEADER = 0x8000, REPEATS = 70000 };

/* --- nobody is asked here --------------------------------------------------------------------------------- */

const struct sandbox_filter sandbox_fetcher;

/* --- addresses --------------------------------------------------------------------------------------------- */

/* The list is for curl: the host, the port, and addresses of other hosts, each as it reads. */
static void
check_addresses(const char *list, const char *host)
{
	const char *s = strstr(list, ":443:");
	unsigned int n = 0;
	char *copy;

	assert(s && strncmp(list, host, (size_t)(s - list)) == 0);
	copy = strdup(s + 5);
	for (char *word = strtok(copy, ","); word; word = strtok(NULL, ","), n++) {
		unsigned char ip[16];
		size_t len = strlen(word);

		if (*word != '[') {
			assert(inet_pton(AF_INET, word, ip) == 1 && ip[0] != 127 && ip[0] && ip[0] < 224);
			continue;
		}
		assert(word[len - 1] == ']');
		word[len - 1] = '\0';
		assert(inet_pton(AF_INET6, word + 1, ip) == 1 && !IN6_IS_ADDR_LOOPBACK((struct in6_addr *)(void *)ip));
		assert(!IN6_IS_ADDR_V4MAPPED((struct in6_addr *)(void *)ip) && !IN6_IS_ADDR_LINKLOCAL((struct in6_addr *)(void *)ip));
	}
	assert(n <= ADDRESSES_MAX);
	free(copy);
}

static void
take_addresses(struct fetch *f, struct given *g)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA };

	memset(f->host, 'h', DNS_NAME_MAX);
	snprintf(f->addresses, sizeof f->addresses, "%s:%u:", f->host, f->port);
	for (int i = 0; i < 2; i++) {
		struct dns_record records[RECORDS_MAX] = { { 0 } };
		struct dns_question q = { .type = types[i], .records = records };
		char ips[RECORDS_MAX][17] = { "" };

		q.records_len = given_number(g, 1) % (RECORDS_MAX + 1);
		for (size_t r = 0; r < q.records_len; r++) {
			struct given ip = given_piece(g, i ? 16 : 4);

			if (ip.len)
				memcpy(ips[r], ip.s, ip.len);
			records[r] = (struct dns_record){ .text = ips[r], .len = i ? 16 : 4 };
		}
		add_addresses(f, &q);
	}
	check_addresses(f->addresses, f->host);
}

/* --- the answer --------------------------------------------------------------------------------------------- */

static void
take_text(struct fetch *f, struct given g)
{
	size_t len = 0, header_len = 0;

	while (g.len) {
		size_t n = given_number(&g, 2), taken;
		struct given piece = given_piece(&g, n % 256 ? n & ~(size_t)IS_HEADER : g.len);
		char *copy = given_copy(piece.s, piece.len);

		/* some pieces come often, so that a bound is reached */
		for (int i = 0; i < (n & 1 ? 1 : REPEATS / (int)(piece.len + 1)); i++) {
			taken = (n & IS_HEADER ? take_header : take_body)(copy, 1, piece.len, f);
			if (n & IS_HEADER)
				assert(taken == piece.len ? (header_len += taken) <= STS_POLICY_MAX : taken == 0);
			else if (taken == piece.len) {
				len += taken;
				assert(f->len == len && len <= STS_POLICY_MAX && memcmp(f->answer + 1 + len - taken, copy, taken) == 0);
			} else
				assert(taken == 0 && f->is_cut && f->len == len && len + piece.len > STS_POLICY_MAX);
		}
		free(copy);
	}
	assert(f->answer[0] == 'P');
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct fetch f;
	struct given g = { octets, len };
	char *type;

	(void)fetch_main;
	memset(&f, 0, sizeof f);
	f.answer[0] = 'P';
	f.port = HTTPS_PORT;
	take_addresses(&f, &g);
	type = given_string(given_until(&g, '\0'));
	assert(!is_plain(type) || (strncasecmp(type, "text/plain", 10) == 0 && (!type[10] || strchr("; \t", type[10]))));
	free(type);
	take_text(&f, g);
	return 0;
}
