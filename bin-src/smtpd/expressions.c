#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/ip46.h>
#include "expressions.h"

/* --- which lines are expressions --------------------------------------------------- */

static int
is_alphanumeric_or_above(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c > 127;
}

static int
is_made_of(const char *s, size_t len, const char *others)
{
	for (size_t i = 0; i < len; i++)
		if (!is_alphanumeric_or_above(s[i]) && !strchr(others, s[i]))
			return 0;
	return len > 0;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
static int
is_literal(const char *s, size_t len)
{
	ip46 ip;
	size_t start = strncmp(s, "[IPv6:", 6) == 0 ? 6 : 1, n;

	if (len < 2 || s[0] != '[')
		return 0;
	n = ip46_scan(s + start, &ip);
	return n > 0 && start + n == len - 1 && s[len - 1] == ']';
}

static int
is_host(const char *s, size_t len)
{
	return is_made_of(s, len, ".-_") || is_literal(s, len);
}

static int
is_address(const char *s, size_t len)
{
	const char *at = strrchr(s, '@');
	size_t local = at ? (size_t)(at - s) : len;

	if (*s == '^' || strstr(s, ".*"))
		return 0;
	return (at == s || is_made_of(s, local, "!#$%&'*+-/=?^_`{|}~.")) && (!at || is_host(at + 1, len - local - 1));
}

static int
is_expression(const char *entry, size_t len, enum expressions_kind kind)
{
	return kind == EXPRESSIONS_OF_HOSTS ? !is_host(entry, len) : !is_address(entry, len);
}

/* --- limits -------------------------------------------------------------------------- */

/* The last octet of the bracket expression at s. */
static const char *
end_of_bracket(const char *s)
{
	s += s[1] == '^' ? 2 : 1;
	s += *s == ']';
	for (; *s && *s != ']'; s++)
		if (*s == '[' && s[1] && strchr(":.=", s[1])) {	/* "[:alpha:]" */
			char end[] = { s[1], ']', '\0' };
			const char *close = strstr(s + 2, end);

			if (close)
				s = close + 1;
		}
	return *s ? s : s - 1;
}

/* How often the interval at *s, "{2}", "{2,}" or "{2,3}", writes out what is before it; *s moves to its last octet. 1 if it
 * is none. */
static size_t
interval_times(const char **s)
{
	size_t n = 0, most = 0;
	const char *c = *s + 1;

	if (*c < '0' || *c > '9')
		return 1;
	for (; (*c >= '0' && *c <= '9') || *c == ','; c++) {
		n = *c == ',' ? 0 : n > EXPRESSION_ATOMS_MAX ? n : n * 10 + (size_t)(*c - '0');
		most = n > most ? n : most;
	}
	most += c[-1] == ',';	/* the rest is repeated as with '*' */
	*s = *c ? c : c - 1;
	return most ? most : 1;
}

/* What speaks against an expression before it is compiled, or NULL. */
static const char *
find_excess(const char *s)
{
	size_t sums[EXPRESSION_LENGTH_MAX + 1] = { 0 };	/* atoms of each group that is open */
	size_t depth = 0, last = 0, times;

	if (strlen(s) > EXPRESSION_LENGTH_MAX)
		return "it is too long";
	for (; *s; s++) {
		if (*s == '(') {
			sums[++depth] = 0;
			continue;
		}
		times = *s == '+' ? 2 : *s == '{' ? interval_times(&s) : 1;
		if (times > 1) {
			sums[depth] += last * (times - 1);
			last *= times;
		} else {
			last = *s == ')' && depth ? sums[depth--] + 1 : 1;
			sums[depth] += last;
			if (*s == '\\' && s[1] >= '0' && s[1] <= '9')
				return "it has a back reference";
			if (*s == '[')
				s = end_of_bracket(s);
			else if (*s == '\\' && s[1])
				s++;
		}
		if (sums[depth] > EXPRESSION_ATOMS_MAX)
			return "it repeats too much";
	}
	return NULL;
}

/* --- compiling and matching ------------------------------------------------------------ */

static int
compile(regex_t *compiled, const char *text)
{
	return regcomp(compiled, text, REG_EXTENDED | REG_ICASE | REG_NOSUB);
}

/* Adds an entry, or tells what is wrong with it. Returns 1, or 0: no memory. */
static int
add(struct expressions *e, const char *entry, void (*bad)(void *data, const char *entry, const char *why), void *data)
{
	struct expression x = { .text = entry + (*entry == '!'), .is_negated = *entry == '!' };
	const char *why = e->count == EXPRESSIONS_MAX ? "there are too many" : find_excess(x.text);
	char text[128];
	int r;

	if (!why && (r = compile(&x.compiled, x.text)) != 0) {
		if (r == REG_ESPACE)
			return 0;
		regerror(r, &x.compiled, text, sizeof text);
		why = text;
	}
	if (why)
		bad(data, entry, why);
	else
		e->list[e->count++] = x;
	return 1;
}

int
expressions_read(struct expressions *e, const char *entries, size_t len, enum expressions_kind kind,
    void (*bad)(void *data, const char *entry, const char *why), void *data)
{
	*e = (struct expressions){ NULL, 0 };
	for (size_t i = 0, n; i < len; i += n + 1) {
		n = strlen(entries + i);
		if (!is_expression(entries + i, n, kind))
			continue;
		if (!e->list)
			e->list = calloc(EXPRESSIONS_MAX, sizeof *e->list);
		if (!e->list || !add(e, entries + i, bad, data)) {
			expressions_free(e);
			errno = ENOMEM;
			return 0;
		}
	}
	return 1;
}

/* 1 found, 0 not, -1 no memory. */
static int
find(struct expression *x, const char *text, size_t len)
{
	regex_t fresh;
	int r;

	if (x->met >= EXPRESSION_RENEW && compile(&fresh, x->text) == 0) {
		regfree(&x->compiled);
		x->compiled = fresh;
		x->met = 0;
	}
	x->met += len;
	r = regexec(&x->compiled, text, 0, NULL, 0);
	return r == 0 ? 1 : r == REG_NOMATCH ? 0 : -1;
}

int
expressions_refuse(const struct expressions *e, const char *s, size_t len)
{
	char text[EXPRESSION_TEXT_MAX + 1];

	if (e->count == 0 || len > EXPRESSION_TEXT_MAX)
		return 0;
	memcpy(text, s, len);
	text[len] = '\0';
	for (size_t i = 0; i < e->count; i++)
		if (find(&e->list[i], text, len) == !e->list[i].is_negated)
			return 1;
	return 0;
}

void
expressions_free(struct expressions *e)
{
	for (size_t i = 0; i < e->count; i++)
		regfree(&e->list[i].compiled);
	free(e->list);
	*e = (struct expressions){ NULL, 0 };
}
