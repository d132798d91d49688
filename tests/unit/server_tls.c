/* Who does the TLS of a connection, and what becomes of descriptors 0 and 1. The engine's own protocol is tls_engine's to test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "server_tls.h"
#include "service_socket.h"

static struct server_tls t;
static int kept[2];	/* the test's own 0 and 1 */

/* --- an engine ------------------------------------------------------------------------------------------------------------ */

static struct { int is_ready, plain, connection; enum tls_engine_end end; } engine;

int __wrap_tls_engine_reach(struct tls_engine *e, int home);
int __wrap_tls_engine_start(struct tls_engine *e, int connection, const char *const *alpn);
enum tls_engine_end __wrap_tls_engine_end(struct tls_engine *e);

int
__wrap_tls_engine_reach(struct tls_engine *e, int home)
{
	(void)home;
	strcpy(e->text, engine.is_ready ? "" : "busy");
	e->control = engine.is_ready ? fcntl(kept[0], F_DUPFD_CLOEXEC, 20) : -1;
	return engine.is_ready;
}

int
__wrap_tls_engine_start(struct tls_engine *e, int connection, const char *const *alpn)
{
	(void)alpn;
	engine.connection = connection;
	if (engine.plain < 0)
		strcpy(e->text, "too slow");
	return engine.plain;
}

enum tls_engine_end
__wrap_tls_engine_end(struct tls_engine *e)
{
	strcpy(e->text, "broken");
	return engine.end;
}

/* --- fixtures ------------------------------------------------------------------------------------------------------------- */

static const char *const variables[] = { "UCSPITLS", "DISABLETLS", "SSLCTLFD", "SSLREADFD", "SSLWRITEFD", "SSL_PROTOCOL", "SSL_CIPHER",
	"SSL_TLS_SNI_SERVERNAME" };

static int
set_up(void **state)
{
	kept[0] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	kept[1] = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	return kept[0] < 0 || kept[1] < 0 || directory_make(state) || mkdir("run", 0755) < 0 || mkdir("run/qmail-tlsd", 0755) < 0;
}

/* Puts the test's own descriptors back. */
static void
put_back(void)
{
	fflush(stdout);
	dup2(kept[0], STDIN_FILENO);
	dup2(kept[1], STDOUT_FILENO);
}

static int
begin(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	engine.is_ready = 1;
	engine.plain = engine.connection = -1;
	unlink(TLS_ENGINE_SOCKET);
	fflush(stdout);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	put_back();
	return 0;
}

static void
set_descriptor(const char *variable, int fd)
{
	char text[16];

	snprintf(text, sizeof text, "%d", fd);
	setenv(variable, text, 1);
}

static int
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* What an octet that is written to fd arrives as at to, 0 none. */
static char
passes(int fd, int to)
{
	char c = 0;

	return write(fd, "x", 1) == 1 && recv(to, &c, 1, MSG_DONTWAIT) == 1 ? c : 0;
}

/* --- who does it --------------------------------------------------------------------------------------------------------------- */

enum { ENGINE = 1 << 0, ACCEPTS = 1 << 1, PIPES = 1 << 2, DESCRIPTORS = 1 << 3, BAD_DESCRIPTORS = 1 << 4, DONE = 1 << 5, DISABLED = 1 << 6, REFUSES = 1 << 7 };

static const struct row { const char *rule; unsigned int has; const char *ucspitls; enum server_tls_by by; int is_required, is_on; } rows[] = {
	{ "nobody", 0, NULL, SERVER_TLS_NOBODY, 0, 0 },
	{ "the engine", ENGINE, NULL, SERVER_TLS_ENGINE, 0, 0 },
	{ "the engine, where the program accepts", ENGINE | ACCEPTS, NULL, SERVER_TLS_ENGINE, 0, 0 },
	{ "not the engine behind pipes", ENGINE | PIPES, NULL, SERVER_TLS_NOBODY, 0, 0 },
	{ "not an engine that does not serve this user", ENGINE | REFUSES, NULL, SERVER_TLS_NOBODY, 0, 0 },
	{ "it is not asked where the program accepts", ENGINE | REFUSES | ACCEPTS, NULL, SERVER_TLS_ENGINE, 0, 0 },
	{ "UCSPITLS offers", ENGINE, "", SERVER_TLS_ENGINE, 0, 0 },
	{ "UCSPITLS switches off", ENGINE, "-", SERVER_TLS_NOBODY, 0, 0 },
	{ "UCSPITLS requires", ENGINE, "!", SERVER_TLS_ENGINE, 1, 0 },
	{ "what is required may not be there", 0, "!", SERVER_TLS_NOBODY, 1, 0 },
	{ "DISABLETLS", ENGINE | DISABLED, "", SERVER_TLS_NOBODY, 0, 0 },
	{ "UCSPI-TLS", DESCRIPTORS, "", SERVER_TLS_UCSPI, 0, 0 },
	{ "UCSPI-TLS, client certificates", DESCRIPTORS, "?", SERVER_TLS_UCSPI, 0, 0 },
	{ "UCSPI-TLS is required", DESCRIPTORS, "!", SERVER_TLS_UCSPI, 1, 0 },
	{ "UCSPI-TLS before the engine", DESCRIPTORS | ENGINE, "", SERVER_TLS_UCSPI, 0, 0 },
	{ "UCSPI-TLS without UCSPITLS", DESCRIPTORS | ENGINE, NULL, SERVER_TLS_NOBODY, 0, 0 },
	{ "UCSPI-TLS switched off", DESCRIPTORS | ENGINE, "-", SERVER_TLS_NOBODY, 0, 0 },
	{ "UCSPI-TLS with DISABLETLS", DESCRIPTORS | DISABLED, "", SERVER_TLS_NOBODY, 0, 0 },
	{ "descriptors that are none", BAD_DESCRIPTORS | ENGINE, "", SERVER_TLS_NOBODY, 0, 0 },
	{ "no UCSPI-TLS where the program accepts", DESCRIPTORS | ENGINE | ACCEPTS, "", SERVER_TLS_ENGINE, 0, 0 },
	{ "it is done already", DONE | ENGINE, NULL, SERVER_TLS_NOBODY, 0, 1 },
	{ "it is done already, and required", DONE, "!", SERVER_TLS_NOBODY, 1, 1 },
	{ "it cannot be done where the program accepts", DONE | ACCEPTS, NULL, SERVER_TLS_NOBODY, 0, 0 },
	{ "UCSPI-TLS that knows the variables already", DONE | DESCRIPTORS, "", SERVER_TLS_UCSPI, 0, 0 },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
set_environment(const struct row *row)
{
	if (row->ucspitls)
		setenv("UCSPITLS", row->ucspitls, 1);
	if (row->has & DISABLED)
		setenv("DISABLETLS", "1", 1);
	if (row->has & DONE) {
		setenv("SSL_PROTOCOL", "TLSv1.3", 1);
		setenv("SSL_CIPHER", "TLS\nX", 1);
	}
	if (row->has & (DESCRIPTORS | BAD_DESCRIPTORS)) {
		set_descriptor("SSLCTLFD", kept[0]);
		set_descriptor("SSLREADFD", kept[0]);
		set_descriptor("SSLWRITEFD", row->has & BAD_DESCRIPTORS ? 9999 : kept[1]);
	}
}

static void
found_as_the_row_says(void **state)
{
	const struct row *row = *state;
	int listener = row->has & ENGINE ? service_socket_listen(TLS_ENGINE_SOCKET) : -1, pair[2], in_out[2];

	assert_int_equal(pipe2(in_out, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	set_environment(row);
	engine.is_ready = !(row->has & REFUSES);
	dup2(row->has & PIPES ? in_out[0] : pair[0], STDIN_FILENO);
	dup2(row->has & PIPES ? in_out[1] : pair[0], STDOUT_FILENO);
	server_tls_find(&t, (row->has & ACCEPTS) != 0);
	put_back();
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(in_out[i]);
	}
	close(listener);
	assert_int_equal(t.by, row->by);
	assert_string_equal(t.text, (row->has & (REFUSES | ACCEPTS)) == REFUSES ? "no TLS is offered: busy" : "");
	assert_int_equal(t.is_required, row->is_required);
	assert_int_equal(t.is_on, row->is_on);
	assert_int_equal(server_tls_is_offered(&t), row->by != SERVER_TLS_NOBODY);
	if (row->is_on)
		assert_string_equal(t.engine.cipher, "TLS?X");
}

/* Numbers that are none, too large, or those of the connection itself. */
static void
odd_descriptors(void **state)
{
	static const char *const odd[] = { "", "x", "-1", "0", "2", "11x", " 11", "99999999999999999999", "4294967307" };

	(void)state;
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		set_environment(&(struct row){ .has = DESCRIPTORS, .ucspitls = "" });
		setenv("SSLCTLFD", odd[i], 1);
		server_tls_find(&t, 0);
		assert_int_equal(t.by, SERVER_TLS_NOBODY);
	}
}

/* --- the engine ------------------------------------------------------------------------------------------------------------------ */

static void
the_plain_end_takes_the_place_of_0_and_1(void **state)
{
	int pair[2], in, out;
	char there;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	t = (struct server_tls){ .by = SERVER_TLS_ENGINE, .engine.control = -1 };
	engine.plain = pair[0];
	assert_true(server_tls_is_offered(&t));
	assert_int_equal(server_tls_reach(&t), 1);
	in = server_tls_start(&t, NULL);
	there = passes(STDOUT_FILENO, pair[1]);
	out = passes(STDIN_FILENO, pair[1]);
	put_back();
	assert_int_equal(in, 1);
	assert_int_equal(there, 'x');
	assert_int_equal(out, 'x');
	assert_int_equal(engine.connection, STDIN_FILENO);
	assert_false(is_open(pair[0]));
	assert_false(server_tls_is_offered(&t));
	close(pair[1]);

	engine.end = TLS_ENGINE_CLOSED;
	assert_string_equal(server_tls_end(&t), "");
	engine.end = TLS_ENGINE_BROKEN;
	assert_string_equal(server_tls_end(&t), "TLS ended: broken");
	tls_engine_close(&t.engine);
	assert_string_equal(server_tls_end(&t), "");
}

static void
where_the_handshake_fails_both_are_closed(void **state)
{
	int r, in, out;

	(void)state;
	t = (struct server_tls){ .by = SERVER_TLS_ENGINE, .engine.control = -1 };
	r = server_tls_start(&t, NULL);
	in = is_open(STDIN_FILENO);
	out = is_open(STDOUT_FILENO);
	put_back();
	assert_false(r || in || out || t.is_on);
	assert_string_equal(t.text, "no TLS: too slow");
}

static void
what_cannot_be_reached(void **state)
{
	(void)state;
	engine.is_ready = 0;
	t = (struct server_tls){ .by = SERVER_TLS_ENGINE, .engine.control = -1 };
	assert_int_equal(server_tls_reach(&t), 0);
	assert_string_equal(t.text, "no TLS: busy");
	t.by = SERVER_TLS_NOBODY;
	assert_int_equal(server_tls_reach(&t), 0);
	assert_string_equal(t.text, "no TLS: there is no engine");
	assert_true(is_open(STDIN_FILENO) && is_open(STDOUT_FILENO));
}

/* --- UCSPI-TLS ------------------------------------------------------------------------------------------------------------------- */

static int control, in, out;	/* the server's ends */

static void
ask_ucspi(void)
{
	int pairs[3][2];

	for (int i = 0; i < 3; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
	set_descriptor("SSLCTLFD", pairs[0][0]);
	set_descriptor("SSLREADFD", pairs[1][0]);
	set_descriptor("SSLWRITEFD", pairs[2][0]);
	setenv("UCSPITLS", "", 1);
	server_tls_find(&t, 0);
	assert_int_equal(t.by, SERVER_TLS_UCSPI);
	control = pairs[0][1];
	in = pairs[1][1];
	out = pairs[2][1];
}

static void
close_ucspi(void)
{
	close(control);
	close(in);
	close(out);
}

static void
a_UCSPI_TLS_server(void **state)
{
	static const struct { const char *s; size_t len; const char *protocol, *cipher, *host; } answers[] = {
#define ANSWER(s) s, sizeof (s) - 1
		{ ANSWER("SSL_PROTOCOL=TLSv1.3\0SSL_CIPHER=TLS_X\0OTHER=\0SSL_TLS_SNI_SERVERNAME=a\\b\0\0"), "TLSv1.3", "TLS_X", "a?b" },
		{ ANSWER("\0\0"), "TLS", "unknown", "" },
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char asked = 0, read = 0, written;
		int r;

		ask_ucspi();
		assert_int_equal(server_tls_reach(&t), 1);
		assert_int_equal(write(control, answers[i].s, answers[i].len), answers[i].len);
		r = server_tls_start(&t, NULL);
		written = passes(STDOUT_FILENO, out);
		if (write(in, "r", 1) == 1)
			recv(STDIN_FILENO, &read, 1, MSG_DONTWAIT);
		put_back();
		assert_int_equal(r, 1);
		assert_int_equal(written, 'x');
		assert_int_equal(read, 'r');
		assert_int_equal(recv(control, &asked, 1, MSG_DONTWAIT), 1);
		assert_int_equal(asked, 'Y');
		assert_string_equal(t.engine.protocol, answers[i].protocol);
		assert_string_equal(t.engine.cipher, answers[i].cipher);
		assert_string_equal(t.engine.host, answers[i].host);
		assert_false(is_open(t.in) || is_open(t.out) || t.control >= 0);
		assert_string_equal(server_tls_end(&t), "");
		close_ucspi();
	}
}

static void
fails(const char *answer, size_t len, const char *text)
{
	int r, is_left;

	ask_ucspi();
	assert_int_equal(send(control, answer, len, 0), len);
	shutdown(control, SHUT_WR);
	r = server_tls_start(&t, NULL);
	is_left = is_open(STDIN_FILENO) || is_open(STDOUT_FILENO);
	put_back();
	assert_false(r || is_left || t.is_on);
	assert_string_equal(t.text, text);
	close(t.control);
	close(t.in);
	close(t.out);
	close_ucspi();
}

static void
a_UCSPI_TLS_server_that_does_no_handshake(void **state)
{
	static char endless[SERVER_TLS_VARIABLES_MAX];

	(void)state;
	fails("", 0, "no TLS: the UCSPI-TLS server: Connection reset by peer");
	fails("\0", 1, "no TLS: the UCSPI-TLS server: Connection reset by peer");
	fails("SSL_PROTOCOL=x", 15, "no TLS: the UCSPI-TLS server: Connection reset by peer");
	memset(endless, 'x', sizeof endless);
	fails(endless, sizeof endless, "no TLS: the UCSPI-TLS server: Message too long");
}

int
main(void)
{
	const struct CMUnitTest others[] = {
		cmocka_unit_test_setup_teardown(odd_descriptors, begin, end),
		cmocka_unit_test_setup_teardown(the_plain_end_takes_the_place_of_0_and_1, begin, end),
		cmocka_unit_test_setup_teardown(where_the_handshake_fails_both_are_closed, begin, end),
		cmocka_unit_test_setup_teardown(what_cannot_be_reached, begin, end),
		cmocka_unit_test_setup_teardown(a_UCSPI_TLS_server, begin, end),
		cmocka_unit_test_setup_teardown(a_UCSPI_TLS_server_that_does_no_handshake, begin, end),
	};
	enum { OTHERS = sizeof others / sizeof *others };
	struct CMUnitTest tests[ROWS + OTHERS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = found_as_the_row_says, .setup_func = begin,
		    .teardown_func = end, .initial_state = (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("server_tls", tests, set_up, directory_remove);
}
