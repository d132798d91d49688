#include <string.h>
#include <strings.h>
#include "content.h"

void
content_start(struct content *c, int is_data)
{
	*c = (struct content){ .state = CONTENT_LINE_START, .is_data = is_data, .in_header = 1 };
}

/* Octets of the message that are part of a line of the header section. */
static void
watch_header(struct content *c, const char *s, size_t len)
{
	for (; len && c->column < sizeof c->name; len--) {
		c->name[c->column++] = *s++;
		if ((c->column == 8 && strncasecmp(c->name, "received", 8) == 0) ||
		    (c->column == 9 && strncasecmp(c->name, "delivered", 9) == 0))
			c->hops++;
	}
}

static void
watch_line_end(struct content *c)
{
	c->in_header &= c->column > 0;
	c->column = 0;
}

/* Where the message goes: the front of the buffer that it comes from. */
struct output {
	char *s;
	size_t len;
};

static void
put(struct content *c, struct output *out, const char *s, size_t len)
{
	if (c->in_header)
		watch_header(c, s, len);
	if (s != out->s + out->len)
		memmove(out->s + out->len, s, len);
	out->len += len;
}

static void
end_line(struct content *c, struct output *out)
{
	if (c->in_header)
		watch_line_end(c);
	out->s[out->len++] = '\n';
	c->state = CONTENT_LINE_START;
}

/* Octets of a line up to its LF, or all there are. Returns how many were taken. */
static size_t
take_text(struct content *c, struct output *out, const char *s, size_t len)
{
	const char *lf = memchr(s, '\n', len), *cr;
	size_t text = lf ? (size_t)(lf - s) : len;

	cr = memchr(s, '\r', text);
	if (cr) {
		text = (size_t)(cr - s);
		put(c, out, s, text);
		c->state = CONTENT_CR;
		return text + 1;
	}
	put(c, out, s, text);
	c->state = CONTENT_TEXT;
	if (!lf)
		return text;
	c->has_bare_lf = 1;
	return text + 1;
}

/* The octet behind a CR. Returns 1 if it was taken. */
static size_t
take_after_cr(struct content *c, struct output *out, char octet)
{
	if (octet == '\n') {
		end_line(c, out);
		return 1;
	}
	c->has_bare_cr = 1;
	c->state = CONTENT_TEXT;
	return 0;
}

size_t
content_take(struct content *c, char *s, size_t len, size_t *used)
{
	struct output out = { .s = s };
	size_t i = 0;

	while (i < len && c->state != CONTENT_END) {
		switch (c->state) {
		case CONTENT_LINE_START:
			if (c->is_data && s[i] == '.') {
				c->state = CONTENT_DOT;
				i++;
				break;
			}
			/* fall through */
		case CONTENT_TEXT:
			i += take_text(c, &out, s + i, len - i);
			break;
		case CONTENT_DOT:
			c->state = s[i] == '\r' ? CONTENT_DOT_CR : CONTENT_TEXT;
			i += s[i] == '\r';
			break;
		case CONTENT_DOT_CR:
			if (s[i] == '\n') {
				c->state = CONTENT_END;
				i++;
			} else {
				c->has_bare_cr = 1;
				c->state = CONTENT_TEXT;
			}
			break;
		case CONTENT_CR:
			i += take_after_cr(c, &out, s[i]);
			break;
		case CONTENT_END:
			break;
		}
	}
	*used = i;
	c->octets += out.len;
	return out.len;
}

void
content_finish(struct content *c)
{
	c->has_bare_cr |= c->state == CONTENT_CR;
	c->state = CONTENT_END;
}
