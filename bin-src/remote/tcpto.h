/* tcpto: addresses that answered no connection lately, so that not every delivery waits for them anew.
 * Where      run/tcpto, one file of TCPTO_SIZE octets, mapped by every qmail-remote: what one learns all know at once,
 *            and nobody locks. tcpto.c describes the format; it is our own, because qmail's holds IPv4 only
 * Rule       an address counts its timed-out connects, at most one in TCPTO_INTERVAL seconds (many deliveries at the same
 *            moment are one experience), up to TCPTO_COUNT_MAX; a connect that succeeds forgets the address. It is
 *            skipped while it counts TCPTO_COUNT_SKIP or more and the last time-out is not older than 64 to 97 minutes,
 *            a time that differs between processes, so that one tries it again first. A refused connection is an
 *            answer: it does not count
 * Who        qmail-setup makes the file for qmailr, who writes it; others may read. qmail-rspawn empties it when it starts,
 *            and makes it in a private server (tcpto_reset). It is a hint: nonsense in it delays at worst for 97 minutes,
 *            without it nothing is skipped, and any trouble here is silence, but for a warning of qmail-rspawn */
#ifndef TCPTO_H
#define TCPTO_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/ip46.h>

enum {
	TCPTO_ENTRIES = 1024,
	TCPTO_SIZE = 24 * TCPTO_ENTRIES,	/* octets */
	TCPTO_WAYS = 8,		/* places where an address can be; a full set forgets its least interesting entry */
	TCPTO_COUNT_MAX = 10,
	TCPTO_COUNT_SKIP = 2,
	TCPTO_INTERVAL = 120,	/* seconds */
};

struct tcpto;	/* the mapped file */

/* Maps run/tcpto of the current directory, the qmail home; before sandbox_enter. write: 0 for qmail-tcpto.
 * Returns NULL with errno set: all functions below take NULL and then know nothing. */
struct tcpto *tcpto_open(int write);

/* 1 if a connection to ip is better not tried now. */
int tcpto_is_dead(const struct tcpto *t, const ip46 *ip);

/* A connect to ip timed out, or it succeeded. */
void tcpto_timed_out(struct tcpto *t, const ip46 *ip);
void tcpto_answered(struct tcpto *t, const ip46 *ip);

/* Makes the file if there is none, of the right size, and empties it: qmail-rspawn calls this at its start, as qmailr, in
 * the qmail home, and goes on whatever the answer. Returns 1, or 0 with errno set. */
int tcpto_reset(void);

/* Forgets every address. */
void tcpto_clear(struct tcpto *t);

/* Entry i, 0 <= i < TCPTO_ENTRIES: returns 1, its address, seconds since the last time-out and the count; or 0, empty. */
int tcpto_entry(const struct tcpto *t, size_t i, ip46 *ip, uint64_t *age, unsigned int *count);

void tcpto_close(struct tcpto *t);

#endif
