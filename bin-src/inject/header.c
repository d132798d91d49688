#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "header.h"

void
header_input_init(struct header_input *in, int fd)
{
	in->fd = fd;
	in->at_end = 0;
	in->start = in->len = 0;
}

/* Reads once, behind what is left, which must be less than the buffer. -1 with errno set. */
static int
fill(struct header_input *in)
{
	ssize_t r;

	if (in->start && in->len)
		memmove(in->buffer, in->buffer + in->start, in->len);
	in->start = 0;
	do
		r = read(in->fd, in->buffer + in->len, sizeof in->buffer - in->len);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -1;
	in->at_end = r == 0;
	in->len += (size_t)r;
	return 0;
}

/* Sees to it that the buffer holds a whole line, or enough of it to tell what it is, or all there is. */
static int
look_at_line(struct header_input *in)
{
	while (!in->at_end && in->len <= HEADER_NAME_MAX && !memchr(in->buffer + in->start, '\n', in->len))
		if (fill(in) < 0)
			return -1;
	return 0;
}

static int
is_field(const char *s, size_t len)
{
	size_t i = 0;

	if (len > HEADER_NAME_MAX)
		len = HEADER_NAME_MAX;
	while (i < len && s[i] > 32 && s[i] < 127 && s[i] != ':')
		i++;
	if (!i)
		return 0;
	while (i < len && (s[i] == ' ' || s[i] == '\t'))
		i++;
	return i < len && s[i] == ':';
}

static int
is_empty_line(const char *s, size_t len)
{
	return len && (s[0] == '\n' || (s[0] == '\r' && len > 1 && s[1] == '\n'));
}

static int
add(stralloc *fields, const char *s, size_t len, size_t max)
{
	if (fields->len + len > max) {
		errno = EMSGSIZE;
		return 0;
	}
	return stralloc_catb(fields, s, len);
}

/* Takes the line that starts in the buffer, however long. A last line without LF gets one. */
static int
take_line(struct header_input *in, stralloc *fields, size_t max)
{
	for (;;) {
		const char *s = in->buffer + in->start;
		const char *lf = memchr(s, '\n', in->len);
		size_t n = lf ? (size_t)(lf - s) + 1 : in->len;

		if (!add(fields, s, n, max))
			return 0;
		in->start += n;
		in->len -= n;
		if (lf)
			break;
		if (in->at_end)
			return add(fields, "\n", 1, max);
		if (fill(in) < 0)
			return 0;
	}
	if (fields->len > 1 && fields->s[fields->len - 2] == '\r') {
		fields->len--;
		fields->s[fields->len - 1] = '\n';
	}
	return 1;
}

int
header_read(struct header_input *in, stralloc *fields, size_t max, enum header_end *end)
{
	size_t before = fields->len;

	for (;;) {
		const char *s;

		if (look_at_line(in) < 0)
			return 0;
		s = in->buffer + in->start;
		if (!in->len) {
			*end = HEADER_INPUT_END;
			return 1;
		}
		if (is_empty_line(s, in->len)) {
			size_t n = s[0] == '\r' ? 2 : 1;

			in->start += n;
			in->len -= n;
			*end = HEADER_EMPTY_LINE;
			return 1;
		}
		if (fields->len > before && (s[0] == ' ' || s[0] == '\t'))
			;	/* a continuation */
		else if (is_field(s, in->len))
			;
		else if (fields->len == before && in->len >= 5 && !memcmp(s, "From ", 5)) {
			if (!add(fields, "MBOX-Line: ", 11, max))
				return 0;
		} else {
			*end = HEADER_BODY_LINE;
			return 1;
		}
		if (!take_line(in, fields, max))
			return 0;
	}
}

ssize_t
header_read_body(struct header_input *in, const char **s)
{
	size_t n;

	if (!in->len && !in->at_end && fill(in) < 0)
		return -1;
	*s = in->buffer + in->start;
	n = in->len;
	in->len = in->start = 0;
	return (ssize_t)n;
}

int
header_next(const char *fields, size_t len, size_t *pos, struct header_field *field)
{
	const char *s;
	size_t left = len - *pos, n = 0;

	if (!left)	/* there may be no fields at all */
		return 0;
	s = fields + *pos;
	do {
		const char *lf = memchr(s + n, '\n', left - n);

		n = lf ? (size_t)(lf - s) + 1 : left;
	} while (n < left && (s[n] == ' ' || s[n] == '\t'));
	field->start = s;
	field->len = n;
	field->name_len = strcspn(s, " \t:");
	field->value = field->name_len + strspn(s + field->name_len, " \t") + 1;
	*pos += n;
	return 1;
}
