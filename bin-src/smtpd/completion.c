#include <string.h>
#include <strings.h>
#include "completion.h"
#include "date822.h"
#include "message_id.h"

static void
put(const struct completion *c, const char *s, size_t len)
{
	if (len)
		c->put(c->data, s, len);
}

static void
put_text(const struct completion *c, const char *s)
{
	put(c, s, strlen(s));
}

/* --- the end of the header ---------------------------------------------------------------- */

static void
add_date(const struct completion *c)
{
	char date[DATE822_MAX];

	put_text(c, "Date: ");
	put(c, date, date822_date(date, c->time));
	put_text(c, "\n");
}

static void
add_id(struct completion *c)
{
	stralloc id = STRALLOC_ZERO;

	if (!message_id_append(&id, c->time, c->serial, c->host, c->host_len))
		c->has_no_memory = 1;
	put_text(c, "Message-ID: ");
	put(c, id.s, id.len);
	put_text(c, "\n");
	stralloc_free(&id);
}

static void
end_header(struct completion *c)
{
	if (!c->has_date)
		add_date(c);
	if (!c->has_id)
		add_id(c);
	c->state = COMPLETION_BODY;
}

/* Without the empty line that is to be between header and body. What is held is the body's. */
static void
end_header_early(struct completion *c)
{
	end_header(c);
	put_text(c, "\n");
	put(c, c->hold, c->held);
	c->held = 0;
}

/* --- lines of it ------------------------------------------------------------------------------ */

static int
is_name(const struct completion *c, const char *name)
{
	size_t len = c->held;

	while (len && (c->hold[len - 1] == ' ' || c->hold[len - 1] == '\t'))
		len--;
	return strlen(name) == len && strncasecmp(c->hold, name, len) == 0;
}

/* Where the field is kept whose name has come. */
static struct author_field *
find_author_field(const struct completion *c)
{
	if (!c->author)
		return NULL;
	return is_name(c, "From") ? &c->author->from : is_name(c, "Sender") ? &c->author->sender : NULL;
}

/* The colon behind a name has come. */
static void
begin_field(struct completion *c)
{
	c->is_dropping = is_name(c, "Bcc") || is_name(c, "Resent-Bcc");
	c->has_field |= !c->is_dropping;
	c->state = c->is_dropping ? COMPLETION_DROPPED : COMPLETION_FIELD;
	c->has_date |= is_name(c, "Date");
	c->has_id |= is_name(c, "Message-ID");
	c->kept = find_author_field(c);
	if (c->kept)
		author_begin(c->kept);
	if (!c->is_dropping)
		put(c, c->hold, c->held);
	c->held = 0;
}

static int
is_of_a_mailbox(const struct completion *c)
{
	return (c->held >= 5 && memcmp(c->hold, "From ", 5) == 0) || (c->held >= 6 && memcmp(c->hold, ">From ", 6) == 0);
}

/* What was held is no name. */
static void
begin_no_field(struct completion *c)
{
	if (!is_of_a_mailbox(c)) {
		end_header_early(c);
		return;
	}
	c->is_dropping = 0;
	c->kept = NULL;
	c->state = COMPLETION_FIELD;
	put(c, c->hold, c->held);
	c->held = 0;
}

/* Octets of a name (RFC 5322 section 2.2), with the blanks behind it that were once allowed (section 4.5). */
static int
may_follow(const struct completion *c, char octet)
{
	int is_blank = octet == ' ' || octet == '\t';
	int has_blank = c->held && (c->hold[c->held - 1] == ' ' || c->hold[c->held - 1] == '\t');

	return c->held < COMPLETION_NAME_MAX && (is_blank ? c->held > 0 : octet > ' ' && octet < 127 && !has_blank);
}

/* Takes octets of a name; returns how many. */
static size_t
take_name(struct completion *c, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (s[i] == ':' && c->held) {
			begin_field(c);
			return i;
		}
		if (s[i] == ':' || !may_follow(c, s[i])) {
			begin_no_field(c);
			return i;
		}
		c->hold[c->held++] = s[i];
	}
	return len;
}

/* Looks at the first octet of a line, and takes none. */
static void
begin_line(struct completion *c, char octet)
{
	if (octet == '\n')
		end_header(c);
	else if (octet != ' ' && octet != '\t')
		c->state = COMPLETION_NAME;
	else if (c->has_field || c->is_dropping)
		c->state = c->is_dropping ? COMPLETION_DROPPED : COMPLETION_FIELD;
	else
		end_header_early(c);
}

void
completion_take(struct completion *c, const char *s, size_t len)
{
	while (len) {
		const char *lf = memchr(s, '\n', len);
		size_t n = lf ? (size_t)(lf + 1 - s) : len;

		switch (c->state) {
		case COMPLETION_LINE:
			begin_line(c, *s);
			continue;
		case COMPLETION_NAME:
			n = take_name(c, s, len);
			break;
		case COMPLETION_FIELD:
			put(c, s, n);
			if (c->kept)
				author_take(c->kept, s, n);
			/* fall through */
		case COMPLETION_DROPPED:
			if (lf)
				c->state = COMPLETION_LINE;
			break;
		case COMPLETION_BODY:
			put(c, s, len);
			return;
		}
		s += n;
		len -= n;
	}
}

void
completion_finish(struct completion *c)
{
	if (c->state == COMPLETION_NAME)
		begin_no_field(c);
	if (c->state == COMPLETION_FIELD)
		completion_take(c, "\n", 1);	/* whoever looks at the fields sees it, too */
	if (c->state != COMPLETION_BODY)
		end_header(c);
}
