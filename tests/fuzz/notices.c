/* qmail-queued that tells qmail-send any octets. It is believed about which messages there are; but octets that are no notice end the
 * connection, and what is told hangs together. */
#include <assert.h>
#include <stddef.h>
#include <sys/socket.h>
#include "given.h"
/* what takes the octets is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/send/keeper.c"
#include "quiet_loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* --- the rest of qmail-send -------------------------------------------------------------------------- */

/* A message has its recipients in order, each with its strings; for each that is to do there is an outcome at once, and if there is none
 * it ends. */
void
pass_new(struct send *s, struct message *m, const struct queue_notice *n)
{
	size_t todo = 0;

	assert(m->number == n->number && m->number && message_find(&s->messages, m->number) == m);
	assert(strlen(message_sender(m)) + strlen(message_parameters(m)) < QUEUE_FRAME_MAX);
	for (uint32_t i = 0; i < m->recipients_len; i++) {
		struct recipient *r = &m->recipients[i];

		assert(recipient_message(r) == m && (!i || r[-1].index <= r->index));
		assert(strlen(recipient_address(r)) + strlen(recipient_parameters(r)) < QUEUE_FRAME_MAX);
		assert(r->state == RECIPIENT_TODO || ((r->state == RECIPIENT_FAILED || r->state == RECIPIENT_SUCCEEDED) && r->text));
		todo += r->state == RECIPIENT_TODO;
		if (r->state != RECIPIENT_TODO)
			continue;
		recipient_set(r, RECIPIENT_DONE, NULL);
		keeper_tell_recipient(s, m, r);
	}
	assert(m->todo == todo);
	if (!todo)
		keeper_tell_end(s, m);
}

void
pass_named_again(struct send *s, struct message *m, int tried)
{
	assert(message_find(&s->messages, m->number) == m && tried >= 0);
	if (!m->is_sought)
		keeper_ask_place(s, m);
}

void
pass_found(struct send *s, struct message *m)
{
	assert(message_find(&s->messages, m->number) == m && m->is_sought && (!m->place || m->place->kind == PLACE_RING));
	m->is_sought = 0;
	m->misfits = 1;
}

void
pass_ended(struct send *s, struct message *m)
{
	s->keeper.open--;
	for (uint32_t i = 0; i < m->recipients_len; i++)
		s->keeper.open -= m->recipients[i].unconfirmed;
	message_free(&s->messages, m);
}

void
pass_forget_lost(struct send *s)
{
	assert(!s->keeper.is_listing);
}

/* --- a connection ------------------------------------------------------------------------------------- */

/* As many outcomes are open as were told and not confirmed. */
static void
check_open(const struct send *s)
{
	const struct message *m;
	uint32_t at = 0, open = 0;

	while ((m = message_next(&s->messages, &at))) {
		open += m->is_ended;
		for (uint32_t i = 0; i < m->recipients_len; i++)
			open += m->recipients[i].unconfirmed;
	}
	assert(open == s->keeper.open);
}

/* Lets qmail-send hear it. */
static void
connect_and_tell(struct send *s, struct given g)
{
	struct keeper *k = &s->keeper;
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	channel_init(&k->channel, pair[0], QUEUE_FRAME_MAX);
	k->source = (struct loop_source){ .fd = pair[0], .ready = ready, .owner = k };
	if (g.len)
		assert(send(pair[1], g.s, g.len, MSG_NOSIGNAL) == (ssize_t)g.len);
	k->source.ready(s, k, EPOLLIN);
	check_open(s);
	assert(k->said_hello || !s->messages.count || !k->is_listing);
	if (k->channel.fd >= 0)
		keeper_close(s);
	close(pair[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct send *s = calloc(1, sizeof *s);
	struct given g = { octets, len };
	struct message *m;
	uint32_t at = 0;

	assert(s);
	heap_init(&s->due, offsetof(struct message, heap_at));
	keeper_init(s);
	do
		connect_and_tell(s, given_piece(&g, given_number(&g, 2)));
	while (g.len);
	while ((m = message_next(&s->messages, &at))) {
		message_free(&s->messages, m);
		at = 0;
	}
	message_draft_free(&s->keeper.draft);
	heap_free(&s->due);
	free(s->messages.slots);
	free(s);
	return 0;
}
