/* account: whose a local part is, as users/cdb and qmail-getpw say it.
 * Trust    the table is the administrator's, but may be damaged; the local part is anybody's: any octet but NUL */
#ifndef ACCOUNT_H
#define ACCOUNT_H
#include <stddef.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>

#define ACCOUNT_TABLE "users/cdb"
enum {
	ACCOUNT_LOCAL_MAX = 4096,	/* octets of a local part that is looked up; a longer one is nobody's for sure,
					 * but nobody may rely on that: temporary */
	ACCOUNT_FIELDS = 6,
	ACCOUNT_SIZE_MAX = 16384,	/* octets of the six fields and their NULs */
	ACCOUNT_QUOTA_MAX = 63,		/* octets */
};

struct account {
	stralloc fields;	/* user, uid, gid, home, dash, ext: each ended by NUL, nothing else */
	const char *user, *home, *dash, *ext;	/* in fields */
	uid_t uid;
	gid_t gid;
	int is_virtual;		/* users/virtual.h */
	char quota[ACCOUNT_QUOTA_MAX + 1];	/* of a virtual one, in the words of Maildir++; empty: none */
};

/* Takes the six fields (len octets of s, a NUL after each; the one after ext may be missing) over into *account.
 * Returns 1; 0 if they are malformed: not six, an empty user or home, a uid or gid that is no number (or the one that
 * setuid takes for "no change"), above ACCOUNT_SIZE_MAX, or no memory; *account is then unusable. */
int account_parse(struct account *account, const char *s, size_t len);

/* Looks local (len octets) up in the table, interfaces section 7: whole, then each prefix from the longest, compared
 * without ASCII case; a wildcard's ext gets the rest of local in its own case.
 * Returns 1 and fills *account; 0 if the table has no entry for it, *absent says whether there is a table at all;
 * -1 with errno set if it cannot be known now (EPROTO: the table or the entry is damaged). */
int account_find(struct account *account, const char *table, const char *local, size_t len, int *absent);

void account_free(struct account *account);

#endif
