/* A message, and a field, that qmail-pop3d makes ASCII for a client without UTF8, given any octets. */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "bin-src/pop3d/ascii_field.h"
#include "bin-src/pop3d/surrogate.h"
#include "bin-src/lib/utf8.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static stralloc first, second;

/* What a client gets, in pieces of room octets. */
static void
retrieve(stralloc *got, const uint8_t *octets, size_t len, int is_utf8, uint64_t lines, size_t room)
{
	struct surrogate s = { .mime.source = NULL };
	struct mail_data data;
	char piece[100];
	ssize_t n;

	got->len = 0;
	mail_data_init(&data, (const char *)octets, -1, len);
	assert(surrogate_begin(&s, &data, is_utf8, lines));
	while ((n = surrogate_next(&s, piece, room)) > 0)
		assert((size_t)n <= room && stralloc_catb(got, piece, (size_t)n));
	assert(n == 0);
	surrogate_free(&s);
}

/* Whole lines that end in CR LF, and none that is a single dot. */
static void
check_wire(const stralloc *got)
{
	const char *s = got->s;

	for (size_t i = 0; i < got->len; i++)
		assert((s[i] == '\n') == (i && s[i - 1] == '\r'));
	assert(!got->len || s[got->len - 1] == '\n');
	for (size_t i = 0; i + 2 < got->len; i++)
		assert(!((i == 0 || s[i - 1] == '\n') && memcmp(s + i, ".\r\n", 3) == 0));
}

/* What is sent for so many lines of the body is the begin of what is sent for all: its header, and no more lines than that. */
static void
check_top(const uint8_t *octets, size_t len, uint64_t lines)
{
	uint64_t body = 0;
	size_t line = 0;	/* where it begins */
	int in_body = 0;

	retrieve(&second, octets, len, 0, lines, 50);
	assert(second.len <= first.len && (!second.len || memcmp(first.s, second.s, second.len) == 0));
	for (size_t i = 0; i < second.len; i++) {
		if (second.s[i] != '\n')
			continue;
		body += (uint64_t)in_body;
		in_body |= i - line == 1;
		line = i + 1;
	}
	assert(body <= lines && (body == lines || second.len == first.len));
}

/* One field: it is ASCII or what it was, and stays one field. */
static void
check_field(const uint8_t *octets, size_t len)
{
	size_t line = 0;

	first.len = second.len = 0;
	for (size_t i = 0; i < len; i++) {
		int is_end = octets[i] == '\n' || octets[i] == '\r';

		assert(stralloc_catb(&first, is_end ? "\r\n " : (const char *)octets + i, is_end ? 3 : 1));
	}
	assert(stralloc_catb(&first, "\r\n", 2) && ascii_field(&second, first.s, first.len));
	if (!second.len || (second.len == first.len && memcmp(first.s, second.s, first.len) == 0))
		return;
	assert(!utf8_is_8bit(second.s, second.len) && memcmp(second.s + second.len - 2, "\r\n", 2) == 0);
	for (size_t i = 0; i < second.len; i++) {
		assert((second.s[i] == '\n') == (i && second.s[i - 1] == '\r'));
		if (second.s[i] != '\n')
			continue;
		assert(i + 1 == second.len || second.s[i + 1] == ' ');
		line = i + 1;
	}
	assert(line == second.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	retrieve(&first, octets, len, 0, SURROGATE_ALL_LINES, 8 + len % 90);
	retrieve(&second, octets, len, 0, SURROGATE_ALL_LINES, 100);
	assert(first.len == second.len && (!first.len || memcmp(first.s, second.s, first.len) == 0));
	check_wire(&first);
	retrieve(&second, octets, len, 1, SURROGATE_ALL_LINES, 100);
	check_wire(&second);
	if (!utf8_is_8bit((const char *)octets, len))
		assert(first.len == second.len && (!first.len || memcmp(first.s, second.s, first.len) == 0));
	else
		check_top(octets, len, len % 7);
	check_field(octets, len);
	return 0;
}
