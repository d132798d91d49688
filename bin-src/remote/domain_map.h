/* domain_map: the entry of a map for a domain, as control/smtproutes and control/tlspolicy have them: a whole domain, .SUFFIX for all
 * domains below it, or empty for all the rest; the longest match counts. */
#ifndef DOMAIN_MAP_H
#define DOMAIN_MAP_H
#include "control/control.h"

/* domain: as it stands in an address, "[literal]" included. ascii: its form for the DNS where that is another one, or NULL.
 * Returns the value, or NULL if no entry matches. */
const char *domain_map_find(const struct control_map *map, const char *domain, const char *ascii);

#endif
