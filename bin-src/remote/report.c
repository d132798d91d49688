#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "report.h"

int
report_begin(struct report *r, unsigned int len)
{
	if (!r->recipients || len > r->len) {
		struct report_recipient *more = realloc(r->recipients, (len ? len : 1) * sizeof *more);

		if (!more) {
			errno = ENOMEM;
			return 0;
		}
		r->recipients = more;
	}
	memset(r->recipients, 0, len * sizeof *r->recipients);
	r->len = len;
	r->may_be_taken = 0;
	r->texts.len = 0;
	return 1;
}

void
report_free(struct report *r)
{
	free(r->recipients);
	stralloc_free(&r->texts);
	*r = (struct report){ .recipients = NULL };
}

struct report_text
report_text(struct report *r, const struct smtp_reply *reply, const char *s, ...)
{
	struct report_text text = { .at = r->texts.len };
	va_list more;
	int ok = 1;

	va_start(more, s);
	for (; s && ok; s = va_arg(more, const char *))
		ok = stralloc_cats(&r->texts, s);
	va_end(more);
	if (reply && ok && stralloc_cats(&r->texts, "Remote host said: "))
		stralloc_catb(&r->texts, reply->text, reply->text_len);
	text.len = r->texts.len - text.at;
	return text;
}

int
report_is_open(const struct report *r, unsigned int n)
{
	return !r->recipients[n].own && !r->recipients[n].message;
}

void
report_all(struct report *r, char letter, struct report_text text)
{
	for (unsigned int n = 0; n < r->len; n++) {
		struct report_recipient *p = &r->recipients[n];

		if (p->message || (p->own && p->own != 'r'))
			continue;
		p->message = letter;
		p->message_text = text;
	}
}

static int
add(stralloc *to, const struct report *r, struct report_text text)
{
	return stralloc_catb(to, r->texts.s + text.at, text.len);
}

/* The letter of a message as it is printed: who sees to reports is not said there. */
static char
printed(const struct report_recipient *p)
{
	return p->message == 'k' ? 'K' : p->message;
}

char
report_outcome(const struct report *r, unsigned int n, stralloc *text)
{
	const struct report_recipient *p = &r->recipients[n];
	int is_refused = p->own == 'h' || p->own == 's';

	text->len = 0;
	/* that others got it is nothing to tell one who was refused */
	if ((!p->own || add(text, r, p->own_text)) && p->message && !(is_refused && printed(p) == 'K'))
		add(text, r, p->message_text);
	if (p->own == 'h')
		return 'D';
	if (p->own == 's' || !p->message)
		return 'Z';
	return p->message;
}

/* The recipient whose report on the message stands for all: one who got it, else the first that has one. */
static const struct report_recipient *
representative(const struct report *r)
{
	const struct report_recipient *first = NULL;

	for (unsigned int n = 0; n < r->len; n++) {
		const struct report_recipient *p = &r->recipients[n];

		if (printed(p) == 'K')
			return p;
		if (!first && p->message)
			first = p;
	}
	return first;
}

/* One recipient's report. Where the message's letter is another than his, his own says it. */
static int
print_recipient(const struct report *r, const struct report_recipient *p, const struct report_recipient *message,
    stralloc *to)
{
	int differs = (!p->own || p->own == 'r') && printed(p) != printed(message);
	char letter = p->own && !differs ? p->own : p->message == 'D' ? 'h' : 's';

	return stralloc_append(to, letter) && add(to, r, differs ? p->message_text : p->own_text) &&
	    stralloc_append(to, '\0');
}

int
report_print(const struct report *r, stralloc *to)
{
	const struct report_recipient *message = representative(r);
	int any = 0;

	if (!message)
		return stralloc_cats(to, "ZNothing is known about the message. (#4.3.0)\n") && stralloc_append(to, '\0');
	for (unsigned int n = 0; n < r->len; n++)
		any |= r->recipients[n].own != 0 || printed(&r->recipients[n]) != printed(message);
	for (unsigned int n = 0; any && n < r->len; n++)
		if (!print_recipient(r, &r->recipients[n], message, to))
			return 0;
	return stralloc_append(to, printed(message)) &&
	    add(to, r, message->message_text) && stralloc_append(to, '\0');
}
