#include <stdio.h>
#include <string.h>
#include <time.h>
#include "listener.h"
#include "received.h"
#include "session.h"

/* A message that has begun is finished, even if the server is being stopped meanwhile. */
static void
set_submitting(struct session *s, int is_submitting)
{
	s->is_submitting = is_submitting;
	s->in.is_stopping = is_submitting ? NULL : listener_is_stopping;
}

void
delivery_abandon(struct session *s)
{
	if (s->is_submitting)
		queue_client_abandon(s->queue);
	set_submitting(s, 0);
}

/* Octets of the message, on their way out of s->completion. */
static void
put_completed(void *data, const char *octets, size_t len)
{
	const struct session *s = data;

	queue_client_message(s->queue, octets, len);
}

static void
begin_completion(struct session *s)
{
	const stralloc *host = s->settings->me.len ? &s->settings->me : &s->settings->greeting;

	author_free(&s->author);
	s->completion = (struct completion){ .put = put_completed, .data = s, .time = time(NULL), .host = host->s, .host_len = host->len,
	    .serial = (uint64_t)s->pid << 32 | s->mails, .author = s->settings->numbers[NUMBER_AUTHORS] == AUTHORS_ANY ? NULL : &s->author };
}

/* The message begins: its Received field. */
static void
begin(struct session *s, int is_data)
{
	struct received r = { .peer = &s->peer, .helo = s->helo.len ? s->helo.s : NULL, .is_extended = s->is_extended,
		.is_smtputf8 = s->mail.is_smtputf8, .is_authenticated = s->is_authenticated,
		.tls = s->is_tls ? s->tls->engine.protocol : NULL, .cipher = s->tls->engine.cipher, .time = time(NULL) };
	stralloc field = STRALLOC_ZERO;

	content_start(&s->mail.content, is_data);
	queue_client_begin(s->queue);
	set_submitting(s, 1);
	if (s->is_authenticated)
		begin_completion(s);
	if (received_put(&field, &r))
		queue_client_message(s->queue, field.s, field.len);
	else
		s->mail.has_no_memory = 1;
	stralloc_free(&field);
}

static int
has_too_many_hops(const struct session *s)
{
	return s->mail.content.hops >= s->settings->numbers[NUMBER_MAXHOPS];
}

static int
is_refused(const struct session *s)
{
	return s->mail.is_too_large || s->mail.has_no_memory || content_is_condemned(&s->mail.content) || has_too_many_hops(s);
}

/* Hands octets of the message on. One that is refused already is only read to its end. */
static void
hand_on(struct session *s, const char *octets, size_t len)
{
	unsigned long most = s->settings->numbers[NUMBER_DATABYTES];

	s->mail.is_too_large |= most && s->mail.content.octets > most;
	if (is_refused(s))
		delivery_abandon(s);
	else if (s->is_authenticated)
		completion_take(&s->completion, octets, len);
	else
		queue_client_message(s->queue, octets, len);
}

/* The message is whole: its envelope, and the queue's answer. */
static void
submit(struct session *s)
{
	const char *r = s->mail.recipients.s;
	struct queue_result result;
	char text[64];

	queue_client_sender(s->queue, s->mail.sender.s, s->mail.sender.len - 1);
	queue_client_sender_parameters(s->queue, s->mail.sender_parameters.s);
	for (unsigned int i = 0; i < s->mail.count; i++) {
		queue_client_recipient(s->queue, r, strlen(r));
		r += strlen(r) + 1;
		queue_client_recipient_parameters(s->queue, r);
		r += strlen(r) + 1;
	}
	queue_client_end(s->queue, 1, &result);
	set_submitting(s, 0);
	if (result.code == 0) {
		snprintf(text, sizeof text, "ok %llu qp %llu", (unsigned long long)result.time, (unsigned long long)result.number);
		reply_put(&s->reply, 250, "2.0.0", text);
		s->messages++;
		s->idle = s->refused_lately = 0;
		s->octets += s->mail.content.octets;
		session_log_message(s, "accepted", result.number, "");
		return;
	}
	reply_put(&s->reply, result.permanent ? 554 : 451, result.permanent ? "5.3.0" : "4.3.0", result.text);
	session_log_message(s, result.permanent ? "refused" : "deferred", 0, s->reply.last);
}

/* Answers a message that is_refused. */
static void
refuse(struct session *s)
{
	delivery_abandon(s);
	if (content_is_condemned(&s->mail.content))
		reply_put(&s->reply, 550, "5.6.0", s->mail.content.has_bare_lf ?
		    "a line of the message ends with LF and no CR before it" : "there is a CR without LF in the message");
	else if (has_too_many_hops(s))
		reply_put(&s->reply, 554, "5.4.6", "too many hops, this message is looping");
	else if (s->mail.is_too_large)
		reply_put(&s->reply, 552, "5.3.4", "sorry, that message size exceeds my databytes limit");
	else
		reply_put(&s->reply, 451, "4.3.0", "out of memory");
	session_log_message(s, s->mail.has_no_memory ? "deferred" : "refused", 0, s->reply.last);
}

/* Whether who the message says has written it may have; 0: not, which was answered. */
static int
takes_author(struct session *s)
{
	enum submission_answer answer = auth_judges_author(s);

	if (answer == SUBMISSION_YES)
		return 1;
	delivery_abandon(s);
	if (answer == SUBMISSION_NO)
		reply_put(&s->reply, 550, "5.7.1", "sorry, who this message is from does not belong to your login");
	else
		reply_put(&s->reply, s->end == SESSION_GOES_ON ? 451 : 421, "4.3.0", "unable to check who this message is from");
	session_log_message(s, answer == SUBMISSION_NO ? "refused" : "deferred", 0, s->reply.last);
	return 0;
}

static void
finish(struct session *s)
{
	if (s->is_authenticated && !is_refused(s)) {
		completion_finish(&s->completion);
		s->mail.has_no_memory |= s->completion.has_no_memory;
	}
	if (is_refused(s))
		refuse(s);
	else if (takes_author(s))
		submit(s);
	session_reset(s);
}

/* The client is gone, or silent, in the midst of the message. */
static void
give_up(struct session *s, enum input_result r)
{
	delivery_abandon(s);
	session_close_input(s, r);
	session_log_message(s, "incomplete", 0, r == INPUT_CLOSED ? "the client closed the connection" : s->reply.last);
}

void
delivery_data(struct session *s)
{
	begin(s, 1);
	while (s->mail.content.state != CONTENT_END) {
		enum input_result r = input_data(&s->in);
		char *octets = s->in.buffer + s->in.start;
		size_t used, len;

		if (r != INPUT_OK) {
			give_up(s, r);
			return;
		}
		len = content_take(&s->mail.content, octets, s->in.end - s->in.start, &used);
		input_take(&s->in, used);
		hand_on(s, octets, len);
	}
	finish(s);
}

/* --- BDAT (RFC 3030 section 2) ----------------------------------------------------------- */

/* The octets of a chunk: into the message, or away. Returns 0 when the session has ended. */
static int
read_chunk(struct session *s, uint64_t size, int is_kept)
{
	while (size) {
		enum input_result r = input_data(&s->in);
		char *octets = s->in.buffer + s->in.start;
		size_t used = s->in.end - s->in.start, len;

		if (r != INPUT_OK) {
			if (is_kept)
				give_up(s, r);
			else
				session_close_input(s, r);
			return 0;
		}
		if (used > size)
			used = (size_t)size;
		if (is_kept) {
			len = content_take(&s->mail.content, octets, used, &used);
			hand_on(s, octets, len);
		}
		input_take(&s->in, used);
		size -= used;
	}
	return 1;
}

/* The first chunk: the message begins. 1, or 0: it is not taken, which was answered behind the chunk. */
static int
begin_chunks(struct session *s, uint64_t size, int is_last)
{
	s->phase = PHASE_CHUNKS;
	if (auth_takes_message(s)) {
		begin(s, 0);
		return 1;
	}
	read_chunk(s, size, 0);
	s->mail.has_failed = 1;
	if (is_last)
		session_reset(s);
	return 0;
}

void
delivery_chunk(struct session *s, uint64_t size, int is_last)
{
	uint64_t most = s->settings->numbers[NUMBER_DATABYTES];
	char text[64];

	/* 503 behind the last chunk, and behind one that was refused until RSET; the octets come all the same */
	if (!(s->phase & (PHASE_RECIPIENT | PHASE_CHUNKS)) || s->mail.has_failed) {
		if (!read_chunk(s, size, 0))
			return;
		reply_put(&s->reply, 503, "5.5.1", s->mail.has_failed ? "this message was refused" : s->phase == PHASE_IDLE ? "MAIL first" : "RCPT first");
		session_count_error(s);
		return;
	}
	if (s->phase == PHASE_RECIPIENT && !begin_chunks(s, size, is_last))
		return;
	/* one that is too large is known before it comes */
	s->mail.is_too_large |= most && (size > most + most / 8 + 4096);
	if (!read_chunk(s, size, 1))
		return;
	if (is_last)
		content_finish(&s->mail.content);
	if (is_refused(s) && !is_last) {
		refuse(s);
		s->mail.has_failed = 1;
	} else if (is_last)
		finish(s);
	else {
		snprintf(text, sizeof text, "%llu octets received", (unsigned long long)size);
		reply_put(&s->reply, 250, "2.0.0", text);
	}
}
