/* dnsbl: what DNS lists say about the client's address; interfaces sections 16 and 17. qmail-dnsbl(8) asks them, a process
 * of its own: a session never talks to the Internet but over its connection.
 * Lists     control/dnsbllist, or the file that the variable DNSBLLIST names; qmail-dnsbl(8) has the syntax
 * Variables DNSBLSKIP set: nothing is asked. RBLSMTPD set: nothing is asked; empty: accept; else it is the reply, 553 if it
 *           begins with '-', else 451. DNSBLFAILCLOSED, or control/dnsblfailclosed: dnsbl_silence.h
 * Waits     dnsbl_start does not; only dnsbl_finish does
 * Shut in   dnsbl_start comes before; dnsbl_finish needs no more than sandbox_client */
#ifndef DNSBL_H
#define DNSBL_H
#include <skalibs/ip46.h>

#define DNSBL_PROGRAM "bin/qmail-dnsbl"
#define DNSBL_LISTS "control/dnsbllist"
enum {
	DNSBL_WAIT_MS = 5000,	/* qmail-dnsbl waits as long for the lists */
	DNSBL_TEXT_MAX = 400,	/* octets of the text of a reply, its NUL included */
	DNSBL_LOG_MAX = 1000,	/* the same of the phrase for the log */
};

enum dnsbl_verdict {
	DNSBL_ACCEPT = 'K',	/* in none, or in one of good addresses */
	DNSBL_DEFER = 'Z',	/* 451 */
	DNSBL_REJECT = 'D',	/* 553 */
};

struct dnsbl;

/* Returns NULL with errno ENOMEM; never because there is nothing to ask. */
struct dnsbl *dnsbl_open(void);

/* Asks about the client's address, in a session whose variables are set and which is not shut in; the current directory is
 * the qmail home. What an earlier call asked is forgotten. Does not wait. Where qmail-dnsbl cannot be started, that is the
 * log of dnsbl_finish, and the verdict is that of silence. */
void dnsbl_start(struct dnsbl *b, const ip46 *client);

/* Whether dnsbl_start found anything to ask, or RBLSMTPD says something. */
int dnsbl_has_lists(const struct dnsbl *b);

/* Waits until the verdict is known, or wait_ms after dnsbl_start (0: not at all), and returns it; then lists that have not
 * answered count for nothing, or with DNSBLFAILCLOSED as lists that have the address, and so do all if qmail-dnsbl has said nothing.
 * *text: for DNSBL_DEFER and DNSBL_REJECT the text of the reply, without code, else ""; *log: a phrase about each list that
 * has the address or did not answer, "" if none. Printable ASCII, NUL-terminated, valid until the next dnsbl call.
 * May be called again: a verdict that is known comes at once. It holds for later connections of the same client too. */
enum dnsbl_verdict dnsbl_finish(struct dnsbl *b, int wait_ms, const char **text, const char **log);

void dnsbl_close(struct dnsbl *b);

#endif
