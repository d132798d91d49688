/* qmail-send's connection: what it is told, and what it reports. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "keeper.h"
#include "shortage.h"
#include "stralloc_set.h"

enum { RCPT_PIECE = 60000 };	/* octets after which a NOTICE_RCPT frame is ended */

/* --- saying a message ----------------------------------------------------------------- */

static int
put_rcpt_frame(struct channel *c, stralloc *payload, int at_least)
{
	int ok = payload->len <= (size_t)at_least || channel_put1(c, NOTICE_RCPT, payload->s, payload->len);

	if (payload->len > (size_t)at_least)
		payload->len = 0;
	return ok;
}

/* A recipient's entry; o: what became of it, NULL if nothing did. */
static int
add_rcpt(stralloc *payload, uint32_t index, const char *address, const struct info_outcome *o)
{
	char header[5], state = o ? o->result : 'T';
	const char *parameters = envelope_parameters(address);

	uint32_pack_big(header, index);
	header[4] = parameters ? (char)(state - 'A' + 'a') : state;
	return stralloc_catb(payload, header, sizeof header) && stralloc_catb(payload, address, strlen(address) + 1) &&
	    (!parameters || stralloc_catb(payload, parameters, strlen(parameters) + 1)) &&
	    (!o || !queue_outcome_has_text(state) || (stralloc_catb(payload, o->text, strnlen(o->text, o->text_len)) && stralloc_0(payload)));
}

/* The last outcome of each recipient, by index; NULL: none. */
static const struct info_outcome **
sort_outcomes(uint32_t recipients, const struct info_outcome *outcomes, uint32_t len)
{
	const struct info_outcome **by_index = calloc(recipients + 1u, sizeof *by_index);

	for (uint32_t i = 0; by_index && i < len; i++)
		if (outcomes[i].recipient < recipients)
			by_index[outcomes[i].recipient] = &outcomes[i];
	return by_index;
}

static int
put_rcpts(struct channel *c, const char *envelope, const struct info_outcome **by_index, int with_done)
{
	stralloc payload = STRALLOC_ZERO;
	const char *address = envelope_sender(envelope);
	int ok = 1;

	for (uint32_t i = 0; ok && (address = envelope_next(address)); i++) {
		const struct info_outcome *o = by_index ? by_index[i] : NULL;

		if (!o || o->result != OUTCOME_DONE || with_done)
			ok = add_rcpt(&payload, i, address, o) && put_rcpt_frame(c, &payload, RCPT_PIECE);
	}
	ok = ok && put_rcpt_frame(c, &payload, 0);
	stralloc_free(&payload);
	return ok;
}

int
notices_put(struct channel *c, const struct queue_notice *n, const char *envelope,
    const struct info_outcome *outcomes, uint32_t outcomes_len, int with_done)
{
	char header[QUEUE_NOTICE_PACK], number[8];
	const char *parameters = envelope_parameters(envelope_sender(envelope));
	struct iovec v[3] = {
		{ .iov_base = header, .iov_len = sizeof header },
		{ .iov_base = (void *)(uintptr_t)n->sender, .iov_len = strlen(n->sender) + 1 },
		{ .iov_base = (void *)(uintptr_t)parameters, .iov_len = parameters ? strlen(parameters) + 1 : 0 },
	};
	const struct info_outcome **by_index = NULL;
	int ok;

	if (outcomes_len && !(by_index = sort_outcomes(n->recipients, outcomes, outcomes_len)))
		return 0;
	queue_notice_pack(header, n);
	uint64_pack_big(number, n->number);
	ok = channel_put(c, NOTICE_MESSAGE, v, 3) && put_rcpts(c, envelope, by_index, with_done) &&
	    channel_put1(c, NOTICE_OVER, number, sizeof number);
	free(by_index);
	return ok;
}

/* --- to qmail-send -------------------------------------------------------------------------- */

static void
out_of_memory(struct keeper *k)
{
	keeper_log("warning", "no memory for qmail-send's notices, it has to connect anew", 0, ENOMEM);
	notices_close(k);
}

int
notices_full(const struct keeper *k)
{
	return channel_unsent(&k->send_channel) > SEND_UNSENT_MAX;
}

void
notices_tell_later(struct keeper *k, uint64_t number)
{
	if (k->tell_len == k->tell_room) {
		size_t room = k->tell_room ? 2 * k->tell_room : 64;
		uint64_t *more = realloc(k->tell, room * sizeof *more);

		if (!more) {
			out_of_memory(k);
			return;
		}
		k->tell = more;
		k->tell_room = room;
	}
	k->tell[k->tell_len++] = number;
}

void
notices_tell(struct keeper *k, uint64_t number, const struct record *r, const struct queue_place *place)
{
	struct queue_notice n = {
		.number = number, .birth = r->birth, .size = r->message_len, .uid = r->uid, .recipients = r->recipients,
		.place = *place, .sender = envelope_sender(r->envelope),
	};

	if (!k->listing)
		return;
	if (k->tell_len || notices_full(k))
		notices_tell_later(k, number);
	else if (!notices_put(&k->send_channel, &n, r->envelope, NULL, 0, 0))
		out_of_memory(k);
}

void
notices_put_off(struct keeper *k, uint64_t number)
{
	if (!k->listing)
		return;
	keeper_log("warning", "unable to tell qmail-send of it now, it is told later: message", number, 0);
	if (!k->unsaid.len)
		k->unsaid_from = k->now_ms + 1000 * (uint64_t)SAY_RETRY;
	if (!stralloc_catb(&k->unsaid, (char *)&number, sizeof number))
		out_of_memory(k);
}

static void
tell_again(struct keeper *k, uint64_t number, struct message *m)
{
	int said;

	if (!m || !m->batch) {
		if (!survey_later(k, number))
			out_of_memory(k);
		return;
	}
	said = survey_say_ring(&k->send_channel, k, m, 0);
	if (said < 0 && errno == ENOMEM)
		out_of_memory(k);
	else if (said <= 0) {
		writers_verify(k, m);	/* sets it aside, or names what it cannot read */
		notices_put_off(k, number);
	}
}

/* Tells what was put off, then owes nothing but what surveys say. */
static void
tell_now(struct keeper *k)
{
	while (k->tell_done < k->tell_len && !notices_full(k)) {
		uint64_t number = k->tell[k->tell_done++];
		struct message *m;

		if (ledger_find(&k->ledger, number, &m) && !(m && (m->ended || !m->known)))
			tell_again(k, number, m);
	}
	if (k->tell_done == k->tell_len) {
		free(k->tell);
		k->tell = NULL;
		k->tell_len = k->tell_done = k->tell_room = 0;
	}
}

static void
tell_unsaid(struct keeper *k)
{
	stralloc unsaid = k->unsaid;
	uint64_t number;

	k->unsaid = (stralloc)STRALLOC_ZERO;
	for (size_t at = 0; k->listing && at < unsaid.len; at += sizeof number) {
		memcpy(&number, unsaid.s + at, sizeof number);
		notices_tell_later(k, number);
	}
	stralloc_free(&unsaid);
}

/* The answer to SEND_LIST: what is in the ring from memory, what waits in files from a survey. */
static void
start_list(struct keeper *k)
{
	struct message *m;
	uint64_t number;
	size_t at = 0;

	k->list_wanted = 0;
	k->listing = k->list_running = 1;
	k->tell_len = k->tell_done = k->later_len = 0;	/* all of that is in this list too */
	for (m = k->ledger.oldest[LIST_RING]; m; m = m->newer)
		if (!m->ended)
			notices_tell_later(k, m->number);
	while (k->listing && ledger_walk(&k->ledger, &at, &number, &m))
		if ((!m || (m->moved && !m->ended && m->known)) && !survey_later(k, number))
			out_of_memory(k);
}

/* Whoever does not read what it is answered, or reports more than can be flushed, is not heard meanwhile: all that is kept for it would
 * have no bound. */
static int
is_to_be_heard(const struct keeper *k)
{
	return !notices_full(k) && k->reports_len < REPORTS_MAX;
}

/* What is said in a stream waits for more, since each time wakes up qmail-send. But whatever it has no room for, it gets as soon as
 * there is some. */
static int
is_held(const struct keeper *k)
{
	return k->now_ms < k->tell_from && channel_unsent(&k->send_channel) < TELL_HELD_MAX && !(k->send.watched & EPOLLOUT) &&
	    !k->stop;
}

int
notices_due(const struct keeper *k, uint64_t *at)
{
	*at = is_held(k) ? k->tell_from : k->now_ms;
	return k->send.fd >= 0 && channel_unsent(&k->send_channel) && !(k->send.watched & EPOLLOUT);
}

void
notices_flush(struct keeper *k)
{
	int held = is_held(k);
	uint32_t events;

	if (k->send.fd >= 0 && !held) {
		k->has_told |= channel_unsent(&k->send_channel) > 0;
		if (channel_flush_lean(&k->send_channel) < 0)
			notices_close(k);
	}
	if (k->send.fd < 0)
		return;
	events = (is_to_be_heard(k) ? EPOLLIN : 0u) | (!held && channel_unsent(&k->send_channel) ? EPOLLOUT : 0u);
	if (events)
		keeper_watch(k, &k->send, events);
	else
		keeper_unwatch(k, &k->send);
}

void
notices_pump(struct keeper *k)
{
	if (k->send.fd < 0)
		return;
	if (!notices_full(k))
		survey_resume(k);
	if (k->list_wanted && !k->reports_len)
		start_list(k);
	if (k->unsaid.len && k->now_ms >= k->unsaid_from)
		tell_unsaid(k);
	tell_now(k);
	/* also not while something is unsaid: what the list does not name, qmail-send forgets */
	if (k->list_running && !k->tell_len && !k->later_len && !k->unsaid.len && !k->surveys && k->scanned) {
		k->list_running = 0;
		if (!channel_put1(&k->send_channel, NOTICE_ALL, "", 0))
			out_of_memory(k);
	}
	notices_flush(k);
}

void
notices_confirm(struct keeper *k, const struct report *r)
{
	char payload[12];

	uint64_pack_big(payload, r->number);
	uint32_pack_big(payload + 8, r->recipient);
	if (k->send.fd >= 0 && !channel_put1(&k->send_channel, NOTICE_CONFIRM, payload, sizeof payload))
		out_of_memory(k);
}

void
notices_place(struct keeper *k, uint64_t number, const struct queue_place *place)
{
	char payload[8 + QUEUE_PLACE_PACK];

	uint64_pack_big(payload, number);
	queue_place_pack(payload + 8, place);
	k->tell_from = 0;	/* it asked, and waits */
	if (k->send.fd >= 0 && !channel_put1(&k->send_channel, NOTICE_PLACE, payload, sizeof payload))
		out_of_memory(k);
}

/* A frame of a survey or of a large message's child. Several may be speaking at once, so a message is passed on when it
 * is whole; what ended meanwhile is not told any more. */
void
notices_relay(struct keeper *k, struct channel *whole, const struct channel_frame *f)
{
	static const char types[] = { NOTICE_MESSAGE, NOTICE_RCPT, NOTICE_OVER };
	struct message *m;
	uint64_t number;

	if (!k->listing || !memchr(types, f->type, sizeof types)) {
		stralloc_free(&whole->out);
		return;
	}
	if (f->type == NOTICE_MESSAGE)
		whole->out.len = 0;
	else if (!whole->out.len)
		return;	/* its beginning came before qmail-send asked for the list */
	if (!channel_put1(whole, f->type, f->s, f->len)) {
		stralloc_free(&whole->out);	/* or its rest would be passed on to the next qmail-send as if it were whole */
		out_of_memory(k);
		return;
	}
	if (f->type != NOTICE_OVER)
		return;
	uint64_unpack_big(f->s, &number);
	if (ledger_find(&k->ledger, number, &m) && !(m && m->ended) &&
	    !stralloc_catb(&k->send_channel.out, whole->out.s, whole->out.len))
		out_of_memory(k);
	stralloc_free(&whole->out);
}

/* --- from qmail-send ------------------------------------------------------------------------ */

static int
add_report(struct keeper *k, const struct report *r)
{
	if (k->reports_len == k->reports_room) {
		size_t room = k->reports_room ? 2 * k->reports_room : 64;
		struct report *more = realloc(k->reports, room * sizeof *more);

		if (!more)
			return 0;
		k->reports = more;
		k->reports_room = room;
	}
	if (!k->reports_len)
		k->reports_since = k->now_ms;
	k->reports[k->reports_len++] = *r;
	return 1;
}

static int
take_report(struct keeper *k, const struct channel_frame *f)
{
	struct report r = { .recipient = QUEUE_INDEX_END };
	struct message *m;

	if (f->len < 8 || (f->type == SEND_DONE && (f->len < 13 || f->len - 13 > QUEUE_TEXT_MAX)))
		return 0;
	uint64_unpack_big(f->s, &r.number);
	if (f->type == SEND_DONE) {
		uint32_unpack_big(f->s + 8, &r.recipient);
		r.result = f->s[12];
		if (!queue_outcome_is(r.result) || r.recipient == QUEUE_INDEX_END)
			return 0;
	}
	if (!r.number)
		return 0;
	/* a number that no directory and no record knows is one that is gone already */
	if (!ledger_find(&k->ledger, r.number, &m) && (k->scanned || r.number >= k->first_number)) {
		notices_confirm(k, &r);
		return 1;
	}
	if ((f->type == SEND_DONE && !stralloc_setb(&r.text, f->s + 13, f->len - 13)) || !add_report(k, &r)) {
		stralloc_free(&r.text);
		out_of_memory(k);
	} else if (m && f->type == SEND_END)
		m->ended = 1;
	return 1;
}

void
notices_place_of(struct keeper *k, uint64_t number)
{
	struct queue_place place = { .kind = PLACE_NONE };
	struct message *m;

	if (ledger_find(&k->ledger, number, &m) && !(m && (m->ended || !m->known))) {
		if (m && m->batch)
			place = m->place;
		else
			place.kind = PLACE_FILE;
	}
	notices_place(k, number, &place);
}

static int
take_question(struct keeper *k, const struct channel_frame *f)
{
	struct message *m;
	uint64_t number;

	if (f->len < 8)
		return 0;
	uint64_unpack_big(f->s, &number);
	if (f->type == SEND_WHERE || !ledger_find(&k->ledger, number, &m) || (m && (m->ended || !m->known))) {
		notices_place_of(k, number);
		return 1;
	}
	m = ledger_message(&k->ledger, number);
	if (!m)
		out_of_memory(k);
	else if (f->type == SEND_DEFERRED)
		writers_defer(k, m);
	else
		writers_verify(k, m);	/* answers when it knows */
	return 1;
}

static int
take_frame(struct keeper *k, const struct channel_frame *f)
{
	switch (f->type) {
	case SEND_LIST:
		k->list_wanted = 1;
		return 1;
	case SEND_DONE:
	case SEND_END:
		return take_report(k, f);
	case SEND_WHERE:
	case SEND_DEFERRED:
	case SEND_DAMAGED:
		return take_question(k, f);
	default:
		return 0;
	}
}

static void
send_ready(struct keeper *k, struct source *s, uint32_t events)
{
	struct channel_frame f;
	int r;

	if (s->fd < 0)	/* closed in this turn */
		return;
	r = events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? channel_receive(&k->send_channel) : 0;
	while (s->fd >= 0) {
		int n = channel_next(&k->send_channel, &f);

		if (n == 0)
			break;
		if (n < 0 || !take_frame(k, &f)) {
			keeper_log("warning", "qmail-send broke the protocol", 0, 0);
			notices_close(k);
			return;
		}
	}
	if (r < 0)
		notices_close(k);
}

/* --- connections ---------------------------------------------------------------------------- */

void
notices_close(struct keeper *k)
{
	if (k->send.fd < 0)
		return;
	keeper_unwatch(k, &k->send);
	channel_free(&k->send_channel);
	k->send.fd = -1;
	k->listing = k->list_wanted = k->list_running = 0;
	k->tell_len = k->tell_done = 0;
	k->later_len = 0;
	stralloc_free(&k->unsaid);
	k->tried_until = (uint64_t)time(NULL);
	survey_end_lists(k);
}

static void
unlist_newcomer(struct keeper *k, struct newcomer *n)
{
	struct newcomer **at = &k->newcomers;

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	k->newcomers_len--;
	keeper_unwatch(k, &n->source);
}

static void
drop_newcomer(struct keeper *k, struct newcomer *n)
{
	unlist_newcomer(k, n);
	channel_free(&n->channel);
	free(n);
}

/* It speaks as qmail-send: it takes the place of the one before. */
static void
become_send(struct keeper *k, struct newcomer *n)
{
	notices_close(k);
	unlist_newcomer(k, n);
	k->send_channel = n->channel;
	k->send = (struct source){ .fd = n->channel.fd, .ready = send_ready };
	free(n);
	if (!keeper_watch(k, &k->send, EPOLLIN))
		notices_close(k);
	else
		send_ready(k, &k->send, 0);
}

/* The child that answers it has ended; or it gave up before. */
static void
reader_ended(struct keeper *k, struct source *source, uint32_t events)
{
	(void)events;
	drop_newcomer(k, (struct newcomer *)source);
}

/* It stays a newcomer, so that readers have a bound, until its child ends: survey.c says when at the latest. */
static void
answer_reader(struct keeper *k, struct newcomer *n)
{
	int fd = survey_reader(k, &n->channel);

	keeper_unwatch(k, &n->source);
	channel_free(&n->channel);
	channel_init(&n->channel, fd, 0);
	n->source = (struct source){ .fd = fd, .ready = reader_ended };
	n->is_answered = 1;
	if (fd < 0 || !keeper_watch(k, &n->source, EPOLLIN))
		drop_newcomer(k, n);
}

/* Only that it hangs up is of interest meanwhile. */
static void
wait_for_scan(struct keeper *k, struct newcomer *n)
{
	n->source.ready = reader_ended;
	if (!keeper_watch(k, &n->source, EPOLLHUP))
		drop_newcomer(k, n);
}

static void
newcomer_ready(struct keeper *k, struct source *source, uint32_t events)
{
	struct newcomer *n = (struct newcomer *)source;
	int r = channel_receive(&n->channel);

	(void)events;
	if (n->channel.in.len < CHANNEL_HEADER) {
		if (r < 0)
			drop_newcomer(k, n);
		return;
	}
	if (n->channel.in.s[CHANNEL_HEADER - 1] != SEND_READ) {
		become_send(k, n);
		return;
	}
	if (k->newcomers_len == NEWCOMERS_MAX) {	/* the last place may be what qmail-send needs */
		keeper_log("warning", "too many readers, one is refused", 0, 0);
		drop_newcomer(k, n);
		return;
	}
	n->is_reader = 1;
	if (k->scanned)
		answer_reader(k, n);
	else
		wait_for_scan(k, n);
}

void
notices_answer_readers(struct keeper *k)
{
	struct newcomer *next;

	for (struct newcomer *n = k->newcomers; n; n = next) {
		next = n->next;
		if (n->is_reader && !n->is_answered)
			answer_reader(k, n);
	}
}

void
notices_expire(struct keeper *k)
{
	struct newcomer *next;

	for (struct newcomer *n = k->newcomers; n; n = next) {
		next = n->next;
		if (!n->is_reader && k->now_ms - n->came > 1000 * (uint64_t)NEWCOMER_SILENT)
			drop_newcomer(k, n);
	}
}

void
notices_accept(struct keeper *k, struct source *listener, uint32_t events)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof peer;
	struct newcomer *n = NULL;
	char hello[8];
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (is_shortage(errno))
			submit_run_short(k);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != 0 && peer.uid != k->qmails && peer.uid != geteuid()))
		keeper_log("warning", "a connection to qmail-send's socket was refused; uid", peer.uid, 0);
	else if (k->newcomers_len == NEWCOMERS_MAX)
		keeper_log("warning", "too many connections to qmail-send's socket; uid", peer.uid, 0);
	else if (!(n = calloc(1, sizeof *n)))
		keeper_log("warning", "no memory for a connection to qmail-send's socket; uid", peer.uid, 0);
	if (!n) {
		close(fd);
		return;
	}
	n->source = (struct source){ .fd = fd, .ready = newcomer_ready };
	channel_init(&n->channel, fd, QUEUE_FRAME_MAX);
	n->came = k->now_ms;
	n->next = k->newcomers;
	k->newcomers = n;
	k->newcomers_len++;
	uint64_pack_big(hello, k->send.fd >= 0 ? (uint64_t)time(NULL) : k->tried_until);
	if (!channel_put1(&n->channel, NOTICE_HELLO, hello, sizeof hello) || channel_flush(&n->channel) != 1 ||
	    !keeper_watch(k, &n->source, EPOLLIN))
		drop_newcomer(k, n);
}
