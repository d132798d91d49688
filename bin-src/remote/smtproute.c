#include <string.h>
#include <skalibs/stralloc.h>
#include <skalibs/types.h>
#include "domain_map.h"
#include "ip_address.h"
#include "smtproute.h"

int
smtproutes_read(struct smtproutes *routes)
{
	stralloc entries = STRALLOC_ZERO;

	memset(routes, 0, sizeof *routes);
	if (control_list(&entries, "control/smtproutes") < 0)
		return 0;
	return control_map_build(&routes->map, &entries, 1);
}

void
smtproutes_free(struct smtproutes *routes)
{
	control_map_free(&routes->map);
}

static int
put(char *to, size_t size, const char *from, size_t len)
{
	if (len >= size)
		return 0;
	memcpy(to, from, len);
	to[len] = 0;
	return 1;
}

/* "|USER|PASSWORD", or blanks in the place of each '|', not beside it; a password may hold more of them. */
static int
take_login(struct smtproute *route, const char *s)
{
	const char *end;

	if (!*s)
		return 1;
	if (*s != '|') {
		s += strspn(s, " \t");
		end = s + strcspn(s, " \t|");
		return *end && *end != '|' && put(route->user, sizeof route->user, s, (size_t)(end - s)) &&
		    put(route->password, sizeof route->password, end + strspn(end, " \t"), strlen(end + strspn(end, " \t")));
	}
	end = strchr(s + 1, '|');
	return end && end > s + 1 && put(route->user, sizeof route->user, s + 1, (size_t)(end - s - 1)) &&
	    put(route->password, sizeof route->password, end + 1, strlen(end + 1));
}

/* ":PORT"; "" and ":" are the usual one. */
static int
take_port(struct smtproute *route, const char *s, size_t len)
{
	unsigned int port;
	char digits[6];

	if (len <= 1)
		return !len || *s == ':';
	if (*s != ':' || !put(digits, sizeof digits, s + 1, len - 1) || !uint0_scan(digits, &port) || !port || port > 65535)
		return 0;
	route->port = (uint16_t)port;
	return 1;
}

/* "RELAY[:PORT]", len octets. */
static int
take_relay(struct smtproute *route, const char *s, size_t len)
{
	const char *end = memchr(s, ':', len);
	ip46 ip;

	if (len && *s == '[') {
		end = memchr(s, ']', len);
		if (!end || !put(route->relay, sizeof route->relay, s + 1, (size_t)(end - s - 1)))
			return 0;
		route->is_literal = ip_address_parse(&ip, route->relay);
		end++;
		return route->is_literal && take_port(route, end, len - (size_t)(end - s));
	}
	if (!end)
		end = s + len;
	if (!put(route->relay, sizeof route->relay, s, (size_t)(end - s)))
		return 0;
	route->is_literal = *route->relay && ip_address_parse(&ip, route->relay);
	return take_port(route, end, len - (size_t)(end - s));
}

int
smtproute_find(const struct smtproutes *routes, const char *domain, const char *ascii, struct smtproute *route)
{
	const char *entry = domain_map_find(&routes->map, domain, ascii);
	size_t relay_len;

	memset(route, 0, sizeof *route);
	route->port = SMTPROUTE_PORT;
	if (!entry)
		return 0;
	relay_len = strcspn(entry, "| \t");
	if (!relay_len && *entry && *entry != '|')
		return -1;
	return take_relay(route, entry, relay_len) && take_login(route, entry + relay_len) ? 1 : -1;
}
