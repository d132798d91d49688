/* A dot-qmail file and the extension of an address, a NUL between them, given any octets. */
#include <assert.h>
#include <errno.h>
#include "bin-src/local/dotqmail.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* What a line is, by its first octet. */
static enum dotqmail_kind
kind_of(const char *line, size_t len, int is_first)
{
	if (!len)
		return is_first ? DOTQMAIL_BLANK_FIRST : DOTQMAIL_NOTHING;
	switch (*line) {
	case '#': return DOTQMAIL_NOTHING;
	case '|': return DOTQMAIL_PROGRAM;
	case '+': return len == 5 && memcmp(line, "+list", 5) == 0 ? DOTQMAIL_LIST : DOTQMAIL_NOTHING;
	case '.': case '/': return line[len - 1] == '/' ? DOTQMAIL_MAILDIR : DOTQMAIL_MBOX;
	default: return DOTQMAIL_FORWARD;
	}
}

/* Each line of the file is an instruction, and there are no others; a file with a NUL is not obeyed. */
static void
read_file(struct given g)
{
	static struct dotqmail d;
	struct dotqmail_line line;
	char *s = given_copy(g.s, g.len);
	int has_nul = g.len && memchr(s, '\0', g.len) != NULL;
	size_t at = 0;

	assert(dotqmail_take(&d, s, g.len) == !has_nul);
	assert(!has_nul || errno == EINVAL);
	for (int is_first = 1; !has_nul && (is_first || g.len); is_first = 0) {
		struct given want = given_until(&g, '\n');

		while (want.len && (want.s[want.len - 1] == ' ' || want.s[want.len - 1] == '\t'))
			want.len--;
		assert(dotqmail_next(&d, &at, &line));
		assert(line.kind == kind_of((const char *)want.s, want.len, is_first));
		if (line.kind == DOTQMAIL_PROGRAM || (line.kind == DOTQMAIL_FORWARD && *want.s == '&'))
			given_piece(&want, 1);
		assert(strlen(line.text) == want.len && (!want.len || memcmp(line.text, want.s, want.len) == 0));
	}
	assert(has_nul || !dotqmail_next(&d, &at, &line));
	free(s);
}

/* No extension leads to a file that does not begin with ".qmail-", or out of the directory that its slashes name; "default" stands for
 * the end of the extension behind a '-', and the longest beginning is tried first. */
static void
name_files(struct given g)
{
	static stralloc safe, name;
	char *ext = given_string(g);
	size_t len = strlen(ext);
	long rest, last = (long)len + 1;
	unsigned int n;

	assert(dotqmail_safe(&safe, ext) && safe.len == len + 1 && strlen(safe.s) == len && !strchr(safe.s, '.'));
	for (size_t i = 0; i < len; i++)
		assert(safe.s[i] < 'A' || safe.s[i] > 'Z');
	for (n = 0; dotqmail_candidate(&name, "-", &safe, n, &rest) == 1; n++) {
		assert(name.len == strlen(name.s) + 1 && memcmp(name.s, ".qmail-", 7) == 0 && !strchr(name.s + 1, '.'));
		if (n == 0) {
			assert(strcmp(name.s + 7, safe.s) == 0);
			continue;
		}
		assert(rest >= 0 && rest < last && (rest == 0 || ext[rest - 1] == '-'));
		assert(strncmp(name.s + 7, safe.s, (size_t)rest) == 0 && strcmp(name.s + 7 + rest, "default") == 0);
		last = rest;
	}
	assert(last == 0 && n <= len + 2);
	free(ext);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };

	name_files(given_until(&g, '\0'));
	read_file(g);
	return 0;
}
