#include <errno.h>
#include <string.h>
#include "field.h"

enum place {
	IN_NAME,	/* at the start of a line, or in the name that is wanted */
	BEFORE_COLON,	/* the whole name was read */
	IN_BODY,
	IN_OTHER,	/* a line that is not wanted */
};

struct search {
	const char *name;
	stralloc *body;
	char separator;
	enum place place;
	size_t column;
	int is_ours;	/* the current field, with its continuations */
	int found;
	size_t start;	/* of the current body */
};

static int
keep(struct search *s, char c)
{
	if (c == '\0' || s->body->len >= FIELD_MAX)
		return 1;
	return stralloc_append(s->body, c);
}

static void
trim(stralloc *body)
{
	while (body->len && strchr(" \t\r", body->s[body->len - 1]))
		body->len--;
}

static int
begin_body(struct search *s)
{
	int ok = 1;

	if (s->found)
		ok = keep(s, s->separator);
	s->found = s->is_ours = 1;
	s->place = IN_BODY;
	s->start = s->body->len;
	return ok;
}

/* The first octet of a line: a blank continues the field. */
static void
begin_line(struct search *s, char c)
{
	if (c == ' ' || c == '\t') {
		s->place = s->is_ours ? IN_BODY : IN_OTHER;
		return;
	}
	s->is_ours = 0;
	s->place = IN_NAME;
}

/* Takes an octet of a line. Returns 1, or 0 with errno ENOMEM. */
static int
take(struct search *s, char c)
{
	char lower = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;

	if (s->column == 0)
		begin_line(s, c);
	switch (s->place) {
	case IN_NAME:
		if (!s->name[s->column])
			s->place = BEFORE_COLON;
		else if (s->name[s->column] != lower)
			s->place = IN_OTHER;
		break;
	case IN_BODY:
		/* no blank at the start */
		return ((c == ' ' || c == '\t') && s->body->len == s->start) || keep(s, c);
	default:
		break;
	}
	if (s->place == BEFORE_COLON) {
		if (c == ':')
			return begin_body(s);
		if (c != ' ' && c != '\t')
			s->place = IN_OTHER;
	}
	return 1;
}

/* Takes the octets of a part of the header. Returns 1 to go on, 0 at the end of what is wanted, -1 with errno ENOMEM. */
static int
take_part(struct search *s, const char *octets, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (octets[i] == '\n') {
			if (s->column == 0)
				return 0;
			s->column = 0;
			continue;
		}
		/* the first field is complete when another one begins */
		if (s->column == 0 && s->found && !s->separator && octets[i] != ' ' && octets[i] != '\t')
			return 0;
		if (!take(s, octets[i])) {
			errno = ENOMEM;
			return -1;
		}
		s->column++;
	}
	return 1;
}

int
field_get(stralloc *body, const struct message *m, const char *name, char separator)
{
	struct search s = { .name = name, .body = body, .separator = separator };
	char buffer[MESSAGE_BUFFER];
	uint64_t at = 0;
	const char *octets;
	ssize_t r;

	body->len = 0;
	while ((r = message_octets(m, at, &octets, buffer)) > 0) {
		int more = take_part(&s, octets, (size_t)r);

		if (more < 0)
			return -1;
		if (more == 0)
			break;
		at += (uint64_t)r;
	}
	if (r < 0)
		return -1;
	trim(body);
	return s.found;
}
