/* rules: who may connect, and with which variables: a table that tcprules of ucspi-tcp, ucspi-tcp6 or ucspi-tcp-ipv6 has
 * compiled. The first of these keys that the table has decides alone:
 *   1. the address: as text; for IPv6 also with all its zeros, or as 32 hexadecimal digits
 *   2. prefixes of an IPv4 address that end in a dot, the longest first
 *   3. networks, the longest first: ADDRESS/BITS as text, '_' (IPv4) or '^' (IPv6) and the first bits as 0 and 1
 *   4. the empty key
 * Without any, the client may connect. Rules that name a host or an ident answer never hold: neither is asked for.
 * A table that is replaced counts from the next connection on. */
#ifndef RULES_H
#define RULES_H
#include <skalibs/ip46.h>
#include <skalibs/stralloc.h>
#include "control/table.h"
#include "stamp.h"

enum rules_answer {
	RULES_ALLOW,
	RULES_DENY,
	RULES_NO_FILE,		/* there is no table, and there has to be one */
	RULES_TROUBLE,		/* the table cannot be read or is damaged: errno */
};

struct rules {
	const char *file;	/* NULL: everybody is allowed */
	int may_lack;
	struct table table;
	struct stamp is;	/* the table that is open, all zero: none */
	unsigned int generation;	/* another number for another table */
	int trouble;		/* errno of the last try to open it, 0 none */
	char bits4[33], bits6[129], text4[33], text6[129];	/* lengths of networks that the table has keys of, by form */
};

/* file stays the caller's, and is looked up from the current directory. */
void rules_init(struct rules *r, const char *file, int may_lack);

/* Opens the table anew if it was replaced: r->generation says so. */
void rules_refresh(struct rules *r);

/* Asks the table that rules_refresh found. RULES_ALLOW: *variables holds "VAR=value" strings, each ended by NUL. */
enum rules_answer rules_find(struct rules *r, const ip46 *address, stralloc *variables);

/* Closes the table. A forked process must not ask it: the place in the file is shared. */
void rules_close(struct rules *r);

#endif
