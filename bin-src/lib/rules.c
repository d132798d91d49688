#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/types.h>
#include "rules.h"

enum { KEY_MAX = 160 };	/* octets: '^', 128 bits, NUL */

void
rules_init(struct rules *r, const char *file, int may_lack)
{
	*r = (struct rules){ .file = file, .may_lack = may_lack, .table = { .fd = -1 } };
}

/* --- what kinds of keys a table has ---------------------------------------------------------- */

/* Notes that the table has a key of a network of that kind. */
static void
note_key(void *data, const char *key, size_t len)
{
	struct rules *r = data;
	const char *slash = memchr(key, '/', len);
	char number[UINT_FMT + 1];
	unsigned int bits;
	size_t digits;

	if (len > 1 && key[0] == '_' && len - 1 < sizeof r->bits4)
		r->bits4[len - 1] = 1;
	if (len > 1 && key[0] == '^' && len - 1 < sizeof r->bits6)
		r->bits6[len - 1] = 1;
	if (!slash)
		return;
	digits = len - (size_t)(slash - key) - 1;
	if (digits > 3)
		return;
	memcpy(number, slash + 1, digits);
	number[digits] = '\0';
	if (!uint0_scan(number, &bits) || bits > 128)
		return;
	if (memchr(key, ':', len))
		r->text6[bits] = 1;
	else if (bits <= 32)
		r->text4[bits] = 1;
}

static void
open_table(struct rules *r)
{
	struct stat st;

	r->trouble = 0;
	memset(r->bits4, 0, sizeof r->bits4);
	memset(r->bits6, 0, sizeof r->bits6);
	memset(r->text4, 0, sizeof r->text4);
	memset(r->text6, 0, sizeof r->text6);
	switch (table_open(&r->table, r->file)) {
	case 0:
		return;
	case 1:
		if (fstat(r->table.fd, &st) == 0 && table_each(&r->table, note_key, r) == 1) {
			r->is = stamp_of(&st);
			return;
		}
	}
	r->trouble = errno ? errno : EIO;
	table_close(&r->table);	/* it is tried anew at the next connection */
}

void
rules_refresh(struct rules *r)
{
	struct stamp now;

	if (!r->file)
		return;
	errno = 0;
	now = stamp_take(r->file);
	if (r->table.fd < 0 && errno == ENOENT && !r->trouble)
		return;
	if (r->table.fd >= 0 && stamp_is_same(&now, &r->is))
		return;
	table_close(&r->table);
	memset(&r->is, 0, sizeof r->is);
	open_table(r);
	r->generation++;
}

void
rules_close(struct rules *r)
{
	table_close(&r->table);
}

/* --- one address -------------------------------------------------------------------------------- */

/* Takes the value of a rule apart. */
static enum rules_answer
read_value(const stralloc *value, stralloc *variables)
{
	size_t at = 0;

	if (value->len && value->s[value->len - 1] != '\0') {
		errno = EPROTO;
		return RULES_TROUBLE;
	}
	while (at < value->len) {
		const char *s = value->s + at;
		size_t len = strlen(s);

		if (*s == 'D')
			return RULES_DENY;
		if (*s == '+' && len > 1 && s[1] != '=' && strchr(s, '=') && !stralloc_catb(variables, s + 1, len)) {
			errno = ENOMEM;
			return RULES_TROUBLE;
		}
		at += len + 1;
	}
	return RULES_ALLOW;
}

struct search {
	struct rules *rules;
	const ip46 *address;
	stralloc value;
	int found;	/* as table_get */
};

/* Returns 1 if the search is over. */
static int
try(struct search *s, const char *key, size_t len)
{
	s->found = table_get(&s->rules->table, key, len, &s->value);
	return s->found != 0;
}

static int
try_address(struct search *s)
{
	const unsigned char *o = (const unsigned char *)s->address->ip;
	char key[KEY_MAX];
	size_t n = ip46_fmt(key, s->address);

	if (try(s, key, n))
		return 1;
	if (!ip46_is6(s->address)) {
		while (n--)
			if (key[n] == '.' && try(s, key, n + 1))
				return 1;
		return 0;
	}
	n = 0;
	for (int i = 0; i < 16; i += 2)
		n += (size_t)sprintf(key + n, "%s%02x%02x", i ? ":" : "", o[i], o[i + 1]);
	if (try(s, key, n))
		return 1;
	n = 0;
	for (int i = 0; i < 16; i++)
		n += (size_t)sprintf(key + n, "%02x", o[i]);
	return try(s, key, n);
}

/* The address with all bits but the first ones zero, and "/BITS". */
static int
try_text(struct search *s, unsigned int bits)
{
	char key[KEY_MAX];
	ip46 network = *s->address;
	unsigned int octets = ip46_is6(&network) ? 16 : 4;
	size_t n;

	for (unsigned int i = 0; i < octets; i++) {
		unsigned int kept = bits <= i * 8 ? 0 : bits - i * 8;

		if (kept < 8)
			network.ip[i] = (char)((unsigned char)network.ip[i] & (0xff00u >> kept));
	}
	n = ip46_fmt(key, &network);
	key[n++] = '/';
	n += uint_fmt(key + n, bits);
	return try(s, key, n);
}

static int
try_bits(struct search *s, unsigned int bits)
{
	char key[KEY_MAX];
	size_t n = 0;

	key[n++] = ip46_is6(s->address) ? '^' : '_';
	for (unsigned int i = 0; i < bits; i++)
		key[n++] = (unsigned char)s->address->ip[i / 8] >> (7 - i % 8) & 1 ? '1' : '0';
	return try(s, key, n);
}

static int
try_networks(struct search *s)
{
	int six = ip46_is6(s->address);
	const char *text = six ? s->rules->text6 : s->rules->text4;
	const char *bits = six ? s->rules->bits6 : s->rules->bits4;

	for (unsigned int i = (six ? 128 : 32) + 1; i-- > 0;)
		if ((text[i] && try_text(s, i)) || (bits[i] && try_bits(s, i)))
			return 1;
	return 0;
}

enum rules_answer
rules_find(struct rules *r, const ip46 *address, stralloc *variables)
{
	struct search s = { .rules = r, .address = address };
	enum rules_answer answer = RULES_ALLOW;

	variables->len = 0;
	if (r->trouble) {
		errno = r->trouble;
		return RULES_TROUBLE;
	}
	if (!r->file)
		return RULES_ALLOW;
	if (r->table.fd < 0)
		return r->may_lack ? RULES_ALLOW : RULES_NO_FILE;
	if ((try_address(&s) || try_networks(&s) || try(&s, "", 0)) && s.found > 0)
		answer = read_value(&s.value, variables);
	else if (s.found < 0)
		answer = RULES_TROUBLE;
	stralloc_free(&s.value);
	return answer;
}
