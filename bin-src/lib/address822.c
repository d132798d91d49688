#include <errno.h>
#include <string.h>
#include "address822.h"

/* --- tokens ------------------------------------------------------------------ */

enum kind {
	END, MALFORMED,
	ATOM, QUOTED, LITERAL,	/* words */
	COMMENT,
	DOT, AT,		/* join words to an address */
	COMMA, SEMICOLON, COLON, LESS, GREATER,
};

struct token {
	enum kind kind;
	int blank;		/* 1: a blank stands before it */
	size_t start, end;	/* offsets in the text */
};

static int
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int
is_special(char c)
{
	return is_blank(c) || (c && strchr("()<>@,;:\".[]", c) != NULL);
}

static enum kind
special_kind(char c)
{
	switch (c) {
	case '.': return DOT;
	case '@': return AT;
	case ',': return COMMA;
	case ';': return SEMICOLON;
	case ':': return COLON;
	case '<': return LESS;
	case '>': return GREATER;
	default: return MALFORMED;	/* a ')' or ']' that closes nothing */
	}
}

/* Offset behind the octet that closes what opens at pos, or 0. nests: as comments do. */
static size_t
closing(const char *s, size_t pos, size_t len, char close, int nests)
{
	char open = s[pos++];
	size_t depth = 1;

	for (; pos < len; pos++) {
		if (s[pos] == '\\')
			pos++;
		else if (s[pos] == close) {
			if (--depth == 0)
				return pos + 1;
		} else if (nests && s[pos] == open)
			depth++;
	}
	return 0;
}

static size_t
atom_end(const char *s, size_t pos, size_t len)
{
	while (pos < len && !is_special(s[pos]))
		pos += s[pos] == '\\' ? 2 : 1;
	return pos <= len ? pos : 0;
}

static struct token
token_at(const char *s, size_t pos, size_t len)
{
	struct token t = { .kind = END, .start = pos };

	while (t.start < len && is_blank(s[t.start]))
		t.start++;
	t.blank = t.start > pos;
	t.end = t.start;
	if (t.start == len)
		return t;
	switch (s[t.start]) {
	case '(':
		t.kind = COMMENT;
		t.end = closing(s, t.start, len, ')', 1);
		break;
	case '"':
		t.kind = QUOTED;
		t.end = closing(s, t.start, len, '"', 0);
		break;
	case '[':
		t.kind = LITERAL;
		t.end = closing(s, t.start, len, ']', 0);
		break;
	default:
		if (is_special(s[t.start])) {
			t.kind = special_kind(s[t.start]);
			t.end = t.start + 1;
		} else {
			t.kind = ATOM;
			t.end = atom_end(s, t.start, len);
		}
	}
	if (!t.end)
		t.kind = MALFORMED;
	return t;
}

/* --- printing ---------------------------------------------------------------- */

static const char fold[] = "\n  ";
enum { FOLD = sizeof fold - 1, INDENT = FOLD - 1 };

void
address822_printer_init(struct address822_printer *p, stralloc *out, size_t column)
{
	*p = (struct address822_printer){ .out = out, .column = column, .indent = column };
}

static void
put(struct address822_printer *p, const char *s, size_t len)
{
	const char *lf = len ? memrchr(s, '\n', len) : NULL;

	if (p->failed)
		return;
	if (p->max && p->out->len + len > p->max)
		p->failed = EMSGSIZE;
	else if (!stralloc_catb(p->out, s, len))
		p->failed = ENOMEM;
	if (lf) {	/* a comment or quoted string that is folded itself */
		p->column = (size_t)(s + len - lf) - 1;
		p->indent = p->blank_at = 0;
	} else
		p->column += len;
}

static void
put_fold(struct address822_printer *p)
{
	put(p, fold, FOLD);
	p->indent = INDENT;
}

/* Turns the blank before the current element into a fold. */
static void
fold_element(struct address822_printer *p)
{
	if (p->failed)
		return;
	if (!stralloc_insertb(p->out, p->blank_at + 1, fold + 1, INDENT)) {
		p->failed = ENOMEM;
		return;
	}
	p->out->s[p->blank_at] = '\n';
	p->column = p->out->len - p->blank_at - 1;
	p->indent = INDENT;
	p->blank_at = 0;
}

void
address822_print(struct address822_printer *p, const char *s, size_t len, int blank)
{
	size_t need = len + (blank ? 1 : 0);

	if (p->column + need > ADDRESS822_COLUMNS && p->blank_at && p->blank_at < p->out->len)
		fold_element(p);
	if (blank && p->column + need > ADDRESS822_COLUMNS && p->column > p->indent)
		put_fold(p);
	else if (blank)
		put(p, " ", 1);
	put(p, s, len);
}

void
address822_print_comma(struct address822_printer *p)
{
	address822_print(p, ",", 1, 0);
	p->blank_at = p->failed ? 0 : p->out->len;
}

/* --- reading ----------------------------------------------------------------- */

struct reader {
	const char *s;
	size_t len, pos;
	address822_each *each;
	void *data;
	struct address822_printer *printer;
	stralloc address;	/* the one that is being read */
	stralloc comments;	/* those inside it, to be printed behind it */
	unsigned int words, words_before_at;	/* of address, before its first '@'; more than a few are not counted */
	int has_at, joined;	/* joined: '.' or '@' was last */
	int open;		/* an element is complete and no comma followed */
	int fresh;		/* nothing was printed since the last separator */
	int in_group;
	int stopped;		/* -1 */
};

static void
print(struct reader *r, const char *s, size_t len, int blank)
{
	if (r->printer)
		address822_print(r->printer, s, len, blank || r->fresh);
	r->fresh = 0;
}

static void
print_token(struct reader *r, const struct token *t, int blank)
{
	print(r, r->s + t->start, t->end - t->start, blank);
}

static void
print_comma(struct reader *r)
{
	if (r->printer && r->fresh)
		address822_print(r->printer, "", 0, 1);	/* an element without anything in it */
	if (r->printer)
		address822_print_comma(r->printer);
	r->fresh = 1;
	r->open = 0;
}

/* An element begins: the comma that should stand before it is put in. */
static void
begin_element(struct reader *r)
{
	if (r->open)
		print_comma(r);
}

static int
append(struct reader *r, stralloc *to, const char *s, size_t len)
{
	if (stralloc_catb(to, s, len))
		return 1;
	r->stopped = 1;
	return 0;
}

/* Octets of a line end at s that unfolding drops: LF, CR LF, also with a backslash before; 0 if there is none. */
static size_t
fold_at(const char *s, size_t len)
{
	size_t n = s[0] == '\\' ? 1 : 0;

	if (n < len && s[n] == '\r')
		n++;
	return n < len && s[n] == '\n' ? n + 1 : 0;
}

/* Appends a word in header form: unfolded, a word with backslashes as a quoted string. */
static int
append_word(struct reader *r, const struct token *t)
{
	const char *s = r->s + t->start;
	size_t len = t->end - t->start;
	int quote = t->kind == ATOM && memchr(s, '\\', len);

	if (r->address.len + len + 2 > ADDRESS822_MAX)
		return 0;
	if (quote && !append(r, &r->address, "\"", 1))
		return 0;
	for (size_t i = 0, n; i < len; i += n) {
		size_t drop = fold_at(s + i, len - i);

		n = drop ? drop : s[i] == '\\' ? 2 : 1;
		if (!drop && !append(r, &r->address, s + i, n))
			return 0;
	}
	return !quote || append(r, &r->address, "\"", 1);
}

/* Adds a word, '.' or '@' to the address. Returns 0 if the address is too long, or r->stopped. */
static int
add_to_address(struct reader *r, const struct token *t)
{
	if (t->kind == AT && !r->has_at) {
		r->has_at = 1;
		r->words_before_at = r->words;
	}
	r->joined = t->kind == AT || t->kind == DOT;
	if (!r->joined && r->words < 2)
		r->words++;
	return append_word(r, t);
}

static int
keep_comment(struct reader *r, const struct token *t)
{
	return (!r->comments.len || append(r, &r->comments, " ", 1)) &&
	    append(r, &r->comments, r->s + t->start, t->end - t->start);
}

/* The address is complete: says it, prints it. It needs a local-part: "@host" and "." are malformed. */
static int
end_address(struct reader *r, int angle)
{
	if ((r->address.len || !angle) && !(r->has_at ? r->words_before_at : r->words))
		return 0;
	if (r->each && !r->each(r->data, &r->address)) {
		r->stopped = 1;
		return 0;
	}
	if (angle && (!stralloc_insertb(&r->address, 0, "<", 1) || !append(r, &r->address, ">", 1))) {
		r->stopped = 1;
		return 0;
	}
	print(r, r->address.s, r->address.len, 1);
	if (r->comments.len)
		print(r, r->comments.s, r->comments.len, 1);
	r->address.len = r->comments.len = 0;
	r->words = r->words_before_at = 0;
	r->has_at = r->joined = 0;
	r->open = 1;
	return 1;
}

/* What ends the run of words at r->pos: its offset in *end. */
static enum kind
run_end(const struct reader *r, size_t *end)
{
	struct token t;

	for (*end = r->pos; ; *end = t.end) {
		t = token_at(r->s, *end, r->len);
		if (t.kind == END || t.kind == MALFORMED || t.kind >= COMMA) {
			*end = t.start;
			return t.kind;
		}
	}
}

/* Whether a group may begin here, its name ending at end: not in a group, and not with an '@' in its name, for a comma
 * may be missing before the name, and the address there would be lost. */
static int
may_begin_group(const struct reader *r, size_t end)
{
	struct token t;

	for (size_t pos = r->pos; pos < end; pos = t.end) {
		t = token_at(r->s, pos, r->len);
		if (t.kind == AT)
			return 0;
	}
	return !r->in_group;
}

/* A display name or the name of a group, up to end. Returns 1 if it holds a word. */
static int
take_phrase(struct reader *r, size_t end)
{
	int blank = 1, words = 0;

	while (r->pos < end) {
		struct token t = token_at(r->s, r->pos, r->len);

		if (t.start >= end)
			break;
		/* a comment before the first word belongs to what came before */
		if (t.kind != COMMENT) {
			begin_element(r);
			words = 1;
		}
		print_token(r, &t, blank || t.blank || t.kind == COMMENT);
		blank = t.kind == COMMENT;
		r->pos = t.end;
	}
	r->pos = end;
	return words;
}

/* Addresses without angle brackets, up to end. */
static int
take_bare(struct reader *r, size_t end)
{
	while (r->pos < end) {
		struct token t = token_at(r->s, r->pos, r->len);

		if (t.start >= end)
			break;
		r->pos = t.end;
		if (t.kind == COMMENT) {
			if (!r->address.len)
				print_token(r, &t, 1);
			else if (!keep_comment(r, &t))
				return 0;
			continue;
		}
		if (r->address.len && !r->joined && t.kind != DOT && t.kind != AT && !end_address(r, 0))
			return 0;
		if (!r->address.len)
			begin_element(r);
		if (!add_to_address(r, &t))
			return 0;
	}
	r->pos = end;
	return !r->address.len || end_address(r, 0);
}

/* Skips a source route, RFC 5322 section 4.4: "@a,@b:" before the address. Without ':' it is none. */
static void
skip_route(struct reader *r)
{
	size_t pos = r->pos;
	struct token t = token_at(r->s, pos, r->len);

	while (t.kind == COMMENT || t.kind == COMMA)
		t = token_at(r->s, t.end, r->len);
	if (t.kind != AT)
		return;
	while (t.kind != COLON) {
		if (t.kind == END || t.kind == MALFORMED || t.kind == SEMICOLON || t.kind == LESS || t.kind == GREATER)
			return;
		t = token_at(r->s, t.end, r->len);
	}
	r->pos = t.end;
}

/* What stands in angle brackets; r->pos is behind '<'. */
static int
take_angle(struct reader *r)
{
	struct token t;

	begin_element(r);
	for (skip_route(r); ; r->pos = t.end) {
		t = token_at(r->s, r->pos, r->len);
		if (t.kind == GREATER)
			break;
		if (t.kind == COMMENT) {
			if (!keep_comment(r, &t))
				return 0;
			continue;
		}
		if (t.kind < ATOM || t.kind >= COMMA)
			return 0;
		if (r->address.len && !r->joined && t.kind != DOT && t.kind != AT)
			return 0;	/* two words */
		if (!add_to_address(r, &t))
			return 0;
	}
	r->pos = t.end;
	return end_address(r, 1);
}

/* The colon behind a group's name. */
static int
take_colon(struct reader *r)
{
	if (r->printer)
		address822_print(r->printer, ":", 1, 0);
	r->in_group = r->fresh = 1;
	r->pos++;
	return 1;
}

static void
take_separator(struct reader *r, enum kind kind)
{
	r->pos++;
	if (kind == SEMICOLON && r->in_group) {
		print(r, ";", 1, 0);
		r->in_group = 0;
		r->open = 1;
		return;
	}
	print_comma(r);
}

static int
read_list(struct reader *r)
{
	for (;;) {
		size_t end;
		enum kind kind = run_end(r, &end);

		switch (kind) {
		case LESS:
			take_phrase(r, end);
			r->pos++;
			if (!take_angle(r))
				return 0;
			break;
		case COLON:
			if (!may_begin_group(r, end) || !take_phrase(r, end) || !take_colon(r))
				return 0;
			break;
		case COMMA:
		case SEMICOLON:
		case END:
			if (!take_bare(r, end))
				return 0;
			if (kind == END)
				return 1;
			take_separator(r, kind);
			break;
		default:
			return 0;
		}
	}
}

int
address822_read(const char *s, size_t len, address822_each *each, void *data, struct address822_printer *printer)
{
	struct reader r = { .s = s, .len = len, .each = each, .data = data, .printer = printer, .fresh = 1 };
	int ok = read_list(&r);

	stralloc_free(&r.address);
	stralloc_free(&r.comments);
	if (printer && printer->failed) {
		errno = printer->failed;
		return -1;
	}
	return r.stopped ? -1 : ok;
}

/* --- one address in header form ----------------------------------------------- */

size_t
address822_at(const char *s, size_t len)
{
	size_t at = len, pos = 0;

	while (pos < len) {
		struct token t = token_at(s, pos, len);

		if (t.kind == AT)
			at = t.start;
		pos = t.end > pos ? t.end : pos + 1;
	}
	return at;
}

static char
last(const stralloc *address)
{
	return address->len ? address->s[address->len - 1] : '\0';
}

/* An empty default adds nothing. */
static int
add_default(stralloc *address, char before, const struct address822_defaults *d, enum address822_default which)
{
	const char *value = d->get(d->data, which);

	if (!value)
		return 0;
	return !*value || (stralloc_append(address, before) && stralloc_cats(address, value));
}

int
address822_complete(stralloc *a, const struct address822_defaults *d)
{
	size_t at;

	/* a quoted string ends in '"', so what ends in a special is that special */
	if (!a->len || (a->len >= 3 && !memcmp(a->s + a->len - 3, "@[]", 3)))
		return 1;
	if (last(a) == '.')
		a->len--;
	if (last(a) == '@')
		a->len--;
	at = address822_at(a->s, a->len);
	if (at == a->len && !add_default(a, '@', d, ADDRESS822_DEFAULTHOST))
		return 0;
	if (at == a->len)
		return 1;
	if (last(a) == '+') {
		a->len--;
		if (!add_default(a, '.', d, ADDRESS822_PLUSDOMAIN))
			return 0;
	}
	if (!memchr(a->s + at, '.', a->len - at) && last(a) != ']')
		return add_default(a, '.', d, ADDRESS822_DEFAULTDOMAIN);
	return 1;
}

int
address822_unquote(stralloc *to, const char *s, size_t len)
{
	int quoted = 0, literal = 0;

	if (!stralloc_readyplus(to, len))
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (literal)
			literal = s[i] != ']';
		else if (s[i] == '"') {
			quoted = !quoted;
			continue;
		} else if (s[i] == '\\' && i + 1 < len)
			i++;
		else if (s[i] == '[' && !quoted)
			literal = 1;
		to->s[to->len++] = s[i];
	}
	return 1;
}

/* Dot-atoms stay as they are, also those of RFC 6532, and those with a dot too many. */
static int
needs_quotes(const char *s, size_t len)
{
	if (!len)
		return 1;
	for (size_t i = 0; i < len; i++)
		if (s[i] != '.' && (is_special(s[i]) || s[i] == '\\' || (s[i] >= 0 && s[i] < 32) || s[i] == 127))
			return 1;
	return 0;
}

int
address822_quote(stralloc *to, const char *s, size_t len)
{
	if (!needs_quotes(s, len))
		return stralloc_catb(to, s, len);
	if (!stralloc_readyplus(to, 2 * len + 2))
		return 0;
	to->s[to->len++] = '"';
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '"' || s[i] == '\\')
			to->s[to->len++] = '\\';
		to->s[to->len++] = s[i];
	}
	to->s[to->len++] = '"';
	return 1;
}
