/* bounce: the message that tells a sender which recipients of his message failed; or, where he asked for it with the
 * parameters of RFC 3461, which of them it reached or which are delayed; qmail-bounce(5) shows it.
 * Form     multipart/report of RFC 3462 and RFC 3464. Its first part is the text of the "qmail-send bounce message
 *          format" (QSBMF), which list managers read; then a message/delivery-status; then the message, or only its
 *          header if it is larger than control/bouncemaxbytes. control/bounceformat "qsbmf": that text and the message
 *          alone, without MIME
 *           A report of success or delay is always such a multipart/report, begins with another text, which nobody can
 *           take for QSBMF, and has only the header of the message
 * UTF-8    RFC 6533: where the sender's own address is not ASCII, message/global-delivery-status and message/global;
 *          else a recipient that is not ASCII is written in its utf-8-addr-xtext form
 * Trust    texts come from remote hosts and users' programs, addresses and the message from anybody: nothing of them can
 *          end a paragraph, a field or a part */
#ifndef BOUNCE_H
#define BOUNCE_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "notify.h"

enum {
	BOUNCE_MAX = 200000,		/* octets, default of control/bouncemaxbytes: such a bounce stays in the ring */
	BOUNCE_HEADER_MAX = 65536,	/* octets of a header that is returned alone; it is cut at the end of a line */
	BOUNCE_LINE_MAX = 900,		/* octets of a line of a text; longer ones are broken, RFC 5322 section 2.1.1 */
	BOUNCE_DIAGNOSTIC_MAX = 2000,	/* octets of a text in a Diagnostic-Code field */
};

/* What is added to the text of a deferral that becomes a failure because the message is too old. */
extern const char bounce_too_long[];

/* The control files; strings are NUL-terminated. {0} is not valid. */
struct bounce_settings {
	stralloc from, host;		/* bouncefrom, bouncehost */
	stralloc double_to, double_host;	/* doublebounceto, doublebouncehost */
	int drops_doubles;		/* the first line of doublebounceto is empty or "@" */
	int is_plain;			/* bounceformat is qsbmf */
	unsigned long max;		/* bouncemaxbytes; 0: no limit */
};

/* Reads the control files. Returns NULL, or the name of the one that cannot be read, with errno. */
const char *bounce_load(struct bounce_settings *settings);
void bounce_free(struct bounce_settings *settings);

enum bounce_kind {
	BOUNCE_SINGLE,	/* from <> to the sender */
	BOUNCE_DOUBLE,	/* the sender is empty: from <#@[]> to the postmaster */
	BOUNCE_DROPPED,	/* the same, but the administrator does not want it */
	BOUNCE_TRIPLE,	/* the sender is #@[]: nobody is told */
};
enum bounce_kind bounce_kind_of(const struct bounce_settings *settings, const char *sender);

/* Its envelope, both NUL-terminated; kind is one of the first two. Returns 1, or 0 (ENOMEM). */
int bounce_envelope(const struct bounce_settings *settings, enum bounce_kind kind, const char *sender, stralloc *from,
    stralloc *to);

enum bounce_report { BOUNCE_FAILED, BOUNCE_SUCCEEDED, BOUNCE_DELAYED };

struct bounce_recipient {
	const char *address;	/* as the sender knows it; NUL-terminated */
	const char *text;	/* the report of its last attempt */
	size_t text_len;
	enum notify_action action;	/* of a success */
	const char *parameters;	/* ORCPT counts; NUL-terminated, NULL: none */
	uint32_t index;		/* in the envelope */
};

struct bounce {
	const struct bounce_settings *settings;
	enum bounce_kind kind;		/* one of the first two; the first if report is not BOUNCE_FAILED */
	enum bounce_report report;	/* what happened to all its recipients */
	uint64_t number;		/* of the message; makes the Message-ID, the same for each try */
	int64_t birth, now;		/* wall clock: when the message came, and now */
	int64_t until;			/* when it will be given up */
	const char *sender;		/* of the message */
	const char *parameters;		/* RET, ENVID and SMTPUTF8 count; NUL-terminated, NULL: none */
	uint64_t size;			/* of the message, in octets */
	int without_message;		/* return nothing of it */
	void *data;			/* for the functions: */
	/* the nth recipient, from 0: 1, 0 after the last, -1 with errno */
	int (*recipient)(void *data, uint32_t n, struct bounce_recipient *r);
	/* len octets of the message at offset: 1, or 0 with errno */
	int (*read)(void *data, uint64_t offset, char *s, size_t len);
	/* takes the next octets of the bounce */
	void (*put)(void *data, const char *s, size_t len);
};

/* Writes the bounce through put. Returns 1, and in *parameters (queue/envelope.h) those of its own envelope's
 * sender, "" for none; or 0 with errno: what was put is then no whole bounce. */
int bounce_write(const struct bounce *b, const char **parameters);

/* The status code of a report's text: the first "#x.y.z" in parentheses of our own words, else the enhanced code of the remote host's
 * reply, else the first in parentheses there. Returns 1 and the octets of x.y.z in status, or 0. */
enum { BOUNCE_STATUS_MAX = 12 };	/* octets, the NUL included */
int bounce_status(char status[BOUNCE_STATUS_MAX], const char *text, size_t len);

/* The same, but of our own words alone: what a remote host says may be about one recipient. */
int bounce_own_status(char status[BOUNCE_STATUS_MAX], const char *text, size_t len);

#endif
