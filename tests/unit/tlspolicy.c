/* control/tlspolicy: which entry counts for a domain, and what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/remote/tlspolicy.h"
#include "directory.h"

#define DIGEST "0123456789abcdefABCDEF00000000000000000000000000000000000000ff01"
#define SPACED "01:23:45:67:89:ab:cd:ef:AB:CD:EF:00:00:00:00:00 00 00:00:00:00:00:00:00:00:00:00:00:00:00:FF:01"
#define FOUR DIGEST DIGEST DIGEST DIGEST

static const char table[] =
	"none.example:none\n"
	".below.example:Encrypt\n"
	"names.example:verify:a.example:.b.example\n"
	"usual.example:verify\n"
	"one.example:fingerprint:" DIGEST "\n"
	"spaced.example:fingerprint:" SPACED "\n"
	"two.example:fingerprint:" DIGEST ":" SPACED "\n"
	"most.example:fingerprint:" FOUR FOUR FOUR FOUR "\n"
	"more.example:fingerprint:" FOUR FOUR FOUR FOUR "0\n"
	"half.example:fingerprint:" DIGEST "01\n"
	"nofinger.example:fingerprint\n"
	"nohex.example:fingerprint:" DIGEST "g\n"
	"word.example:encrypted\n"
	"part.example:enc\n"
	"empty.example:\n"
	"extra.example:encrypt:x\n"
	"dane.example:dane\n"
	"morethandane.example:dane:x\n"
	"may.example:may:nosts\n"
	"encrypt.example:encrypt:NoSTS\n"
	"nonests.example:none:nosts\n"
	"stsx.example:may:nostsx\n"
	"xn--fa-hia.example:none\n";

/* want: LEVEL NAMES, and for fingerprints how many and the first and last octets of the last; "absent", "nonsense". */
static const struct row { const char *rule, *domain, *want; } rows[] = {
	{ "none", "none.example", "0 " },
	{ "DANE", "dane.example", "5 " },
	{ "arguments of DANE", "morethandane.example", "nonsense" },
	{ "without an entry", "other.example", "absent 1 " },
	{ "below a domain, without ASCII case", "a.b.Below.example", "2 " },
	{ "names", "names.example", "3 a.example:.b.example" },
	{ "the usual names", "usual.example", "3 " },
	{ "a fingerprint", "one.example", "4  1 01 01" },
	{ "a fingerprint as openssl writes it", "spaced.example", "4  1 01 01" },
	{ "two fingerprints", "two.example", "4  2 01 01" },
	{ "the most fingerprints", "most.example", "4  16 01 01" },
	{ "too many fingerprints", "more.example", "nonsense" },
	{ "a fingerprint and a half", "half.example", "nonsense" },
	{ "no fingerprint", "nofinger.example", "nonsense" },
	{ "no hexadecimal digit", "nohex.example", "nonsense" },
	{ "a longer word", "word.example", "nonsense" },
	{ "part of a word", "part.example", "nonsense" },
	{ "no word", "empty.example", "nonsense" },
	{ "arguments where there are none", "extra.example", "nonsense" },
	{ "may, whatever MTA-STS says", "may.example", "1 nosts" },
	{ "encrypt, whatever MTA-STS says", "encrypt.example", "2 nosts" },
	{ "none does not ask MTA-STS", "nonests.example", "nonsense" },
	{ "no word but nosts", "stsx.example", "nonsense" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
find_row(void **state)
{
	const struct row *row = *state;
	struct tlspolicies policies;
	struct tlspolicy p;
	char got[200] = "nonsense";
	int r, n;

	assert_int_equal(tlspolicies_read(&policies), 1);
	assert_true(policies.has_verify);
	r = tlspolicy_find(&policies, row->domain, NULL, &p);
	if (r >= 0) {
		n = snprintf(got, sizeof got, "%s%d %s%s", r ? "" : "absent ", (int)p.level, p.names, p.has_nosts ? "nosts" : "");
		if (p.fingerprints_len) {
			const unsigned char *last = p.fingerprints[p.fingerprints_len - 1];

			snprintf(got + n, sizeof got - (size_t)n, " %u %02x %02x", p.fingerprints_len, last[0], last[TLSPOLICY_DIGEST - 1]);
		}
	}
	tlspolicies_free(&policies);
	assert_string_equal(got, row->want);
}

static void
a_domain_in_other_letters(void **state)
{
	struct tlspolicies policies;
	struct tlspolicy p;

	(void)state;
	assert_int_equal(tlspolicies_read(&policies), 1);
	assert_int_equal(tlspolicy_find(&policies, "fa\xc3\x9f.example", "xn--fa-hia.example", &p), 1);
	assert_int_equal(p.level, TLS_NONE);
	tlspolicies_free(&policies);
}

static void
whom_TLSA_records_are_looked_for(void **state)
{
	static const int has_dane[] = { [TLS_MAY] = 1, [TLS_ENCRYPT] = 1, [TLS_DANE] = 1 };

	(void)state;
	for (int level = TLS_NONE; level <= TLS_DANE; level++)
		assert_int_equal(tlspolicy_has_dane(&(struct tlspolicy){ .level = (enum tls_level)level }), has_dane[level]);
}

static void
a_line_without_a_colon(void **state)
{
	struct tlspolicies policies;

	(void)state;
	directory_write("control/tlspolicy", "a.example:none\nb.example encrypt\n");
	errno = ENOENT;
	assert_int_equal(tlspolicies_read(&policies), 0);
	assert_int_equal(errno, 0);
	directory_write("control/tlspolicy", table);
}

static void
without_a_file(void **state)
{
	struct tlspolicies policies;
	struct tlspolicy p;

	(void)state;
	assert_int_equal(unlink("control/tlspolicy"), 0);
	assert_int_equal(tlspolicies_read(&policies), 1);
	assert_false(policies.has_verify);
	assert_int_equal(tlspolicy_find(&policies, "a.example", NULL, &p), 0);
	assert_int_equal(p.level, TLS_MAY);
	tlspolicies_free(&policies);
}

static int
set_up(void **state)
{
	if (directory_make(state) != 0)
		return -1;
	directory_write("control/tlspolicy", table);
	return 0;
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 4];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = find_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(a_domain_in_other_letters);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(a_line_without_a_colon);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(without_a_file);
	tests[ROWS + 3] = (struct CMUnitTest)cmocka_unit_test(whom_TLSA_records_are_looked_for);
	return cmocka_run_group_tests_name("tlspolicy", tests, set_up, directory_remove);
}
