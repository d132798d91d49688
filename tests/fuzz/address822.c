/* Lists of addresses in header fields and on command lines, given any octets. */
#include <assert.h>
#include <skalibs/stralloc.h>
#include "address822.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* The addresses of a list, each after its length. */
static int
note(void *to, stralloc *address)
{
	assert(address->len <= ADDRESS822_MAX);
	return stralloc_catb(to, (const char *)&address->len, sizeof address->len) && stralloc_catb(to, address->s, address->len);
}

static int
is_same(const stralloc *a, const stralloc *b)
{
	return a->len == b->len && (!a->len || memcmp(a->s, b->s, a->len) == 0);
}

/* --- one address ------------------------------------------------------------------------------ */

static const char *
give_default(void *data, enum address822_default which)
{
	static const char *const defaults[ADDRESS822_DEFAULTS] = { "host.example", "plus.example", "domain.example" };

	(void)data;
	return defaults[which];
}

/* A complete address has a host with a dot, or a literal, unless it ends as none is completed; in the envelope's form it is no longer
 * than in the header's. */
static void
complete(const char *s, size_t len)
{
	static const struct address822_defaults defaults = { .get = give_default };
	stralloc address = STRALLOC_ZERO, plain = STRALLOC_ZERO;
	size_t at;

	assert(stralloc_catb(&address, s, len) && address822_complete(&address, &defaults));
	at = address822_at(address.s, address.len);
	if (len < 3 || memcmp(s + len - 3, "@[]", 3) != 0) {
		assert(at < address.len && address.s[at] == '@');
		assert(memchr(address.s + at, '.', address.len - at) || address.s[address.len - 1] == ']');
	}
	assert(address822_unquote(&plain, address.s, address.len) && plain.len <= address.len);
	stralloc_free(&address);
	stralloc_free(&plain);
}

/* An address that was read is read again as itself, alone and in angle brackets. */
static void
read_again(const char *s, size_t len)
{
	stralloc want = STRALLOC_ZERO, got = STRALLOC_ZERO, text = STRALLOC_ZERO;

	assert(stralloc_catb(&text, s, len) && note(&want, &text));
	if (len)
		assert(address822_read(text.s, text.len, note, &got, NULL) == 1 && is_same(&got, &want));
	got.len = 0;
	assert(stralloc_insertb(&text, 0, "<", 1) && stralloc_append(&text, '>'));
	assert(address822_read(text.s, text.len, note, &got, NULL) == 1 && is_same(&got, &want));
	stralloc_free(&want);
	stralloc_free(&got);
	stralloc_free(&text);
}

/* Any octets are a local-part: quoted they are one word, which says them. */
static void
quote(const char *s, size_t len)
{
	stralloc quoted = STRALLOC_ZERO, plain = STRALLOC_ZERO;

	assert(address822_quote(&quoted, s, len) && address822_unquote(&plain, quoted.s, quoted.len));
	assert(plain.len == len && (!len || memcmp(plain.s, s, len) == 0));
	assert(address822_at(quoted.s, quoted.len) == quoted.len);
	stralloc_free(&quoted);
	stralloc_free(&plain);
}

/* --- a list ------------------------------------------------------------------------------------- */

/* What is printed is read as the same addresses, and no line of it is empty. */
static void
print(const char *s, size_t len, const stralloc *want)
{
	stralloc out = STRALLOC_ZERO, again = STRALLOC_ZERO;
	struct address822_printer printer;

	address822_printer_init(&printer, &out, 4);
	assert(address822_read(s, len, NULL, NULL, &printer) == 1);
	assert(address822_read(out.s, out.len, note, &again, NULL) == 1 && is_same(&again, want));
	stralloc_free(&out);
	stralloc_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	char *s = given_copy(octets, len);
	stralloc addresses = STRALLOC_ZERO;
	size_t n, at;

	at = address822_at(s, len);
	assert(at == len || s[at] == '@');
	quote(s, len);
	if (address822_read(s, len, note, &addresses, NULL) == 1) {
		print(s, len, &addresses);
		for (size_t i = 0; i < addresses.len; i += n) {
			memcpy(&n, addresses.s + i, sizeof n);
			i += sizeof n;
			read_again(addresses.s + i, n);
			if (n)
				complete(addresses.s + i, n);
		}
	}
	stralloc_free(&addresses);
	free(s);
	return 0;
}
