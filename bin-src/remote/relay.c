#include "relay.h"

void
relay_init(struct relay *r, struct dial *d)
{
	r->dial = d;
	connection_init(&r->session.connection, -1);
}

/* A session that can be used. Returns 1, or 0 and all who are open have a result. */
static int
have_session(struct relay *r, const char *host, const struct transaction *t)
{
	char letter;

	if (session_is_usable(&r->session))
		return 1;
	session_quit(&r->session);
	letter = dial_host(r->dial, host, &r->session, &r->text);
	if (letter == 'K')
		return 1;
	if (!stralloc_0(&r->text))
		report_all(t->report, 'Z', report_text(t->report, NULL, "No memory. (#4.3.0)\n", NULL));
	else
		report_all(t->report, letter, report_text(t->report, NULL, r->text.s, NULL));
	return 0;
}

void
relay_message(struct relay *r, const char *host, const struct transaction *t)
{
	unsigned int sessions = 0;

	if (!mail_data_survey(t->data)) {
		report_all(t->report, 'Z', report_text(t->report, NULL, "Unable to read the message. (#4.3.0)\n", NULL));
		return;
	}
	/* each session decides on a recipient at least, but for the one that was kept */
	while (have_session(r, host, t) && !transaction_run(&r->session, t))
		if (sessions++ > t->report->len) {
			report_all(t->report, 'Z', report_text(t->report, NULL, "The server ended one session after the other. (#4.4.2)\n",
			    NULL));
			break;
		}
	if (!session_is_usable(&r->session))
		session_quit(&r->session);
}
