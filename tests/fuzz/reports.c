/* A qmail-send that says any octets to qmail-queued, while messages come, writers and surveys do their work or fail at it, and flushes fail.
 * The keeper has all its parts but the submitters', a small ring, and children that are played here. The input is acts (enum act), each with
 * its octets and one for the time that passes; after each the loop turns once. What came of it is held against a second reading of the frames
 * that qmail-send said, and in the end the ring is read as the next keeper would. */
#include <assert.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include "given.h"
/* what takes the octets is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/queue/notices.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum act { SAY, CONNECT, HANG_UP, SUBMIT, WRITER, SURVEY, READ, FAIL_FLUSH, ACTS };
enum {
	BLOCKS = 64,		/* of the ring: a batch has four */
	OLD = 3,		/* messages of an earlier keeper, 1 to 3, in files */
	FIRST = 100,		/* number of this keeper */
	MESSAGES = 64,		/* numbers that it gives out */
	RECIPIENTS = 4,
	PEERS = 2, CHILDREN = 64,
	QUIET_TURNS = 400,	/* in which everything that is owed has to happen */
};

static struct keeper k;
static enum { A_WRITER, A_SCAN, A_LIST } forked;	/* what the next child is */
static struct submitter *answered;
static int flush_fails, connecting;
static unsigned int broken;	/* times that the keeper said so */

/* --- what is known without the keeper ---------------------------------------------------------------- */

/* A message: outcomes are packed as in an info file. */
struct known {
	uint32_t recipients;	/* 0: no such message */
	int is_ended;		/* its end is on disk */
	int is_aside, has_files;
	int was_deferred, is_tried;	/* it was said that it has to wait; its info says so */
	int was_told, end_heard;	/* on this connection */
	stralloc info;		/* outcomes in its info file */
	stralloc flushed;	/* those on disk, in order */
	size_t before;		/* octets of them that are older than the connection */
};
static struct known messages[FIRST + MESSAGES];

/* Reports: those that were taken and are not on disk, and confirmations that are owed, in order. */
struct reports { struct report *all; size_t done, len, room; };	/* done: the first of them, which are none any more */
static struct reports pending, owed;

/* What was asked on this connection about a number. */
struct asked { uint64_t number; unsigned int where, damaged, answers; };
static struct asked *asked;
static size_t asked_len, asked_room;

enum role { NOBODY, NEWCOMER, SPEAKER, READER };
struct peer {
	enum role role;
	int keeper_fd;
	stralloc said;
	size_t read;		/* octets of it that the second reading has taken */
	struct channel hears;
	int is_deaf, has_greeted, said_list, heard_all;
	uint64_t in_message;	/* the number that is being told, 0: none */
	unsigned int heard;	/* bits of its recipients that were told */
};
static struct peer peers[PEERS];
static unsigned int current;	/* of them: the last that connected */

static struct known *
known(uint64_t number)
{
	return number < FIRST + MESSAGES && messages[number].recipients ? &messages[number] : NULL;
}

static int
is_live(const struct known *m)
{
	return m->recipients && !m->is_ended && !m->is_aside;
}

static void *
grown(void *all, size_t octets)
{
	void *bigger = realloc(all, octets);

	assert(bigger);
	return bigger;
}

static void
add_report_to(struct reports *to, const struct report *r)
{
	if (to->len == to->room) {
		to->room = to->room ? 2 * to->room : 64;
		to->all = grown(to->all, to->room * sizeof *to->all);
	}
	to->all[to->len++] = *r;
}

static void
drop_reports(struct reports *from, size_t n)
{
	for (; n; n--)
		stralloc_free(&from->all[from->done++].text);
	if (from->done == from->len)
		from->done = from->len = 0;
}

static void
free_reports(struct reports *r)
{
	drop_reports(r, r->len - r->done);
	free(r->all);
	*r = (struct reports){ .all = NULL };
}

static struct asked *
asked_of(uint64_t number)
{
	for (size_t i = 0; i < asked_len; i++)
		if (asked[i].number == number)
			return &asked[i];
	if (asked_len == asked_room) {
		asked_room = asked_room ? 2 * asked_room : 16;
		asked = grown(asked, asked_room * sizeof *asked);
	}
	asked[asked_len] = (struct asked){ .number = number };
	return &asked[asked_len++];
}

/* The last outcome of a recipient among len packed octets. Returns 1, or 0: none. */
static int
last_outcome(struct info_outcome *last, uint32_t recipient, const stralloc *packed, size_t from, size_t to)
{
	struct info_outcome o;
	int found = 0;

	if (from == to)
		return 0;
	for (const char *at = packed->s + from; at < packed->s + to; ) {
		info_outcome_next(&o, &at);
		if (o.recipient == recipient) {
			*last = o;
			found = 1;
		}
	}
	return found;
}

/* The envelope of a message: recipients with an even index have parameters. */
static const char *
envelope(uint32_t recipients, size_t *len)
{
	static stralloc s;
	char recipient[] = "T0@y";

	assert(stralloc_setb(&s, "Fs@x", 5));
	for (uint32_t i = 0; i < recipients; i++) {
		recipient[1] = (char)('0' + i);
		assert(stralloc_catb(&s, recipient, sizeof recipient) && (i % 2 || stralloc_catb(&s, "PNOTIFY=NEVER", 14)));
	}
	assert(stralloc_0(&s));
	*len = s.len;
	return s.s;
}

/* --- the keeper around it ------------------------------------------------------------------------- */

int
keeper_watch(struct keeper *keeper, struct source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	assert(events);	/* 0 would mean that it is not watched */
	if (s->watched != events)
		assert(epoll_ctl(keeper->epoll, s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &e) == 0);
	s->watched = events;
	return 1;
}

void
keeper_unwatch(struct keeper *keeper, struct source *s)
{
	if (s->watched)
		assert(epoll_ctl(keeper->epoll, EPOLL_CTL_DEL, s->fd, NULL) == 0);
	s->watched = 0;
}

void
keeper_log(const char *kind, const char *text, uint64_t number, int error)
{
	(void)number, (void)error;
	assert(kind);
	broken += strstr(text, "broke the protocol") != NULL;
}

uint64_t
keeper_take_number(struct keeper *keeper)
{
	return keeper->next_number++;
}

/* What was submitted is answered: it counts if the keeper says so. */
void
submit_answer(struct keeper *keeper, struct submitter *s, unsigned int code, uint64_t number, uint64_t time)
{
	assert(keeper == &k && time | code);
	if (code == QUEUE_OK) {
		assert(number >= FIRST && number < k.next_number && !known(number));
		messages[number].recipients = s->check.recipients;
	}
	s->next = answered;
	answered = s;
}

static void
free_answered(void)
{
	for (struct submitter *s; (s = answered); free(s)) {
		answered = s->next;
		stralloc_free(&s->message);
		stralloc_free(&s->envelope);
	}
}

void
submit_refuse_for_memory(struct keeper *keeper, struct submitter *s)
{
	submit_answer(keeper, s, QUEUE_NO_MEMORY, 0, 0);
}

void
submit_next(struct keeper *keeper, struct submitter *s)
{
	(void)keeper, (void)s;
}

size_t
submit_received_field(char *out, size_t room, const struct keeper *keeper, uid_t uid, uint64_t number, uint64_t now)
{
	(void)keeper, (void)uid, (void)number, (void)now;
	return (size_t)snprintf(out, room, "Received: (qmail)\n");
}

void
submit_run_short(struct keeper *keeper)
{
	(void)keeper;
	abort();
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int
__wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	(void)address, (void)len, (void)flags;
	assert(fd == k.send_listener.fd);
	return connecting;
}

int __wrap_fdatasync(int fd);
int
__wrap_fdatasync(int fd)
{
	assert(fd == k.ring.fd);
	if (!flush_fails)
		return 0;
	flush_fails = 0;
	errno = EIO;
	return -1;
}

int
writer_sync_dir(const char *path)
{
	(void)path;
	abort();
}

void
writer_run(struct channel *keeper, const struct ring *ring)
{
	(void)keeper, (void)ring;
	abort();
}

/* --- children ------------------------------------------------------------------------------------- */

struct child {
	int is_writer;		/* else a survey, which says what it has to say and ends */
	struct channel channel;	/* fd -1: none */
};
static struct child children[CHILDREN];

static void
say_number(struct channel *c, char type, uint64_t number)
{
	char packed[8];

	uint64_pack_big(packed, number);
	assert(channel_put1(c, type, packed, sizeof packed));
}

/* What a survey says of a message: what is on disk when it is forked. */
static void
say_message(struct channel *c, uint64_t number)
{
	struct known *m = &messages[number];
	struct info_outcome *outcomes;
	const char *at = m->flushed.s;
	struct queue_notice n = { .number = number, .recipients = m->recipients, .place = { .kind = PLACE_FILE }, .sender = "s@x" };
	uint32_t outcomes_len = 0;
	size_t len;

	if (!m->has_files) {
		say_number(c, SURVEY_DAMAGED, number);
		return;
	}
	assert((outcomes = calloc(m->flushed.len + 1, sizeof *outcomes)));
	while (m->flushed.len && at < m->flushed.s + m->flushed.len)
		info_outcome_next(&outcomes[outcomes_len++], &at);
	assert(notices_put(c, &n, envelope(m->recipients, &len), outcomes, outcomes_len, 0));
	free(outcomes);
}

static void
say_survey(struct channel *c)
{
	for (uint64_t number = 1; forked == A_SCAN && number <= OLD; number++)
		if (messages[number].has_files) {
			say_number(c, SURVEY_FOUND, number);
			say_message(c, number);
		}
	for (size_t i = 0; forked == A_LIST && i < k.later_len; i++)
		say_message(c, k.later[i]);
	say_number(c, SURVEY_FINISHED, 0);
}

pid_t
keeper_fork(struct keeper *keeper, int *fd, int keep)
{
	struct child *c = children;
	int ends[2];

	assert(keeper == &k && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	*fd = ends[0];
	if (keep >= 0) {	/* a reader, which is none of the keeper's business any more */
		close(ends[1]);
		return 1;
	}
	while (c->channel.fd >= 0)
		assert(++c < children + CHILDREN);
	c->is_writer = forked == A_WRITER;
	channel_init(&c->channel, ends[1], CHILD_FRAME_MAX);
	if (!c->is_writer)
		say_survey(&c->channel);
	return 1;
}

static void
end_child(struct child *c)
{
	channel_free(&c->channel);
}

/* It says half of what it has to say, and fails, or all of it. */
static void
play_survey(unsigned int how)
{
	for (struct child *c = children; c < children + CHILDREN; c++) {
		if (c->channel.fd < 0 || c->is_writer)
			continue;
		if (how % 4 == 3 && !c->channel.out_done)
			c->channel.out.len /= 2;
		else if (how % 4 == 2)
			continue;
		if (channel_flush(&c->channel) != 0)
			end_child(c);
		return;
	}
}

/* --- writers ---------------------------------------------------------------------------------------- */

static void
read_record(struct record *r, stralloc *octets, uint64_t offset, uint32_t len)
{
	assert(offset < k.ring.size && len < RING_RECORD_MAX && stralloc_ready(octets, len + 1));
	assert(ring_read(k.ring.fd, k.ring.size, offset, octets->s, len) && record_parse(r, octets->s, len));
}

/* The outcomes of a job are records about the message. */
static void
take_outcomes(struct known *m, uint64_t number, const char *s, size_t len)
{
	static stralloc octets;
	struct record r;
	uint64_t offset;
	uint32_t n, size;

	assert(len >= 4);
	uint32_unpack_big(s, &n);
	assert(len == 4 + 12 * (size_t)n);
	for (s += 4; n; n--, s += 12) {
		uint64_unpack_big(s, &offset);
		uint32_unpack_big(s + 8, &size);
		read_record(&r, &octets, offset, size);
		assert(r.type == RECORD_OUTCOME && r.number == number);
		assert(info_outcome_put(&m->info, &(struct info_outcome){ r.recipient, r.result, r.text, (uint32_t)r.text_len }));
	}
}

static void
move(struct known *m, uint64_t number, const char *packed_place)
{
	static stralloc octets;
	struct queue_place place;
	struct record r;

	assert(queue_place_unpack(&place, packed_place) && place.kind == PLACE_RING);
	read_record(&r, &octets, place.offset, place.len);
	assert(r.type == RECORD_MESSAGE && r.number == number && r.recipients == m->recipients);
	m->info.len = 0;
	m->has_files = 1;
}

/* Does a job, and says with what errno it ended: only damage of what is live is found. */
static int
do_job(const struct channel_frame *f, int error)
{
	struct known *m;
	uint64_t number;

	assert(f->len >= 9 + QUEUE_PLACE_PACK);
	uint64_unpack_big(f->s, &number);
	assert((m = known(number)));
	if (m->is_aside && f->type != WRITER_UNLINK)
		return EBADMSG;
	if (error && (f->type == WRITER_MOVE || f->type == WRITER_INFO || f->type == WRITER_UNLINK))
		return error;
	switch (f->type) {
	case WRITER_MOVE:
		move(m, number, f->s + 9);
		m->is_tried = f->s[8] != 0;
		take_outcomes(m, number, f->s + 9 + QUEUE_PLACE_PACK, f->len - 9 - QUEUE_PLACE_PACK);
		break;
	case WRITER_INFO:
		assert(m->has_files);
		m->is_tried |= f->s[8] != 0;
		take_outcomes(m, number, f->s + 9 + QUEUE_PLACE_PACK, f->len - 9 - QUEUE_PLACE_PACK);
		break;
	case WRITER_UNLINK:
		assert(m->is_ended);
		m->has_files = 0;
		break;
	default:
		assert(f->type == WRITER_VERIFY || f->type == WRITER_ASIDE);
		if (error == EBADMSG) {
			m->is_aside |= !m->is_ended;
			m->has_files = 0;
		}
	}
	return error;
}

static void
reply(struct child *c, uint64_t number, int error)
{
	char packed[12];

	uint64_pack_big(packed, number);
	uint32_pack_big(packed + 8, (uint32_t)error);
	assert(channel_put1(&c->channel, WRITER_REPORT, packed, sizeof packed));
	if (channel_flush(&c->channel) < 0)
		end_child(c);
}

/* It does what it was told next, says so or dies. Returns 1 if it had something to do. */
static int
play_writer(struct child *c, unsigned int how)
{
	static const int errors[8] = { 0, 0, 0, EBADMSG, EIO, ENOMEM, 0, 0 };
	struct channel_frame f;
	uint64_t number;

	if (how == 6)
		reply(c, UINT64_MAX, 0);	/* a number that it has no job for */
	else if (channel_receive(&c->channel) < 0)
		end_child(c);	/* told to end */
	else if (channel_next(&c->channel, &f) == 1) {
		int error = do_job(&f, errors[how % 8]);

		uint64_unpack_big(f.s, &number);
		if (how == 7)
			end_child(c);
		else
			reply(c, number, error);
		return 1;
	} else if (how == 7)
		end_child(c);
	return 0;
}

static int
play_writers(unsigned int how)
{
	unsigned int skip = how & 1;

	for (struct child *c = children; c < children + CHILDREN; c++)
		if (c->channel.fd >= 0 && c->is_writer && !skip--)
			return play_writer(c, how >> 1 & 7);
	return 0;
}

/* --- what qmail-send said, read again ------------------------------------------------------------------ */

/* It is heard from now on. */
static void
become_speaker(struct peer *p)
{
	for (struct peer *other = peers; other < peers + PEERS; other++)
		if (other->role == SPEAKER) {
			other->role = NOBODY;
			channel_free(&other->hears);
		}
	p->role = SPEAKER;
	drop_reports(&owed, owed.len - owed.done);
	asked_len = 0;
	for (struct known *m = messages; m < messages + FIRST + MESSAGES; m++) {
		m->was_told = 0;
		m->before = m->flushed.len;
	}
}

/* What is no frame of qmail-send ends the connection: 0. */
static int
read_frame(struct peer *p, char type, const char *s, size_t len)
{
	struct report r = { .recipient = QUEUE_INDEX_END };
	struct message *m;

	if (type == SEND_LIST) {
		p->said_list = 1;
		return 1;
	}
	if (len < 8 || !type || !strchr("DX?WB", type))
		return 0;
	uint64_unpack_big(s, &r.number);
	if (type == SEND_WHERE)
		asked_of(r.number)->where++;
	if (type == SEND_DAMAGED)
		asked_of(r.number)->damaged++;
	if (type == SEND_DEFERRED && known(r.number) && ledger_find(&k.ledger, r.number, &m) && !(m && (m->ended || !m->known)))
		known(r.number)->was_deferred = 1;
	if (type != SEND_DONE && type != SEND_END)
		return 1;
	if (type == SEND_DONE) {
		if (len < 13 || len > 13 + QUEUE_TEXT_MAX || !s[12] || !strchr("KDSW", s[12]))
			return 0;
		uint32_unpack_big(s + 8, &r.recipient);
		r.result = s[12];
		if (r.recipient == QUEUE_INDEX_END)
			return 0;
	}
	if (!r.number)
		return 0;
	if (ledger_find(&k.ledger, r.number, &m) || (!k.scanned && r.number < FIRST)) {
		if (type == SEND_DONE)
			assert(stralloc_catb(&r.text, s + 13, len - 13));
		add_report_to(&pending, &r);
	} else
		add_report_to(&owed, &r);
	return 1;
}

/* Reads what the keeper has read. is_open: it has not closed the connection. */
static void
read_again(struct peer *p, int is_open)
{
	unsigned int was_broken = broken;
	size_t end = p->said.len;
	int unread;

	broken = 0;
	if (is_open) {
		assert(ioctl(p->keeper_fd, SIOCINQ, &unread) == 0 && (size_t)unread <= end);
		end -= (size_t)unread;
	}
	if (p->role == NEWCOMER && end >= CHANNEL_HEADER) {
		if (p->said.s[CHANNEL_HEADER - 1] == SEND_READ)
			p->role = READER;
		else
			become_speaker(p);
	}
	while (p->role == SPEAKER && end - p->read >= CHANNEL_HEADER) {
		const char *s = p->said.s + p->read;
		uint32_t len;

		uint32_unpack_big(s, &len);
		if (len <= QUEUE_FRAME_MAX && end - p->read - CHANNEL_HEADER < len)
			break;
		if (len > QUEUE_FRAME_MAX || !read_frame(p, s[4], s + CHANNEL_HEADER, len)) {
			assert(was_broken == 1 && !is_open);
			return;
		}
		p->read += CHANNEL_HEADER + len;
	}
	assert(!was_broken);
}

static int
is_same(const struct report *a, const struct report *b)
{
	return a->number == b->number && a->recipient == b->recipient && a->result == b->result && a->text.len == b->text.len &&
	    (!a->text.len || memcmp(a->text.s, b->text.s, a->text.len) == 0);
}

/* What is not flushed is what was taken last, and nothing else. */
static void
check_reports(void)
{
	assert(k.reports_len == pending.len - pending.done);
	for (size_t i = 0; i < k.reports_len; i++)
		assert(is_same(&k.reports[i], &pending.all[pending.done + i]));
}

/* The first n of what was taken are on disk: they count, and are to be confirmed to who is there. */
static void
count_flushed(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct report *r = &pending.all[pending.done + i];
		struct known *m = known(r->number);

		if (m && r->recipient == QUEUE_INDEX_END)
			m->is_ended = 1;
		else if (m)
			assert(info_outcome_put(&m->flushed, &(struct info_outcome){ r->recipient, r->result, r->text.s, (uint32_t)r->text.len }));
		if (k.send.fd >= 0)
			add_report_to(&owed, &(struct report){ .number = r->number, .recipient = r->recipient });
	}
	drop_reports(&pending, n);
}

/* --- what qmail-send hears -------------------------------------------------------------------------- */

static uint64_t
number_of(const struct channel_frame *f)
{
	uint64_t number;

	assert(f->len >= 8);
	uint64_unpack_big(f->s, &number);
	return number;
}

static void
hear_message(struct peer *p, const struct channel_frame *f)
{
	struct queue_notice n;
	struct known *m;

	assert(p->said_list && !p->in_message && queue_notice_unpack(&n, f->s, (uint32_t)f->len));
	m = known(n.number);
	assert(m && !m->end_heard && n.recipients == m->recipients && strcmp(n.sender, "s@x") == 0);
	p->in_message = n.number;
	p->heard = 0;
}

static const char *
take_string(const char **s, const char *end)
{
	const char *string = *s, *nul = memchr(string, 0, (size_t)(end - string));

	assert(nul);
	*s = nul + 1;
	return string;
}

static int
is_text(const struct info_outcome *o, const char *text)
{
	return strlen(text) == strnlen(o->text, o->text_len) && memcmp(text, o->text, strlen(text)) == 0;
}

/* Each once, with an outcome that was reported: the last of those from before this connection, or a later one. */
static void
hear_recipients(struct peer *p, const struct channel_frame *f)
{
	const char *s = f->s, *end = f->s + f->len;
	struct known *m = known(p->in_message);

	assert(m);
	while (s < end) {
		struct info_outcome o, later;
		const char *text;
		uint32_t i;
		char state, address[] = "0@y";

		assert(end - s > 5);
		uint32_unpack_big(s, &i);
		assert(i < m->recipients && !(p->heard >> i));
		p->heard |= 1u << i;
		address[0] = (char)('0' + i);
		state = s[4];
		s += 5;
		assert(strcmp(take_string(&s, end), address) == 0 && (state >= 'a') == !(i % 2));
		if (state >= 'a') {
			assert(strcmp(take_string(&s, end), "NOTIFY=NEVER") == 0);
			state = (char)(state - 'a' + 'A');
		}
		text = state == OUTCOME_FAILED || state == OUTCOME_SUCCEEDED ? take_string(&s, end) : "";
		if (last_outcome(&o, i, &m->flushed, 0, m->before) && !last_outcome(&later, i, &m->flushed, m->before, m->flushed.len))
			assert(state == o.result && state != OUTCOME_DONE && (!queue_outcome_has_text(state) || is_text(&o, text)));
		else if (!last_outcome(&o, i, &m->flushed, 0, m->flushed.len))
			assert(state == 'T');
	}
}

/* Nobody is left out who has no outcome. */
static void
hear_over(struct peer *p, const struct channel_frame *f)
{
	struct known *m = known(p->in_message);
	struct info_outcome o;

	assert(m && f->len == 8 && number_of(f) == p->in_message);
	for (uint32_t i = 0; i < m->recipients; i++)
		assert(p->heard >> i & 1 || last_outcome(&o, i, &m->flushed, 0, m->flushed.len));
	m->was_told = 1;
	p->in_message = 0;
}

/* What was reported first is confirmed first. */
static void
hear_confirm(const struct channel_frame *f)
{
	uint64_t number = number_of(f);
	uint32_t recipient;

	assert(f->len == 12 && owed.len);
	uint32_unpack_big(f->s + 8, &recipient);
	assert(owed.all[owed.done].number == number && owed.all[owed.done].recipient == recipient);
	if (recipient == QUEUE_INDEX_END && known(number) && known(number)->is_ended)
		known(number)->end_heard = 1;
	drop_reports(&owed, 1);
}

static void
hear_place(const struct channel_frame *f)
{
	uint64_t number = number_of(f);
	struct known *m = known(number);
	struct queue_place place;
	struct message *in_ledger;

	assert(f->len == 8 + QUEUE_PLACE_PACK && queue_place_unpack(&place, f->s + 8));
	asked_of(number)->answers++;
	assert(place.kind == PLACE_NONE || (m && !m->end_heard));
	if (place.kind == PLACE_RING && ledger_find(&k.ledger, number, &in_ledger) && in_ledger && in_ledger->batch)
		assert(place.offset == in_ledger->place.offset && place.len == in_ledger->place.len);
}

static void
hear(struct peer *p, const struct channel_frame *f)
{
	assert((f->type == NOTICE_HELLO) == !p->has_greeted && (p->role == SPEAKER || f->type == NOTICE_HELLO));
	switch (f->type) {
	case NOTICE_HELLO:
		assert(f->len == 8);
		p->has_greeted = 1;
		break;
	case NOTICE_MESSAGE: hear_message(p, f); break;
	case NOTICE_RCPT: hear_recipients(p, f); break;
	case NOTICE_OVER: hear_over(p, f); break;
	case NOTICE_CONFIRM: hear_confirm(f); break;
	case NOTICE_PLACE: hear_place(f); break;
	default:
		assert(f->type == NOTICE_ALL && !f->len && p->said_list && !p->in_message);
		p->heard_all = 1;
	}
}

static void
listen_to_keeper(void)
{
	for (struct peer *p = peers; p < peers + PEERS; p++) {
		struct channel_frame f;

		while (!p->is_deaf && p->hears.fd >= 0 && channel_receive(&p->hears) > 0)
			while (channel_next(&p->hears, &f) == 1)
				hear(p, &f);
	}
}

/* --- what has to be true after each turn ---------------------------------------------------------------- */

/* However often it asks for lists, no message is owed again and again. */
static void
check_lists(void)
{
	size_t most = 0;

	for (const struct known *m = messages; m < messages + FIRST + MESSAGES; m++)
		most += m->recipients ? 2 : 0;
	assert(k.tell_len - k.tell_done <= most && k.later_len <= most);
}

/* A flush that failed leaves what it was about. */
static int
is_pending(uint64_t number)
{
	for (size_t i = pending.done; i < pending.len; i++)
		if (pending.all[i].number == number)
			return 1;
	return 0;
}

/* Whatever is live is remembered; of what is gone nothing is that would hold the ring's tail for ever. */
static void
check_ledger(void)
{
	struct message *m;
	uint64_t number;
	size_t at = 0;

	while (ledger_walk(&k.ledger, &at, &number, &m)) {
		const struct known *its = known(number);

		assert(its || (number < FIRST && !k.scanned) || is_pending(number));
		assert(!m || !k.scanned || m->known || m->ended || is_pending(number));
		assert(!its || !is_live(its) || !m || m->batch || m->moved || !k.scanned);
		assert(!its || !is_live(its) || (m && (m->batch || !k.scanned)) || its->has_files);
	}
	for (number = k.scanned ? 1 : FIRST; number < FIRST + MESSAGES; number++)
		assert(!is_live(&messages[number]) || ledger_find(&k.ledger, number, &m));
}

/* --- a turn --------------------------------------------------------------------------------------------- */

/* Whom the keeper hears through the source; NULL: somebody else, or nobody any more. */
static struct peer *
peer_of(const struct source *s)
{
	for (struct peer *p = peers; p < peers + PEERS; p++)
		if (s->fd == p->keeper_fd && (p->role == SPEAKER ? s == &k.send : p->role == NEWCOMER && s->ready == newcomer_ready))
			return p;
	return NULL;
}

static void
handle(struct source *s, uint32_t events)
{
	struct peer *p = peer_of(s);

	s->ready(&k, s, events);
	if (p)
		read_again(p, fcntl(p->keeper_fd, F_GETFD) >= 0);
	check_reports();
}

/* As in qmail-queued.c. */
static void
turn(uint64_t ms)
{
	struct epoll_event events[16];
	int n = epoll_wait(k.epoll, events, 16, 0);
	size_t reports;
	uint64_t batch = k.ring.next;

	k.now_ms += ms;
	for (int i = 0; i < n; i++)
		handle(events[i].data.ptr, events[i].events);
	reports = k.reports_len;
	flush_turn(&k);
	assert(reports == k.reports_len || k.ring.next > batch);
	count_flushed(reports - k.reports_len);
	check_reports();
	free_answered();
	notices_pump(&k);
	forked = A_WRITER;
	writers_turn(&k);
	forked = A_LIST;
	survey_start_later(&k);
	notices_flush(&k);
	forked = A_SCAN;
	assert(survey_scan(&k));
	check_lists();
	check_ledger();
	listen_to_keeper();
}

/* --- acts ----------------------------------------------------------------------------------------------- */

static void
hang_up(struct peer *p)
{
	channel_free(&p->hears);
}

static void
start_peer(void)
{
	struct peer *p;
	int pair[2];

	current = peers[current].role == SPEAKER ? (current + 1) % PEERS : current;
	p = &peers[current];
	if (p->role == NEWCOMER && p->hears.fd >= 0)
		return;
	channel_free(&p->hears);
	stralloc_free(&p->said);
	*p = (struct peer){ .role = NEWCOMER };
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	channel_init(&p->hears, pair[1], CHILD_FRAME_MAX);
	p->keeper_fd = connecting = pair[0];
	notices_accept(&k, &k.send_listener, EPOLLIN);
}

static void
say(struct peer *p, struct given g)
{
	if (g.len && p->hears.fd >= 0 && send(p->hears.fd, g.s, g.len, MSG_NOSIGNAL) == (ssize_t)g.len)
		assert(stralloc_catb(&p->said, (const char *)g.s, g.len));
}

static void
submit(unsigned int recipients, size_t len)
{
	struct submitter *s;
	const char *octets;
	size_t octets_len;

	if (k.next_number >= FIRST + MESSAGES - 8 || k.complete)
		return;
	assert((s = calloc(1, sizeof *s)));
	octets = envelope(recipients, &octets_len);
	s->check.recipients = recipients;
	s->heard = k.now_ms;
	assert(stralloc_catb(&s->envelope, octets, octets_len) && stralloc_ready(&s->message, len + 1));
	memset(s->message.s, 'm', len);
	s->message.len = len;
	*k.complete_end = s;
	k.complete_end = &s->next_complete;
}

static void
act(struct given *g)
{
	enum act what = (enum act)(given_number(g, 1) % ACTS);
	unsigned int how = (unsigned int)given_number(g, 1);

	switch (what) {
	case SAY: say(&peers[current], given_piece(g, how)); break;
	case CONNECT: start_peer(); break;
	case HANG_UP: hang_up(&peers[current]); break;
	case SUBMIT: submit(1 + how % RECIPIENTS, 200 * (size_t)(how / RECIPIENTS)); break;
	case WRITER: play_writers(how); break;
	case SURVEY: play_survey(how); break;
	case READ: peers[current].is_deaf = how & 1; break;
	default: flush_fails = 1; break;
	}
}

/* --- a keeper ------------------------------------------------------------------------------------------- */

static void
start_keeper(void)
{
	static int ring_fd = -1;
	static const struct ring_batch empty = { .records = 0 };

	if (ring_fd < 0)
		ring_fd = memfd_create("ring", MFD_CLOEXEC);
	assert(ftruncate(ring_fd, 0) == 0 && ftruncate(ring_fd, BLOCKS * RING_BLOCK) == 0);
	k = (struct keeper){ .epoll = epoll_create1(EPOLL_CLOEXEC), .lock = -1, .first_number = FIRST, .next_number = FIRST,
		.qmails = (uid_t)-1, .now_ms = 1000000, .accepting = 1, .complete_end = &k.complete, .send = { .fd = -1 },
		.send_listener = { .fd = -2 }, .ring = { .fd = ring_fd, .size = BLOCKS * RING_BLOCK, .id = "0123456789abcdef", .next = 1 } };
	channel_init(&k.send_channel, -1, 0);
	broken = 0;
	flush_fails = 0;
	for (struct child *c = children; c < children + CHILDREN; c++)
		channel_init(&c->channel, -1, 0);
	for (struct peer *p = peers; p < peers + PEERS; p++)
		channel_init(&p->hears, -1, 0);
	current = 0;
	assert(k.epoll >= 0 && ring_write(&k.ring, &empty, 0, 0, FIRST, 1) && ledger_init(&k.ledger) && ledger_batch(&k.ledger, 1, 0));
	for (uint64_t number = 1; number <= OLD; number++)
		messages[number] = (struct known){ .recipients = RECIPIENTS, .has_files = 1 };
	forked = A_WRITER;
	assert(writers_start(&k));
}

static void
stop_keeper(void)
{
	struct submitter *next;
	struct message *m;
	uint64_t number;

	for (struct peer *p = peers; p < peers + PEERS; p++) {
		channel_free(&p->hears);
		stralloc_free(&p->said);
		*p = (struct peer){ .role = NOBODY };
	}
	notices_close(&k);
	while (k.newcomers)
		drop_newcomer(&k, k.newcomers);
	for (struct survey *s; (s = k.surveys); free(s)) {
		k.surveys = s->next;
		channel_free(&s->channel);
		channel_free(&s->relay);
	}
	for (int i = 0; i < WRITERS; i++)
		channel_free(&k.writers[i].channel);
	for (struct child *c = children; c < children + CHILDREN; c++)
		channel_free(&c->channel);
	for (struct submitter *s = k.complete; s; s = next) {
		next = s->next_complete;
		submit_answer(&k, s, QUEUE_WRITE, 0, 0);
	}
	free_answered();
	for (size_t at = 0; ledger_walk(&k.ledger, &at, &number, &m); at = 0)
		ledger_remove(&k.ledger, number);
	for (size_t i = 0; i < k.reports_len; i++)
		stralloc_free(&k.reports[i].text);
	free(k.ledger.slots);
	free(k.ledger.batches);
	free(k.reports);
	free(k.tell);
	free(k.later);
	free(k.wanted);
	stralloc_free(&k.unsaid);
	close(k.epoll);
	free_reports(&pending);
	free_reports(&owed);
	free(asked);
	asked = NULL;
	asked_len = asked_room = 0;
	for (struct known *known = messages; known < messages + FIRST + MESSAGES; known++) {
		stralloc_free(&known->info);
		stralloc_free(&known->flushed);
		*known = (struct known){ .recipients = 0 };
	}
}

/* --- the end -------------------------------------------------------------------------------------------- */

static struct peer *
speaker(void)
{
	for (struct peer *p = peers; k.send.fd >= 0 && p < peers + PEERS; p++)
		if (p->role == SPEAKER && p->hears.fd >= 0)
			return p;
	return NULL;
}

/* Nothing is owed to anybody. */
static int
is_quiet(void)
{
	const struct peer *p = speaker();

	return k.scanned && !k.reports_len && !k.complete && !k.wanted_len && !k.writers[0].jobs_len && !k.writers[1].jobs_len &&
	    !k.missed_at && !k.surveys && (!p || (p->heard_all == p->said_list && !k.list_running && !k.tell_len && !k.later_len && !k.unsaid.len &&
	    !channel_unsent(&k.send_channel)));
}

/* With children that work, and a qmail-send that listens, everything that is owed happens. */
static void
settle(void)
{
	const struct peer *p;

	flush_fails = 0;
	for (struct peer *each = peers; each < peers + PEERS; each++)
		each->is_deaf = 0;
	for (int i = 0; i < 3 || !is_quiet(); i++) {
		assert(i < QUIET_TURNS);
		while (play_writers(0) | play_writers(1))
			;
		play_survey(0);
		turn(1000 * SAY_RETRY);
	}
	p = speaker();
	if (!p)
		return;
	assert(!owed.len && p->has_greeted);
	for (size_t i = 0; i < asked_len; i++) {
		const struct known *m = known(asked[i].number);

		assert(asked[i].answers >= asked[i].where + (asked[i].damaged && !(m && m->is_ended)));
	}
	for (const struct known *m = messages; p->said_list && m < messages + FIRST + MESSAGES; m++)
		assert(!is_live(m) || m->was_told);
}

/* A record of a batch that the next keeper finds. */
static void
find_record(const char *s, uint32_t len, int has_record[])
{
	struct record r;
	struct known *m;

	assert(record_parse(&r, s, len));
	m = known(r.number);
	if (!m)
		return;
	if (r.type == RECORD_MESSAGE)
		has_record[r.number] = 1;
	if (r.type == RECORD_END)
		assert(m->is_ended);
	if (r.type == RECORD_OUTCOME)
		assert(info_outcome_put(&m->info, &(struct info_outcome){ r.recipient, r.result, r.text, (uint32_t)r.text_len }));
}

/* The batches from the tail on hold what is in no file. */
static void
read_ring_again(void)
{
	static char ring[2 * BLOCKS * RING_BLOCK];
	int has_record[FIRST + MESSAGES] = { 0 };
	const char *batch = ring + (size_t)k.ring.tail_block * RING_BLOCK;

	assert(pread(k.ring.fd, ring, BLOCKS * RING_BLOCK, 0) == BLOCKS * RING_BLOCK);
	memcpy(ring + BLOCKS * RING_BLOCK, ring, BLOCKS * RING_BLOCK);
	for (uint64_t number = k.ring.tail; number < k.ring.next; number++) {
		uint32_t blocks, records, len;
		uint64_t its;
		const char *s;

		uint64_unpack_big(batch + 24, &its);
		uint32_unpack_big(batch + 36, &blocks);
		uint32_unpack_big(batch + 40, &records);
		assert(its == number && blocks && blocks < BLOCKS / 8);
		s = batch + RING_HEADER + (size_t)records * RING_DESCRIPTOR;
		for (uint32_t i = 0; i < records; i++, s += len) {
			uint32_unpack_big(batch + 72 + (size_t)i * RING_DESCRIPTOR, &len);
			find_record(s, len, has_record);
		}
		batch = ring + (size_t)(batch - ring + blocks * RING_BLOCK) % (BLOCKS * RING_BLOCK);
	}
	for (uint64_t number = 0; number < FIRST + MESSAGES; number++)
		assert(!is_live(&messages[number]) || messages[number].has_files || has_record[number]);
}

/* A message that was deferred is no new one to the next keeper. */
static void
check_deferred(void)
{
	for (const struct known *m = messages; m < messages + FIRST + MESSAGES; m++)
		assert(!is_live(m) || !m->was_deferred || (m->has_files && m->is_tried));
}

/* What was reported of a recipient last, and is on disk, is what the next keeper knows of him. */
static void
check_outcomes(void)
{
	struct info_outcome want, got;

	for (struct known *m = messages; m < messages + FIRST + MESSAGES; m++)
		for (uint32_t i = 0; is_live(m) && i < m->recipients; i++) {
			int has = last_outcome(&want, i, &m->flushed, 0, m->flushed.len);

			assert(last_outcome(&got, i, &m->info, 0, m->info.len) == has);
			assert(!has || (want.result == got.result && want.text_len == got.text_len && memcmp(want.text, got.text, want.text_len) == 0));
		}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };

	start_keeper();
	while (g.len) {
		act(&g);
		turn(10 * given_number(&g, 1));
	}
	settle();
	read_ring_again();
	check_outcomes();
	check_deferred();
	stop_keeper();
	return 0;
}
