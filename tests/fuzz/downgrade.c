/* A message that qmail-remote converts for a server without 8BITMIME, given any octets. */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "bin-src/remote/downgrade.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static struct downgrade d;

/* All of it, as it goes over the wire, in pieces of room octets. The caller frees it. */
static char *
converted(size_t room)
{
	char *out = calloc(d.wire_size + 1, 1), piece[64];
	size_t len = 0;
	ssize_t n;

	if (!out)
		err(1, "copy");
	downgrade_rewind(&d, 0);
	while ((n = downgrade_next(&d, piece, room)) > 0) {
		assert(len + (size_t)n <= d.wire_size);
		memcpy(out + len, piece, (size_t)n);
		len += (size_t)n;
	}
	assert(n == 0 && len == d.wire_size && d.has_ended);
	return out;
}

/* With doubled dots there is no line that is a single dot, and what comes is longer by them. */
static void
check_dots(const char *plain, size_t len)
{
	char piece[64];
	size_t at = 0;
	int is_line_start = 1, is_doubled = 0;
	ssize_t n;

	downgrade_rewind(&d, 1);
	while ((n = downgrade_next(&d, piece, 13)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			assert(!is_doubled || piece[i] == '.');
			if (is_line_start && piece[i] == '.' && !is_doubled)
				is_doubled = 1;
			else {
				assert(at < len && plain[at] == piece[i]);
				at++;
				is_doubled = 0;
				is_line_start = piece[i] == '\n';
			}
		}
	assert(n == 0 && at == len);
}

/* Whole lines of ASCII that end in CR LF. */
static void
check_wire(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		assert((unsigned char)s[i] < 128);
		assert((s[i] == '\n') == (i && s[i - 1] == '\r'));
	}
	assert(!len || s[len - 1] == '\n');
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct mail_data m, again;
	char *first, *second;
	size_t wire_size;

	mail_data_init(&m, (const char *)octets, -1, len);
	mail_data_survey(&m);
	if (downgrade_begin(&d, &m) != DOWNGRADE_READY) {
		assert(m.has_8bit && d.cannot);
		return 0;
	}
	wire_size = d.wire_size;
	assert(m.has_8bit || wire_size == m.wire_size);
	first = converted(1 + len % 60);
	second = converted(64);
	assert(memcmp(first, second, wire_size) == 0);
	check_wire(first, wire_size);
	check_dots(first, wire_size);
	free(second);
	mail_data_init(&again, first, -1, wire_size);
	assert(downgrade_begin(&d, &again) == DOWNGRADE_READY && d.wire_size == wire_size);
	second = converted(64);
	assert(memcmp(first, second, wire_size) == 0);
	free(first);
	free(second);
	return 0;
}
