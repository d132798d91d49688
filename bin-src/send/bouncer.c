#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/uint64.h>
#include "bouncer.h"
#include "job.h"
#include "octets.h"
#include "pass.h"
#include "queue/client.h"

/* What a child reports of a bounce: number of the message (8), what happened (1), number of the bounce (8), octets of
 * the text (1), the text. */
enum { REPORT_HEADER = 18, REPORT_TEXT_MAX = 255, RETRY_MS = 1000 };
enum report { REPORT_QUEUED = 'K', REPORT_NOT_NOW = 'Z', REPORT_REFUSED = 'D', REPORT_NO_OCTETS = '?' };

/* --- in the child ------------------------------------------------------------------- */

/* One bounce being written. */
struct work {
	struct send *s;
	struct queue_client *client;	/* the child's copy */
	int out;			/* the pipe */
	struct message *message;
	const char *octets;		/* of a small message */
	int fd;				/* of a large one, else -1 */
	uint32_t nth, position;		/* the nth recipient that it names is at position or later */
	stralloc address;
};

static int
read_octets(void *data, uint64_t offset, char *to, size_t len)
{
	struct work *w = data;

	if (w->fd < 0) {
		memcpy(to, w->octets + offset, len);
		return 1;
	}
	while (len) {
		ssize_t r = pread(w->fd, to, len, (off_t)offset);

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			errno = EPROTO;
		if (r <= 0)
			return 0;
		to += r;
		len -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 1;
}

static void
put_octets(void *data, const char *octets, size_t len)
{
	struct work *w = data;

	queue_client_message(w->client, octets, len);
}

static int
is_named(const struct message *m, const struct recipient *r)
{
	return m->in_report ? r->in_report : r->state == RECIPIENT_FAILED;
}

static int
find_recipient(void *data, uint32_t n, struct bounce_recipient *found)
{
	struct work *w = data;
	struct message *m = w->message;
	struct route route;
	struct recipient *r;

	if (n == 0)
		w->nth = w->position = 0;
	for (; w->position < m->recipients_len; w->position++) {
		r = &m->recipients[w->position];
		if (!is_named(m, r) || w->nth++ != n)
			continue;
		w->position++;
		if (!route_find(&w->s->rules, recipient_address(r), &w->address, &route))
			return -1;
		*found = (struct bounce_recipient){
			.address = w->address.s + route.prepended, .text = r->text->s, .text_len = r->text->len,
			.parameters = recipient_parameters(r), .index = r->index,
		};
		if (r->state == RECIPIENT_SUCCEEDED && found->text_len) {
			found->action = (unsigned char)*found->text++;
			found->text_len--;
		}
		return 1;
	}
	return 0;
}

/* Opens and checks the file of a large message. */
static enum reader_result
open_large(struct work *w)
{
	char digest[QUEUE_DIGEST];
	struct reader_check *check;
	uint64_t size;
	int r = reader_file(w->message->number, &w->fd, &size, digest);

	if (r != READER_OK) {
		w->fd = -1;
		return r;
	}
	if (size != w->message->size)
		return READER_MISFIT;
	if (!(check = reader_check_new(w->fd, size, digest)))
		return READER_ERROR;
	do
		r = reader_check_slice(check, OCTETS_SLICE);
	while (r == 2);
	reader_check_free(check);
	return r;
}

/* Finds the octets of the message. Those that are not where they should be the parent asks the keeper for. */
static enum reader_result
open_octets(struct work *w)
{
	struct octets *o = &w->s->octets;
	struct message *m = w->message;
	enum reader_result r = READER_MISFIT;

	if (m->size > JOB_INLINE_MAX)
		return open_large(w);
	if (o->number != m->number) {
		o->number = 0;
		if (m->place)
			r = reader_ring(&o->reader, m->number, m->place, &o->message, &o->at);
		if (r == READER_MISFIT) {
			o->at = 0;
			r = reader_file_whole(m->number, &o->message, JOB_INLINE_MAX);
		}
		if (r != READER_OK)
			return r;
		if (o->message.len - o->at != m->size)
			return READER_MISFIT;
		o->number = m->number;
	}
	w->octets = o->message.s + o->at;
	return READER_OK;
}

static void
close_octets(struct work *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

static void
report(struct work *w, enum report what, uint64_t number, const char *text)
{
	char s[REPORT_HEADER + REPORT_TEXT_MAX];
	size_t len = strlen(text);

	if (len > REPORT_TEXT_MAX)
		len = REPORT_TEXT_MAX;
	uint64_pack_big(s, w->message->number);
	s[8] = (char)what;
	uint64_pack_big(s + 9, number);
	s[17] = (char)(unsigned char)len;
	memcpy(s + REPORT_HEADER, text, len);
	if (allwrite(w->out, s, REPORT_HEADER + len) < REPORT_HEADER + len)
		_exit(111);
}

static void
submit(struct work *w)
{
	const struct bounce_settings *settings = &w->s->bouncer.settings;
	struct message *m = w->message;
	const char *sender = message_sender(m);
	struct bounce b = {
		.settings = settings, .kind = bounce_kind_of(settings, sender), .number = m->number, .birth = m->birth,
		.now = w->s->now, .sender = sender, .size = m->size, .without_message = m->bounce_refused,
		.report = !m->in_report ? BOUNCE_FAILED : m->is_delay_report ? BOUNCE_DELAYED : BOUNCE_SUCCEEDED,
		.parameters = message_parameters(m), .until = m->birth + w->s->lifetime,
		.data = w, .recipient = find_recipient, .read = read_octets, .put = put_octets,
	};
	stralloc from = STRALLOC_ZERO, to = STRALLOC_ZERO;
	const char *parameters;
	struct queue_result result;
	struct bounce_recipient first;
	enum reader_result found;

	if (m->in_report && find_recipient(w, 0, &first) == 0) {	/* the delay is over */
		report(w, REPORT_QUEUED, 0, "");
		return;
	}
	found = m->bounce_refused ? READER_OK : open_octets(w);
	if (found != READER_OK) {
		report(w, found == READER_ERROR ? REPORT_NOT_NOW : REPORT_NO_OCTETS, 0, found == READER_ERROR ? strerror(errno) : "");
		close_octets(w);
		return;
	}
	queue_client_begin(w->client);
	if (!bounce_envelope(settings, b.kind, sender, &from, &to) || !bounce_write(&b, &parameters)) {
		queue_client_abandon(w->client);
		report(w, REPORT_NOT_NOW, 0, strerror(errno));
	} else {
		queue_client_sender(w->client, from.s, from.len - 1);
		queue_client_sender_parameters(w->client, parameters);
		queue_client_recipient(w->client, to.s, to.len - 1);
		queue_client_end(w->client, 1, &result);
		report(w, result.code == 0 ? REPORT_QUEUED : result.permanent ? REPORT_REFUSED : REPORT_NOT_NOW,
		    result.code == 0 ? result.number : 0, result.text ? result.text : "");
	}
	stralloc_free(&from);
	stralloc_free(&to);
	close_octets(w);
}

static void
close_range_of(unsigned int first, unsigned int last)
{
	if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
		return;
	for (unsigned int fd = first; fd <= last; fd++)
		close((int)fd);
}

/* Nothing of qmail-send's may stay open here: a worker sees the end of its socket only when nobody holds it. other: one more
 * that stays, or -1. */
static void
close_all_but(struct send *s, int keep, int other)
{
	unsigned int low = (unsigned int)(other < 0 || keep < other ? keep : other);
	unsigned int high = (unsigned int)(keep > other ? keep : other);

	close_range_of(3, low - 1);
	close_range_of(low + 1, high - 1);
	close_range_of(high + 1, (unsigned int)s->loop.highest + 16);
}

static void
child(struct send *s, const struct bouncer_child *c, int out)
{
	struct work w = { .s = s, .out = out, .fd = -1, .client = &s->bouncer.client };
	sigset_t none;

	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_all_but(s, out, w.client->runner);
	s->octets.reader = (struct reader)READER_CLOSED;
	for (unsigned int i = 0; i < c->count; i++) {
		w.message = c->messages[i];
		submit(&w);
	}
	_exit(0);
}

/* --- in qmail-send --------------------------------------------------------------------- */

int
bouncer_add(struct send *s, struct message *m)
{
	if (!stralloc_catb(&s->bouncer.waiting, (char *)&m, sizeof m))
		return 0;
	return 1;
}

/* Marks the recipients that the report of m names: those that succeeded, or if there are none those that are delayed. If
 * the others are not for this report, another one is owed. */
static void
mark_report(struct message *m)
{
	int succeeded = 0, delayed = 0;

	for (uint32_t i = 0; i < m->recipients_len; i++) {
		succeeded |= m->recipients[i].state == RECIPIENT_SUCCEEDED;
		delayed |= m->recipients[i].state == RECIPIENT_DELAYED;
	}
	m->is_delay_report = !succeeded;
	m->owes_report = succeeded && delayed;
	for (uint32_t i = 0; i < m->recipients_len; i++)
		m->recipients[i].in_report = m->recipients[i].state == (succeeded ? RECIPIENT_SUCCEEDED : RECIPIENT_DELAYED);
}

static void
log_bounce(struct send *s, const char *before, const struct message *m, const char *after)
{
	log_text(&s->log, before);
	log_number(&s->log, m->number);
	log_text(&s->log, after);
}

/* What became of a report of success or delay. One that is refused for good is given up: the sender hears of failures
 * all the same. */
static void
handle_notice(struct send *s, struct message *m, enum report what, uint64_t number, const char *text, size_t len)
{
	switch (what) {
	case REPORT_QUEUED:
		if (number) {
			log_bounce(s, "report msg ", m, " qp ");
			log_number(&s->log, number);
			log_end(&s->log);
		}
		pass_reported(s, m);
		return;
	case REPORT_NO_OCTETS:
		if (octets_missing(s, m) == OCTETS_BAD)
			m->bounce_refused = 1;	/* then it goes without the message */
		pass_not_reported(s, m);
		return;
	default:
		log_bounce(s, "warning: unable to queue the report of msg ", m, ": ");
		log_quoted(&s->log, text, len);
		log_text(&s->log, what == REPORT_REFUSED ? "; it is given up" : "; trying again later");
		log_end(&s->log);
		if (what == REPORT_REFUSED)
			pass_reported(s, m);
		else
			pass_not_reported(s, m);
	}
}

static void
handle_report(struct send *s, struct message *m, enum report what, uint64_t number, const char *text, size_t len)
{
	if (m->in_report) {
		handle_notice(s, m, what, number, text, len);
		return;
	}
	if (what == REPORT_QUEUED) {
		log_bounce(s, "bounce msg ", m, " qp ");
		log_number(&s->log, number);
		log_end(&s->log);
		pass_bounced(s, m);
		return;
	}
	if (what == REPORT_NO_OCTETS) {
		if (octets_missing(s, m) == OCTETS_BAD)
			m->bounce_refused = 1;	/* then the bounce goes without the message */
		pass_not_bounced(s, m);
		return;
	}
	if (what == REPORT_REFUSED && m->bounce_refused && s->now - m->birth > s->lifetime) {
		log_bounce(s, "alert: bounce of msg ", m, " was refused again and again, and is given up: ");
		log_quoted(&s->log, text, len);
		log_end(&s->log);
		pass_bounced(s, m);
		return;
	}
	m->bounce_refused |= what == REPORT_REFUSED;
	log_bounce(s, "warning: unable to queue the bounce of msg ", m, ": ");
	log_quoted(&s->log, text, len);
	log_text(&s->log, "; trying again later");
	log_end(&s->log);
	pass_not_bounced(s, m);
}

/* Reads the reports that are whole. Returns 0 if one makes no sense. */
static int
handle_reports(struct send *s, struct bouncer_child *c)
{
	size_t done = 0;

	while (c->in.len - done >= REPORT_HEADER) {
		const char *p = c->in.s + done;
		size_t len = (unsigned char)p[17];
		uint64_t number, bounce;
		struct message *m = NULL;

		if (c->in.len - done < REPORT_HEADER + len)
			break;
		uint64_unpack_big(p, &number);
		uint64_unpack_big(p + 9, &bounce);
		for (unsigned int i = 0; i < c->count && !m; i++)
			if (c->messages[i] && c->messages[i]->number == number) {
				m = c->messages[i];
				c->messages[i] = NULL;
			}
		if (!m)
			return 0;
		handle_report(s, m, (unsigned char)p[8], bounce, p + REPORT_HEADER, len);
		done += REPORT_HEADER + len;
	}
	c->in.len -= done;
	memmove(c->in.s, c->in.s + done, c->in.len);
	return 1;
}

/* The child has ended, or is of no use. */
static void
end_child(struct send *s, struct bouncer_child *c)
{
	int fd = c->source.fd;

	loop_remove(&s->loop, &c->source);
	close(fd);
	c->pid = 0;
	stralloc_free(&c->in);
	for (unsigned int i = 0; i < c->count; i++)
		if (c->messages[i] && c->messages[i]->in_report)
			pass_not_reported(s, c->messages[i]);
		else if (c->messages[i])
			pass_not_bounced(s, c->messages[i]);
}

static int
is_done(const struct bouncer_child *c)
{
	for (unsigned int i = 0; i < c->count; i++)
		if (c->messages[i])
			return 0;
	return 1;
}

static void
pipe_ready(void *context, void *owner, uint32_t events)
{
	struct send *s = context;
	struct bouncer_child *c = owner;
	ssize_t r = -1;

	(void)events;
	errno = ENOMEM;
	if (stralloc_readyplus(&c->in, 8192))
		r = read(c->source.fd, c->in.s + c->in.len, 8192);
	if (r < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (r > 0) {
		c->in.len += (size_t)r;
		if (handle_reports(s, c))
			return;
	}
	if (r != 0)
		kill(c->pid, SIGKILL);
	if (!is_done(c))
		log_line(&s->log, "warning: a child for bounces ended before it had submitted them; trying again later", NULL);
	end_child(s, c);
}

/* Forks a child for what waits, at most a batch. Returns 1, or 0 with errno. */
static int
start_child(struct send *s, struct bouncer_child *c)
{
	struct bouncer *b = &s->bouncer;
	size_t len = b->waiting.len - b->waiting_done;
	int ends[2];

	if (len > b->batch * sizeof *c->messages)
		len = b->batch * sizeof *c->messages;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return 0;
	memcpy(c->messages, b->waiting.s + b->waiting_done, len);
	c->count = (unsigned int)(len / sizeof *c->messages);
	for (unsigned int i = 0; i < c->count; i++)
		if (c->messages[i]->in_report)
			mark_report(c->messages[i]);
	c->source = (struct loop_source){ .fd = ends[0], .ready = pipe_ready, .owner = c };
	if (loop_add(&s->loop, &c->source, EPOLLIN))
		c->pid = fork();
	else {
		c->source.fd = -1;
		c->pid = -1;
	}
	if (c->pid == 0)
		child(s, c, ends[1]);
	close(ends[1]);
	if (c->pid < 0) {
		int e = errno;

		loop_remove(&s->loop, &c->source);
		close(ends[0]);
		c->pid = 0;
		errno = e;
		return 0;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	c->deadline = s->clock + BOUNCER_MS;
	b->waiting_done += len;
	if (b->waiting_done == b->waiting.len)
		b->waiting_done = b->waiting.len = 0;
	return 1;
}

int64_t
bouncer_run(struct send *s)
{
	struct bouncer *b = &s->bouncer;
	int64_t next = INT64_MAX;

	for (unsigned int i = 0; i < BOUNCER_CHILDREN; i++) {
		struct bouncer_child *c = &b->children[i];

		if (c->pid && s->clock >= c->deadline) {
			log_line(&s->log, "warning: ending a child that cannot submit its bounces", NULL);
			kill(c->pid, SIGKILL);
			end_child(s, c);
		}
		if (!c->pid && b->waiting.len && !s->is_leaving && s->clock >= b->retry_at && !start_child(s, c)) {
			log_line(&s->log, "warning: unable to start a child for bounces: ", strerror(errno),
			    "; trying again", NULL);
			b->retry_at = s->clock + RETRY_MS;
		}
		if (c->pid && c->deadline < next)
			next = c->deadline;
	}
	if (b->waiting.len && !s->is_leaving && s->clock < b->retry_at && b->retry_at < next)
		next = b->retry_at;
	return next;
}

int
bouncer_is_busy(const struct send *s)
{
	for (unsigned int i = 0; i < BOUNCER_CHILDREN; i++)
		if (s->bouncer.children[i].pid)
			return 1;
	return 0;
}

void
bouncer_kill(struct send *s)
{
	for (unsigned int i = 0; i < BOUNCER_CHILDREN; i++)
		if (s->bouncer.children[i].pid) {
			kill(s->bouncer.children[i].pid, SIGKILL);
			end_child(s, &s->bouncer.children[i]);
		}
}
