#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "address822.h"
#include "control/control.h"
#include "date822.h"
#include "exitcode.h"
#include "header.h"
#include "identity.h"
#include "injection.h"
#include "message_id.h"
#include "queue/client.h"
#include "sandbox.h"

enum { PIECE = 32768 };	/* octets handed to the queue at once */

/* --- what the fields mean ----------------------------------------------------- */

enum rule {
	ADDRESSES = 1,		/* holds addresses, which are completed */
	RECIPIENTS = 2,		/* and they are recipients */
	DROP = 4,		/* is left out of the message that goes out */
	RESENT = 8,		/* its presence makes this a resent message */
	FOLLOWUP = 16,		/* its addresses go into Mail-Followup-To */
	PATH = 32,		/* its address is the envelope sender */
	AUTHOR = 64,		/* letter f drops it, in a message of the same kind (resent or not) */
	IDENTIFIER = 128,	/* letter i does */
};

enum seen {
	SEEN_DATE = 1, SEEN_ID = 2, SEEN_FROM = 4, SEEN_TO = 8, SEEN_FOLLOWUP = 16,
	SEEN_RESENT = 5,	/* bits that the same fields of a resent message are shifted by */
};

static const struct field_rule {
	const char *name;
	unsigned int rules;
	unsigned int seen;
} field_rules[] = {
	{ "To", ADDRESSES | RECIPIENTS | FOLLOWUP, SEEN_TO },
	{ "Cc", ADDRESSES | RECIPIENTS | FOLLOWUP, SEEN_TO },
	{ "Bcc", ADDRESSES | RECIPIENTS | DROP, 0 },
	{ "Date", 0, SEEN_DATE },
	{ "From", ADDRESSES | AUTHOR, SEEN_FROM },
	{ "Sender", ADDRESSES, 0 },
	{ "Reply-To", ADDRESSES, 0 },
	{ "Errors-To", ADDRESSES, 0 },
	{ "Resent-To", ADDRESSES | RECIPIENTS | RESENT, SEEN_TO << SEEN_RESENT },
	{ "Resent-Cc", ADDRESSES | RECIPIENTS | RESENT, SEEN_TO << SEEN_RESENT },
	{ "Message-ID", IDENTIFIER, SEEN_ID },
	{ "Resent-Bcc", ADDRESSES | RECIPIENTS | RESENT | DROP, 0 },
	{ "Return-Path", PATH | DROP, 0 },
	{ "Resent-Date", RESENT, SEEN_DATE << SEEN_RESENT },
	{ "Resent-From", ADDRESSES | RESENT | AUTHOR, SEEN_FROM << SEEN_RESENT },
	{ "Apparently-To", ADDRESSES | RECIPIENTS, 0 },
	{ "Resent-Sender", ADDRESSES | RESENT, 0 },
	{ "Content-Length", DROP, 0 },
	{ "Resent-Reply-To", ADDRESSES | RESENT, 0 },
	{ "Mail-Followup-To", 0, SEEN_FOLLOWUP },
	{ "Return-Receipt-To", ADDRESSES, 0 },
	{ "Resent-Message-ID", RESENT | IDENTIFIER, SEEN_ID << SEEN_RESENT },
	{ "", 0, 0 },	/* any other */
};

static const struct field_rule *
rule_of(const struct header_field *f)
{
	const struct field_rule *r = field_rules;

	while (*r->name && (strncasecmp(r->name, f->start, f->name_len) != 0 || r->name[f->name_len]))
		r++;
	return r;
}

/* --- state -------------------------------------------------------------------- */

/* Letters of QMAILINJECT. */
struct letters {
	int comment_name;	/* c */
	int ignore_path;	/* s */
	int drop_author;	/* f */
	int drop_identifier;	/* i */
	int per_recipient;	/* r */
	int per_message;	/* m */
};

struct injection {
	const struct injection_options *options;
	struct letters letters;
	struct identity identity;
	struct header_input input;
	enum header_end end;
	stralloc fields;	/* as they came */
	stralloc out;		/* fields that go out, those that are added not included */
	stralloc recipients;	/* in envelope form, each ended by NUL */
	stralloc sender;	/* in header form */
	int has_sender;
	struct control_map lists;	/* of QMAILMFTFILE */
	int has_lists, to_a_list;
	stralloc followup;	/* addresses of To and Cc, in header form, each ended by LF */
	unsigned int seen;
	int resent;
	int from_header;	/* recipients are taken from the header */
	time_t now;
	struct queue_client queue;
	/* of the field being read */
	const struct field_rule *rule;
};

static void die_memory(void) __attribute__((noreturn));
static void
die_memory(void)
{
	strerr_dief(EXIT_TEMP, "out of memory");
}

/* After a -1 of a module: the control file that could not be read, or memory. */
static void die_trouble(const struct injection *in) __attribute__((noreturn));
static void
die_trouble(const struct injection *in)
{
	if (in->identity.trouble)
		strerr_diefusys(EXIT_TEMP, "read ", in->identity.trouble);
	if (errno == EMSGSIZE)
		strerr_dief(EXIT_PERM, "the header or its recipients are longer than 16 MiB");
	die_memory();
}

/* Says which text is malformed, without its control characters. */
static void die_malformed(const char *s, size_t len) __attribute__((noreturn));
static void
die_malformed(const char *s, size_t len)
{
	char text[300];
	size_t n = 0;

	for (; n < len && n < sizeof text - 1; n++)
		text[n] = (s[n] >= 0 && s[n] < 32) || s[n] == 127 ? ' ' : s[n];
	text[n] = '\0';
	strerr_dief(EXIT_PERM, "unable to parse this: ", text);
}

/* --- addresses ------------------------------------------------------------------ */

/* Appends an address in the form of the envelope, ended by NUL. What could end a line or the address is refused. */
static void
add_to_envelope(struct injection *in, stralloc *to, const char *s, size_t len)
{
	size_t before = to->len;

	if (!address822_unquote(to, s, len) || !stralloc_0(to))
		die_memory();
	for (size_t i = before; i < to->len - 1; i++)
		if (to->s[i] == '\0' || to->s[i] == '\r' || to->s[i] == '\n')
			die_malformed(s, len);
	if (to->len > INJECTION_MAX) {
		errno = EMSGSIZE;
		die_trouble(in);
	}
}

static void
add_recipient(struct injection *in, const stralloc *address)
{
	if (address->len)
		add_to_envelope(in, &in->recipients, address->s, address->len);
}

static int
each_argument(void *data, stralloc *address)
{
	struct injection *in = data;

	if (!address822_complete(address, &in->identity.defaults))
		return 0;
	add_recipient(in, address);
	return 1;
}

static void
read_arguments(struct injection *in)
{
	const char *const *a = in->options->arguments;

	if (in->options->recipients == RECIPIENTS_HEADER)
		return;
	for (; *a; a++) {
		int r = address822_read(*a, strlen(*a), each_argument, in, NULL);

		if (r < 0)
			die_trouble(in);
		if (!r)
			die_malformed(*a, strlen(*a));
	}
}

/* Collects what Mail-Followup-To is made of. */
static int
note_followup(struct injection *in, const stralloc *address)
{
	stralloc plain = STRALLOC_ZERO;
	int ok = address822_unquote(&plain, address->s, address->len) && stralloc_cat(&in->followup, address) &&
	    stralloc_append(&in->followup, '\n');

	if (ok && control_map_find(&in->lists, plain.s, plain.len))
		in->to_a_list = 1;
	stralloc_free(&plain);
	return ok;
}

static int
is_recipient_field(const struct injection *in)
{
	return in->from_header && in->rule->rules & RECIPIENTS && !(in->rule->rules & RESENT) == !in->resent;
}

static int
each_in_field(void *data, stralloc *address)
{
	struct injection *in = data;

	if (!address822_complete(address, &in->identity.defaults))
		return 0;
	if (is_recipient_field(in))
		add_recipient(in, address);
	if (in->has_lists && in->rule->rules & FOLLOWUP && address->len && !note_followup(in, address))
		return 0;
	if (in->followup.len > INJECTION_MAX) {
		errno = EMSGSIZE;
		return 0;
	}
	return 1;
}

/* --- fields ----------------------------------------------------------------------- */

static void
keep_field(struct injection *in, const struct header_field *f)
{
	if (!stralloc_catb(&in->out, f->start, f->len))
		die_memory();
}

/* A field of addresses: completed and folded anew. One that cannot be read stays as it is where nothing depends on
 * it; a recipient that we would miss, or a wrong author, is refused. */
static void
rewrite_field(struct injection *in, const struct header_field *f)
{
	struct address822_printer printer;
	size_t before = in->out.len, followup = in->followup.len;
	int drop = (in->rule->rules & DROP) != 0;
	int r;

	if (!drop && (!stralloc_catb(&in->out, f->start, f->name_len) || !stralloc_append(&in->out, ':')))
		die_memory();
	address822_printer_init(&printer, &in->out, f->name_len + 1);
	printer.max = INJECTION_MAX;
	r = address822_read(f->start + f->value, f->len - f->value, each_in_field, in, drop ? NULL : &printer);
	if (r < 0)
		die_trouble(in);
	if (!r && (is_recipient_field(in) || !(in->rule->rules & RECIPIENTS)))
		die_malformed(f->start, f->len);
	if (!r)
		in->followup.len = followup;
	if (drop)
		return;
	if (!r || in->out.len == before + f->name_len + 1) {	/* malformed, or nothing in it */
		in->out.len = before;
		keep_field(in, f);
	} else if (!stralloc_append(&in->out, '\n'))
		die_memory();
}

/* The first Return-Path is the sender, unless something else is. */
static void
read_path(struct injection *in, const struct header_field *f)
{
	const char *s = f->start + f->value;
	size_t len = f->len - f->value;
	int r;

	if (in->has_sender || in->letters.ignore_path)
		return;
	r = identity_address(&in->identity, &in->sender, s, len);
	if (r < 0)
		die_trouble(in);
	if (!r)
		die_malformed(f->start, f->len);
	if (in->letters.per_recipient && in->sender.len && !stralloc_cats(&in->sender, "-@[]"))
		die_memory();
	in->has_sender = 1;
}

static int
is_unwanted(const struct injection *in, const struct field_rule *rule)
{
	if (!(rule->rules & RESENT) != !in->resent)
		return 0;
	return (rule->rules & AUTHOR && in->letters.drop_author) ||
	    (rule->rules & IDENTIFIER && in->letters.drop_identifier);
}

static void
survey_fields(struct injection *in)
{
	struct header_field f;
	size_t pos = 0;

	while (header_next(in->fields.s, in->fields.len, &pos, &f)) {
		const struct field_rule *rule = rule_of(&f);

		in->seen |= rule->seen;
		in->resent |= (rule->rules & RESENT) != 0;
	}
	/* only now it is known which of the two kinds these letters mean */
	if (in->letters.drop_author)
		in->seen &= ~(unsigned int)(in->resent ? SEEN_FROM << SEEN_RESENT : SEEN_FROM);
	if (in->letters.drop_identifier)
		in->seen &= ~(unsigned int)(in->resent ? SEEN_ID << SEEN_RESENT : SEEN_ID);
}

static void
process_fields(struct injection *in)
{
	struct header_field f;
	size_t pos = 0;

	while (header_next(in->fields.s, in->fields.len, &pos, &f)) {
		in->rule = rule_of(&f);
		if (in->rule->rules & PATH)
			read_path(in, &f);
		else if (is_unwanted(in, in->rule))
			;
		else if (in->rule->rules & ADDRESSES)
			rewrite_field(in, &f);
		else if (!(in->rule->rules & DROP))
			keep_field(in, &f);
		if (in->out.len > INJECTION_MAX) {
			errno = EMSGSIZE;
			die_trouble(in);
		}
	}
}

/* --- what is added ----------------------------------------------------------------- */

/* Appends the name of a person as a quoted string or a comment; control characters become blanks. */
static int
append_name(stralloc *to, const char *name, char open, char close)
{
	if (!stralloc_append(to, open))
		return 0;
	for (; *name; name++) {
		int control = (*name >= 0 && *name < 32) || *name == 127;

		if ((*name == open || *name == close || *name == '\\') && !stralloc_append(to, '\\'))
			return 0;
		if (!stralloc_append(to, control ? ' ' : *name))
			return 0;
	}
	return stralloc_append(to, close);
}

static void
add_from(struct injection *in, stralloc *head, const char *field)
{
	stralloc address = STRALLOC_ZERO;
	const char *name = identity_name();
	int r = identity_from(&in->identity, &address);
	int ok;

	if (r < 0)
		die_trouble(in);
	if (!r)
		strerr_dief(EXIT_PERM, "the environment gives no address for ", field);
	ok = stralloc_cats(head, field) && stralloc_cats(head, ": ");
	if (ok && !name)
		ok = stralloc_cat(head, &address);
	else if (ok && in->letters.comment_name)
		ok = stralloc_cat(head, &address) && stralloc_append(head, ' ') && append_name(head, name, '(', ')');
	else if (ok)
		ok = append_name(head, name, '"', '"') && stralloc_cats(head, " <") &&
		    stralloc_cat(head, &address) && stralloc_append(head, '>');
	if (!ok || !stralloc_append(head, '\n'))
		die_memory();
	stralloc_free(&address);
}

static void
add_date(struct injection *in, stralloc *head, const char *field)
{
	char date[DATE822_MAX];
	size_t len = date822_date(date, in->now);

	if (!stralloc_cats(head, field) || !stralloc_cats(head, ": ") || !stralloc_catb(head, date, len) ||
	    !stralloc_append(head, '\n'))
		die_memory();
}

static void
add_identifier(struct injection *in, stralloc *head, const char *field)
{
	const char *host = identity_idhost(&in->identity);

	if (!host)
		die_trouble(in);
	if (!stralloc_cats(head, field) || !stralloc_cats(head, ": ") ||
	    !message_id_append(head, in->now, (uint64_t)getpid(), host, strlen(host)) || !stralloc_append(head, '\n'))
		die_memory();
}

/* All addresses of To and Cc, the last first. */
static void
add_followup(struct injection *in, stralloc *head)
{
	static const char field[] = "Mail-Followup-To:";
	struct address822_printer printer;
	size_t end = in->followup.len;

	if (!stralloc_cats(head, field))
		die_memory();
	address822_printer_init(&printer, head, sizeof field - 1);
	while (end) {
		const char *lf = memrchr(in->followup.s, '\n', end - 1);
		size_t start = lf ? (size_t)(lf - in->followup.s) + 1 : 0;

		address822_print(&printer, in->followup.s + start, end - 1 - start, 1);
		if (start)
			address822_print_comma(&printer);
		end = start;
	}
	if (printer.failed || !stralloc_append(head, '\n'))
		die_memory();
}

static void
add_missing(struct injection *in, stralloc *head)
{
	unsigned int seen = in->resent ? in->seen >> SEEN_RESENT : in->seen;

	if (!(seen & SEEN_DATE))
		add_date(in, head, in->resent ? "Resent-Date" : "Date");
	if (!(seen & SEEN_ID))
		add_identifier(in, head, in->resent ? "Resent-Message-ID" : "Message-ID");
	if (!(seen & SEEN_FROM))
		add_from(in, head, in->resent ? "Resent-From" : "From");
	if (!(seen & SEEN_TO) &&
	    (!stralloc_cats(head, in->resent ? "Resent-Cc" : "Cc") ||
	    !stralloc_cats(head, ": recipient list not shown: ;\n")))
		die_memory();
	if (in->to_a_list && !in->resent && !(in->seen & SEEN_FOLLOWUP))
		add_followup(in, head);
}

/* --- the envelope sender -------------------------------------------------------------- */

static void
read_sender_option(struct injection *in)
{
	const char *s = in->options->sender;
	int r;

	if (!s)
		return;
	r = identity_address(&in->identity, &in->sender, s, strlen(s));
	if (r < 0)
		die_trouble(in);
	if (!r)
		die_malformed(s, strlen(s));
	in->has_sender = 1;
}

static void
append_number(char **s, unsigned long n)
{
	char digits[24];
	size_t i = sizeof digits;

	do
		digits[--i] = (char)('0' + n % 10);
	while (n /= 10);
	memcpy(*s, digits + i, sizeof digits - i);
	*s += sizeof digits - i;
}

/* The sender that is built where none was given. */
static void
build_sender(struct injection *in)
{
	char suffix[64], *s = suffix;
	int r;

	if (in->has_sender)
		return;
	if (in->letters.per_message) {
		*s++ = '-';
		append_number(&s, (unsigned long)in->now);
		*s++ = '.';
		append_number(&s, (unsigned long)getpid());
	}
	if (in->letters.per_recipient)
		*s++ = '-';
	*s = '\0';
	r = identity_sender(&in->identity, &in->sender, suffix);
	if (r < 0)
		die_trouble(in);
	if (!r)
		strerr_dief(EXIT_PERM, "the environment gives no address for the envelope sender");
	if (in->letters.per_recipient && !stralloc_cats(&in->sender, "-@[]"))
		die_memory();
}

/* --- output ------------------------------------------------------------------------------ */

static ssize_t
next_of_body(struct injection *in, const char **s)
{
	ssize_t n = header_read_body(&in->input, s);

	if (n < 0)
		strerr_diefusys(EXIT_TEMP, "read the message");
	return n;
}

static void
print_octets(const char *s, size_t len)
{
	if (allwrite(1, s, len) < len)
		strerr_diefusys(EXIT_TEMP, "write the message");
}

static void
print_message(struct injection *in, const stralloc *head)
{
	stralloc path = STRALLOC_ZERO;
	const char *s;
	ssize_t n;

	if (!stralloc_cats(&path, "Return-Path: <") || !stralloc_cat(&path, &in->sender) ||
	    !stralloc_cats(&path, ">\n") || !stralloc_cat(&path, head))
		die_memory();
	print_octets(path.s, path.len);
	print_octets(in->out.s, in->out.len);
	while ((n = next_of_body(in, &s)) > 0)
		print_octets(s, (size_t)n);
}

static void
queue_octets(struct queue_client *q, const char *s, size_t len)
{
	while (len) {
		size_t n = len < PIECE ? len : PIECE;

		queue_client_message(q, s, n);
		s += n;
		len -= n;
	}
}

static void
queue_message(struct injection *in, const stralloc *head, const stralloc *sender)
{
	struct queue_client *q = &in->queue;
	struct queue_result result;
	const char *s;
	ssize_t n;

	queue_client_begin(q);
	queue_octets(q, head->s, head->len);
	queue_octets(q, in->out.s, in->out.len);
	while (!q->code && !q->unread && (n = next_of_body(in, &s)) > 0)
		queue_octets(q, s, (size_t)n);
	queue_client_sender(q, sender->s, sender->len - 1);
	if (in->options->sender_parameters)
		queue_client_sender_parameters(q, in->options->sender_parameters);
	for (size_t i = 0; i < in->recipients.len; ) {
		size_t len = strlen(in->recipients.s + i);

		queue_client_recipient(q, in->recipients.s + i, len);
		if (in->options->recipient_parameters)
			queue_client_recipient_parameters(q, in->options->recipient_parameters);
		i += len + 1;
	}
	queue_client_end(q, 1, &result);
	if (result.code)
		strerr_dief(result.permanent ? EXIT_PERM : EXIT_TEMP, result.text);
}

/* --- all of it ------------------------------------------------------------------------------ */

static void
read_letters(struct letters *l)
{
	const char *s = getenv("QMAILINJECT");

	for (; s && *s; s++)
		switch (*s) {
		case 'c': l->comment_name = 1; break;
		case 's': l->ignore_path = 1; break;
		case 'f': l->drop_author = 1; break;
		case 'i': l->drop_identifier = 1; break;
		case 'r': l->per_recipient = 1; break;
		case 'm': l->per_message = 1; break;
		default: break;
		}
}

/* Our own mailing lists; a relative name is meant from where the caller is. */
static void
read_lists(struct injection *in)
{
	const char *file = getenv("QMAILMFTFILE");
	stralloc entries = STRALLOC_ZERO;
	int r;

	if (!file || !*file)
		return;
	r = control_list(&entries, file);
	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "read ", file);
	if (r == 0)
		return;
	if (!control_map_build(&in->lists, &entries, 0))
		die_memory();
	in->has_lists = 1;
}

static void
read_header(struct injection *in)
{
	header_input_init(&in->input, 0);
	if (header_read(&in->input, &in->fields, INJECTION_MAX, &in->end))
		return;
	if (errno == EMSGSIZE || errno == ENOMEM)
		die_trouble(in);
	strerr_diefusys(EXIT_TEMP, "read the message");
}

/* Everything that the message makes of this process happens afterwards. A program that is run instead of the queue's own
 * client would inherit all of it, and break: then it stays open, as what the caller asked for with his own rights. */
static void
shut_itself_in(const struct injection *in)
{
	static const struct sandbox shut_in = { .calls = &sandbox_client };

	tzset();	/* even gmtime reads the local time zone at its first call */
	if (!in->queue.program.len && sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
}

int
injection_run(const struct injection_options *options, int home)
{
	static struct injection in;
	stralloc head = STRALLOC_ZERO, sender = STRALLOC_ZERO;

	in.options = options;
	identity_init(&in.identity);
	read_letters(&in.letters);
	read_lists(&in);
	if (home >= 0 && fchdir(home) < 0)
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!identity_load(&in.identity))
		die_trouble(&in);
	if (!options->print)
		queue_client_open(&in.queue, -1);
	shut_itself_in(&in);
	in.from_header = options->recipients == RECIPIENTS_HEADER || options->recipients == RECIPIENTS_BOTH ||
	    (options->recipients == RECIPIENTS_AUTO && !*options->arguments);
	read_arguments(&in);
	read_sender_option(&in);
	read_header(&in);
	in.now = time(NULL);
	survey_fields(&in);
	process_fields(&in);
	build_sender(&in);
	add_to_envelope(&in, &sender, in.sender.s, in.sender.len);
	add_missing(&in, &head);
	if (in.end != HEADER_INPUT_END && !stralloc_append(&in.out, '\n'))
		die_memory();
	if (options->print)
		print_message(&in, &head);
	else
		queue_message(&in, &head, &sender);
	return EXIT_OK;
}
