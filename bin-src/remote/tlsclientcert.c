#include <errno.h>
#include <string.h>
#include "domain_map.h"
#include "tlsclientcert.h"

int
tlsclientcerts_read(struct tlsclientcerts *c)
{
	stralloc entries = STRALLOC_ZERO;

	memset(c, 0, sizeof *c);
	if (control_list(&entries, "control/tlsclientcert") < 0)
		return 0;
	for (size_t at = 0; at < entries.len; at += strlen(entries.s + at) + 1)
		if (!strchr(entries.s + at, ':')) {
			stralloc_free(&entries);
			errno = 0;
			return 0;
		}
	return control_map_build(&c->map, &entries, 1);
}

void
tlsclientcerts_free(struct tlsclientcerts *c)
{
	control_map_free(&c->map);
}

const char *
tlsclientcert_find(const struct tlsclientcerts *c, const char *domain, const char *ascii, int is_relay)
{
	const char *name = domain_map_find(&c->map, domain, ascii);

	if (!name || (!is_relay && name == control_map_find(&c->map, "", 0)))
		return "";
	return name;
}
