#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "exitcode.h"
#include "home.h"
#include "listener.h"
#include "monotonic.h"
#include "received.h"
#include "sandbox.h"
#include "stralloc_set.h"
#include "transfer.h"

/* what a client is told that the limits keep out: a netstring */
#define BUSY "47:Ztoo many connections, try again later (#4.3.2),"

enum {
	WRITE_PIECE = 4096,	/* octets of replies in one write: a pipe that is writable takes as many */
	REPLIES_MAX = 32768,	/* octets of replies that are gathered */
	NAMES_MAX = 2000,	/* octets of the list of recipients in a line of the log */
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space: an envelope of QUEUE_ENVELOPE_MAX, some times */
	LINE_OCTETS = 4000,	/* of a line; below PIPE_BUF, so lines of several processes do not mix */
};

/* --- the log ----------------------------------------------------------------------------------- */

struct line {
	char s[LINE_OCTETS + 1];
	size_t len;
};

static void
add(struct line *l, const char *s, size_t len)
{
	if (len > LINE_OCTETS - l->len)
		len = LINE_OCTETS - l->len;
	if (len)	/* else s may be NULL */
		memcpy(l->s + l->len, s, len);
	l->len += len;
}

static void
add_text(struct line *l, const char *s)
{
	add(l, s, strlen(s));
}

/* Octets of others: what may end the value or the line becomes '?'. */
static void
add_clean(struct line *l, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		add(l, s[i] > 32 && s[i] < 127 && s[i] != '"' && s[i] != '<' && s[i] != '>' ? s + i : "?", 1);
}

static void
begin_line(struct line *l, const struct transfer *t, const char *what)
{
	char number[UINT64_FMT];

	l->len = 0;
	add_text(l, PROG);
	add_text(l, ": ");
	add_text(l, what);
	add_text(l, " pid=");
	add(l, number, uint64_fmt(number, (uint64_t)getpid()));
	add_text(l, " ip=");
	add_text(l, t->peer.ip);
	add_text(l, " host=");
	add_clean(l, t->peer.host, strlen(t->peer.host));
	if (t->relayclient)
		add_text(l, " relay=yes");
}

static void
end_line(struct line *l, const char *reason)
{
	if (*reason) {
		add_text(l, " reason=\"");
		for (const char *s = reason; *s && *s != '\n'; s++)
			add(l, *s >= ' ' && *s < 127 && *s != '"' ? s : "?", 1);
		add_text(l, "\"");
	}
	l->s[l->len++] = '\n';
	if (write(STDERR_FILENO, l->s, l->len) < 0)
		return;	/* a log that is gone keeps no mail out */
}

void
transfer_log(const struct transfer *t, const char *what, const char *why)
{
	struct line l;

	begin_line(&l, t, what);
	end_line(&l, why);
}

void
transfer_log_refusal(const struct transfer *t, const char *recipient, size_t len, const char *why)
{
	struct line l;

	begin_line(&l, t, "refused");
	add_text(&l, " from=<");
	add_clean(&l, t->sender.s, t->sender.len);
	add_text(&l, "> to=<");
	add_clean(&l, recipient, len);
	add_text(&l, ">");
	end_line(&l, why);
}

/* result: what the recipients were told, qp: 0 not queued. */
static void
log_message(const struct transfer *t, const char *result, uint64_t qp, const char *reason)
{
	struct line l;
	char number[UINT64_FMT];

	begin_line(&l, t, "message");
	add_text(&l, " from=<");
	add_clean(&l, t->sender.s, t->sender.len);
	add_text(&l, "> to=");
	add(&l, t->names.s, t->names.len);
	add_text(&l, " recipients=");
	add(&l, number, uint_fmt(number, t->recipients));
	add_text(&l, " size=");
	add(&l, number, uint64_fmt(number, t->octets));
	add_text(&l, " result=");
	add_text(&l, result);
	if (qp) {
		add_text(&l, " qp=");
		add(&l, number, uint64_fmt(number, qp));
	}
	end_line(&l, reason);
}

const char *
transfer_why(enum netstring_result r, enum input_result failure)
{
	switch (r) {
	case NETSTRING_OK: return "";
	case NETSTRING_MALFORMED: return "malformed netstring";
	case NETSTRING_NO_MEMORY: return "out of memory";
	case NETSTRING_FAILED: break;
	}
	switch (failure) {
	case INPUT_CLOSED: return "closed by the client";
	case INPUT_TIMEOUT: return "timeout";
	case INPUT_SESSION_OVER: return "the connection lasted too long";
	case INPUT_STOPPING: return "the server is being stopped";
	default: return "unable to read";
	}
}

/* --- replies ------------------------------------------------------------------------------------- */

int
transfer_flush(struct transfer *t)
{
	uint64_t deadline = monotonic_ms() + t->in.timeout_ms;
	size_t done = 0;

	while (done < t->replies.len && !t->is_gone) {
		struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
		size_t n = t->replies.len - done < WRITE_PIECE ? t->replies.len - done : WRITE_PIECE;
		uint64_t now = monotonic_ms();
		int r = now < deadline ? poll(&out, 1, (int)(deadline - now)) : 0;
		ssize_t w;

		if (r < 0 && errno == EINTR)
			continue;
		w = r > 0 ? write(STDOUT_FILENO, t->replies.s + done, n) : -1;
		if (w >= 0)
			done += (size_t)w;
		else if (r <= 0 || errno != EINTR)	/* a signal to stop takes no reply away */
			t->is_gone = 1;
	}
	t->replies.len = 0;
	return !t->is_gone;
}

void
transfer_reply(struct transfer *t, const char *s, size_t len)
{
	char number[SIZE_FMT];

	if (!stralloc_catb(&t->replies, number, size_fmt(number, len)) || !stralloc_cats(&t->replies, ":") ||
	    !stralloc_catb(&t->replies, s, len) || !stralloc_cats(&t->replies, ","))
		t->is_gone = 1;
	if (t->replies.len > REPLIES_MAX)
		transfer_flush(t);
}

static void
flush_before_wait(void *data)
{
	transfer_flush(data);
}

static void
rest(void *data)
{
	struct transfer *t = data;

	queue_client_rest(&t->queue);
}

/* --- a message ------------------------------------------------------------------------------------ */

void
transfer_begin(struct transfer *t)
{
	struct received field = { .peer = &t->peer, .protocol = t->protocol, .time = time(NULL) };
	stralloc text = STRALLOC_ZERO;

	t->in.is_stopping = NULL;	/* a message that has begun comes to its end */
	t->letter = 0;
	t->text = "";
	t->hops = (struct hops){ .count = 0 };
	t->octets = 0;
	t->recipients = 0;
	t->sender.len = t->names.len = 0;
	queue_client_begin(&t->queue);
	if (received_put(&text, &field))
		queue_client_message(&t->queue, text.s, text.len);
	else
		transfer_refuse(t, 'Z', "out of memory (#4.3.0)");
	stralloc_free(&text);
}

void
transfer_refuse(struct transfer *t, char letter, const char *text)
{
	if (t->letter)
		return;
	t->letter = letter;
	t->text = text;
	queue_client_abandon(&t->queue);
}

void
transfer_octets(struct transfer *t, const char *s, size_t len)
{
	t->octets += len;
	if (t->letter)
		return;
	hops_watch(&t->hops, s, len);
	if (t->hops.count >= t->settings.numbers[NUMBER_MAXHOPS])
		transfer_refuse(t, 'D', "too many hops, this message is looping (#5.4.6)");
	else if (t->settings.numbers[NUMBER_DATABYTES] && t->octets > t->settings.numbers[NUMBER_DATABYTES])
		transfer_refuse(t, 'D', "sorry, that message size exceeds my databytes limit (#5.3.4)");
	else
		queue_client_message(&t->queue, s, len);
}

void
transfer_sender(struct transfer *t)
{
	if (memchr(t->sender.s, '\0', t->sender.len))
		transfer_refuse(t, 'D', "the sender has an octet that no address has (#5.1.7)");
	if (!t->letter)
		queue_client_sender(&t->queue, t->sender.s, t->sender.len);
}

/* The list for the log: as much as fits, and dots where there is more. */
static void
note_name(struct transfer *t, const stralloc *address)
{
	struct line l = { .len = 0 };
	size_t start;

	if (t->names.len && t->names.s[t->names.len - 1] == '.')
		return;
	add_text(&l, t->names.len ? "," : "");
	start = l.len;
	add_text(&l, "<");
	add_clean(&l, address->s, address->len);
	add_text(&l, ">");
	if (t->names.len + l.len > NAMES_MAX) {
		l.len = start;
		add_text(&l, "...");
	}
	stralloc_catb(&t->names, l.s, l.len);	/* without memory the line is shorter */
}

void
transfer_recipient(struct transfer *t, stralloc *address)
{
	if (t->letter)
		return;
	if (t->relayclient && !stralloc_cats(address, t->relayclient)) {
		transfer_refuse(t, 'Z', "out of memory (#4.3.0)");
		return;
	}
	queue_client_recipient(&t->queue, address->s, address->len);
	note_name(t, address);
	t->recipients++;
}

static int
put_success(stralloc *reply, const struct queue_result *result)
{
	char number[UINT64_FMT];

	return stralloc_sets(reply, "Kok ") && stralloc_catb(reply, number, uint64_fmt(number, result->time)) &&
	    stralloc_cats(reply, " qp ") && stralloc_catb(reply, number, uint64_fmt(number, result->number));
}

static int
put_failure(stralloc *reply, char letter, const char *text)
{
	return stralloc_setb(reply, &letter, 1) && stralloc_cats(reply, text);
}

void
transfer_end(struct transfer *t, stralloc *reply)
{
	struct queue_result result = { .code = 0 };
	int ok;

	t->in.is_stopping = listener_is_stopping;
	if (!t->letter && !t->recipients)
		transfer_refuse(t, 'D', "no recipients (#5.5.1)");
	if (t->letter) {
		ok = put_failure(reply, t->letter, t->text);
		log_message(t, t->letter == 'D' ? "refused" : "deferred", 0, t->text);
	} else {
		queue_client_end(&t->queue, 1, &result);
		if (result.code == 0) {
			ok = put_success(reply, &result);
			log_message(t, "accepted", result.number, "");
		} else {
			ok = put_failure(reply, result.permanent ? 'D' : 'Z', result.text);
			log_message(t, result.permanent ? "refused" : "deferred", 0, result.text);
		}
	}
	if (!ok)
		t->is_gone = 1;	/* what became of it cannot be said: the client tries again */
}

void
transfer_abandon(struct transfer *t, const char *why)
{
	t->in.is_stopping = listener_is_stopping;
	queue_client_abandon(&t->queue);
	log_message(t, "incomplete", 0, why);
}

/* --- the start -------------------------------------------------------------------------------------- */

static void
read_settings(struct settings *s)
{
	const char *file;

	if (!settings_read(s, &file))
		strerr_diefusys(EXIT_TEMP, "read ", file);
}

/* In the parent, before a connection is served: files that have changed count from now on. */
static void
refresh_settings(void *data)
{
	struct settings *s = data;
	const char *file;

	if (settings_have_changed(s) && !settings_read(s, &file))
		strerr_warnwusys("read ", file, " anew; the old settings stay");
}

static void
shut_itself_in(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_session, .files = 32, .memory = MEMORY_MAX };

	tzset();	/* even gmtime reads the local time zone at its first call */
	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
}

static void
die_usage(void)
{
	strerr_dien(EXIT_PERM, 5, PROG, ": usage: ", PROG, " ", LISTENER_USAGE);
}

static void
parse_options(struct listener_config *config, int argc, char *const *argv)
{
	int c, with_options = 0;

	while ((c = getopt(argc, argv, LISTENER_OPTIONS)) >= 0) {
		if (!listener_option(config, c, optarg))
			die_usage();
		with_options = 1;
	}
	if (optind != argc)
		die_usage();
	if (with_options && !listener_is(STDIN_FILENO))
		strerr_dief(EXIT_PERM, "options are for a socket that listens, and descriptor 0 is none");
}

static void
prepare_connection(struct transfer *t)
{
	peer_read(&t->peer);
	t->relayclient = getenv("RELAYCLIENT");
	t->in = (struct input){ .fd = STDIN_FILENO, .timeout_ms = t->settings.numbers[NUMBER_TIMEOUT] * 1000,
	    .session_end = monotonic_ms() + TRANSFER_SECONDS * 1000, .flush = flush_before_wait, .rest = rest,
	    .is_stopping = listener_is_stopping, .data = t };
	input_start(&t->in);
	t->is_gone = 0;
	t->replies.len = 0;
}

int
transfer_next(struct transfer *t)
{
	if (t->settings.is_unsettled || !listener_next())
		return 0;
	prepare_connection(t);
	return 1;
}

void
transfer_start(struct transfer *t, int argc, char *const *argv)
{
	struct listener_config config;

	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	signal(SIGPIPE, SIG_IGN);
	if (!listener_config_init(&config))
		strerr_diefusys(EXIT_TEMP, "read the limits in control");
	parse_options(&config, argc, argv);
	read_settings(&t->settings);
	if (listener_is(STDIN_FILENO)) {
		config.busy = BUSY;
		config.reuse = TRANSFER_REUSE;
		config.prepare = refresh_settings;
		config.data = &t->settings;
		listener_serve(&config);
	}
	settings_apply_environment(&t->settings);
	if (!settings_open_table(&t->settings))
		strerr_diefusys(EXIT_TEMP, "open control/morercpthosts.cdb");
	prepare_connection(t);
	queue_client_open(&t->queue, -1);
	t->queue.patience = QUEUE_SESSION_WAIT;
	if (!queue_client_start_runner(&t->queue))
		strerr_diefusys(EXIT_TEMP, "prepare for the program in the place of qmail-queue");
	if (t->prepare && !t->prepare(t))
		strerr_diefusys(EXIT_TEMP, "prepare for the connection");
	shut_itself_in();
	listener_ready();
}
