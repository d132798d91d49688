/* sts_policy: a policy of MTA-STS as a domain publishes it (RFC 8461 section 3.2): what its MX hosts are called, and whether mail may
 * go to others.
 * Grammar  "KEY: VALUE", one a line, ended by LF or CR LF; blanks at the end of a line and empty lines count for nothing. version has
 *          to be STSv1; mode and max_age have to be there, and mx once at least unless mode is none. Of other keys than mx the first
 *          one counts; those that are not known are ignored. Keys, version and mode have a case, names have none
 * Trust    the text is hostile: any octet may occur, and it is not NUL-terminated
 * Bounds   STS_POLICY_MAX octets; a max_age above STS_AGE_MAX is taken for that */
#ifndef STS_POLICY_H
#define STS_POLICY_H
#include <stddef.h>
#include <stdint.h>

enum { STS_POLICY_MAX = 64 * 1024, STS_AGE_MAX = 31557600 };	/* octets; seconds, a year */

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

struct sts_policy {
	enum sts_mode mode;
	uint32_t max_age;	/* seconds */
	const char *text;	/* the caller's, and has to stay */
	size_t len;
};

/* Returns NULL and fills *p, or says why the text is no policy. */
const char *sts_policy_parse(struct sts_policy *p, const char *text, size_t len);

/* Whether the MX host (NUL-terminated, no final dot) is one of the policy's; "*." stands for exactly one label (section 4.1). */
int sts_policy_has(const struct sts_policy *p, const char *host);

/* "none", "testing" or "enforce". */
const char *sts_mode_name(enum sts_mode mode);

#endif
