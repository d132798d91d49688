/* dnsbl: asks DNS lists about the client's address, RFC 5782; interfaces sections 16 and 17.
 * Lists     control/dnsbllist, or the file that the variable DNSBLLIST names; a list a line:
 *             zone          listed, that is, has a TXT record: 451 with that text
 *             -zone         553 instead
 *             =zone         nothing but a line for the log
 *             +zone         a list of good addresses: who has an A record there is not refused by the others
 *             zone:text     listed is who has an A record: text is the reply, %IP% in it the address; a '-' before text means
 *                           553 as well
 *           Blanks around and '#' comments, also at the end of a line, are left out. A list whose text is empty, or whose
 *           zone is no domain name, is said on descriptor 2 and left out
 * Variables DNSBLSKIP set: nothing is asked. DNSBLFAILCLOSED or control/dnsblfailclosed (the variable wins; a number other
 *           than 0): a list that does not answer in time counts as one that lists the address, with a 451.
 *           RBLSMTPD set: nothing is asked; empty: accept; else it is the reply, 553 if it begins with '-', else 451
 * An answer that is no address of 127.0.0.0/8 is no listing (a parked domain), nor is 127.255.255.0/24 (the list refuses
 *           to answer: RFC 5782 section 2.3 leaves codes to lists, and this range is theirs for errors)
 * Trust     lists' texts come from the network: they are cut and cleaned
 * Waits     all lists are asked at once by dnsbl_start; only dnsbl_finish waits */
#ifndef DNSBL_H
#define DNSBL_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/ip46.h>
#include <skalibs/stralloc.h>

enum {
	DNSBL_LISTS_MAX = 32,
	DNSBL_TEXT_MAX = 400,	/* octets of a text for a reply */
	DNSBL_WAIT_MS = 5000,	/* between dnsbl_start and the end of waiting, unless the caller says otherwise */
};

enum dnsbl_verdict {
	DNSBL_ACCEPT,	/* in none, or in one with '+' */
	DNSBL_DEFER,	/* 451 */
	DNSBL_REJECT,	/* 553 */
};

struct dnsbl;

/* Reads lists and variables, and prepares for asking; before shutting in, once a process (a parent may do it for all its
 * children: variables of a rule are looked at by dnsbl_start). Returns NULL with errno set on trouble: unreadable
 * files, no memory, no resolver. Never NULL because there is nothing to ask. */
struct dnsbl *dnsbl_open(void);

/* Whether there is anything to ask. */
int dnsbl_has_lists(const struct dnsbl *b);

/* Asks about the client's address. Does not wait; what an earlier call asked is forgotten. */
void dnsbl_start(struct dnsbl *b, const ip46 *client);

/* Waits until the verdict is known, or wait_ms after dnsbl_start at most (0: whatever is known now), and returns it.
 * *text: for DNSBL_DEFER and DNSBL_REJECT the text of the reply, cleaned, without code; *log: a phrase about every list that
 * has the address or did not answer, "" if none; both NUL-terminated, valid until the next dnsbl call.
 * May be called again: the verdict of before then, at once. */
enum dnsbl_verdict dnsbl_finish(struct dnsbl *b, int wait_ms, const char **text, const char **log);

void dnsbl_close(struct dnsbl *b);

#endif
