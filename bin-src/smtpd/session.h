/* session: one SMTP session on descriptors 0 and 1, from the greeting to its end.
 * Trust     every octet that comes is hostile. The caller has shut the process in before session_run
 * State     all of it is in struct session. What belongs to the client's word alone (HELO, transaction) is forgotten by
 *           session_forget, which a change of the connection's protection calls as well; the login (auth_forget) and what has been
 *           read and not yet taken must be forgotten then, too (input_forget)
 * Modules   session.c: greeting, loop, end; command.c: a function for each command; auth.c: AUTH; delivery.c: mail data to the queue */
#ifndef SESSION_H
#define SESSION_H
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include "auth.h"
#include "author.h"
#include "completion.h"
#include "content.h"
#include "input.h"
#include "peer.h"
#include "queue/client.h"
#include "reply.h"
#include "server_tls.h"
#include "settings.h"
#include "localaddress.h"

enum {
	SESSION_LOG_SIZE = 4096,	/* PIPE_BUF: writes of several sessions to one pipe do not mix */
	SESSION_LOG_GATHER_MS = 5,
	SESSION_LOG_HELD_MS = 100,
};

/* Where a mail transaction is. */
enum session_phase {
	PHASE_IDLE = 1 << 0,	/* none */
	PHASE_SENDER = 1 << 1,	/* MAIL was taken */
	PHASE_RECIPIENT = 1 << 2,	/* and at least one RCPT */
	PHASE_CHUNKS = 1 << 3,	/* BDAT without LAST */
	PHASE_ANY = PHASE_IDLE | PHASE_SENDER | PHASE_RECIPIENT | PHASE_CHUNKS,
};

/* How a session ended. */
enum session_end {
	SESSION_GOES_ON,
	SESSION_QUIT,
	SESSION_CLOSED,		/* by the client */
	SESSION_TIMEOUT,
	SESSION_OVER,		/* control/smtpsessiontime */
	SESSION_STOPPED,	/* the server is being stopped */
	SESSION_REFUSED,	/* too many errors, not SMTP, and so on: reason says */
	SESSION_BROKEN,		/* our own trouble */
};

/* A mail transaction. */
struct transaction {
	stralloc sender, sender_parameters;	/* NUL-terminated */
	stralloc recipients;	/* for each: address NUL parameters NUL */
	unsigned int count;	/* of recipients */
	int is_bad_sender;	/* in badmailfrom: each recipient is refused */
	int is_smtputf8;
	int has_excess;		/* recipients above maxrcpt */
	int has_failed;		/* during BDAT: what follows is thrown away */
	int is_too_large, has_no_memory;
	struct content content;
};

/* What every session touches comes first, then the buffers by their beginnings: an idle session has few pages of its own. */
struct session {
	struct settings *settings;
	struct recipient_checks *checks;
	const struct localaddresses *own;	/* addresses of this host */
	struct queue_client *queue;
	struct server_tls *tls;
	const struct auth *auth;
	int is_immediate;	/* TLS comes before the greeting */
	struct peer peer;
	const char *relayclient;	/* NULL: may not relay; else what is put behind each recipient */
	int is_tls;		/* the connection is protected: tls says how */
	int is_authenticated;
	stralloc login;		/* NUL-terminated; valid if is_authenticated */
	unsigned int failures;	/* of logins */
	int submission;		/* connection to qmail-submitd; -1: it was not asked about this login */
	int is_submitting;	/* a message has begun to go into the queue */

	enum session_phase phase;
	struct transaction mail;
	stralloc helo;		/* NUL-terminated; len 0: none was said */
	int is_extended;	/* EHLO */

	enum session_end end;
	const char *reason;	/* why it ended so, "" */
	const char *dns_lists;	/* what DNS lists say about the client, "" nothing */
	uint64_t started;	/* monotonic_ms */
	unsigned long commands, messages, mails, recipients, refused, errors;
	unsigned long idle, refused_lately;	/* since the last message */
	unsigned long excess;	/* recipients above maxrcpt */
	uint64_t octets;	/* of accepted messages */
	pid_t pid;

	struct completion completion;	/* of the message of one who has logged in */
	struct author author;		/* of that message, or of the one before */
	size_t log_len;
	uint64_t log_since;	/* monotonic_ms, of the first line of log */
	struct reply reply;
	struct input in;
	char log[SESSION_LOG_SIZE];	/* lines that are not written yet */
};

/* Runs a session: *s is all zero, or was used before, but for settings, checks, own, queue, tls, auth
 * and is_immediate. The peer and RELAYCLIENT come from the environment.
 * Returns how it ended; the last reply is written. The caller says the log line (session_log_end). */
enum session_end session_run(struct session *s);

/* Forgets the transaction, or also what the client said of itself. */
void session_reset(struct session *s);
void session_forget(struct session *s);

/* Frees what a session holds (not what is the caller's). */
void session_free(struct session *s);

/* The handshake, after what was gathered is said: the client has been told to begin. It has said nothing when it is done; where it
 * fails, the session ends without another word. */
void session_protect(struct session *s);

/* Ends the session after the reply that the caller gathered. */
void session_close(struct session *s, enum session_end end, const char *reason);

/* Ends it because of what reading came to; says why to the client. */
void session_close_input(struct session *s, enum input_result r);

/* Something was sent behind a command, or a response of AUTH, that changes what it would mean: 503, and the session ends. */
void session_refuse_haste(struct session *s);

/* Counts an error of form, and a refused recipient: after too many of them, of the latter since the last message that was
 * accepted (brtlimit 0: there are never too many), the session ends with 421. */
void session_count_error(struct session *s);
void session_count_refusal(struct session *s);

/* command.c: runs one command line. */
void command_run(struct session *s, char *line, size_t len);

/* delivery.c: takes the mail data that follow DATA, or a chunk of BDAT of size octets, and answers. */
void delivery_data(struct session *s);
void delivery_chunk(struct session *s, uint64_t size, int is_last);

/* Forgets a message that has begun to go into the queue; harmless if there is none. */
void delivery_abandon(struct session *s);

/* session_log.c: lines on descriptor 2, "key=value" parted by blanks; hostile octets become '?'. They are gathered
 * (each write wakes up who reads them), and leave in one, behind the replies that they belong to.
 * message and refusal: what came of it; number 0: not queued. */
void session_log_message(struct session *s, const char *result, uint64_t number, const char *reason);
void session_log_refusal(struct session *s, const char *command, const char *argument, const char *reason);
void session_log_end(struct session *s);

/* A wrong login, in the words of qmail-authd(8). */
void session_log_failure(struct session *s, const char *login);

/* Writes the lines, if the first of them is SESSION_LOG_HELD_MS old or the client says nothing for SESSION_LOG_GATHER_MS. */
void session_log_gather(struct session *s);

/* Writes them now. */
void session_log_flush(struct session *s);

#endif
