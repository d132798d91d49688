#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "keeper.h"
#include "pass.h"
#include "places.h"

/* Between two tries to connect: at first, and at most; twice as long each time. */
enum { RETRY_MS = 20, RETRY_MS_MAX = 1000 };

void
keeper_init(struct send *s)
{
	channel_init(&s->keeper.channel, -1, 0);
	s->keeper.source.fd = -1;
	s->keeper.retry_ms = RETRY_MS;
}

/* The next try is after a pause, which grows. */
static void
wait_to_connect(struct send *s)
{
	struct keeper *k = &s->keeper;

	k->retry_at = s->clock + k->retry_ms;
	k->retry_ms = k->retry_ms < RETRY_MS_MAX / 2 ? k->retry_ms * 2 : RETRY_MS_MAX;
}

void
keeper_close(struct send *s)
{
	struct keeper *k = &s->keeper;

	loop_remove(&s->loop, &k->source);
	channel_free(&k->channel);
	message_draft_begin(&k->draft);
	k->said_hello = k->is_listing = 0;
	wait_to_connect(s);
}

/* The connection is of no use any more. why: errno, 0 for its end. */
static void
lose(struct send *s, int why)
{
	if (!s->keeper.trouble)
		log_line(&s->log, "warning: lost qmail-queued: ", why ? strerror(why) : "it closed the connection",
		    "; trying again", NULL);
	s->keeper.trouble = why ? why : EPIPE;
	keeper_close(s);
}

/* --- what we say -------------------------------------------------------------------- */

/* A frame of number, index and result, then text. */
static int
put(struct send *s, char type, const char *head, size_t head_len, const char *text, size_t text_len)
{
	struct iovec v[2] = {
		{ .iov_base = (void *)(uintptr_t)head, .iov_len = head_len },
		{ .iov_base = (void *)(uintptr_t)text, .iov_len = text_len },
	};

	if (!s->keeper.said_hello)
		return 1;	/* it is said after the next NOTICE_HELLO */
	if (channel_put(&s->keeper.channel, type, v, 2))
		return 1;
	/* out of memory: a new connection says it all again */
	lose(s, errno);
	return 0;
}

static int
put_number(struct send *s, char type, uint64_t number)
{
	char head[8];

	uint64_pack_big(head, number);
	return put(s, type, head, sizeof head, "", 0);
}

static char
outcome_of(const struct recipient *r)
{
	switch (r->state) {
	case RECIPIENT_DONE: return OUTCOME_DONE;
	case RECIPIENT_FAILED: return OUTCOME_FAILED;
	case RECIPIENT_SUCCEEDED: return OUTCOME_SUCCEEDED;
	default: return OUTCOME_DELAYED;
	}
}

static int
put_recipient(struct send *s, struct message *m, struct recipient *r)
{
	char head[13];
	int has_text;
	size_t len;

	uint64_pack_big(head, m->number);
	uint32_pack_big(head + 8, r->index);
	head[12] = outcome_of(r);
	has_text = queue_outcome_has_text(head[12]);
	len = has_text ? r->text->len : 0;
	return put(s, SEND_DONE, head, sizeof head, has_text ? r->text->s : "", len < QUEUE_TEXT_MAX ? len : QUEUE_TEXT_MAX);
}

void
keeper_tell_recipient(struct send *s, struct message *m, struct recipient *r)
{
	/* delayed, succeeded, done: never more than the counter holds */
	r->unconfirmed = (r->unconfirmed + 1u) & 3;
	s->keeper.open++;
	put_recipient(s, m, r);
}

void
keeper_tell_end(struct send *s, struct message *m)
{
	m->is_ended = 1;
	s->keeper.open++;
	put_number(s, SEND_END, m->number);
}

void
keeper_tell_deferred(struct send *s, struct message *m)
{
	put_number(s, SEND_DEFERRED, m->number);
}

void
keeper_ask_place(struct send *s, struct message *m)
{
	char head[8 + QUEUE_PLACE_PACK];
	struct queue_place in_file = { .kind = PLACE_FILE };

	m->is_sought = 1;
	if (!m->misfits) {
		put_number(s, SEND_WHERE, m->number);
		return;
	}
	uint64_pack_big(head, m->number);
	queue_place_pack(head + 8, m->place ? m->place : &in_file);
	put(s, SEND_DAMAGED, head, sizeof head, "", 0);
}

/* Says to a new keeper what the old one did not confirm, then asks for its list. */
static void
introduce(struct send *s)
{
	struct keeper *k = &s->keeper;
	struct message *m;
	uint32_t at = 0;

	k->said_hello = k->is_listing = 1;
	while (k->said_hello && (m = message_next(&s->messages, &at))) {
		m->is_named = 0;
		for (uint32_t i = 0; k->open && i < m->recipients_len && k->said_hello; i++)
			if (m->recipients[i].unconfirmed) {
				/* the last of them says it all */
				k->open -= m->recipients[i].unconfirmed - 1u;
				m->recipients[i].unconfirmed = 1;
				put_recipient(s, m, &m->recipients[i]);
			}
		if (m->is_ended)
			put_number(s, SEND_END, m->number);
	}
	put(s, SEND_LIST, "", 0, "", 0);
}

/* --- what we are told ----------------------------------------------------------------- */

static int
notice_hello(struct send *s, const char *p, size_t len)
{
	uint64_t tried;

	if (len != 8 || s->keeper.said_hello)
		return 0;
	uint64_unpack_big(p, &tried);
	/* later than now: the clock was set back since */
	s->keeper.last_tried = (int64_t)tried < s->now ? (int64_t)tried : s->now;
	introduce(s);
	return 1;
}

static void
set_place(struct message *m, const struct queue_place *place)
{
	place_free(m->place);
	/* without memory the file is looked at, and then the keeper is asked once more */
	m->place = place->kind == PLACE_RING ? place_new(place) : NULL;
}

static int
notice_message(struct send *s, const char *p, size_t len)
{
	struct keeper *k = &s->keeper;
	struct queue_notice n;
	struct message *m;

	if (len > UINT32_MAX || !queue_notice_unpack(&n, p, (uint32_t)len))
		return 0;
	m = message_find(&s->messages, n.number);
	k->is_known = m != NULL;
	if (m) {
		m->is_named = 1;
		m->is_lost = 0;
		set_place(m, &n.place);
		pass_named_again(s, m, n.tried);
		return 1;
	}
	k->draft_failed = !message_draft_notice(&k->draft, &n);
	return 1;
}

/* Reads the string at *p, which moves on behind its NUL; NULL if it has none before end. */
static const char *
take_string(const char **p, const char *end)
{
	const char *string = *p, *nul = memchr(string, '\0', (size_t)(end - string));

	if (!nul)
		return NULL;
	*p = nul + 1;
	return string;
}

/* Reads the recipient at *p, without its text. Returns 1, or 0 if it is malformed. */
static int
take_recipient(struct message_draft_recipient *r, const char **reason, const char **p, const char *end)
{
	int has_parameters;
	char state;

	*r = (struct message_draft_recipient){ .state = RECIPIENT_TODO };
	*reason = NULL;
	if (end - *p < 6)
		return 0;
	uint32_unpack_big(*p, &r->index);
	state = (*p)[4];
	*p += 5;
	has_parameters = state >= 'a';
	if (has_parameters)
		state = (char)(state - 'a' + 'A');
	switch (state) {
	case 'T': break;
	case OUTCOME_DELAYED: r->was_delayed = 1; break;
	case OUTCOME_FAILED: r->state = RECIPIENT_FAILED; break;
	case OUTCOME_SUCCEEDED: r->state = RECIPIENT_SUCCEEDED; break;
	default: return 0;
	}
	return (r->address = take_string(p, end)) && (!has_parameters || (r->parameters = take_string(p, end))) &&
	    (r->state == RECIPIENT_TODO || (*reason = take_string(p, end)));
}

static int
notice_recipients(struct send *s, const char *p, size_t len)
{
	struct keeper *k = &s->keeper;
	const char *end = p + len, *reason;
	struct message_draft_recipient r;

	while (p < end) {
		if (!take_recipient(&r, &reason, &p, end))
			return 0;
		if (k->is_known || k->draft_failed)
			continue;
		if (reason && !(r.text = text_new(reason, strlen(reason))))
			k->draft_failed = 1;
		else if (!message_draft_recipient(&k->draft, &r))
			k->draft_failed = 1;
	}
	return 1;
}

static int
notice_over(struct send *s, const char *p, size_t len)
{
	struct keeper *k = &s->keeper;
	struct queue_notice n = k->draft.notice;
	struct message *m;
	uint64_t number;

	if (len != 8)
		return 0;
	uint64_unpack_big(p, &number);
	if (k->is_known)
		return 1;
	if (!k->draft_failed && (number != n.number || !number))
		return 0;	/* number 0: no message has begun */
	if (k->draft_failed || !heap_reserve(&s->due, s->messages.count + 1) ||
	    !(m = message_new(&s->messages, &k->draft))) {
		log_line(&s->log, "alert: out of memory while reading the queue", NULL);
		lose(s, ENOMEM);
		return 1;
	}
	message_draft_begin(&k->draft);
	pass_new(s, m, &n);
	return 1;
}

/* Everything that is live was named: what was not is no longer ours to deliver. */
static int
notice_all(struct send *s)
{
	struct message *m;
	uint32_t at = 0;

	s->keeper.is_listing = 0;
	/* no sooner: one that greets and ends, for it has no memory or process for its list, would be followed by the next at once */
	s->keeper.trouble = 0;
	s->keeper.retry_ms = RETRY_MS;
	while ((m = message_next(&s->messages, &at)))
		if (!m->is_named && !m->is_ended)
			m->is_lost = 1;
	pass_forget_lost(s);
	return 1;
}

static int
notice_confirm(struct send *s, const char *p, size_t len)
{
	struct message *m;
	struct recipient *r;
	uint64_t number;
	uint32_t index;

	if (len != 12)
		return 0;
	uint64_unpack_big(p, &number);
	uint32_unpack_big(p + 8, &index);
	m = message_find(&s->messages, number);
	if (!m)
		return 1;
	if (index == QUEUE_INDEX_END) {
		if (m->is_ended)
			pass_ended(s, m);
		return 1;
	}
	r = message_recipient(m, index);
	if (r && r->unconfirmed) {
		r->unconfirmed = (r->unconfirmed - 1u) & 3;
		s->keeper.open--;
	}
	return 1;
}

static int
notice_place(struct send *s, const char *p, size_t len)
{
	struct queue_place place;
	struct message *m;
	uint64_t number;

	if (len != 8 + QUEUE_PLACE_PACK || !queue_place_unpack(&place, p + 8))
		return 0;
	uint64_unpack_big(p, &number);
	m = message_find(&s->messages, number);
	if (!m || !m->is_sought)
		return 1;
	set_place(m, &place);
	m->is_lost |= place.kind == PLACE_NONE;
	pass_found(s, m);
	return 1;
}

static int
handle(struct send *s, const struct channel_frame *f)
{
	if (f->type != NOTICE_HELLO && !s->keeper.said_hello)
		return 0;
	switch (f->type) {
	case NOTICE_HELLO: return notice_hello(s, f->s, f->len);
	case NOTICE_MESSAGE: return notice_message(s, f->s, f->len);
	case NOTICE_RCPT: return notice_recipients(s, f->s, f->len);
	case NOTICE_OVER: return notice_over(s, f->s, f->len);
	case NOTICE_ALL: return notice_all(s);
	case NOTICE_CONFIRM: return notice_confirm(s, f->s, f->len);
	case NOTICE_PLACE: return notice_place(s, f->s, f->len);
	}
	return 0;
}

static void
ready(void *context, void *owner, uint32_t events)
{
	struct send *s = context;
	struct keeper *k = owner;
	struct channel_frame f;
	int r, good;

	if (events & EPOLLOUT)
		keeper_flush(s);
	if (k->channel.fd < 0 || !(events & ~(uint32_t)EPOLLOUT))
		return;
	r = channel_receive(&k->channel);
	if (r < 0) {
		lose(s, errno);
		return;
	}
	while (k->channel.fd >= 0 && (good = channel_next(&k->channel, &f)) != 0)
		if (good < 0 || !handle(s, &f)) {
			lose(s, EPROTO);
			return;
		}
}

/* --- the connection ------------------------------------------------------------------------ */

static int
connect_keeper(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SEND_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

int64_t
keeper_tick(struct send *s)
{
	struct keeper *k = &s->keeper;
	int fd;

	if (k->channel.fd >= 0)
		return INT64_MAX;
	if (s->clock < k->retry_at)
		return k->retry_at;
	wait_to_connect(s);
	fd = connect_keeper();
	if (fd >= 0) {
		channel_init(&k->channel, fd, QUEUE_FRAME_MAX);
		k->source = (struct loop_source){ .fd = fd, .ready = ready, .owner = k };
		if (loop_add(&s->loop, &k->source, EPOLLIN))
			return INT64_MAX;
		k->source.fd = -1;
		channel_free(&k->channel);
	}
	if (!k->trouble)
		log_line(&s->log, "warning: unable to connect to qmail-queued: ", strerror(errno), "; trying again", NULL);
	k->trouble = errno;
	return k->retry_at;
}

int
keeper_is_behind(const struct send *s)
{
	return s->keeper.open >= SEND_OPEN_MAX || channel_unsent(&s->keeper.channel) >= SEND_UNSENT_MAX;
}

void
keeper_flush(struct send *s)
{
	struct keeper *k = &s->keeper;
	int r;

	if (k->channel.fd < 0)
		return;
	r = channel_flush_lean(&k->channel);
	if (r < 0)
		lose(s, errno);
	else
		loop_change(&s->loop, &k->source, r ? EPOLLIN : EPOLLIN | EPOLLOUT);
}
