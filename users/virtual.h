/* virtual: virtual accounts, mailboxes that need no system user: a line of users/accounts, and the tables that
 * qmail-newaccounts makes of them; qmail-accounts(5) is the reference.
 *   address:hash:uid:gid:home:quota:flags
 * In a table  key address in lower case, value the line; key NUL domain for each domain that has accounts, value empty;
 *             key NUL '*' domain, value the address of its catch-all account; the empty key, value (in
 *             users/passwords.cdb) the dearest hash here
 * Two tables  users/accounts.cdb is for all to read, its lines have no hash; users/passwords.cdb has them and is nobody's
 *             but the owner's of users/accounts
 * Trust       the lines are the administrator's, but a table may be damaged: each line is checked again when it is read.
 *             Addresses and local parts are anybody's: any octets */
#ifndef VIRTUAL_H
#define VIRTUAL_H
#include <stddef.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include "control/table.h"
#include "users/account.h"

#define VIRTUAL_FILE "users/accounts"
#define VIRTUAL_TABLE "users/accounts.cdb"
#define VIRTUAL_PASSWORDS "users/passwords.cdb"
#define VIRTUAL_DELIVERY "./Maildir/"	/* where the home has no .qmail */

enum {
	VIRTUAL_LOCAL_MAX = 64,		/* octets, RFC 5321 section 4.5.3.1 */
	VIRTUAL_DOMAIN_MAX = 255,
	VIRTUAL_ADDRESS_MAX = VIRTUAL_LOCAL_MAX + 1 + VIRTUAL_DOMAIN_MAX,
	VIRTUAL_LINE_MAX = 4096,
	VIRTUAL_FIELDS = 7,
};

enum virtual_flag {
	VIRTUAL_CATCHALL = 1,	/* gets the mail for what its domain has no account for */
	VIRTUAL_EXTENSIONS = 2,	/* user-anything is delivered as user is */
	VIRTUAL_LOCKED = 4,	/* no login; mail arrives */
};

/* {0} at first. */
struct virtual_account {
	stralloc fields;	/* each ended by NUL */
	const char *address, *hash, *home, *quota;	/* in fields; address in lower case, hash empty or of printable
							 * octets, quota as in Maildir++, empty: none */
	uid_t uid;		/* never 0, nor is gid */
	gid_t gid;
	unsigned int flags;	/* of virtual_flag */
};

/* Takes a line (len octets, without its LF) over into *v. Returns NULL, or what is wrong with it, in words. */
const char *virtual_parse(struct virtual_account *v, const char *line, size_t len);

/* Appends the line, without LF. Returns 1, or 0 (ENOMEM). */
int virtual_format(stralloc *line, const struct virtual_account *v, int with_hash);

/* The flags of a comma-separated list of their names. Returns 1, or 0 if there is another word in it. */
int virtual_flags(unsigned int *flags, const char *list);

/* Whether s can stand in a line as a home: it is not empty, and would end neither its field nor its line. */
int virtual_is_home(const char *s);

/* Whether s is a quota as Maildir++ has it: "" or OCTETS "S" and MESSAGES "C", one or both, a comma between them. */
int virtual_is_quota(const char *s);

/* NULL, or what is wrong with an address (len octets), in words. */
const char *virtual_address_fault(const char *address, size_t len);

/* Finds address (len octets, any case) in an open table.
 * Returns 1 and fills *v; 0 if there is no such account; -1 with errno set if it cannot be known (EPROTO: damaged). */
int virtual_find(struct virtual_account *v, struct table *t, const char *address, size_t len);

/* Whose a local part is that control/virtualdomains made: DOMAIN-user of user@DOMAIN, where DOMAIN has accounts. Asks for
 * the longest such DOMAIN; then for the account user, for those of the user that user is an extension of, the longest
 * first, and for the domain's catch-all account. A local part without '-' is nobody's, without a look at the table.
 * Returns 1 and fills *account; 0 if it is none of these, or there is no table; -1 with errno set as virtual_find. */
int virtual_of_local(struct account *account, const char *table, const char *local, size_t len);

void virtual_free(struct virtual_account *v);

#endif
