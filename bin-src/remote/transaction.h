/* transaction: one message for some recipients over a session that is open.
 * Recipients   all in one mail transaction, each with a result of his own; those for whom the server had no room (452,
 *              RFC 5321 section 4.5.3.1.10), or above its limit (RFC 9422 section 4), in further ones; those of domains above
 *              its limit in another session
 * Round trips  with PIPELINING MAIL, RCPT and DATA go in one write; with CHUNKING (RFC 3030 section 2) a message of up
 *              to TRANSACTION_SMALL octets goes along as one BDAT chunk, so that the whole takes a single round trip
 * In step      what the server said since the last transaction ends the session, and another one is begun. A late second reply to a
 *              message would be read as the answer to the next command, and that to the last RCPT as the one to BDAT: so the
 *              first message after one that was refused, and after the first that was accepted, goes by DATA. Only 354 lets it
 *              go on; another 2xx there says that no reply was to what it seems, and the group is asked again in another session
 * Before       what cannot be sent is refused without a command: a message above the server's SIZE (5.3.4), addresses that
 *              SMTP cannot carry (5.1.3, 5.1.7), a message that needs SMTPUTF8 where the server does not have it (5.6.7
 *              for an address, RFC 6531 section 3.5; 5.6.9 for a header, and that of a part or of a message in it)
 * 8-bit        a server without 8BITMIME gets the message as 7-bit MIME (downgrade.h), or is not sent it (5.6.3): RFC 6152
 *              section 3
 * DSN          RET, ENVID, NOTIFY and ORCPT (RFC 3461) go on to a server that offers DSN; the letter is 'k' then
 * Certainty    no answer after the whole message was sent is "Possible duplicate!", and temporary; so is an acceptance of BDAT with a
 *              refusal behind it, of which nobody knows what it is to. A kept session that ends without any answer has most
 *              likely ended while it was idle: another is asked at once, and the report says "Possible duplicate!" if a
 *              message had gone along */
#ifndef TRANSACTION_H
#define TRANSACTION_H
#include <skalibs/stralloc.h>
#include "mail_data.h"
#include "report.h"
#include "session.h"

enum {
	TRANSACTION_BUFFER = 64 * 1024,	/* octets of mail data in a write */
	TRANSACTION_SMALL = 48 * 1024,	/* octets on the wire of a message that is sent along with the commands */
	TRANSACTION_CHUNKS = 8,		/* chunks without an answer */
	TRANSACTION_RATE = 1000,	/* octets a second that a server takes at least, besides the first timeout seconds */
};

struct transaction_recipient {
	const char *address, *parameters;	/* parameters: of queue/envelope.h; NULL or "" none */
};

struct transaction {
	const char *sender, *sender_parameters;	/* the same */
	const struct transaction_recipient *recipients;	/* as many as report has */
	struct mail_data *data;		/* surveyed */
	struct report *report;		/* begun: those who are decided already are left out */
};

/* Sends it. Returns 1: every recipient has a result, and the session may be over (session_is_usable). Or 0: the session is,
 * or is to be, over before some recipients were asked for, who are open in the report; the caller goes on with a new
 * session. So with one that was kept and had ended meanwhile, or that takes no more messages, or where replies and commands are out of
 * step. Each new session decides on at least one recipient more. */
int transaction_run(struct session *s, const struct transaction *t);

#endif
