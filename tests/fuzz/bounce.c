/* Bounces and reports, given any addresses, texts of remote hosts and messages; and what a program in the place of qmail-remote printed.
 * The input is an octet of flags, then strings ended by NUL: how many recipients, sender, its parameters; for each recipient its address,
 * text and parameters; then the message. */
#include <assert.h>
#include "bin-src/remote/remote_report.h"
#include "bin-src/send/bounce.h"
#include "bin-src/send/verp.h"
#include "given.h"
#include "queue/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { RECIPIENTS_MAX = 4, IS_PLAIN = 1, WITHOUT_MESSAGE = 2, IS_DOUBLE = 4, IS_SMALL = 8, KIND = 16, KINDS = 3 };

struct input {
	struct bounce_recipient recipients[RECIPIENTS_MAX];
	uint32_t count;
	const char *message;
	size_t size;
	stralloc out;
};

/* --- what a bounce is made of ----------------------------------------------------------------------- */

static int
recipient(void *data, uint32_t n, struct bounce_recipient *r)
{
	const struct input *in = data;

	if (n >= in->count)
		return 0;
	*r = in->recipients[n];
	return 1;
}

static int
read_message(void *data, uint64_t offset, char *s, size_t len)
{
	const struct input *in = data;

	assert(offset + len <= in->size);
	if (len)
		memcpy(s, in->message + offset, len);
	return 1;
}

static void
put(void *data, const char *s, size_t len)
{
	struct input *in = data;

	assert(stralloc_catb(&in->out, s, len));
}

/* --- what it has to be -------------------------------------------------------------------------------- */

/* How often a line of out begins so. */
static unsigned int
lines_with(const stralloc *out, const char *s)
{
	struct given g = { (const uint8_t *)out->s, out->len };
	unsigned int n = 0;

	while (g.len) {
		struct given line = given_until(&g, '\n');

		n += line.len >= strlen(s) && memcmp(line.s, s, strlen(s)) == 0;
	}
	return n;
}

/* Nothing that is put in adds a part to its MIME form, which has the text, the status and what is returned. */
static void
check_parts(const stralloc *out, int without_message)
{
	const char *s = memmem(out->s, out->len, "\n\tboundary=\"", 12);
	char delimiter[80];
	size_t n;

	assert(s);
	n = (size_t)((const char *)memchr(s + 12, '"', out->len - (size_t)(s + 12 - out->s)) - s) - 12;
	assert(n && n < sizeof delimiter - 3);
	memcpy(delimiter, "--", 2);
	memcpy(delimiter + 2, s + 12, n);
	delimiter[2 + n] = '\0';
	assert(lines_with(out, delimiter) == 4 || (without_message && lines_with(out, delimiter) == 3));
}

/* The paragraphs of QSBMF: a greeting, one for each recipient, and a line behind which the message is. */
static void
check_paragraphs(const stralloc *out, uint32_t recipients)
{
	const char *s = memmem(out->s, out->len, "\n\nHi. This is", 13), *end = memmem(out->s, out->len, "\n\n--- ", 6), *next;
	uint32_t n = 0;

	assert(s && end && end > s);
	for (s += 2; (next = memmem(s, (size_t)(end + 2 - s), "\n\n", 2)) && next < end; n++) {
		s = next + 2;
		assert(*s == '<' && s < end);
	}
	assert(n == recipients);
}

/* The header is ASCII lines, none too long; no octet but those of the message is odd. */
static void
check_header(const stralloc *out)
{
	const char *end = memmem(out->s, out->len, "\n\n", 2);
	size_t column = 0;

	assert(end);
	for (const char *s = out->s; s < end; s++) {
		column = *s == '\n' ? 0 : column + 1;
		assert(*s && *s != '\r' && column <= 998);
	}
}

static void
write_bounce(struct input *in, unsigned int flags, const char *sender, const char *parameters)
{
	static char from[] = "MAILER-DAEMON", host[] = "mail.example";
	static struct bounce_settings settings = {
		.from = { from, sizeof from, 0 }, .host = { host, sizeof host, 0 }, .double_to = { from, sizeof from, 0 },
		.double_host = { host, sizeof host, 0 },
	};
	struct bounce b = {
		.settings = &settings, .kind = flags & IS_DOUBLE ? BOUNCE_DOUBLE : BOUNCE_SINGLE, .number = 42, .birth = 1000000000,
		.now = 1000000060, .until = 1000604800, .sender = sender, .parameters = parameters, .size = in->size,
		.without_message = (flags & WITHOUT_MESSAGE) != 0, .data = in, .recipient = recipient, .read = read_message, .put = put,
	};
	const char *own = NULL;

	if (b.kind == BOUNCE_SINGLE)
		b.report = (enum bounce_report)(flags / KIND % KINDS);
	settings.is_plain = flags & IS_PLAIN;
	settings.max = flags & IS_SMALL ? 100 : BOUNCE_MAX;
	in->out.len = 0;
	assert(bounce_write(&b, &own) == 1 && own && in->out.len);
	check_header(&in->out);
	if (b.report == BOUNCE_FAILED)
		check_paragraphs(&in->out, in->count);
	if (b.report != BOUNCE_FAILED || !settings.is_plain)
		check_parts(&in->out, b.without_message);
}

/* --- the rest -------------------------------------------------------------------------------------------- */

/* A return path per recipient, and back. */
static void
take_sender(const char *sender, const char *to)
{
	static stralloc own, back;

	assert(verp_sender(&own, sender, to) && verp_return(&back, sender));
	assert(strlen(own.s) + 1 == own.len && strlen(back.s) + 1 == back.len);
	assert(verp_is(sender) || strcmp(own.s, sender) == 0);
	assert(strncmp(back.s, sender, strlen(back.s)) == 0 && (strcmp(back.s, sender) == 0 || strcmp(sender + strlen(back.s), "-@[]") == 0));
}

static void
take_text(const char *text, size_t len)
{
	char status[BOUNCE_STATUS_MAX];

	if (bounce_status(status, text, len))
		assert(strspn(status, "0123456789.") == strlen(status) && strchr("245", *status) && memmem(text, len, status, strlen(status)));
}

/* Nobody is delivered or failed without a word of the report that says so. */
static void
take_printed(const char *s, size_t len)
{
	static stralloc text;

	for (unsigned int recipients = 1; recipients < 4; recipients++)
		for (unsigned int n = 0; n < recipients; n++) {
			char letter = remote_report_merge(&text, s, len, recipients, n);

			assert(letter == 'K' || letter == 'Z' || letter == 'D');
			assert(letter != 'K' || (len && memchr(s, 'K', len)));
			assert(letter != 'D' || (len && (memchr(s, 'D', len) || memchr(s, 'h', len))));
		}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct input in;
	struct given g = { octets, len };
	unsigned int flags = (unsigned int)given_number(&g, 1);
	char *strings[2 + 3 * RECIPIENTS_MAX];
	size_t n = 0;

	take_printed((const char *)octets, len);
	in.count = 1 + (uint32_t)given_number(&g, 1) % RECIPIENTS_MAX;
	while (n < 2 + 3 * in.count)
		strings[n++] = given_string(given_until(&g, '\0'));
	for (uint32_t i = 0; i < in.count; i++) {
		char **of = strings + 2 + (size_t)3 * i;

		in.recipients[i] = (struct bounce_recipient){ .address = of[0], .text = of[1], .text_len = strlen(of[1]), .parameters = of[2], .index = i };
		take_text(of[1], strlen(of[1]));
		take_sender(strings[0], of[0]);
	}
	in.message = (const char *)g.s;
	in.size = g.len;
	write_bounce(&in, flags, strings[0], strings[1]);
	while (n)
		free(strings[--n]);
	return 0;
}
