/* A line of users/accounts, the fields of users/assign, and words for quotas and flags, given any octets. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "users/account.h"
#include "users/virtual.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* A line that is taken is written and read again as the same, and gives nobody the rights of root. */
static void
read_line(const char *s, size_t len)
{
	static struct virtual_account v, again;
	stralloc line = STRALLOC_ZERO;

	if (virtual_parse(&v, s, len))
		return;
	assert(len <= VIRTUAL_LINE_MAX && v.uid != 0 && v.gid != 0 && v.uid != (uid_t)-1 && v.gid != (gid_t)-1);
	assert(!virtual_address_fault(v.address, strlen(v.address)) && virtual_is_quota(v.quota) && *v.home);
	assert(virtual_format(&line, &v, 1) && !memchr(line.s, '\n', line.len) && !memchr(line.s, '\0', line.len));
	assert(virtual_parse(&again, line.s, line.len) == NULL);
	assert(strcmp(again.address, v.address) == 0 && strcmp(again.hash, v.hash) == 0 && strcmp(again.home, v.home) == 0 &&
	    strcmp(again.quota, v.quota) == 0 && again.uid == v.uid && again.gid == v.gid && again.flags == v.flags);
	line.len = 0;
	assert(virtual_format(&line, &v, 0) && virtual_parse(&again, line.s, line.len) == NULL && !*again.hash);
	stralloc_free(&line);
}

static void
read_fields(const char *s, size_t len)
{
	static struct account a;

	if (!account_parse(&a, s, len))
		return;
	assert(len <= ACCOUNT_SIZE_MAX && *a.user && *a.home && a.uid != (uid_t)-1 && a.gid != (gid_t)-1);
	assert(a.ext + strlen(a.ext) < a.fields.s + a.fields.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	char *copy = malloc(len + 1);
	unsigned int flags;

	assert(copy);
	memcpy(copy, octets, len);
	read_line(copy, len);
	read_fields(copy, len);
	copy[len] = '\0';
	if (virtual_flags(&flags, copy))
		assert(flags <= (VIRTUAL_CATCHALL | VIRTUAL_EXTENSIONS | VIRTUAL_LOCKED));
	if (virtual_is_quota(copy))
		assert(strspn(copy, "0123456789SC,") == strlen(copy));
	free(copy);
	return 0;
}
