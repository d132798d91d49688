/* smtpd: a session of qmail-smtpd without its main. The test is the client, the queue (queued.h) and the log; recipients at
 * me.test are taken. */
#ifndef UNIT_SMTPD_H
#define UNIT_SMTPD_H
#include "bin-src/smtpd/recipient.h"
#include "bin-src/smtpd/session.h"

extern struct session *smtpd;	/* settings, checks, own and tls are the test's to change */
extern struct auth *smtpd_auth;	/* switched off at first */
extern int smtpd_is_stopping;	/* what listener_is_stopping says */

/* What stands in for server_tls.c, where a unit wraps it: whether it can be reached, and whether handshakes succeed; then the number
 * of those. Nobody offers TLS unless a test sets smtpd->tls->by. */
extern struct smtpd_tls { int is_there, succeeds, started; const char *end; } smtpd_tls;

/* Fixtures: of all tests, in a directory of their own; of each, with a client that has said nothing yet. */
int smtpd_home(void **state);
int smtpd_begin(void **state);
int smtpd_end(void **state);

/* Runs command lines, which are parted by '|'. Returns what was answered to the last one, without its CRLF, valid until the next call. */
const char *smtpd_says(const char *lines);

/* What the client has sent behind the next command, and no more for now; smtpd_closes: and closes. */
void smtpd_sends(const char *octets, size_t len);
void smtpd_closes(void);

/* What the session's log gathered since the last call. */
const char *smtpd_logged(void);

#endif
