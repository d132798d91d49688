#include <string.h>
#include <strings.h>
#include "date822.h"
#include "received.h"

const char *
received_protocol(const struct received *r)
{
	static const char *const names[2][4] = {
		{ "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA" },
		{ "UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA" },
	};

	if (r->protocol)
		return r->protocol;
	if (!r->is_extended)
		return "SMTP";
	return names[r->is_smtputf8][(r->tls != NULL) + 2 * (r->is_authenticated != 0)];
}

static int
put_clean(stralloc *to, const char *s, size_t most)
{
	size_t len = strnlen(s, most);
	char *p;

	if (!stralloc_readyplus(to, len))
		return 0;
	p = to->s + to->len;
	for (size_t i = 0; i < len; i++) {
		int is_good = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		    (s[i] && strchr(".@%+/=:-[]", s[i]));

		p[i] = is_good ? s[i] : '?';
	}
	to->len += len;
	return 1;
}

static int
put_helo(stralloc *to, const struct received *r)
{
	if (!r->helo || strcasecmp(r->helo, r->peer->host) == 0)
		return 1;
	return stralloc_cats(to, " (HELO ") && put_clean(to, r->helo, RECEIVED_HELO_MAX) && stralloc_cats(to, ")");
}

static int
put_address(stralloc *to, const struct received *r)
{
	if (!stralloc_cats(to, " ("))
		return 0;
	if (r->peer->info[0] && !(put_clean(to, r->peer->info, PEER_INFO_MAX) && stralloc_cats(to, "@")))
		return 0;
	return put_clean(to, r->peer->ip, PEER_IP_MAX) && stralloc_cats(to, ")\n");
}

/* A suite that does not have IANA's name is said in a comment. */
static int
put_tls(stralloc *to, const struct received *r)
{
	int is_registered = r->tls && strncmp(r->cipher, "TLS_", 4) == 0;

	if (!r->tls)
		return 1;
	return stralloc_cats(to, " (") && stralloc_cats(to, r->tls) && stralloc_cats(to, is_registered ? ") tls " : " cipher ") &&
	    stralloc_cats(to, r->cipher) && stralloc_cats(to, is_registered ? "" : ")");
}

int
received_put(stralloc *to, const struct received *r)
{
	char date[DATE822_MAX];

	date822_trace(date, r->time);
	return stralloc_cats(to, "Received: from ") && put_clean(to, r->peer->host, PEER_HOST_MAX) && put_helo(to, r) &&
	    put_address(to, r) && stralloc_cats(to, "  by ") && put_clean(to, r->peer->local_host, PEER_HOST_MAX) &&
	    stralloc_cats(to, " with ") && stralloc_cats(to, received_protocol(r)) &&
	    put_tls(to, r) && stralloc_cats(to, "; ") && stralloc_cats(to, date) && stralloc_cats(to, "\n");
}
