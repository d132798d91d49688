/* qmail-pw2u: make users/assign from a passwd file.
 * Trust: the passwd file and the files in users/ are the administrator's; a name or home that would break the table's
 * lines is left out with a warning. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include <skalibs/djbunix.h>
#include <skalibs/sgetopt.h>
#include <skalibs/skamisc.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "control/control.h"
#include "exitcode.h"
#include "home.h"
#include "stralloc_set.h"
#include "users/passwd.h"

#define USAGE "qmail-pw2u [-/ohHuUC] [-c char]"

enum { LINE_MAX_OCTETS = 65536, PASSWD_FIELDS = 7 };
enum home_rule { HOME_OWN, HOME_MUST_EXIST, HOME_ANY };

struct maker {
	enum home_rule home_rule;
	int upper_case;		/* users with upper case letters too */
	char break_char;	/* 0: no extensions */
	const char *dash;
	struct control_map include, exclude, mailnames;
	int has_include;
	stralloc accounts;	/* those that got lines: user:uid:gid:home NUL */
	int has_alias;
};

struct entry { const char *user, *uid, *gid, *home; };

static void
put(const char *s)
{
	if (buffer_puts(buffer_1, s) < 0)
		strerr_diefusys(EXIT_TEMP, "write the table");
}

/* sign name [break]:user:uid:gid:home:dash:ext[break]: */
static void
put_line(const struct entry *e, const char *sign, const char *name, const char *end, const char *dash, const char *ext,
    const char *ext_end)
{
	const char *const parts[] = { sign, name, end, ":", e->user, ":", e->uid, ":", e->gid, ":", e->home, ":", dash, ":",
	    ext, ext_end, ":\n" };

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		put(parts[i]);
}

/* The lines for the mail name of a user, and of its extensions. */
static void
put_name(const struct maker *m, const struct entry *e, const char *name)
{
	const char end[2] = { m->break_char, '\0' };

	put_line(e, "=", name, "", "", "", "");
	if (m->break_char)
		put_line(e, "+", name, end, m->dash, "", "");
}

static void
put_names(const struct maker *m, const struct entry *e)
{
	const char *names = control_map_find(&m->mailnames, e->user, strlen(e->user));
	stralloc copy = STRALLOC_ZERO;
	char *name, *next;

	if (!names) {
		put_name(m, e, e->user);
		return;
	}
	if (!stralloc_setb(&copy, names, strlen(names) + 1))
		strerr_dief(EXIT_TEMP, "out of memory");
	for (name = next = copy.s; next; name = next) {
		next = strchr(name, ':');
		if (next)
			*next++ = '\0';
		if (*name)
			put_name(m, e, name);
	}
	stralloc_free(&copy);
}

static void
remember(struct maker *m, const struct entry *e)
{
	const char *const parts[] = { e->user, ":", e->uid, ":", e->gid, ":", e->home };

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (!stralloc_cats(&m->accounts, parts[i]))
			strerr_dief(EXIT_TEMP, "out of memory");
	if (!stralloc_append(&m->accounts, '\0'))
		strerr_dief(EXIT_TEMP, "out of memory");
}

/* Whether the home of a user is as home_rule wants it. */
static int
home_fits(const struct maker *m, const struct entry *e, uid_t uid)
{
	struct stat st;

	if (m->home_rule == HOME_ANY)
		return 1;
	if (stat(e->home, &st) == 0)
		return st.st_uid == uid;
	if (errno != ENOENT && errno != ENOTDIR && errno != EACCES && errno != ENAMETOOLONG && errno != ELOOP)
		strerr_diefusys(EXIT_TEMP, "look at ", e->home, ", home of ", e->user);
	if (m->home_rule == HOME_MUST_EXIST)
		strerr_diefusys(EXIT_TEMP, "find ", e->home, ", home of ", e->user);
	return 0;
}

static int
has_upper_case(const char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			return 1;
	return 0;
}

static int
is_wanted(const struct maker *m, const struct entry *e)
{
	unsigned int uid, gid;

	if (!uint0_scan(e->uid, &uid) || !uint0_scan(e->gid, &gid) || !*e->user || !*e->home) {
		strerr_warnw("skipped a line of the passwd file that is malformed, user ", *e->user ? e->user : "without a name");
		return 0;
	}
	if (uid == 0 || (!m->upper_case && has_upper_case(e->user)))
		return 0;
	if (m->has_include && !control_map_find(&m->include, e->user, strlen(e->user)))
		return 0;
	if (control_map_find(&m->exclude, e->user, strlen(e->user)))
		return 0;
	return home_fits(m, e, uid);
}

/* One line of the passwd file, ended by NUL. */
static void
add_user(struct maker *m, char *line)
{
	const char *field[PASSWD_FIELDS];
	struct entry e;

	for (int i = 0; i < PASSWD_FIELDS; i++) {
		size_t len = strcspn(line, ":");

		field[i] = line;
		line += len;
		if (*line)
			*line++ = '\0';
		else if (i < PASSWD_FIELDS - 2)
			return;		/* no home: not a passwd line */
	}
	e = (struct entry){ .user = field[0], .uid = field[2], .gid = field[3], .home = field[5] };
	if (!is_wanted(m, &e))
		return;
	if (!strcmp(e.user, "alias")) {
		m->has_alias = 1;
		put_line(&e, "+", "", "", m->dash, "", "");
	}
	put_names(m, &e);
	remember(m, &e);
}

static void
add_users(struct maker *m)
{
	stralloc line = STRALLOC_ZERO;
	int r;

	for (;;) {
		line.len = 0;
		r = skagetlnmaxsep(buffer_0, &line, LINE_MAX_OCTETS, "\n", 1);
		if (r < 0 && (errno != EPIPE || !line.len))
			strerr_diefusys(EXIT_TEMP, "read the passwd file");
		if (r == 0)
			break;
		line.len -= r > 0;
		if (!stralloc_append(&line, '\0'))
			strerr_dief(EXIT_TEMP, "out of memory");
		add_user(m, line.s);
		if (r < 0)
			break;
	}
	stralloc_free(&line);
}

/* users/subusers: each line is sub:user:pre: */
static void
add_subuser(const struct maker *m, const struct control_map *accounts, char *line)
{
	const char end[2] = { m->break_char, '\0' };
	char *user = strchr(line, ':');
	char *pre = user ? strchr(user + 1, ':') : NULL;
	const char *found;
	stralloc copy = STRALLOC_ZERO;
	struct entry e;
	char *gid, *home;

	if (!pre || !strchr(pre + 1, ':')) {
		strerr_warnw("skipped a line of users/subusers that is not sub:user:pre:");
		return;
	}
	*user++ = *pre++ = '\0';
	/* -Wanalyzer-null-dereference: it was looked for above */
	*strchr(pre, ':') = '\0';
	found = control_map_find(accounts, user, strlen(user));
	if (!found) {
		strerr_warnw("skipped ", line, " in users/subusers: there are no lines for user ", user);
		return;
	}
	if (!stralloc_sets(&copy, found) || !stralloc_append(&copy, '\0'))
		strerr_dief(EXIT_TEMP, "out of memory");
	gid = strchr(copy.s, ':');
	home = strchr(gid + 1, ':');
	/* -Wanalyzer-null-dereference: remember has put in all fields */
	*gid++ = *home++ = '\0';
	e = (struct entry){ .user = user, .uid = copy.s, .gid = gid, .home = home };
	put_line(&e, "=", line, "", m->dash, pre, "");
	if (m->break_char)
		put_line(&e, "+", line, end, m->dash, pre, "-");
	stralloc_free(&copy);
}

static void
add_subusers(struct maker *m)
{
	stralloc lines = STRALLOC_ZERO;
	struct control_map accounts;
	size_t next;

	if (control_list(&lines, "users/subusers") < 0)
		strerr_diefusys(EXIT_TEMP, "read users/subusers");
	if (!control_map_build(&accounts, &m->accounts, 1))
		strerr_dief(EXIT_TEMP, "out of memory");
	for (size_t at = 0; at < lines.len; at = next) {
		next = at + strlen(lines.s + at) + 1;
		add_subuser(m, &accounts, lines.s + at);
	}
	control_map_free(&accounts);
	stralloc_free(&lines);
}

static void
append_file(void)
{
	stralloc text = STRALLOC_ZERO;

	if (!openslurpclose(&text, "users/append") && errno != ENOENT)
		strerr_diefusys(EXIT_TEMP, "read users/append");
	if (text.len && text.s[text.len - 1] != '\n' && !stralloc_append(&text, '\n'))
		strerr_dief(EXIT_TEMP, "out of memory");
	if (text.len && buffer_put(buffer_1, text.s, text.len) < 0)
		strerr_diefusys(EXIT_TEMP, "write the table");
	stralloc_free(&text);
}

static int
read_map(struct control_map *map, const char *file, int with_values)
{
	stralloc list = STRALLOC_ZERO;
	int r = control_list(&list, file);

	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "read ", file);
	if (!control_map_build(map, &list, with_values))
		strerr_dief(EXIT_TEMP, "out of memory");
	return r;
}

static void
read_options(struct maker *m, int argc, const char *const *argv)
{
	subgetopt l = SUBGETOPT_ZERO;
	int opt;

	while ((opt = subgetopt_r(argc, argv, "/ohHuUCc:", &l)) != -1)
		switch (opt) {
		case '/': m->dash = "-/"; break;
		case 'o': m->home_rule = HOME_OWN; break;
		case 'h': m->home_rule = HOME_MUST_EXIST; break;
		case 'H': m->home_rule = HOME_ANY; break;
		case 'u': m->upper_case = 1; break;
		case 'U': m->upper_case = 0; break;
		case 'C': m->break_char = '\0'; break;
		case 'c': m->break_char = *l.arg; break;
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	if (l.ind < argc || m->break_char == ':' || m->break_char == '\n')
		strerr_dieusage(EXIT_PERM, USAGE);
}

int
main(int argc, const char *const *argv)
{
	struct maker m = { .break_char = PASSWD_BREAK, .dash = "-" };

	PROG = "qmail-pw2u";
	read_options(&m, argc, argv);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	m.has_include = read_map(&m.include, "users/include", 0);
	read_map(&m.exclude, "users/exclude", 0);
	read_map(&m.mailnames, "users/mailnames", 1);
	add_users(&m);
	if (!m.has_alias)
		strerr_dief(EXIT_TEMP, "there is no user alias in the passwd file");
	add_subusers(&m);
	append_file();
	put(".\n");
	if (!buffer_flush(buffer_1))
		strerr_diefusys(EXIT_TEMP, "write the table");
	return EXIT_OK;
}
