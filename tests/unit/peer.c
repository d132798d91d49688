/* Who the client is, whichever program has set the environment: section 16 of the interfaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "peer.h"

/* variables: parted by blanks; want: ip port local-ip local-port local-host host info */
static const struct row { const char *rule, *variables, *want; } rows[] = {
	{ "nothing", "", "unknown 0 - 0 unknown unknown -" },
	{ "tcpserver", "PROTO=TCP TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=1234 TCPLOCALIP=192.0.2.2 TCPLOCALPORT=25 TCPLOCALHOST=me.example "
	    "TCPREMOTEHOST=h.example TCPREMOTEINFO=ana", "192.0.2.1 1234 192.0.2.2 25 me.example h.example ana" },
	{ "ucspi-tcp6", "PROTO=TCP6 TCP6REMOTEIP=2001:db8::1 TCP6REMOTEPORT=1 TCPREMOTEIP=192.0.2.9 TCP6LOCALIP=::1 TCP6LOCALPORT=25",
	    "2001:db8::1 1 ::1 25 [IPv6:::1] unknown -" },
	{ "s6-tcpserver", "PROTO=TCP TCPREMOTEIP=2001:db8::1 TCPREMOTEPORT=5", "2001:db8::1 5 - 0 unknown unknown -" },
	{ "TCP6 alone, without PROTO", "TCP6REMOTEIP=2001:db8::1", "2001:db8::1 0 - 0 unknown unknown -" },
	{ "plain names win under TCP", "PROTO=TCP TCP6REMOTEIP=::1 TCPREMOTEIP=192.0.2.1", "192.0.2.1 0 - 0 unknown unknown -" },
	{ "IPv4 in IPv6 clothes", "TCPREMOTEIP=::ffff:192.0.2.1 TCPLOCALIP=::ffff:192.0.2.2",
	    "192.0.2.1 0 192.0.2.2 0 192.0.2.2 unknown -" },
	{ "an interface", "TCPREMOTEIP=fe80::1%eth0", "fe80::1 0 - 0 unknown unknown -" },
	{ "no address", "TCPREMOTEIP=192.0.2.1x TCPREMOTEPORT=x TCPLOCALPORT=65536", "unknown 0 - 0 unknown unknown -" },
	{ "hostile names", "TCPREMOTEIP=1.2.3.4 TCPREMOTEHOST=a(b)\nc\xc3 TCPREMOTEINFO=x\t<y>", "1.2.3.4 0 - 0 unknown a?b??c? x??y?" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static const char *
or_dash(const char *s)
{
	return *s ? s : "-";
}

static void
peer_row(void **state)
{
	const struct row *row = *state;
	char *variables = strdup(row->variables), *save = NULL, got[1024];
	struct peer p;

	clearenv();
	for (char *s = strtok_r(variables, " ", &save); s; s = strtok_r(NULL, " ", &save))
		putenv(s);
	peer_read(&p);
	snprintf(got, sizeof got, "%s %u %s %u %s %s %s", p.ip, p.port, or_dash(p.local_ip), p.local_port, p.local_host, p.host,
	    or_dash(p.info));
	clearenv();
	free(variables);
	assert_string_equal(got, row->want);
	assert_int_equal(p.is_known, strcmp(p.ip, "unknown") != 0);
}

static void
too_long(void **state)
{
	char host[2000];
	struct peer p;

	(void)state;
	memset(host, 'a', sizeof host - 1);
	host[sizeof host - 1] = '\0';
	setenv("TCPREMOTEHOST", host, 1);
	setenv("TCPREMOTEINFO", host, 1);
	setenv("TCPREMOTEIP", host, 1);
	peer_read(&p);
	assert_int_equal(strlen(p.host), PEER_HOST_MAX - 1);
	assert_int_equal(strlen(p.info), PEER_INFO_MAX - 1);
	assert_int_equal(p.is_known, 0);
	clearenv();
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 1];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = peer_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(too_long);
	return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
