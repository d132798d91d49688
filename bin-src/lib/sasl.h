/* sasl: the SASL mechanisms PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), from the server's side, as POP3 (RFC 5034) and
 * SMTP (RFC 4954) carry them: base64 a line, "=" for an empty initial response, "*" to cancel.
 * Trust     lines are the network's: strict base64 (RFC 4648 section 4), no NUL but the two of PLAIN, bounded
 * Secrets   are in struct sasl only; sasl_forget wipes it. The caller's line is the caller's to wipe */
#ifndef SASL_H
#define SASL_H
#include <stddef.h>

enum { SASL_MAX = 1024 };	/* octets of a decoded response */

enum sasl_mechanism { SASL_PLAIN, SASL_LOGIN };

enum sasl_result {
	SASL_CHALLENGE,		/* s->challenge, already in base64, is to be sent; then comes the next line */
	SASL_DONE,		/* s->login and s->secret are set */
	SASL_CANCELLED,		/* by the client */
	SASL_MALFORMED,		/* no base64, too long, a NUL where none belongs, a part that is missing */
	SASL_FOREIGN,		/* PLAIN: wants to act for somebody else than who logs in */
};

struct sasl {
	enum sasl_mechanism mechanism;
	unsigned int steps;	/* responses that were taken */
	const char *challenge;
	const char *login, *secret;	/* in first and second */
	char first[SASL_MAX + 1], second[SASL_MAX + 1];
};

/* Finds a mechanism by its name, in any case. 1, or 0: not known. */
int sasl_find(enum sasl_mechanism *m, const char *name);

/* Begins. initial: the initial response as it stood in the command, NULL none. */
enum sasl_result sasl_begin(struct sasl *s, enum sasl_mechanism m, const char *initial);

/* Takes the line that the client has answered, without CRLF. */
enum sasl_result sasl_take(struct sasl *s, const char *line);

void sasl_forget(struct sasl *s);

#endif
