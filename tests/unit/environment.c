/* The variables of a program in a dot-qmail file: interfaces section 8.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/local/environment.h"

static const char *const base[] = { "PATH=/bin", "DEFAULT=old", "SENDER=old", "EMPTY=", NULL };

static const struct row {
	const char *rule, *local, *ext, *host, *sender, *rest;	/* what comes in */
	const char *want;	/* NAME=value, or NAME: unset */
} rows[] = {
	{ "RECIPIENT is LOCAL@HOST", "ann-x", "x", "a.example", "", NULL, "RECIPIENT=ann-x@a.example" },
	{ "HOST2: before the last dot", "", "", "a.b.c.d.e", "", NULL, "HOST2=a.b.c.d" },
	{ "HOST3: before the last but one", "", "", "a.b.c.d.e", "", NULL, "HOST3=a.b.c" },
	{ "HOST4: before the one before", "", "", "a.b.c.d.e", "", NULL, "HOST4=a.b" },
	{ "HOST4: too few dots", "", "", "a.b", "", NULL, "HOST4=a" },
	{ "HOST2: no dot", "", "", "localhost", "", NULL, "HOST2=localhost" },
	{ "HOST2: dot at the end", "", "", "a.", "", NULL, "HOST2=a" },
	{ "EXT keeps its case", "", "Foo-Bar", "h", "", NULL, "EXT=Foo-Bar" },
	{ "EXT2: after the first dash", "", "a-b-c-d-e", "h", "", NULL, "EXT2=b-c-d-e" },
	{ "EXT3: after the second", "", "a-b-c-d-e", "h", "", NULL, "EXT3=c-d-e" },
	{ "EXT4: after the third", "", "a-b-c-d-e", "h", "", NULL, "EXT4=d-e" },
	{ "EXT3: too few dashes", "", "a-b", "h", "", NULL, "EXT3=" },
	{ "EXT2: no dash", "", "a", "h", "", NULL, "EXT2=" },
	{ "DEFAULT", "", "a-B", "h", "", "B", "DEFAULT=B" },
	{ "DEFAULT may be empty", "", "", "h", "", "", "DEFAULT=" },
	{ "DEFAULT: an old one is unset", "", "", "h", "", NULL, "DEFAULT" },
	{ "old values are replaced", "", "", "h", "s@h", NULL, "SENDER=s@h" },
	{ "the rest of the environment stays", "", "", "h", "", NULL, "PATH=/bin" },
	{ "empty values stay", "", "", "h", "", NULL, "EMPTY=" },
	{ "lines keep their newline", "", "", "h", "", NULL, "DTLINE=Delivered-To: x\n" },
	{ "a function for bash is none", "", "", "h", "() { :;}; id@h", NULL, "SENDER=_) { :;}; id@h" },
	{ "the same in EXT", "", "() { a", "h", "", NULL, "EXT=_) { a" },
	{ "the same in EXT2", "", "a-() { a", "h", "", NULL, "EXT2=_) { a" },
	{ "the same in HOST", "", "", "() { a.b", "", NULL, "HOST2=_) { a" },
	{ "the same in LOCAL", "() {", "", "h", "", NULL, "LOCAL=_) {" },
	{ "the same in RECIPIENT", "() {", "", "h", "", NULL, "RECIPIENT=_) {@h" },
	{ "the same in DEFAULT", "", "", "h", "", "() { x", "DEFAULT=_) { x" },
	{ "a bracket alone stays", "", "", "h", "(a)@h", NULL, "SENDER=(a)@h" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
environment_row(void **state)
{
	const struct row *row = *state;
	struct environment_values v = {
		.user = "ann", .home = "/home/ann", .sender = row->sender, .new_sender = row->sender, .local = row->local,
		.ext = row->ext, .host = row->host, .rest = row->rest, .delivered_to = "Delivered-To: x\n",
		.return_path = "Return-Path: <>\n", .from_line = "From x\n",
	};
	stralloc variables = STRALLOC_ZERO;
	size_t name = strcspn(row->want, "=");
	int found = 0;
	char **envp;

	assert_int_equal(environment_build(&variables, &v), 1);
	envp = environment_merge(base, &variables);
	assert_non_null(envp);
	for (char **e = envp; *e; e++) {
		if (!strncmp(*e, row->want, name) && (*e)[name] == '=') {
			assert_string_equal(*e, row->want);
			found++;
		}
	}
	assert_int_equal(found, row->want[name] == '=');
	free(envp);
	stralloc_free(&variables);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = environment_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
