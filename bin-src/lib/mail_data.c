#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mail_data.h"
#include "utf8.h"

void
mail_data_init(struct mail_data *m, const char *octets, int fd, uint64_t size)
{
	*m = (struct mail_data){ .octets = octets, .fd = fd, .size = size };
}

void
mail_data_free(struct mail_data *m)
{
	free(m->buffer);
	m->buffer = NULL;
	m->buffer_len = 0;
}

/* Reads the part of the file that begins at m->at. Returns 1, or 0 with errno set. */
static int
fill(struct mail_data *m)
{
	ssize_t r;

	if (!m->buffer && !(m->buffer = malloc(MAIL_DATA_READ)))
		return 0;
	do
		r = pread(m->fd, m->buffer, MAIL_DATA_READ, (off_t)m->at);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		errno = EIO;	/* m->at is below the size */
	if (r <= 0)
		return 0;
	m->buffer_at = m->at;
	m->buffer_len = (size_t)r;
	return 1;
}

/* Octets of the message from m->at on: *s. Returns how many there are, 0 at the end, -1 with errno set. */
static ssize_t
window(struct mail_data *m, const char **s)
{
	uint64_t left = m->size - m->at;
	size_t len;

	if (!left)
		return 0;
	if (m->octets) {
		*s = m->octets + m->at;
		return (ssize_t)left;
	}
	if ((m->at < m->buffer_at || m->at >= m->buffer_at + m->buffer_len) && !fill(m))
		return -1;
	*s = m->buffer + (m->at - m->buffer_at);
	len = m->buffer_len - (size_t)(m->at - m->buffer_at);
	return (ssize_t)(len < left ? len : left);
}

/* --- survey ---------------------------------------------------------------------- */

struct survey {
	int is_line_start, saw_cr;
};

/* A line, or the part of one that a window has; has_lf: it ends with LF. */
static void
survey_line(struct mail_data *m, struct survey *v, const char *s, size_t len, int has_lf)
{
	size_t text = len - (size_t)has_lf;
	int cr_before_lf = text ? s[text - 1] == '\r' : v->saw_cr;

	/* every octet goes out as one, but LF as two, with the CR before it, if there is one, as one of the two */
	m->wire_size += len + (has_lf && !cr_before_lf);
	m->has_8bit |= utf8_is_8bit(s, text);
	v->saw_cr = !has_lf && len && s[len - 1] == '\r';
	v->is_line_start = has_lf || (v->is_line_start && len == 1 && v->saw_cr);
}

int
mail_data_survey(struct mail_data *m)
{
	struct survey v = { .is_line_start = 1 };
	const char *s = NULL;
	ssize_t n;

	m->at = 0;
	m->wire_size = 0;
	m->has_8bit = 0;
	while ((n = window(m, &s)) > 0) {
		for (const char *end = s + n; s < end;) {
			const char *lf = memchr(s, '\n', (size_t)(end - s));
			size_t len = (size_t)((lf ? lf + 1 : end) - s);

			survey_line(m, &v, s, len, lf != NULL);
			s += len;
		}
		m->at += (uint64_t)n;
	}
	if (v.saw_cr)
		m->wire_size += 1;	/* CR at the end */
	else if (!v.is_line_start)
		m->wire_size += 2;
	return n == 0;
}

int
mail_data_is_8bit(struct mail_data *m)
{
	const char *s = NULL;
	ssize_t n;

	for (m->at = 0; (n = window(m, &s)) > 0; m->at += (uint64_t)n)
		if (utf8_is_8bit(s, (size_t)n))
			return 1;
	return n < 0 ? -1 : 0;
}

/* --- for the wire ---------------------------------------------------------------------- */

void
mail_data_rewind(struct mail_data *m, int with_dots)
{
	m->at = 0;
	m->with_dots = with_dots;
	m->is_line_start = 1;
	m->saw_cr = m->has_ended = 0;
}

static size_t
put_line_end(struct mail_data *m, char *out)
{
	out[0] = '\r';
	out[1] = '\n';
	m->is_line_start = 1;
	m->saw_cr = 0;
	return 2;
}

/* What precedes the octet c: the blank that a CR has become, the second dot. At most 2 octets. */
static size_t
put_before(struct mail_data *m, char c, char *out)
{
	size_t n = 0;

	if (m->saw_cr) {
		out[n++] = ' ';
		m->saw_cr = 0;
		m->is_line_start = 0;
	}
	if (m->is_line_start && m->with_dots && c == '.')
		out[n++] = '.';
	return n;
}

/* Octets without CR and LF, as many as have room. Adds what goes out to *put; returns how many it took. */
static size_t
put_run(struct mail_data *m, const char *s, size_t len, char *out, size_t room, size_t *put)
{
	size_t n = put_before(m, s[0], out);

	if (len > room - n)
		len = room - n;
	memcpy(out + n, s, len);
	m->is_line_start = 0;
	*put += n + len;
	return len;
}

/* The message has ended: what its last line lacks. */
static size_t
put_end(struct mail_data *m, char *out)
{
	m->has_ended = 1;
	return m->saw_cr || !m->is_line_start ? put_line_end(m, out) : 0;
}

/* Length of the run of octets before the next CR or LF. *cr: where the next CR is, so that it is looked for but once. */
static size_t
run_length(const char *s, const char *end, const char **cr)
{
	const char *lf = memchr(s, '\n', (size_t)(end - s));
	const char *stop = lf ? lf : end;

	if (*cr && *cr < s)
		*cr = memchr(s, '\r', (size_t)(end - s));
	return (size_t)((*cr && *cr < stop ? *cr : stop) - s);
}

/* What of s fits. Returns how many octets went out. */
static size_t
put_octets(struct mail_data *m, const char *s, size_t len, char *out, size_t room)
{
	const char *start = s, *end = s + len, *cr = memchr(s, '\r', len < room ? len : room);
	size_t put = 0;

	if (len > room)
		end = s + room;	/* no more of it can go out */
	while (s < end && room - put >= 4) {
		size_t run = run_length(s, end, &cr);

		if (run)
			s += put_run(m, s, run, out + put, room - put, &put);
		else if (*s == '\n') {
			put += put_line_end(m, out + put);
			s++;
		} else {
			put += m->saw_cr ? put_before(m, '\r', out + put) : 0;
			m->saw_cr = 1;
			s++;
		}
	}
	m->at += (uint64_t)(s - start);
	return put;
}

ssize_t
mail_data_next(struct mail_data *m, char *out, size_t room)
{
	const char *s = NULL;
	size_t put = 0;
	ssize_t n = 0;

	while (room - put >= 4 && (n = window(m, &s)) > 0)
		put += put_octets(m, s, (size_t)n, out + put, room - put);
	if (n < 0)
		return -1;
	if (m->at == m->size && !m->has_ended && room - put >= 2)
		put += put_end(m, out + put);
	return (ssize_t)put;
}
