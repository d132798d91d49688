#include <errno.h>
#include <string.h>
#include <strings.h>
#include <skalibs/stralloc.h>
#include "domain_map.h"
#include "tlspolicy.h"

int
tlspolicies_read(struct tlspolicies *p)
{
	stralloc entries = STRALLOC_ZERO;

	memset(p, 0, sizeof *p);
	if (control_list(&entries, "control/tlspolicy") < 0)
		return 0;
	for (size_t at = 0; at < entries.len; at += strlen(entries.s + at) + 1) {
		if (!strchr(entries.s + at, ':')) {
			/* whoever wrote it wanted something protected */
			stralloc_free(&entries);
			errno = 0;
			return 0;
		}
		p->has_verify |= strcasestr(entries.s + at, ":verify") != NULL;
	}
	return control_map_build(&p->map, &entries, 1);
}

void
tlspolicies_free(struct tlspolicies *p)
{
	control_map_free(&p->map);
}

/* The value of a hexadecimal digit, -1 of anything else. */
static int
digit_value(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)((at - digits) % 16) : -1;
}

static int
take_fingerprints(struct tlspolicy *policy, const char *s)
{
	size_t digits = 0;

	for (; *s; s++) {
		int value = digit_value(*s);
		unsigned char *octet = policy->fingerprints[digits / 2 / TLSPOLICY_DIGEST] + digits / 2 % TLSPOLICY_DIGEST;

		if (*s == ':' || *s == ' ' || *s == '\t')
			continue;
		if (value < 0 || digits == sizeof policy->fingerprints * 2)
			return 0;
		*octet = (unsigned char)(*octet << 4 | value);
		digits++;
	}
	policy->fingerprints_len = (unsigned int)(digits / (2 * TLSPOLICY_DIGEST));
	return digits && digits % (2 * TLSPOLICY_DIGEST) == 0;
}

int
tlspolicy_has_dane(const struct tlspolicy *policy)
{
	return policy->level == TLS_MAY || policy->level == TLS_ENCRYPT || policy->level == TLS_DANE;
}

int
tlspolicy_find(const struct tlspolicies *p, const char *domain, const char *ascii, struct tlspolicy *policy)
{
	static const char *const words[] = { "none", "may", "encrypt", "verify", "fingerprint", "dane" };
	const char *entry = domain_map_find(&p->map, domain, ascii), *arguments;
	size_t level = 0, len;

	memset(policy, 0, sizeof *policy);
	policy->level = TLS_MAY;
	policy->names = "";
	if (!entry)
		return 0;
	len = strcspn(entry, ":");
	arguments = entry[len] ? entry + len + 1 : "";
	while (level < sizeof words / sizeof *words && (strlen(words[level]) != len || strncasecmp(words[level], entry, len) != 0))
		level++;
	if (level == sizeof words / sizeof *words)
		return -1;
	policy->level = (enum tls_level)level;
	if (level == TLS_FINGERPRINT)
		return take_fingerprints(policy, arguments) ? 1 : -1;
	if (level == TLS_VERIFY)
		policy->names = arguments;
	else if (*arguments) {
		policy->has_nosts = level != TLS_NONE && strcasecmp(arguments, "nosts") == 0;
		return policy->has_nosts ? 1 : -1;
	}
	return 1;
}
