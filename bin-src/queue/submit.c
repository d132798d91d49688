/* Submitters: one struct a connection, read as far as octets are there, never waited for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "date822.h"
#include "queue/record.h"
#include "keeper.h"
#include "lingering.h"
#include "shortage.h"

static void ready(struct keeper *k, struct source *s, uint32_t events);

static unsigned int
connections_of(const struct keeper *k, uid_t uid)
{
	unsigned int n = 0;

	for (const struct submitter *s = k->submitters; s; s = s->next)
		n += s->uid == uid;
	return n;
}

/* The mail system's own users may have all: a user can only crowd out himself. But qmaild has clients, who have what they submit take
 * as long as they like: what comes from this host finds room beside them. */
unsigned int
submit_share(const struct keeper *k, uid_t uid, unsigned int of_user, unsigned int of_network, unsigned int all)
{
	if (uid == 0 || uid == k->qmails || uid == k->alias || uid == geteuid())
		return all;
	return uid == k->qmaild ? of_network : of_user;
}

static int
has_room(const struct keeper *k, uid_t uid)
{
	unsigned int share = submit_share(k, uid, SUBMITTERS_UID_MAX, SUBMITTERS_NETWORK_MAX, SUBMITTERS_MAX);

	return k->submitters_len < SUBMITTERS_MAX && (k->submitters_len < share || connections_of(k, uid) < share);
}

static struct submitter *
new_submitter(struct keeper *k, int fd, uid_t uid)
{
	struct submitter *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->source = (struct source){ .fd = fd, .ready = ready };
	s->uid = uid;
	s->heard = k->now_ms;
	s->report.fd = -1;
	channel_init(&s->report_channel, -1, 0);
	channel_init(&s->relay, -1, 0);
	channel_init(&s->channel, fd, QUEUE_FRAME_MAX);
	channel_guard(&s->channel);
	s->next = k->submitters;
	if (s->next)
		s->next->previous = s;
	k->submitters = s;
	k->submitters_len++;
	return s;
}

void
submit_run_short(struct keeper *k)
{
	if (!k->is_short)
		keeper_log("warning", "no descriptor or memory for another connection", 0, errno);
	k->is_short = 1;
	k->accepting = 0;
}

/* Its submitter tries again. */
static void
close_unserved(int fd)
{
	keeper_log("warning", "unable to serve a connection, it is closed", 0, errno);
	lingering_close(fd);
}

void
submit_accept(struct keeper *k, struct source *listener, uint32_t events)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	struct submitter *s;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (is_shortage(errno))
			submit_run_short(k);
		return;
	}
	k->is_short = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		close_unserved(fd);
		return;
	}
	if (!has_room(k, peer.uid)) {
		keeper_log("warning", "too many connections, one more closed; uid", peer.uid, 0);
		lingering_close(fd);
		return;
	}
	s = new_submitter(k, fd, peer.uid);
	if (!s) {
		close_unserved(fd);
		return;
	}
	if (!keeper_watch(k, &s->source, EPOLLIN)) {
		keeper_log("warning", "unable to serve a connection, it is closed; uid", s->uid, errno);
		submit_kill(k, s);
	}
}

void
submit_kill(struct keeper *k, struct submitter *s)
{
	if (s->state == SUBMIT_IS_DEAD)
		return;
	if (s->report.fd >= 0)
		keeper_unwatch(k, &s->report);
	keeper_unwatch(k, &s->source);
	s->state = SUBMIT_IS_DEAD;
}

void
submit_free_dead(struct keeper *k)
{
	struct submitter *next;

	for (struct submitter *s = k->submitters; s; s = next) {
		next = s->next;
		if (s->state != SUBMIT_IS_DEAD)
			continue;
		*(s->previous ? &s->previous->next : &k->submitters) = s->next;
		if (s->next)
			s->next->previous = s->previous;
		channel_free(&s->channel);
		channel_free(&s->report_channel);
		channel_free(&s->relay);
		stralloc_free(&s->message);
		stralloc_free(&s->envelope);
		free(s);
		k->submitters_len--;
	}
}

static void
start_over(struct submitter *s)
{
	/* room for a usual message is kept, a burst is not */
	if (s->message.a > 65536)
		stralloc_free(&s->message);
	if (s->envelope.a > 65536)
		stralloc_free(&s->envelope);
	s->message.len = s->envelope.len = 0;
	s->check = (struct envelope_check){ .state = ENVELOPE_START };
	s->code = 0;
	s->begun = 0;
	s->state = SUBMIT_READING;
}

void
submit_answer(struct keeper *k, struct submitter *s, unsigned int code, uint64_t number, uint64_t time)
{
	char payload[17];

	payload[0] = (char)code;
	uint64_pack_big(payload + 1, number);
	uint64_pack_big(payload + 9, time);
	s->heard = k->now_ms;
	start_over(s);
	/* an answer is 22 octets: a submitter that does not even make room for that is gone */
	if (keeper_watch(k, &s->source, EPOLLIN) && channel_put1(&s->channel, SUBMIT_RESULT, payload, sizeof payload) &&
	    channel_flush(&s->channel) == 1)
		return;
	if (errno != EPIPE && errno != ECONNRESET)
		keeper_log("warning", "unable to give an answer, its connection is closed; uid", s->uid, errno);
	submit_kill(k, s);
}

void
submit_refuse_for_memory(struct keeper *k, struct submitter *s)
{
	keeper_log("warning", "no memory for a message, it is refused; uid", s->uid, 0);
	submit_answer(k, s, QUEUE_NO_MEMORY, 0, 0);
}

/* The message has ended: an answer at once, or a place in the next batch. */
static void
complete(struct keeper *k, struct submitter *s)
{
	if (!s->code && s->check.state != ENVELOPE_COMPLETE)
		s->code = QUEUE_ENVELOPE;
	if (s->code) {
		if (s->code == QUEUE_NO_MEMORY)
			submit_refuse_for_memory(k, s);
		else
			submit_answer(k, s, s->code, 0, 0);
		return;
	}
	s->state = SUBMIT_IS_COMPLETE;
	s->heard = k->now_ms;
	s->next_complete = NULL;
	*k->complete_end = s;
	k->complete_end = &s->next_complete;
}

static void
take_envelope(struct submitter *s, const char *octets, size_t len)
{
	size_t used = 0;

	s->code = envelope_check(&s->check, octets, len, &used);
	if (!s->code && used < len)
		s->code = QUEUE_ENVELOPE;
	if (!s->code && !stralloc_catb(&s->envelope, octets, len))
		s->code = QUEUE_NO_MEMORY;
}

/* 0: the submitter breaks the rules. */
static int
take_frame(struct keeper *k, struct submitter *s, const struct channel_frame *f)
{
	s->begun = 1;
	switch (f->type) {
	case SUBMIT_MESSAGE:
		if (s->check.state != ENVELOPE_START)
			return 0;
		if (!s->code && !stralloc_catb(&s->message, f->s, f->len))
			s->code = QUEUE_NO_MEMORY;
		break;
	case SUBMIT_ENVELOPE:
		if (!s->code)
			take_envelope(s, f->s, f->len);
		break;
	case SUBMIT_END:
		if (f->len)
			return 0;
		complete(k, s);
		return 1;
	default:
		return 0;
	}
	if (s->code) {
		stralloc_free(&s->message);
		stralloc_free(&s->envelope);
	}
	return 1;
}

/* Frames that are there, until the message is complete or too large for the ring. */
void
submit_next(struct keeper *k, struct submitter *s)
{
	struct channel_frame f;
	int r;

	while (s->state == SUBMIT_READING) {
		if (!s->code && s->message.len + s->envelope.len > QUEUE_INLINE_MAX) {
			s->state = SUBMIT_IS_LARGE;
			if (!large_start(k, s))
				keeper_unwatch(k, &s->source);	/* until a child is free */
			return;
		}
		r = channel_next(&s->channel, &f);
		if (r == 0)
			return;
		if (r < 0 || !take_frame(k, s, &f)) {
			keeper_log("warning", "a submitter broke the protocol; uid", s->uid, 0);
			submit_kill(k, s);
			return;
		}
	}
}

static void
ready(struct keeper *k, struct source *source, uint32_t events)
{
	struct submitter *s = (struct submitter *)source;
	int r;

	(void)events;
	if (s->state == SUBMIT_IS_COMPLETE) {
		/* nothing is to come before the answer: it hung up, or says the next message too early */
		keeper_unwatch(k, source);
		return;
	}
	r = channel_receive(&s->channel);
	if (r > 0)
		s->heard = k->now_ms;
	if (r >= 0)
		submit_next(k, s);
	else
		submit_kill(k, s);
}

/* No child was free for it: what is left of it is read, and answered with that. */
static void
refuse_large(struct keeper *k, struct submitter *s)
{
	keeper_log("warning", "no process is free for a large message, it is refused; uid", s->uid, 0);
	stralloc_free(&s->message);
	stralloc_free(&s->envelope);
	s->code = QUEUE_TIMEOUT;
	s->state = SUBMIT_READING;
	if (keeper_watch(k, &s->source, EPOLLIN))
		submit_next(k, s);
	else
		submit_kill(k, s);
}

void
submit_expire(struct keeper *k)
{
	large_start_waiting(k);	/* where a child could not start, there may be none whose end would start it */
	for (struct submitter *s = k->submitters; s; s = s->next)
		if (s->state == SUBMIT_READING &&
		    k->now_ms - s->heard > 1000 * (uint64_t)(s->begun ? SUBMIT_STALL : SUBMIT_IDLE)) {
			if (s->begun)
				keeper_log("warning", "a submitter stalled within a message; uid", s->uid, 0);
			submit_kill(k, s);
		} else if (s->state == SUBMIT_IS_LARGE && s->report.fd < 0 && k->now_ms - s->heard > 1000 * (uint64_t)ROOM_WAIT)
			refuse_large(k, s);
}

/* "Received: (qmail N invoked by uid U); date", RFC 5321 section 4.4 in qmail's form. Returns its octets. */
size_t
submit_received_field(char *out, size_t room, const struct keeper *k, uid_t uid, uint64_t number, uint64_t now)
{
	char how[40], date[DATE822_MAX];

	if (uid == k->alias)
		strcpy(how, "by alias");
	else if (uid == k->qmaild)
		strcpy(how, "from network");
	else if (uid == k->qmails)
		strcpy(how, "for bounce");
	else
		snprintf(how, sizeof how, "by uid %lu", (unsigned long)uid);
	date822_trace(date, (time_t)now);
	return (size_t)snprintf(out, room, "Received: (qmail %llu invoked %s); %s\n", (unsigned long long)number, how, date);
}
