#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <skalibs/bytestr.h>
#include <skalibs/types.h>
#include "account.h"
#include "control/table.h"
#include "stralloc_set.h"

/* A decimal number below the largest id, all of s. */
static int
parse_id(unsigned int *id, const char *s)
{
	uint64_t n;

	if (!uint640_scan(s, &n) || n >= UINT32_MAX)
		return 0;
	*id = (unsigned int)n;
	return 1;
}

int
account_parse(struct account *account, const char *s, size_t len)
{
	const char *field[ACCOUNT_FIELDS];
	unsigned int uid, gid;
	size_t nuls = 0;

	for (size_t i = 0; i < len; i++)
		nuls += s[i] == '\0';
	if (nuls != ACCOUNT_FIELDS - 1 && !(nuls == ACCOUNT_FIELDS && s[len - 1] == '\0'))
		return 0;
	if (len >= ACCOUNT_SIZE_MAX || !stralloc_setb(&account->fields, s, len))
		return 0;
	if (nuls == ACCOUNT_FIELDS - 1 && !stralloc_append(&account->fields, '\0'))
		return 0;
	field[0] = account->fields.s;
	for (int i = 1; i < ACCOUNT_FIELDS; i++)
		field[i] = field[i - 1] + strlen(field[i - 1]) + 1;
	if (!*field[0] || !parse_id(&uid, field[1]) || !parse_id(&gid, field[2]) || !*field[3])
		return 0;
	account->user = field[0];
	account->uid = uid;
	account->gid = gid;
	account->home = field[3];
	account->dash = field[4];
	account->ext = field[5];
	account->is_virtual = 0;
	account->quota[0] = '\0';
	return 1;
}

/* The entry for local in an open table: its value, and how much of local it matched. 1, 0, -1 as account_find. */
static int
find_entry(struct table *t, const char *local, size_t len, stralloc *value, size_t *matched)
{
	char key[1 + ACCOUNT_LOCAL_MAX + 1] = "!";
	char is_last[UCHAR_MAX + 1] = { 0 };	/* octets that some wildcard's prefix ends with */
	int r;

	memcpy(key + 1, local, len);
	case_lowerb(key + 1, len);
	key[1 + len] = '\0';
	*matched = len;
	r = table_get(t, key, 1 + len + 1, value);
	if (r)
		return r;
	r = table_get(t, "", 0, value);
	if (r <= 0) {
		if (r == 0)
			errno = EPROTO;	/* qmail-newu always writes it: this is some other table */
		return -1;
	}
	case_lowerb(value->s, value->len);	/* qmail's own qmail-newu left the case alone */
	for (size_t i = 0; i < value->len; i++)
		is_last[(unsigned char)value->s[i]] = 1;
	for (size_t n = len; ; n--) {
		r = n == 0 || is_last[(unsigned char)key[n]] ? table_get(t, key, 1 + n, value) : 0;
		if (r || n == 0) {
			*matched = n;
			return r;
		}
	}
}

int
account_find(struct account *account, const char *table, const char *local, size_t len, int *absent)
{
	stralloc value = STRALLOC_ZERO;
	struct table t;
	size_t matched;
	int r, e;

	*absent = 0;
	if (len > ACCOUNT_LOCAL_MAX || memchr(local, '\0', len)) {
		errno = EINVAL;
		return -1;
	}
	r = table_open(&t, table);
	if (r != 1) {
		*absent = r == 0;
		return r;
	}
	r = find_entry(&t, local, len, &value, &matched);
	if (r == 1 && !stralloc_catb(&value, local + matched, len - matched)) {
		errno = ENOMEM;
		r = -1;
	}
	if (r == 1 && !account_parse(account, value.s, value.len)) {
		errno = EPROTO;
		r = -1;
	}
	e = errno;
	table_close(&t);
	stralloc_free(&value);
	errno = e;
	return r;
}

void
account_free(struct account *account)
{
	stralloc_free(&account->fields);
	*account = (struct account){ .user = NULL };
}
