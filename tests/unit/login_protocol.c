/* Packets for the login keeper: what is taken, and what is malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "login_protocol.h"

#define PACKET(s) s, sizeof s - 1

/* want: question, login, secret, challenge, variables; NULL: malformed. */
static const struct row { const char *rule, *packet; size_t len; const char *want; } rows[] = {
	{ "a check", PACKET("Cana\0x\0\0"), "C ana x  " },
	{ "a session with variables", PACKET("Sana\0x\0<1>\0PROTO=TCP\0TCPREMOTEIP=::1\0"), "S ana x <1> PROTO=TCP TCPREMOTEIP=::1 " },
	{ "empty strings", PACKET("C\0\0\0"), "C    " },
	{ "another question", PACKET("Xana\0x\0\0"), NULL },
	{ "nothing", PACKET(""), NULL },
	{ "a letter", PACKET("C"), NULL },
	{ "two strings", PACKET("Cana\0x\0"), NULL },
	{ "no NUL at the end", PACKET("Cana\0x\0\0PROTO=TCP"), NULL },
	{ "a variable of another name", PACKET("Cana\0x\0\0PATH=x\0"), NULL },
	{ "the beginning of a name", PACKET("Cana\0x\0\0PROT=TCP\0"), NULL },
	{ "more than a name", PACKET("Cana\0x\0\0PROTOS=TCP\0"), NULL },
	{ "a name alone", PACKET("Cana\0x\0\0PROTO\0"), NULL },
	{ "an empty variable", PACKET("Cana\0x\0\0\0"), NULL },
	{ "an empty value", PACKET("Cana\0x\0\0PROTO=\0"), NULL },
	{ "a blank in a value", PACKET("Cana\0x\0\0PROTO=T P\0"), NULL },
	{ "8 bits in a value", PACKET("Cana\0x\0\0PROTO=\xc3\xa4\0"), NULL },
	{ "a variable twice", PACKET("Cana\0x\0\0PROTO=TCP\0PROTO=TCP\0"), NULL },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
parse_row(void **state)
{
	const struct row *row = *state;
	char *packet = memcpy(test_malloc(row->len + !row->len), row->packet, row->len);	/* exact size: ASan sees over-reads */
	struct login_request r;
	char got[200] = "";

	if (login_request_parse(&r, packet, row->len)) {
		snprintf(got, sizeof got, "%c %s %s %s ", (char)r.question, r.login, r.secret, r.challenge);
		for (size_t i = 0; i < r.variables_len; i++) {
			strcat(got, r.variables[i]);
			strcat(got, " ");
		}
		assert_non_null(row->want);
		assert_string_equal(got, row->want);
	} else
		assert_null(row->want);
	test_free(packet);
}

static void
variables(void **state)
{
	static const char packet[] = "Cana\0x\0\0TCPREMOTEIP=1.2.3.4\0TCPREMOTEPORT=1";
	struct login_request r;

	(void)state;
	assert_int_equal(login_request_parse(&r, packet, sizeof packet), 1);
	assert_string_equal(login_request_variable(&r, "TCPREMOTEIP"), "1.2.3.4");
	assert_null(login_request_variable(&r, "TCPREMOTE"));
	assert_null(login_request_variable(&r, "PROTO"));
}

static void
a_long_value(void **state)
{
	char value[LOGIN_VALUE_MAX + 2];

	(void)state;
	memset(value, 'x', sizeof value);
	value[LOGIN_VALUE_MAX + 1] = '\0';
	assert_int_equal(login_value_is_fine(value), 0);
	value[LOGIN_VALUE_MAX] = '\0';
	assert_int_equal(login_value_is_fine(value), 1);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = parse_row, .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(variables);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(a_long_value);
	return cmocka_run_group_tests_name("login_protocol", tests, NULL, NULL);
}
