/* The network server's side of the login keeper: what it sends, and what is made of each answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "directory.h"
#include "login_client.h"
#include "service_socket.h"

static int listener;
static pid_t keeper;

static int
set_up(void **state)
{
	directory_make(state);
	clearenv();
	if (mkdir("run", 0755) < 0)
		return 1;
	listener = service_socket_listen(LOGIN_SOCKET);
	return listener < 0;
}

static int
tear_down(void **state)
{
	if (listener >= 0)
		close(listener);
	return directory_remove(state);
}

/* A keeper in a process of its own: it takes one packet, which has to be wanted, and sends an answer (len 0: it closes). */
static void
start_keeper(const char *wanted, size_t wanted_len, int with_descriptor, const char *answer, size_t len)
{
	char got[LOGIN_PACKET_MAX];
	int fd, passed = -1;

	keeper = fork();
	if (keeper)
		return;
	while ((fd = accept(listener, NULL, NULL)) < 0)
		;
	if (!service_socket_wait(fd, UINT64_MAX) || service_socket_receive(fd, got, sizeof got, &passed) != (ssize_t)wanted_len ||
	    memcmp(got, wanted, wanted_len) != 0 || (passed >= 0) != with_descriptor)
		_exit(1);
	_exit(len && !service_socket_send(fd, &(struct iovec){ (void *)(uintptr_t)answer, len }, 1, -1));
}

static void
keeper_was_content(void)
{
	int status;

	assert_int_equal(waitpid(keeper, &status, 0), keeper);
	assert_int_equal(status, 0);
}

#define OCTETS(s) s, sizeof s - 1

static const struct row { const char *rule, *answer; size_t len; enum login_client_answer want; const char *account, *text; } rows[] = {
	{ "right", OCTETS("Kana@shop.example"), LOGIN_CLIENT_RIGHT, "ana@shop.example", "" },
	{ "wrong", OCTETS("N"), LOGIN_CLIENT_WRONG, "", "" },
	{ "unknown", OCTETS("Tnot\nnow"), LOGIN_CLIENT_UNKNOWN, "", "not?now" },
	{ "right, without an account", OCTETS("K"), LOGIN_CLIENT_UNKNOWN, "", "" },
	{ "an account with a blank", OCTETS("Ka b"), LOGIN_CLIENT_UNKNOWN, "", "" },
	{ "another letter", OCTETS("Xa"), LOGIN_CLIENT_UNKNOWN, "", "" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
answer_row(void **state)
{
	const struct row *row = &rows[*(const size_t *)*state];
	struct login_client c;

	start_keeper(OCTETS("Cana\0x\0\0"), 0, row->answer, row->len);
	assert_int_equal(login_client_check(&c, -1, "ana", "x", "", -1), row->want);
	assert_string_equal(c.account, row->account);
	assert_string_equal(c.text, row->text);
	assert_int_equal(c.control, -1);
	keeper_was_content();
}

static size_t row_number;

static int
next_row(void **state)
{
	int r = set_up(state);

	*state = &row_number;
	return r;
}

static int
row_is_over(void **state)
{
	row_number++;
	return tear_down(state);
}

/* Variables that are not fine stay behind. */
static void
a_session(void **state)
{
	struct login_client c;
	int connection[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, connection), 0);
	setenv("TCPREMOTEIP", "192.0.2.1", 1);
	setenv("PROTO", "TCP", 1);
	setenv("TCPREMOTEHOST", "a b", 1);
	setenv("SSL_CIPHER", "", 1);
	setenv("PATH", "/bin", 1);
	start_keeper(OCTETS("Sana\0x\0<1>\0PROTO=TCP\0TCPREMOTEIP=192.0.2.1\0"), 1, OCTETS("Kana"));
	assert_int_equal(login_client_session(&c, -1, connection[0], "ana", "x", "<1>"), LOGIN_CLIENT_RIGHT);
	assert_string_equal(c.account, "ana");
	assert_true(c.control >= 0);
	login_client_await_end(&c);
	assert_int_equal(c.control, -1);
	keeper_was_content();
	close(connection[0]);
	close(connection[1]);
}

/* A check lends a connection to who is told of the account. */
static void
a_check_that_somebody_is_told_of(void **state)
{
	struct login_client c;
	int told[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, told), 0);
	start_keeper(OCTETS("Cana\0x\0\0"), 1, OCTETS("Kana"));
	assert_int_equal(login_client_check(&c, -1, "ana", "x", "", told[0]), LOGIN_CLIENT_RIGHT);
	keeper_was_content();
	assert_int_equal(close(told[0]), 0);	/* it stayed ours */
	close(told[1]);
}

static void
nobody_answers(void **state)
{
	struct login_client c;

	(void)state;
	start_keeper(OCTETS("Cana\0x\0\0"), 0, OCTETS(""));
	assert_int_equal(login_client_check(&c, -1, "ana", "x", "", -1), LOGIN_CLIENT_UNKNOWN);
	assert_non_null(strstr(c.text, "does not answer"));
	keeper_was_content();
}

static void
nobody_is_there(void **state)
{
	struct login_client c;

	(void)state;
	close(listener);
	listener = -1;
	assert_int_equal(login_client_check(&c, -1, "ana", "x", "", -1), LOGIN_CLIENT_UNKNOWN);
	assert_non_null(strstr(c.text, "unable to reach qmail-authd"));
}

int
main(void)
{
	struct CMUnitTest tests[ROWS + 4];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = answer_row, .setup_func = next_row, .teardown_func = row_is_over };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(a_session, set_up, tear_down);
	tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(a_check_that_somebody_is_told_of, set_up, tear_down);
	tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(nobody_answers, set_up, tear_down);
	tests[ROWS + 3] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(nobody_is_there, set_up, tear_down);
	return cmocka_run_group_tests_name("login_client", tests, NULL, NULL);
}
