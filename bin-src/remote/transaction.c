#include <errno.h>
#include <string.h>
#include "downgrade.h"
#include "smtp_command.h"
#include "transaction.h"

/* A transaction that is under way. Steps are commands: maybe RSET, MAIL, RCPT for each of the group, DATA or BDAT. */
struct exchange {
	struct session *session;
	const struct transaction *t;
	unsigned int group[SESSION_RECIPIENTS_MAX];	/* the recipients of this mail transaction */
	unsigned int group_len;
	unsigned int accepted;
	unsigned int later[SESSION_RECIPIENTS_MAX];	/* recipients for whom the server had no room */
	unsigned int later_len;
	size_t ends[SESSION_RECIPIENTS_MAX + 3];	/* of the steps in commands */
	unsigned int steps, written;	/* how many there are, and were written */
	int by_data;			/* the last step is DATA */
	int data_rides;			/* the last step is a BDAT whose octets go with it */
	int all_sent;			/* the last octet of the message is out: it may have been taken */
	int has_answered;		/* some reply came */
	int was_used;			/* the session was, before */
	int is_over;			/* the session is */
	int is_void;			/* what was answered may have been to something else: another session is asked again */
	int is_downgraded;		/* the message is sent as downgraded has it */
};

static stralloc commands;		/* scratch, kept from one transaction to the next */
static char body[TRANSACTION_BUFFER];
static struct downgrade downgraded;

/* --- what became of it ------------------------------------------------------------------ */

static void
settle(struct exchange *x, char letter, struct report_text text)
{
	for (unsigned int i = 0; i < x->group_len; i++) {
		struct report_recipient *p = &x->t->report->recipients[x->group[i]];

		if (p->message)
			continue;
		p->message = letter;
		p->message_text = text;
	}
}

static void
end_session(struct exchange *x)
{
	connection_close(&x->session->connection);
	x->is_over = 1;
}

/* Replies make no sense in a session that was used: what was to be said there before may be among them. */
static void
start_over(struct exchange *x)
{
	end_session(x);
	for (unsigned int i = 0; i < x->group_len; i++)
		x->t->report->recipients[x->group[i]] = (struct report_recipient){ .own = 0 };
	x->is_void = 1;
}

/* The connection is of no use any more, errno says why (EIO, ENOMEM: the message cannot be read): all for whom nothing else
 * is known are deferred, or begun anew if it can be that they were not answered at all. */
static void
lose(struct exchange *x)
{
	const char *what = errno == EPROTO ? " but its answer made no sense." : errno == ETIMEDOUT ?
	    " but connection died: it took too long." : " but connection died.";
	int is_ours = errno == EIO || errno == ENOMEM;

	if (errno == EPROTO && x->was_used && !x->all_sent) {
		start_over(x);
		return;
	}
	end_session(x);
	if (is_ours) {
		settle(x, 'Z', report_text(x->t->report, NULL, "Unable to read the message while it was sent. (#4.3.0)\n", NULL));
		return;
	}
	settle(x, 'Z', report_text(x->t->report, NULL, "Connected to ", x->session->host, what,
	    x->all_sent ? " Possible duplicate!" : "", " (#4.4.2)\n", NULL));
}

/* The session is over if the server says so, RFC 5321 section 3.8. */
static void
heed_421(struct exchange *x)
{
	if (x->session->reply.code == 421)
		end_session(x);
}

/* Whether the refusal of a command may be for want of TLS, which another session may have again: 530, as RFC 3207 section 4 has it, or
 * any that names a policy (X.7, RFC 3463), for servers that insist on TLS say 5.7.0, 5.7.1, 5.7.10 and others. Mail that is refused for
 * another policy waits with it: better than that what would have gone by TLS bounces. What is said of the message itself is not
 * such a refusal. */
static int
may_want_tls(const struct exchange *x)
{
	const struct smtp_reply *reply = &x->session->reply;
	const char *status;

	return x->session->lacks_tls && reply->code >= 500 &&
	    (reply->code == 530 || (smtp_reply_status(reply, &status) && memcmp(status + 1, ".7.", 3) == 0));
}

/* What the refusal of a command is. */
static char
letter_of(const struct exchange *x)
{
	return x->session->reply.code >= 500 && !may_want_tls(x) ? 'D' : 'Z';
}

/* --- the message as it is sent ----------------------------------------------------------------- */

static uint64_t
wire_size(const struct exchange *x)
{
	return x->is_downgraded ? downgraded.wire_size : x->t->data->wire_size;
}

static void
rewind_message(struct exchange *x, int with_dots)
{
	if (x->is_downgraded)
		downgrade_rewind(&downgraded, with_dots);
	else
		mail_data_rewind(x->t->data, with_dots);
}

static int
has_ended(const struct exchange *x)
{
	return x->is_downgraded ? downgraded.has_ended : x->t->data->has_ended;
}

/* Fills body. Returns how many octets, -1 with errno. */
static ssize_t
next_octets(struct exchange *x, size_t room)
{
	size_t len = 0;
	ssize_t n = 1;

	while (len + 8 <= room && !has_ended(x) && n) {
		n = x->is_downgraded ? downgrade_next(&downgraded, body + len, room - len) :
		    mail_data_next(x->t->data, body + len, room - len);
		if (n < 0)
			return -1;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

/* --- commands ------------------------------------------------------------------------------ */

static int
end_step(struct exchange *x)
{
	x->ends[x->steps++] = commands.len;
	return 1;
}

static int
wants_utf8(const struct exchange *x)
{
	const struct transaction *t = x->t;

	if (smtp_command_has(t->sender_parameters, "SMTPUTF8") || !smtp_command_is_ascii(t->sender))
		return 1;
	for (unsigned int i = 0; i < x->group_len; i++)
		if (!smtp_command_is_ascii(t->recipients[x->group[i]].address))
			return 1;
	return 0;
}

static int
add_mail(struct exchange *x)
{
	const struct transaction *t = x->t;
	struct smtp_command_mail mail = {
		.sender = t->sender, .parameters = t->sender_parameters, .extensions = x->session->extensions,
		.size = wire_size(x), .has_8bit = t->data->has_8bit, .wants_utf8 = wants_utf8(x),
	};

	return smtp_command_mail(&commands, &mail) && end_step(x);
}

/* All commands up to the mail data. Returns 0 on lack of memory. */
static int
write_commands(struct exchange *x)
{
	unsigned int extensions = x->session->extensions;
	uint64_t size = wire_size(x);
	int ok = 1;

	commands.len = 0;
	x->steps = x->written = 0;
	if (x->session->needs_reset)
		ok = stralloc_cats(&commands, "RSET\r\n") && end_step(x);
	ok = ok && add_mail(x);
	for (unsigned int i = 0; ok && i < x->group_len; i++) {
		const struct transaction_recipient *r = &x->t->recipients[x->group[i]];

		ok = smtp_command_rcpt(&commands, r->address, r->parameters, extensions) && end_step(x);
	}
	/* no answer but 354 lets mail data go: that says that replies and commands are in step, as none to BDAT does */
	x->by_data = !(extensions & SESSION_CHUNKING) || x->session->is_in_doubt;
	if (x->by_data)
		return ok && stralloc_cats(&commands, "DATA\r\n") && end_step(x);
	x->data_rides = size <= TRANSACTION_SMALL;
	if (x->data_rides)
		ok = ok && smtp_command_bdat(&commands, size, 1) && end_step(x);
	return ok;
}

/* --- mail data ----------------------------------------------------------------------------- */

/* Writes the commands up to step, with PIPELINING all; the mail data with them where it rides along. Returns 1, or 0 with
 * errno. */
static int
write_steps(struct exchange *x, unsigned int step)
{
	unsigned int to = x->session->extensions & SESSION_PIPELINING ? x->steps : step + 1;
	size_t from = x->written ? x->ends[x->written - 1] : 0;
	struct iovec v[2] = { { .iov_base = commands.s + from, .iov_len = x->ends[to - 1] - from } };
	int with_data = x->data_rides && to == x->steps;
	ssize_t n;

	if (with_data) {
		rewind_message(x, 0);
		n = next_octets(x, sizeof body);
		/* the number that was announced has to be right, or the rest of the session is read as something else */
		if (n < 0 || (uint64_t)n != wire_size(x)) {
			errno = EIO;
			return 0;
		}
		v[1] = (struct iovec){ .iov_base = body, .iov_len = (size_t)n };
	}
	x->written = to;
	if (!session_write(x->session, v, 2))
		return 0;
	x->all_sent = with_data;
	return 1;
}

/* The reply to a step, which is written if it was not. Returns 1, or 0 with errno. */
static int
reply_to(struct exchange *x, unsigned int step)
{
	if (step >= x->written) {
		if (connection_has_input(&x->session->connection)) {
			errno = EPROTO;
			return 0;
		}
		if (!write_steps(x, step))
			return 0;
	}
	if (!session_reply(x->session))
		return 0;
	x->has_answered = 1;
	return 1;
}

/* Whether the server said why before it stopped taking the message, maybe after replies to chunks; errno stays if not. */
static int
has_last_word(struct exchange *x)
{
	int error = errno;

	session_begin(x->session, 0);
	for (int i = 0; i <= TRANSACTION_CHUNKS && session_reply(x->session); i++)
		if (x->session->reply.code >= 400)
			return 1;
	errno = error;
	return 0;
}

/* --- steps ----------------------------------------------------------------------------------- */

static struct report_text
said(struct exchange *x, const char *what)
{
	return report_text(x->t->report, &x->session->reply, x->session->host, what, NULL);
}

/* The same of a command that was refused; and why there is no TLS, if that may be the reason. */
static struct report_text
said_refusal(struct exchange *x, const char *before, const char *what)
{
	const struct session *s = x->session;

	return report_text(x->t->report, &s->reply, before, s->host, what, may_want_tls(x) ? "The session is " : NULL, s->security, ".\n", NULL);
}

/* What was said, and how the message went there, if there is anything to say about that. */
static struct report_text
said_accepted(struct exchange *x)
{
	struct report_text text = said(x, " accepted message.\n");

	if (x->session->security[0])
		text.len += report_text(x->t->report, NULL, "Sent ", x->session->security, ".\n", NULL).len;
	if (x->t->report->may_be_taken)
		text.len += report_text(x->t->report, NULL, "A session before ended without an answer after I sent the message. ",
		    "Possible duplicate!\n", NULL).len;
	return text;
}

/* The reply to the mail data. */
static void
judge_data(struct exchange *x)
{
	const struct smtp_reply *reply = &x->session->reply;
	unsigned int class = reply->code / 100;

	/* who said one thing, and no more, to the first message that he took goes on so; refusals come from many a place */
	x->session->is_in_doubt = class != 2 || !x->session->has_accepted;
	if (class == 2) {
		x->session->needs_reset = 0;
		x->session->has_accepted = 1;
		settle(x, x->session->extensions & SESSION_DSN ? 'k' : 'K', said_accepted(x));
	} else if (class == 3) {
		errno = EPROTO;
		lose(x);
	} else {
		/* of the codes for want of TLS this one says nothing of the message; it comes here if BDAT is refused */
		int wants_tls = x->session->lacks_tls && reply->code == 530;

		settle(x, class == 5 && !wants_tls ? 'D' : 'Z', said(x, " failed after I sent the message.\n"));
		heed_421(x);
	}
}

/* Reads the reply to the last octet of the message. Returns 0 if there is none, and all are told so. */
static int
read_last_reply(struct exchange *x)
{
	int ok;

	session_begin(x->session, x->session->timeout);
	ok = session_reply(x->session);
	if (!ok)
		lose(x);
	return ok;
}

/* After the dot. was_early: octets of an answer were there before it was sent. */
static void
finish_data(struct exchange *x, int was_early)
{
	if (!read_last_reply(x))
		return;
	if (was_early && x->session->reply.code < 400) {
		errno = EPROTO;	/* an acceptance of what had not been sent */
		lose(x);
		return;
	}
	judge_data(x);
}

/* Whether a refusal came behind the reply that says that the message was taken. What has come is read; 421 is the end of
 * the session, and no more. */
static int
is_contradicted(struct exchange *x)
{
	struct session *s = x->session;
	struct smtp_reply first = s->reply;
	int is_refused = 0;

	session_begin(s, 0);
	while (!is_refused && connection_has_input(&s->connection) && session_reply(s))
		is_refused = s->reply.code >= 400 && s->reply.code != 421;
	s->reply = first;
	return is_refused;
}

/* The reply to the last BDAT is there. With one too many behind it, it may be an answer to something before, and that one the
 * message's. */
static void
judge_bdat(struct exchange *x)
{
	int has_more = connection_has_input(&x->session->connection);

	if (has_more && x->session->reply.code / 100 == 2 && is_contradicted(x)) {
		errno = EPROTO;
		lose(x);
		return;
	}
	judge_data(x);
	if (has_more && !x->is_over)
		end_session(x);
}

/* A write of mail data failed. */
static void
fail_data(struct exchange *x)
{
	if (has_last_word(x)) {
		judge_data(x);
		if (!x->is_over)
			end_session(x);
	} else
		lose(x);
}

/* The whole time for mail data. */
static void
begin_data(struct exchange *x, int with_dots)
{
	rewind_message(x, with_dots);
	session_begin(x->session, x->session->timeout + wire_size(x) / TRANSACTION_RATE);
}

/* After 354: the message, and the dot that ends it. */
static void
send_with_dots(struct exchange *x)
{
	static const char dot[] = ".\r\n";
	int was_early = 0;

	begin_data(x, 1);
	do {
		ssize_t n = next_octets(x, sizeof body - sizeof dot);
		struct iovec v = { .iov_base = body, .iov_len = (size_t)n };

		if (n < 0) {
			lose(x);
			return;
		}
		if (has_ended(x)) {
			memcpy(body + n, dot, sizeof dot - 1);
			v.iov_len += sizeof dot - 1;
			was_early = connection_has_input(&x->session->connection);
		}
		if (!session_write(x->session, &v, 1)) {
			fail_data(x);
			return;
		}
	} while (!has_ended(x));
	x->all_sent = 1;
	finish_data(x, was_early);
}

/* Reads replies to chunks until no more than most are open. Returns 0 if one was no 2xx, which is judged then. */
static int
read_chunk_replies(struct exchange *x, unsigned int *open, unsigned int most)
{
	while (*open > most) {
		if (!session_reply(x->session)) {
			lose(x);
			return 0;
		}
		(*open)--;
		if (x->session->reply.code / 100 != 2) {
			judge_data(x);
			/* octets that are on their way would be taken for commands, or not: nobody knows */
			if (!x->is_over)
				end_session(x);
			return 0;
		}
	}
	return 1;
}

/* RFC 3030 section 2: a message that is not small, in chunks. */
static void
send_chunks(struct exchange *x)
{
	unsigned int open = 0, most = x->session->extensions & SESSION_PIPELINING ? TRANSACTION_CHUNKS - 1 : 0;

	begin_data(x, 0);
	do {
		ssize_t n = next_octets(x, sizeof body);
		struct iovec v[2];

		if (!open && connection_has_input(&x->session->connection)) {
			errno = EPROTO;	/* an answer to what was not sent */
			lose(x);
			return;
		}
		commands.len = 0;
		if (n < 0 || !smtp_command_bdat(&commands, (uint64_t)n, has_ended(x))) {
			lose(x);
			return;
		}
		v[0] = (struct iovec){ .iov_base = commands.s, .iov_len = commands.len };
		v[1] = (struct iovec){ .iov_base = body, .iov_len = (size_t)n };
		if (!session_write(x->session, v, 2)) {
			fail_data(x);
			return;
		}
		open++;
		if (!has_ended(x) && !read_chunk_replies(x, &open, most))
			return;
	} while (!has_ended(x));
	x->all_sent = 1;
	if (read_chunk_replies(x, &open, 1) && read_last_reply(x))
		judge_bdat(x);
}

/* The last step was answered as DATA never is. Returns 1 if so, and the session is over: the answers were to something else. */
static int
is_out_of_step(struct exchange *x)
{
	if (!x->by_data || x->session->reply.code / 100 != 2)
		return 0;
	if (x->was_used)
		start_over(x);
	else
		end_session(x);
	return 1;
}

/* The last answer refuses all for good, and may have been to a command before it: to one recipient, or to the message before, where that
 * one had a late second reply, which moves all answers by one. Returns 1 if so, and another session is asked. */
static int
is_doubtful(struct exchange *x)
{
	if (!x->was_used || !x->session->is_in_doubt || x->session->reply.code < 500 || x->group_len == 1 || x->written == 1)
		return 0;
	start_over(x);
	return 1;
}

/* Nobody was accepted. A server that took DATA all the same gets an empty message, RFC 2920 section 3.1. */
static void
give_up(struct exchange *x, unsigned int step)
{
	struct iovec v = { .iov_base = (void *)(uintptr_t)".\r\n", .iov_len = 3 };
	int is_lost = 0;

	settle(x, 'D', report_text(x->t->report, NULL, "Giving up on ", x->session->host, ".\n", NULL));
	if (x->is_over || step >= x->written)
		return;
	is_lost = !reply_to(x, step);
	if (!is_lost && is_out_of_step(x))
		return;
	if (!is_lost && !x->data_rides && x->session->reply.code == 354)
		is_lost = !session_write(x->session, &v, 1) || !session_reply(x->session);
	if (is_lost || x->session->reply.code == 421)
		end_session(x);
}

static void
do_data(struct exchange *x, unsigned int step)
{
	if (!x->accepted)
		give_up(x, step);
	else if (x->data_rides)
		if (reply_to(x, step))
			judge_bdat(x);
		else
			lose(x);
	else if (step == x->steps)
		send_chunks(x);
	else if (!reply_to(x, step))
		lose(x);
	else if (x->session->reply.code == 354)
		if (connection_has_input(&x->session->connection)) {
			errno = EPROTO;
			lose(x);
		} else {
			x->session->is_in_doubt = 0;
			send_with_dots(x);
		}
	else if (x->session->reply.code >= 400) {
		if (is_doubtful(x))
			return;
		settle(x, letter_of(x), said_refusal(x, "", " failed on DATA command.\n"));
		heed_421(x);
	} else {
		errno = EPROTO;
		lose(x);
	}
}

/* Whether the refusal of a recipient says that there were too many: by x.5.3 (RFC 3463), or without such a code by 452, or by 552, from
 * servers of RFC 821 (RFC 5321 section 4.5.3.1.10). A full mailbox is 552, too: so it counts where nobody was taken before. */
static int
is_too_many(const struct exchange *x)
{
	const struct smtp_reply *reply = &x->session->reply;
	const char *status;
	size_t len = smtp_reply_status(reply, &status);

	if (len)
		return reply->code >= 400 && len == 5 && memcmp(status + 1, ".5.3", 4) == 0;
	return reply->code == 452 || (reply->code == 552 && x->accepted);
}

/* The reply to RCPT for the nth of the group. Returns 0 if the session makes no sense any more. */
static int
judge_recipient(struct exchange *x, unsigned int n)
{
	struct report_recipient *p = &x->t->report->recipients[x->group[n]];
	const struct smtp_reply *reply = &x->session->reply;

	if (reply->code / 100 == 3) {
		errno = EPROTO;
		return 0;
	}
	p->own = reply->code < 300 ? 'r' : letter_of(x) == 'D' ? 'h' : 's';
	if (p->own == 'r') {
		x->accepted++;
		return 1;
	}
	p->own_text = said_refusal(x, "", " does not like recipient.\n");
	if (is_too_many(x)) {
		p->own = 's';
		x->later[x->later_len++] = x->group[n];
	}
	return 1;
}

static void
do_recipients(struct exchange *x, unsigned int step)
{
	for (unsigned int i = 0; i < x->group_len; i++, step++) {
		if (!reply_to(x, step) || !judge_recipient(x, i)) {
			lose(x);
			return;
		}
		if (x->session->reply.code == 421) {
			settle(x, 'Z', said(x, " ended the session.\n"));
			end_session(x);
			return;
		}
	}
	do_data(x, step);
}

/* MAIL was refused: what else was written is answered as well, which says nothing. */
static void
refuse_sender(struct exchange *x, unsigned int step)
{
	struct iovec v = { .iov_base = (void *)(uintptr_t)".\r\n", .iov_len = 3 };

	settle(x, letter_of(x), said_refusal(x, "Connected to ", " but sender was rejected.\n"));
	heed_421(x);
	for (step++; step < x->written && !x->is_over; step++)
		if (!reply_to(x, step) || x->session->reply.code == 421)
			end_session(x);
	if (x->is_over || is_out_of_step(x) || is_doubtful(x))
		return;
	if (x->written > 1 && !x->data_rides && x->session->reply.code == 354)
		if (!session_write(x->session, &v, 1) || !session_reply(x->session))
			end_session(x);
}

/* Says RSET where it is due, and MAIL, which is *step. Returns 1, or 0 with errno. */
static int
ask_for_sender(struct exchange *x, unsigned int *step)
{
	*step = 0;
	if (x->session->needs_reset) {
		if (!reply_to(x, 0))
			return 0;
		if (x->session->reply.code == 421)
			return 1;	/* that is the answer to MAIL as well */
		*step = 1;
	}
	return reply_to(x, *step);
}

/* One mail transaction for the group. Returns 0 if it turned out that the session was over, or out of step, before it. */
static int
run_group(struct exchange *x)
{
	struct session *s = x->session;
	unsigned int step;

	if (!write_commands(x)) {
		settle(x, 'Z', report_text(x->t->report, NULL, "No memory for an SMTP session. (#4.3.0)\n", NULL));
		return 1;
	}
	session_begin(s, SESSION_TIMEOUTS * (uint64_t)s->timeout);
	x->was_used = s->messages++ > 0;
	if (!ask_for_sender(x, &step)) {
		/* it ended while it was idle, most likely. But a server may hold its replies back until it has taken a message that
		 * rode along, and end then: whoever reads the report is told */
		if (x->was_used && !x->has_answered && errno != EPROTO && errno != ETIMEDOUT) {
			x->t->report->may_be_taken |= x->all_sent;
			end_session(x);
			return 0;
		}
		lose(x);
		return !x->is_void;
	}
	if (s->reply.code == 421 && x->was_used) {
		end_session(x);
		return 0;
	}
	s->needs_reset = 1;
	if (s->reply.code / 100 == 3) {
		errno = EPROTO;
		lose(x);
	} else if (s->reply.code >= 400)
		refuse_sender(x, step);
	else
		do_recipients(x, step + 1);
	return !x->is_void;
}

/* --- all of it ---------------------------------------------------------------------------------- */

/* A refusal of all for a reason of the message. */
static void
refuse(const struct exchange *x, const char *why)
{
	report_all(x->t->report, 'D', report_text(x->t->report, NULL, x->session->host, why, NULL));
}

static void
refuse_recipient(const struct exchange *x, unsigned int n, const char *why)
{
	struct report_recipient *p = &x->t->report->recipients[n];

	p->own = 'h';
	p->own_text = report_text(x->t->report, NULL, x->session->host, why, NULL);
	p->message = 'D';
}

static void
report_unreadable(struct report *report)
{
	report_all(report, 'Z', report_text(report, NULL, "Unable to read the message. (#4.3.0)\n", NULL));
}

/* A message with 8-bit octets for a server that takes none. Returns 0 if all were told that it cannot be sent. */
static int
convert(struct exchange *x)
{
	struct report *report = x->t->report;
	enum downgrade_result result = downgrade_begin(&downgraded, x->t->data);

	x->is_downgraded = result == DOWNGRADE_READY;
	if (result == DOWNGRADE_CANNOT)
		report_all(report, 'D', report_text(report, NULL, x->session->host,
		    " takes no 8-bit mail: it does not know 8BITMIME, and the message cannot be converted, as ", downgraded.cannot,
		    ". (#5.6.3)\n", NULL));
	else if (result == DOWNGRADE_UNREADABLE)
		report_unreadable(report);
	return x->is_downgraded;
}

/* RFC 6152 section 3. A server with SMTPUTF8 has to take 8-bit mail, RFC 6531 section 3.1. */
static int
needs_conversion(const struct exchange *x)
{
	return x->t->data->has_8bit && !(x->session->extensions & (SESSION_8BITMIME | SESSION_SMTPUTF8));
}

/* A message that came with SMTPUTF8 for a server without: it needs it if a header is not ASCII, its own or that of a part or a
 * message in it (RFC 6531 section 3.6, RFC 6532). Returns 0 if all were told so, or that it cannot be read. */
static int
can_do_without_utf8(const struct exchange *x)
{
	const struct transaction *t = x->t;
	int has_8bit_header;

	if (x->session->extensions & SESSION_SMTPUTF8 || !t->data->has_8bit || !smtp_command_has(t->sender_parameters, "SMTPUTF8"))
		return 1;
	downgraded.mime.source = t->data;
	has_8bit_header = mime_has_8bit_header(&downgraded.mime);
	if (has_8bit_header > 0)
		refuse(x, " takes no header that is not ASCII: it does not know SMTPUTF8. (#5.6.9)\n");
	else if (has_8bit_header < 0)
		report_unreadable(t->report);
	return !has_8bit_header;
}

/* What needs no question. */
static void
look_before(struct exchange *x)
{
	static const char no_utf8[] = " takes no address that is not ASCII: it does not know SMTPUTF8. (#5.6.7)\n";
	const struct session *s = x->session;
	const struct transaction *t = x->t;
	int has_utf8 = (s->extensions & SESSION_SMTPUTF8) != 0;

	if (!smtp_command_can_carry(t->sender))
		refuse(x, " cannot be told this sender's address: SMTP has no way to write it. (#5.1.7)\n");
	else if (!has_utf8 && smtp_command_needs_utf8(t->sender))
		refuse(x, no_utf8);
	else if (can_do_without_utf8(x) && (!needs_conversion(x) || convert(x)) && s->size_max && wire_size(x) > s->size_max)
		refuse(x, " takes no message of this size. (#5.3.4)\n");
	for (unsigned int n = 0; n < t->report->len; n++)
		if (!report_is_open(t->report, n))
			continue;
		else if (!*t->recipients[n].address || !smtp_command_can_carry(t->recipients[n].address))
			refuse_recipient(x, n, " cannot be told this address: SMTP has no way to write it. (#5.1.3)\n");
		else if (!has_utf8 && smtp_command_needs_utf8(t->recipients[n].address))
			refuse_recipient(x, n, no_utf8);
}

static const char *
domain_of(const char *address)
{
	const char *at = strrchr(address, '@');

	return at ? at + 1 : "";
}

/* The next recipients for whom nothing is known, within the server's limits (RFC 9422 section 4). Returns 0 if there are some,
 * but none of a domain that the session may have. */
static int
choose_group(struct exchange *x)
{
	const struct report *r = x->t->report;
	int any = 0;

	x->group_len = 0;
	for (unsigned int n = 0; n < r->len && x->group_len < x->session->recipients_max; n++) {
		if (!report_is_open(r, n))
			continue;
		any = 1;
		if (session_take_domain(x->session, domain_of(x->t->recipients[n].address)))
			x->group[x->group_len++] = n;
	}
	return x->group_len || !any;
}

/* Those for whom there was no room are open again, if the transaction had others. */
static void
reopen(struct exchange *x)
{
	if (!x->accepted || x->is_over)
		return;
	for (unsigned int i = 0; i < x->later_len; i++)
		x->t->report->recipients[x->later[i]] = (struct report_recipient){ .own = 0 };
}

/* Whether a transaction can begin. What the server said since the last one would be read as an answer to the next command. */
static int
can_go_on(struct session *s)
{
	if (s->messages && s->connection.fd >= 0 && !connection_is_quiet(&s->connection))
		connection_close(&s->connection);
	return session_is_usable(s);
}

int
transaction_run(struct session *s, const struct transaction *t)
{
	struct exchange x = { .session = s, .t = t };

	look_before(&x);
	while (choose_group(&x)) {
		if (!x.group_len)
			return 1;
		if (!can_go_on(s))
			return 0;
		x.accepted = x.later_len = 0;
		x.data_rides = x.all_sent = x.has_answered = 0;
		if (!run_group(&x))
			return 0;
		reopen(&x);
	}
	session_quit(s);
	return 0;
}
