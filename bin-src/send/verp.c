#include <string.h>
#include "stralloc_set.h"
#include "verp.h"

static const char mark[] = "-@[]";
enum { MARK = sizeof mark - 1 };

/* The octets of sender before the mark, or 0 if it does not end with it. */
static size_t
stem(const char *sender)
{
	size_t len = strlen(sender);

	return len > MARK && memcmp(sender + len - MARK, mark, MARK) == 0 ? len - MARK : 0;
}

int
verp_is(const char *sender)
{
	size_t len = stem(sender);

	return len && memrchr(sender, '@', len);
}

int
verp_sender(stralloc *out, const char *sender, const char *recipient)
{
	size_t len = stem(sender);
	const char *host = len ? memrchr(sender, '@', len) : NULL;
	const char *domain = strrchr(recipient, '@');

	if (!host || !domain)
		return stralloc_setb(out, sender, strlen(sender) + 1);
	return stralloc_setb(out, sender, (size_t)(host - sender)) &&
	    stralloc_catb(out, recipient, (size_t)(domain - recipient)) && stralloc_catb(out, "=", 1) &&
	    stralloc_cats(out, domain + 1) && stralloc_catb(out, host, len - (size_t)(host - sender)) &&
	    stralloc_catb(out, "", 1);
}

int
verp_return(stralloc *out, const char *sender)
{
	size_t len = stem(sender);

	return stralloc_setb(out, sender, len ? len : strlen(sender)) && stralloc_catb(out, "", 1);
}
