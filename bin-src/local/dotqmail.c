#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "dotqmail.h"
#include "stralloc_set.h"

int
dotqmail_safe(stralloc *safe, const char *ext)
{
	safe->len = 0;
	for (; *ext; ext++) {
		char c = *ext;

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!stralloc_append(safe, c == '.' ? ':' : c))
			return 0;
	}
	return stralloc_0(safe);
}

static int
make_name(stralloc *name, const char *dash, const char *s, size_t len, const char *suffix)
{
	return stralloc_sets(name, ".qmail") && stralloc_cats(name, dash) && stralloc_catb(name, s, len) &&
	    stralloc_cats(name, suffix) && stralloc_0(name);
}

/* The length of the nth (from 1) part of safe that ends with '-', counted from the longest; the last is the empty one.
 * Returns -1 if there are not as many. */
static long
prefix_length(const char *safe, size_t len, unsigned int n)
{
	for (long i = (long)len; i >= 0; i--) {
		if ((i == 0 || safe[i - 1] == '-') && --n == 0)
			return i;
	}
	return -1;
}

int
dotqmail_candidate(stralloc *name, const char *dash, const stralloc *safe, unsigned int n, long *rest)
{
	static const char word[] = "default";
	size_t len = safe->len - 1;

	if (n) {
		*rest = prefix_length(safe->s, len, n);
		if (*rest < 0)
			return 0;
		return make_name(name, dash, safe->s, (size_t)*rest, word) ? 1 : -1;
	}
	*rest = -1;
	if (len >= sizeof word - 1 && !memcmp(safe->s + len - (sizeof word - 1), word, sizeof word - 1))
		*rest = (long)(len - (sizeof word - 1));
	return make_name(name, dash, safe->s, len, "") ? 1 : -1;
}

/* 1 if errno says for certain that there is no such file. */
static int
is_absent(void)
{
	return errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG;
}

int
dotqmail_exists(const char *dash, const char *safe, const char *suffix)
{
	stralloc name = STRALLOC_ZERO;
	struct stat st;
	int r;

	if (!make_name(&name, dash, safe, strlen(safe), suffix)) {
		errno = ENOMEM;
		return -1;
	}
	r = stat(name.s, &st) == 0 ? S_ISREG(st.st_mode) : is_absent() ? 0 : -1;
	stralloc_free(&name);
	return r;
}

static void
say(struct report *report, const char *file, const char *what)
{
	report_line(report, "The file ", file, " ", what);
}

/* Opens the file if there is one to obey. Nothing is opened that could block or act by being opened.
 * Returns a descriptor, -1 if it is absent, -2 after a report. */
static int
open_regular(const char *file, struct stat *st, struct report *report)
{
	int fd;

	if (stat(file, st) == 0) {
		if (S_ISDIR(st->st_mode))
			return -1;
		if (!S_ISREG(st->st_mode)) {
			say(report, file, "is not a regular file. (#4.3.5)");
			return -2;
		}
		fd = open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
			return fd;
		if (fd >= 0) {
			close(fd);
			errno = EAGAIN;
		}
	}
	if (is_absent())
		return -1;
	report_line(report, "Unable to look at ", file, ": ", strerror(errno), ". (#4.3.0)");
	return -2;
}

/* 1 if a file with this status may be obeyed; else said in the report. */
static int
is_acceptable(const char *file, const struct stat *st, unsigned int home_owner, struct report *report)
{
	if (st->st_mode & DOTQMAIL_WRITABLE)
		say(report, file, "can be written by everybody. (#4.7.0)");
	else if (st->st_uid != geteuid() && st->st_uid != 0 && st->st_uid != home_owner &&
	    !(st->st_mode & DOTQMAIL_FORWARD_ONLY))
		say(report, file, "belongs to somebody else. (#4.7.0)");
	else if (st->st_size > DOTQMAIL_SIZE_MAX)
		say(report, file, "is too large. (#4.3.5)");
	else
		return 1;
	return 0;
}

/* Reads at most one octet more than a file may have, so that one that grows is noticed. Returns 1, or 0 with errno. */
static int
read_whole(int fd, size_t size, stralloc *text)
{
	for (;;) {
		ssize_t r;

		if (!stralloc_readyplus(text, size + 1)) {
			errno = ENOMEM;
			return 0;
		}
		r = fd_read(fd, text->s + text->len, size + 1);
		if (r <= 0)
			return r == 0;
		text->len += (size_t)r;
		if (text->len > DOTQMAIL_SIZE_MAX) {
			errno = EFBIG;
			return 0;
		}
	}
}

int
dotqmail_take(struct dotqmail *d, const char *s, size_t len)
{
	d->lines.len = 0;
	if (memchr(s, '\0', len)) {
		errno = EINVAL;
		return 0;
	}
	while (len) {
		const char *newline = memchr(s, '\n', len);
		size_t line = newline ? (size_t)(newline - s) : len;
		size_t end = line;

		while (end && (s[end - 1] == ' ' || s[end - 1] == '\t'))
			end--;
		if (!stralloc_catb(&d->lines, s, end) || !stralloc_0(&d->lines)) {
			errno = ENOMEM;
			return 0;
		}
		line += newline != NULL;
		s += line;
		len -= line;
	}
	return d->lines.len || stralloc_0(&d->lines);
}

static enum dotqmail_result
take_file(struct dotqmail *d, int fd, const struct stat *st, const char *default_delivery, struct report *report)
{
	stralloc text = STRALLOC_ZERO;
	int ok = read_whole(fd, (size_t)st->st_size, &text);

	if (ok && text.len == 0)
		ok = dotqmail_take(d, default_delivery, strlen(default_delivery));
	else if (ok) {
		ok = dotqmail_take(d, text.s, text.len);
		d->forward_only = (st->st_mode & DOTQMAIL_FORWARD_ONLY) != 0;
	}
	if (!ok)
		report_line(report, "Unable to use ", d->file.s, ": ", strerror(errno), ". (#4.3.0)");
	stralloc_free(&text);
	return ok ? DOTQMAIL_FOUND : DOTQMAIL_TEMPORARY;
}

static enum dotqmail_result
use_file(struct dotqmail *d, const char *default_delivery, unsigned int home_owner, struct report *report)
{
	struct stat st;
	int fd = open_regular(d->file.s, &st, report);
	enum dotqmail_result result = DOTQMAIL_TEMPORARY;

	if (fd == -1)
		return DOTQMAIL_ABSENT;
	if (fd < 0)
		return DOTQMAIL_TEMPORARY;
	if (is_acceptable(d->file.s, &st, home_owner, report))
		result = take_file(d, fd, &st, default_delivery, report);
	close(fd);
	return result;
}

static enum dotqmail_result
search(struct dotqmail *d, const char *dash, const char *ext, const stralloc *safe, const char *default_delivery,
    unsigned int home_owner, struct report *report)
{
	enum dotqmail_result result;
	long rest;
	int r;

	for (unsigned int n = 0; (r = dotqmail_candidate(&d->file, dash, safe, n, &rest)) > 0; n++) {
		result = use_file(d, default_delivery, home_owner, report);
		if (result == DOTQMAIL_ABSENT)
			continue;
		d->rest = rest < 0 ? NULL : ext + rest;
		return result;
	}
	d->file.len = 0;
	if (r == 0 && *dash)
		return DOTQMAIL_ABSENT;
	if (r == 0 && dotqmail_take(d, default_delivery, strlen(default_delivery)))
		return DOTQMAIL_FOUND;
	report_line(report, "Out of memory. (#4.3.0)");
	return DOTQMAIL_TEMPORARY;
}

enum dotqmail_result
dotqmail_find(struct dotqmail *d, const char *dash, const char *ext, const char *default_delivery,
    unsigned int home_owner, struct report *report)
{
	stralloc safe = STRALLOC_ZERO;
	enum dotqmail_result result = DOTQMAIL_TEMPORARY;

	d->forward_only = 0;
	d->rest = NULL;
	if (dotqmail_safe(&safe, ext))
		result = search(d, dash, ext, &safe, default_delivery, home_owner, report);
	else
		report_line(report, "Out of memory. (#4.3.0)");
	stralloc_free(&safe);
	return result;
}

int
dotqmail_next(const struct dotqmail *d, size_t *at, struct dotqmail_line *line)
{
	const char *s = d->lines.s + *at;
	int is_first = *at == 0;

	if (*at >= d->lines.len)
		return 0;
	*at += strlen(s) + 1;
	*line = (struct dotqmail_line){ .kind = DOTQMAIL_NOTHING, .text = s };
	switch (*s) {
	case '\0':
		line->kind = is_first ? DOTQMAIL_BLANK_FIRST : DOTQMAIL_NOTHING;
		break;
	case '#':
		break;
	case '+':
		line->kind = strcmp(s, "+list") == 0 ? DOTQMAIL_LIST : DOTQMAIL_NOTHING;
		break;
	case '|':
		line->kind = DOTQMAIL_PROGRAM;
		line->text = s + 1;
		break;
	case '.':
	case '/':
		line->kind = s[strlen(s) - 1] == '/' ? DOTQMAIL_MAILDIR : DOTQMAIL_MBOX;
		break;
	case '&':
		line->kind = DOTQMAIL_FORWARD;
		line->text = s + 1;
		break;
	default:
		line->kind = DOTQMAIL_FORWARD;
	}
	return 1;
}

void
dotqmail_free(struct dotqmail *d)
{
	stralloc_free(&d->lines);
	stralloc_free(&d->file);
}
