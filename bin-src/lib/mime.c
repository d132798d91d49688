#include <string.h>
#include <strings.h>
#include "mime.h"
#include "mime_words.h"
#include "utf8.h"

static const char is_signed[] = "it is signed",
    is_encoded[] = "a part that is encoded is not ASCII", is_not_encodable[] = "a part of its kind may not be encoded",
    structure_is_broken[] = "its structure is broken", is_too_deep[] = "it has too many levels";

struct mime_level *
mime_innermost(struct mime *m)
{
	return &m->levels[m->depth - 1];
}

/* --- what a header says of its body ------------------------------------------------------------ */

/* The boundary of a multipart, among parameters. Returns 0 if it is not clear what it is. */
static int
find_boundary(struct mime_level *l, struct mime_words *w)
{
	char value[MIME_FIELD_MAX];
	const char *name;
	size_t len, name_len;

	while (mime_words_take_octet(w, ';')) {
		if (!(name_len = mime_words_take_token(w, &name)))
			continue;
		if (!mime_words_take_octet(w, '=') || !mime_words_take_value(w, value, &len))
			return 0;
		if (!mime_words_is(name, name_len, "boundary"))
			continue;
		if (l->boundary_len || !len || len > MIME_BOUNDARY_MAX || value[len - 1] == ' ' || value[len - 1] == '\t')
			return 0;
		memcpy(l->boundary, value, len);
		l->boundary_len = len;
	}
	return l->boundary_len && !mime_words_skip(w);
}

/* What a Content-Type says. A word without '/' is none, and what it stands for is text (RFC 2045 section 5.2). */
static void
judge_type(struct mime_level *l, const struct mime_field *field)
{
	struct mime_words w = { .s = field->s, .end = field->s + field->len };
	const char *type, *subtype;
	size_t len = mime_words_take_token(&w, &type), subtype_len;

	if (!mime_words_take_octet(&w, '/')) {
		if (!len || (mime_words_skip(&w) && *w.s != ';'))
			l->cannot = structure_is_broken;
		return;
	}
	subtype_len = mime_words_take_token(&w, &subtype);
	if (mime_words_is(type, len, "multipart")) {
		l->kind = MIME_MULTIPART;
		l->is_digest = mime_words_is(subtype, subtype_len, "digest");
		if (!find_boundary(l, &w))
			l->cannot = structure_is_broken;
		else if (mime_words_is(subtype, subtype_len, "signed"))
			l->cannot = is_signed;
	} else if (mime_words_is(type, len, "message")) {
		if (mime_words_is(subtype, subtype_len, "rfc822"))
			l->kind = MIME_MESSAGE;
		else if (subtype_len < 6 || strncasecmp(subtype, "global", 6) != 0)	/* RFC 6532 section 3.7, RFC 6533 */
			l->cannot = is_not_encodable;
	} else if (!len || !subtype_len)
		l->cannot = structure_is_broken;
}

/* What a Content-Transfer-Encoding says. */
static void
judge_encoding(struct mime_level *l, const struct mime_field *field)
{
	struct mime_words w = { .s = field->s, .end = field->s + field->len };
	const char *token;
	size_t len = mime_words_take_token(&w, &token);

	l->is_binary = mime_words_is(token, len, "binary");
	if (!len || mime_words_skip(&w))
		l->cannot = structure_is_broken;
	else if (!l->is_binary && !mime_words_is(token, len, "7bit") && !mime_words_is(token, len, "8bit"))
		l->cannot = is_encoded;
}

/* The header is over: what its body is. Where that is not clear it is taken for a leaf. */
static void
judge_header(struct mime *m)
{
	struct mime_level *l = mime_innermost(m);

	if (m->type.count)
		judge_type(l, &m->type);
	else if (l->is_in_digest)
		l->kind = MIME_MESSAGE;
	if (m->encoding.count && !l->cannot)
		judge_encoding(l, &m->encoding);
	if (m->is_broken || m->type.count > 1 || m->encoding.count > 1)
		l->cannot = structure_is_broken;
	if (l->kind != MIME_LEAF && m->depth == MIME_DEPTH_MAX)
		l->cannot = is_too_deep;
	if (l->cannot && l->cannot != is_signed)
		l->kind = MIME_LEAF;
}

/* --- headers --------------------------------------------------------------------------------- */

static void
enter(struct mime *m, int is_message, int is_in_digest)
{
	m->levels[m->depth++] = (struct mime_level){
		.number = m->parts++, .is_message = is_message, .is_in_digest = is_in_digest,
	};
	m->in_header = 1;
	m->type.len = m->encoding.len = m->version.len = 0;
	m->type.count = m->encoding.count = m->version.count = 0;
	m->field = NULL;
	m->has_begun = m->is_broken = 0;
}

/* A field begins. Returns how many octets its name and the colon have, 0: it is none (RFC 5322 section 2.2). */
static size_t
begin_field(struct mime *m)
{
	const struct { const char *name; struct mime_field *field; } known[] = {
		{ "Content-Type", &m->type }, { "Content-Transfer-Encoding", &m->encoding }, { "MIME-Version", &m->version },
	};
	size_t name = 0, at;

	while (name < m->piece_len && m->piece[name] > 32 && m->piece[name] < 127 && m->piece[name] != ':')
		name++;
	for (at = name; at < m->piece_len && (m->piece[at] == ' ' || m->piece[at] == '\t');)
		at++;
	m->field = NULL;
	if (!name || at == m->piece_len || m->piece[at] != ':')
		return 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (mime_words_is(m->piece, name, known[i].name)) {
			m->field = known[i].field;
			m->field->count++;
		}
	return at + 1;
}

/* Keeps the piece but for the octets before from. */
static void
keep_field(struct mime *m, size_t from)
{
	struct mime_field *f = m->field;
	size_t len = m->piece_len - from;

	if (!f)
		return;
	if (len > sizeof f->s - f->len || memchr(m->piece, '\0', m->piece_len)) {
		m->is_broken = 1;
		return;
	}
	memcpy(f->s + f->len, m->piece + from, len);
	f->len += len;
}

static enum mime_what
take_header(struct mime *m)
{
	size_t from = 0;

	if (m->is_first && m->is_last && !m->piece_len) {
		judge_header(m);
		m->in_header = 0;
		return MIME_HEADER_END;
	}
	m->is_field_start = m->is_first && (!m->has_begun || (m->piece[0] != ' ' && m->piece[0] != '\t'));
	if (m->is_field_start) {
		m->has_begun = 1;
		from = begin_field(m);
		if (!from)
			m->is_broken = 1;
	}
	keep_field(m, from);
	return MIME_FIELD;
}

/* --- boundaries --------------------------------------------------------------------------------- */

/* Whether the piece is a boundary of a multipart: 1, 2: its last; 0. */
static int
is_boundary(struct mime *m, const struct mime_level *l)
{
	const char *s = m->piece + 2 + l->boundary_len, *end = m->piece + m->piece_len;
	int is_close;

	if (l->kind != MIME_MULTIPART || l->is_closed || m->piece_len < 2 + l->boundary_len ||
	    memcmp(m->piece, "--", 2) != 0 || memcmp(m->piece + 2, l->boundary, l->boundary_len) != 0)
		return 0;
	is_close = end - s >= 2 && memcmp(s, "--", 2) == 0;
	if (is_close)
		s += 2;
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	if (s < end)
		return 0;
	if (!m->is_last)
		m->cannot = structure_is_broken;	/* blanks without end */
	return is_close ? 2 : 1;
}

/* The boundaries of what lies around a multipart end it as well, RFC 2046 section 5.1.2. Returns 0 if the line is none. */
static int
take_boundary(struct mime *m)
{
	for (unsigned int i = m->depth; i-- > 0;) {
		struct mime_level *l = &m->levels[i];
		int which = is_boundary(m, l);

		if (!which)
			continue;
		m->depth = i + 1;
		m->in_header = 0;
		l->is_closed = which == 2;
		if (which == 1)
			enter(m, 0, l->is_digest);
		return 1;
	}
	return 0;
}

/* --- lines --------------------------------------------------------------------------------------- */

/* The next octets of a line into piece. The source has CR in line ends only. Returns 1, 0 at the end, -1 with errno. */
static ssize_t
read_piece(struct mime *m)
{
	ssize_t n;

	m->is_last = 0;
	m->piece_len = 0;
	while (!m->is_last && m->piece_len < sizeof m->piece) {
		if (m->in_at == m->in_len) {
			if ((n = mail_data_next(m->source, m->in, sizeof m->in)) <= 0)
				return n;
			m->in_at = 0;
			m->in_len = (size_t)n;
		}
		if (m->in[m->in_at] == '\n')
			m->is_last = 1;
		else if (m->in[m->in_at] != '\r')
			m->piece[m->piece_len++] = m->in[m->in_at];
		m->in_at++;
	}
	return 1;
}

void
mime_rewind(struct mime *m)
{
	mail_data_rewind(m->source, 0);
	m->cannot = NULL;
	m->depth = m->parts = 0;
	m->piece_len = m->line_len = m->in_at = m->in_len = 0;
	m->is_first = 0;
	m->is_last = 1;
	enter(m, 1, 0);
}

enum mime_what
mime_next(struct mime *m)
{
	ssize_t n;

	m->is_first = m->is_last;
	n = read_piece(m);
	if (n <= 0)
		return n < 0 ? MIME_UNREADABLE : MIME_END;
	m->line_len = m->is_first ? m->piece_len : m->line_len + m->piece_len;
	/* the first of a message's lines follows the empty line that said that it is one */
	if (!m->in_header && mime_innermost(m)->kind == MIME_MESSAGE)
		enter(m, 1, 0);
	if (m->is_first && take_boundary(m))
		return MIME_BOUNDARY;
	return m->in_header ? take_header(m) : MIME_BODY;
}

int
mime_has_ended(const struct mime *m)
{
	return m->in_at == m->in_len && m->source->has_ended;
}

int
mime_has_8bit_header(struct mime *m)
{
	enum mime_what what;

	mime_rewind(m);
	while ((what = mime_next(m)) != MIME_END && what != MIME_UNREADABLE)
		if (what == MIME_FIELD && utf8_is_8bit(m->piece, m->piece_len))
			return 1;
	return what == MIME_END ? 0 : -1;
}
