#include <string.h>
#include "smtp_reply.h"

enum { CODE = 3 };	/* octets of a code; the next one says whether more lines follow */

void
smtp_reply_begin(struct smtp_reply *reply)
{
	memset(reply, 0, offsetof(struct smtp_reply, text));
}

/* --- cleaning ------------------------------------------------------------------- */

/* Octets of the UTF-8 character (RFC 3629 section 4) that s begins with, 0 if it is none or a C1 control. */
static size_t
character(const unsigned char *s, size_t len)
{
	size_t n = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	if (!n || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
		return 0;
	/* line and paragraph separator, and what turns the direction of writing (U+2028 to U+202E) */
	if (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae)
		return 0;
	if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* What is not ASCII and no character of UTF-8 becomes '?', in the line that begins at. */
static void
clean_line(struct smtp_reply *reply, size_t at)
{
	unsigned char *s = (unsigned char *)reply->text;
	size_t n;

	for (size_t i = at; i < reply->text_len; i += n) {
		n = s[i] < 128 ? 1 : character(s + i, reply->text_len - i);
		if (!n) {
			s[i] = '?';
			n = 1;
		}
	}
}

static void
keep(struct smtp_reply *reply, char c)
{
	/* room for the LF is left */
	if (reply->column < SMTP_REPLY_LINE_MAX && reply->text_len < SMTP_REPLY_TEXT_MAX - 1)
		reply->text[reply->text_len++] = c == '\t' ? ' ' : (unsigned char)c < 32 || c == 127 ? '?' : c;
}

/* --- lines ------------------------------------------------------------------------- */

static void
senseless(struct smtp_reply *reply)
{
	reply->state = SMTP_REPLY_SENSELESS;
}

/* An octet of a line that is no line end. */
static void
take_octet(struct smtp_reply *reply, char c)
{
	if (reply->column < CODE) {
		if (c < (reply->column ? '0' : '2') || c > (reply->column ? '9' : '5')) {
			senseless(reply);
			return;
		}
		reply->digits = reply->digits * 10 + (unsigned int)(c - '0');
	} else if (reply->column == CODE) {
		if (c != ' ' && c != '-') {
			senseless(reply);
			return;
		}
		reply->is_last = c == ' ';
	}
	keep(reply, c);
	reply->column++;
}

static size_t
start_of_line(const struct smtp_reply *reply)
{
	const char *lf = memrchr(reply->text, '\n', reply->text_len);

	return lf ? (size_t)(lf + 1 - reply->text) : 0;
}

static void
end_line(struct smtp_reply *reply)
{
	if (reply->column < CODE || (reply->code && reply->code != reply->digits)) {
		senseless(reply);
		return;
	}
	if (reply->column == CODE)
		reply->is_last = 1;
	reply->code = reply->digits;
	clean_line(reply, start_of_line(reply));
	if (reply->text_len < SMTP_REPLY_TEXT_MAX && reply->text_len > start_of_line(reply))
		reply->text[reply->text_len++] = '\n';
	if (reply->is_last) {
		reply->text[reply->text_len] = '\0';
		reply->state = SMTP_REPLY_COMPLETE;
	}
	reply->column = 0;
	reply->digits = 0;
}

size_t
smtp_reply_take(struct smtp_reply *reply, const char *s, size_t len)
{
	size_t i = 0;

	while (i < len && reply->state == SMTP_REPLY_INCOMPLETE) {
		char c = s[i++];

		if (++reply->octets > SMTP_REPLY_OCTETS_MAX)
			senseless(reply);
		else if (c == '\n') {
			reply->saw_cr = 0;
			end_line(reply);
		} else {
			if (reply->saw_cr)
				take_octet(reply, '\r');
			reply->saw_cr = c == '\r';
			if (!reply->saw_cr && reply->state == SMTP_REPLY_INCOMPLETE)
				take_octet(reply, c);
		}
	}
	return i;
}

/* --- reading ------------------------------------------------------------------------- */

int
smtp_reply_line(const struct smtp_reply *reply, size_t *at, const char **line, size_t *len)
{
	const char *s = reply->text + *at, *lf = memchr(s, '\n', reply->text_len - *at);

	if (!lf)
		return 0;
	*at = (size_t)(lf + 1 - reply->text);
	*line = lf - s > CODE ? s + CODE + 1 : lf;
	*len = (size_t)(lf - *line);
	return 1;
}

static size_t
number(const char *s, size_t most)
{
	size_t n = 0;

	while (n < most && s[n] >= '0' && s[n] <= '9')
		n++;
	return n;
}

size_t
smtp_reply_status(const struct smtp_reply *reply, const char **status)
{
	size_t n = 1, digits;

	if (reply->text_len < CODE + 2)
		return 0;
	*status = reply->text + CODE + 1;
	/* the text ends with a NUL, so nothing is read beyond it */
	if ((*status)[0] != reply->text[0])
		return 0;
	for (int part = 0; part < 2; part++) {
		if ((*status)[n++] != '.' || !(digits = number(*status + n, 3)))
			return 0;
		n += digits;
	}
	return (*status)[n] == ' ' || (*status)[n] == '\n' ? n : 0;
}
