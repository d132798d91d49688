/* What qmail-smtpd takes addresses, parameters and mail data for, given any octets. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/stralloc.h>
#include "bin-src/smtpd/content.h"
#include "bin-src/smtpd/parameters.h"
#include "bin-src/smtpd/path.h"
#include "queue/envelope.h"
#include "quote.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* An address has no octet that could end a line, a record or an address; written out and read again it is the same. */
static void
read_path(const char *s, size_t len, enum path_kind kind)
{
	static struct path path, again;
	static stralloc text;
	int is_over_127 = 0;

	if (path_parse(&path, s, len, kind) != PATH_OK)
		return;
	assert(path.end <= len && path.len <= PATH_ADDRESS_MAX && strlen(path.address) == path.len);
	assert(path.at == path.len || path.address[path.at] == '@');
	assert(path.len || kind == PATH_REVERSE);
	for (size_t i = 0; i < path.len; i++) {
		unsigned char o = (unsigned char)path.address[i];

		assert(o >= 32 && o != 127);
		is_over_127 |= o > 127;
	}
	assert(path.is_internationalized || !is_over_127);
	if (path.at == path.len)
		return;
	text.len = 0;
	assert(stralloc_append(&text, '<') && quote_address(&text, path.address, path.len) && stralloc_append(&text, '>'));
	assert(path_parse(&again, text.s, text.len, kind) == PATH_OK);
	assert(again.len == path.len && memcmp(again.address, path.address, path.len) == 0 && again.at == path.at);
}

/* What is taken has the form that the queue takes. */
static void
read_parameters(const char *s, size_t len, enum parameters_command command)
{
	static struct parameters p;
	struct envelope_check check = { 0 };
	char envelope[PARAMETERS_TEXT_MAX + 16];
	size_t n = 0, used;

	if (parameters_parse(&p, s, len, command) != PARAMETERS_OK)
		return;
	assert(strlen(p.text) == p.len);
	if (!p.len)
		return;
	memcpy(envelope, "Fa", 3);
	n = 3;
	if (command == PARAMETERS_RCPT) {
		memcpy(envelope + n, "Tb", 3);
		n += 3;
	}
	envelope[n++] = 'P';
	memcpy(envelope + n, p.text, p.len + 1);
	n += p.len + 1;
	assert(envelope_check(&check, envelope, n, &used) == 0 && used == n);
}

/* Where mail data end, by the definition: at the first CRLF "." CRLF, the CRLF of DATA itself counting. 0: they do not. */
static size_t
end_of_data(const char *s, size_t len)
{
	const char *end;

	if (len >= 3 && memcmp(s, ".\r\n", 3) == 0)
		return 3;
	end = memmem(s, len, "\r\n.\r\n", 5);
	return end ? (size_t)(end - s) + 5 : 0;
}

/* The data end where the definition says, in whatever pieces they come; and unless they are condemned, each LF was a CRLF and
 * nothing else is a CR. */
static void
read_data(const char *s, size_t len, int is_data, size_t piece)
{
	struct content c;
	char *copy = malloc(len + 1);
	size_t at = 0, lines = 0, total = 0, end = is_data ? end_of_data(s, len) : 0;

	assert(copy);
	memcpy(copy, s, len);
	content_start(&c, is_data);
	while (at < len && c.state != CONTENT_END) {
		size_t used, n, some = len - at < piece ? len - at : piece;

		n = content_take(&c, copy + at, some, &used);
		assert(n <= some && used <= some && (used == some || c.state == CONTENT_END));
		for (size_t i = 0; i < n; i++) {
			assert(content_is_condemned(&c) || copy[at + i] != '\r');
			lines += copy[at + i] == '\n';
		}
		at += used;
		total += n;
	}
	assert(c.octets == total);
	assert(end ? c.state == CONTENT_END && at == end : c.state != CONTENT_END && at == len);
	if (!is_data)
		content_finish(&c);
	if (!content_is_condemned(&c))
		for (size_t i = 0; i < at; i++)
			if (s[i] == '\n') {
				assert(i > 0 && s[i - 1] == '\r');
				lines -= !(end && i == end - 1);
			}
	assert(content_is_condemned(&c) || lines == 0);
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	const char *s = (const char *)octets;

	read_path(s, len, PATH_REVERSE);
	read_path(s, len, PATH_FORWARD);
	read_parameters(s, len, PARAMETERS_MAIL);
	read_parameters(s, len, PARAMETERS_RCPT);
	for (int is_data = 0; is_data < 2; is_data++) {
		read_data(s, len, is_data, len + 1);
		read_data(s, len, is_data, 1);
		read_data(s, len, is_data, 1 + len % 7);
	}
	return 0;
}
