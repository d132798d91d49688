#include <string.h>
#include <strings.h>
#include "ascii_field.h"
#include "encoded_words.h"
#include "mime_words.h"
#include "utf8.h"

/* A field that is being written. */
struct printer {
	stralloc *to;
	size_t column;	/* octets of the current line */
};

static int
put(struct printer *p, const char *s, size_t len)
{
	p->column += len;
	return stralloc_catb(p->to, s, len);
}

static int
put_fold(struct printer *p)
{
	p->column = 1;
	return stralloc_catb(p->to, "\r\n ", 3);
}

/* s behind a blank, or on the next line. */
static int
put_next(struct printer *p, const char *s, size_t len)
{
	return (p->column + 1 + len > ENCODED_WORDS_COLUMNS ? put_fold(p) : put(p, " ", 1)) && put(p, s, len);
}

static int
put_words(struct printer *p, const stralloc *text)
{
	return encoded_words(p->to, &p->column, text->s, text->len);
}

/* --- addresses: RFC 5322 section 3.4 -------------------------------------------------------------------- */

static const char no_address[] = "<invalid@internationalized-address.invalid>";

/* An element of a list: a mailbox, or the name of a group. */
struct element {
	const char *raw;	/* as it is written */
	size_t raw_len;
	stralloc text;		/* its words, without quotes, comments and what is in angle brackets */
	stralloc bare;		/* the same with quotes */
	stralloc angle;		/* with its brackets; empty: there is none */
	stralloc comment;	/* without its parentheses */
};

static void
element_free(struct element *e)
{
	stralloc_free(&e->text);
	stralloc_free(&e->bare);
	stralloc_free(&e->angle);
	stralloc_free(&e->comment);
}

/* Each of these says where what begins at s ends: behind its last octet, or at the end of the text. */

static const char *
skip_quoted(const char *s, const char *end)
{
	for (s++; s < end; s++)
		if (*s == '\\' && s + 1 < end)
			s++;
		else if (*s == '"')
			return s + 1;
	return end;
}

static const char *
skip_comment(const char *s, const char *end)
{
	size_t depth = 0;

	for (; s < end; s++)
		if (*s == '\\' && s + 1 < end)
			s++;
		else if (*s == '(')
			depth++;
		else if (*s == ')' && --depth == 0)
			return s + 1;
	return end;
}

static const char *
skip_brackets(const char *s, const char *end, char close)
{
	while (s < end && *s != close)
		s = *s == '"' ? skip_quoted(s, end) : s + 1;
	return s < end ? s + 1 : end;
}

static const char *
skip_words(const char *s, const char *end)
{
	while (s < end && *s != ' ' && *s != '\t' && !(*s && strchr("\"(<[,;:", *s)))
		s++;
	return s;
}

/* A quoted string without its quotes. */
static int
cat_unquoted(stralloc *to, const char *s, const char *end)
{
	for (s++; s < end && *s != '"'; s++) {
		if (*s == '\\' && s + 1 < end)
			s++;
		if (!stralloc_catb(to, s, 1))
			return 0;
	}
	return 1;
}

/* Takes what begins at *s. Returns 1, or 0 with errno ENOMEM. */
static int
take_piece(struct element *e, const char **at, const char *end)
{
	const char *s = *at;

	switch (*s) {
	case '"':
		*at = skip_quoted(s, end);
		return cat_unquoted(&e->text, s, *at) && stralloc_catb(&e->bare, s, (size_t)(*at - s));
	case '(':
		*at = skip_comment(s, end);
		return stralloc_catb(&e->comment, s + 1, (size_t)(*at - s - 1) - (size_t)(*at - s > 1 && (*at)[-1] == ')'));
	case '<':
		*at = skip_brackets(s, end, '>');
		return stralloc_catb(&e->angle, s, (size_t)(*at - s));
	case '[':
		*at = skip_brackets(s, end, ']');
		break;
	case ' ':
	case '\t':
		*at = s + 1;
		break;
	default:
		*at = skip_words(s, end);
	}
	return stralloc_catb(&e->text, s, (size_t)(*at - s)) && stralloc_catb(&e->bare, s, (size_t)(*at - s));
}

static void
trim(stralloc *sa)
{
	while (sa->len && (sa->s[sa->len - 1] == ' ' || sa->s[sa->len - 1] == '\t'))
		sa->len--;
}

/* Reads up to one of , ; : and says in *stop which it was, 0: the end. Returns 1, or 0 with errno ENOMEM. */
static int
read_element(struct element *e, const char **at, const char *end, char *stop)
{
	e->text.len = e->bare.len = e->angle.len = e->comment.len = 0;
	while (*at < end && (**at == ' ' || **at == '\t'))
		++*at;
	e->raw = *at;
	while (*at < end && **at != ',' && **at != ';' && **at != ':')
		if (!take_piece(e, at, end))
			return 0;
	e->raw_len = (size_t)(*at - e->raw);
	while (e->raw_len && (e->raw[e->raw_len - 1] == ' ' || e->raw[e->raw_len - 1] == '\t'))
		e->raw_len--;
	trim(&e->text);
	trim(&e->bare);
	*stop = '\0';
	if (*at < end)
		*stop = *(*at)++;
	return 1;
}

/* An address that is not ASCII: RFC 6858 section 2.1. */
static int
put_invalid(struct printer *p, struct element *e)
{
	stralloc *name = e->bare.len ? &e->bare : &e->comment;

	if (e->angle.len) {
		name = &e->text;
		if ((name->len && !stralloc_catb(name, " ", 1)) || !stralloc_catb(name, e->angle.s, e->angle.len))
			return 0;
	}
	return put_words(p, name) && put_next(p, no_address, sizeof no_address - 1);
}

static int
put_element(struct printer *p, struct element *e, char stop)
{
	if (!utf8_is_8bit(e->raw, e->raw_len))
		return put(p, e->raw, e->raw_len);
	if (stop == ':')
		return put_words(p, &e->text);
	if (e->angle.len ? utf8_is_8bit(e->angle.s, e->angle.len) : utf8_is_8bit(e->bare.s, e->bare.len) || !e->bare.len)
		return put_invalid(p, e);
	if (e->angle.len)
		return put_words(p, e->text.len ? &e->text : &e->comment) && put_next(p, e->angle.s, e->angle.len);
	return put_words(p, &e->comment) && put_next(p, "<", 1) && put(p, e->bare.s, e->bare.len) && put(p, ">", 1);
}

static int
put_addresses(struct printer *p, const char *s, const char *end)
{
	struct element e = { .raw = s };
	int is_fine = 1, in_group = 0, needs_comma = 0;
	char stop;

	while (is_fine && s < end && (is_fine = read_element(&e, &s, end, &stop))) {
		if (e.raw_len) {
			is_fine = (!needs_comma || (put(p, ",", 1) && put_fold(p))) && put_element(p, &e, stop);
			needs_comma = 1;
		}
		if (stop == ':') {
			is_fine = is_fine && put(p, ": ", 2);
			in_group = 1;
			needs_comma = 0;
		} else if (stop == ';' && in_group) {
			is_fine = is_fine && put(p, ";", 1);
			in_group = 0;
			needs_comma = 1;
		}
	}
	element_free(&e);
	return is_fine;
}

/* --- parameters --------------------------------------------------------------------------------------- */

enum { PARAMETER_MAX = 900 };	/* octets of an encoded one: it is one line */

/* A parameter as RFC 2231 section 4 has it. Nothing, if it is too long, or is such a one already. */
static int
put_encoded(struct printer *p, const char *name, size_t name_len, const char *value, size_t len)
{
	static const char hex[] = "0123456789ABCDEF", as_it_is[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	char out[PARAMETER_MAX];
	size_t n = 0;

	if (memchr(name, '*', name_len) || name_len + sizeof "*=utf-8''" - 1 + 3 * len > sizeof out)
		return 1;
	memcpy(out, name, n = name_len);
	memcpy(out + n, "*=utf-8''", sizeof "*=utf-8''" - 1);
	n += sizeof "*=utf-8''" - 1;
	for (; len; value++, len--)
		if (*value && strchr(as_it_is, *value))
			out[n++] = *value;
		else {
			out[n++] = '%';
			out[n++] = hex[(unsigned char)*value >> 4];
			out[n++] = hex[(unsigned char)*value & 15];
		}
	return put(p, ";", 1) && put_next(p, out, n);
}

/* The parameters that make sense. value has room for all that is left of w. */
static int
put_parameters(struct printer *p, struct mime_words *w, char *value)
{
	const char *name;
	size_t name_len, len;
	int is_fine = 1;

	while (is_fine && mime_words_take_octet(w, ';')) {
		if (!(name_len = mime_words_take_token(w, &name)))
			continue;
		if (!mime_words_take_octet(w, '=') || !mime_words_take_value(w, value, &len))
			break;
		if (utf8_is_8bit(name, (size_t)(w->s - name)))
			is_fine = put_encoded(p, name, name_len, value, len);
		else
			is_fine = put(p, ";", 1) && put_next(p, name, (size_t)(w->s - name));
	}
	return is_fine;
}

/* The value is there; its octets up to the first ';' or comment are what it is. */
static int
put_with_parameters(struct printer *p, const char *s, const char *end)
{
	struct mime_words w = { .s = s, .end = end };
	stralloc value = STRALLOC_ZERO;
	int is_fine;

	while (w.s < end && *w.s != ';' && *w.s != '(')
		w.s++;
	is_fine = put(p, s, (size_t)(w.s - s)) && stralloc_ready(&value, (size_t)(end - w.s) + 1) && put_parameters(p, &w, value.s);
	stralloc_free(&value);
	return is_fine;
}

/* --- fields --------------------------------------------------------------------------------------------- */

enum kind { LEFT_OUT, ADDRESSES, PARAMETERS, TEXT };

static enum kind
kind_of(const char *name, size_t len)
{
	static const struct { const char *name; enum kind kind; } known[] = {
		{ "From", ADDRESSES }, { "Sender", ADDRESSES }, { "Reply-To", ADDRESSES }, { "To", ADDRESSES }, { "Cc", ADDRESSES },
		{ "Bcc", ADDRESSES }, { "Resent-From", ADDRESSES }, { "Resent-Sender", ADDRESSES }, { "Resent-To", ADDRESSES },
		{ "Resent-Cc", ADDRESSES }, { "Resent-Bcc", ADDRESSES }, { "Return-Path", ADDRESSES },
		{ "Content-Type", PARAMETERS }, { "Content-Disposition", PARAMETERS },
		{ "Subject", TEXT }, { "Comments", TEXT }, { "Content-Description", TEXT }, { "Organization", TEXT }, { "Thread-Topic", TEXT },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (mime_words_is(name, len, known[i].name))
			return known[i].kind;
	return len > 2 && strncasecmp(name, "X-", 2) == 0 ? TEXT : LEFT_OUT;
}

/* Its value, without line ends and the blanks around it. */
static int
unfold(stralloc *value, const char *s, const char *end)
{
	for (; s < end; s++) {
		if (*s == '\r' || *s == '\n' || (!value->len && (*s == ' ' || *s == '\t')))
			continue;
		if (!stralloc_catb(value, s, 1))
			return 0;
	}
	trim(value);
	return 1;
}

static int
put_value(struct printer *p, enum kind kind, const stralloc *value)
{
	const char *s = value->s, *end = s + value->len;

	return kind == ADDRESSES ? put_addresses(p, s, end) : kind == PARAMETERS ? put_with_parameters(p, s, end) : put_words(p, value);
}

int
ascii_field(stralloc *to, const char *field, size_t len)
{
	const char *end = field + len, *colon = memchr(field, ':', len), *name_end = colon;
	stralloc value = STRALLOC_ZERO;
	struct printer p = { .to = to };
	size_t before = to->len;
	enum kind kind;
	int is_fine;

	if (!utf8_is_8bit(field, len) || !utf8_is_valid(field, len))
		return stralloc_catb(to, field, len);
	while (name_end && name_end > field && (name_end[-1] == ' ' || name_end[-1] == '\t'))
		name_end--;
	kind = colon ? kind_of(field, (size_t)(name_end - field)) : LEFT_OUT;
	if (kind == LEFT_OUT || utf8_is_8bit(field, (size_t)(name_end - field)))
		return 1;
	is_fine = unfold(&value, colon + 1, end) && put(&p, field, (size_t)(colon + 1 - field)) && put(&p, " ", 1) &&
	    put_value(&p, kind, &value) && put(&p, "\r\n", 2);
	stralloc_free(&value);
	/* what is not understood is still not ASCII */
	if (is_fine && utf8_is_8bit(to->s + before, to->len - before))
		to->len = before;
	return is_fine;
}
