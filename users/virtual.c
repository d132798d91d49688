#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <skalibs/bytestr.h>
#include <skalibs/types.h>
#include "stralloc_set.h"
#include "virtual.h"

static const struct { const char *name; enum virtual_flag flag; } flag_names[] = {
	{ "catchall", VIRTUAL_CATCHALL }, { "extensions", VIRTUAL_EXTENSIONS }, { "locked", VIRTUAL_LOCKED },
};
enum { FLAGS = sizeof flag_names / sizeof *flag_names };

/* --- lines ------------------------------------------------------------------------------------------------------ */

/* What stands in the way of an address, a path or a line of text. */
static int
is_control(char c)
{
	return (c >= '\0' && c < ' ') || c == 127;
}

static int
is_label_octet(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
	    (unsigned char)c > 127;
}

static int
is_domain(const char *s, size_t len)
{
	if (!len || len > VIRTUAL_DOMAIN_MAX || *s == '.' || *s == '-' || s[len - 1] == '.')
		return 0;
	for (size_t i = 0; i < len; i++)
		if (!is_label_octet(s[i]) && (s[i] != '.' || s[i - 1] == '.'))
			return 0;
	return 1;
}

static int
is_local(const char *s, size_t len)
{
	if (!len || len > VIRTUAL_LOCAL_MAX || *s == '-' || *s == '#')
		return 0;
	for (size_t i = 0; i < len; i++)
		if (is_control(s[i]) || strchr(" :/\\\"<>()[],;@", s[i]))
			return 0;
	return 1;
}

const char *
virtual_address_fault(const char *address, size_t len)
{
	const char *at = len <= VIRTUAL_ADDRESS_MAX ? memchr(address, '@', len) : NULL;

	if (!at)
		return "the address is not user@domain, or too long";
	if (!is_local(address, (size_t)(at - address)))
		return "the part before @ is empty, too long, begins with - or #, or has an octet in it that no mailbox has";
	if (!is_domain(at + 1, len - (size_t)(at + 1 - address)))
		return "what stands behind @ is no domain";
	return NULL;
}

/* An id that may own mail. */
static int
parse_id(unsigned int *id, const char *s)
{
	uint64_t n;

	if (!uint640_scan(s, &n) || n == 0 || n >= UINT32_MAX)
		return 0;
	*id = (unsigned int)n;
	return 1;
}

int
virtual_flags(unsigned int *flags, const char *list)
{
	*flags = 0;
	while (*list) {
		size_t len = strcspn(list, ","), i = 0;

		while (i < FLAGS && (strncmp(list, flag_names[i].name, len) != 0 || flag_names[i].name[len]))
			i++;
		if (i == FLAGS || (list[len] && !list[len + 1]))
			return 0;
		*flags |= (unsigned int)flag_names[i].flag;
		list += len + (list[len] == ',');
	}
	return 1;
}

int
virtual_is_quota(const char *s)
{
	int has_octets = 0, has_messages = 0;
	uint64_t n;
	size_t len;

	if (strlen(s) > ACCOUNT_QUOTA_MAX)
		return 0;
	while (*s) {
		len = uint64_scan(s, &n);
		if (!len || n == 0 || n > INT64_MAX || !(s[len] == 'S' ? !has_octets++ : s[len] == 'C' && !has_messages++))
			return 0;
		s += len + 1;
		if (*s && (*s != ',' || !*++s))
			return 0;
	}
	return 1;
}

static int
is_hash(const char *s)
{
	for (; *s; s++)
		if (*s <= ' ' || *s > '~')
			return 0;
	return 1;
}

int
virtual_is_home(const char *s)
{
	for (const char *c = s; *c; c++)
		if (is_control(*c) || *c == ':')
			return 0;
	return *s != '\0';
}

/* Splits the line at its colons. Returns 1; 0 if it has not as many fields as it should; -1 (ENOMEM). */
static int
split(struct virtual_account *v, const char *field[VIRTUAL_FIELDS], const char *line, size_t len)
{
	unsigned int n = 1;

	if (!stralloc_setb(&v->fields, line, len) || !stralloc_0(&v->fields))
		return -1;
	field[0] = v->fields.s;
	for (size_t i = 0; i < len; i++)
		if (v->fields.s[i] == ':') {
			if (n == VIRTUAL_FIELDS)
				return 0;
			v->fields.s[i] = '\0';
			field[n++] = v->fields.s + i + 1;
		}
	return n == VIRTUAL_FIELDS;
}

const char *
virtual_parse(struct virtual_account *v, const char *line, size_t len)
{
	const char *field[VIRTUAL_FIELDS], *fault;
	unsigned int uid, gid;
	int r;

	if (len > VIRTUAL_LINE_MAX)
		return "too long";
	if (memchr(line, '\0', len))
		return "a NUL in it";
	r = split(v, field, line, len);
	if (r <= 0)
		return r < 0 ? "out of memory" : "not address:hash:uid:gid:home:quota:flags";
	fault = virtual_address_fault(field[0], strlen(field[0]));
	if (fault)
		return fault;
	if (!is_hash(field[1]))
		return "no password hash";
	if (!parse_id(&uid, field[2]) || !parse_id(&gid, field[3]))
		return "uid and gid are to be numbers, and not 0";
	if (!virtual_is_home(field[4]))
		return "no home";
	if (!virtual_is_quota(field[5]))
		return "a quota is OCTETSS, MESSAGESC or both with a comma between them";
	if (!virtual_flags(&v->flags, field[6]))
		return "a flag that is not known";
	case_lowerb(v->fields.s, strlen(field[0]));
	v->address = field[0];
	v->hash = field[1];
	v->uid = uid;
	v->gid = gid;
	v->home = field[4];
	v->quota = field[5];
	return NULL;
}

static int
put(stralloc *line, const char *s, char end)
{
	return stralloc_cats(line, s) && stralloc_append(line, end);
}

static int
put_id(stralloc *line, unsigned int id)
{
	char s[UINT_FMT];

	s[uint_fmt(s, id)] = '\0';
	return put(line, s, ':');
}

int
virtual_format(stralloc *line, const struct virtual_account *v, int with_hash)
{
	unsigned int left = v->flags;

	if (!put(line, v->address, ':') || !put(line, with_hash ? v->hash : "", ':') || !put_id(line, v->uid) ||
	    !put_id(line, v->gid) || !put(line, v->home, ':') || !put(line, v->quota, ':'))
		return 0;
	for (size_t i = 0; i < FLAGS && left; i++) {
		if (!(left & (unsigned int)flag_names[i].flag))
			continue;
		left &= ~(unsigned int)flag_names[i].flag;
		if (!stralloc_cats(line, flag_names[i].name) || (left && !stralloc_append(line, ',')))
			return 0;
	}
	return 1;
}

/* --- tables ----------------------------------------------------------------------------------------------------- */

static int
damaged(void)
{
	errno = EPROTO;
	return -1;
}

/* Nothing was found: was this one of our tables at all? */
static int
absent(struct table *t)
{
	stralloc value = STRALLOC_ZERO;
	int r = table_get(t, "", 0, &value);

	stralloc_free(&value);
	return r == 0 && t->fd >= 0 ? damaged() : r < 0 ? -1 : 0;
}

/* The account of an address in lower case. 1, 0, -1. */
static int
get(struct virtual_account *v, struct table *t, const char *address, size_t len)
{
	stralloc value = STRALLOC_ZERO;
	int r = table_get(t, address, len, &value);

	if (r > 0 && (virtual_parse(v, value.s, value.len) || strlen(v->address) != len || memcmp(v->address, address, len) != 0))
		r = damaged();
	stralloc_free(&value);
	return r;
}

int
virtual_find(struct virtual_account *v, struct table *t, const char *address, size_t len)
{
	char key[VIRTUAL_ADDRESS_MAX];
	int r;

	if (virtual_address_fault(address, len))
		return 0;
	memcpy(key, address, len);
	case_lowerb(key, len);
	r = get(v, t, key, len);
	return r ? r : absent(t);
}

/* A local part that is looked up, and whose it is found to be. */
struct question {
	const char *local;
	size_t len;
	size_t domain_len;	/* local begins with the domain and a '-' */
	size_t used;		/* octets of local that the account is named by, what follows is an extension */
};

/* Finds the longest domain that has accounts. 1, 0, -1. */
static int
find_domain(struct question *q, struct table *t)
{
	char key[1 + VIRTUAL_DOMAIN_MAX + 1] = "";
	stralloc value = STRALLOC_ZERO;
	size_t n = q->len < VIRTUAL_DOMAIN_MAX + 1 ? q->len : VIRTUAL_DOMAIN_MAX + 1;
	int r = 0;

	memcpy(key + 1, q->local, n);
	case_lowerb(key + 1, n);
	while (r == 0 && n-- > 1)
		if (q->local[n] == '-')
			r = table_get(t, key, 1 + n, &value);
	q->domain_len = n;
	stralloc_free(&value);
	return r ? r : absent(t);
}

/* Finds the account that the user part names, as a whole or up to a '-'. 1, 0, -1. */
static int
find_user(struct virtual_account *v, struct question *q, struct table *t)
{
	char key[VIRTUAL_ADDRESS_MAX];
	const char *user = q->local + q->domain_len + 1;
	size_t len = q->len - q->domain_len - 1;
	int r = 0;

	for (size_t n = len < VIRTUAL_LOCAL_MAX ? len : VIRTUAL_LOCAL_MAX; r == 0 && n > 0; n--) {
		if (n < len && user[n] != '-')
			continue;
		memcpy(key, user, n);
		key[n] = '@';
		memcpy(key + n + 1, q->local, q->domain_len);
		case_lowerb(key, n + 1 + q->domain_len);
		r = get(v, t, key, n + 1 + q->domain_len);
		q->used = q->domain_len + 1 + n;
	}
	return r;
}

/* Finds the account that gets all else. 1, 0, -1. */
static int
find_catchall(struct virtual_account *v, struct question *q, struct table *t)
{
	char key[2 + VIRTUAL_DOMAIN_MAX] = { '\0', '*' };
	stralloc address = STRALLOC_ZERO;
	int r;

	memcpy(key + 2, q->local, q->domain_len);
	case_lowerb(key + 2, q->domain_len);
	r = table_get(t, key, 2 + q->domain_len, &address);
	if (r > 0) {
		r = get(v, t, address.s, address.len);
		if (r == 0)
			r = damaged();
		q->used = q->len;
	}
	stralloc_free(&address);
	return r;
}

/* What qmail-local is to be told: as the user himself, or with an extension behind a dash. */
static int
fill(struct account *account, const struct virtual_account *v, const struct question *q)
{
	stralloc fields = STRALLOC_ZERO;
	char uid[UINT_FMT], gid[UINT_FMT];
	int plain = q->used == q->len || v->flags & VIRTUAL_EXTENSIONS;
	size_t from = plain ? q->len : q->used + 1;	/* behind the '-' */
	int ok;

	uid[uint_fmt(uid, v->uid)] = '\0';
	gid[uint_fmt(gid, v->gid)] = '\0';
	ok = put(&fields, v->address, '\0') && put(&fields, uid, '\0') && put(&fields, gid, '\0') &&
	    put(&fields, v->home, '\0') && put(&fields, plain ? "" : "-", '\0') &&
	    stralloc_catb(&fields, q->local + from, q->len - from) && stralloc_0(&fields) &&
	    account_parse(account, fields.s, fields.len);
	stralloc_free(&fields);
	if (!ok) {
		errno = ENOMEM;
		return -1;
	}
	account->is_virtual = 1;
	memcpy(account->quota, v->quota, strlen(v->quota) + 1);	/* it fits: virtual_is_quota */
	return 1;
}

int
virtual_of_local(struct account *account, const char *table, const char *local, size_t len)
{
	struct virtual_account v = { .address = NULL };
	struct question q = { .local = local, .len = len };
	struct table t;
	int r, e;

	if (len > ACCOUNT_LOCAL_MAX || memchr(local, '\0', len)) {
		errno = EINVAL;
		return -1;
	}
	if (!memchr(local, '-', len))
		return 0;
	r = table_open(&t, table);
	if (r != 1)
		return r;
	r = find_domain(&q, &t);
	if (r > 0) {
		r = find_user(&v, &q, &t);
		if (r == 0)
			r = find_catchall(&v, &q, &t);
		if (r > 0)
			r = fill(account, &v, &q);
	}
	e = errno;
	table_close(&t);
	virtual_free(&v);
	errno = e;
	return r;
}

void
virtual_free(struct virtual_account *v)
{
	stralloc_free(&v->fields);
	*v = (struct virtual_account){ .address = NULL };
}
