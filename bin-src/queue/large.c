/* A message too large for the ring: a child takes over the submitter's socket, makes the files as the octets come, and
 * reports; the keeper answers. A long flush holds up nobody.
 * Report on its channel: one LARGE_RESULT frame, as SUBMIT_RESULT to a submitter with errno behind it, and on success the
 * notices of the message; then it ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/blake2s.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "keeper.h"

enum { LARGE_RESULT = '!', RESULT_OCTETS = 1 + 8 + 8 + 4 };

/* --- the child -------------------------------------------------------------------- */

struct large {
	struct submitter *s;
	struct info info;
	blake2s_ctx digest;
	int fd;
	char temporary[INFO_PATH_MAX], mess[INFO_PATH_MAX];
};

static void
fail_to_write(struct large *l)
{
	l->s->code = QUEUE_WRITE;
	l->s->error = errno;
}

static void
write_message(struct large *l, const char *octets, size_t len)
{
	if (l->s->code)
		return;
	blake2s_update(&l->digest, octets, len);
	l->info.size += len;
	if (allwrite(l->fd, octets, len) < len)
		fail_to_write(l);
}

static void
take_frame(struct large *l, const struct channel_frame *f)
{
	struct submitter *s = l->s;
	size_t used = 0;

	if (f->type == SUBMIT_MESSAGE && s->check.state == ENVELOPE_START)
		write_message(l, f->s, f->len);
	else if (f->type != SUBMIT_ENVELOPE)
		_exit(0);	/* breaks the rules: no report, the keeper closes */
	else if (!s->code) {
		s->code = envelope_check(&s->check, f->s, f->len, &used);
		if (!s->code && used < f->len)
			s->code = QUEUE_ENVELOPE;
		if (!s->code && !stralloc_catb(&s->envelope, f->s, f->len)) {
			s->code = QUEUE_NO_MEMORY;
			s->error = ENOMEM;
		}
	}
}

/* Waits for more octets of the submitter; ends the child if it is gone or stalls. */
static void
receive(struct submitter *s)
{
	struct pollfd p = { .fd = s->channel.fd, .events = POLLIN };
	int r = poll(&p, 1, SUBMIT_STALL * 1000);

	if (r == 0 || (r < 0 && errno != EINTR) || (r > 0 && channel_receive(&s->channel) < 0))
		_exit(0);
}

static void
take_all(struct large *l)
{
	struct submitter *s = l->s;
	struct channel_frame f;

	for (;;) {
		int r = channel_next(&s->channel, &f);

		if (r < 0)
			_exit(0);
		if (r == 0)
			receive(s);
		else if (f.type == SUBMIT_END && f.len == 0)
			break;
		else
			take_frame(l, &f);
	}
	if (!s->code && s->check.state != ENVELOPE_COMPLETE)
		s->code = QUEUE_ENVELOPE;
}

/* Message first, then info, each flushed, renamed, its folder flushed: rule 6. */
static int
put_in_place(struct large *l)
{
	stralloc file = STRALLOC_ZERO;
	char path[INFO_PATH_MAX], dir[INFO_PATH_MAX], temporary[INFO_PATH_MAX];

	blake2s_final(&l->digest, l->info.digest);
	l->info.birth = (uint64_t)time(NULL);
	l->info.recipients = l->s->check.recipients;
	l->info.envelope = l->s->envelope.s;
	l->info.envelope_len = (uint32_t)l->s->envelope.len;
	if (!info_encode(&file, &l->info, 0) || fsync(l->fd) < 0 || rename(l->temporary, l->mess) < 0)
		return 0;
	info_folder(dir, "mess", l->info.number);
	if (!writer_sync_dir(dir))
		return 0;
	info_temporary(temporary, "info", l->info.number);
	info_path(path, "info", l->info.number);
	info_folder(dir, "info", l->info.number);
	return writer_make_file(temporary, file.s, file.len) && rename(temporary, path) == 0 && writer_sync_dir(dir);
}

static void
report(struct channel *c, struct large *l, const struct keeper *k)
{
	char payload[RESULT_OCTETS];

	payload[0] = (char)l->s->code;
	uint64_pack_big(payload + 1, l->info.number);
	uint64_pack_big(payload + 9, l->info.birth);
	uint32_pack_big(payload + 17, (uint32_t)l->s->error);
	if (!channel_put1(c, LARGE_RESULT, payload, sizeof payload))
		_exit(0);
	if (!l->s->code && survey_say(c, l->info.number, k, 0) < 0)
		_exit(0);
	channel_flush(c);
	_exit(0);
}

static void
run(const struct keeper *k, struct submitter *s, struct channel *c)
{
	struct large l = { .s = s, .info = { .number = s->number, .uid = s->uid, .outcomes = "" } };
	char received[200];

	blake2s_init(&l.digest, QUEUE_DIGEST);
	info_temporary(l.temporary, "mess", s->number);
	info_path(l.mess, "mess", s->number);
	unlink(l.temporary);
	l.fd = open(l.temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (l.fd < 0)
		fail_to_write(&l);
	write_message(&l, received, submit_received_field(received, sizeof received, k, s->uid, s->number,
	    (uint64_t)time(NULL)));
	write_message(&l, s->message.s, s->message.len);
	stralloc_free(&s->message);
	take_all(&l);
	if (!s->code && !put_in_place(&l))
		fail_to_write(&l);
	if (s->code)
		unlink(l.temporary);	/* its room is free at once; what has its name goes as after an end: abandon() */
	report(c, &l, k);
}

/* --- the keeper ---------------------------------------------------------------------- */

/* The child is gone without a word, or said that it failed: nothing of the message may stay. A writer removes it in the order in
 * which no power cut leaves an info without its message. */
static void
abandon(struct keeper *k, uint64_t number)
{
	struct message *m = ledger_message(&k->ledger, number);

	if (!m) {
		keeper_log("alert", "no memory to remove what a child left, message", number, ENOMEM);
		return;
	}
	m->files = m->known = m->ended = 1;
	writers_unlink(k, m);
}

/* What qmail-send has no room for, or is too much to be kept for each of the children, is not kept: the message is told later,
 * from its files. */
static void
relay(struct keeper *k, struct submitter *s, const struct channel_frame *f)
{
	if (notices_full(k) || s->relay.out.len > SEND_UNSENT_MAX)
		stralloc_free(&s->relay.out);
	if (f->type == NOTICE_OVER && s->relay.out.len)
		s->told = 1;
	notices_relay(k, &s->relay, f);
}

static void
take_report(struct keeper *k, struct submitter *s, const struct channel_frame *f)
{
	uint32_t error;

	if (f->type != LARGE_RESULT) {
		relay(k, s, f);
		return;
	}
	s->made = 1;
	s->code = (unsigned char)f->s[0];
	uint64_unpack_big(f->s + 9, &s->birth);
	uint32_unpack_big(f->s + 17, &error);
	s->error = (int)error;
	if (!s->code && !ledger_add_moved(&k->ledger, s->number)) {
		/* it is on disk, but this keeper cannot remember it: the next one will find it */
		keeper_log("alert", "no memory for message", s->number, ENOMEM);
		s->code = QUEUE_NO_MEMORY;
	}
}

/* The child has ended: the submitter gets its answer. */
static void
finish(struct keeper *k, struct submitter *s)
{
	keeper_unwatch(k, &s->report);
	channel_free(&s->report_channel);
	s->report.fd = -1;
	k->large_len--;
	if (!s->made || s->code) {
		keeper_log("warning", s->made ? "unable to make the files of a large message" :
		    "a large message was given up before its end", s->number, s->error);
		abandon(k, s->number);
	} else if (!s->told && !survey_later(k, s->number))
		keeper_log("alert", "no memory to tell of message", s->number, ENOMEM);
	if (!s->made) {
		submit_kill(k, s);
		return;
	}
	submit_answer(k, s, s->code, s->code ? 0 : s->number, s->birth);
	submit_next(k, s);
}

static void
child_ready(struct keeper *k, struct source *source, uint32_t events)
{
	struct submitter *s = (struct submitter *)((char *)source - offsetof(struct submitter, report));
	struct channel_frame f;
	int r = channel_receive(&s->report_channel);

	(void)events;
	while (channel_next(&s->report_channel, &f) == 1)
		take_report(k, s, &f);
	if (r < 0) {
		finish(k, s);
		large_start_waiting(k);
	}
}

static int
has_child(const struct submitter *s)
{
	return s->state == SUBMIT_IS_LARGE && s->report.fd >= 0;
}

/* Whether one more child may work for the uid. */
static int
has_room(const struct keeper *k, uid_t uid)
{
	unsigned int share = submit_share(k, uid, LARGE_UID_MAX, LARGE_NETWORK_MAX, LARGE_MAX), n = 0;

	if (k->large_len < share)
		return 1;
	for (const struct submitter *s = k->submitters; s; s = s->next)
		n += s->uid == uid && has_child(s);
	return n < share;
}

int
large_start(struct keeper *k, struct submitter *s)
{
	struct channel c;
	int fd;

	pid_t pid;

	if (k->large_len >= LARGE_MAX || !has_room(k, s->uid))
		return 0;
	/* a number in a file name has to be below the limit that is on disk: rule 7 */
	if (k->next_number >= k->ring.limit && !flush_empty(k))
		return 0;
	s->number = keeper_take_number(k);
	pid = keeper_fork(k, &fd, s->channel.fd);
	if (pid < 0) {
		keeper_log("warning", "unable to fork for a large message", 0, errno);
		return 0;
	}
	if (pid == 0) {
		channel_init(&c, fd, CHILD_FRAME_MAX);
		run(k, s, &c);
	}
	keeper_unwatch(k, &s->source);
	/* the rest of the message is the child's, what was read of it already too */
	s->channel.in.len = s->channel.in_done = 0;
	stralloc_free(&s->message);
	stralloc_free(&s->envelope);
	s->made = s->told = s->error = 0;
	channel_init(&s->report_channel, fd, CHILD_FRAME_MAX);
	s->report = (struct source){ .fd = fd, .ready = child_ready };
	k->large_len++;
	if (!keeper_watch(k, &s->report, EPOLLIN))
		finish(k, s);
	return 1;
}

/* Who has waited longest of those that may have a child; NULL: nobody. */
static struct submitter *
next_waiting(struct keeper *k)
{
	struct submitter *longest = NULL;

	for (struct submitter *s = k->submitters; s; s = s->next)
		if (s->state == SUBMIT_IS_LARGE && !has_child(s) && (!longest || s->heard < longest->heard) && has_room(k, s->uid))
			longest = s;
	return longest;
}

void
large_start_waiting(struct keeper *k)
{
	struct submitter *s;

	while (k->large_len < LARGE_MAX && (s = next_waiting(k)))
		if (!large_start(k, s))
			return;
}
