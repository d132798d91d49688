/* Local programs that submit messages to qmail-queued, given any octets. The input is cut into packets, each after its length of two
 * octets; what comes of them is held against the protocol read off the whole of them. */
#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "given.h"
/* what takes the octets is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/queue/submit.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { ANSWERS_MAX = 1024 };

/* --- the keeper around it ------------------------------------------------------------------------- */

static int is_broken, is_large;

int
keeper_watch(struct keeper *k, struct source *s, uint32_t events)
{
	assert(k && s->fd >= 0);
	s->watched = events;
	return 1;
}

void
keeper_unwatch(struct keeper *k, struct source *s)
{
	assert(k);
	s->watched = 0;
}

void
keeper_log(const char *kind, const char *text, uint64_t number, int error)
{
	assert(kind && number == 1000 && !error);
	is_broken |= strstr(text, "broke the protocol") != NULL;
}

int
large_start(struct keeper *k, struct submitter *s)
{
	assert(k && s->message.len + s->envelope.len > QUEUE_INLINE_MAX);
	is_large = 1;
	return 1;
}

void
large_start_waiting(struct keeper *k)
{
	assert(k);
}

/* --- what has to come of it ------------------------------------------------------------------------ */

struct want {
	stralloc message, envelope;
	struct given g;		/* not read yet */
	int is_wrong;		/* the rules were broken */
};

/* The frames of the next message, up to its end. Returns its code, or -1: the octets end before, or break the rules. */
static int
read_message(struct want *w)
{
	struct envelope_check check = { .state = ENVELOPE_START };
	unsigned int code = 0;

	w->message.len = w->envelope.len = 0;
	while (w->g.len >= CHANNEL_HEADER) {
		struct given before = w->g, payload;
		size_t len = given_number(&w->g, 4), used = 0;
		char type = (char)given_number(&w->g, 1);

		w->is_wrong = len > QUEUE_FRAME_MAX;
		if (w->is_wrong || len > w->g.len) {
			w->g = w->is_wrong ? before : (struct given){ NULL, 0 };
			return -1;
		}
		payload = given_piece(&w->g, len);
		w->is_wrong = (type != SUBMIT_MESSAGE && type != SUBMIT_ENVELOPE && type != SUBMIT_END) || (type == SUBMIT_END && len) ||
		    (type == SUBMIT_MESSAGE && check.state != ENVELOPE_START);
		if (w->is_wrong)
			return -1;
		if (type == SUBMIT_END)
			return (int)(code || check.state == ENVELOPE_COMPLETE ? code : QUEUE_ENVELOPE);
		if (!code && type == SUBMIT_ENVELOPE) {
			code = envelope_check(&check, (const char *)payload.s, len, &used);
			if (!code && used < len)
				code = QUEUE_ENVELOPE;
		}
		assert(stralloc_catb(type == SUBMIT_MESSAGE ? &w->message : &w->envelope, (const char *)payload.s, len));
	}
	return -1;
}

static int
is_same(const stralloc *a, const stralloc *b)
{
	return a->len == b->len && (!a->len || memcmp(a->s, b->s, a->len) == 0);
}

/* --- a connection ---------------------------------------------------------------------------------- */

/* The next answer says this code. */
static void
check_answer(int fd, unsigned int code, uint64_t number)
{
	unsigned char said[CHANNEL_HEADER + 17];
	uint64_t n;

	assert(recv(fd, said, sizeof said, MSG_DONTWAIT) == (ssize_t)sizeof said);
	assert(said[3] == 17 && said[4] == SUBMIT_RESULT && said[5] == code);
	uint64_unpack_big((char *)said + 6, &n);
	assert(n == (code ? 0 : number));
}

/* Answers everything that is complete. Only a message without a fault gets that far, with the octets that were sent. */
static void
answer_complete(struct keeper *k, struct submitter *s, struct want *w, int fd, uint64_t *number)
{
	int code;

	while (s->state == SUBMIT_IS_COMPLETE) {
		while ((code = read_message(w)) > 0)
			check_answer(fd, (unsigned int)code, 0);
		assert(code == 0 && !s->code && is_same(&s->message, &w->message) && is_same(&s->envelope, &w->envelope));
		assert(k->complete == s && k->complete_end == &s->next_complete);
		k->complete = NULL;
		k->complete_end = &k->complete;
		submit_answer(k, s, QUEUE_OK, ++*number, 1);
		check_answer(fd, QUEUE_OK, *number);
		submit_next(k, s);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct want want;
	static stralloc sent;
	struct keeper k = { .now_ms = 1, .complete_end = &k.complete };
	struct given g = { octets, len };
	struct submitter *s;
	uint64_t number = 0;
	int pair[2], code;

	is_broken = is_large = 0;
	sent.len = 0;
	want.is_wrong = 0;
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	s = new_submitter(&k, pair[0], 1000);
	assert(s && stralloc_ready(&sent, len + 1));
	want.g = (struct given){ (const uint8_t *)sent.s, 0 };
	while (g.len && s->state != SUBMIT_IS_DEAD && !is_large) {
		struct given packet = given_piece(&g, given_number(&g, 2));

		if (!packet.len)
			continue;
		assert(send(pair[1], packet.s, packet.len, MSG_NOSIGNAL) == (ssize_t)packet.len);
		assert(stralloc_catb(&sent, (const char *)packet.s, packet.len));
		want.g.len += packet.len;
		s->source.ready(&k, &s->source, EPOLLIN);
		answer_complete(&k, s, &want, pair[1], &number);
	}
	assert(want.g.s >= (const uint8_t *)sent.s);
	while (!is_large && (code = read_message(&want)) >= 0) {
		assert(code > 0);
		check_answer(pair[1], (unsigned int)code, 0);
	}
	assert(is_large || is_broken == want.is_wrong);
	assert((s->state == SUBMIT_IS_DEAD) == is_broken && !k.complete);
	submit_kill(&k, s);
	submit_free_dead(&k);
	assert(!k.submitters && !k.submitters_len);
	close(pair[1]);
	return 0;
}
