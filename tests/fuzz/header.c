/* Header sections of messages: as a local program submits them, as a submission server completes them, as deliveries look into them;
 * and the lines that a delivery puts before them. Given any octets. */
#include <assert.h>
#include <sys/socket.h>
#include <skalibs/stralloc.h>
#include "bin-src/inject/header.h"
#include "bin-src/local/field.h"
#include "bin-src/local/trace.h"
#include "bin-src/smtpd/completion.h"
#include "bin-src/smtpd/hops.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { PIECE = 7, FIELDS_MAX = 1 << 20 };	/* octets */

static int
is_same(const stralloc *a, const stralloc *b)
{
	return a->len == b->len && (!a->len || memcmp(a->s, b->s, a->len) == 0);
}

/* --- submitted ---------------------------------------------------------------------------------- */

struct parts {
	stralloc fields, body;
	enum header_end end;
};

static void
split(struct parts *p, int fd)
{
	static struct header_input in;
	const char *s;
	ssize_t n;

	header_input_init(&in, fd);
	p->fields.len = p->body.len = 0;
	assert(header_read(&in, &p->fields, FIELDS_MAX, &p->end));
	while ((n = header_read_body(&in, &s)) > 0)
		assert(stralloc_catb(&p->body, s, (size_t)n));
	assert(n == 0);
}

/* As mailboxes have it, and no field of that name. */
static int
is_mailbox_line(const char *s, size_t len)
{
	size_t i = 5;

	while (i < len && (s[i] == ' ' || s[i] == '\t'))
		i++;
	return len >= 5 && memcmp(s, "From ", 5) == 0 && (i == len || s[i] != ':');
}

/* What the octets before the body are as fields. */
static void
normalize(stralloc *fields, const char *s, size_t len)
{
	fields->len = 0;
	if (is_mailbox_line(s, len))
		assert(stralloc_cats(fields, "MBOX-Line: "));
	for (size_t i = 0; i < len; i++)
		if (s[i] != '\r' || i + 1 == len || s[i + 1] != '\n')
			assert(stralloc_append(fields, s[i]));
	if (fields->len && fields->s[fields->len - 1] != '\n')
		assert(stralloc_append(fields, '\n'));
}

/* A field has a name and a colon, and what is not its first line begins with a blank. */
static void
check_fields(const stralloc *fields)
{
	struct header_field f;
	size_t pos = 0, before = 0;

	while (header_next(fields->s, fields->len, &pos, &f)) {
		assert(f.start == fields->s + before && pos == before + f.len && f.value <= f.len && f.name_len > 0);
		assert(f.start[f.value - 1] == ':' && f.start[f.len - 1] == '\n');
		for (size_t i = 0; i < f.name_len; i++)
			assert(f.start[i] > 32 && f.start[i] != 127 && f.start[i] != ':');
		for (size_t i = 0; i + 1 < f.len; i++)
			assert(f.start[i] != '\n' || f.start[i + 1] == ' ' || f.start[i + 1] == '\t');
		before = pos;
	}
	assert(pos == fields->len);
}

/* The octets are all there, in fields, empty line and body, and in the same ones if they come in pieces. */
static void
read_submitted(const char *s, size_t len)
{
	static struct given_file file;
	static struct parts whole, pieces;
	static stralloc want;
	size_t header, empty = 0;
	int pair[2];

	given_write(&file, s, len);
	split(&whole, file.fd);
	assert(whole.body.len <= len);
	header = len - whole.body.len;
	if (whole.end == HEADER_EMPTY_LINE)
		empty = header > 1 && s[header - 2] == '\r' ? 2 : 1;
	assert(header >= empty && (!empty || s[header - 1] == '\n') && (whole.end != HEADER_INPUT_END || !whole.body.len));
	normalize(&want, s, header - empty);
	assert(is_same(&want, &whole.fields) && (!whole.body.len || memcmp(whole.body.s, s + header, whole.body.len) == 0));
	check_fields(&whole.fields);
	if (len > 200)
		return;
	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	for (size_t i = 0; i < len; i += PIECE)
		assert(send(pair[1], s + i, len - i < PIECE ? len - i : PIECE, 0) > 0);
	close(pair[1]);
	split(&pieces, pair[0]);
	close(pair[0]);
	assert(is_same(&pieces.fields, &whole.fields) && is_same(&pieces.body, &whole.body) && pieces.end == whole.end);
}

/* --- completed ---------------------------------------------------------------------------------- */

static void
append(void *to, const char *s, size_t len)
{
	assert(stralloc_catb(to, s, len));
}

static enum submission_answer
own(void *data, const char *address)
{
	(void)data;
	assert(strlen(address) <= AUTHOR_ADDRESS_MAX);
	return *address == 'a' ? SUBMISSION_YES : SUBMISSION_NO;
}

/* Returns whether its author is who begins with an 'a'. */
static enum submission_answer
complete(stralloc *to, const char *s, size_t len, size_t piece)
{
	struct author author = { .from = { .count = 0 } };
	struct completion c = { .put = append, .data = to, .serial = 1, .host = "host.example", .host_len = 12, .author = &author };
	enum submission_answer answer;

	to->len = 0;
	for (size_t i = 0; i < len; i += piece)
		completion_take(&c, s + i, len - i < piece ? len - i : piece);
	completion_finish(&c);
	assert(!c.has_no_memory && c.state == COMPLETION_BODY);
	answer = author_judge(&author, 1, own, NULL);
	author_free(&author);
	return answer;
}

/* A message that is complete stays as it is, and has no blind copies; in pieces it becomes the same, of the same author. */
static void
check_completion(const char *s, size_t len)
{
	static stralloc whole, pieces, body;
	enum submission_answer answer = complete(&whole, s, len, len + 1);
	struct message m;

	assert(complete(&pieces, s, len, PIECE) == answer && is_same(&whole, &pieces));
	assert(complete(&pieces, whole.s, whole.len, whole.len + 1) == answer);
	assert(is_same(&whole, &pieces));
	m = (struct message){ .octets = whole.s, .size = whole.len, .fd = -1 };
	assert(field_get(&body, &m, "bcc", 0) == 0 && field_get(&body, &m, "resent-bcc", 0) == 0);
	assert(field_get(&body, &m, "date", 0) == 1 && field_get(&body, &m, "message-id", 0) == 1);
}

/* --- delivered ---------------------------------------------------------------------------------- */

/* Whether the header has that line, by the definition. */
static int
has_line(struct given g, const char *line, size_t len)
{
	while (g.len) {
		struct given one = given_until(&g, '\n');

		if (!one.len)
			return 0;
		if (one.len == len && memcmp(one.s, line, len) == 0)
			return 1;
	}
	return 0;
}

/* The body of a field is one line, bounded, without blanks around it; in memory and in a file it is the same. */
static void
look_into(const char *s, size_t len)
{
	static const char *const names[] = { "a", "subject", "received", "delivered-to" };
	static struct given_file file;
	static stralloc body, again;
	struct message memory = { .octets = s, .size = len, .fd = -1 }, m;
	struct given g;

	given_write(&file, s, len);
	assert(message_of_file(&m, file.fd) && m.size == len);
	for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
		char separator = i % 2 ? ',' : 0;
		int r = field_get(&body, &memory, names[i / 2], separator);

		assert((r == 0 || r == 1) && field_get(&again, &m, names[i / 2], separator) == r && is_same(&body, &again));
		assert((r || !body.len) && body.len <= FIELD_MAX);
		assert(!body.len || (!memchr(body.s, '\n', body.len) && !memchr(body.s, '\0', body.len)));
		assert(!body.len || !strchr(" \t\r", body.s[body.len - 1]));
	}
	g = (struct given){ (const uint8_t *)s, len };
	for (int i = 0; i < 3 && g.len; i++) {
		struct given line = given_until(&g, '\n');
		char *copy = given_copy(line.s, line.len);
		int want = line.len && has_line((struct given){ (const uint8_t *)s, len }, copy, line.len);

		assert(message_has_header_line(&memory, copy, line.len) == want && message_has_header_line(&m, copy, line.len) == want);
		free(copy);
	}
}

static void
count_hops(const char *s, size_t len)
{
	struct hops whole = { 0 }, pieces = { 0 };

	hops_watch(&whole, s, len);
	for (size_t i = 0; i < len; i++)
		hops_watch(&pieces, s + i, 1);
	assert(whole.count == pieces.count && whole.is_over == pieces.is_over && whole.count <= len / 9);
}

/* One line, whatever the address. */
static void
check_line(const stralloc *line)
{
	assert(line->len && memchr(line->s, '\n', line->len) == line->s + line->len - 1 && !memchr(line->s, '\0', line->len));
}

static void
make_lines(const char *s, size_t len)
{
	char *address = given_string((struct given){ (const uint8_t *)s, len });
	static stralloc line;

	assert(trace_delivered_to(&line, address, address));
	check_line(&line);
	assert(trace_return_path(&line, address));
	check_line(&line);
	assert(trace_from_line(&line, address, (time_t)len << 40));
	check_line(&line);
	free(address);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	char *s = given_copy(octets, len);

	read_submitted(s, len);
	check_completion(s, len);
	look_into(s, len);
	count_hops(s, len);
	make_lines(s, len);
	free(s);
	return 0;
}
