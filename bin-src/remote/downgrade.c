#include <string.h>
#include <strings.h>
#include "downgrade.h"
#include "utf8.h"

enum { ENCODED_MAX = 75 };	/* octets of an encoded line, before the '=' of a soft line break: RFC 2045 section 6.7 */

static const char header_is_8bit[] = "its header is not ASCII", is_signed[] = "it is signed",
    is_encoded[] = "a part that is encoded is not ASCII", is_not_encodable[] = "a part of its kind may not be encoded",
    is_binary_data[] = "it holds binary data", structure_is_broken[] = "its structure is broken",
    is_too_deep[] = "it has too many levels", has_too_many[] = "it has too many parts";

static struct downgrade_level *
innermost(struct downgrade *d)
{
	return &d->levels[d->depth - 1];
}

/* --- output ------------------------------------------------------------------------- */

/* Octets of one line, without its end. */
static void
put(struct downgrade *d, const char *s, size_t len)
{
	if (!len)
		return;
	if (d->is_line_start && d->with_dots && s[0] == '.')
		d->ready[d->ready_len++] = '.';
	memcpy(d->ready + d->ready_len, s, len);
	d->ready_len += len;
	d->is_line_start = 0;
}

static void
put_line_end(struct downgrade *d)
{
	d->ready[d->ready_len++] = '\r';
	d->ready[d->ready_len++] = '\n';
	d->is_line_start = 1;
}

static void
put_line(struct downgrade *d, const char *s)
{
	put(d, s, strlen(s));
	put_line_end(d);
}

static void
put_as_it_is(struct downgrade *d)
{
	put(d, d->piece, d->piece_len);
	if (d->is_last)
		put_line_end(d);
}

/* Text that is no part. Without its octets a line could be a boundary. */
static void
put_questionable(struct downgrade *d)
{
	if (utf8_is_8bit(d->piece, d->piece_len)) {
		if (d->is_first && d->piece[0] == '-')
			d->piece[0] = '?';
		for (size_t i = 0; i < d->piece_len; i++)
			if ((unsigned char)d->piece[i] > 127)
				d->piece[i] = '?';
	}
	put_as_it_is(d);
}

/* One octet, quoted-printable. is_end: a blank here may end the line. */
static void
put_octet(struct downgrade *d, unsigned char c, int is_end)
{
	static const char hex[] = "0123456789ABCDEF";
	int is_plain = c == ' ' || c == '\t' ? !is_end : c > 32 && c < 127 && c != '=';
	char octets[3] = { '=', hex[c >> 4], hex[c & 15] };

	if (d->column + (is_plain ? 1 : 3) > ENCODED_MAX) {
		put_line(d, "=");
		d->column = 0;
	}
	if (!d->column && c == '-')
		is_plain = 0;
	if (is_plain)
		octets[0] = (char)c;
	put(d, octets, is_plain ? 1 : 3);
	d->column += is_plain ? 1 : 3;
}

static void
put_encoded(struct downgrade *d)
{
	for (size_t i = 0; i < d->piece_len; i++)
		put_octet(d, (unsigned char)d->piece[i], i + 1 == d->piece_len);
	if (d->is_last) {
		put_line_end(d);
		d->column = 0;
	}
}

/* --- 8-bit octets ---------------------------------------------------------------------- */

static int
has_8bit(const struct downgrade *d, unsigned int number)
{
	return number < DOWNGRADE_PARTS_MAX && d->has_8bit[number / 8] >> number % 8 & 1;
}

static void
mark_levels(struct downgrade *d)
{
	for (unsigned int i = 0; i < d->depth; i++) {
		unsigned int number = d->levels[i].number;

		if (number >= DOWNGRADE_PARTS_MAX)
			d->cannot = has_too_many;
		else
			d->has_8bit[number / 8] |= (unsigned char)(1 << number % 8);
	}
}

/* A piece of a body: what it means for all it lies in. */
static void
mark_body(struct downgrade *d)
{
	struct downgrade_level *l = innermost(d);

	if (l->is_binary && (d->line_len > DOWNGRADE_LINE_MAX || memchr(d->piece, '\0', d->piece_len)))
		l->cannot = is_binary_data;
	if (utf8_is_8bit(d->piece, d->piece_len))
		mark_levels(d);
	for (unsigned int i = 0; i < d->depth; i++)
		if (d->levels[i].cannot && has_8bit(d, d->levels[i].number))
			d->cannot = d->levels[i].cannot;
}

/* --- fields ------------------------------------------------------------------------------ */

struct words { const char *s, *end; };

/* Blanks and comments, RFC 5322 section 3.2.2. What stands next is returned, 0 at the end. */
static char
next_word(struct words *w)
{
	unsigned int comments = 0;

	for (; w->s < w->end; w->s++)
		if (*w->s == '(')
			comments++;
		else if (comments && *w->s == ')')
			comments--;
		else if (comments && *w->s == '\\' && w->s + 1 < w->end)
			w->s++;
		else if (!comments && *w->s != ' ' && *w->s != '\t')
			return *w->s;
	return 0;
}

/* A token of RFC 2045 section 5.1. Returns its octets, 0: there is none. */
static size_t
take_token(struct words *w, const char **token)
{
	next_word(w);
	*token = w->s;
	while (w->s < w->end && *w->s > 32 && *w->s < 127 && !strchr("()<>@,;:\\\"/[]?=", *w->s))
		w->s++;
	return (size_t)(w->s - *token);
}

static int
take_octet(struct words *w, char c)
{
	if (next_word(w) != c)
		return 0;
	w->s++;
	return 1;
}

static int
is_word(const char *s, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

/* The value of a parameter, quoted or not; without quotes any octets up to a blank or ';', as many write them. value has
 * DOWNGRADE_FIELD_MAX octets of room. Returns 0 if it makes no sense. */
static int
take_value(struct words *w, char *value, size_t *len)
{
	int is_quoted = next_word(w) == '"';

	*len = 0;
	if (!is_quoted) {
		while (w->s < w->end && !strchr(" \t;\"", *w->s))
			value[(*len)++] = *w->s++;
		return *len > 0;
	}
	for (w->s++; w->s < w->end && *w->s != '"'; w->s++) {
		if (*w->s == '\\' && w->s + 1 < w->end)
			w->s++;
		value[(*len)++] = *w->s;
	}
	return w->s++ < w->end;
}

/* The boundary of a multipart, among parameters. Returns 0 if it is not clear what it is. */
static int
find_boundary(struct downgrade_level *l, struct words *w)
{
	char value[DOWNGRADE_FIELD_MAX];
	const char *name;
	size_t len, name_len;

	while (take_octet(w, ';')) {
		if (!(name_len = take_token(w, &name)))
			continue;
		if (!take_octet(w, '=') || !take_value(w, value, &len))
			return 0;
		if (!is_word(name, name_len, "boundary"))
			continue;
		if (l->boundary_len || !len || len > DOWNGRADE_BOUNDARY_MAX || value[len - 1] == ' ' || value[len - 1] == '\t')
			return 0;
		memcpy(l->boundary, value, len);
		l->boundary_len = len;
	}
	return l->boundary_len && !next_word(w);
}

/* What a Content-Type says. A word without '/' is none, and what it stands for is text (RFC 2045 section 5.2). */
static void
judge_type(struct downgrade_level *l, const struct downgrade_field *field)
{
	struct words w = { .s = field->s, .end = field->s + field->len };
	const char *type, *subtype;
	size_t len = take_token(&w, &type), subtype_len;

	if (!take_octet(&w, '/')) {
		if (!len || (next_word(&w) && *w.s != ';'))
			l->cannot = structure_is_broken;
		return;
	}
	subtype_len = take_token(&w, &subtype);
	if (is_word(type, len, "multipart")) {
		l->kind = DOWNGRADE_MULTIPART;
		l->is_digest = is_word(subtype, subtype_len, "digest");
		if (!find_boundary(l, &w))
			l->cannot = structure_is_broken;
		else if (is_word(subtype, subtype_len, "signed"))
			l->cannot = is_signed;
	} else if (is_word(type, len, "message")) {
		if (is_word(subtype, subtype_len, "rfc822"))
			l->kind = DOWNGRADE_MESSAGE;
		else if (subtype_len < 6 || strncasecmp(subtype, "global", 6) != 0)	/* RFC 6532 section 3.7, RFC 6533 */
			l->cannot = is_not_encodable;
	} else if (!len || !subtype_len)
		l->cannot = structure_is_broken;
}

/* What a Content-Transfer-Encoding says. */
static void
judge_encoding(struct downgrade_level *l, const struct downgrade_field *field)
{
	struct words w = { .s = field->s, .end = field->s + field->len };
	const char *token;
	size_t len = take_token(&w, &token);

	l->is_binary = is_word(token, len, "binary");
	if (!len || next_word(&w))
		l->cannot = structure_is_broken;
	else if (!l->is_binary && !is_word(token, len, "7bit") && !is_word(token, len, "8bit"))
		l->cannot = is_encoded;
}

/* The header is over: what its body is. Where that is not clear it is taken for a leaf. */
static void
judge_header(struct downgrade *d)
{
	struct downgrade_level *l = innermost(d);

	if (d->type.count)
		judge_type(l, &d->type);
	else if (l->is_in_digest)
		l->kind = DOWNGRADE_MESSAGE;
	if (d->encoding.count && !l->cannot)
		judge_encoding(l, &d->encoding);
	if (d->is_broken || d->type.count > 1 || d->encoding.count > 1)
		l->cannot = structure_is_broken;
	if (l->kind != DOWNGRADE_LEAF && d->depth == DOWNGRADE_DEPTH_MAX)
		l->cannot = is_too_deep;
	if (l->cannot && l->cannot != is_signed)
		l->kind = DOWNGRADE_LEAF;
}

/* --- headers --------------------------------------------------------------------------------- */

static void
enter(struct downgrade *d, int is_message, int is_in_digest)
{
	d->levels[d->depth++] = (struct downgrade_level){
		.number = d->parts++, .is_message = is_message, .is_in_digest = is_in_digest,
	};
	d->in_header = 1;
	d->type.len = d->encoding.len = d->version.len = 0;
	d->type.count = d->encoding.count = d->version.count = 0;
	d->field = NULL;
	d->has_field = d->is_dropped = d->is_broken = 0;
}

/* A field begins. Returns how many octets its name and the colon have, 0: it is none (RFC 5322 section 2.2). */
static size_t
begin_field(struct downgrade *d)
{
	const struct { const char *name; struct downgrade_field *field; } known[] = {
		{ "Content-Type", &d->type }, { "Content-Transfer-Encoding", &d->encoding }, { "MIME-Version", &d->version },
	};
	size_t name = 0, at;

	while (name < d->piece_len && d->piece[name] > 32 && d->piece[name] < 127 && d->piece[name] != ':')
		name++;
	for (at = name; at < d->piece_len && (d->piece[at] == ' ' || d->piece[at] == '\t');)
		at++;
	d->field = NULL;
	d->has_field = 1;
	if (!name || at == d->piece_len || d->piece[at] != ':')
		return 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (is_word(d->piece, name, known[i].name)) {
			d->field = known[i].field;
			d->field->count++;
		}
	return at + 1;
}

/* Keeps the piece but for the octets before from. */
static void
keep_field(struct downgrade *d, size_t from)
{
	struct downgrade_field *f = d->field;
	size_t len = d->piece_len - from;

	if (!f)
		return;
	if (len > sizeof f->s - f->len || memchr(d->piece, '\0', d->piece_len)) {
		d->is_broken = 1;
		return;
	}
	memcpy(f->s + f->len, d->piece + from, len);
	f->len += len;
}

/* What has to be said of a body that is converted. */
static void
put_fields(struct downgrade *d)
{
	const struct downgrade_level *l = innermost(d);

	if (l->is_message && !d->version.count)
		put_line(d, "MIME-Version: 1.0");
	if (l->kind == DOWNGRADE_LEAF) {
		if (!d->type.count)
			put_line(d, "Content-Type: text/plain; charset=unknown-8bit");
		put_line(d, "Content-Transfer-Encoding: quoted-printable");
	} else if (d->encoding.count)
		put_line(d, "Content-Transfer-Encoding: 7bit");
}

static void
end_header(struct downgrade *d)
{
	const struct downgrade_level *l = innermost(d);

	judge_header(d);
	if (has_8bit(d, l->number))
		put_fields(d);
	put_line_end(d);
	d->in_header = 0;
	d->column = 0;
	if (l->kind == DOWNGRADE_MESSAGE)
		enter(d, 1, 0);
}

static void
take_header(struct downgrade *d)
{
	size_t from = 0;

	if (d->is_first && d->is_last && !d->piece_len) {
		end_header(d);
		return;
	}
	if (d->is_marking && utf8_is_8bit(d->piece, d->piece_len))
		d->cannot = header_is_8bit;
	if (d->is_first && (!d->has_field || (d->piece[0] != ' ' && d->piece[0] != '\t'))) {
		from = begin_field(d);
		if (!from)
			d->is_broken = 1;
		d->is_dropped = d->field == &d->encoding && has_8bit(d, innermost(d)->number);
	}
	keep_field(d, from);
	if (!d->is_dropped)
		put_as_it_is(d);
}

/* --- bodies -------------------------------------------------------------------------------------- */

/* Whether the piece is a boundary of a multipart: 1, 2: its last; 0. */
static int
is_boundary(struct downgrade *d, const struct downgrade_level *l)
{
	const char *s = d->piece + 2 + l->boundary_len, *end = d->piece + d->piece_len;
	int is_close;

	if (l->kind != DOWNGRADE_MULTIPART || l->is_closed || d->piece_len < 2 + l->boundary_len ||
	    memcmp(d->piece, "--", 2) != 0 || memcmp(d->piece + 2, l->boundary, l->boundary_len) != 0)
		return 0;
	is_close = end - s >= 2 && memcmp(s, "--", 2) == 0;
	if (is_close)
		s += 2;
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	if (s < end)
		return 0;
	if (!d->is_last)
		d->cannot = structure_is_broken;	/* blanks without end */
	return is_close ? 2 : 1;
}

/* The boundaries of what lies around a multipart end it as well, RFC 2046 section 5.1.2. Returns 0 if the line is none. */
static int
take_boundary(struct downgrade *d)
{
	for (unsigned int i = d->depth; i-- > 0;) {
		struct downgrade_level *l = &d->levels[i];
		int which = is_boundary(d, l);

		if (!which)
			continue;
		put_as_it_is(d);
		d->depth = i + 1;
		d->in_header = 0;
		l->is_closed = which == 2;
		if (which == 1)
			enter(d, 0, l->is_digest);
		return 1;
	}
	return 0;
}

static void
take_body(struct downgrade *d)
{
	const struct downgrade_level *l = innermost(d);

	if (d->is_marking)
		mark_body(d);
	if (l->kind != DOWNGRADE_LEAF)
		put_questionable(d);
	else if (has_8bit(d, l->number))
		put_encoded(d);
	else
		put_as_it_is(d);
}

/* --- all of it -------------------------------------------------------------------------------------- */

/* The next octets of a line into piece. The source has CR in line ends only. Returns 1, 0 at the end, -1 with errno. */
static ssize_t
read_piece(struct downgrade *d)
{
	ssize_t n;

	d->is_last = 0;
	d->piece_len = 0;
	while (!d->is_last && d->piece_len < sizeof d->piece) {
		if (d->in_at == d->in_len) {
			if ((n = mail_data_next(d->source, d->in, sizeof d->in)) <= 0)
				return n;
			d->in_at = 0;
			d->in_len = (size_t)n;
		}
		if (d->in[d->in_at] == '\n')
			d->is_last = 1;
		else if (d->in[d->in_at] != '\r')
			d->piece[d->piece_len++] = d->in[d->in_at];
		d->in_at++;
	}
	return 1;
}

/* Makes the next piece ready. The same returns. */
static ssize_t
take_piece(struct downgrade *d)
{
	ssize_t n = read_piece(d);

	d->ready_at = d->ready_len = 0;
	if (n <= 0)
		return n;
	d->line_len = d->is_first ? d->piece_len : d->line_len + d->piece_len;
	if (!(d->is_first && take_boundary(d))) {
		if (d->in_header)
			take_header(d);
		else
			take_body(d);
	}
	d->is_first = d->is_last;
	return 1;
}

void
downgrade_rewind(struct downgrade *d, int with_dots)
{
	mail_data_rewind(d->source, 0);
	d->with_dots = with_dots;
	d->in_at = d->in_len = d->ready_at = d->ready_len = 0;
	d->depth = d->parts = d->column = 0;
	d->line_len = 0;
	d->is_first = d->is_line_start = 1;
	d->has_ended = 0;
	enter(d, 1, 0);
}

ssize_t
downgrade_next(struct downgrade *d, char *out, size_t room)
{
	size_t len;

	while (d->ready_at == d->ready_len) {
		ssize_t n = take_piece(d);

		d->has_ended = n == 0;
		if (n <= 0)
			return n;
	}
	len = d->ready_len - d->ready_at;
	if (len > room)
		len = room;
	memcpy(out, d->ready + d->ready_at, len);
	d->ready_at += len;
	d->has_ended = d->ready_at == d->ready_len && d->in_at == d->in_len && d->source->has_ended;
	return (ssize_t)len;
}

enum downgrade_result
downgrade_begin(struct downgrade *d, struct mail_data *source)
{
	ssize_t n;

	d->source = source;
	d->cannot = NULL;
	d->wire_size = 0;
	memset(d->has_8bit, 0, sizeof d->has_8bit);
	for (d->is_marking = 1, downgrade_rewind(d, 0); (n = take_piece(d)) > 0;)
		if (d->cannot)
			return DOWNGRADE_CANNOT;
	d->is_marking = 0;
	if (n == 0)
		for (downgrade_rewind(d, 0); (n = take_piece(d)) > 0;)
			d->wire_size += d->ready_len;
	return n == 0 ? DOWNGRADE_READY : DOWNGRADE_UNREADABLE;
}
