/* Questions about recipients: what is made of each packet, and of a qmail-rcptd that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "bin-src/smtpd/rcptcheck.h"
#include "directory.h"

static struct rcptcheck r;
static int listener, daemon_end;

static int
open_daemon(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = RCPTCHECK_SOCKET };

	(void)state;
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 5), 0);
	rcptcheck_init(&r, -1);
	assert_int_equal(rcptcheck_connect(&r), 1);
	daemon_end = accept(listener, NULL, NULL);
	assert_true(daemon_end >= 0);
	return 0;
}

static int
close_daemon(void **state)
{
	(void)state;
	rcptcheck_close(&r);
	close(daemon_end);
	close(listener);
	return unlink(RCPTCHECK_SOCKET);
}

/* The daemon's packet, said before it was asked: the number of a question is known. */
static void
says(const char *packet, size_t len)
{
	assert_int_equal(send(daemon_end, packet, len, MSG_NOSIGNAL), len);
}
#define SAYS(s) says(s, sizeof s - 1)

static void
questions_and_answers(void **state)
{
	static const char letters[] = "KU?RT";
	char packet[] = "\0\0\0\1Kwhy", said[100];

	(void)state;
	for (size_t i = 0; letters[i]; i++) {
		packet[3] = (char)(i + 1);
		packet[4] = letters[i];
		says(packet, sizeof packet - 1);
		assert_int_equal(rcptcheck_ask(&r, "ann@x.test", 10), letters[i]);
		assert_string_equal(r.text, "why");
		assert_int_equal(recv(daemon_end, said, sizeof said, 0), 14);
		packet[4] = '\0';
		assert_memory_equal(said, packet, 4);
		assert_memory_equal(said + 4, "ann@x.test", 10);
	}
}

static void
an_answer_that_nobody_waits_for(void **state)
{
	(void)state;
	r.number = 6;
	SAYS("\0\0\0\6Uold");
	SAYS("\0\0\0\7Knew");
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_DELIVERS);
	assert_string_equal(r.text, "new");
}

static void
a_text_for_the_log(void **state)
{
	(void)state;
	SAYS("\0\0\0\1Ka\nb\xc3");
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_DELIVERS);
	assert_string_equal(r.text, "a?b?");
	SAYS("\0\0\0\2U");
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_UNKNOWN);
	assert_true(*r.text);
	SAYS("\0\0\0\3U\0b");
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_UNKNOWN);
	assert_string_equal(r.text, "?b");
}

/* len octets of s: no answer. Nobody is refused for it, and nobody is asked again for a while. */
static const struct nonsense { const char *rule, *s; size_t len; } nonsenses[] = {
	{ "no number", "\0\0\0", 3 }, { "no letter", "\0\0\0\1", 4 }, { "no such letter", "\0\0\0\1X", 5 },
	{ "a text that is too long", NULL, 5 + RCPTCHECK_TEXT_MAX + 1 },
};

static void
nonsense_row(void **state)
{
	const struct nonsense *row = *state;
	static char large[5 + RCPTCHECK_TEXT_MAX + 1] = "\0\0\0\1U";

	says(row->s ? row->s : large, row->len);
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_CANNOT_KNOW);
	assert_int_equal(r.fd, -1);
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_CANNOT_KNOW);
	assert_int_equal(r.fd, -1);
}

static void
a_daemon_that_was_started_anew(void **state)
{
	(void)state;
	close(daemon_end);
	/* the new one has not accepted, and has nothing to say */
	assert_int_equal(shutdown(listener, SHUT_RDWR), 0);
	assert_int_equal(rcptcheck_ask(&r, "a", 1), RCPT_CANNOT_KNOW);
	daemon_end = dup(listener);
}

static void
no_daemon(void **state)
{
	struct rcptcheck none;

	(void)state;
	rcptcheck_init(&none, -1);
	assert_int_equal(rcptcheck_connect(&none), 0);
	assert_int_equal(rcptcheck_ask(&none, "a", 1), RCPT_CANNOT_KNOW);
	assert_true(none.not_before > 0 && *none.text);
}

static void
addresses_that_are_not_asked_about(void **state)
{
	static char large[RCPTCHECK_ADDRESS_MAX + 1];

	(void)state;
	memset(large, 'a', sizeof large);
	assert_int_equal(rcptcheck_ask(&r, "", 0), RCPT_CANNOT_KNOW);
	assert_int_equal(rcptcheck_ask(&r, "a\0b", 3), RCPT_CANNOT_KNOW);
	assert_int_equal(rcptcheck_ask(&r, large, sizeof large), RCPT_CANNOT_KNOW);
	assert_int_equal(r.number, 0);
}

static int
set_up(void **state)
{
	PROG = "rcptcheck";
	if (directory_make(state))
		return -1;
	assert_int_equal(mkdir("run", 0700), 0);
	return mkdir("run/qmail-rcptd", 0700);	/* of RCPTCHECK_SOCKET */
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_daemon, close_daemon)
	enum { ROWS = sizeof nonsenses / sizeof *nonsenses };
	const struct CMUnitTest others[] = {
		TEST(questions_and_answers), TEST(an_answer_that_nobody_waits_for), TEST(a_text_for_the_log),
		TEST(a_daemon_that_was_started_anew), TEST(addresses_that_are_not_asked_about), cmocka_unit_test(no_daemon),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ nonsenses[i].rule, nonsense_row, open_daemon, close_daemon, (void *)(uintptr_t)&nonsenses[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("rcptcheck", tests, set_up, directory_remove);
}
