#include <stdlib.h>
#include <string.h>
#include <skalibs/uint64.h>
#include "bouncer.h"
#include "delivery.h"
#include "job.h"
#include "keeper.h"
#include "notify.h"
#include "octets.h"
#include "pass.h"
#include "places.h"
#include "schedule.h"
#include "stralloc_set.h"

static unsigned int
bit(enum route_channel channel)
{
	return 1u << channel;
}

static int
is_active(const struct message *m)
{
	return m->active_local || m->active_remote;
}

static void
add_active(struct message *m, enum route_channel channel)
{
	if (channel == ROUTE_LOCAL)
		m->active_local++;
	else
		m->active_remote++;
}

/* Returns how many are left. */
static uint32_t
remove_active(struct message *m, enum route_channel channel)
{
	return channel == ROUTE_LOCAL ? --m->active_local : --m->active_remote;
}

/* The heap is ordered by the second, and within it by number: who came first is first. */
enum { KEY_NUMBER = 24 };	/* bits of the number in a key */

static int64_t
key_of(const struct message *m, int64_t when)
{
	return when * (INT64_C(1) << KEY_NUMBER) + (int64_t)(m->number & ((UINT64_C(1) << KEY_NUMBER) - 1));
}

static int64_t
when_of(int64_t key)
{
	return key >> KEY_NUMBER;
}

/* Puts m into the heap of times by its earliest pass, or takes it out. */
static void
set_time(struct send *s, struct message *m)
{
	int64_t when = MESSAGE_NEVER;

	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		if (!(m->in_pass & bit(c)) && m->due[c] < when)
			when = m->due[c];
	if (when == MESSAGE_NEVER || m->in_bounce || m->is_ended)
		heap_remove(&s->due, m);
	else
		heap_put(&s->due, m, key_of(m, when));
}

/* --- the end of a message ---------------------------------------------------------- */

static void
log_message(struct send *s, const char *before, const struct message *m, const char *after)
{
	log_text(&s->log, before);
	log_number(&s->log, m->number);
	log_text(&s->log, after);
	log_end(&s->log);
}

static void
end(struct send *s, struct message *m)
{
	log_message(s, "end msg ", m, "");
	heap_remove(&s->due, m);
	keeper_tell_end(s, m);
}

/* Outcomes of m that the keeper will not confirm any more. */
static void
close_outcomes(struct send *s, struct message *m)
{
	for (uint32_t i = 0; i < m->recipients_len; i++)
		s->keeper.open -= m->recipients[i].unconfirmed;
	if (m->is_ended)
		s->keeper.open--;
}

static void
forget(struct send *s, struct message *m)
{
	close_outcomes(s, m);
	heap_remove(&s->due, m);
	message_free(&s->messages, m);
}

/* Forgets a message that is lost, but not while a child may report about it, or a worker: pass_reported or the end of its pass does it then. */
static void
forget_if_free(struct send *s, struct message *m)
{
	if (!m->in_report && !is_active(m))
		forget(s, m);
}

void
pass_ended(struct send *s, struct message *m)
{
	forget(s, m);
}

/* Tries what failed to be submitted for m again later. */
static void
finish_later(struct send *s, struct message *m)
{
	m->due[ROUTE_LOCAL] = s->now + SEND_SYSTEM_RETRY;
	m->due[ROUTE_REMOTE] = MESSAGE_NEVER;
	if (m->is_lost)
		forget(s, m);
	else
		set_time(s, m);
}

/* Begins the report of successes or delays that is owed. */
static void
begin_report(struct send *s, struct message *m)
{
	if (!m->owes_report || m->in_report || s->is_leaving || !bouncer_add(s, m))
		return;
	m->owes_report = 0;
	m->in_report = 1;
}

/* All recipients have an outcome. */
static void
finish(struct send *s, struct message *m)
{
	enum bounce_kind kind = bounce_kind_of(&s->bouncer.settings, message_sender(m));

	begin_report(s, m);
	if (m->in_report) {	/* what is left comes after it */
		heap_remove(&s->due, m);
		return;
	}
	if (m->owes_report) {
		finish_later(s, m);
		return;
	}
	if (!m->has_failed) {
		end(s, m);
		return;
	}
	if (kind == BOUNCE_TRIPLE || kind == BOUNCE_DROPPED) {
		log_message(s, kind == BOUNCE_TRIPLE ? "triple bounce: discarding bounce/" :
		    "double bounce: discarding bounce/", m, "");
		end(s, m);
		return;
	}
	/* one that is not begun any more is begun at the next start */
	if (!s->is_leaving && bouncer_add(s, m)) {
		m->in_bounce = 1;
		heap_remove(&s->due, m);
	} else
		pass_not_bounced(s, m);
}

void
pass_bounced(struct send *s, struct message *m)
{
	m->in_bounce = 0;
	end(s, m);
}

void
pass_not_bounced(struct send *s, struct message *m)
{
	m->in_bounce = 0;
	finish_later(s, m);
}

/* A recipient whose success, or delay, was reported. */
static void
recipient_reported(struct send *s, struct message *m, struct recipient *r)
{
	r->in_report = 0;
	if (m->is_delay_report) {
		r->was_delayed = 1;
		if (r->state == RECIPIENT_DELAYED)
			recipient_set(r, RECIPIENT_TODO, NULL);
		/* what became of it meanwhile says more */
		if (r->state == RECIPIENT_TODO || r->state == RECIPIENT_BUSY)
			keeper_tell_recipient(s, m, r);
		return;
	}
	recipient_set(r, RECIPIENT_DONE, NULL);
	if (m->todo || m->has_failed || m->owes_report)
		keeper_tell_recipient(s, m, r);
}

void
pass_reported(struct send *s, struct message *m)
{
	for (uint32_t i = 0; i < m->recipients_len; i++)
		if (m->recipients[i].in_report)
			recipient_reported(s, m, &m->recipients[i]);
	m->in_report = 0;
	if (is_active(m))
		return;
	if (m->is_lost)
		forget(s, m);
	else if (m->todo)
		begin_report(s, m);
	else
		finish(s, m);
}

void
pass_not_reported(struct send *s, struct message *m)
{
	for (uint32_t i = 0; i < m->recipients_len; i++)
		m->recipients[i].in_report = 0;
	m->in_report = 0;
	m->owes_report = 1;
	if (is_active(m))
		return;
	if (m->is_lost)
		forget(s, m);
	else if (!m->todo)
		finish_later(s, m);
	/* else the end of its next pass begins it again */
}

void
pass_forget_lost(struct send *s)
{
	stralloc lost = STRALLOC_ZERO;
	struct message *m;
	uint32_t at = 0;

	while ((m = message_next(&s->messages, &at)))
		if (m->is_lost && !is_active(m) && !m->in_bounce && !m->in_report && !stralloc_catb(&lost, (char *)&m, sizeof m))
			break;	/* without memory they stay, and are forgotten at the next list */
	for (size_t i = 0; i < lost.len; i += sizeof m) {
		memcpy(&m, lost.s + i, sizeof m);
		log_message(s, "warning: forgetting msg ", m, ": it is no longer in the queue");
		forget(s, m);
	}
	stralloc_free(&lost);
}

/* --- passes -------------------------------------------------------------------------- */

/* When the channel's next pass is, after one that ended. */
static int64_t
next_time(const struct send *s, const struct message *m, enum route_channel channel)
{
	if (m->returned & bit(channel))
		return m->is_sought ? MESSAGE_NEVER : s->now + SEND_SYSTEM_RETRY;
	if (m->rerouted & bit(channel))
		return s->now;
	if (!(m->deferred & bit(channel)))
		return MESSAGE_NEVER;
	/* reckoned from the start of the pass, unless that has gone by */
	return m->due[channel] > s->now ? m->due[channel] : schedule_next(m->birth, s->now, channel);
}

/* Nothing of it is being attempted. It may be freed by this. */
static void
rest(struct send *s, struct message *m)
{
	if (m->is_lost) {
		forget_if_free(s, m);
		return;
	}
	if (!m->todo) {
		finish(s, m);
		return;
	}
	begin_report(s, m);
	if (m->deferred && !m->was_told) {
		m->was_told = 1;
		keeper_tell_deferred(s, m);
		/* by the next pass it lies in its file */
		if (!m->in_report) {
			place_free(m->place);
			m->place = NULL;
		}
	}
	/* something is to do, but nobody knows when: not to be expected */
	if (m->due[ROUTE_LOCAL] == MESSAGE_NEVER && m->due[ROUTE_REMOTE] == MESSAGE_NEVER && !m->is_sought)
		m->due[ROUTE_LOCAL] = s->now + SEND_SYSTEM_RETRY;
	set_time(s, m);
}

/* One recipient fewer is busy in the channel. It may free m. */
static void
release(struct send *s, struct message *m, enum route_channel channel)
{
	if (remove_active(m, channel))
		return;
	m->in_pass &= ~bit(channel) & 3;
	m->due[channel] = next_time(s, m, channel);
	if (is_active(m))
		set_time(s, m);
	else
		rest(s, m);
}

static void
route_recipient(struct send *s, struct spread *p, struct recipient *r)
{
	struct message *m = p->message;
	struct route route;

	if (!route_find(&s->rules, recipient_address(r), &s->address, &route)) {
		m->returned |= p->channels & 3;
		return;
	}
	if (!(p->channels & bit(route.channel))) {
		p->seen |= bit(route.channel);
		return;
	}
	recipient_set(r, RECIPIENT_BUSY, NULL);
	add_active(m, route.channel);
	delivery_enqueue(s, r, &route, &s->address);
}

/* Routes up to count recipients. Returns how many were looked at. */
static uint32_t
spread_slice(struct send *s, struct spread *p, uint32_t count)
{
	struct message *m = p->message;
	uint32_t from = p->position, left = m->recipients_len - from;

	count = count < left ? count : left;
	for (; p->position < from + count; p->position++)
		if (recipient_is_waiting(&m->recipients[p->position]))
			route_recipient(s, p, &m->recipients[p->position]);
	return count;
}

/* All recipients were looked at. */
static void
spread_end(struct send *s, struct spread *p)
{
	struct message *m = p->message;
	unsigned int channels = p->channels;

	/* after a change of the control files a recipient may belong to a channel in which none was waiting */
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		if (p->seen & bit(c) && !(m->in_pass & bit(c)) && m->due[c] == MESSAGE_NEVER)
			m->due[c] = s->now;
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		if (channels & bit(c)) {
			channels &= ~bit(c);
			release(s, m, c);
			if (!channels)
				return;	/* m may be gone */
		}
}

static void
append_spread(struct send *s, struct spread *p)
{
	p->next = NULL;
	*(s->spreads ? &s->spreads_last->next : &s->spreads) = p;
	s->spreads_last = p;
}

/* Begins the passes of m that are due. */
static void
begin(struct send *s, struct message *m)
{
	struct spread here = { .message = m }, *p;

	if (!m->todo) {
		finish(s, m);
		return;
	}
	if (m->size > JOB_INLINE_MAX && !m->is_checked) {
		heap_remove(&s->due, m);
		octets_check_later(s, m);
		return;
	}
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++) {
		unsigned int b = bit(c);

		if (m->in_pass & b || m->due[c] > s->now)
			continue;
		here.channels |= b;
		m->in_pass |= b & 3;
		m->deferred &= ~b & 3;
		m->returned &= ~b & 3;
		m->rerouted &= ~b & 3;
		m->is_over = (schedule_is_over(m->birth, s->now, s->lifetime) ? m->is_over | b : m->is_over & ~b) & 3;
		m->due[c] = schedule_next(m->birth, s->now, c);
		add_active(m, c);
	}
	set_time(s, m);
	if (m->recipients_len > PASS_SLICE && (p = malloc(sizeof *p))) {
		*p = here;
		append_spread(s, p);
		return;
	}
	spread_slice(s, &here, m->recipients_len);
	spread_end(s, &here);
}

/* Those begun end where they are: a message of which no more is to do is told to have ended, and not delivered again by the next start. */
static void
end_spreads(struct send *s)
{
	struct spread *p;

	while ((p = s->spreads)) {
		s->spreads = p->next;
		spread_end(s, p);
		free(p);
	}
}

int
pass_run(struct send *s)
{
	uint32_t left = PASS_TURN;
	struct message *m;
	int64_t when;

	if (s->is_leaving) {
		end_spreads(s);
		return 0;
	}
	/* some recipients have their outcome as they are routed */
	if (keeper_is_behind(s))
		return 0;
	while (left) {
		struct spread *p = s->spreads;
		uint32_t used = 1;

		m = heap_first(&s->due, &when);
		if (m && when_of(when) <= s->now) {
			used += m->recipients_len < PASS_SLICE ? m->recipients_len : 0;
			begin(s, m);
		} else if (!p)
			return 0;
		if (p) {
			used += spread_slice(s, p, PASS_SLICE);
			s->spreads = p->next;
			if (p->position < p->message->recipients_len)
				append_spread(s, p);
			else {
				spread_end(s, p);
				free(p);
			}
		}
		left = used < left ? left - used : 0;
	}
	return 1;
}

int64_t
pass_next(const struct send *s)
{
	int64_t when;

	return heap_first(&s->due, &when) ? when_of(when) : INT64_MAX;
}

void
pass_hurry(struct send *s)
{
	struct message *m;
	uint32_t at = 0;

	while ((m = message_next(&s->messages, &at))) {
		for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
			if (m->due[c] != MESSAGE_NEVER && !(m->in_pass & bit(c)))
				m->due[c] = s->now;
		/* those that are being checked are in no heap, and come back by themselves */
		if (m->heap_at)
			set_time(s, m);
	}
}

void
pass_set_back(struct send *s, int64_t seconds)
{
	struct message *m;
	uint32_t at = 0;

	while ((m = message_next(&s->messages, &at))) {
		for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
			if (m->due[c] != MESSAGE_NEVER)
				m->due[c] -= seconds;
		if (m->heap_at)
			set_time(s, m);
	}
}

/* --- outcomes ---------------------------------------------------------------------------- */

/* The text of a failure; of a deferral that came too late with a sentence added. */
static struct text *
failure_text(struct send *s, const char *text, size_t len, int is_over)
{
	if (len > QUEUE_TEXT_MAX)
		len = QUEUE_TEXT_MAX;
	if (!is_over)
		return text_new(text, len);
	if (len > QUEUE_TEXT_MAX - strlen(bounce_too_long) - 1)
		len = QUEUE_TEXT_MAX - strlen(bounce_too_long) - 1;
	if (!stralloc_setb(&s->strings, text, len) || (len && text[len - 1] != '\n' && !stralloc_catb(&s->strings, "\n", 1)) ||
	    !stralloc_cats(&s->strings, bounce_too_long))
		return NULL;
	return text_new(s->strings.s, s->strings.len);
}

/* The text of a success that will be reported. NULL: ENOMEM; then there is no report. */
static struct text *
success_text(struct send *s, enum route_channel channel, const char *text, size_t len)
{
	char action = (char)notify_action(channel == ROUTE_REMOTE, text, len);

	if (len > QUEUE_TEXT_MAX - 1)
		len = QUEUE_TEXT_MAX - 1;
	if (!stralloc_setb(&s->strings, &action, 1) || !stralloc_catb(&s->strings, text, len))
		return NULL;
	return text_new(s->strings.s, s->strings.len);
}

/* What its sender wants to hear of the recipient. A null sender, or a bounce's, hears of no success and no delay; that
 * its message failed is for the postmaster. */
static unsigned int
events_of(const struct send *s, const struct message *m, struct recipient *r)
{
	unsigned int events = notify_events(recipient_parameters(r));

	return bounce_kind_of(&s->bouncer.settings, message_sender(m)) == BOUNCE_SINGLE ? events : events & NOTIFY_FAILURE;
}

/* The state of a recipient after success. */
static void
succeed(struct send *s, struct message *m, struct recipient *r, struct text *report)
{
	recipient_set(r, report ? RECIPIENT_SUCCEEDED : RECIPIENT_DONE, report);
	m->owes_report |= report != NULL;
	m->todo--;
	/* of the last success the end of the message says enough */
	if (report || m->todo || m->has_failed || m->owes_report || m->in_report)
		keeper_tell_recipient(s, m, r);
}

/* After a deferral, which is reported once if the message is old enough. */
static void
defer(struct message *m, struct recipient *r, enum route_channel channel, struct text *report)
{
	recipient_set(r, report ? RECIPIENT_DELAYED : RECIPIENT_TODO, report);
	m->owes_report |= report != NULL;
	m->deferred |= bit(channel) & 3;
}

static int
is_delay_due(const struct send *s, const struct message *m, const struct recipient *r, unsigned int events)
{
	return events & NOTIFY_DELAY && !r->was_delayed && s->delay_notice && s->now - m->birth >= s->delay_notice;
}

void
pass_outcome(struct send *s, struct recipient *r, enum route_channel channel, char letter, const char *text, size_t len)
{
	struct message *m = recipient_message(r);
	unsigned int events = events_of(s, m, r);
	int is_over = letter == 'Z' && m->is_over & bit(channel);
	struct text *failure = NULL;

	if (letter == 'K' || letter == 'k')
		succeed(s, m, r, letter == 'K' && events & NOTIFY_SUCCESS ? success_text(s, channel, text, len) : NULL);
	else if (letter == 'Z' && !is_over)
		defer(m, r, channel, is_delay_due(s, m, r, events) ? text_new(text, len) : NULL);
	else if (!(events & NOTIFY_FAILURE))
		succeed(s, m, r, NULL);	/* done with it: nobody is told */
	else if ((failure = failure_text(s, text, len, is_over))) {
		recipient_set(r, RECIPIENT_FAILED, failure);
		m->has_failed = 1;
		m->todo--;
		keeper_tell_recipient(s, m, r);
	} else	/* no memory for its text */
		defer(m, r, channel, NULL);
	release(s, m, channel);
}

/* A recipient that was not attempted. */
static void
put_back(struct send *s, struct recipient *r, enum route_channel channel)
{
	recipient_set(r, RECIPIENT_TODO, NULL);
	release(s, recipient_message(r), channel);
}

void
pass_return(struct send *s, struct recipient *r, enum route_channel channel)
{
	recipient_message(r)->returned |= bit(channel) & 3;
	put_back(s, r, channel);
}

void
pass_reroute(struct send *s, struct recipient *r, enum route_channel channel)
{
	recipient_message(r)->rerouted |= bit(channel) & 3;
	put_back(s, r, channel);
}

void
pass_checked(struct send *s, struct message *m, int64_t when)
{
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		if (m->due[c] < when)
			m->due[c] = when;
	if (m->is_lost)
		forget_if_free(s, m);
	else if (!m->is_sought)
		set_time(s, m);
}

/* --- what the keeper says --------------------------------------------------------------------- */

void
pass_new(struct send *s, struct message *m, const struct queue_notice *n)
{
	m->was_told = n->tried != 0;
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		m->due[c] = n->tried ? schedule_resume(m->birth, s->keeper.last_tried, c) : s->now;
	if (!n->tried) {
		log_message(s, "new msg ", m, "");
		log_text(&s->log, "info msg ");
		log_number(&s->log, m->number);
		log_text(&s->log, ": bytes ");
		log_number(&s->log, m->size);
		log_text(&s->log, " from <");
		log_quoted(&s->log, message_sender(m), strlen(message_sender(m)));
		log_text(&s->log, "> qp ");
		log_number(&s->log, m->number);
		log_text(&s->log, " uid ");
		log_number(&s->log, n->uid);
		log_end(&s->log);
	}
	if (!m->todo) {
		finish(s, m);
		return;
	}
	begin_report(s, m);
	set_time(s, m);
}

void
pass_found(struct send *s, struct message *m)
{
	m->is_sought = 0;
	if (m->is_lost) {
		if (!is_active(m) && !m->in_bounce && !m->in_report) {
			log_message(s, "alert: msg ", m, " is damaged and was set aside");
			forget(s, m);
		}
		return;
	}
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		if (m->returned & bit(c) && !(m->in_pass & bit(c)))
			m->due[c] = s->now;
	if (!m->todo)
		m->due[ROUTE_LOCAL] = s->now;
	set_time(s, m);
}

void
pass_named_again(struct send *s, struct message *m, int tried)
{
	if (m->is_sought && !m->is_ended)
		pass_found(s, m);
	if (tried || !m->was_told || m->is_ended)
		return;
	/* the earlier keeper did not write down that it has to wait */
	if (is_active(m) || m->in_bounce)
		m->was_told = 0;
	else
		keeper_tell_deferred(s, m);
}
