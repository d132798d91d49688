/* dot-qmail files: which one, whether it is obeyed, and its lines; interfaces sections 8.2 and 8.3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/local/dotqmail.h"

/* --- names: all that are looked for, each with what "default" stands for after a '=' */
static const struct search_row { const char *rule, *dash, *ext, *want; } searches[] = {
	{ "no extension", "", "", ".qmail .qmaildefault=" },
	{ "dash without extension", "-", "", ".qmail- .qmail-default=" },
	{ "one word", "-", "foo", ".qmail-foo .qmail-default=foo" },
	{ "at each dash from the right", "-", "a-b-c",
	    ".qmail-a-b-c .qmail-a-b-default=c .qmail-a-default=b-c .qmail-default=a-b-c" },
	{ "dash at the end", "-", "a-", ".qmail-a- .qmail-a-default= .qmail-default=a-" },
	{ "two dashes", "-", "a--b", ".qmail-a--b .qmail-a--default=b .qmail-a-default=-b .qmail-default=a--b" },
	{ "dash at the start", "-", "-a", ".qmail--a .qmail--default=a .qmail-default=-a" },
	{ "lower case in names, not in DEFAULT", "-", "Foo-BAR", ".qmail-foo-bar .qmail-foo-default=BAR .qmail-default=Foo-BAR" },
	{ "dots are colons", "-", "a.b-../c", ".qmail-a:b-::/c .qmail-a:b-default=../c .qmail-default=a.b-../c" },
	{ "other break character", "+", "a+b", ".qmail+a+b .qmail+default=a+b" },
	{ "dash with a slash", "-/", "a", ".qmail-/a .qmail-/default=a" },
	{ "exact name that ends in default", "-", "a-Default", ".qmail-a-default=Default .qmail-a-default=Default "
	    ".qmail-default=a-Default" },
	{ "exact default", "-", "default", ".qmail-default=default .qmail-default=default" },
};
enum { SEARCHES = sizeof searches / sizeof *searches };

static void
search_row(void **state)
{
	const struct search_row *row = *state;
	stralloc safe = STRALLOC_ZERO, name = STRALLOC_ZERO;
	char got[1000] = "";
	long rest;

	assert_int_equal(dotqmail_safe(&safe, row->ext), 1);
	for (unsigned int n = 0; dotqmail_candidate(&name, row->dash, &safe, n, &rest) > 0; n++) {
		if (n)
			strcat(got, " ");
		strcat(got, name.s);
		if (rest >= 0) {
			strcat(got, "=");
			strcat(got, row->ext + rest);
		}
	}
	assert_string_equal(got, row->want);
	stralloc_free(&safe);
	stralloc_free(&name);
}

/* --- lines: kind letters as in kind_letter, text in brackets */
static const struct lines_row { const char *rule, *text, *want; } lines[] = {
	{ "comment", "#./x\n", "-" },
	{ "program", "|a b\n", "p[a b]" },
	{ "program: blank after the bar", "| a\n", "p[ a]" },
	{ "mbox", "./Mailbox\n", "b[./Mailbox]" },
	{ "mbox: absolute", "/var/mail/a\n", "b[/var/mail/a]" },
	{ "maildir", "./Maildir/\n", "d[./Maildir/]" },
	{ "maildir: absolute", "/a/\n", "d[/a/]" },
	{ "maildir: dot and slash", "./\n", "d[./]" },
	{ "forward", "&ann@h\n", "f[ann@h]" },
	{ "forward without &", "ann@h\n", "f[ann@h]" },
	{ "forward: address as it is", "&Ann <ann@h>\n", "f[Ann <ann@h>]" },
	{ "forward: & alone", "&\n", "f[]" },
	{ "forward: blank at the start", " ann@h\n", "f[ ann@h]" },
	{ "+list", "+list\n", "l" },
	{ "other words after +", "+lists\n+\n+ list\n", "---" },
	{ "trailing blanks", "./Maildir/ \t \n|a \n", "d[./Maildir/]p[a]" },
	{ "CR is no blank", "./Mailbox\r\n", "b[./Mailbox\r]" },
	{ "last line without newline", "a\nb", "f[a]f[b]" },
	{ "empty first line", "\na\n", "!f[a]" },
	{ "blank first line", " \t\na\n", "!f[a]" },
	{ "empty line later", "a\n\nb\n", "f[a]-f[b]" },
	{ "no text", "", "!" },
	{ "comment first, then empty", "#\n\n", "--" },
};
enum { LINES = sizeof lines / sizeof *lines };

static void
lines_row(void **state)
{
	static const char letters[] = "-!pbdfl";
	const struct lines_row *row = *state;
	struct dotqmail d = { .forward_only = 0 };
	struct dotqmail_line line;
	char got[200] = "";

	assert_int_equal(dotqmail_take(&d, row->text, strlen(row->text)), 1);
	for (size_t at = 0; dotqmail_next(&d, &at, &line);) {
		strncat(got, &letters[line.kind], 1);
		if (strchr("pbdf", letters[line.kind])) {
			strcat(got, "[");
			strcat(got, line.text);
			strcat(got, "]");
		}
	}
	assert_string_equal(got, row->want);
	dotqmail_free(&d);
}

static void
nul_is_refused(void **state)
{
	struct dotqmail d = { .forward_only = 0 };

	(void)state;
	assert_int_equal(dotqmail_take(&d, "a\0b\n", 4), 0);
	assert_int_equal(errno, EINVAL);
	dotqmail_free(&d);
}

/* --- files: what is there, and what comes of a search for dash "-" and ext "a" with default "D" */
enum what { NONE, TEXT, DIRECTORY, FIFO, LINK, LOOP_LINK, HUGE_FILE, NUL_TEXT };
static const struct file_row {
	const char *rule;
	enum what what;		/* .qmail-a */
	const char *text;
	unsigned int mode;
	enum dotqmail_result result;
	const char *want;	/* lines with ',' between them, '+' before: forward-only */
} files[] = {
	{ "absent", NONE, NULL, 0, DOTQMAIL_ABSENT, "" },
	{ "text", TEXT, "x\n", 0644, DOTQMAIL_FOUND, "x" },
	{ "empty: the default delivery", TEXT, "", 0644, DOTQMAIL_FOUND, "D" },
	{ "one empty line is not empty", TEXT, "\n", 0644, DOTQMAIL_FOUND, "" },
	{ "owner may execute: forward-only", TEXT, "x\n", 0744, DOTQMAIL_FOUND, "+x" },
	{ "empty and executable: the default delivery may be anything", TEXT, "", 0744, DOTQMAIL_FOUND, "D" },
	{ "others may execute: no matter", TEXT, "x\n", 0655, DOTQMAIL_FOUND, "x" },
	{ "group may write: fine", TEXT, "x\n", 0664, DOTQMAIL_FOUND, "x" },
	{ "everybody may write", TEXT, "x\n", 0646, DOTQMAIL_TEMPORARY, "" },
	{ "L2: directory counts as absent", DIRECTORY, NULL, 0700, DOTQMAIL_ABSENT, "" },
	{ "L2: FIFO", FIFO, NULL, 0600, DOTQMAIL_TEMPORARY, "" },
	{ "L2: device", LINK, "/dev/zero", 0, DOTQMAIL_TEMPORARY, "" },
	{ "L2: loop of links", LOOP_LINK, ".qmail-a", 0, DOTQMAIL_TEMPORARY, "" },
	{ "L2: 1 GiB", HUGE_FILE, NULL, 0644, DOTQMAIL_TEMPORARY, "" },
	{ "link to nothing counts as absent", LINK, "nothing", 0, DOTQMAIL_ABSENT, "" },
	{ "link to a file", LINK, "other", 0, DOTQMAIL_FOUND, "o" },
	{ "NUL", NUL_TEXT, NULL, 0644, DOTQMAIL_TEMPORARY, "" },
};
enum { FILES = sizeof files / sizeof *files };

static void
make_file(const char *name, const char *text, size_t len, unsigned int mode, off_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	if (size)
		assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void
make(const struct file_row *row)
{
	switch (row->what) {
	case NONE: break;
	case TEXT: make_file(".qmail-a", row->text, strlen(row->text), row->mode, 0); break;
	case NUL_TEXT: make_file(".qmail-a", "a\0b\n", 4, row->mode, 0); break;
	case HUGE_FILE: make_file(".qmail-a", "", 0, row->mode, (off_t)1 << 30); break;
	case DIRECTORY: assert_int_equal(mkdir(".qmail-a", 0700), 0); break;
	case FIFO: assert_int_equal(mkfifo(".qmail-a", 0600), 0); break;
	default: assert_int_equal(symlink(row->text, ".qmail-a"), 0);
	}
}

static void
file_row(void **state)
{
	const struct file_row *row = *state;
	struct dotqmail d = { .forward_only = 0 };
	struct report report = { .text = STRALLOC_ZERO };
	struct dotqmail_line line;
	char got[200] = "";

	make(row);
	assert_int_equal(dotqmail_find(&d, "-", "a", "D\n", geteuid(), &report), row->result);
	if (row->result == DOTQMAIL_FOUND) {
		strcat(got, d.forward_only ? "+" : "");
		for (size_t at = 0; dotqmail_next(&d, &at, &line);)
			strcat(got, line.text);
	}
	assert_string_equal(got, row->want);
	assert_int_equal(report.text.len != 0, row->result == DOTQMAIL_TEMPORARY);
	unlink(".qmail-a");
	rmdir(".qmail-a");
	dotqmail_free(&d);
	stralloc_free(&report.text);
}

/* Root owns what it makes, and root's files are obeyed: somebody else's are told from the effective user alone. */
static void
owner_rules(void **state)
{
	struct dotqmail d = { .forward_only = 0 };
	struct report report = { .text = STRALLOC_ZERO };

	(void)state;
	if (geteuid() != 0) {
		skip();
		return;
	}
	make_file(".qmail-a", "x\n", 2, 0644, 0);
	assert_int_equal(chown(".qmail-a", 12345, 12345), 0);
	assert_int_equal(dotqmail_find(&d, "-", "a", "D\n", 0, &report), DOTQMAIL_TEMPORARY);
	assert_int_equal(dotqmail_find(&d, "-", "a", "D\n", 12345, &report), DOTQMAIL_FOUND);
	assert_int_equal(chmod(".qmail-a", 0744), 0);
	assert_int_equal(dotqmail_find(&d, "-", "a", "D\n", 0, &report), DOTQMAIL_FOUND);
	assert_int_equal(d.forward_only, 1);
	unlink(".qmail-a");
	dotqmail_free(&d);
	stralloc_free(&report.text);
}

static void
long_extension_counts_as_absent(void **state)
{
	struct dotqmail d = { .forward_only = 0 };
	struct report report = { .text = STRALLOC_ZERO };
	char ext[1003];

	(void)state;
	memset(ext, 'x', sizeof ext - 1);
	ext[sizeof ext - 1] = '\0';
	assert_int_equal(dotqmail_find(&d, "-", ext, "D\n", geteuid(), &report), DOTQMAIL_ABSENT);
	make_file(".qmail-default", "x\n", 2, 0600, 0);
	assert_int_equal(dotqmail_find(&d, "-", ext, "D\n", geteuid(), &report), DOTQMAIL_FOUND);
	assert_string_equal(d.rest, ext);
	assert_int_equal(dotqmail_exists("-", ext, "-owner"), 0);
	unlink(".qmail-default");
	dotqmail_free(&d);
	stralloc_free(&report.text);
}

static void
default_without_a_dash(void **state)
{
	struct dotqmail d = { .forward_only = 0 };
	struct report report = { .text = STRALLOC_ZERO };
	struct dotqmail_line line;
	size_t at = 0;

	(void)state;
	assert_int_equal(dotqmail_find(&d, "", "", "./Maildir/", geteuid(), &report), DOTQMAIL_FOUND);
	assert_int_equal(dotqmail_next(&d, &at, &line), 1);
	assert_string_equal(line.text, "./Maildir/");
	assert_null(d.rest);
	dotqmail_free(&d);
}

static void
exists(void **state)
{
	(void)state;
	assert_int_equal(dotqmail_exists("-", "a", "-owner"), 0);
	make_file(".qmail-a-owner", "", 0, 0600, 0);
	assert_int_equal(dotqmail_exists("-", "a", "-owner"), 1);
	unlink(".qmail-a-owner");
	assert_int_equal(symlink(".qmail-a-owner", ".qmail-a-owner"), 0);
	assert_int_equal(dotqmail_exists("-", "a", "-owner"), -1);
	unlink(".qmail-a-owner");
}

int
main(void)
{
	char dir[] = "/tmp/unit-dotqmail-XXXXXX";
	struct CMUnitTest tests[SEARCHES + LINES + FILES + 5];
	size_t n = 0;
	int failed;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return 111;
	make_file("other", "o\n", 2, 0600, 0);
	for (size_t i = 0; i < SEARCHES; i++)
		tests[n++] = (struct CMUnitTest){ .name = searches[i].rule, .test_func = search_row,
		    .initial_state = (void *)(uintptr_t)&searches[i] };
	for (size_t i = 0; i < LINES; i++)
		tests[n++] = (struct CMUnitTest){ .name = lines[i].rule, .test_func = lines_row,
		    .initial_state = (void *)(uintptr_t)&lines[i] };
	for (size_t i = 0; i < FILES; i++)
		tests[n++] = (struct CMUnitTest){ .name = files[i].rule, .test_func = file_row,
		    .initial_state = (void *)(uintptr_t)&files[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(nul_is_refused);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(owner_rules);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(long_extension_counts_as_absent);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(default_without_a_dash);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(exists);
	failed = cmocka_run_group_tests_name("dotqmail", tests, NULL, NULL);
	unlink("other");
	if (chdir("/") == 0)
		rmdir(dir);
	return failed;
}
