/* Whether a recipient is taken: one check after the other, and what is made of each that cannot know. RCPTCHECK is a script, and
 * qmail-rcptd is this test. */
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
#include <skalibs/uint32.h>
#include "directory.h"
#include "smtpd.h"
#include "stralloc_set.h"

static int rcptd = -1;

static int
begin(void **state)
{
	smtpd_begin(state);
	smtpd->is_extended = smtpd->reply.is_extended = 1;
	smtpd->phase = PHASE_SENDER;
	return !stralloc_sets(&smtpd->mail.sender, "s@x.test") || !stralloc_0(&smtpd->mail.sender);
}

static int
end(void **state)
{
	static const char *const variables[] = { "RELAYCLIENT", "RBLSMTPD", "RCPTCHECK", "RCPTCHECKRELAYCLIENT", "NOBADHELO" };

	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	if (rcptd >= 0)
		close(rcptd);
	rcptd = -1;
	return smtpd_end(state);
}

/* What is answered; NULL: it is taken. *path is what it has become. */
static const char *
is_refused(const char *address, struct path *path)
{
	static char answer[REPLY_SIZE + 1];
	char text[PATH_ADDRESS_MAX + 3];

	snprintf(text, sizeof text, "<%s>", address);
	assert_int_equal(path_parse(path, text, strlen(text), PATH_FORWARD), PATH_OK);
	smtpd->reply.len = 0;
	if (recipient_is_taken(smtpd, path)) {
		assert_int_equal(smtpd->reply.len, 0);
		return NULL;
	}
	memcpy(answer, smtpd->reply.out, smtpd->reply.len);
	answer[smtpd->reply.len] = '\0';
	assert_non_null(strstr(smtpd_logged(), " command=RCPT "));	/* each refusal is logged */
	return answer;
}

/* want NULL: it is taken. */
static void
expect(const char *address, const char *want)
{
	struct path path;
	const char *got = is_refused(address, &path);

	if (want && got ? strncmp(got, want, strlen(want)) != 0 : want != got)
		fail_msg("%s: %s, not %s", address, got ? got : "taken", want ? want : "taken");
}

static void
expect_taken_as(const char *address, const char *want)
{
	struct path path;

	assert_null(is_refused(address, &path));
	assert_string_equal(path.address, want);
	assert_int_equal(path.len, strlen(want));
}

/* Reads the control files anew. */
static void
read_settings(const char *file, const char *text)
{
	static struct settings new;
	const char *failed;

	directory_write(file, text);
	assert_int_equal(settings_read(&new, &failed), 1);
	assert_int_equal(unlink(file), 0);
	smtpd->settings = &new;
}

/* --- relaying -------------------------------------------------------------------------------------------------------- */

static void
only_our_domains_are_taken(void **state)
{
	(void)state;
	expect("a@me.test", NULL);
	expect("a@ME.test", NULL);
	expect("a", NULL);
	expect("a@y.test", "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n");
	expect("a@me.test.y.test", "553 5.7.1 ");
	expect("a%y.test@me.test", NULL);	/* is ours to look at */
}

static void
a_table_that_is_damaged_is_no_refusal(void **state)
{
	(void)state;
	read_settings("control/rcpthosts", "me.test\n");
	directory_write("control/morercpthosts.cdb", "");
	smtpd->settings->morercpthosts = (struct table){ .fd = open("control/morercpthosts.cdb", O_RDONLY | O_CLOEXEC), .size = 4096 };
	expect("a@me.test", NULL);
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	expect("a@y.test", "421 4.3.0 unable to read controls (#4.3.0)\r\n");
	assert_int_equal(smtpd->end, SESSION_BROKEN);	/* RFC 5321 section 3.8: who says 421 closes */
	assert_string_equal(smtpd->reason, "unable to read controls");
	table_close(&smtpd->settings->morercpthosts);
	unlink("control/morercpthosts.cdb");
}

static void
RELAYCLIENT_stands_behind_each_recipient(void **state)
{
	(void)state;
	smtpd->relayclient = "@via.test";
	expect_taken_as("a@y.test", "a@y.test@via.test");
	smtpd->relayclient = "";
	expect_taken_as("a@y.test", "a@y.test");
}

static void
RELAYCLIENT_has_to_fit(void **state)
{
	char address[PATH_ADDRESS_MAX + 1], suffix[PATH_ADDRESS_MAX];

	(void)state;
	memset(address, 'a', 800);
	strcpy(address + 800, "@y.test");
	memset(suffix, 'x', sizeof suffix);
	suffix[PATH_ADDRESS_MAX - 807] = '\0';
	smtpd->relayclient = suffix;
	expect(address, NULL);
	suffix[PATH_ADDRESS_MAX - 807] = 'x';
	suffix[PATH_ADDRESS_MAX - 806] = '\0';
	expect(address, "555 5.1.3 the address is too long (#5.1.3)\r\n");
}

/* --- address literals -------------------------------------------------------------------------------------------------- */

static void
an_own_address_is_our_host(void **state)
{
	(void)state;
	strcpy(smtpd->peer.local_ip, "192.0.2.99");
	expect_taken_as("a@[192.0.2.99]", "a@me.test");
	expect("a@[192.0.2.98]", "553 5.7.1 ");
	strcpy(smtpd->peer.local_ip, "2001:db8::99");
	expect_taken_as("a@[IPv6:2001:DB8:0::99]", "a@me.test");
	expect("a@[192.0.2.99]", "553 5.7.1 ");
	strcpy(smtpd->peer.local_ip, "");
	expect_taken_as("a@[127.0.0.1]", "a@me.test");
	strcpy(smtpd->peer.local_ip, "192.0.2.99 ");	/* is none */
	expect("a@[192.0.2.99]", "553 5.7.1 ");
}

static void
without_a_name_for_it_an_own_address_stays(void **state)
{
	struct settings nameless = *smtpd->settings;

	(void)state;
	nameless.localiphost.len = 0;
	smtpd->settings = &nameless;
	smtpd->relayclient = "";
	expect_taken_as("a@[127.0.0.1]", "a@[127.0.0.1]");
}

/* --- lists ------------------------------------------------------------------------------------------------------------- */

static void
postmaster_passes_all_but_relaying(void **state)
{
	(void)state;
	read_settings("control/badrcptto", "@me.test\npostmaster\n");
	smtpd->mail.is_bad_sender = 1;
	expect("a@me.test", "553 5.7.1 sorry, your envelope recipient is in my badrcptto list (#5.7.1)\r\n");
	expect("postmaster@me.test", NULL);
	expect("PostMaster", NULL);
	expect("postmaster@y.test", "553 5.7.1 sorry, that domain");
}

static void
a_bad_sender_is_refused_at_each_recipient(void **state)
{
	(void)state;
	smtpd->mail.is_bad_sender = 1;
	expect("a@me.test", "553 5.7.1 sorry, your envelope sender is in my badmailfrom list (#5.7.1)\r\n");
	expect("b@me.test", "553 5.7.1 ");
}

static void
a_bad_name_of_the_client_counts_where_it_counts(void **state)
{
	(void)state;
	read_settings("control/badhelo", "bad.test\n");
	smtpd->checks->helo_counts = 1;
	expect("a@me.test", NULL);	/* it said none */
	assert_true(stralloc_sets(&smtpd->helo, "bad.test") && stralloc_0(&smtpd->helo));
	expect("a@me.test", "553 5.7.1 sorry, your HELO host name is in my badhelo list (#5.7.1)\r\n");
	smtpd->checks->helo_counts = 0;
	expect("a@me.test", NULL);
}

/* --- DNS lists ----------------------------------------------------------------------------------------------------------- */

static void
start_checks(int needs_login)
{
	recipient_checks_end(smtpd->checks);
	memset(smtpd->checks, 0, sizeof *smtpd->checks);
	assert_int_equal(recipient_checks_start(smtpd->checks, &smtpd->peer, needs_login), 1);
	smtpd->checks->accounts.not_before = UINT64_MAX;
}

static void
RBLSMTPD_speaks_for_the_lists(void **state)
{
	(void)state;
	setenv("RBLSMTPD", "wait a bit", 1);
	start_checks(0);
	expect("a@me.test", "451 4.7.1 wait a bit (#4.7.1)\r\n");
	expect("postmaster@me.test", NULL);
	smtpd->relayclient = "";
	expect("a@me.test", NULL);
	smtpd->relayclient = NULL;
	setenv("RBLSMTPD", "-go away", 1);
	start_checks(0);
	expect("a@me.test", "553 5.7.1 go away (#5.7.1)\r\n");
	expect("a@y.test", "553 5.7.1 sorry, that domain");	/* the cheapest first */
}

static void
who_may_relay_is_looked_up_in_no_list(void **state)
{
	(void)state;
	setenv("RELAYCLIENT", "", 1);
	setenv("RBLSMTPD", "-go away", 1);
	start_checks(0);
	assert_null(smtpd->checks->lists);
	unsetenv("RELAYCLIENT");
	start_checks(1);
	assert_null(smtpd->checks->lists);
}

static void
checks_that_were_told_of_a_connection_are_of_that_one(void **state)
{
	(void)state;
	start_checks(0);
	assert_true(recipient_checks_are_reusable(smtpd->checks));
	setenv("RCPTCHECK", "./check", 1);
	setenv("NOBADHELO", "", 1);
	start_checks(0);
	assert_false(recipient_checks_are_reusable(smtpd->checks));
	assert_false(smtpd->checks->helo_counts);
}

/* --- RCPTCHECK ----------------------------------------------------------------------------------------------------------- */

static void
start_program(const char *text)
{
	char script[512];

	snprintf(script, sizeof script, "#!/bin/sh\n%s\n", text);
	directory_write("check", script);
	assert_int_equal(chmod("check", 0700), 0);
	setenv("RCPTCHECK", "./check", 1);
	start_checks(0);
}

/* program: what it does. want: NULL, the recipient is taken. */
static const struct program { const char *rule, *program, *want; } programs[] = {
	{ "it accepts", "exit 0", NULL },
	{ "it has no opinion", "exit 112", NULL },
	{ "it refuses", "exit 100", "550 5.1.1 sorry, no mailbox here by that name (#5.1.1)\r\n" },
	{ "it refuses with a text", "echo full >&4; exit 100", "550 5.1.1 full (#5.1.1)\r\n" },
	{ "a code of its own", "echo '552 full' >&4; exit 100", "552 5.1.1 full (#5.1.1)\r\n" },
	{ "both codes of its own", "echo '552 5.2.2 full' >&4; exit 100", "552 5.2.2 full (#5.2.2)\r\n" },
	{ "the enhanced one alone", "echo '5.2.2 full' >&4; exit 100", "550 5.2.2 full (#5.2.2)\r\n" },
	{ "codes of a deferral do not refuse less", "echo '450 4.2.2 full' >&4; exit 100", "550 5.1.1 450 4.2.2 full (#5.1.1)\r\n" },
	{ "codes of a refusal do not refuse more", "echo '550 5.1.1 no' >&4; exit 111", "451 4.3.0 550 5.1.1 no (#4.3.0)\r\n" },
	{ "a number that is no code", "echo '5520 full' >&4; exit 100", "550 5.1.1 5520 full (#5.1.1)\r\n" },
	{ "a code and no text", "echo 552 >&4; exit 100", "550 5.1.1 552 (#5.1.1)\r\n" },
	{ "it defers", "exit 111", "451 4.3.0 unable to check the recipient (#4.3.0)\r\n" },
	{ "it defers with a text", "echo '450 4.2.0 greylisted' >&4; exit 111", "450 4.2.0 greylisted (#4.2.0)\r\n" },
	{ "it fails", "echo 550 no >&4; exit 120", "451 4.3.0 unable to check the recipient (#4.3.0)\r\n" },
	{ "an exit status that means nothing", "echo 550 no >&4; exit 1", "451 4.3.0 unable to check the recipient (#4.3.0)\r\n" },
	{ "it crashes", "kill -9 $$", "451 4.3.0 unable to check the recipient (#4.3.0)\r\n" },
	{ "foreign octets", "printf 'a\\033[1m\\r\\n250 ok' >&4; exit 100", "550 5.1.1 a?[1m (#5.1.1)\r\n" },
};
enum { PROGRAMS = sizeof programs / sizeof *programs };

static void
the_program_says(void **state)
{
	const struct program *row = *state;

	start_program(row->program);
	expect("a@me.test", row->want);
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	expect("postmaster", NULL);	/* is not shown to it */
}

static void
over_its_limit_the_session_ends(void **state)
{
	(void)state;
	start_program("echo '421 4.7.0 slow down' >&4; exit 113");
	expect("a@me.test", "421 4.7.0 slow down (#4.7.0)\r\n");
	assert_int_equal(smtpd->end, SESSION_REFUSED);
	assert_string_equal(smtpd->reason, "RCPTCHECK says: over limit");
}

/* Its exit code says whether the session ends, not its text. */
static void
only_over_its_limit_a_session_ends(void **state)
{
	(void)state;
	start_program("echo '421 4.7.0 slow down' >&4; exit 111");
	expect("a@me.test", "451 4.7.0 slow down (#4.7.0)\r\n");
	assert_int_equal(smtpd->end, SESSION_GOES_ON);
	start_program("echo '450 4.7.0 slow down' >&4; exit 113");
	expect("a@me.test", "421 4.7.0 slow down (#4.7.0)\r\n");
	assert_int_equal(smtpd->end, SESSION_REFUSED);
}

static void
who_may_relay_is_shown_to_it_where_asked_for(void **state)
{
	(void)state;
	start_program("exit 100");
	smtpd->relayclient = "";
	expect("a@me.test", NULL);
	setenv("RCPTCHECKRELAYCLIENT", "1", 1);
	start_program("exit 100");
	expect("a@me.test", "550 5.1.1 ");
}

/* --- qmail-rcptd --------------------------------------------------------------------------------------------------------- */

/* It answers the next question so, before it is asked. */
static void
rcptd_says(char letter)
{
	struct rcptcheck *r = &smtpd->checks->accounts;
	char packet[] = "\0\0\0\0?why";
	int fd[2];

	if (rcptd < 0) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
		r->fd = fd[0];
		rcptd = fd[1];
		r->not_before = 0;
	}
	uint32_pack_big(packet, r->number + 1);
	packet[4] = letter;
	assert_int_equal(send(rcptd, packet, sizeof packet - 1, MSG_NOSIGNAL), sizeof packet - 1);
}

static unsigned int
rcptd_was_asked(void)
{
	char packet[1024];
	unsigned int n = 0;

	while (recv(rcptd, packet, sizeof packet, MSG_DONTWAIT) > 0)
		n++;
	return n;
}

static const struct account_row { const char *rule; char letter; const char *want; unsigned int asked_again; } accounts[] = {
	{ "it delivers", 'K', NULL, 0 },
	{ "it cannot know", '?', NULL, 0 },
	{ "it is not local", 'R', NULL, 0 },
	{ "nobody's", 'U', "550 5.1.1 sorry, no mailbox here by that name (#5.1.1)\r\n", 1 },
	{ "not now", 'T', "451 4.3.5 the users of this host are not known now (#4.3.5)\r\n", 1 },
};
enum { ACCOUNTS = sizeof accounts / sizeof *accounts };

/* Who was refused is asked about anew, who was not is known for a while. */
static void
an_account_is(void **state)
{
	const struct account_row *row = *state;

	rcptd_says(row->letter);
	expect("a@me.test", row->want);
	assert_int_equal(rcptd_was_asked(), 1);
	if (row->asked_again)
		rcptd_says('K');
	expect("a@me.test", NULL);
	assert_int_equal(rcptd_was_asked(), row->asked_again);
}

/* '"@me.test"' without a domain, say: what is kept of it would be taken for what is known of me.test. */
static void
an_address_without_local_part_tells_of_no_domain(void **state)
{
	(void)state;
	rcptd_says('K');
	expect("\"@me.test\"", NULL);
	rcptd_says('U');
	expect("nobody@me.test", "550 5.1.1 sorry, no mailbox here by that name (#5.1.1)\r\n");
}

static void
an_account_is_known_by_its_whole_address(void **state)
{
	(void)state;
	rcptd_says('K');
	expect("a@me.test", NULL);
	rcptd_says('U');
	expect("A@me.test", "550 5.1.1 ");
	for (int i = 0; i < 2 * RECIPIENT_KNOWN; i++) {	/* some have the same place */
		char address[32];

		snprintf(address, sizeof address, "u%d@me.test", i);
		rcptd_says('U');
		expect(address, "550 5.1.1 ");
		rcptd_was_asked();
	}
	expect("a@me.test", NULL);
	assert_int_equal(rcptd_was_asked(), 0);
}

static void
a_domain_of_others_is_known(void **state)
{
	(void)state;
	smtpd->relayclient = "";
	rcptd_says('R');
	expect("a@far.test", NULL);
	expect("b@far.test", NULL);
	assert_int_equal(rcptd_was_asked(), 1);
	rcptd_says('U');	/* percenthack may make me.test of it */
	expect("a%me.test@far.test", "550 5.1.1 ");
	rcptd_says('U');
	expect("a@me.far.test", "550 5.1.1 ");
	assert_int_equal(rcptd_was_asked(), 2);
}

static void
the_longest_address_that_is_remembered_and_one_octet_more(void **state)
{
	char address[RECIPIENT_KNOWN_MAX + 1];

	(void)state;
	for (size_t len = RECIPIENT_KNOWN_MAX - 1; len <= RECIPIENT_KNOWN_MAX; len++) {
		memset(address, 'a', sizeof address);
		strcpy(address + len - 8, "@me.test");
		rcptd_says('K');
		expect(address, NULL);
		if (len == RECIPIENT_KNOWN_MAX)
			rcptd_says('K');
		expect(address, NULL);
		assert_int_equal(rcptd_was_asked(), len == RECIPIENT_KNOWN_MAX ? 2 : 1);
	}
}

static void
what_a_program_accepts_is_asked_nowhere_else(void **state)
{
	(void)state;
	start_program("exit 0");
	rcptd_says('U');
	expect("a@me.test", NULL);
	assert_int_equal(rcptd_was_asked(), 0);
}

static void
what_RELAYCLIENT_makes_another_address_of_is_not_asked(void **state)
{
	(void)state;
	rcptd_says('U');
	smtpd->relayclient = "@via.test";
	expect("a@me.test", NULL);
	assert_int_equal(rcptd_was_asked(), 0);
	smtpd->relayclient = "";
	expect("a@me.test", "550 5.1.1 ");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest others[] = {
		TEST(only_our_domains_are_taken), TEST(a_table_that_is_damaged_is_no_refusal), TEST(RELAYCLIENT_stands_behind_each_recipient),
		TEST(RELAYCLIENT_has_to_fit), TEST(an_own_address_is_our_host), TEST(without_a_name_for_it_an_own_address_stays),
		TEST(postmaster_passes_all_but_relaying), TEST(a_bad_sender_is_refused_at_each_recipient),
		TEST(a_bad_name_of_the_client_counts_where_it_counts), TEST(RBLSMTPD_speaks_for_the_lists),
		TEST(who_may_relay_is_looked_up_in_no_list), TEST(checks_that_were_told_of_a_connection_are_of_that_one),
		TEST(over_its_limit_the_session_ends), TEST(only_over_its_limit_a_session_ends), TEST(who_may_relay_is_shown_to_it_where_asked_for),
		TEST(an_address_without_local_part_tells_of_no_domain), TEST(an_account_is_known_by_its_whole_address), TEST(a_domain_of_others_is_known), TEST(the_longest_address_that_is_remembered_and_one_octet_more),
		TEST(what_a_program_accepts_is_asked_nowhere_else), TEST(what_RELAYCLIENT_makes_another_address_of_is_not_asked),
	};
	struct CMUnitTest tests[PROGRAMS + ACCOUNTS + sizeof others / sizeof *others], *next = tests;

	for (size_t i = 0; i < PROGRAMS; i++)
		*next++ = (struct CMUnitTest){ programs[i].rule, the_program_says, begin, end, (void *)(uintptr_t)&programs[i] };
	for (size_t i = 0; i < ACCOUNTS; i++)
		*next++ = (struct CMUnitTest){ accounts[i].rule, an_account_is, begin, end, (void *)(uintptr_t)&accounts[i] };
	memcpy(next, others, sizeof others);
	return cmocka_run_group_tests_name("recipient", tests, smtpd_home, directory_remove);
}
