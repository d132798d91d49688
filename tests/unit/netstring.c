/* Netstrings from a pipe: what is one, what is not, and where one has to fit into another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/smtpd/netstring.h"
#include "monotonic.h"

static struct input in;
static struct netstring n;

static void
nothing(void *data)
{
	(void)data;
}

/* The client says s, and no more. left: octets of the netstring around. */
static void
begin(const char *s, uint64_t left)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], s, strlen(s)), strlen(s));
	close(ends[1]);
	memset(&in, 0, offsetof(struct input, buffer));
	in.fd = ends[0];
	in.timeout_ms = 10000;
	in.session_end = monotonic_ms() + 10000;
	in.flush = in.rest = nothing;
	input_start(&in);
	n = (struct netstring){ .in = &in, .left = left };
}

static const struct row { const char *rule, *said; uint64_t left; enum netstring_result want; const char *string; } rows[] = {
	{ "a string", "5:hello,", UINT64_MAX, NETSTRING_OK, "hello" },
	{ "an empty string", "0:,", UINT64_MAX, NETSTRING_OK, "" },
	{ "octets of any kind", "4::,\n,,", UINT64_MAX, NETSTRING_OK, ":,\n," },
	{ "no comma", "5:hello.", UINT64_MAX, NETSTRING_MALFORMED, NULL },
	{ "no digits", ":hello,", UINT64_MAX, NETSTRING_MALFORMED, NULL },
	{ "a zero in front", "05:hello,", UINT64_MAX, NETSTRING_MALFORMED, NULL },
	{ "a sign", "+5:hello,", UINT64_MAX, NETSTRING_MALFORMED, NULL },
	{ "a blank", " 5:hello,", UINT64_MAX, NETSTRING_MALFORMED, NULL },
	{ "the largest length that is read", "999999999999999999:", 100, NETSTRING_MALFORMED, NULL },
	{ "a length beyond it", "1000000000000000000:", UINT64_MAX, NETSTRING_MALFORMED, NULL },
	{ "the end within the length", "5", UINT64_MAX, NETSTRING_FAILED, NULL },
	{ "the end within the string", "5:hel", UINT64_MAX, NETSTRING_FAILED, NULL },
	{ "the end before the comma", "5:hello", UINT64_MAX, NETSTRING_FAILED, NULL },
	{ "it fills what is around it", "5:hello,", 8, NETSTRING_OK, "hello" },
	{ "its comma does not fit", "5:hello,", 7, NETSTRING_MALFORMED, NULL },
	{ "its length does not fit", "5:hello,", 1, NETSTRING_MALFORMED, NULL },
	{ "nothing is left", "5:hello,", 0, NETSTRING_MALFORMED, NULL },
};

static void
string_row(void **state)
{
	const struct row *row = *state;
	stralloc s = STRALLOC_ZERO;
	int fits = 0;

	begin(row->said, row->left);
	assert_int_equal(netstring_string(&n, &s, 10, &fits), row->want);
	if (row->string) {
		assert_true(fits);
		assert_int_equal(s.len, strlen(row->string));
		assert_memory_equal(s.s, row->string, s.len);
	}
	stralloc_free(&s);
	close(in.fd);
}

static void
one_that_is_too_long_is_read_and_forgotten(void **state)
{
	stralloc s = STRALLOC_ZERO;
	int fits = 1;

	(void)state;
	begin("11:elevenelevn,2:ok,", UINT64_MAX);
	assert_int_equal(netstring_string(&n, &s, 10, &fits), NETSTRING_OK);
	assert_false(fits);
	assert_int_equal(netstring_string(&n, &s, 10, &fits), NETSTRING_OK);
	assert_true(fits);
	assert_memory_equal(s.s, "ok", 2);
	stralloc_free(&s);
	close(in.fd);
}

static void
one_in_another(void **state)
{
	stralloc s = STRALLOC_ZERO;
	uint64_t len;
	int fits;

	(void)state;
	begin("8:2:ab,1:c,", UINT64_MAX);
	assert_int_equal(netstring_length(&n, &len), NETSTRING_OK);
	assert_int_equal(len, 8);
	n.left = len;
	assert_int_equal(netstring_string(&n, &s, 10, &fits), NETSTRING_OK);
	assert_int_equal(n.left, 3);
	/* "1:c," needs four */
	assert_int_equal(netstring_string(&n, &s, 10, &fits), NETSTRING_MALFORMED);
	stralloc_free(&s);
	close(in.fd);
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, string_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(one_that_is_too_long_is_read_and_forgotten);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(one_in_another);
	return cmocka_run_group_tests_name("netstring", tests, NULL, NULL);
}
