/* Control files, given any octets: the forms that all of them have, and the lines of those that have a grammar of their own. The input is
 * what is looked for, a NUL, and the file. */
#include <assert.h>
#include <ctype.h>
#include <strings.h>
#include "bin-src/remote/smtproute.h"
#include "bin-src/remote/tlspolicy.h"
#include "bin-src/smtpd/dnsbl_list.h"
#include "bin-src/smtpd/senders.h"
#include "control/control.h"
#include "given.h"
#include "ip_address.h"
#include "stralloc_set.h"
/* its lines are taken by a static function; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/lib/localaddress.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* --- forms -------------------------------------------------------------------------------------- */

static int
is_trimmed(const char *s, size_t len)
{
	return !len || !strchr(" \t\r\n", s[len - 1]);
}

static void
read_value(const char *path, struct given text)
{
	static stralloc line;
	unsigned long number = 7;
	struct given first = given_until(&text, '\n');
	int r;

	assert(control_line(&line, path) == 1 && line.len <= first.len && (!line.len || memcmp(line.s, first.s, line.len) == 0));
	for (size_t i = line.len; i < first.len; i++)
		assert(strchr(" \t\r", first.s[i]));
	assert(line.len == 0 || is_trimmed(line.s, line.len) || !line.s[line.len - 1]);
	r = control_number(&number, path, 1000);
	assert(r == (first.len && isdigit(*first.s)) && (r ? number <= 1000 : number == 7));
}

/* Each entry is the beginning of a line, in order; what is left out is blank or a comment. */
static void
check_list(const stralloc *list, struct given text)
{
	size_t at = 0;

	while (text.len) {
		struct given line = given_until(&text, '\n');

		while (line.len && strchr(" \t\r", line.s[line.len - 1]) && line.s[line.len - 1])
			line.len--;
		if (!line.len || *line.s == '#')
			continue;
		assert(at + line.len < list->len && memcmp(list->s + at, line.s, line.len) == 0 && !list->s[at + line.len]);
		at += line.len + 1;
	}
	assert(at == list->len);
}

/* What the map has to say of key, by the definition; NULL: nothing. */
static const char *
find_last(const stralloc *list, const char *key, int with_values)
{
	const char *found = NULL;

	for (size_t at = 0; at < list->len; at += strlen(list->s + at) + 1) {
		const char *entry = list->s + at, *colon = strchr(entry, ':');
		size_t n = with_values && colon ? (size_t)(colon - entry) : strlen(entry);

		if ((!with_values || colon) && n == strlen(key) && strncasecmp(entry, key, n) == 0)
			found = with_values ? colon + 1 : "";
	}
	return found;
}

static void
check_map(struct control_map *map, const stralloc *list, const char *key, int with_values)
{
	stralloc copy = STRALLOC_ZERO;
	const char *want = find_last(list, key, with_values), *got;

	assert(stralloc_setb(&copy, list->s, list->len) && control_map_build(map, &copy, with_values) && !copy.s);
	got = control_map_find(map, key, strlen(key));
	assert(want ? got && strcmp(got, want) == 0 : !got);
	for (size_t at = 0; at < list->len; at += strlen(list->s + at) + 1) {
		const char *entry = list->s + at, *colon = with_values ? strchr(entry, ':') : entry + strlen(entry);

		assert(!colon || control_map_find(map, entry, (size_t)(colon - entry)));
	}
}

/* --- grammars ----------------------------------------------------------------------------------- */

static void
find_route(const struct control_map *map, const char *domain)
{
	struct smtproutes routes = { .map = *map };
	struct smtproute route;
	ip46 ip;
	int r = smtproute_find(&routes, domain, "other.example", &route);

	assert(r == 1 || r == 0 || r == -1);
	if (r == 0)
		assert(!*route.relay && route.port == SMTPROUTE_PORT && !*route.user);
	if (r != 1)
		return;
	assert(route.port && strlen(route.relay) < sizeof route.relay && route.is_literal == ip_address_parse(&ip, route.relay));
	assert(!strchr(route.relay, '|') && !strchr(route.user, '|') && (*route.user || !*route.password));
}

static void
find_policy(const struct control_map *map, const char *domain)
{
	struct tlspolicies policies = { .map = *map };
	struct tlspolicy policy;
	int r = tlspolicy_find(&policies, domain, NULL, &policy);

	assert(r == 1 || r == -1 || (r == 0 && policy.level == TLS_MAY && !policy.has_nosts));
	if (r == 1) {
		assert(policy.level <= TLS_DANE && policy.fingerprints_len <= TLSPOLICY_FINGERPRINTS_MAX && policy.names);
		assert((policy.level == TLS_FINGERPRINT) == (policy.fingerprints_len > 0));
		assert(!policy.has_nosts || policy.level != TLS_NONE);
	}
}

/* Case makes no difference, and without a line for it nobody has another's address. */
static void
find_sender(const stralloc *list, const char *login)
{
	struct senders s = { .table = *list }, none = { .table = STRALLOC_ZERO };
	char upper[1024];
	const char *address = list->len ? list->s : "";
	size_t n = 0;

	for (; address[n] && n + 1 < sizeof upper; n++)
		upper[n] = (char)toupper((unsigned char)address[n]);
	upper[n] = '\0';
	if (address[n])
		return;
	assert(senders_has(&s, login, address) == senders_has(&s, login, upper));
	assert(senders_has(&s, login, login) && senders_has(&s, login, ""));
	assert(senders_has(&none, login, address) == (!*address || strcasecmp(login, address) == 0));
}

static void
take_dnsbl(const char *line)
{
	struct dnsbl_list list;
	ip46 six = { .is6 = 1 };
	char name[DNS_NAME_MAX + 1], text[DNSBL_TEXT_MAX];

	if (dnsbl_list_parse(&list, line) != 1)
		return;
	dnsbl_list_name(name, &list, &six);
	assert(*list.zone && strlen(name) <= DNS_NAME_MAX && !strpbrk(list.zone, " :%@/\n"));
	dnsbl_list_text(text, &list, &six, NULL);
	assert(*text && strlen(text) < DNSBL_TEXT_MAX);
	for (const char *s = text; *s; s++)
		assert(*s >= ' ' && *s <= '~');
}

/* A prefix is one of its family, and its own address is within it; but none that is shorter than what marks an IPv4 address in IPv6
 * clothes, which is in no IPv6 prefix. */
static void
take_address(const char *line)
{
	static struct localaddresses l;
	struct list own = { &l.own, &l.own_len };
	ip46 ip;

	l.own_len = 0;
	if (!add_entry(own, line))
		return;
	ip = l.own->ip;
	assert(l.own_len == 1 && l.own->bits <= (ip46_is6(&ip) ? 128u : 32u));
	localaddress_unmap(&ip);
	assert(localaddress_is(&l, &ip) || (ip46_is6(&l.own->ip) && !ip46_is6(&ip) && l.own->bits < 96));
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct given_file file;
	static stralloc list;
	struct given text = { octets, len };
	char *key = given_string(given_until(&text, '\0'));
	struct control_map map;

	given_write(&file, text.s, text.len);
	read_value(file.path, text);
	assert(control_list(&list, file.path) == 1);
	check_list(&list, text);
	check_map(&map, &list, key, 0);
	control_map_free(&map);
	check_map(&map, &list, key, 1);
	find_route(&map, key);
	find_policy(&map, key);
	find_sender(&list, key);
	control_map_free(&map);
	for (size_t at = 0; at < list.len; at += strlen(list.s + at) + 1) {
		take_dnsbl(list.s + at);
		take_address(list.s + at);
	}
	free(key);
	return 0;
}
