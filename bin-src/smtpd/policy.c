#include <string.h>
#include <strings.h>
#include "policy.h"

/* Offset of the '@' before the domain, or len. */
static size_t
find_at(const char *address, size_t len)
{
	const char *at = memrchr(address, '@', len);

	return at ? (size_t)(at - address) : len;
}

static size_t
next_dot(const char *s, size_t at, size_t len)
{
	/* -Wanalyzer-use-of-uninitialized-value: who calls has filled len octets */
	while (at < len && s[at] != '.')
		at++;
	return at;
}

/* host, or a ".suffix" of it. */
static int
has_host(const struct control_map *map, const char *host, size_t len)
{
	if (control_map_find(map, host, len))
		return 1;
	for (size_t dot = next_dot(host, 0, len); dot < len; dot = next_dot(host, dot + 1, len))
		if (control_map_find(map, host + dot, len - dot))
			return 1;
	return 0;
}

static int
has_address(const struct setting_list *list, const char *address, size_t len)
{
	size_t at = find_at(address, len);

	if (!list->is_there)
		return 0;
	return control_map_find(&list->entries, address, len) || (at < len && control_map_find(&list->entries, address + at, len - at)) ||
	    (len > 0 && expressions_refuse(&list->expressions, address, len));
}

static int
has_name(const struct setting_list *list, const char *helo, size_t len)
{
	return list->is_there && (has_host(&list->entries, helo, len) || expressions_refuse(&list->expressions, helo, len));
}

/* The same as has_host in the compiled table, whose keys are lower case. */
static enum policy_answer
table_has_host(const struct table *table, const char *host, size_t len)
{
	char lower[PATH_ADDRESS_MAX];
	stralloc value = STRALLOC_ZERO;
	int r = 0;

	if (table->fd < 0 || len > sizeof lower)
		return POLICY_NO;
	for (size_t i = 0; i < len; i++)
		lower[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + 32) : host[i];
	for (size_t at = 0; at < len && r == 0; at = next_dot(lower, at + 1, len)) {
		struct table copy = *table;

		r = table_get(&copy, lower + at, len - at, &value);
	}
	stralloc_free(&value);
	return r > 0 ? POLICY_YES : r < 0 ? POLICY_TROUBLE : POLICY_NO;
}

enum policy_answer
policy_takes_mail_for(const struct settings *s, const char *address, size_t len)
{
	const struct setting_list *list = &s->lists[LIST_RCPTHOSTS];
	size_t at = find_at(address, len);
	const char *domain = address + at + 1;
	size_t n;

	if (at == len)
		return POLICY_YES;
	n = len - at - 1;
	if (list->is_there ? has_host(&list->entries, domain, n) :
	    n > 0 && n == s->me.len && strncasecmp(domain, s->me.s, n) == 0)
		return POLICY_YES;
	return table_has_host(&s->morercpthosts, domain, n);
}

int
policy_is_bad_sender(const struct settings *s, const char *address, size_t len, int may_relay)
{
	return has_address(&s->lists[LIST_BADMAILFROM], address, len) ||
	    (!may_relay && has_address(&s->lists[LIST_BADMAILFROM_NORELAY], address, len));
}

int
policy_is_bad_recipient(const struct settings *s, const char *address, size_t len, int may_relay)
{
	return has_address(&s->lists[LIST_BADRCPTTO], address, len) ||
	    (!may_relay && has_address(&s->lists[LIST_BADRCPTTO_NORELAY], address, len));
}

int
policy_is_bad_helo(const struct settings *s, const char *helo, int may_relay)
{
	size_t len = strlen(helo);

	return has_name(&s->lists[LIST_BADHELO], helo, len) || (!may_relay && has_name(&s->lists[LIST_BADHELO_NORELAY], helo, len));
}

int
policy_is_null_sender(const char *address, size_t len)
{
	return len == 0 || (len == 4 && memcmp(address, "#@[]", 4) == 0);
}

int
policy_is_postmaster(const char *address, size_t len)
{
	size_t at = find_at(address, len);

	return at == 10 && strncasecmp(address, "postmaster", 10) == 0;
}
