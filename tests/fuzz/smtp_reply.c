/* What qmail-remote reads from a server, and what it makes of a message, given any octets. */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "bin-src/lib/mail_data.h"
#include "bin-src/remote/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* A reply is whole lines without control octets. */
static void
read_reply(const char *octets, size_t len)
{
	static struct smtp_reply reply;
	const char *line;
	size_t used = 0, at = 0, n;

	smtp_reply_begin(&reply);
	while (used < len && reply.state == SMTP_REPLY_INCOMPLETE)
		used += smtp_reply_take(&reply, octets + used, len - used > 3 ? 3 : len - used);
	if (reply.state != SMTP_REPLY_COMPLETE)
		return;
	assert(reply.code >= 200 && reply.code <= 599);
	assert(strlen(reply.text) == reply.text_len && reply.text[reply.text_len - 1] == '\n');
	smtp_reply_status(&reply, &line);
	while (smtp_reply_line(&reply, &at, &line, &n))
		for (size_t i = 0; i < n; i++)
			assert((unsigned char)line[i] >= 32 && line[i] != 127);
}

/* No bare CR, no bare LF, a line end at the end; with dots no line is a single one. */
static void
check_wire(struct mail_data *m, int with_dots, size_t room)
{
	char out[64];
	uint64_t all = 0;
	int after_cr = 0, is_line_start = 1, after_dot = 0;
	ssize_t n;

	mail_data_rewind(m, with_dots);
	while ((n = mail_data_next(m, out, room)) > 0) {
		all += (uint64_t)n;
		for (ssize_t i = 0; i < n; i++) {
			assert(after_cr == (out[i] == '\n'));
			assert(!after_dot || out[i] == '.');
			after_cr = out[i] == '\r';
			after_dot = with_dots && is_line_start && out[i] == '.';
			is_line_start = out[i] == '\n';
		}
	}
	assert(n == 0 && is_line_start && !after_dot);
	assert(with_dots || all == m->wire_size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct mail_data m;

	read_reply((const char *)octets, len);
	mail_data_init(&m, (const char *)octets, -1, len);
	mail_data_survey(&m);
	check_wire(&m, 0, 8 + len % 50);
	check_wire(&m, 1, 8 + len % 50);
	return 0;
}
