#include <string.h>
#include "downgrade.h"
#include "utf8.h"

enum { ENCODED_MAX = 75 };	/* octets of an encoded line, before the '=' of a soft line break: RFC 2045 section 6.7 */

static const char header_is_8bit[] = "its header is not ASCII", is_binary_data[] = "it holds binary data",
    has_too_many[] = "it has too many parts";

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
	put(d, d->mime.piece, d->mime.piece_len);
	if (d->mime.is_last)
		put_line_end(d);
}

/* Text that is no part. Without its octets a line could be a boundary. */
static void
put_questionable(struct downgrade *d)
{
	if (utf8_is_8bit(d->mime.piece, d->mime.piece_len)) {
		if (d->mime.is_first && d->mime.piece[0] == '-')
			d->mime.piece[0] = '?';
		utf8_hide_8bit(d->mime.piece, d->mime.piece_len);
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
	for (size_t i = 0; i < d->mime.piece_len; i++)
		put_octet(d, (unsigned char)d->mime.piece[i], i + 1 == d->mime.piece_len);
	if (d->mime.is_last) {
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
	for (unsigned int i = 0; i < d->mime.depth; i++) {
		unsigned int number = d->mime.levels[i].number;

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
	struct mime_level *l = mime_innermost(&d->mime);

	if (l->is_binary && (d->mime.line_len > DOWNGRADE_LINE_MAX || memchr(d->mime.piece, '\0', d->mime.piece_len)))
		l->cannot = is_binary_data;
	if (utf8_is_8bit(d->mime.piece, d->mime.piece_len))
		mark_levels(d);
	for (unsigned int i = 0; i < d->mime.depth; i++)
		if (d->mime.levels[i].cannot && has_8bit(d, d->mime.levels[i].number))
			d->cannot = d->mime.levels[i].cannot;
}

/* --- headers --------------------------------------------------------------------------------- */

/* What has to be said of a body that is converted. */
static void
put_fields(struct downgrade *d)
{
	const struct mime_level *l = mime_innermost(&d->mime);

	if (l->is_message && !d->mime.version.count)
		put_line(d, "MIME-Version: 1.0");
	if (l->kind == MIME_LEAF) {
		if (!d->mime.type.count)
			put_line(d, "Content-Type: text/plain; charset=unknown-8bit");
		put_line(d, "Content-Transfer-Encoding: quoted-printable");
	} else if (d->mime.encoding.count)
		put_line(d, "Content-Transfer-Encoding: 7bit");
}

static void
take_field(struct downgrade *d)
{
	struct mime *m = &d->mime;

	if (d->is_marking && utf8_is_8bit(m->piece, m->piece_len))
		d->cannot = header_is_8bit;
	if (!(m->field == &m->encoding && has_8bit(d, mime_innermost(m)->number)))
		put_as_it_is(d);
}

static void
end_header(struct downgrade *d)
{
	if (has_8bit(d, mime_innermost(&d->mime)->number))
		put_fields(d);
	put_line_end(d);
	d->column = 0;
}

static void
take_body(struct downgrade *d)
{
	const struct mime_level *l = mime_innermost(&d->mime);

	if (d->is_marking)
		mark_body(d);
	if (l->kind != MIME_LEAF)
		put_questionable(d);
	else if (has_8bit(d, l->number))
		put_encoded(d);
	else
		put_as_it_is(d);
}

/* --- all of it -------------------------------------------------------------------------------------- */

/* Makes the next piece ready. Returns 1, 0 at the end, -1 with errno. */
static ssize_t
take_piece(struct downgrade *d)
{
	d->ready_at = d->ready_len = 0;
	switch (mime_next(&d->mime)) {
	case MIME_END:
		return 0;
	case MIME_UNREADABLE:
		return -1;
	case MIME_BOUNDARY:
		put_as_it_is(d);
		break;
	case MIME_FIELD:
		take_field(d);
		break;
	case MIME_HEADER_END:
		end_header(d);
		break;
	case MIME_BODY:
		take_body(d);
	}
	if (d->mime.cannot)
		d->cannot = d->mime.cannot;
	return 1;
}

void
downgrade_rewind(struct downgrade *d, int with_dots)
{
	mime_rewind(&d->mime);
	d->with_dots = with_dots;
	d->ready_at = d->ready_len = 0;
	d->column = 0;
	d->is_line_start = 1;
	d->has_ended = 0;
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
	d->has_ended = d->ready_at == d->ready_len && mime_has_ended(&d->mime);
	return (ssize_t)len;
}

enum downgrade_result
downgrade_begin(struct downgrade *d, struct mail_data *source)
{
	ssize_t n;

	d->mime.source = source;
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
