/* Lines of a session's log: whatever clients and other programs say, a line is one line, and its values are told apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "directory.h"
#include "smtpd.h"
#include "stralloc_set.h"

enum { LINE_MAX_OCTETS = 4001 };	/* with its LF */

/* All octets but NUL, which ends a string. */
static const char *
every_octet(void)
{
	static char s[256];

	for (int i = 1; i < 256; i++)
		s[i - 1] = (char)i;
	return s;
}

/* A transaction whose sender and recipients are count times that address. */
static void
begin_transaction(const char *address, unsigned int count)
{
	struct transaction *m = &smtpd->mail;

	assert_true(stralloc_sets(&m->sender, address) && stralloc_0(&m->sender));
	for (unsigned int i = 0; i < count; i++)
		assert_true(stralloc_cats(&m->recipients, address) && stralloc_0(&m->recipients) && stralloc_0(&m->recipients));
	m->count = count;
	smtpd->phase = PHASE_RECIPIENT;
}

static void
set_peer(const char *octets)
{
	snprintf(smtpd->peer.host, sizeof smtpd->peer.host, "%s", octets);
	snprintf(smtpd->peer.info, sizeof smtpd->peer.info, "%s", octets);
	smtpd->is_authenticated = 1;
	assert_true(stralloc_sets(&smtpd->login, octets) && stralloc_0(&smtpd->login));
	assert_true(stralloc_sets(&smtpd->helo, octets) && stralloc_0(&smtpd->helo));
}

/* One line, of parts "key=value" that are parted by blanks, where quotes hold blanks. Returns it. */
static const char *
expect_line(void)
{
	const char *log = smtpd_logged(), *s = log + strlen("qmail-smtpd: ");
	size_t len = strlen(log);
	int is_quoted = 0;

	assert_true(len <= LINE_MAX_OCTETS && len && log[len - 1] == '\n');
	assert_memory_equal(log, "qmail-smtpd: ", 13);
	assert_null(memchr(log, '\n', len - 1));
	s += strcspn(s, " ");
	for (; *s != '\n'; s++) {
		unsigned char c = (unsigned char)*s;

		assert_true(c >= ' ' && c != 127);
		if (c == '"')
			is_quoted = !is_quoted;
		if (c == ' ' && !is_quoted)
			assert_true(strcspn(s + 1, "=") < strcspn(s + 1, " \n"));	/* a key follows */
	}
	assert_false(is_quoted);
	return log;
}

static const char *
value_of(const char *log, const char *key)
{
	static char value[LINE_MAX_OCTETS];
	char start[32];
	const char *s;

	snprintf(start, sizeof start, " %s=", key);
	s = strstr(log, start);
	if (!s)
		return "none";
	s += strlen(start);
	snprintf(value, sizeof value, "%.*s", (int)strcspn(s, " \n"), s);
	return value;
}

/* --- values -------------------------------------------------------------------------------------------------------------- */

static void
any_octet_of_anybody_leaves_a_line_whole(void **state)
{
	(void)state;
	set_peer(every_octet());
	begin_transaction(every_octet(), 3);
	session_log_message(smtpd, "refused", 0, every_octet());
	expect_line();
	session_log_refusal(smtpd, "RCPT", every_octet(), every_octet());
	expect_line();
}

static const struct row { const char *rule, *address, *want; } rows[] = {
	{ "plain", "a@x.test", "<a@x.test>" },
	{ "UTF-8 stays", "\xc3\xb3@x.test", "<\xc3\xb3@x.test>" },
	{ "octets that are no UTF-8", "\xc3(\xff@x.test", "<?(?@x.test>" },
	{ "UTF-8 that is longer than needed", "\xc0\xaf@x.test", "<??@x.test>" },
	{ "a control character of UTF-8", "\xc2\x85@x.test", "<??@x.test>" },
	{ "UTF-8 that is cut", "a\xe2\x82z", "<a??z>" },
	{ "what would end the address", "a>,<b \"c\" d", "<a???b??c??d>" },
	{ "LF", "a\nqmail-smtpd: message", "<a?qmail-smtpd:?message>" },
	{ "null", "", "<>" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
an_address_is_logged(void **state)
{
	const struct row *row = *state;
	const char *log;

	begin_transaction(row->address, 1);
	session_log_message(smtpd, "accepted", 7, "");
	log = expect_line();
	assert_string_equal(value_of(log, "from"), row->want);
	assert_string_equal(value_of(log, "to"), row->want);
}

static void
what_is_not_known_is_a_dash(void **state)
{
	const char *log;

	(void)state;
	session_log_refusal(smtpd, "MAIL", "", "no");
	log = expect_line();
	assert_string_equal(value_of(log, "helo"), "-");
	assert_string_equal(value_of(log, "auth"), "-");
	assert_string_equal(value_of(log, "host"), "unknown");
	assert_string_equal(value_of(log, "tls"), "no");
	assert_string_equal(value_of(log, "from"), "none");	/* there is no transaction */
	assert_string_equal(value_of(log, "relay"), "none");
	assert_string_equal(value_of(log, "argument"), "<>");
}

static void
how_the_connection_is_protected(void **state)
{
	const char *log;

	(void)state;
	smtpd->is_tls = 1;
	strcpy(smtpd->tls->engine.protocol, "TLSv1.2");
	strcpy(smtpd->tls->engine.cipher, "TLS_X");
	session_log_refusal(smtpd, "MAIL", "", "no");
	log = expect_line();
	assert_string_equal(value_of(log, "tls"), "TLSv1.2");
	assert_string_equal(value_of(log, "cipher"), "TLS_X");
	assert_string_equal(value_of(log, "sni"), "-");
	strcpy(smtpd->tls->engine.host, "mail.test");
	session_log_refusal(smtpd, "MAIL", "", "no");
	assert_string_equal(value_of(expect_line(), "sni"), "mail.test");
}

static void
info_counts_only_where_the_client_has_logged_in(void **state)
{
	(void)state;
	set_peer("ident");
	smtpd->is_authenticated = 0;
	session_log_refusal(smtpd, "MAIL", "", "no");
	assert_string_equal(value_of(expect_line(), "auth"), "-");
	smtpd->is_authenticated = 1;
	session_log_refusal(smtpd, "MAIL", "", "no");
	assert_string_equal(value_of(expect_line(), "auth"), "ident");
}

/* --- bounds ---------------------------------------------------------------------------------------------------------------- */

/* A client that names very long recipients hides nothing of what became of them. */
static void
the_longest_of_everything_leaves_the_result_in_its_line(void **state)
{
	static char address[PATH_ADDRESS_MAX + 1], host[PEER_HOST_MAX], reason[REPLY_TEXT_MAX + 1];

	for (unsigned int count = 1; count <= 4; count++) {
		const char *log;

		smtpd_end(state);
		smtpd_begin(state);
		memset(address, 'a', sizeof address - 1);
		memset(host, 'h', sizeof host - 1);
		memset(reason, 'r', sizeof reason - 1);
		set_peer(host);
		smtpd->is_tls = 1;
		memset(smtpd->tls->engine.protocol, 'p', sizeof smtpd->tls->engine.protocol - 1);
		memset(smtpd->tls->engine.cipher, 'c', sizeof smtpd->tls->engine.cipher - 1);
		memset(smtpd->tls->engine.host, 's', sizeof smtpd->tls->engine.host - 1);
		smtpd->relayclient = "";
		begin_transaction(address, count);
		session_log_message(smtpd, "deferred", UINT64_MAX, reason);
		log = expect_line();
		assert_string_equal(value_of(log, "result"), "deferred");
		assert_string_equal(value_of(log, "qp"), "18446744073709551615");
		assert_non_null(strstr(log, reason));
	}
}

static void
a_long_list_of_recipients_is_cut_between_two_and_counted(void **state)
{
	const char *to;

	(void)state;
	begin_transaction("somebody@me.test", 1000);
	session_log_message(smtpd, "accepted", 7, "");
	to = smtpd_logged();
	assert_string_equal(value_of(to, "recipients"), "1000");
	to = value_of(to, "to");
	assert_true(strlen(to) > 1000);
	assert_string_equal(to + strlen(to) - 22, "<somebody@me.test>,...");
}

static void
a_short_list_of_recipients_is_whole(void **state)
{
	(void)state;
	begin_transaction("a@x.test", 3);
	session_log_message(smtpd, "accepted", 7, "");
	assert_string_equal(value_of(expect_line(), "to"), "<a@x.test>,<a@x.test>,<a@x.test>");
}

/* --- writing --------------------------------------------------------------------------------------------------------------- */

static int file, kept;

/* Descriptor 2 is a file meanwhile. */
static int
take_descriptor_2(void **state)
{
	smtpd_begin(state);
	kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	file = open("log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return kept < 0 || file < 0 || dup2(file, STDERR_FILENO) < 0;
}

static int
give_descriptor_2_back(void **state)
{
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(file);
	return smtpd_end(state);
}

static size_t
written(void)
{
	return (size_t)lseek(file, 0, SEEK_END);
}

static void
lines_leave_together_and_whole(void **state)
{
	size_t line, lines = 1;

	(void)state;
	begin_transaction("a@x.test", 10);
	session_log_message(smtpd, "accepted", 7, "");
	line = smtpd->log_len;
	for (; written() == 0; lines++)
		session_log_message(smtpd, "accepted", 7, "");
	/* the last one had no room behind those before */
	assert_int_equal(written(), (lines - 1) * line);
	assert_true(lines > 2 && written() <= SESSION_LOG_SIZE && written() + line > SESSION_LOG_SIZE);
	session_log_flush(smtpd);
	assert_int_equal(written(), lines * line);
	session_log_flush(smtpd);
	assert_int_equal(written(), lines * line);
}

static void
lines_wait_while_the_client_goes_on(void **state)
{
	int client[2], own = smtpd->in.fd;

	(void)state;
	assert_int_equal(pipe(client), 0);
	smtpd->in.fd = client[0];
	session_log_gather(smtpd);	/* nothing to write, and nothing to wait for */
	session_log_refusal(smtpd, "MAIL", "a@x.test", "no");
	assert_int_equal(write(client[1], "N", 1), 1);
	session_log_gather(smtpd);
	assert_int_equal(written(), 0);
	smtpd->log_since -= SESSION_LOG_HELD_MS;
	session_log_gather(smtpd);
	assert_true(written() > 0);
	session_log_refusal(smtpd, "MAIL", "a@x.test", "no");
	session_log_gather(smtpd);
	assert_true(smtpd->log_len > 0);
	assert_int_equal(read(client[0], &(char){ 0 }, 1), 1);
	session_log_gather(smtpd);
	assert_int_equal(smtpd->log_len, 0);
	smtpd->in.fd = own;
	close(client[0]);
	close(client[1]);
}

static void
the_end_of_a_session_is_written_at_once(void **state)
{
	static const char *const ends[] = { [SESSION_QUIT] = "quit", [SESSION_CLOSED] = "closed", [SESSION_TIMEOUT] = "timeout",
	    [SESSION_OVER] = "session-limit", [SESSION_STOPPED] = "server-stop", [SESSION_REFUSED] = "refused", [SESSION_BROKEN] = "trouble" };
	char want[64], got[SESSION_LOG_SIZE];

	(void)state;
	smtpd->dns_lists = "in \"list\nof addresses";
	smtpd->reason = "a \"reason\"";
	for (int end = SESSION_QUIT; end <= SESSION_BROKEN; end++) {
		off_t at = lseek(file, 0, SEEK_END);
		ssize_t n;

		smtpd->end = (enum session_end)end;
		session_log_end(smtpd);
		assert_int_equal(smtpd->log_len, 0);
		n = pread(file, got, sizeof got - 1, at);
		assert_true(n > 0 && got[n - 1] == '\n');
		got[n] = '\0';
		snprintf(want, sizeof want, " end=%s messages=0 ", ends[end]);
		assert_non_null(strstr(got, want));
		assert_non_null(strstr(got, " dnsbl=\"in ?list?of addresses\" reason=\"a ?reason?\"\n"));
	}
}

static void
a_log_that_is_gone_keeps_nothing(void **state)
{
	(void)state;
	close(STDERR_FILENO);
	for (int i = 0; i < 100; i++)
		session_log_refusal(smtpd, "MAIL", "a@x.test", "no");
	session_log_flush(smtpd);
	assert_int_equal(smtpd->log_len, 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, smtpd_begin, smtpd_end)
#define WRITES(f) cmocka_unit_test_setup_teardown(f, take_descriptor_2, give_descriptor_2_back)
	const struct CMUnitTest others[] = {
		TEST(any_octet_of_anybody_leaves_a_line_whole), TEST(what_is_not_known_is_a_dash),
		TEST(how_the_connection_is_protected), TEST(info_counts_only_where_the_client_has_logged_in), TEST(the_longest_of_everything_leaves_the_result_in_its_line),
		TEST(a_long_list_of_recipients_is_cut_between_two_and_counted), TEST(a_short_list_of_recipients_is_whole),
		WRITES(lines_leave_together_and_whole), WRITES(lines_wait_while_the_client_goes_on), WRITES(the_end_of_a_session_is_written_at_once), WRITES(a_log_that_is_gone_keeps_nothing),
	};
	struct CMUnitTest tests[ROWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, an_address_is_logged, smtpd_begin, smtpd_end, (void *)(uintptr_t)&rows[i] };
	memcpy(tests + ROWS, others, sizeof others);
	return cmocka_run_group_tests_name("session_log", tests, smtpd_home, directory_remove);
}
