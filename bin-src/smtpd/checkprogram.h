/* checkprogram: the program that an administrator set as RCPTCHECK, run for each recipient (interfaces section 17).
 * A runner, forked before the session shuts itself in, starts it: it reads nothing from the network and holds no
 * descriptor of the connection. Requests and results go over a Unix SOCK_SEQPACKET socket, one packet each.
 * The program  gets what the session had in its environment when the runner was forked, and SENDER, RECIPIENT, HELO and
 *              USE_FD4=1; descriptor 0 is /dev/null, 1 and 2 are the log (the runner's descriptor 2), 4 takes a text for the
 *              reply. Its current directory is the session's. It leads a process group of its own
 * Exit code    0, 100, 111, 112, 113, 120 as in enum checkprogram_result; any other, a crash or a program that cannot be
 *              executed is CHECKPROGRAM_FAILED
 * Bounds       CHECKPROGRAM_SECONDS for the program, then its process group is killed: CHECKPROGRAM_FAILED.
 *              CHECKPROGRAM_TEXT_MAX octets of text; control octets and what is not ASCII become '?' */
#ifndef CHECKPROGRAM_H
#define CHECKPROGRAM_H
#include <skalibs/stralloc.h>

#ifndef CHECKPROGRAM_SECONDS
#define CHECKPROGRAM_SECONDS 60
#endif
enum {
	CHECKPROGRAM_STRING_MAX = 1024,	/* octets of sender, recipient, helo; a longer one: CHECKPROGRAM_FAILED */
	CHECKPROGRAM_TEXT_MAX = 900,	/* so that a reply line with it has no more than 1,000 */
};

enum checkprogram_result {
	CHECKPROGRAM_ACCEPT = 0,	/* the recipient is good: 250 without further checks of whether it exists */
	CHECKPROGRAM_REJECT = 100,	/* 550 5.1.1 */
	CHECKPROGRAM_DEFER = 111,	/* 451 4.3.0 */
	CHECKPROGRAM_IGNORE = 112,	/* it has no opinion: as if there were no program */
	CHECKPROGRAM_OVER_LIMIT = 113,	/* 421 4.7.1, and the connection is closed */
	CHECKPROGRAM_FAILED = 120,	/* 451 4.3.0: could not be executed, crashed, too slow */
};

struct checkprogram {
	int is_set;		/* there is a program */
	int fd;			/* to the runner; -1: there is none, or none any more */
	int for_relay_clients;	/* RCPTCHECKRELAYCLIENT is set, and neither empty nor 0 */
	const char *trouble;	/* after CHECKPROGRAM_FAILED: what is wrong, for the log; else NULL */
};

/* Forks a runner if RCPTCHECK is set and not empty; the path is relative to the current directory. Call it when the
 * variables of the session are set, and before shutting in. Returns 1, also if there is nothing to run (p->is_set is then 0),
 * or 0 with errno set. */
int checkprogram_start(struct checkprogram *p);

/* Whether recipients of this session are to be shown to it. */
static inline int
checkprogram_applies(const struct checkprogram *p, int is_relay_client)
{
	return p->is_set && (!is_relay_client || p->for_relay_clients);
}

/* Runs it for a recipient and waits for it. *text is what it wrote for the reply, cleaned, trailing blanks removed, without
 * a NUL; empty if nothing. It may begin with a reply code of its own ("550 ..."), which the caller is free to use. */
enum checkprogram_result checkprogram_ask(struct checkprogram *p, const char *sender, const char *recipient,
    const char *helo, stralloc *text);

/* Ends the runner, and a program that it still runs. */
void checkprogram_close(struct checkprogram *p);

#endif
