/* deliverable: whether mail for an address delivers, found out as qmail-send, qmail-lspawn, qmail-getpw and qmail-local
 * would do it (interfaces sections 6.2, 7, 8.2), but without their rights: what cannot be seen, nobody claims.
 * Trust   addresses are anybody's octets; tables and files are the administrator's and the users'. No file of a home is
 *         opened, only looked at (stat)
 * Steps   1 deliverable_begin: control files and tables of users, all of the current directory, the qmail home
 *         2 what may take long because it asks name service or looks into a home, and so is for another process:
 *           DELIVERABLE_USER deliverable_user, DELIVERABLE_HOME deliverable_home
 * "Unknown" is said only where a delivery would fail for good: every name that could hold instructions is absent for
 *         certain. An error but ENOENT, ENOTDIR, ENAMETOOLONG, a home that is closed, sticky (being edited) or gone, and
 *         a bin/qmail-local of the site's own make it "cannot know" */
#ifndef DELIVERABLE_H
#define DELIVERABLE_H
#include <stddef.h>
#include <skalibs/stralloc.h>
#include "bin-src/send/route.h"
#include "bin-src/smtpd/rcptcheck.h"
#include "users/account.h"
#include "users/passwd.h"

/* An answer and why. */
struct verdict {
	enum rcpt_answer answer;
	char text[RCPTCHECK_TEXT_MAX + 1];	/* printable ASCII, NUL-terminated */
};

enum deliverable_step { DELIVERABLE_ANSWERED, DELIVERABLE_USER, DELIVERABLE_HOME };

/* Room for deliverable_begin, reused from address to address; {0} at first. */
struct deliverable {
	stralloc address;		/* as qmail-send would hand it on */
	const char *local;		/* DELIVERABLE_USER: whose is it? NUL-terminated, in address */
	struct account account;		/* DELIVERABLE_HOME: whose it is */
};

/* Looks address (NUL-terminated) up. Returns DELIVERABLE_ANSWERED and fills *v, or what is to be asked now. */
enum deliverable_step deliverable_begin(struct deliverable *r, const struct route_rules *rules, const char *address,
    struct verdict *v);

/* Whose local is by the user database, and then as deliverable_home. */
void deliverable_user(const struct passwd_source *source, const char *local, struct verdict *v);

/* The same for what a qmail-getpw has answered: six fields, len octets (users/account.h). */
void deliverable_fields(const char *fields, size_t len, struct verdict *v);

/* Whether there are instructions for dash and ext in the home of a user. */
void deliverable_home(const char *user, const char *home, const char *dash, const char *ext, struct verdict *v);

/* Sets an answer; the text is put together from strings, the last one NULL. */
void verdict_set(struct verdict *v, enum rcpt_answer answer, ...) __attribute__((sentinel));

#endif
