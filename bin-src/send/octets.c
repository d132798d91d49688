#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "job.h"
#include "keeper.h"
#include "octets.h"
#include "pass.h"
#include "queue/info.h"

void
octets_init(struct send *s)
{
	s->octets.reader = (struct reader)READER_CLOSED;
	s->octets.check_fd = -1;
}

static void
log_trouble(struct send *s, const char *level, const struct message *m, const char *what)
{
	log_text(&s->log, level);
	log_text(&s->log, ": msg ");
	log_number(&s->log, m->number);
	log_text(&s->log, what);
	log_end(&s->log);
}

static enum octets_result
unreadable(struct send *s, struct message *m)
{
	log_text(&s->log, "warning: unable to read msg ");
	log_number(&s->log, m->number);
	log_text(&s->log, ": ");
	log_text(&s->log, strerror(errno));
	log_text(&s->log, "; trying again later");
	log_end(&s->log);
	return OCTETS_LATER;
}

enum octets_result
octets_missing(struct send *s, struct message *m)
{
	if (m->is_sought)
		return OCTETS_LATER;
	if (m->misfits >= PASS_MISFITS_MAX) {
		log_trouble(s, "alert", m, " is not where the queue says it is");
		m->misfits = 0;
		return OCTETS_BAD;
	}
	keeper_ask_place(s, m);
	m->misfits++;
	return OCTETS_LATER;
}

/* --- small messages ------------------------------------------------------------------ */

static enum reader_result
read_ring(struct octets *o, struct message *m)
{
	enum reader_result r = reader_ring(&o->reader, m->number, m->place, &o->message, &o->at);

	if (r != READER_MISFIT)
		return r;
	/* perhaps the keeper made a new ring */
	reader_close(&o->reader);
	return reader_ring(&o->reader, m->number, m->place, &o->message, &o->at);
}

/* In the ring where the notice said; else, as it may have been moved since, in its file. */
static enum reader_result
read_whole(struct octets *o, struct message *m)
{
	enum reader_result r = m->place ? read_ring(o, m) : READER_MISFIT;

	if (r == READER_MISFIT) {
		o->at = 0;
		r = reader_file_whole(m->number, &o->message, JOB_INLINE_MAX);
	}
	if (r == READER_OK && o->message.len - o->at != m->size)
		r = READER_MISFIT;
	return r;
}

enum octets_result
octets_whole(struct send *s, struct message *m, const char **octets, size_t *len)
{
	struct octets *o = &s->octets;
	enum reader_result r;

	if (o->number != m->number) {
		if (m->is_sought)
			return OCTETS_LATER;
		o->number = 0;
		r = read_whole(o, m);
		if (r == READER_ERROR)
			return unreadable(s, m);
		if (r == READER_MISFIT)
			return octets_missing(s, m);
		o->number = m->number;
		m->misfits = 0;
	}
	*octets = o->message.s + o->at;
	*len = o->message.len - o->at;
	return OCTETS_OK;
}

/* --- large messages ---------------------------------------------------------------------- */

enum octets_result
octets_open(struct send *s, struct message *m, int *fd)
{
	char path[INFO_PATH_MAX];
	uint64_t size;

	if (m->is_sought)
		return OCTETS_LATER;
	info_path(path, "mess", m->number);
	*fd = info_open_file(path, &size);
	if (*fd < 0)
		return errno == ENOENT || errno == EPROTO ? octets_missing(s, m) : unreadable(s, m);
	if (size == m->size) {
		m->misfits = 0;
		return OCTETS_OK;
	}
	close(*fd);
	m->is_checked = 0;
	return octets_missing(s, m);
}

void
octets_check_later(struct send *s, struct message *m)
{
	if (!stralloc_catb(&s->octets.to_check, (char *)&m->number, sizeof m->number))
		pass_checked(s, m, s->now + SEND_SYSTEM_RETRY);
}

/* Ends the check under way. m NULL: the message is gone. */
static void
finish_check(struct send *s, struct message *m, enum reader_result r)
{
	struct octets *o = &s->octets;
	int64_t when = s->now;

	if (m && r == READER_OK)
		m->is_checked = 1;
	else if (m && r == READER_ERROR) {
		unreadable(s, m);
		when += SEND_SYSTEM_RETRY;
	} else if (m && octets_missing(s, m) == OCTETS_BAD)
		when += SEND_SYSTEM_RETRY;
	reader_check_free(o->check);
	o->check = NULL;
	if (o->check_fd >= 0)
		close(o->check_fd);
	o->check_fd = -1;
	o->checked_number = 0;
	if (m)
		pass_checked(s, m, when);
}

/* Opens the next message on the list. */
static void
begin_check(struct send *s)
{
	struct octets *o = &s->octets;
	char digest[QUEUE_DIGEST];
	struct message *m;
	uint64_t size;
	enum reader_result r;

	memcpy(&o->checked_number, o->to_check.s + o->to_check_done, sizeof o->checked_number);
	o->to_check_done += sizeof o->checked_number;
	if (o->to_check_done == o->to_check.len)
		o->to_check_done = o->to_check.len = 0;
	m = message_find(&s->messages, o->checked_number);
	if (!m) {
		o->checked_number = 0;
		return;
	}
	r = reader_file(m->number, &o->check_fd, &size, digest);
	if (r == READER_OK && size != m->size)
		r = READER_MISFIT;
	else if (r == READER_OK && !(o->check = reader_check_new(o->check_fd, size, digest))) {
		errno = ENOMEM;
		r = READER_ERROR;
	}
	if (r != READER_OK)
		finish_check(s, m, r);
}

int
octets_check(struct send *s)
{
	struct octets *o = &s->octets;
	int r;

	if (o->check) {
		r = reader_check_slice(o->check, OCTETS_SLICE);
		if (r != 2)
			finish_check(s, message_find(&s->messages, o->checked_number), r);
	} else if (o->to_check.len)
		begin_check(s);
	return o->check || o->to_check.len;
}
