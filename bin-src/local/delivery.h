/* delivery: one message delivered to one local address; interfaces section 8.
 * Calling order   delivery_enter, delivery_prepare, then delivery_run (or delivery_maildir and a batch); delivery_free
 * Trust           the message and the addresses are hostile; the account and its files are the user's, and we are the user
 * State           all of it is in struct delivery: nothing of one delivery is left for the next but the current directory,
 *                 which delivery_enter sets */
#ifndef DELIVERY_H
#define DELIVERY_H
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include "dotqmail.h"
#include "exitcode.h"
#include "maildir.h"
#include "message.h"
#include "program.h"
#include "report.h"

/* What does not change from one message for a user to the next. */
struct delivery_account {
	const char *user, *home, *default_delivery;
	int start;		/* O_PATH descriptor of the directory that a relative home is relative to */
	int qmail_home;		/* O_PATH descriptor of the qmail home, or -1: no forward is possible now */
	const char *quota;	/* of each maildir (lib/maildir_quota.h); NULL: none */
	const char *const *environment;	/* what qmail-start had */
};

struct delivery {
	const struct delivery_account *account;
	const char *sender, *local, *dash, *ext, *domain;
	const char *sender_parameters, *parameters;	/* queue/envelope.h; NULL: none */
	struct message message;
	const struct program_wait *wait;	/* while a program runs; NULL: nothing is to be done */
	struct report report;
	uid_t home_owner;
	struct dotqmail instructions;
	stralloc delivered_to, return_path, from_line;	/* NUL-terminated, which len does not count */
	stralloc recipients;	/* of the forward, each ended by NUL */
	char **environment;	/* for programs; NULL: not yet made */
	stralloc new_sender, variables, home_path;
	unsigned long files, forwards, programs;
};

/* Makes the account's home the current directory and checks it. say_only: a sticky home is no hindrance, but a line. */
enum exitcode delivery_enter(struct delivery *d, int say_only);

/* Makes the trace lines, refuses a message that was here before (unless say_only), and finds the instructions. */
enum exitcode delivery_prepare(struct delivery *d, int say_only);

/* The maildir, if delivery into one is all that the instructions ask for; else NULL. */
const char *delivery_maildir(const struct delivery *d);

/* Follows the instructions. The report ends with "did F+W+P", and "qp N" after a forward, if it returns EXIT_OK. */
enum exitcode delivery_run(struct delivery *d);

/* Prints on descriptor 1 what delivery_run would do. */
enum exitcode delivery_say(struct delivery *d);

/* Delivers n messages into the maildir path together: all are flushed before the first is visible, and the directory is
 * flushed once. codes[i] becomes what came of d[i]; the reports are complete. */
enum { DELIVERY_BATCH = 48 };
void delivery_batch(struct delivery *const *d, unsigned int n, const char *path, enum exitcode *codes);

void delivery_free(struct delivery *d);

#endif
