/* Questions that may take long, and the loop that asks them: what a process does with a question is said here, and time is a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bin-src/smtpd/slow_lookup.h"
#include "directory.h"

enum { ALL = SLOW_LOOKUP_PROCESSES, NOW = 5000 };

static struct slow_lookups lookups;
static int gate[2];		/* a process that waits for its octet */

/* What was answered, one after another. */
static struct { uint64_t asker; struct verdict v; } answers[SLOW_LOOKUP_MAX + 8];
static unsigned int answers_len;

/* --- in a process of its own ------------------------------------------------------------------------------------------- */

void
verdict_set(struct verdict *v, enum rcpt_answer answer, ...)
{
	va_list texts;

	v->answer = answer;
	va_start(texts, answer);
	snprintf(v->text, sizeof v->text, "%s", va_arg(texts, const char *));
	va_end(texts);
}

/* "wait": until the gate opens, or the test ends. "die": no more. */
void
deliverable_user(const struct passwd_source *source, const char *local, struct verdict *v)
{
	char octet;

	close(gate[1]);
	if (strcmp(local, "die") == 0 || !source->by_name || (strcmp(local, "wait") == 0 && read(gate[0], &octet, 1) < 0))
		_exit(1);
	verdict_set(v, RCPT_DELIVERS, local, NULL);
}

void
deliverable_home(const char *user, const char *home, const char *dash, const char *ext, struct verdict *v)
{
	char text[200];

	snprintf(text, sizeof text, "%s,%s,%s,%s", user, home, dash, ext);
	verdict_set(v, RCPT_UNKNOWN, text, NULL);
}

void
deliverable_fields(const char *fields, size_t len, struct verdict *v)
{
	char text[64];

	snprintf(text, sizeof text, "%zu octets of %s", len, len ? fields : "nothing");
	verdict_set(v, RCPT_DELIVERS, text, NULL);
}

/* --- the loop ------------------------------------------------------------------------------------------------------------ */

static void
note_answer(void *context, uint64_t asker, const struct verdict *v)
{
	assert_ptr_equal(context, &answers_len);
	answers[answers_len].asker = asker;
	answers[answers_len++].v = *v;
}

static void
ask(uint64_t asker, uint64_t now, const char *local)
{
	const struct deliverable r = { .local = local };

	slow_lookup_ask(&lookups, asker, now, DELIVERABLE_USER, &r);
}

/* Waits for a process, and takes what it says. */
static int
take(void)
{
	struct pollfd p[ALL];

	for (int i = 0; i < ALL; i++)
		p[i] = (struct pollfd){ .fd = lookups.fds[i], .events = POLLIN };
	assert_true(poll(p, ALL, 60000) > 0);
	for (unsigned int i = 0; i < ALL; i++)
		if (p[i].revents)
			return slow_lookup_take(&lookups, i);
	return -1;
}

static void
take_all(unsigned int count)
{
	while (answers_len < count)
		assert_int_equal(take(), 1);
}

static void
expect(unsigned int n, uint64_t asker, char letter, const char *text)
{
	assert_true(answers_len > n);
	assert_int_equal(answers[n].asker, asker);
	assert_int_equal(answers[n].v.answer, letter);
	assert_string_equal(answers[n].v.text, text);
}

static void
open_gate(void)
{
	assert_int_equal(write(gate[1], "x", 1), 1);
}

/* Every process works at something for too long. */
static void
get_all_stuck(void)
{
	for (unsigned int i = 0; i < ALL; i++)
		ask(i, NOW, "wait");
	assert_int_equal(slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS), UINT64_MAX);
	assert_int_equal(answers_len, ALL);
	answers_len = 0;
}

/* The same program under both names, unless a test replaces it. */
static int
begin(void **state)
{
	(void)state;
	unlink("bin/qmail-getpw");
	assert_int_equal(link("libexec/qmail-getpw", "bin/qmail-getpw"), 0);
	memset(&lookups, 0, sizeof lookups);
	lookups.answer = note_answer;
	lookups.context = &answers_len;
	answers_len = 0;
	assert_int_equal(pipe(gate), 0);
	assert_int_equal(slow_lookup_start(&lookups), 1);
	close(gate[0]);
	return 0;
}

/* The processes end with the sockets: all are waited for. */
static int
end(void **state)
{
	(void)state;
	close(gate[1]);
	for (int i = 0; i < ALL; i++)
		close(lookups.fds[i]);
	for (int i = 0; i < ALL; i++)
		assert_true(wait(NULL) > 0);
	assert_int_equal(wait(NULL), -1);
	for (int i = 0; i < SLOW_LOOKUP_MAX; i++)
		stralloc_free(&lookups.questions[i].packet);
	return 0;
}

/* --- questions and answers ----------------------------------------------------------------------------------------------- */

static void
an_answer_is_that_of_who_asked(void **state)
{
	(void)state;
	ask(UINT64_MAX, NOW, "ann");
	take_all(1);
	expect(0, UINT64_MAX, 'K', "ann");
	ask(3, NOW, "");
	take_all(2);
	expect(1, 3, 'K', "");
}

static void
a_home_is_four_strings_and_any_may_be_empty(void **state)
{
	struct deliverable r = { .account = { .user = "ann", .home = "/home/ann", .dash = "-", .ext = "list" } };

	(void)state;
	slow_lookup_ask(&lookups, 1, NOW, DELIVERABLE_HOME, &r);
	take_all(1);
	expect(0, 1, 'U', "ann,/home/ann,-,list");
	r.account.dash = r.account.ext = "";
	slow_lookup_ask(&lookups, 2, NOW, DELIVERABLE_HOME, &r);
	take_all(2);
	expect(1, 2, 'U', "ann,/home/ann,,");
}

static void
questions_wait_for_a_process_in_their_order(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ALL; i++)
		ask(i, NOW, "wait");
	ask(10, NOW, "a");
	ask(11, NOW, "b");
	assert_int_equal(answers_len, 0);
	open_gate();
	take_all(3);	/* one process, one question after the other */
	expect(1, 10, 'K', "a");
	expect(2, 11, 'K', "b");
}

static void
as_many_questions_as_may_be_open_and_one_more(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < SLOW_LOOKUP_MAX; i++)
		ask(i, NOW, i < ALL ? "wait" : "a");
	assert_int_equal(answers_len, 0);
	ask(999, NOW, "a");
	expect(0, 999, '?', "name service or homes do not answer");
	for (int i = 0; i < ALL; i++)
		open_gate();
	take_all(SLOW_LOOKUP_MAX + 1);
	ask(1000, NOW, "a");
	take_all(SLOW_LOOKUP_MAX + 2);
	expect(SLOW_LOOKUP_MAX + 1, 1000, 'K', "a");
}

/* --- time ------------------------------------------------------------------------------------------------------------------ */

static void
nobody_waits_longer_than_that(void **state)
{
	(void)state;
	assert_int_equal(slow_lookup_expire(&lookups, NOW), UINT64_MAX);
	ask(1, NOW, "wait");
	assert_int_equal(slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS - 1), NOW + SLOW_LOOKUP_MS);
	assert_int_equal(answers_len, 0);
	assert_int_equal(slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS), UINT64_MAX);
	expect(0, 1, '?', "name service or home does not answer");
	assert_int_equal(slow_lookup_expire(&lookups, NOW + 10 * SLOW_LOOKUP_MS), UINT64_MAX);
	assert_int_equal(answers_len, 1);
}

static void
an_answer_that_comes_too_late_is_nobodys(void **state)
{
	(void)state;
	ask(1, NOW, "wait");
	slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS);
	open_gate();
	assert_int_equal(take(), 1);
	assert_int_equal(answers_len, 1);
	for (unsigned int i = 0; i < ALL; i++)
		assert_null(lookups.asked[i]);	/* and its process is free */
	ask(2, NOW, "wait");	/* what took its place has a time of its own */
	slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS);
	expect(1, 2, '?', "name service or home does not answer");
}

static void
the_next_time_is_that_of_the_oldest(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ALL; i++)
		ask(i, NOW + 10 * (ALL - i), "wait");
	ask(10, NOW + 500, "a");
	assert_int_equal(slow_lookup_expire(&lookups, NOW), NOW + 10 + SLOW_LOOKUP_MS);
	assert_int_equal(slow_lookup_expire(&lookups, NOW + 10 + SLOW_LOOKUP_MS), NOW + 20 + SLOW_LOOKUP_MS);
	assert_int_equal(answers_len, 1);
	expect(0, ALL - 1, '?', "name service or home does not answer");
}

static void
a_question_that_waits_is_answered_in_time_as_well(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ALL; i++)
		ask(i, NOW + 100, "wait");
	ask(10, NOW, "a");	/* as if it was asked before */
	assert_int_equal(slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS), NOW + 100 + SLOW_LOOKUP_MS);
	assert_int_equal(answers_len, 1);
	expect(0, 10, '?', "name service or homes do not answer");
}

static void
when_all_are_stuck_nobody_waits(void **state)
{
	(void)state;
	get_all_stuck();
	ask(10, NOW + SLOW_LOOKUP_MS, "a");
	expect(0, 10, '?', "name service or homes do not answer");
}

static void
those_who_wait_when_the_last_gets_stuck_are_answered(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ALL; i++)
		ask(i, NOW, "wait");
	ask(10, NOW + 1000, "a");
	assert_int_equal(slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS), UINT64_MAX);
	assert_int_equal(answers_len, ALL + 1);
	expect(ALL, 10, '?', "name service or homes do not answer");
}

static void
one_that_is_no_longer_stuck_is_asked_again(void **state)
{
	(void)state;
	get_all_stuck();
	open_gate();
	assert_int_equal(take(), 1);
	ask(10, NOW + SLOW_LOOKUP_MS, "a");
	take_all(1);
	expect(0, 10, 'K', "a");
}

/* --- who does not want to know any more -------------------------------------------------------------------------------------- */

static void
nobody_is_told_what_he_has_forgotten(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ALL; i++)
		ask(i, NOW, "wait");
	ask(10, NOW, "a");
	ask(11, NOW, "b");
	slow_lookup_forget(&lookups, 10);	/* waits */
	slow_lookup_forget(&lookups, 0);	/* is worked at */
	for (int i = 0; i < ALL; i++)
		open_gate();
	while (lookups.first || lookups.asked[0] || lookups.asked[1] || lookups.asked[2] || lookups.asked[3])
		assert_int_equal(take(), 1);
	assert_int_equal(answers_len, ALL);	/* of ALL + 2 */
	for (unsigned int i = 0; i < answers_len; i++)
		assert_true(answers[i].asker != 10 && answers[i].asker != 0);
	for (unsigned int i = 0; i < 2 * ALL; i++)	/* in the same places */
		ask(20 + i, NOW, "a");
	take_all(3 * ALL);
}

/* --- processes that die -------------------------------------------------------------------------------------------------------- */

static void
a_process_that_has_ended(void **state)
{
	(void)state;
	ask(1, NOW, "die");
	assert_int_equal(take(), 0);
	assert_int_equal(answers_len, 0);	/* the caller gives up, or lets the time pass */
	slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS);
	expect(0, 1, '?', "name service or home does not answer");
}

static void
a_process_that_cannot_be_asked_is_no_refusal(void **state)
{
	(void)state;
	for (int i = 0; i < ALL; i++)
		shutdown(lookups.fds[i], SHUT_RDWR);
	ask(1, NOW, "a");
	expect(0, 1, '?', "unable to ask another process");
	assert_null(lookups.first);
}

/* The last octets of a struct verdict are nobody's. */
static void
a_process_that_says_more_than_an_answer(void **state)
{
	struct verdict v = { .answer = RCPT_UNKNOWN };
	char text[sizeof v.text], lie[sizeof v];
	int ends[2];

	(void)state;
	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = '\0';
	memset(lie, 'x', sizeof lie);
	memcpy(lie, &v, offsetof(struct verdict, text));
	ask(1, NOW, "wait");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(dup2(ends[0], lookups.fds[0]), lookups.fds[0]);
	close(ends[0]);
	assert_int_equal(send(ends[1], lie, sizeof lie, 0), sizeof lie);
	close(ends[1]);
	assert_int_equal(slow_lookup_take(&lookups, 0), 1);
	expect(0, 1, 'U', text);
}

/* --- a qmail-getpw of the site's own --------------------------------------------------------------------------------------------- */

static const struct getpw { const char *rule, *program; char letter; const char *text; } getpws[] = {
	{ "it says six fields", "printf '%s\\0' ann 1000 100 /home/ann '' ''", 'K', "25 octets of ann" },
	{ "it says nothing", "exit 0", 'K', "0 octets of nothing" },
	{ "there is no alias", "exit 116", 'T', "there is no user alias" },
	{ "it fails", "printf 'ann\\0'; exit 118", '?', "bin/qmail-getpw of this site failed" },
	{ "it says unknown in a way of its own", "exit 100", '?', "bin/qmail-getpw of this site failed" },
	{ "it crashes", "kill -9 $$", '?', "bin/qmail-getpw of this site failed" },
	{ "it says too much", "head -c 100000 /dev/zero", 'K', "16384 octets of " },
	{ "the local part is one argument", "[ $# = 1 ] && [ \"$1\" = 'a b;c' ] && printf x", 'K', "1 octets of x" },
	{ "it has no descriptor of ours", "for n in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && exit 1; done; exit 0", 'K', "0 octets of nothing" },
};
enum { GETPWS = sizeof getpws / sizeof *getpws };

static void
replace_getpw(const char *program)
{
	char script[256];

	snprintf(script, sizeof script, "#!/bin/sh\n%s\n", program);
	directory_write("bin/qmail-getpw", script);
	assert_int_equal(chmod("bin/qmail-getpw", 0700), 0);
}

static void
a_getpw_of_the_site(void **state)
{
	const struct getpw *row = *state;

	replace_getpw(row->program);
	ask(1, NOW, "a b;c");
	take_all(1);
	expect(0, 1, row->letter, row->text);
}

static void
a_getpw_that_is_not_there(void **state)
{
	(void)state;
	unlink("bin/qmail-getpw");
	ask(1, NOW, "a");
	take_all(1);
	expect(0, 1, '?', "bin/qmail-getpw of this site failed");
}

/* The end of the test waits for the process. */
static void
a_getpw_that_never_ends_does_so_with_the_loop(void **state)
{
	(void)state;
	replace_getpw("exec yes");
	ask(1, NOW, "a");
	slow_lookup_expire(&lookups, NOW + SLOW_LOOKUP_MS);
	expect(0, 1, '?', "name service or home does not answer");
}

static int
make_home(void **state)
{
	if (directory_make(state) || mkdir("bin", 0700) || mkdir("libexec", 0700))
		return -1;
	directory_write("libexec/qmail-getpw", "");
	return 0;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest others[] = {
		TEST(an_answer_is_that_of_who_asked), TEST(a_home_is_four_strings_and_any_may_be_empty),
		TEST(questions_wait_for_a_process_in_their_order), TEST(as_many_questions_as_may_be_open_and_one_more),
		TEST(nobody_waits_longer_than_that), TEST(an_answer_that_comes_too_late_is_nobodys), TEST(the_next_time_is_that_of_the_oldest),
		TEST(a_question_that_waits_is_answered_in_time_as_well), TEST(when_all_are_stuck_nobody_waits),
		TEST(those_who_wait_when_the_last_gets_stuck_are_answered), TEST(one_that_is_no_longer_stuck_is_asked_again),
		TEST(nobody_is_told_what_he_has_forgotten), TEST(a_process_that_has_ended), TEST(a_process_that_cannot_be_asked_is_no_refusal), TEST(a_process_that_says_more_than_an_answer),
		TEST(a_getpw_that_is_not_there), TEST(a_getpw_that_never_ends_does_so_with_the_loop),
	};
	struct CMUnitTest tests[GETPWS + sizeof others / sizeof *others];

	for (size_t i = 0; i < GETPWS; i++)
		tests[i] = (struct CMUnitTest){ getpws[i].rule, a_getpw_of_the_site, begin, end, (void *)(uintptr_t)&getpws[i] };
	memcpy(tests + GETPWS, others, sizeof others);
	return cmocka_run_group_tests_name("slow_lookup", tests, make_home, directory_remove);
}
