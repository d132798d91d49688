/* Children that read the directories, so that the loop never waits for them: the scan of the start, the lists of what
 * waits, and the answer to a reader. A child has the keeper's memory as it was at the fork. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "queue/digest.h"
#include "keeper.h"

enum { READER_SECONDS = 300 };	/* a reader that takes longer is cut off */

/* --- saying a message ---------------------------------------------------------------------- */

/* The outcomes that are records in the ring; *text holds their octets. 1, or 0 with errno. */
static int
ring_outcomes(struct info_outcome *out, stralloc *text, const struct keeper *k, const struct message *m)
{
	size_t size = 0;

	for (uint32_t i = 0; i < m->outcomes_len; i++)
		size += m->outcomes[i].len;
	if (!stralloc_ready(text, size + 1))
		return 0;
	text->len = 0;
	for (uint32_t i = 0; i < m->outcomes_len; i++) {
		const struct outcome *o = &m->outcomes[i];
		char *s = text->s + text->len;
		struct record r;

		if (!ring_read(k->ring.fd, k->ring.size, o->offset, s, o->len))
			return 0;
		/* a child may come here when its info holds the outcome, and the ring something else */
		if (!record_parse(&r, s, o->len) || r.type != RECORD_OUTCOME || r.number != m->number ||
		    r.recipient != o->recipient || r.result != o->result) {
			errno = EPROTO;
			return 0;
		}
		text->len += o->len;
		out[i] = (struct info_outcome){ .recipient = o->recipient, .result = o->result, .text = r.text,
		    .text_len = (uint32_t)r.text_len };
	}
	return 1;
}

/* Says a message with the outcomes of its info (old) and those in the ring. */
static int
put(struct channel *c, const struct keeper *k, const struct queue_notice *n, const char *envelope, const struct info *old,
    const struct message *m, int with_done)
{
	uint32_t old_len = old ? old->outcomes_len : 0, len = old_len + (m ? m->outcomes_len : 0);
	struct info_outcome *outcomes = calloc(len + 1u, sizeof *outcomes);
	stralloc text = STRALLOC_ZERO;
	const char *at = old ? old->outcomes : NULL;
	int ok = outcomes != NULL;

	for (uint32_t i = 0; ok && i < old_len; i++)
		info_outcome_next(&outcomes[i], &at);
	if (ok && m)
		ok = ring_outcomes(outcomes + old_len, &text, k, m);
	ok = ok && notices_put(c, n, envelope, outcomes, len, with_done);
	stralloc_free(&text);
	free(outcomes);
	return ok ? 1 : -1;
}

int
survey_say_ring(struct channel *c, const struct keeper *k, const struct message *m, int with_done)
{
	stralloc octets = STRALLOC_ZERO;
	struct record r;
	int result = -1;

	if (stralloc_ready(&octets, m->place.len) &&
	    ring_read(k->ring.fd, k->ring.size, m->place.offset, octets.s, m->place.len)) {
		result = 0;
		if (digest_keyed_is(m->place.digest, k->ring.id, octets.s, m->place.len) && record_parse(&r, octets.s, m->place.len)) {
			struct queue_notice n = { .number = m->number, .birth = r.birth, .size = r.message_len,
			    .uid = r.uid, .recipients = r.recipients, .tried = m->deferred, .place = m->place,
			    .sender = envelope_sender(r.envelope) };

			result = put(c, k, &n, r.envelope, NULL, m, with_done);
		}
	}
	stralloc_free(&octets);
	return result;
}

/* 1 if the message's file is there with the right length. */
static int
has_message_file(const struct info *info)
{
	char path[INFO_PATH_MAX];
	struct stat st;

	info_path(path, "mess", info->number);
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == info->size;
}

int
survey_say(struct channel *c, uint64_t number, const struct keeper *k, int with_done)
{
	stralloc file = STRALLOC_ZERO;
	struct message *m;
	struct info info;
	int r = info_read(&info, &file, number);

	if (r < 0 && errno == EPROTO)
		r = 0;
	if (r == 1 && !has_message_file(&info))
		r = 0;
	if (r == 1) {
		struct queue_notice n = { .number = number, .birth = info.birth, .size = info.size, .uid = info.uid,
		    .recipients = info.recipients, .tried = info.tried, .place = { .kind = PLACE_FILE },
		    .sender = envelope_sender(info.envelope) };

		ledger_find(&k->ledger, number, &m);
		if (m && m->deferred)
			n.tried = 1;
		r = put(c, k, &n, info.envelope, &info, m, with_done);
	}
	stralloc_free(&file);
	return r;
}

/* --- the children ----------------------------------------------------------------------------- */

static void
say_number(struct channel *c, enum survey_frame type, uint64_t number)
{
	char payload[8];

	uint64_pack_big(payload, number);
	if (!channel_put1(c, (char)type, payload, sizeof payload))
		_exit(1);
}

/* The channel of a child is blocking: the keeper reads when qmail-send does. */
static void
flush(struct channel *c, size_t leave)
{
	if (channel_unsent(c) > leave && channel_flush(c) < 0)
		_exit(0);
}

/* Says a message for qmail-send, or that its files are no message: a writer looks at them, sets them aside where they are
 * damaged, and names what it cannot read; what stays is told later. The child gives up only where it lacks what it needs
 * itself. */
static void
say(struct channel *c, const struct keeper *k, uint64_t number)
{
	int r = survey_say(c, number, k, 0);

	if (r < 0 && (errno == ENOMEM || errno == EMFILE || errno == ENFILE))
		_exit(1);
	if (r <= 0)
		say_number(c, SURVEY_DAMAGED, number);
}

/* A name below info/ or mess/ of a message that an earlier keeper had. */
static void
judge(struct channel *c, const struct keeper *k, uint64_t number, int is_info)
{
	char path[INFO_PATH_MAX];
	struct message *m;
	struct stat st;

	ledger_find(&k->ledger, number, &m);
	if (m && (m->batch || m->end_batch)) {	/* the ring has the last word; it has files, that is all */
		say_number(c, SURVEY_FOUND, number);
		return;
	}
	if (is_info) {
		say_number(c, SURVEY_FOUND, number);
		say(c, k, number);
		return;
	}
	info_path(path, "info", number);
	if (lstat(path, &st) < 0 && errno == ENOENT)
		say_number(c, SURVEY_RUBBISH, number);
}

/* The keeper says that the scan failed, and tries again; what the matter is, its child alone knows. */
static __attribute__((noreturn)) void
fail_at(const char *path)
{
	char text[sizeof "unable to flush or read " + INFO_PATH_MAX];
	int error = errno;

	snprintf(text, sizeof text, "unable to flush or read %s", path);
	keeper_log("alert", text, 0, error);
	_exit(1);
}

static void
read_folder(struct channel *c, const struct keeper *k, const char *kind, unsigned int folder)
{
	char path[INFO_PATH_MAX];
	struct dirent *d;
	DIR *dir;

	info_folder(path, kind, folder);
	dir = opendir(path);
	if (!dir)
		fail_at(path);
	while (errno = 0, (d = readdir(dir))) {
		uint64_t number = info_name(d->d_name);

		if (number && number < k->first_number && number % QUEUE_SPLIT == folder)
			judge(c, k, number, kind[0] == 'i');
		flush(c, 65536);
	}
	if (errno)
		fail_at(path);
	closedir(dir);
}

static void
run_scan(struct channel *c, const struct keeper *k)
{
	static const char kinds[2][5] = { "info", "mess" };
	char path[INFO_PATH_MAX];

	/* a name that is absent here has to be absent after a power cut too */
	for (int kind = 0; kind < 2; kind++)
		for (unsigned int i = 0; i < QUEUE_SPLIT; i++) {
			info_folder(path, kinds[kind], i);
			if (!writer_sync_dir(path))
				fail_at(path);
		}
	for (int kind = 0; kind < 2; kind++)
		for (unsigned int i = 0; i < QUEUE_SPLIT; i++)
			read_folder(c, k, kinds[kind], i);
	say_number(c, SURVEY_FINISHED, 0);
	flush(c, 0);
	_exit(0);
}

static void
run_list(struct channel *c, const struct keeper *k, const uint64_t *numbers, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		say(c, k, numbers[i]);
		flush(c, 65536);
	}
	say_number(c, SURVEY_FINISHED, 0);
	flush(c, 0);
	_exit(0);
}

static __attribute__((noreturn)) void
run_reader(struct channel *c, const struct keeper *k)
{
	struct message *m;
	uint64_t number;
	size_t at = 0;

	alarm(READER_SECONDS);
	while (ledger_walk(&k->ledger, &at, &number, &m)) {
		if (m && (m->ended || !m->known))
			continue;
		if (m && m->batch)
			survey_say_ring(c, k, m, 1);
		else
			survey_say(c, number, k, 1);
		flush(c, 65536);
	}
	channel_put1(c, NOTICE_ALL, "", 0);
	flush(c, 0);
	_exit(0);
}

/* --- the keeper -------------------------------------------------------------------------------- */

static void
scan_is_finished(struct keeper *k)
{
	struct message **all = calloc(k->ledger.used + 1, sizeof *all);
	size_t len = 0, at = 0;
	uint64_t number;

	if (!all) {
		keeper_log("warning", "no memory to end the scan of the queue", 0, ENOMEM);
		return;
	}
	k->scanned = 1;
	while (ledger_walk(&k->ledger, &at, &number, &all[len]))
		if (all[len])
			len++;
	for (size_t i = 0; i < len; i++) {
		if (all[i]->end_batch && all[i]->files)
			writers_unlink(k, all[i]);
		else
			ledger_settle(&k->ledger, all[i], 1);
	}
	free(all);
	notices_answer_readers(k);
}

static void
found(struct keeper *k, uint64_t number)
{
	struct message *m;

	if (!ledger_find(&k->ledger, number, &m)) {
		if (!ledger_add_moved(&k->ledger, number))
			keeper_log("alert", "no memory for message", number, ENOMEM);
		return;
	}
	if (!m)
		return;
	m->files = 1;
	if (!m->batch && !m->end_batch)
		m->moved = m->known = 1;
}

static void
rubbish(struct keeper *k, uint64_t number)
{
	struct message *m;

	if (ledger_find(&k->ledger, number, &m))
		return;
	m = ledger_message(&k->ledger, number);
	if (!m)
		return;
	m->files = m->known = m->ended = 1;
	writers_unlink(k, m);
}

static void
damaged(struct keeper *k, uint64_t number)
{
	struct message *m;

	if (!ledger_find(&k->ledger, number, &m) || (m && (m->batch || m->ended)))
		return;
	m = ledger_message(&k->ledger, number);
	if (m)
		writers_verify(k, m);
	notices_put_off(k, number);
}

/* 1 if the scan did not know all that is recorded about the message. A list does: it is begun when what was reported before it
 * is flushed, and what comes later is said by the qmail-send that it is for. */
static int
is_stale(const struct keeper *k, const struct survey *s, uint64_t number)
{
	struct message *m;

	ledger_find(&k->ledger, number, &m);
	return s->scan && m && m->outcomes_len && m->outcomes[m->outcomes_len - 1].batch >= s->batch;
}

static void
take_frame(struct keeper *k, struct survey *s, const struct channel_frame *f)
{
	uint64_t number = 0;

	if (f->len >= 8)
		uint64_unpack_big(f->s, &number);
	switch (f->type) {
	case SURVEY_FOUND:
		found(k, number);
		break;
	case SURVEY_RUBBISH:
		rubbish(k, number);
		break;
	case SURVEY_DAMAGED:
		damaged(k, number);
		break;
	case SURVEY_FINISHED:
		s->finished = 1;
		break;
	default:
		if (f->type == NOTICE_OVER && k->listing && is_stale(k, s, number)) {
			s->relay.out.len = 0;
			notices_tell_later(k, number);
		} else
			notices_relay(k, &s->relay, f);
	}
}

static void
end_survey(struct keeper *k, struct survey *s)
{
	struct survey **at = &k->surveys;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	keeper_unwatch(k, &s->source);
	channel_free(&s->channel);
	channel_free(&s->relay);
	if (s->scan && s->finished)
		scan_is_finished(k);
	if (!s->finished && !s->unwanted) {
		keeper_log("warning", s->scan ? "the scan of the queue failed, trying again" :
		    "a list of waiting messages failed, qmail-send has to ask again", 0, 0);
		if (!s->scan)
			notices_close(k);
	}
	free(s);
}

static void
ready(struct keeper *k, struct source *source, uint32_t events)
{
	struct survey *s = (struct survey *)source;
	struct channel_frame f;
	int r;

	(void)events;
	if (k->listing && notices_full(k) && !s->unwanted) {
		keeper_unwatch(k, source);	/* survey_resume watches it again */
		return;
	}
	r = channel_receive(&s->channel);
	while (channel_next(&s->channel, &f) == 1)
		if (!s->unwanted)
			take_frame(k, s, &f);
	if (r < 0)
		end_survey(k, s);
}

void
survey_resume(struct keeper *k)
{
	for (struct survey *s = k->surveys; s; s = s->next)
		keeper_watch(k, &s->source, EPOLLIN);
}

/* They are not read on, and so end; the scan, which is not for qmail-send alone, goes on. */
void
survey_end_lists(struct keeper *k)
{
	for (struct survey *s = k->surveys; s; s = s->next)
		if (!s->scan) {
			s->unwanted = 1;
			shutdown(s->source.fd, SHUT_RDWR);
		}
	survey_resume(k);
}

static int
start(struct keeper *k, int scan, const uint64_t *numbers, size_t len)
{
	struct survey *s = calloc(1, sizeof *s);
	struct channel c;
	pid_t pid;
	int fd;

	if (!s)
		return 0;
	pid = keeper_fork(k, &fd, -1);
	if (pid < 0) {
		free(s);
		return 0;
	}
	if (pid == 0) {
		channel_init(&c, fd, CHILD_FRAME_MAX);
		if (scan)
			run_scan(&c, k);
		run_list(&c, k, numbers, len);
	}
	s->source = (struct source){ .fd = fd, .ready = ready };
	s->scan = scan;
	s->batch = k->ring.next;
	channel_init(&s->channel, fd, CHILD_FRAME_MAX);
	channel_init(&s->relay, -1, 0);
	s->next = k->surveys;
	k->surveys = s;
	return keeper_watch(k, &s->source, EPOLLIN);
}

int
survey_scan(struct keeper *k)
{
	for (const struct survey *s = k->surveys; s; s = s->next)
		if (s->scan)
			return 1;
	return k->scanned || start(k, 1, NULL, 0);
}

int
survey_later(struct keeper *k, uint64_t number)
{
	if (!k->listing)
		return 1;
	if (k->later_len == k->later_room) {
		size_t room = k->later_room ? 2 * k->later_room : 64;
		uint64_t *more = realloc(k->later, room * sizeof *more);

		if (!more)
			return 0;
		k->later = more;
		k->later_room = room;
	}
	k->later[k->later_len++] = number;
	return 1;
}

void
survey_start_later(struct keeper *k)
{
	if (!k->later_len)
		return;
	for (const struct survey *s = k->surveys; s; s = s->next)
		if (!s->scan && !s->unwanted)
			return;
	if (!start(k, 0, k->later, k->later_len)) {
		keeper_log("warning", "unable to fork for a list of waiting messages", 0, errno);
		notices_close(k);
	}
	free(k->later);
	k->later = NULL;
	k->later_len = k->later_room = 0;
}

int
survey_reader(struct keeper *k, const struct channel *c)
{
	struct channel peer;
	int fd;
	pid_t pid = keeper_fork(k, &fd, c->fd);

	if (pid < 0) {
		keeper_log("warning", "unable to fork for a reader", 0, errno);
		return -1;
	}
	if (pid > 0)
		return fd;
	close(k->lock);	/* it writes nothing that another keeper would have to wait for */
	channel_init(&peer, c->fd, QUEUE_FRAME_MAX);
	fcntl(peer.fd, F_SETFL, fcntl(peer.fd, F_GETFL) & ~O_NONBLOCK);
	run_reader(&peer, k);
}
