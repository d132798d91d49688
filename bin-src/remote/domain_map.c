#include <string.h>
#include "domain.h"
#include "domain_map.h"

/* The entry for a domain: the whole, then each .suffix, the longest first. An address in brackets has no suffixes.
 * *left: labels of the domain that the entry leaves. */
static const char *
find_entry(const struct control_map *map, const char *domain, size_t *left)
{
	const char *entry = control_map_find(map, domain, strlen(domain));
	const char *suffix = *domain == '[' ? NULL : strchr(domain, '.');

	*left = 0;
	for (; !entry && suffix && suffix[1]; suffix = strchr(suffix + 1, '.')) {
		entry = control_map_find(map, suffix, strlen(suffix));
		++*left;
	}
	return entry;
}

const char *
domain_map_find(const struct control_map *map, const char *domain, const char *ascii)
{
	const char *entry, *other = NULL;
	size_t left, other_left = 0;

	if (strlen(domain) > DOMAIN_UTF8_MAX)
		return control_map_find(map, "", 0);
	entry = find_entry(map, domain, &left);
	if (ascii)
		other = find_entry(map, ascii, &other_left);
	if (other && (!entry || other_left < left))
		entry = other;
	return entry ? entry : control_map_find(map, "", 0);
}
