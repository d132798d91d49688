/* The server's side of the TLS engine: what is made of each packet, and of an engine that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "directory.h"
#include "service_socket.h"
#include "tls_engine.h"

static struct tls_engine t;
static int listener, connection[2];
static pid_t engine;

static int
set_up(void **state)
{
	directory_make(state);
	if (mkdir("run", 0755) < 0)
		return 1;
	listener = service_socket_listen(TLS_ENGINE_SOCKET);
	return listener < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection) < 0;
}

static int
tear_down(void **state)
{
	close(listener);
	close(connection[0]);
	close(connection[1]);
	return directory_remove(state);
}

/* A packet that the engine sends; len 0: none, it closes. */
struct packet { const char *s; size_t len; int with_descriptor; };
#define PACKET(s) { (s), sizeof (s) - 1, 0 }
#define PACKET_WITH_PLAIN(s) { (s), sizeof (s) - 1, 1 }

/* An engine in a process of its own: it greets, takes a request, which has to be wanted, answers, and says how it ended. */
static void
start_engine(struct packet greeting, const char *wanted, size_t wanted_len, struct packet answer, struct packet end)
{
	const struct packet packets[] = { greeting, answer, end };
	char got[TLS_ENGINE_PACKET_MAX];
	int fd, passed = -1;

	fflush(NULL);
	engine = fork();
	if (engine)
		return;
	while ((fd = accept(listener, NULL, NULL)) < 0)
		;
	for (int i = 0; i < 3 && packets[i].len; i++) {
		struct iovec v = { (void *)(uintptr_t)packets[i].s, packets[i].len };

		if (i == 1 && (!service_socket_wait(fd, UINT64_MAX) || service_socket_receive(fd, got, sizeof got, &passed) != (ssize_t)wanted_len ||
		    memcmp(got, wanted, wanted_len) != 0 || passed < 0))
			_exit(1);
		if (!service_socket_send(fd, &v, 1, packets[i].with_descriptor ? passed : -1))
			_exit(1);
	}
	_exit(0);
}

static void
engine_was_content(void)
{
	int status;

	assert_int_equal(waitpid(engine, &status, 0), engine);
	assert_int_equal(status, 0);
}

static const struct packet none = { "", 0, 0 }, ready = PACKET("R");

static void
all_goes_well(void **state)
{
	static const char *const alpn[] = { "smtp", "x", NULL };
	struct packet answer = PACKET_WITH_PLAIN("KSSL_PROTOCOL=TLSv1.2\0SSL_CIPHER=TLS_X\0OTHER=1\0SSL_TLS_SNI_SERVERNAME=mail.example\0SSL_ALPN=smtp\0");
	struct packet end = PACKET("C");
	int plain;

	(void)state;
	start_engine(ready, "SALPN=smtp\0ALPN=x\0", 18, answer, end);
	assert_int_equal(tls_engine_reach(&t, -1), 1);
	plain = tls_engine_start(&t, connection[0], alpn);
	assert_true(plain > 2);
	assert_int_equal(fcntl(plain, F_GETFL) & O_NONBLOCK, 0);
	assert_string_equal(t.protocol, "TLSv1.2");
	assert_string_equal(t.cipher, "TLS_X");
	assert_string_equal(t.host, "mail.example");
	assert_string_equal(t.alpn, "smtp");
	engine_was_content();
	assert_int_equal(tls_engine_end(&t), TLS_ENGINE_CLOSED);
	assert_int_equal(tls_engine_end(&t), TLS_ENGINE_GONE);
	close(plain);
	tls_engine_close(&t);
	assert_int_equal(t.control, -1);
}

static void
what_the_client_says_is_cleaned(void **state)
{
	struct packet answer = PACKET_WITH_PLAIN("KSSL_TLS_SNI_SERVERNAME=a\\b c\n(d)\xff\0SSL_CIPHER\0=x\0SSL_PROTOCOL=0123456789abcdefghij\0SSL_ALPN=not ended");
	struct packet end = PACKET("Xit\nbroke");
	int plain;

	(void)state;
	start_engine(ready, "S", 1, answer, end);
	assert_int_equal(tls_engine_reach(&t, -1), 1);
	plain = tls_engine_start(&t, connection[0], NULL);
	assert_true(plain > 2);
	assert_string_equal(t.host, "a?b?c??d??");
	assert_string_equal(t.cipher, "unknown");
	assert_string_equal(t.protocol, "0123456789abcde");
	assert_string_equal(t.alpn, "");
	engine_was_content();
	assert_int_equal(tls_engine_end(&t), TLS_ENGINE_BROKEN);
	assert_string_equal(t.text, "it?broke");
	close(plain);
	tls_engine_close(&t);
}

/* The plain end is found above 2 whatever is closed. */
static void
low_descriptors_are_left_alone(void **state)
{
	struct packet answer = PACKET_WITH_PLAIN("K");
	int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10), plain;

	(void)state;
	start_engine(ready, "S", 1, answer, none);
	assert_int_equal(tls_engine_reach(&t, -1), 1);
	close(STDIN_FILENO);
	plain = tls_engine_start(&t, connection[0], NULL);
	assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
	dup2(in, STDIN_FILENO);
	close(in);
	assert_true(plain > 2);
	engine_was_content();
	assert_int_equal(tls_engine_end(&t), TLS_ENGINE_GONE);
	close(plain);
	tls_engine_close(&t);
}

static void
an_engine_that_cannot_serve(void **state)
{
	static const struct { struct packet greeting; const char *text; } rows[] = {
		{ PACKET("Bbusy"), "busy" }, { PACKET("B"), "" }, { PACKET("RR"), "R" }, { PACKET("Kx"), "x" },
		{ { "", 0, 0 }, "the TLS engine does not answer: Connection reset by peer" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		start_engine(rows[i].greeting, "", 0, none, none);
		assert_int_equal(tls_engine_reach(&t, -1), 0);
		assert_string_equal(t.text, rows[i].text);
		assert_int_equal(t.control, -1);
		engine_was_content();
	}
}

static void
a_handshake_that_fails(void **state)
{
	static const struct { struct packet answer; const char *text; } rows[] = {
		{ PACKET("Ewhy\x1b"), "why?" }, { PACKET("Tthis machine"), "this machine" }, { PACKET("Kno descriptor"), "no descriptor" },
		{ PACKET_WITH_PLAIN("Enot wanted"), "not wanted" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		start_engine(ready, "S", 1, rows[i].answer, none);
		assert_int_equal(tls_engine_reach(&t, -1), 1);
		assert_int_equal(tls_engine_start(&t, connection[0], NULL), -1);
		assert_string_equal(t.text, rows[i].text);
		assert_int_equal(t.control, -1);
		engine_was_content();
	}
}

static void
an_engine_that_is_killed(void **state)
{
	(void)state;
	start_engine(ready, "", 0, none, none);
	assert_int_equal(tls_engine_reach(&t, -1), 1);
	engine_was_content();
	assert_int_equal(tls_engine_start(&t, connection[0], NULL), -1);
	assert_int_equal(t.control, -1);
	assert_non_null(strstr(t.text, "the TLS engine: "));
}

static void
nobody_listens(void **state)
{
	(void)state;
	close(listener);
	assert_int_equal(tls_engine_reach(&t, -1), 0);
	assert_string_equal(t.text, "unable to reach the TLS engine: Connection refused");
	assert_int_equal(t.control, -1);
	assert_int_equal(tls_engine_end(&t), TLS_ENGINE_GONE);
	listener = -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_goes_well),
		cmocka_unit_test(what_the_client_says_is_cleaned),
		cmocka_unit_test(low_descriptors_are_left_alone),
		cmocka_unit_test(an_engine_that_cannot_serve),
		cmocka_unit_test(a_handshake_that_fails),
		cmocka_unit_test(an_engine_that_is_killed),
		cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests_name("tls_engine", tests, set_up, tear_down);
}
