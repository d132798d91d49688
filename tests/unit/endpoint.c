/* The variables that a server's process has of its connection, whatever was in the environment before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint.h"

static const char *const names[] = { "PROTO", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT", "TCP6REMOTEIP",
	"TCP6REMOTEPORT", "TCP6LOCALIP", "TCP6LOCALPORT", "TCPREMOTEHOST", "TCPREMOTEINFO", "TCPLOCALHOST", "TCP6REMOTEHOST" };
enum { NAMES = sizeof names / sizeof *names };

/* remote, local: addresses as the kernel gives them; "-": not known. want: the values of names, "-" unset. */
static const struct row { const char *rule, *remote, *local, *want; } rows[] = {
	{ "IPv4", "192.0.2.1", "192.0.2.2", "TCP 192.0.2.1 1025 192.0.2.2 25 - - - - - - - -" },
	{ "IPv6", "2001:db8::1", "::1", "TCP6 2001:db8::1 1025 ::1 25 2001:db8::1 1025 ::1 25 - - - -" },
	{ "IPv4 in IPv6 clothes", "::ffff:192.0.2.1", "::ffff:192.0.2.2", "TCP 192.0.2.1 1025 192.0.2.2 25 - - - - - - - -" },
	{ "own end not known", "192.0.2.1", "-", "TCP 192.0.2.1 1025 - - - - - - - - - -" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct endpoint
endpoint_of(const char *text, uint16_t port)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	union endpoint_room room;
	struct endpoint e;

	memset(&e, 0x55, sizeof e);
	if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
		memcpy(&room, &four, sizeof four);
	else {
		assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
		memcpy(&room, &six, sizeof six);
	}
	assert_int_equal(endpoint_read(&e, &room), 1);
	return e;
}

static void
environment_row(void **state)
{
	const struct row *row = *state;
	struct endpoint remote = endpoint_of(row->remote, 1025), local;
	char got[1024] = "";

	for (int i = 0; i < NAMES; i++)
		setenv(names[i], "left over", 1);
	if (*row->local != '-')
		local = endpoint_of(row->local, 25);
	assert_int_equal(endpoint_clear_environment(), 1);
	assert_int_equal(endpoint_set_environment(&remote, *row->local == '-' ? NULL : &local), 1);
	for (int i = 0; i < NAMES; i++) {
		const char *value = getenv(names[i]);

		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "", value ? value : "-");
	}
	assert_string_equal(got, row->want);
}

static void
another_family(void **state)
{
	union endpoint_room room = { .any.sa_family = AF_UNIX };
	struct endpoint e;

	(void)state;
	assert_int_equal(endpoint_read(&e, &room), 0);
}

/* It goes to another process, which gets nothing else that lay there. */
static void
no_octet_is_left_as_it_was(void **state)
{
	struct endpoint e = endpoint_of("192.0.2.1", 25), zeros;

	(void)state;
	memset(&zeros, 0, sizeof zeros);
	ip46_from_ip4(&zeros.address, "\300\0\2\1");
	zeros.port = 25;
	assert_memory_equal(&e, &zeros, sizeof e);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 2];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = environment_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(another_family);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(no_octet_is_left_as_it_was);
	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
