/* qmail-mtastsfetch: fetch the MTA-STS policy of a domain from its web server (RFC 8461 section 3.3).
 * Trust: the web server is hostile, and so may be the domain. Runs as qmailm, never as root; shuts itself in before the first octet from
 * the network: internet sockets, no file, no program. It is the only program that has libcurl, which resolves no name: lib/dns does.
 * Says one packet on descriptor 1: 'P' and the text, or 'E' and the reason. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <curl/curl.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "authorities.h"
#include "dns.h"
#include "exitcode.h"
#include "home.h"
#include "monotonic.h"
#include "sandbox.h"
#include "sts_policy.h"

#define USAGE "qmail-mtastsfetch domain"

enum {
	FETCH_SECONDS = 60,	/* for all of it; section 3.3: a minute is a reasonable time-out */
	HTTPS_PORT = 443,
	DNS_SECONDS = 20,
	CONNECT_SECONDS = 20,
	ADDRESSES_MAX = 8,
	DESCRIPTORS = 64,
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space: libcurl and what it needs, an answer of STS_POLICY_MAX */
};

static const struct sandbox shut_in = { .calls = &sandbox_fetcher, .network = 1, .files = DESCRIPTORS, .memory = MEMORY_MAX };

struct fetch {
	char host[DNS_NAME_MAX + 1];	/* mta-sts.DOMAIN */
	unsigned int port;
	int takes_loopback;
	char addresses[2 * DNS_NAME_MAX + ADDRESSES_MAX * (INET6_ADDRSTRLEN + 3)];	/* "HOST:PORT:ADDRESS,..." of CURLOPT_RESOLVE */
	unsigned int addresses_len;
	stralloc authorities;		/* PEM */
	struct curl_slist *resolve;
	char trouble[CURL_ERROR_SIZE + 64];
	size_t header_len, len;
	int is_cut;
	char answer[1 + STS_POLICY_MAX];	/* 'P' and the text */
};

static _Noreturn void
fail(const char *why)
{
	struct iovec said[] = { { (char *)(uintptr_t)"E", 1 }, { (char *)(uintptr_t)why, strlen(why) } };

	_exit(writev(1, said, 2) < 0 ? EXIT_PERM : EXIT_TEMP);
}

/* --- addresses ------------------------------------------------------------------------------------------------------ */

/* Not this host by its nature, and not many hosts. */
static int
is_remote(const struct dns_question *q, const unsigned char *ip)
{
	static const unsigned char none[15];

	if (q->type == DNS_A)
		return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
	/* ::, ::1, what holds an IPv4 address, link-local and multicast */
	return memcmp(ip, none, 10) != 0 && (ip[0] != 0xfe || (ip[1] & 0xc0) != 0x80) && ip[0] != 0xff;
}

static void
add_addresses(struct fetch *f, const struct dns_question *q)
{
	char text[INET6_ADDRSTRLEN];
	int is_6 = q->type == DNS_AAAA;

	for (size_t i = 0; i < q->records_len && f->addresses_len < ADDRESSES_MAX; i++) {
		const unsigned char *ip = (const unsigned char *)q->records[i].text;
		size_t len = strlen(f->addresses);

		if (!f->takes_loopback && !is_remote(q, ip))
			continue;
		inet_ntop(is_6 ? AF_INET6 : AF_INET, ip, text, sizeof text);
		snprintf(f->addresses + len, sizeof f->addresses - len, is_6 ? "%s[%s]" : "%s%s", f->addresses_len ? "," : "", text);
		f->addresses_len++;
	}
}

/* Returns NULL, or why there is no address. */
static const char *
find_addresses(struct fetch *f, struct dns *dns)
{
	struct dns_question a = { .kind = DNS_PENDING }, aaaa = { .kind = DNS_PENDING };
	const char *why = NULL;

	dns_ask(dns, &aaaa, f->host, DNS_AAAA);
	dns_ask(dns, &a, f->host, DNS_A);
	dns_finish(dns, monotonic_ms() + DNS_SECONDS * 1000);
	snprintf(f->addresses, sizeof f->addresses, "%s:%u:", f->host, f->port);
	add_addresses(f, &aaaa);
	add_addresses(f, &a);
	if (!f->addresses_len)
		why = a.trouble ? a.trouble : aaaa.trouble ? aaaa.trouble : "the host has no address";
	dns_free(&a);
	dns_free(&aaaa);
	return why;
}

/* --- the answer ----------------------------------------------------------------------------------------------------- */

static size_t
take_header(char *s, size_t size, size_t n, void *data)
{
	struct fetch *f = data;

	(void)s;
	f->header_len += size * n;
	return f->header_len > STS_POLICY_MAX ? 0 : size * n;
}

static size_t
take_body(char *s, size_t size, size_t n, void *data)
{
	struct fetch *f = data;
	size_t len = size * n;

	if (len > sizeof f->answer - 1 - f->len) {
		f->is_cut = 1;
		return 0;
	}
	memcpy(f->answer + 1 + f->len, s, len);
	f->len += len;
	return len;
}

/* The media type is text/plain, whatever its parameters (section 3.2). */
static int
is_plain(const char *type)
{
	static const char plain[] = "text/plain";
	size_t len = sizeof plain - 1;

	return type && strncasecmp(type, plain, len) == 0 && strchr("; \t", type[len]) != NULL;
}

static const char *
judge(struct fetch *f, CURL *curl)
{
	const char *type = NULL;
	long status = 0;

	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
	if (status != 200) {
		snprintf(f->trouble, sizeof f->trouble, "it was answered by HTTP status %ld", status);
		return f->trouble;
	}
	return is_plain(type) ? NULL : "it is not text/plain";
}

/* --- the question ---------------------------------------------------------------------------------------------------- */

static int
set_up(struct fetch *f, CURL *curl)
{
	struct curl_blob authorities = { f->authorities.s, f->authorities.len, CURL_BLOB_NOCOPY };
	char url[DNS_NAME_MAX + 64];

	snprintf(url, sizeof url, "https://%s:%u/.well-known/mta-sts.txt", f->host, f->port);
	f->resolve = curl_slist_append(NULL, f->addresses);
	return f->resolve && curl_easy_setopt(curl, CURLOPT_URL, url) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_RESOLVE, f->resolve) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &authorities) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)FETCH_SECONDS - DNS_SECONDS) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, f->trouble) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_HEADERDATA, f) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_WRITEDATA, f) == CURLE_OK;
}

/* Returns NULL, or why there is no text. */
static const char *
fetch(struct fetch *f)
{
	CURL *curl = curl_easy_init();
	const char *why;
	CURLcode r;

	if (!curl || !set_up(f, curl))
		return "libcurl could not be set up";
	r = curl_easy_perform(curl);
	if (r == CURLE_OK)
		return judge(f, curl);
	why = f->is_cut ? "the policy is too long" : f->header_len > STS_POLICY_MAX ? "its header is too long" : f->trouble;
	return *why ? why : curl_easy_strerror(r);
}

/* --- all -------------------------------------------------------------------------------------------------------------- */

/* The port is 443, but in tests. */
static void
choose_port(struct fetch *f)
{
	const char *port = getenv("MTASTSPORT");

	f->takes_loopback = port && uint0_scan(port, &f->port);
	if (!f->takes_loopback)
		f->port = HTTPS_PORT;
}

/* OpenSSL reads its configuration here, and libc the time zone, while they can. */
static void
prepare_libraries(void)
{
	tzset();
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		fail("libcurl could not be set up");
}

static void
read_authorities(struct fetch *f)
{
	int fd;

	if (!authorities_open(&fd) || fd < 0 || !authorities_read(&f->authorities, fd))
		fail("no certificate authority is known here, by control/tlscafile");
}

int
main(int argc, char *const *argv)
{
	static struct fetch f = { .answer = "P" };
	struct dns *dns;
	const char *why;

	PROG = "qmail-mtastsfetch";
	if (argc != 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (geteuid() == 0)
		strerr_dief(EXIT_PERM, "never as root: run it as qmailm");
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	alarm(FETCH_SECONDS);
	choose_port(&f);
	if (snprintf(f.host, sizeof f.host, "mta-sts.%s", argv[1]) >= (int)sizeof f.host)
		fail("the name of the host would be too long");
	prepare_libraries();
	dns = dns_open();
	if (!dns)
		fail("control/dnsservers or /etc/resolv.conf cannot be read");
	read_authorities(&f);
	if (sandbox_enter(&shut_in) < 0)
		fail("the process could not shut itself in");
	why = find_addresses(&f, dns);
	if (!why)
		why = fetch(&f);
	if (why)
		fail(why);
	return write(1, f.answer, 1 + f.len) == (ssize_t)(1 + f.len) ? EXIT_OK : EXIT_TEMP;
}
