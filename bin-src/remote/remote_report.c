#include <string.h>
#include "remote_report.h"

/* Where things are in a report. */
struct parts {
	const char *recipient;	/* the report of the recipient asked for, NULL none */
	const char *message;	/* the message's, NULL none */
	unsigned int recipients;	/* reports of recipients */
};

static struct parts
take_apart(const char *report, size_t len, unsigned int n)
{
	struct parts p = { .recipients = 0 };
	const char *s = report, *nul;

	while ((nul = memchr(s, '\0', len - (size_t)(s - report))) && !p.message) {
		if (*s == 'K' || *s == 'Z' || *s == 'D')
			p.message = s;
		else if (p.recipients++ == n)
			p.recipient = s;
		s = nul + 1;
	}
	return p;
}

static char
judge(const struct parts *p, unsigned int recipients)
{
	if (p->recipient && *p->recipient == 'h')
		return 'D';
	if (!p->message || (p->recipient && *p->recipient != 'r'))
		return 'Z';
	/* refused before the recipients' turn, or a program for one recipient that reports the message only */
	if (!p->recipient && (p->recipients || (*p->message == 'K' && recipients > 1)))
		return 'Z';
	return *p->message;
}

char
remote_report_merge(stralloc *text, const char *report, size_t len, unsigned int recipients, unsigned int n)
{
	struct parts p = len ? take_apart(report, len, n) : (struct parts){ .recipients = 0 };
	int ok = 1;

	text->len = 0;
	if (p.recipient && *p.recipient)
		ok = stralloc_cats(text, p.recipient + 1);
	if (p.message)
		ok = ok && stralloc_cats(text, p.message + 1);
	else
		ok = ok && stralloc_cats(text, "qmail-remote ended without a report on the message. (#4.3.0)\n");
	return ok ? judge(&p, recipients) : 'Z';
}
