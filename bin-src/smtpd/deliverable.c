#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include "bin-src/local/dotqmail.h"
#include "deliverable.h"
#include "replaced.h"
#include "stralloc_set.h"
#include "users/tables.h"

void
verdict_set(struct verdict *v, enum rcpt_answer answer, ...)
{
	const char *part;
	size_t n = 0;
	va_list parts;

	va_start(parts, answer);
	while ((part = va_arg(parts, const char *)))
		for (; *part && n < RCPTCHECK_TEXT_MAX; part++)
			v->text[n++] = *part >= ' ' && *part <= '~' ? *part : '?';
	va_end(parts);
	v->text[n] = '\0';
	v->answer = answer;
}

static void
no_memory(struct verdict *v)
{
	verdict_set(v, RCPT_CANNOT_KNOW, "out of memory", NULL);
}

/* --- dot-qmail ------------------------------------------------------------------------------------------------ */

/* Whether file has instructions. 1, 0 it is absent, -1 that cannot be known (*v says why). As dotqmail_find, except that
 * a file that would defer the delivery counts: it is there. */
static int
is_there(const char *file, struct verdict *v)
{
	struct stat st;

	if (stat(file, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		if (S_ISREG(st.st_mode))
			return 1;
		verdict_set(v, RCPT_CANNOT_KNOW, file, " is not a regular file", NULL);
		return -1;
	}
	if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG)
		return 0;
	verdict_set(v, RCPT_CANNOT_KNOW, "unable to look at ", file, ": ", strerror(errno), NULL);
	return -1;
}

/* Looks for the names in their order. 1 and *path found, 0 none, -1 cannot be known. */
static int
search(stralloc *path, const char *home, const char *dash, const stralloc *safe, struct verdict *v)
{
	stralloc name = STRALLOC_ZERO;
	long rest;
	int r = 0, more = 1;

	for (unsigned int n = 0; r == 0 && more > 0; n++) {
		more = dotqmail_candidate(&name, dash, safe, n, &rest);
		if (more > 0) {
			if (!stralloc_sets(path, home) || !stralloc_cats(path, "/") || !stralloc_catb(path, name.s, name.len))
				more = -1;
			else
				r = is_there(path->s, v);
		}
	}
	stralloc_free(&name);
	if (more >= 0)
		return r;
	no_memory(v);
	return -1;
}

/* Nothing was found: is that certain? */
static void
judge_absence(const char *user, const char *home, const char *dash, const char *safe, struct verdict *v)
{
	struct stat st;

	if (stat(home, &st) < 0)
		verdict_set(v, RCPT_CANNOT_KNOW, "unable to look at ", home, ": ", strerror(errno), NULL);
	else if (!S_ISDIR(st.st_mode) || st.st_mode & (S_ISVTX | DOTQMAIL_WRITABLE))
		verdict_set(v, RCPT_CANNOT_KNOW, home, " of user ", user, " is no directory, writable by everybody, or sticky: ",
		    "its mail is deferred", NULL);
	else if (is_replaced(-1, "qmail-local"))
		verdict_set(v, RCPT_CANNOT_KNOW, "bin/qmail-local is not our own", NULL);
	else
		verdict_set(v, RCPT_UNKNOWN, "user ", user, " has neither ", home, "/.qmail", dash, safe,
		    " nor a default file for it", NULL);
}

void
deliverable_home(const char *user, const char *home, const char *dash, const char *ext, struct verdict *v)
{
	stralloc safe = STRALLOC_ZERO, path = STRALLOC_ZERO;
	int r;

	if (!*dash) {	/* .qmail or what else there is, in the last resort the default delivery */
		verdict_set(v, RCPT_DELIVERS, "user ", user, ", home ", home, NULL);
		return;
	}
	if (!dotqmail_safe(&safe, ext))
		no_memory(v);
	else {
		r = search(&path, home, dash, &safe, v);
		if (r > 0)
			verdict_set(v, RCPT_DELIVERS, "user ", user, ", file ", path.s, NULL);
		else if (r == 0)
			judge_absence(user, home, dash, safe.s, v);
	}
	stralloc_free(&safe);
	stralloc_free(&path);
}

/* --- whose it is ---------------------------------------------------------------------------------------------- */

static void
judge_account(const struct account *account, struct verdict *v)
{
	if (account->uid == 0)
		verdict_set(v, RCPT_TEMPORARY, "user ", account->user, " has uid 0: mail is never delivered as root", NULL);
	else
		deliverable_home(account->user, account->home, account->dash, account->ext, v);
}

void
deliverable_fields(const char *fields, size_t len, struct verdict *v)
{
	struct account account = { .user = NULL };

	if (account_parse(&account, fields, len))
		judge_account(&account, v);
	else
		verdict_set(v, RCPT_CANNOT_KNOW, "the answer of the user database makes no sense", NULL);
	account_free(&account);
}

void
deliverable_user(const struct passwd_source *source, const char *local, struct verdict *v)
{
	stralloc fields = STRALLOC_ZERO;

	switch (passwd_find(&fields, source, local)) {
	case PASSWD_FOUND:
		deliverable_fields(fields.s, fields.len, v);
		break;
	case PASSWD_NO_ALIAS:
		verdict_set(v, RCPT_TEMPORARY, "there is no user alias", NULL);
		break;
	case PASSWD_TEMP_USER:
		verdict_set(v, RCPT_CANNOT_KNOW, "unable to ask the user database: ", strerror(errno), NULL);
		break;
	case PASSWD_TEMP_HOME:
		verdict_set(v, RCPT_CANNOT_KNOW, "unable to look at the home of a user: ", strerror(errno), NULL);
		break;
	case PASSWD_NO_MEMORY:
		no_memory(v);
	}
	stralloc_free(&fields);
}

/* The local part is in r->address, NUL-terminated. */
static enum deliverable_step
ask_table(struct deliverable *r, struct verdict *v)
{
	const char *table;

	switch (tables_find(&r->account, r->local, strlen(r->local), &table)) {
	case 0:
		return DELIVERABLE_USER;
	case 1:
		if (r->account.uid && *r->account.dash)
			return DELIVERABLE_HOME;
		judge_account(&r->account, v);
		break;
	default:
		verdict_set(v, errno == EPROTO ? RCPT_TEMPORARY : RCPT_CANNOT_KNOW, "unable to read ", table, ": ",
		    strerror(errno), NULL);
	}
	return DELIVERABLE_ANSWERED;
}

enum deliverable_step
deliverable_begin(struct deliverable *r, const struct route_rules *rules, const char *address, struct verdict *v)
{
	struct route route;

	if (!route_find(rules, address, &r->address, &route))
		no_memory(v);
	else if (route.channel == ROUTE_REMOTE)
		verdict_set(v, RCPT_NOT_LOCAL, r->address.s + route.at + 1, " is not local here", NULL);
	else {
		r->address.s[route.at] = '\0';
		r->local = r->address.s;
		if (*r->local)
			return ask_table(r, v);
		verdict_set(v, RCPT_DELIVERS, "mail to an empty local part is thrown away", NULL);
	}
	return DELIVERABLE_ANSWERED;
}
