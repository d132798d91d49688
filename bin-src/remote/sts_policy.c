#include <string.h>
#include <strings.h>
#include "sts_policy.h"

enum { KEY_MAX = 32, NAME_MAX = 253, DIGITS_MAX = 10 };

static const char *const modes[] = { "none", "testing", "enforce" };

const char *
sts_mode_name(enum sts_mode mode)
{
	return modes[mode];
}

/* --- lines ---------------------------------------------------------------------------------------------------------- */

/* A line that is no empty one; value_len octets at value. */
struct line {
	const char *key, *value;
	size_t key_len, value_len;
};

static int
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static int
is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Takes a line apart. Returns 1, or 0 if it is none of the grammar. */
static int
split(struct line *l, const char *s, size_t len)
{
	const char *end = s + len;

	l->key = s;
	while (s < end && (is_alphanumeric(*s) || (s > l->key && (*s == '_' || *s == '-' || *s == '.'))))
		s++;
	l->key_len = (size_t)(s - l->key);
	if (!l->key_len || l->key_len > KEY_MAX || s == end || *s != ':')
		return 0;
	for (s++; s < end && is_blank(*s); s++)
		;
	l->value = s;
	l->value_len = (size_t)(end - s);
	for (; s < end; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 127)
			return 0;
	return 1;
}

/* The next line of p->text from *at. Returns 1, 0 at the end, or -1 if it makes no sense. */
static int
next_line(const struct sts_policy *p, size_t *at, struct line *l)
{
	while (*at < p->len) {
		const char *s = p->text + *at, *lf = memchr(s, '\n', p->len - *at);
		size_t len = lf ? (size_t)(lf - s) : p->len - *at;

		*at += len + (lf != NULL);
		if (len && s[len - 1] == '\r')
			len--;
		while (len && is_blank(s[len - 1]))
			len--;
		if (len)
			return split(l, s, len) ? 1 : -1;
	}
	return 0;
}

static int
is_key(const struct line *l, const char *key)
{
	return l->key_len == strlen(key) && memcmp(l->key, key, l->key_len) == 0;
}

static int
is_value(const struct line *l, const char *value)
{
	return l->value_len == strlen(value) && memcmp(l->value, value, l->value_len) == 0;
}

/* --- values --------------------------------------------------------------------------------------------------------- */

/* A host name, after "*." or not. */
static int
is_pattern(const struct line *l)
{
	size_t i = l->value_len > 2 && memcmp(l->value, "*.", 2) == 0 ? 2 : 0, label = 0;

	if (l->value_len - i > NAME_MAX)
		return 0;
	for (; i < l->value_len; i++) {
		char c = l->value[i];

		if (c == '.' ? !label : !is_alphanumeric(c) && c != '-' && c != '_')
			return 0;
		label = c == '.' ? 0 : label + 1;
	}
	return label > 0;
}

static int
take_mode(struct sts_policy *p, const struct line *l)
{
	for (unsigned int i = 0; i < sizeof modes / sizeof *modes; i++)
		if (is_value(l, modes[i])) {
			p->mode = (enum sts_mode)i;
			return 1;
		}
	return 0;
}

static int
take_age(struct sts_policy *p, const struct line *l)
{
	uint64_t n = 0;

	if (!l->value_len || l->value_len > DIGITS_MAX)
		return 0;
	for (size_t i = 0; i < l->value_len; i++) {
		if (l->value[i] < '0' || l->value[i] > '9')
			return 0;
		n = 10 * n + (uint64_t)(l->value[i] - '0');
	}
	p->max_age = n > STS_AGE_MAX ? STS_AGE_MAX : (uint32_t)n;
	return 1;
}

/* What was there. */
struct found { int version, mode, age, mx; };

/* Takes a line. Returns NULL, or why it cannot be. */
static const char *
take(struct sts_policy *p, struct found *f, const struct line *l)
{
	if (is_key(l, "mx")) {
		f->mx = 1;
		return is_pattern(l) ? NULL : "an mx is no host name";
	}
	if (is_key(l, "version") && !f->version++)
		return is_value(l, "STSv1") ? NULL : "it has another version";
	if (is_key(l, "mode") && !f->mode++)
		return take_mode(p, l) ? NULL : "it has a mode that is not known";
	if (is_key(l, "max_age") && !f->age++)
		return take_age(p, l) ? NULL : "its max_age is no number of seconds";
	return NULL;
}

/* --- all ------------------------------------------------------------------------------------------------------------ */

const char *
sts_policy_parse(struct sts_policy *p, const char *text, size_t len)
{
	struct found found = { .version = 0 };
	const char *why = NULL;
	struct line l;
	size_t at = 0;
	int r;

	*p = (struct sts_policy){ .text = text, .len = len };
	if (len > STS_POLICY_MAX)
		return "it is too long";
	while ((r = next_line(p, &at, &l)) == 1 && !why)
		why = take(p, &found, &l);
	if (why)
		return why;
	if (r < 0)
		return "a line of it makes no sense";
	if (!found.version)
		return "it has no version";
	if (!found.mode)
		return "it has no mode";
	if (!found.age)
		return "it has no max_age";
	return found.mx || p->mode == STS_NONE ? NULL : "it has no mx";
}

int
sts_policy_has(const struct sts_policy *p, const char *host)
{
	struct line l;
	size_t at = 0;

	while (next_line(p, &at, &l) == 1) {
		size_t is_wild = l.value_len && *l.value == '*';
		const char *name = is_wild ? strchr(host, '.') : host;
		size_t len = l.value_len - is_wild;

		if (is_key(&l, "mx") && name && strlen(name) == len && strncasecmp(name, l.value + is_wild, len) == 0)
			return 1;
	}
	return 0;
}
