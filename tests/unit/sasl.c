/* PLAIN and LOGIN, and base64 that is none; row S11 of the hostile inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "sasl.h"

/* lines: what the client sends, a blank between two; the first is the initial response, - none. want: challenges, then the result. */
static const struct row { const char *rule; enum sasl_mechanism m; const char *lines, *want; } rows[] = {
	{ "PLAIN", SASL_PLAIN, "AGFuYQBzZWNyZXQ=", "ana/secret" },
	{ "PLAIN, asked", SASL_PLAIN, "- AGFuYQBzZWNyZXQ=", "() ana/secret" },
	{ "PLAIN, for oneself", SASL_PLAIN, "YW5hAGFuYQBzZWNyZXQ=", "ana/secret" },
	{ "PLAIN, for another", SASL_PLAIN, "ZXZhAGFuYQBzZWNyZXQ=", "foreign" },
	{ "PLAIN, a part is missing", SASL_PLAIN, "YW5hAHNlY3JldA==", "malformed" },
	{ "PLAIN, a part too many", SASL_PLAIN, "AGFuYQBzZWMAcmV0", "malformed" },
	{ "PLAIN, no login", SASL_PLAIN, "AABzZWNyZXQ=", "malformed" },
	{ "PLAIN, no password", SASL_PLAIN, "AGFuYQA=", "malformed" },
	{ "PLAIN, one octet of a password", SASL_PLAIN, "AGFuYQB4", "ana/x" },
	{ "PLAIN, an empty initial response", SASL_PLAIN, "=", "malformed" },
	{ "PLAIN, one NUL", SASL_PLAIN, "AA==", "malformed" },
	{ "LOGIN", SASL_LOGIN, "- YW5h eA==", "(VXNlcm5hbWU6) (UGFzc3dvcmQ6) ana/x" },
	{ "LOGIN, with the name", SASL_LOGIN, "YW5h eA==", "(UGFzc3dvcmQ6) ana/x" },
	{ "LOGIN, a NUL in the name", SASL_LOGIN, "- YQBh", "(VXNlcm5hbWU6) malformed" },
	{ "LOGIN, an empty name", SASL_LOGIN, "=", "malformed" },
	{ "cancelled at once", SASL_LOGIN, "- *", "(VXNlcm5hbWU6) cancelled" },
	{ "cancelled later", SASL_LOGIN, "YW5h *", "(UGFzc3dvcmQ6) cancelled" },
	{ "padding is missing", SASL_PLAIN, "AGFuYQBzZWNyZXQ", "malformed" },
	{ "only padding", SASL_LOGIN, "====", "malformed" },
	{ "padding inside", SASL_LOGIN, "YQ==YQ==", "malformed" },
	{ "one = before a digit", SASL_LOGIN, "YW=h", "malformed" },
	{ "bits that are left over", SASL_LOGIN, "YR==", "malformed" },
	{ "another alphabet", SASL_LOGIN, "-_-_", "malformed" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
result(char *got, const struct sasl *s, enum sasl_result r)
{
	static const char *const names[] = { [SASL_CANCELLED] = "cancelled", [SASL_MALFORMED] = "malformed", [SASL_FOREIGN] = "foreign" };

	if (r == SASL_CHALLENGE)
		sprintf(got + strlen(got), "(%s) ", s->challenge);
	else if (r == SASL_DONE)
		sprintf(got + strlen(got), "%s/%s", s->login, s->secret);
	else
		strcat(got, names[r]);
}

static void
lines_row(void **state)
{
	const struct row *row = *state;
	char lines[200], got[200] = "", *save = NULL, *line;
	enum sasl_result r;
	struct sasl s;

	strcpy(lines, row->lines);
	line = strtok_r(lines, " ", &save);
	r = sasl_begin(&s, row->m, strcmp(line, "-") == 0 ? NULL : line);
	result(got, &s, r);
	while (r == SASL_CHALLENGE && (line = strtok_r(NULL, " ", &save))) {
		r = sasl_take(&s, line);
		result(got, &s, r);
	}
	assert_string_equal(got, row->want);
	sasl_forget(&s);
	assert_null(s.secret);
}

static void
the_longest(void **state)
{
	char line[SASL_MAX / 3 * 4 + 9];
	struct sasl s;

	(void)state;
	memset(line, 'A', sizeof line);
	memset(line + 4, 'a', SASL_MAX / 3 * 4 - 4);
	line[SASL_MAX / 3 * 4] = '\0';
	memcpy(line, "AGEA", 4);
	assert_int_equal(sasl_begin(&s, SASL_PLAIN, line), SASL_DONE);
	assert_int_equal(strlen(s.secret), SASL_MAX / 3 * 3 - 3);
	memset(line + SASL_MAX / 3 * 4, 'a', 4);
	line[SASL_MAX / 3 * 4 + 4] = '\0';
	assert_int_equal(sasl_begin(&s, SASL_PLAIN, line), SASL_MALFORMED);
}

static void
names(void **state)
{
	enum sasl_mechanism m;

	(void)state;
	assert_int_equal(sasl_find(&m, "login"), 1);
	assert_int_equal(m, SASL_LOGIN);
	assert_int_equal(sasl_find(&m, "CRAM-MD5"), 0);
	assert_int_equal(sasl_find(&m, ""), 0);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = lines_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(the_longest);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(names);
	return cmocka_run_group_tests_name("sasl", tests, NULL, NULL);
}
