/* A message over the session that is open or a new one. Where sessions come from is said here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/remote/relay.h"
#include "server.h"
#include "stralloc_set.h"

#define OK "250 ok\r\n"
#define TAKES { "DATA\r\n", OK OK "354 go\r\n" }, { "\r\n.\r\n", OK }

/* What each call of dial_host comes to: a server of steps, or a letter and a text. */
struct dialled { char letter; const char *text; const struct server_step *steps; };

static const struct dialled *next;
static unsigned int dials;
static unsigned int messages, messages_max, recipients_max;	/* of each new session */
static stralloc told;	/* by all sessions */

static void
note_server(void)
{
	const char *s = server_end();

	assert_true(stralloc_cats(&told, s ? s : ""));
}

char
dial_host(struct dial *d, const char *host, struct session *s, stralloc *text)
{
	const struct dialled *this = next++;

	(void)d;
	assert_string_equal(host, "x.test");
	dials++;
	text->len = 0;
	if (this->letter != 'K') {
		assert_true(stralloc_cats(text, this->text));
		return this->letter;
	}
	note_server();
	connection_init(&s->connection, server_start(this->steps));
	strcpy(s->host, "192.0.2.1");
	s->timeout = 20;
	s->extensions = SESSION_PIPELINING;
	s->size_max = 0;
	s->messages = messages;
	s->messages_max = messages_max;
	s->recipients_max = recipients_max;
	s->needs_reset = 0;
	return 'K';
}

static struct relay relay;
static struct mail_data data;
static const struct transaction_recipient addresses[] = { { .address = "a@x.test" }, { .address = "b@x.test" }, { .address = "c@x.test" } };

static int
set_up(void **state)
{
	(void)state;
	relay = (struct relay){ .dial = NULL };
	relay_init(&relay, NULL);
	dials = messages = messages_max = 0;
	recipients_max = SESSION_RECIPIENTS_MAX;
	mail_data_init(&data, "hello\n", -1, 6);
	return !stralloc_sets(&told, "");
}

static int
tear_down(void **state)
{
	(void)state;
	connection_close(&relay.session.connection);
	server_end();
	report_free(&relay.report);
	stralloc_free(&relay.text);
	stralloc_free(&told);
	mail_data_free(&data);
	return 0;
}

static void
relays_to(unsigned int recipients, const struct dialled *dialled)
{
	const struct transaction t = { .sender = "s@x.test", .recipients = addresses, .data = &data, .report = &relay.report };

	next = dialled;
	assert_int_equal(report_begin(&relay.report, recipients), 1);
	relay_message(&relay, "x.test", &t);
}

static void
expect(unsigned int n, const char *want)
{
	stralloc text = STRALLOC_ZERO;
	char letter = report_outcome(&relay.report, n, &text);

	assert_true(stralloc_0(&text));
	if (letter != want[0] || !strstr(text.s, want + 2))
		fail_msg("recipient %u: %c %s, not %s", n, letter, text.s, want);
	stralloc_free(&text);
}

static void
a_session_that_can_be_used_stays_open_for_the_next(void **state)
{
	static const struct server_step takes_two[] = { TAKES, TAKES, { 0 } };
	static const struct dialled once[] = { { 'K', NULL, takes_two } };

	(void)state;
	relays_to(1, once);
	expect(0, "K accepted");
	assert_true(session_is_usable(&relay.session));
	relays_to(1, NULL);
	expect(0, "K accepted");
	assert_int_equal(dials, 1);
}

static void
a_session_that_takes_no_more_is_closed(void **state)
{
	static const struct server_step takes_one[] = { TAKES, { 0 } };
	static const struct dialled once[] = { { 'K', NULL, takes_one } };

	(void)state;
	messages_max = 1;
	relays_to(1, once);
	expect(0, "K accepted");
	assert_int_equal(relay.session.connection.fd, -1);
	note_server();
	assert_non_null(strstr(told.s, "\r\n.\r\nQUIT\r\n"));
}

static void
a_kept_session_that_has_ended_does_the_message_no_harm(void **state)
{
	static const struct server_step takes_one[] = { TAKES, { "", NULL } }, takes_another[] = { TAKES, { 0 } };
	static const struct dialled first[] = { { 'K', NULL, takes_one } }, second[] = { { 'K', NULL, takes_another } };

	(void)state;
	relays_to(1, first);
	server_end();	/* it has closed, which nobody has seen yet */
	relays_to(1, second);
	expect(0, "K accepted");
	assert_int_equal(dials, 2);
}

static void
a_new_session_for_those_whom_the_last_one_did_not_ask_for(void **state)
{
	static const struct server_step takes_one[] = { TAKES, { 0 } }, refuses[] = { { "DATA\r\n", OK "550 no\r\n" "503 no\r\n" }, { 0 } };
	static const struct dialled three[] = { { 'K', NULL, takes_one }, { 'K', NULL, refuses }, { 'K', NULL, takes_one } };

	(void)state;
	messages_max = recipients_max = 1;
	relays_to(3, three);
	expect(0, "K accepted");
	expect(1, "D 550 no");
	expect(2, "K accepted");
	assert_int_equal(dials, 3);
}

static void
a_host_that_is_lost_in_between_defers_only_who_is_left(void **state)
{
	static const struct server_step takes_one[] = { TAKES, { 0 } };
	static const struct dialled two[] = { { 'K', NULL, takes_one }, { 'Z', "No connection. (#4.4.1)\n", NULL } };

	(void)state;
	messages_max = recipients_max = 1;
	relays_to(2, two);
	expect(0, "K accepted");
	expect(1, "Z No connection. (#4.4.1)");
}

static void
what_the_DNS_says_for_good_is_so_for_all(void **state)
{
	static const struct dialled once[] = { { 'D', "Sorry, no such host. (#5.1.2)\n", NULL } };

	(void)state;
	relays_to(2, once);
	expect(0, "D no such host");
	expect(1, "D no such host");
	assert_int_equal(relay.session.connection.fd, -1);
}

static void
a_message_that_cannot_be_read_is_deferred_without_a_session(void **state)
{
	(void)state;
	mail_data_init(&data, NULL, -1, 6);
	relays_to(2, NULL);
	expect(0, "Z Unable to read the message. (#4.3.0)");
	expect(1, "Z Unable to read the message");
	assert_int_equal(dials, 0);
}

/* As if each of them had been used before. */
static void
sessions_that_end_one_after_another_are_bounded(void **state)
{
	static const struct server_step closes[] = { { "DATA\r\n", NULL } };
	static const struct dialled many[] = { { 'K', NULL, closes }, { 'K', NULL, closes }, { 'K', NULL, closes }, { 'K', NULL, closes },
		{ 'K', NULL, closes } };

	(void)state;
	messages = 1;
	relays_to(2, many);
	expect(0, "Z ended one session after the other. (#4.4.2)");
	expect(1, "Z ended one session after the other");
	assert_in_range(dials, 2, 4);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_session_that_can_be_used_stays_open_for_the_next), TEST(a_session_that_takes_no_more_is_closed),
		TEST(a_kept_session_that_has_ended_does_the_message_no_harm), TEST(a_new_session_for_those_whom_the_last_one_did_not_ask_for),
		TEST(a_host_that_is_lost_in_between_defers_only_who_is_left), TEST(what_the_DNS_says_for_good_is_so_for_all),
		TEST(a_message_that_cannot_be_read_is_deferred_without_a_session), TEST(sessions_that_end_one_after_another_are_bounded),
	};

	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
