#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include "delivery.h"
#include "environment.h"
#include "maildir_quota.h"
#include "mbox.h"
#include "program.h"
#include "resend.h"
#include "stralloc_set.h"
#include "trace.h"

enum { NUMBERS = 96 };	/* octets of a line with three numbers */

static enum exitcode
no_memory(struct delivery *d)
{
	report_line(&d->report, "Out of memory. (#4.3.0)");
	return EXIT_TEMP;
}

/* --- before ------------------------------------------------------------------ */

/* 1 if the home may be used. */
static int
is_good_home(struct delivery *d, const struct stat *st, int say_only)
{
	if (st->st_mode & DOTQMAIL_WRITABLE) {
		report_line(&d->report, "The home directory can be written by everybody. (#4.7.0)");
		return 0;
	}
	if (st->st_mode & S_ISVTX) {
		report_line(&d->report, "The home directory is sticky: its user is changing the dot-qmail files. (#4.2.1)");
		return say_only;
	}
	return 1;
}

enum exitcode
delivery_enter(struct delivery *d, int say_only)
{
	const struct delivery_account *a = d->account;
	struct stat st;

	umask(077);
	if (fchdir(a->start) < 0 || chdir(a->home) < 0 || stat(".", &st) < 0) {
		report_line(&d->report, "Unable to enter the home directory ", a->home, ": ", strerror(errno), ". (#4.3.0)");
		return EXIT_TEMP;
	}
	d->home_owner = st.st_uid;
	return is_good_home(d, &st, say_only) ? EXIT_OK : EXIT_TEMP;
}

/* Ends a line with a NUL that its len does not count. */
static int
terminate(stralloc *line)
{
	if (!stralloc_0(line))
		return 0;
	line->len--;
	return 1;
}

enum exitcode
delivery_prepare(struct delivery *d, int say_only)
{
	int r;

	if (!trace_delivered_to(&d->delivered_to, d->local, d->domain) || !terminate(&d->delivered_to) ||
	    !trace_return_path(&d->return_path, d->sender) || !terminate(&d->return_path) ||
	    !trace_from_line(&d->from_line, d->sender, time(NULL)) || !terminate(&d->from_line))
		return no_memory(d);
	r = say_only ? 0 : message_has_header_line(&d->message, d->delivered_to.s, d->delivered_to.len - 1);
	if (r < 0) {
		report_line(&d->report, "Unable to read the message: ", strerror(errno), ". (#4.3.0)");
		return EXIT_TEMP;
	}
	if (r) {
		report_line(&d->report, "This message loops: it was delivered to this address before. (#5.4.6)");
		return EXIT_PERM;
	}
	switch (dotqmail_find(&d->instructions, d->dash, d->ext, d->account->default_delivery, d->home_owner, &d->report)) {
	case DOTQMAIL_FOUND:
		return EXIT_OK;
	case DOTQMAIL_ABSENT:
		report_line(&d->report, "There is no mailbox of that name here. (#5.1.1)");
		return EXIT_PERM;
	default:
		return EXIT_TEMP;
	}
}

const char *
delivery_maildir(const struct delivery *d)
{
	int forward_only = d->instructions.forward_only;
	struct dotqmail_line line;
	const char *path = NULL;

	for (size_t at = 0; dotqmail_next(&d->instructions, &at, &line);) {
		if (line.kind == DOTQMAIL_NOTHING)
			continue;
		if (line.kind == DOTQMAIL_LIST)
			forward_only = 1;
		else if (line.kind != DOTQMAIL_MAILDIR || path || forward_only)
			return NULL;
		else
			path = line.text;
	}
	return path;
}

/* --- maildir ------------------------------------------------------------------ */

/* Mailbox full, system full, or some other trouble of the mailbox: RFC 3463 sections 3.3 and 3.4. */
static const char *
status_of(int error)
{
	return error == EDQUOT ? ". (#4.2.2)" : error == ENOSPC ? ". (#4.3.1)" : ". (#4.2.1)";
}

static enum exitcode
file_trouble(struct delivery *d, const char *what, const char *path)
{
	report_line(&d->report, "Unable to ", what, " ", path, ": ", strerror(errno), status_of(errno));
	return EXIT_TEMP;
}

/* The lines go out with the first octets of the message. Returns 1, or 0 with errno set. */
static int
write_maildir_file(struct delivery *d, struct maildir_file *f)
{
	char buffer[MESSAGE_BUFFER];
	struct iovec v[3] = {
		{ .iov_base = d->return_path.s, .iov_len = d->return_path.len },
		{ .iov_base = d->delivered_to.s, .iov_len = d->delivered_to.len },
	};
	unsigned int first = 0;
	uint64_t at = 0;
	const char *s = "";
	ssize_t r;

	do {
		r = message_octets(&d->message, at, &s, buffer);
		if (r < 0)
			return 0;
		v[2] = (struct iovec){ .iov_base = (void *)(uintptr_t)s, .iov_len = (size_t)r };
		if (!maildir_write(f, v + first, 3 - first))
			return 0;
		at += (uint64_t)r;
		first = 2;
	} while (r > 0 && at < d->message.size);
	return 1;
}

/* Settles one message of a batch that failed. */
static void
fail(struct delivery *d, struct maildir *m, struct maildir_file *f, const char *path, enum exitcode *code)
{
	*code = file_trouble(d, "write into", path);
	maildir_abandon(m, f);
}

/* What it takes in a maildir. */
static uint64_t
size_of(const struct delivery *d)
{
	return d->return_path.len + d->delivered_to.len + d->message.size;
}

/* Takes room for a message, or settles why there is none. */
static enum exitcode
take_room(struct delivery *d, struct maildir_quota *q, const char *path)
{
	int never, r = maildir_quota_take(q, size_of(d), &never);

	if (r > 0)
		return EXIT_OK;
	if (r < 0)
		return file_trouble(d, "count the mail in", path);
	if (never) {
		report_line(&d->report, "The message is larger than its mailbox may be. (#5.2.3)");
		return EXIT_PERM;
	}
	report_line(&d->report, "The mailbox is full. (#4.2.2)");
	return EXIT_TEMP;
}

/* Gives back what was taken for messages that did not come. */
static void
return_room(const struct maildir_quota *q, struct delivery *const *d, unsigned int n, const enum exitcode *codes)
{
	int64_t octets = -(int64_t)q->taken_octets, messages = -(int64_t)q->taken_messages;

	for (unsigned int i = 0; i < n; i++)
		if (codes[i] == EXIT_OK) {
			octets += (int64_t)size_of(d[i]);
			messages++;
		}
	if (messages)
		maildir_quota_record(q->root, octets, messages);
}

/* Delivers those whose code is EXIT_OK. */
static void
deliver_into(struct maildir *m, struct delivery *const *d, unsigned int n, const char *path, enum exitcode *codes)
{
	struct maildir_file files[DELIVERY_BATCH];

	for (unsigned int i = 0; i < n; i++) {
		files[i].fd = -1;
		if (codes[i] != EXIT_OK)
			continue;
		if (!maildir_create(m, &files[i]) || !write_maildir_file(d[i], &files[i]))
			fail(d[i], m, &files[i], path, &codes[i]);
		else if (n > 1)
			maildir_start_flush(&files[i]);
	}
	/* all flushes before the first rename, which would give the next flush more to write */
	for (unsigned int i = 0; i < n; i++) {
		if (codes[i] == EXIT_OK && !maildir_flush(&files[i]))
			fail(d[i], m, &files[i], path, &codes[i]);
	}
	for (unsigned int i = 0; i < n; i++) {
		if (codes[i] == EXIT_OK && !maildir_publish(m, &files[i]))
			fail(d[i], m, &files[i], path, &codes[i]);
	}
	if (!maildir_sync(m)) {
		int error = errno;

		for (unsigned int i = 0; i < n; i++) {
			errno = error;
			if (codes[i] == EXIT_OK)
				fail(d[i], m, &files[i], path, &codes[i]);
		}
	}
	for (unsigned int i = 0; i < n; i++)
		maildir_finish(&files[i]);
}

/* Settles them all with errno. */
static void
fail_all(struct delivery *const *d, unsigned int n, const char *what, const char *path, enum exitcode *codes)
{
	int error = errno;

	for (unsigned int i = 0; i < n; i++) {
		errno = error;
		codes[i] = file_trouble(d[i], what, path);
	}
}

static void
deliver_within_quota(struct maildir *m, struct delivery *const *d, unsigned int n, const char *path, enum exitcode *codes)
{
	struct maildir_quota quota;

	if (!maildir_quota_open(&quota, path, d[0]->account->quota)) {
		fail_all(d, n, "count the mail in", path, codes);
		return;
	}
	for (unsigned int i = 0; i < n; i++)
		codes[i] = take_room(d[i], &quota, path);
	maildir_quota_reserve(&quota);
	deliver_into(m, d, n, path, codes);
	return_room(&quota, d, n, codes);
	maildir_quota_close(&quota);
}

static void
deliver_maildir(struct delivery *const *d, unsigned int n, const char *path, enum exitcode *codes)
{
	struct maildir m;

	if (!maildir_open(&m, path)) {
		fail_all(d, n, "open the maildir", path, codes);
		return;
	}
	for (unsigned int i = 0; i < n; i++)
		codes[i] = EXIT_OK;
	if (d[0]->account->quota)
		deliver_within_quota(&m, d, n, path, codes);
	else
		deliver_into(&m, d, n, path, codes);
	maildir_close(&m);
}

/* --- mbox --------------------------------------------------------------------- */

/* Returns 1, or 0 with errno set. */
static int
write_mbox(struct delivery *d, struct mbox *m)
{
	char buffer[MESSAGE_BUFFER];
	uint64_t at = 0;
	const char *s;
	ssize_t r;

	if (!mbox_begin(m, d->from_line.s, d->from_line.len) || !mbox_header(m, d->return_path.s, d->return_path.len) ||
	    !mbox_header(m, d->delivered_to.s, d->delivered_to.len))
		return 0;
	while ((r = message_octets(&d->message, at, &s, buffer)) > 0) {
		if (!mbox_message(m, s, (size_t)r))
			return 0;
		at += (uint64_t)r;
	}
	return r == 0 && mbox_end(m);
}

static enum exitcode
deliver_mbox(struct delivery *d, const char *path)
{
	enum exitcode code = EXIT_OK;
	struct mbox m;

	if (!mbox_open(&m, path))
		return file_trouble(d, "open", path);
	if (!write_mbox(d, &m) || !mbox_flush(&m, path)) {
		code = file_trouble(d, "write to", path);
		mbox_undo(&m);
	}
	mbox_close(&m);
	return code;
}

/* --- programs and forwards ---------------------------------------------------- */

/* Sets d->new_sender, NUL-terminated: who gets the bounces of what is sent on; interfaces section 8.5. */
static enum exitcode
find_new_sender(struct delivery *d)
{
	stralloc safe = STRALLOC_ZERO;
	int owner = 0, verp = 0, ok;

	if (*d->sender && strcmp(d->sender, "#@[]") != 0) {
		if (!dotqmail_safe(&safe, d->ext))
			return no_memory(d);
		owner = dotqmail_exists(d->dash, safe.s, "-owner");
		if (owner > 0)
			verp = dotqmail_exists(d->dash, safe.s, "-owner-default");
		stralloc_free(&safe);
	}
	if (owner < 0 || verp < 0) {
		report_line(&d->report, "Unable to look for the -owner file: ", strerror(errno), ". (#4.3.0)");
		return EXIT_TEMP;
	}
	if (owner)
		ok = stralloc_sets(&d->new_sender, d->local) && stralloc_cats(&d->new_sender, verp ? "-owner-@" : "-owner@") &&
		    stralloc_cats(&d->new_sender, d->domain) && (!verp || stralloc_cats(&d->new_sender, "-@[]"));
	else
		ok = stralloc_sets(&d->new_sender, d->sender);
	return ok && stralloc_0(&d->new_sender) ? EXIT_OK : no_memory(d);
}

/* HOME for programs, which know nothing of the directory that a relative home is relative to. */
static const char *
home_of_programs(struct delivery *d)
{
	const char *home = d->account->home;
	char *path;

	if (*home == '/' || (path = getcwd(NULL, 0)) == NULL)
		return home;
	if (*path == '/' && stralloc_sets(&d->home_path, path) && stralloc_0(&d->home_path))
		home = d->home_path.s;
	free(path);
	return home;
}

static enum exitcode
make_environment(struct delivery *d)
{
	struct environment_values v = {
		.user = d->account->user, .sender = d->sender, .local = d->local, .ext = d->ext, .host = d->domain,
		.rest = d->instructions.rest, .delivered_to = d->delivered_to.s, .return_path = d->return_path.s,
		.from_line = d->from_line.s,
	};
	enum exitcode code;

	if (d->environment)
		return EXIT_OK;
	code = find_new_sender(d);
	if (code != EXIT_OK)
		return code;
	v.new_sender = d->new_sender.s;
	v.home = home_of_programs(d);
	if (!environment_build(&d->variables, &v))
		return no_memory(d);
	d->environment = environment_merge(d->account->environment, &d->variables);
	return d->environment ? EXIT_OK : no_memory(d);
}

/* What the exit status of a program says; interfaces section 8.3. */
static enum exitcode
code_of_program(int status)
{
	switch (status) {
	case EXIT_OK:
	case EXIT_STOP:
		return (enum exitcode)status;
	case 64: case 65: case 70: case 76: case 77: case 78: case 112:	/* EX_USAGE and others of sysexits(3) */
	case EXIT_PERM:
		return EXIT_PERM;
	default:
		return EXIT_TEMP;
	}
}

static enum exitcode
run_program(struct delivery *d, const char *command)
{
	const char *const argv[] = { "/bin/sh", "-c", command, NULL };
	enum exitcode code = make_environment(d);
	int input, status;

	if (code != EXIT_OK)
		return code;
	input = message_open(&d->message);
	if (input < 0) {
		report_line(&d->report, "Unable to open the message for a program: ", strerror(errno), ". (#4.3.0)");
		return EXIT_TEMP;
	}
	status = program_run(argv, d->environment, input, -1, d->wait, &d->report);
	if (status == PROGRAM_FAILED)
		report_line(&d->report, "Unable to run a program: ", strerror(errno), ". (#4.3.0)");
	else if (status == PROGRAM_CRASHED)
		report_line(&d->report, "A program of the dot-qmail file crashed. (#4.3.0)");
	close(input);
	return code_of_program(status);
}

static enum exitcode
forward(struct delivery *d, uint64_t *number)
{
	enum exitcode code = d->environment ? EXIT_OK : find_new_sender(d);
	struct resend r = {
		.home = d->account->qmail_home, .line = d->delivered_to.s, .recipients = &d->recipients,
	};

	if (code != EXIT_OK)
		return code;
	if (d->account->qmail_home < 0) {
		report_line(&d->report, "Unable to find the qmail home, so nothing can be forwarded. (#4.3.0)");
		return EXIT_TEMP;
	}
	r.sender = d->new_sender.s;
	r.sender_parameters = d->sender_parameters;
	r.parameters = d->parameters;
	r.is_list = strcmp(d->new_sender.s, d->sender) != 0;
	return resend_message(&r, &d->message, &d->report, number);
}

/* --- the lines ---------------------------------------------------------------- */

static enum exitcode
misplaced(struct delivery *d)
{
	report_line(&d->report, "The dot-qmail file is for forwards only, but has a file or program line. (#4.7.0)");
	return EXIT_TEMP;
}

static enum exitcode
follow_line(struct delivery *d, const struct dotqmail_line *line)
{
	enum exitcode code;

	switch (line->kind) {
	case DOTQMAIL_BLANK_FIRST:
		report_line(&d->report, "The first line of the dot-qmail file is blank. (#4.2.1)");
		return EXIT_TEMP;
	case DOTQMAIL_PROGRAM:
		d->programs++;
		return run_program(d, line->text);
	case DOTQMAIL_MBOX:
		d->files++;
		return deliver_mbox(d, line->text);
	case DOTQMAIL_MAILDIR:
		d->files++;
		deliver_maildir(&d, 1, line->text, &code);
		return code;
	case DOTQMAIL_FORWARD:
		d->forwards++;
		if (!stralloc_catb(&d->recipients, line->text, strlen(line->text) + 1))
			return no_memory(d);
		return EXIT_OK;
	default:
		return EXIT_OK;
	}
}

/* The same, in a file that may forbid it. */
static enum exitcode
follow(struct delivery *d, const struct dotqmail_line *line, int *forward_only)
{
	if (line->kind == DOTQMAIL_LIST)
		*forward_only = 1;
	if (*forward_only &&
	    (line->kind == DOTQMAIL_PROGRAM || line->kind == DOTQMAIL_MBOX || line->kind == DOTQMAIL_MAILDIR))
		return misplaced(d);
	if (line->kind == DOTQMAIL_FORWARD && !*line->text) {
		report_line(&d->report, "The dot-qmail file has a forward to no address. (#4.2.1)");
		return EXIT_TEMP;
	}
	return follow_line(d, line);
}

static void
say_counts(struct delivery *d)
{
	char line[NUMBERS];

	snprintf(line, sizeof line, "did %lu+%lu+%lu", d->files, d->forwards, d->programs);
	report_line(&d->report, line);
}

static enum exitcode
finish(struct delivery *d)
{
	char line[NUMBERS];
	uint64_t number = 0;
	enum exitcode code;

	if (d->forwards) {
		code = forward(d, &number);
		if (code != EXIT_OK)
			return code;
	}
	say_counts(d);
	if (d->forwards) {
		snprintf(line, sizeof line, "qp %llu", (unsigned long long)number);
		report_line(&d->report, line);
	}
	return EXIT_OK;
}

enum exitcode
delivery_run(struct delivery *d)
{
	int forward_only = d->instructions.forward_only;
	struct dotqmail_line line;
	enum exitcode code = EXIT_OK;

	for (size_t at = 0; code == EXIT_OK && dotqmail_next(&d->instructions, &at, &line);)
		code = follow(d, &line, &forward_only);
	return code == EXIT_OK || code == EXIT_STOP ? finish(d) : code;
}

enum exitcode
delivery_say(struct delivery *d)
{
	static const char *const words[] = {
		[DOTQMAIL_PROGRAM] = "program ", [DOTQMAIL_MBOX] = "mbox ", [DOTQMAIL_MAILDIR] = "maildir ",
		[DOTQMAIL_FORWARD] = "forward ", [DOTQMAIL_LIST] = NULL,
	};
	int forward_only = d->instructions.forward_only;
	struct dotqmail_line line;

	for (size_t at = 0; dotqmail_next(&d->instructions, &at, &line);) {
		unsigned long *count = line.kind == DOTQMAIL_PROGRAM ? &d->programs :
		    line.kind == DOTQMAIL_FORWARD ? &d->forwards : &d->files;

		if (line.kind == DOTQMAIL_LIST)
			forward_only = 1;
		if (line.kind == DOTQMAIL_BLANK_FIRST)
			return follow_line(d, &line);
		if (!words[line.kind])
			continue;
		if (forward_only && line.kind != DOTQMAIL_FORWARD)
			return misplaced(d);
		++*count;
		buffer_puts(buffer_1, words[line.kind]);
		buffer_puts(buffer_1, line.text);
		if (buffer_putflush(buffer_1, "\n", 1) < 0)
			return EXIT_TEMP;
	}
	say_counts(d);
	return EXIT_OK;
}

void
delivery_batch(struct delivery *const *d, unsigned int n, const char *path, enum exitcode *codes)
{
	deliver_maildir(d, n, path, codes);
	for (unsigned int i = 0; i < n; i++) {
		if (codes[i] == EXIT_OK) {
			d[i]->files = 1;
			say_counts(d[i]);
		}
	}
}

void
delivery_free(struct delivery *d)
{
	dotqmail_free(&d->instructions);
	stralloc_free(&d->delivered_to);
	stralloc_free(&d->return_path);
	stralloc_free(&d->from_line);
	stralloc_free(&d->recipients);
	stralloc_free(&d->new_sender);
	stralloc_free(&d->variables);
	stralloc_free(&d->home_path);
	stralloc_free(&d->report.text);
	free(d->environment);
	d->environment = NULL;
}
