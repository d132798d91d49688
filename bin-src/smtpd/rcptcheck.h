/* rcptcheck: asks qmail-rcptd whether an address delivers, so that an unknown recipient is refused at RCPT and not by a
 * bounce later.
 * Wire     one packet a question and one an answer over RCPTCHECK_SOCKET, a Unix SOCK_SEQPACKET socket:
 *            question   number (4 octets, most significant first), address (1 to RCPTCHECK_ADDRESS_MAX octets, no NUL)
 *            answer     the number of the question, letter (enum rcpt_answer), text: why, for a log (printable ASCII)
 *          Several questions may be on their way; the answers come in their order.
 * Trust    qmail-rcptd is believed about the answer; its packets are checked and bounded
 * Waits    RCPTCHECK_WAIT_MS at most for an answer. A socket that is missing, refused or silent means RCPT_CANNOT_KNOW; that
 *          is said on descriptor 2 once a struct, and for RCPTCHECK_PAUSE_MS nobody is asked again
 * Sandbox  needs Unix sockets (sandbox_client); no file. The socket is connected at the first question, or before by
 *          rcptcheck_connect. A connection that waits costs qmail-rcptd a descriptor and some octets */
#ifndef RCPTCHECK_H
#define RCPTCHECK_H
#include <stddef.h>
#include <stdint.h>

#define RCPTCHECK_SOCKET "run/qmail-rcptd/socket"
enum {
	RCPTCHECK_ADDRESS_MAX = 1000,	/* octets; whether a longer one delivers cannot be known */
	RCPTCHECK_TEXT_MAX = 500,	/* octets of the text of an answer */
	RCPTCHECK_WAIT_MS = 3000,
	RCPTCHECK_PAUSE_MS = 30000,
};

enum rcpt_answer {
	RCPT_DELIVERS = 'K',	/* known: accept */
	RCPT_UNKNOWN = 'U',	/* certainly nobody's: 550 5.1.1 */
	RCPT_CANNOT_KNOW = '?',	/* accept: a home is closed, a file server or qmail-rcptd is silent */
	RCPT_NOT_LOCAL = 'R',	/* qmail-send would send it on to another host: nothing is said about it */
	RCPT_TEMPORARY = 'T',	/* its delivery would be deferred for as long as nobody repairs this server (a damaged users/cdb,
				 * no user alias): 451 4.3.5, or accept, nothing is lost either way */
};

struct rcptcheck {
	int home;		/* descriptor of the qmail home, -1: it is the current directory */
	int fd;			/* -1: not connected */
	uint32_t number;	/* of the last question */
	uint64_t not_before;	/* monotonic_ms at which to try again */
	int has_said;		/* the line for the log */
	char text[RCPTCHECK_TEXT_MAX + 1];	/* of the last answer, NUL-terminated; never empty */
};

/* Starts without connecting. home stays the caller's. */
void rcptcheck_init(struct rcptcheck *r, int home);

/* Connects now, if it is not. Returns 1, or 0: the questions of the next RCPTCHECK_PAUSE_MS will be RCPT_CANNOT_KNOW. */
int rcptcheck_connect(struct rcptcheck *r);

/* Asks about an envelope recipient as it will be queued: local-part unquoted, '@', domain; or a local part alone. Waits for
 * the answer; why it is so is in r->text. */
enum rcpt_answer rcptcheck_ask(struct rcptcheck *r, const char *address, size_t len);

/* Closes the connection; r may be used again. */
void rcptcheck_close(struct rcptcheck *r);

#endif
