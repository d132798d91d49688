#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <skalibs/types.h>
#include "control/control.h"
#include "date822.h"
#include "bounce.h"
#include "queue/envelope.h"
#include "quote.h"
#include "stralloc_set.h"
#include "utf8.h"
#include "verp.h"

const char bounce_too_long[] = "I am not going to try again; this message has been in the queue too long.\n";

static const char remote_said[] = "Remote host said: ";

enum {
	PIECE = 65536, BOUNDARY = 36, BOUNDARY_TRIES = 10,
	ORIGINAL_MAX = 500,	/* octets of an ORCPT parameter, RFC 3461 section 4.2; no ENVID is longer */
};

/* --- settings -------------------------------------------------------------------- */

static int
first_line(stralloc *value, const char *file, const char *absent)
{
	int r = control_line(value, file);

	if (r < 0 || (r == 0 && !stralloc_sets(value, absent)))
		return 0;
	return stralloc_0(value);
}

/* A host name whose default is me, or the literal name of its own file. */
static int
host_line(stralloc *value, const char *file, const char *name)
{
	int r = control_line_or_me(value, file);

	if (r < 0 || (r == 0 && !stralloc_sets(value, name)))
		return 0;
	return stralloc_0(value);
}

const char *
bounce_load(struct bounce_settings *b)
{
	stralloc format = STRALLOC_ZERO;
	int ok = first_line(&format, "control/bounceformat", "");

	b->is_plain = ok && strcmp(format.s, "qsbmf") == 0;
	stralloc_free(&format);
	if (!ok)
		return "control/bounceformat";
	if (!first_line(&b->from, "control/bouncefrom", "MAILER-DAEMON"))
		return "control/bouncefrom";
	if (!host_line(&b->host, "control/bouncehost", "bouncehost"))
		return "control/bouncehost";
	if (!first_line(&b->double_to, "control/doublebounceto", "postmaster"))
		return "control/doublebounceto";
	if (!host_line(&b->double_host, "control/doublebouncehost", "doublebouncehost"))
		return "control/doublebouncehost";
	b->drops_doubles = !*b->double_to.s || strcmp(b->double_to.s, "@") == 0;
	b->max = BOUNCE_MAX;
	if (control_number(&b->max, "control/bouncemaxbytes", (unsigned long)-1) < 0)
		return "control/bouncemaxbytes";
	return NULL;
}

void
bounce_free(struct bounce_settings *b)
{
	stralloc_free(&b->from);
	stralloc_free(&b->host);
	stralloc_free(&b->double_to);
	stralloc_free(&b->double_host);
}

enum bounce_kind
bounce_kind_of(const struct bounce_settings *settings, const char *sender)
{
	if (strcmp(sender, "#@[]") == 0)
		return BOUNCE_TRIPLE;
	if (*sender)
		return BOUNCE_SINGLE;
	return settings->drops_doubles ? BOUNCE_DROPPED : BOUNCE_DOUBLE;
}

static int
join_address(stralloc *to, const stralloc *local, const stralloc *host)
{
	return stralloc_sets(to, local->s) && stralloc_cats(to, "@") && stralloc_catb(to, host->s, host->len);
}

int
bounce_envelope(const struct bounce_settings *settings, enum bounce_kind kind, const char *sender, stralloc *from,
    stralloc *to)
{
	if (kind == BOUNCE_SINGLE)
		return stralloc_setb(from, "", 1) && verp_return(to, sender);
	return stralloc_setb(from, "#@[]", 5) && join_address(to, &settings->double_to, &settings->double_host);
}

/* --- texts ------------------------------------------------------------------------ */

static int
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads "x.y.z" at s: x one digit, y and z one to three (RFC 3463 section 2). Returns its octets, or 0. */
static size_t
read_status(const char *s, size_t len)
{
	size_t i = 1;

	if (len < 5 || (s[0] != '2' && s[0] != '4' && s[0] != '5'))
		return 0;
	for (unsigned int part = 0; part < 2; part++) {
		size_t digits = 0;

		if (i >= len || s[i++] != '.')
			return 0;
		while (i < len && digits < 4 && is_digit(s[i]))
			i++, digits++;
		if (digits < 1 || digits > 3)
			return 0;
	}
	return i < BOUNCE_STATUS_MAX ? i : 0;
}

/* Enters the n octets at s; 1, or 0 if there are none. */
static int
enter(char status[BOUNCE_STATUS_MAX], const char *s, size_t n)
{
	if (!n)
		return 0;
	memcpy(status, s, n);
	status[n] = '\0';
	return 1;
}

/* The first "(#x.y.z)" of a text. */
static int
status_in_parentheses(char status[BOUNCE_STATUS_MAX], const char *s, size_t len)
{
	const char *end = s + len;

	while ((s = memmem(s, (size_t)(end - s), "(#", 2))) {
		size_t n;

		s += 2;
		n = read_status(s, (size_t)(end - s));
		if (n && s + n < end && s[n] == ')')
			return enter(status, s, n);
	}
	return 0;
}

/* That of a reply, behind its code: "450 4.2.1 ...". */
static int
status_of_reply(char status[BOUNCE_STATUS_MAX], const char *s, size_t len)
{
	return len > 4 && (s[3] == ' ' || s[3] == '-') && enter(status, s + 4, read_status(s + 4, len - 4));
}

/* How many octets of a text are ours: those before what a remote host said. */
static size_t
own_octets(const char *text, size_t len)
{
	const char *said = memmem(text, len, remote_said, sizeof remote_said - 1);

	return said ? (size_t)(said - text) : len;
}

int
bounce_own_status(char status[BOUNCE_STATUS_MAX], const char *text, size_t len)
{
	return status_in_parentheses(status, text, own_octets(text, len));
}

int
bounce_status(char status[BOUNCE_STATUS_MAX], const char *text, size_t len)
{
	size_t own = own_octets(text, len), reply = own + sizeof remote_said - 1;

	if (status_in_parentheses(status, text, own))
		return 1;
	return own < len && (status_of_reply(status, text + reply, len - reply) ||
	    status_in_parentheses(status, text + reply, len - reply));
}

/* --- output ------------------------------------------------------------------------ */

static void
puts_to(const struct bounce *b, const char *s)
{
	b->put(b->data, s, strlen(s));
}

static void
put_number(const struct bounce *b, uint64_t n)
{
	char s[UINT64_FMT];

	b->put(b->data, s, uint64_fmt(s, n));
}

/* An address inside a text: what could end its line becomes '_'. */
static void
put_visible(const struct bounce *b, const char *s)
{
	for (; *s; s++)
		b->put(b->data, (unsigned char)*s < 32 || *s == 127 ? "_" : s, 1);
}

/* An address in a header field: its local part is quoted if it has to be. Where it is longer than most octets, instead is there. */
static void
put_address_up_to(const struct bounce *b, const char *address, size_t most, const char *instead)
{
	stralloc quoted = STRALLOC_ZERO;

	if (quote_address(&quoted, address, strlen(address)) && stralloc_0(&quoted))
		put_visible(b, quoted.len > most ? instead : quoted.s);
	stralloc_free(&quoted);
}

static void
put_address(const struct bounce *b, const char *address)
{
	put_address_up_to(b, address, SIZE_MAX, NULL);
}

static void
put_return_path(const struct bounce *b)
{
	puts_to(b, "Return-Path: <");
	put_address(b, b->sender);
	puts_to(b, ">\n");
}

/* --- what the whole bounce needs to know before it begins ----------------------------- */

struct survey {
	char boundary[BOUNDARY + 1];
	uint64_t returned;	/* octets of the message that are returned: all, or its header */
	int header_only;
	int text_8bit, text_utf8;	/* the first part */
	int message_8bit;
	uint32_t first_index;	/* of the first recipient */
	int is_global;		/* RFC 6533: the sender's address is not ASCII */
	int returns_global;	/* what is returned is of a type for headers in UTF-8 */
};

/* Looks at all recipients. Returns 1, or 0 with errno. */
static int
survey_recipients(struct survey *v, const struct bounce *b)
{
	struct bounce_recipient r;
	int found;

	v->text_utf8 = 1;
	for (uint32_t n = 0; (found = b->recipient(b->data, n, &r)) == 1; n++) {
		size_t len = strlen(r.address);

		if (n == 0)
			v->first_index = r.index;
		v->text_8bit |= utf8_is_8bit(r.address, len) || utf8_is_8bit(r.text, r.text_len);
		v->text_utf8 &= utf8_is_valid(r.address, len) && utf8_is_valid(r.text, r.text_len);
	}
	return found == 0;
}

/* Looks at the header section, without the empty line, cut at BOUNCE_HEADER_MAX. Returns 1, or 0 with errno. */
static int
survey_header(struct survey *v, const struct bounce *b, int is_smtputf8)
{
	static char s[BOUNCE_HEADER_MAX];
	size_t len = b->size < sizeof s ? (size_t)b->size : sizeof s, from = 0;
	const char *lf;

	if (!b->read(b->data, 0, s, len))
		return 0;
	while (from < len && s[from] != '\n' && (lf = memchr(s + from, '\n', len - from)))
		from = (size_t)(lf + 1 - s);
	/* a header without an end, or a message that is nothing else */
	if (from == 0 && len && s[0] != '\n')
		from = len;
	if (v->header_only)
		v->returned = from;
	/* message/rfc822 has a header in ASCII; RFC 6532 section 3.7 */
	v->returns_global |= is_smtputf8 && utf8_is_8bit(s, from) && utf8_is_valid(s, from);
	return 1;
}

static int
make_boundary(char boundary[BOUNDARY + 1])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char random[BOUNDARY / 2 - 2];

	if (getrandom(random, sizeof random, 0) != sizeof random)
		return 0;
	memcpy(boundary, "=_tb", 4);
	for (size_t i = 0; i < sizeof random; i++) {
		boundary[4 + 2 * i] = hex[random[i] >> 4];
		boundary[5 + 2 * i] = hex[random[i] & 15];
	}
	boundary[BOUNDARY] = '\0';
	return 1;
}

/* Looks at what is returned of the message: 1; 0 with errno; 2 if the boundary occurs in it. */
static int
survey_message(struct survey *v, const struct bounce *b)
{
	static char s[BOUNDARY + PIECE];
	size_t kept = 0;

	for (uint64_t at = 0; at < v->returned;) {
		size_t len = v->returned - at < PIECE ? (size_t)(v->returned - at) : PIECE;

		if (!b->read(b->data, at, s + kept, len))
			return 0;
		v->message_8bit |= utf8_is_8bit(s + kept, len);
		if (memmem(s, kept + len, v->boundary, BOUNDARY))
			return 2;
		at += len;
		len += kept;
		kept = len < BOUNDARY - 1 ? len : BOUNDARY - 1;
		memmove(s, s + len - kept, kept);
	}
	return 1;
}

/* RFC 3461 section 4.3: RET=HDRS. */
static int
wants_header(const struct bounce *b)
{
	size_t len;
	const char *value = envelope_parameter(b->parameters, "RET=", &len);

	return value && len == 4 && strncasecmp(value, "HDRS", 4) == 0;
}

static int
survey(struct survey *v, const struct bounce *b)
{
	size_t sender_len = strlen(b->sender), len;
	int r = 2, is_smtputf8 = !b->without_message && envelope_parameter(b->parameters, "SMTPUTF8", &len);

	*v = (struct survey){ .returned = b->without_message ? 0 : b->size };
	v->is_global = v->returns_global = utf8_is_8bit(b->sender, sender_len) && utf8_is_valid(b->sender, sender_len);
	v->header_only = !b->without_message && (b->report != BOUNCE_FAILED || wants_header(b) ||
	    (b->settings->max && b->size > b->settings->max));
	if (!survey_recipients(v, b) || ((v->header_only || is_smtputf8) && !survey_header(v, b, is_smtputf8)))
		return 0;
	for (unsigned int i = 0; i < BOUNDARY_TRIES && r == 2; i++)
		if (!make_boundary(v->boundary) || !(r = survey_message(v, b)))
			return 0;
	errno = EPROTO;
	return r == 1;
}

/* Without MIME: such a bounce cannot say what a report of success or delay has to say. */
static int
is_plain(const struct bounce *b)
{
	return b->settings->is_plain && b->report == BOUNCE_FAILED;
}

/* --- the parts -------------------------------------------------------------------------- */

/* By enum bounce_report: the subject; what the Message-ID says; the class of the status, RFC 3463 section 3.1. */
static const struct { const char *subject, *id; char status; } words[] = {
	{ "failure notice", ".bounce", '5' }, { "delivery report", ".success.", '2' }, { "delay notice", ".delay.", '4' },
};

static void
put_header(const struct bounce *b, const struct survey *v)
{
	char date[DATE822_MAX];
	const struct bounce_settings *s = b->settings;
	stralloc address = STRALLOC_ZERO;

	puts_to(b, "Date: ");
	b->put(b->data, date, date822_date(date, (time_t)b->now));
	puts_to(b, "\nFrom: ");
	if (join_address(&address, &s->from, &s->host))
		put_address(b, address.s);
	puts_to(b, "\nTo: ");
	if (b->kind == BOUNCE_SINGLE ? verp_return(&address, b->sender) :
	    join_address(&address, &s->double_to, &s->double_host))
		put_address_up_to(b, address.s, BOUNCE_LINE_MAX, "undisclosed-recipients:;");	/* RFC 5322 section 2.1.1 */
	stralloc_free(&address);
	puts_to(b, "\nSubject: ");
	puts_to(b, words[b->report].subject);
	puts_to(b, "\nMessage-ID: <");
	put_number(b, b->number);
	puts_to(b, ".");
	put_number(b, b->birth > 0 ? (uint64_t)b->birth : 0);
	puts_to(b, words[b->report].id);
	if (b->report != BOUNCE_FAILED)	/* a message may have several */
		put_number(b, v->first_index);
	puts_to(b, "@");
	put_visible(b, s->host.s);
	puts_to(b, ">\nAuto-Submitted: auto-replied\n");
	if (is_plain(b))
		return;
	puts_to(b, "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=");
	puts_to(b, v->is_global ? "global-delivery-status" : "delivery-status");
	puts_to(b, ";\n\tboundary=\"");
	puts_to(b, v->boundary);
	puts_to(b, "\"\n");
	if (v->text_8bit || v->message_8bit || v->is_global)
		puts_to(b, "Content-Transfer-Encoding: 8bit\n");
}

static void
put_delimiter(const struct bounce *b, const struct survey *v, const char *end)
{
	puts_to(b, "\n--");
	puts_to(b, v->boundary);
	puts_to(b, end);
}

/* A report inside the QSBMF text: an empty line would end its paragraph. */
static void
put_report(const struct bounce *b, const char *s, size_t len)
{
	size_t line = 0;
	char last = '\n';

	while (len && s[len - 1] == '\n')
		len--;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c == '\n' && last == '\n')
			c = '/';
		else if (((unsigned char)c < 32 && c != '\n' && c != '\t') || c == 127)
			c = '?';
		if (line >= BOUNCE_LINE_MAX && ((unsigned char)c & 0xc0) != 0x80 && c != '\n') {
			puts_to(b, "\n");
			line = 0;
		}
		b->put(b->data, &c, 1);
		line = c == '\n' ? 0 : line + 1;
		last = s[i];
	}
	puts_to(b, len ? "\n\n" : "\n");	/* a paragraph ends with one empty line */
}

/* The first paragraph. Only that of a failure begins as list managers know it. */
static void
put_greeting(const struct bounce *b)
{
	char date[DATE822_MAX];

	puts_to(b, b->report == BOUNCE_FAILED ? "Hi. This is the qmail-send program at " : "This is the mail server at ");
	put_visible(b, b->settings->host.s);
	switch (b->report) {
	case BOUNCE_SUCCEEDED:
		puts_to(b, ".\nYou asked to be told: your message got to the addresses below.\n\n");
		break;
	case BOUNCE_DELAYED:
		puts_to(b, ".\nYour message did not reach the addresses below yet. You need not send it again: I keep trying\nuntil ");
		b->put(b->data, date, date822_date(date, (time_t)b->until));
		puts_to(b, ".\n\n");
		break;
	default:
		puts_to(b, b->kind == BOUNCE_SINGLE ?
		    ".\nYour message did not reach the addresses below. I have given up on them.\n\n" :
		    ".\nA bounce message could not be delivered, it bounced itself. I have given up on it.\n\n");
	}
}

/* What became of a recipient. What programs of a local user said at his delivery is not for the sender. */
static void
put_reason(const struct bounce *b, const struct bounce_recipient *r)
{
	if (b->report != BOUNCE_SUCCEEDED)
		put_report(b, r->text, r->text_len);
	else if (r->action == NOTIFY_EXPANDED)
		puts_to(b, "It was forwarded from there to another address, or several.\n\n");
	else if (r->action == NOTIFY_RELAYED) {
		puts_to(b, "It was handed on to a mail server that will not report its delivery.\n");
		put_report(b, r->text, r->text_len);
	} else
		puts_to(b, "It was delivered.\n\n");
}

static int
put_text(const struct bounce *b, const struct survey *v)
{
	struct bounce_recipient r;
	int found;

	put_greeting(b);
	for (uint32_t n = 0; (found = b->recipient(b->data, n, &r)) == 1; n++) {
		puts_to(b, "<");
		put_visible(b, r.address);
		puts_to(b, ">:\n");
		put_reason(b, &r);
	}
	puts_to(b, b->without_message ? "--- The message itself could not be returned.\n" :
	    v->header_only ? "--- Below this line is a copy of the message's header.\n" :
	    b->kind == BOUNCE_SINGLE ? "--- Below this line is a copy of the message.\n" :
	    "--- Below this line is the original bounce.\n");
	return found == 0;
}

/* RFC 6533 section 3: utf-8-addr-xtext. */
static void
put_xtext(const struct bounce *b, const char *s)
{
	for (size_t n; *s; s += n) {
		char embedded[UTF8_EMBEDDED_MAX];

		n = utf8_length(s, strlen(s));
		if (n == 1 && *s > 32 && *s < 127 && *s != '\\' && *s != '+' && *s != '=')
			b->put(b->data, s, 1);
		else
			b->put(b->data, embedded, utf8_embedded(embedded, s, n));
	}
}

/* Text in a field of a delivery status: one long line, folded where it had lines. */
static void
put_folded(const struct bounce *b, const struct survey *v, const char *s, size_t len)
{
	size_t line = 0;

	if (len > BOUNCE_DIAGNOSTIC_MAX)
		len = BOUNCE_DIAGNOSTIC_MAX;
	while (len && (s[len - 1] == '\n' || s[len - 1] == ' '))
		len--;
	for (size_t i = 0; i < len; i++) {
		size_t n = v->is_global ? utf8_length(s + i, len - i) : (unsigned char)s[i] < 128;

		if (s[i] == '\n' || line >= BOUNCE_LINE_MAX) {
			/* a folded line of blanks alone is not allowed, RFC 5322 section 3.2.2 */
			if (line)
				puts_to(b, "\n ");
			line = 0;
			if (s[i] == '\n')
				continue;
		}
		if (!line && s[i] == ' ')
			continue;
		if (!n || (unsigned char)s[i] < 32 || s[i] == 127)
			puts_to(b, "?");
		else
			b->put(b->data, s + i, n);
		if (n > 1)
			i += n - 1;
		line++;
	}
}

/* The remote host's reply in a report, RFC 3464 section 2.3.6: its lines start with three digits. Returns its octets and moves *s there;
 * 0: there is none, whoever says so, and *s stays. */
static size_t
find_reply(const char **s, size_t len)
{
	const char *end = *s + len, *at = memmem(*s, len, remote_said, sizeof remote_said - 1), *line;

	if (!at)
		return 0;
	at += sizeof remote_said - 1;
	line = at;
	while (end - line > 3 && is_digit(line[0]) && is_digit(line[1]) && is_digit(line[2])) {
		const char *lf = memchr(line, '\n', (size_t)(end - line));

		line = lf ? lf + 1 : end;
	}
	if (line > at)
		*s = at;
	return (size_t)(line - at);
}

static void
put_ascii(const struct bounce *b, const char *s)
{
	for (; *s; s++)
		b->put(b->data, (unsigned char)*s < 32 || (unsigned char)*s > 126 ? "_" : s, 1);
}

static int
hex_digit(char c)
{
	return is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes xtext, RFC 3461 section 4: "+HH". What is malformed stays as it is; NUL becomes '_'. Returns 1, or 0 (ENOMEM). */
static int
decode_xtext(stralloc *out, const char *s, size_t len)
{
	out->len = 0;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];
		int high = c == '+' && len - i > 2 ? hex_digit(s[i + 1]) : -1;
		int low = high < 0 ? -1 : hex_digit(s[i + 2]);

		if (low >= 0) {
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (!stralloc_append(out, c ? c : '_'))
			return 0;
	}
	return stralloc_0(out);
}

/* The line of a field with the value of an ENVID or ORCPT parameter, RFC 3464 sections 2.2.1 and 2.3.1; none if it is absent, or
 * without memory, or if it is over ORIGINAL_MAX. type: octets of the address type before the value, which is not encoded, with its ';'. */
static void
put_original(const struct bounce *b, const struct survey *v, const char *field, const char *value, size_t type, size_t len)
{
	stralloc decoded = STRALLOC_ZERO;

	if (value && len && len <= ORIGINAL_MAX && stralloc_setb(&decoded, value, type) && stralloc_0(&decoded)) {
		puts_to(b, field);
		put_ascii(b, decoded.s);
		if (type)
			puts_to(b, " ");
		if (!decode_xtext(&decoded, value + type, len - type))
			puts_to(b, "_");
		else if (!utf8_is_8bit(decoded.s, decoded.len) || !utf8_is_valid(decoded.s, decoded.len) || (!type && !v->is_global))
			put_ascii(b, decoded.s);
		else if (v->is_global)
			put_visible(b, decoded.s);
		else
			put_xtext(b, decoded.s);
		puts_to(b, "\n");
	}
	stralloc_free(&decoded);
}

/* The address with its type (RFC 3464 section 2.1.2, RFC 6533 section 3), in the form that a path has. */
static void
put_final(const struct bounce *b, const struct survey *v, const char *address)
{
	stralloc quoted = STRALLOC_ZERO;
	const char *s = quote_address(&quoted, address, strlen(address)) && stralloc_0(&quoted) ? quoted.s : address;
	size_t len = strlen(s);

	if (!utf8_is_8bit(s, len) || !utf8_is_valid(s, len)) {
		puts_to(b, "rfc822; ");
		put_ascii(b, s);
	} else {
		puts_to(b, "utf-8; ");
		if (v->is_global)
			put_visible(b, s);
		else
			put_xtext(b, s);
	}
	stralloc_free(&quoted);
}

static void
put_addresses(const struct bounce *b, const struct survey *v, const struct bounce_recipient *r)
{
	size_t original_len = 0;
	const char *original = envelope_parameter(r->parameters, "ORCPT=", &original_len);
	const char *semicolon = original ? memchr(original, ';', original_len) : NULL;

	puts_to(b, "\n");
	if (semicolon && semicolon > original)
		put_original(b, v, "Original-Recipient: ", original, (size_t)(semicolon + 1 - original), original_len);
	puts_to(b, "Final-Recipient: ");
	put_final(b, v, r->address);
}

static const char *
action_of(const struct bounce *b, const struct bounce_recipient *r)
{
	if (b->report == BOUNCE_FAILED)
		return "failed";
	if (b->report == BOUNCE_DELAYED)
		return "delayed";
	return r->action == NOTIFY_RELAYED ? "relayed" : r->action == NOTIFY_EXPANDED ? "expanded" : "delivered";
}

/* The status of a recipient, RFC 3463. */
static void
put_code(const struct bounce *b, const struct bounce_recipient *r)
{
	char status[BOUNCE_STATUS_MAX] = "5.0.0";

	/* a success at a remote host has its words; those of a local one are a program's */
	if (b->report != BOUNCE_SUCCEEDED || r->action == NOTIFY_RELAYED)
		bounce_status(status, r->text, r->text_len);
	if (b->report == BOUNCE_SUCCEEDED && status[0] != '2')
		strcpy(status, "2.0.0");
	status[0] = words[b->report].status;
	if (b->report == BOUNCE_FAILED && memmem(r->text, r->text_len, bounce_too_long, sizeof bounce_too_long - 2))
		strcpy(status, "4.4.7");	/* RFC 3463: delivery time expired */
	puts_to(b, status);
}

static void
put_recipient_status(const struct bounce *b, const struct survey *v, const struct bounce_recipient *r)
{
	const char *reply = r->text;
	size_t reply_len = find_reply(&reply, r->text_len);

	put_addresses(b, v, r);
	puts_to(b, "\nAction: ");
	puts_to(b, action_of(b, r));
	puts_to(b, "\nStatus: ");
	put_code(b, r);
	if (b->report != BOUNCE_SUCCEEDED || (reply_len && r->action == NOTIFY_RELAYED)) {
		puts_to(b, "\nDiagnostic-Code: ");
		puts_to(b, reply_len ? "smtp; " : "X-Qmail; ");
		put_folded(b, v, reply, reply_len ? reply_len : r->text_len);
	}
	if (b->report == BOUNCE_DELAYED) {	/* RFC 3464 section 2.3.9 */
		char date[DATE822_MAX];

		puts_to(b, "\nWill-Retry-Until: ");
		b->put(b->data, date, date822_date(date, (time_t)b->until));
	}
	puts_to(b, "\n");
}

static int
put_status(const struct bounce *b, const struct survey *v)
{
	char date[DATE822_MAX];
	struct bounce_recipient r;
	size_t len = 0;
	const char *envid = envelope_parameter(b->parameters, "ENVID=", &len);
	int found;

	put_delimiter(b, v, v->is_global ?
	    "\nContent-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\n" :
	    "\nContent-Type: message/delivery-status\n\n");
	put_original(b, v, "Original-Envelope-Id: ", envid, 0, len);
	puts_to(b, "Reporting-MTA: dns; ");
	put_visible(b, b->settings->host.s);
	puts_to(b, "\nArrival-Date: ");
	b->put(b->data, date, date822_date(date, (time_t)b->birth));
	puts_to(b, "\n");
	for (uint32_t n = 0; (found = b->recipient(b->data, n, &r)) == 1; n++)
		put_recipient_status(b, v, &r);
	return found == 0;
}

/* The message, or its header. */
static int
put_message(const struct bounce *b, const struct survey *v)
{
	static char s[PIECE];

	put_return_path(b);
	for (uint64_t at = 0; at < v->returned;) {
		size_t len = v->returned - at < sizeof s ? (size_t)(v->returned - at) : sizeof s;

		if (!b->read(b->data, at, s, len))
			return 0;
		b->put(b->data, s, len);
		at += len;
	}
	return 1;
}

static int
put_returned(const struct bounce *b, const struct survey *v)
{
	if (b->without_message)
		return 1;
	put_delimiter(b, v, "\nContent-Type: ");
	if (v->header_only)
		puts_to(b, v->returns_global ? "message/global-headers" : "text/rfc822-headers");
	else
		puts_to(b, v->returns_global ? "message/global" : "message/rfc822");
	puts_to(b, v->message_8bit || v->is_global ? "\nContent-Transfer-Encoding: 8bit\n\n" : "\n\n");
	return put_message(b, v);
}

int
bounce_write(const struct bounce *b, const char **parameters)
{
	struct survey v;

	if (!survey(&v, b))
		return 0;
	/* BODY=8BITMIME is not among them: it would fail at a next hop that does not know it, instead of being tried */
	*parameters = v.is_global ? "SMTPUTF8" : "";
	put_header(b, &v);
	if (is_plain(b)) {
		puts_to(b, "\n");
		if (!put_text(b, &v))
			return 0;
		puts_to(b, "\n");
		return b->without_message || put_message(b, &v);
	}
	put_delimiter(b, &v, "\nContent-Type: text/plain; charset=");
	puts_to(b, !v.text_8bit ? "us-ascii" : v.text_utf8 ? "utf-8" : "unknown-8bit");
	puts_to(b, v.text_8bit ? "\nContent-Transfer-Encoding: 8bit\n\n" : "\n\n");
	if (!put_text(b, &v) || !put_status(b, &v) || !put_returned(b, &v))
		return 0;
	put_delimiter(b, &v, "--\n");
	return 1;
}
