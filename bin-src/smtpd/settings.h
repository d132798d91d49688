/* settings: what the control files say to qmail-smtpd, and the variables that stand in for them.
 * The files are read once, in the parent where the server accepts for itself, and anew in it when one has changed and all have been left
 * alone for STAMP_SETTLE seconds (settings_have_changed), so that a new connection sees the new values without a restart, and none what an
 * editor has half written; a session keeps what it started with.
 * Every limit here has its default in control/files.c. */
#ifndef SETTINGS_H
#define SETTINGS_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "control/control.h"
#include "control/table.h"
#include "expressions.h"
#include "stamp.h"

/* A list of addresses, domains or hosts; those of what is refused may have expressions among their entries. */
struct setting_list {
	int is_there;
	struct control_map entries;
	struct expressions expressions;
};

enum setting_list_name {
	LIST_RCPTHOSTS, LIST_BADMAILFROM, LIST_BADMAILFROM_NORELAY, LIST_BADRCPTTO, LIST_BADRCPTTO_NORELAY, LIST_BADHELO,
	LIST_BADHELO_NORELAY, SETTING_LISTS,
};

enum setting_number_name {
	NUMBER_TIMEOUT,		/* seconds: timeoutsmtpd */
	NUMBER_SESSION,		/* seconds that a session may last: smtpsessiontime; never 0 */
	NUMBER_GREETDELAY,	/* seconds before the greeting */
	NUMBER_DATABYTES,	/* octets of a message, 0 any */
	NUMBER_MAXRCPT,		/* recipients of a message, never 0 */
	NUMBER_MAXMAIL,		/* messages of a session, never 0 */
	NUMBER_MAXHOPS,		/* never 0 */
	NUMBER_MAXERRORS,	/* commands answered by 5yz for their form: maxsmtperrors */
	NUMBER_MAXIDLE,		/* commands without a message: maxsmtpidle; never 0 */
	NUMBER_BRTLIMIT,	/* refused recipients since the last message, 0 any number */
	NUMBER_TARPITCOUNT,	/* recipients of a message before each is delayed, 0 never */
	NUMBER_TARPITDELAY,	/* seconds */
	NUMBER_REJECTNULL,	/* rejectnullsenders: not 0: no mail from <> */
	NUMBER_AUTHORS,		/* submissionauthors: AUTHORS_... */
	SETTING_NUMBERS,
};

/* Who has to belong to a login beside the envelope sender. */
enum { AUTHORS_ANY, AUTHORS_SENDER, AUTHORS_FROM };

enum { SETTINGS_FILES = 26 };	/* files watched for a change, with those of localaddress.h */

struct settings {
	unsigned long numbers[SETTING_NUMBERS];
	struct setting_list lists[SETTING_LISTS];
	stralloc me, localiphost;	/* empty if there is none */
	stralloc greeting;	/* a NUL behind its len octets */
	struct table morercpthosts;
	struct stamp stamps[SETTINGS_FILES];
	int is_unsettled;	/* a file may have been half written when they were read: not to be kept for another connection */
	uint64_t looked_at;	/* monotonic_ms */
};

/* Reads everything below control/ of the current directory into *s, which is all zero or was read before (what it holds is
 * freed). Returns 1, or 0 with errno set and *file what could not be read; control/smtpgreeting and control/me both missing
 * is ENOENT. *s is then as it was. Warns of expressions that are wrong, which count for nothing. */
int settings_read(struct settings *s, const char **file);

/* Opens control/morercpthosts.cdb: in the process that looks into it, because processes that share an open file would move each
 * other's place in it; before it shuts itself in. Returns 1, also if it does not exist, or 0 with errno set. */
int settings_open_table(struct settings *s);

/* Whether *s is to be read again. The files are looked at once a second at most. */
int settings_have_changed(struct settings *s);

/* For a session: the variables that take the place of files (DATABYTES, SMTPD_GREETDELAY, BRTLIMIT, ...) or switch them off
 * (DISABLE_BADMAILFROM), after the rule's are in the environment. *s is the session's own, but what it points to is shared. */
void settings_apply_environment(struct settings *s);

#endif
