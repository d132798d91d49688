#include <string.h>
#include "ascii_field.h"
#include "surrogate.h"
#include "utf8.h"

/* --- output --------------------------------------------------------------------------------------------- */

/* A line, or a part of one; has_end: its LF is among the octets. */
static int
put_in_line(struct surrogate *s, const char *octets, size_t len, int has_end)
{
	if (s->is_over)
		return 1;
	if (s->is_line_start && octets[0] == '.' && !stralloc_catb(&s->ready, ".", 1))
		return 0;
	s->is_line_start = has_end;
	if (has_end && s->in_body && s->lines != SURROGATE_ALL_LINES && --s->lines == 0)
		s->is_over = 1;
	return stralloc_catb(&s->ready, octets, len);
}

static int
put(struct surrogate *s, const char *octets, size_t len)
{
	while (len) {
		const char *lf = memchr(octets, '\n', len);
		size_t n = lf ? (size_t)(lf + 1 - octets) : len;

		if (!put_in_line(s, octets, n, lf != NULL))
			return 0;
		octets += n;
		len -= n;
	}
	return 1;
}

static int
put_piece(struct surrogate *s)
{
	return put(s, s->mime.piece, s->mime.piece_len) && (!s->mime.is_last || put(s, "\r\n", 2));
}

/* --- headers -------------------------------------------------------------------------------------------- */

/* Takes a piece of a field. */
static int
keep_piece(struct surrogate *s)
{
	struct mime *m = &s->mime;

	if (!s->is_overlong && s->field.len + m->piece_len > SURROGATE_FIELD_MAX) {
		s->is_overlong = 1;
		utf8_hide_8bit(s->field.s, s->field.len);
		if (!put(s, s->field.s, s->field.len))
			return 0;
		s->field.len = 0;
	}
	if (s->is_overlong) {
		utf8_hide_8bit(m->piece, m->piece_len);
		return put_piece(s);
	}
	return stralloc_catb(&s->field, m->piece, m->piece_len) && (!m->is_last || stralloc_catb(&s->field, "\r\n", 2));
}

/* The field that was read, if there is one, is over. */
static int
end_field(struct surrogate *s)
{
	stralloc ascii = STRALLOC_ZERO;
	int is_fine;

	s->is_overlong = 0;
	if (!s->field.len)
		return 1;
	is_fine = ascii_field(&ascii, s->field.s, s->field.len) && put(s, ascii.s, ascii.len);
	stralloc_free(&ascii);
	s->field.len = 0;
	return is_fine;
}

/* RFC 1847 section 2.1: what is signed would be so no more. */
static int
is_signed(const struct mime *m)
{
	for (unsigned int i = 0; i < m->depth; i++)
		if (m->levels[i].cannot)
			return 1;
	return 0;
}

static int
take_field(struct surrogate *s)
{
	if (is_signed(&s->mime))
		return put_piece(s);
	return (!s->mime.is_field_start || end_field(s)) && keep_piece(s);
}

static int
end_header(struct surrogate *s)
{
	if (!end_field(s) || !put_piece(s))
		return 0;
	s->in_body = 1;
	s->is_over |= s->lines == 0;
	return 1;
}

/* --- all of it --------------------------------------------------------------------------------------------- */

/* Makes the next piece ready. Returns 1, 0 at the end, -1 with errno set. */
static ssize_t
take_piece(struct surrogate *s)
{
	s->ready.len = s->ready_at = 0;
	switch (mime_next(&s->mime)) {
	case MIME_UNREADABLE:
		return -1;
	case MIME_FIELD:
		return take_field(s) ? 1 : -1;
	case MIME_HEADER_END:
		return end_header(s) ? 1 : -1;
	case MIME_BODY:
		return put_piece(s) ? 1 : -1;
	case MIME_BOUNDARY:
		return end_field(s) && put_piece(s) ? 1 : -1;
	default:
		return !end_field(s) ? -1 : s->ready.len > 0;
	}
}

int
surrogate_begin(struct surrogate *s, struct mail_data *source, int is_utf8, uint64_t lines)
{
	int is_8bit = is_utf8 ? 0 : mail_data_is_8bit(source);

	s->mime.source = source;
	s->is_as_it_is = !is_8bit;
	if (!is_8bit)
		mail_data_rewind(source, 1);
	else
		mime_rewind(&s->mime);
	s->lines = lines;
	s->is_line_start = 1;
	return is_8bit >= 0;
}

ssize_t
surrogate_next(struct surrogate *s, char *out, size_t room)
{
	size_t len;

	if (s->is_as_it_is)
		return mail_data_next(s->mime.source, out, room);
	while (s->ready_at == s->ready.len) {
		ssize_t n = s->is_over ? 0 : take_piece(s);

		if (n <= 0)
			return n;
	}
	len = s->ready.len - s->ready_at;
	if (len > room)
		len = room;
	memcpy(out, s->ready.s + s->ready_at, len);
	s->ready_at += len;
	return (ssize_t)len;
}

void
surrogate_free(struct surrogate *s)
{
	stralloc_free(&s->field);
	stralloc_free(&s->ready);
}
