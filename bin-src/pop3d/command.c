#include <errno.h>
#include <string.h>
#include <strings.h>
#include "retrieval.h"
#include "session.h"

/* --- what several commands need --------------------------------------------------------------------- */

/* The arguments of a command, as far as it has any. */
struct arguments {
	int has_message;
	size_t message;		/* counted from 0: it exists and is not marked as deleted */
	uint64_t lines;
};

static void
say(struct session *s, const char *text)
{
	output_text(&s->out, text);
}

static void
say_octets(struct session *s, const char *before, uint64_t octets)
{
	say(s, before);
	output_number(&s->out, octets);
	say(s, " octets");
}

/* How many messages there are. */
static void
say_listing(struct session *s)
{
	say(s, "+OK ");
	output_number(&s->out, s->maildrop->left);
	say_octets(s, " messages (", s->maildrop->octets);
	say(s, ")\r\n");
}

/* A line about each message that is not marked as deleted. */
static void
say_each(struct session *s, void (*one)(struct session *s, size_t i))
{
	for (size_t i = 0; i < s->maildrop->count; i++)
		if (!s->maildrop->messages[i].is_deleted)
			one(s, i);
	say(s, ".\r\n");
}

/* --- STAT, LIST, UIDL: RFC 1939 sections 5 and 7 ------------------------------------------------------- */

static void
run_stat(struct session *s, const struct arguments *a)
{
	(void)a;
	say(s, "+OK ");
	output_number(&s->out, s->maildrop->left);
	say(s, " ");
	output_number(&s->out, s->maildrop->octets);
	say(s, "\r\n");
}

static void
list_one(struct session *s, size_t i)
{
	output_number(&s->out, i + 1);
	say(s, " ");
	output_number(&s->out, s->maildrop->messages[i].size);
	say(s, "\r\n");
}

static void
run_list(struct session *s, const struct arguments *a)
{
	if (a->has_message) {
		say(s, "+OK ");
		list_one(s, a->message);
		return;
	}
	say_listing(s);
	say_each(s, list_one);
}

static void
uidl_one(struct session *s, size_t i)
{
	char uid[MAILDROP_UID_MAX + 1];
	size_t len = maildrop_uid(s->maildrop, i, uid);

	output_number(&s->out, i + 1);
	say(s, " ");
	output_put(&s->out, uid, len);
	say(s, "\r\n");
}

static void
run_uidl(struct session *s, const struct arguments *a)
{
	if (a->has_message) {
		say(s, "+OK ");
		uidl_one(s, a->message);
		return;
	}
	say_listing(s);
	say_each(s, uidl_one);
}

/* --- RETR, TOP --------------------------------------------------------------------------------------- */

static void
say_no_file(struct session *s)
{
	say(s, errno == ENOENT ? "-ERR this message is gone\r\n" : "-ERR [SYS/TEMP] unable to read this message\r\n");
}

/* Returns 1, or 0: answered. */
static int
open_message(struct session *s, struct retrieval *r, size_t i)
{
	uint64_t size;
	int fd = maildrop_file(s->maildrop, i, &size);

	if (fd < 0) {
		say_no_file(s);
		return 0;
	}
	retrieval_open(r, fd, size);
	return 1;
}

/* What was said so far says that the message follows: only a connection that ends tells that it does not. */
static void
send_message(struct session *s, struct retrieval *r)
{
	if (!retrieval_send(r, &s->out))
		s->end = SESSION_BROKEN;
	else
		say(s, ".\r\n");
}

static void
run_retr(struct session *s, const struct arguments *a)
{
	struct retrieval r;

	if (!open_message(s, &r, a->message))
		return;
	if (retrieval_begin(&r, s->settings->is_utf8)) {
		say_octets(s, "+OK ", s->maildrop->messages[a->message].size);
		say(s, "\r\n");
		send_message(s, &r);
		s->retrieved++;
		s->octets += r.size;
	} else
		say_no_file(s);
	retrieval_close(&r);
}

static void
run_top(struct session *s, const struct arguments *a)
{
	struct retrieval r;

	if (!open_message(s, &r, a->message))
		return;
	if (retrieval_begin_top(&r, s->settings->is_utf8, a->lines)) {
		say(s, "+OK\r\n");
		send_message(s, &r);
	} else
		say_no_file(s);
	retrieval_close(&r);
}

/* --- DELE, RSET, LAST, NOOP, QUIT ------------------------------------------------------------------------ */

static void
run_dele(struct session *s, const struct arguments *a)
{
	maildrop_delete(s->maildrop, a->message);
	if (a->message >= s->last)
		s->last = a->message + 1;
	say(s, "+OK\r\n");
}

static void
run_rset(struct session *s, const struct arguments *a)
{
	(void)a;
	maildrop_undelete(s->maildrop);
	s->last = 0;
	say_listing(s);
}

/* RFC 1460; as in qmail it is moved by DELE only. */
static void
run_last(struct session *s, const struct arguments *a)
{
	(void)a;
	say(s, "+OK ");
	output_number(&s->out, s->last);
	say(s, "\r\n");
}

static void
run_noop(struct session *s, const struct arguments *a)
{
	(void)a;
	say(s, "+OK\r\n");
}

static void
run_quit(struct session *s, const struct arguments *a)
{
	(void)a;
	s->end = SESSION_QUIT;
}

/* --- CAPA: RFC 2449 sections 5 and 6 --------------------------------------------------------------------- */

static void
run_capa(struct session *s, const struct arguments *a)
{
	(void)a;
	say(s, "+OK\r\n");
	capabilities_say_logins(&s->out);
	capabilities_say(&s->settings->capabilities, &s->out);
	say(s, ".\r\n");
}

/* What belongs before the login: RFC 1939 section 4, RFC 2595 section 4, RFC 5034 section 4, RFC 6856 section 2.1. */
static void
run_too_late(struct session *s, const struct arguments *a)
{
	(void)a;
	say(s, "-ERR this command comes before the login\r\n");
}

/* --- the table ---------------------------------------------------------------------------------------- */

enum takes { NOTHING, MAYBE_MESSAGE, A_MESSAGE, MESSAGE_AND_LINES, ANYTHING };

static const struct command {
	const char *verb;
	enum takes takes;
	void (*run)(struct session *s, const struct arguments *a);
} commands[] = {
	{ "RETR", A_MESSAGE, run_retr },
	{ "DELE", A_MESSAGE, run_dele },
	{ "TOP", MESSAGE_AND_LINES, run_top },
	{ "UIDL", MAYBE_MESSAGE, run_uidl },
	{ "LIST", MAYBE_MESSAGE, run_list },
	{ "STAT", NOTHING, run_stat },
	{ "NOOP", NOTHING, run_noop },
	{ "RSET", NOTHING, run_rset },
	{ "QUIT", NOTHING, run_quit },
	{ "CAPA", NOTHING, run_capa },
	{ "LAST", NOTHING, run_last },
	{ "USER", ANYTHING, run_too_late },
	{ "PASS", ANYTHING, run_too_late },
	{ "APOP", ANYTHING, run_too_late },
	{ "AUTH", ANYTHING, run_too_late },
	{ "STLS", ANYTHING, run_too_late },
	{ "UTF8", ANYTHING, run_too_late },
	{ NULL, NOTHING, NULL },
};

/* The next word of a line, ended by NUL, and what is behind it; "" at the end. */
static char *
next_word(char **line)
{
	char *word = *line + strspn(*line, " \t"), *end = word + strcspn(word, " \t");

	*line = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

/* Decimal digits; what is too large becomes the largest number. Returns 1, or 0. */
static int
scan_number(const char *word, uint64_t *number)
{
	uint64_t n = 0;

	if (!*word || word[strspn(word, "0123456789")])
		return 0;
	for (; *word; word++) {
		unsigned int digit = (unsigned int)(*word - '0');

		n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
	}
	*number = n;
	return 1;
}

/* The message of that number, counted from 1. Returns 1, or 0: answered. */
static int
find_message(struct session *s, const char *word, struct arguments *a)
{
	uint64_t number;

	if (!scan_number(word, &number)) {
		say(s, "-ERR a message has a number\r\n");
		return 0;
	}
	if (number == 0 || number > s->maildrop->count) {
		say(s, "-ERR no such message\r\n");
		return 0;
	}
	a->message = (size_t)number - 1;
	a->has_message = 1;
	if (s->maildrop->messages[a->message].is_deleted) {
		say(s, "-ERR this message is marked as deleted\r\n");
		return 0;
	}
	return 1;
}

/* Reads what the command takes from the rest of its line. Returns 1, or 0: answered. */
static int
read_arguments(struct session *s, enum takes takes, char *rest, struct arguments *a)
{
	char *first = next_word(&rest), *second = next_word(&rest);
	size_t words = *first ? *second ? 2 : 1 : 0;
	static const size_t least[] = { [A_MESSAGE] = 1, [MESSAGE_AND_LINES] = 2 };
	static const size_t most[] = { [MAYBE_MESSAGE] = 1, [A_MESSAGE] = 1, [MESSAGE_AND_LINES] = 2 };

	if (words < least[takes] || words > most[takes] || *next_word(&rest)) {
		say(s, "-ERR wrong number of arguments\r\n");
		return 0;
	}
	if (words == 2 && !scan_number(second, &a->lines)) {
		say(s, "-ERR a number of lines comes second\r\n");
		return 0;
	}
	return words == 0 || find_message(s, first, a);
}

void
command_run(struct session *s, char *line)
{
	const char *verb = next_word(&line);
	const struct command *c = commands;
	struct arguments a = { .has_message = 0 };

	while (c->verb && strcasecmp(c->verb, verb) != 0)
		c++;
	if (!c->verb)
		say(s, "-ERR unknown command\r\n");
	else if (c->takes == ANYTHING || read_arguments(s, c->takes, line, &a))
		c->run(s, &a);
}
