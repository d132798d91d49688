/* parameters: the ESMTP parameters behind the path of MAIL and RCPT.
 * MAIL      SIZE (RFC 1870), BODY=7BIT or 8BITMIME (RFC 6152 section 2), SMTPUTF8 (RFC 6531), RET and ENVID (RFC 3461); AUTH
 *           (RFC 4954), which is checked and counts for nothing
 * RCPT      NOTIFY and ORCPT (RFC 3461, and RFC 6533 for ORCPT=utf-8;...)
 * Trust     hostile: any octet may occur. What is handed on is checked, printable, and has no controls even when its xtext
 *           is decoded; each keyword counts once (twice is malformed), so their number is bounded */
#ifndef PARAMETERS_H
#define PARAMETERS_H
#include <stddef.h>
#include <stdint.h>

enum {
	PARAMETERS_ENVID_MAX = 100,	/* octets before they are encoded as xtext, RFC 3461 section 4.4; as remote/smtp_command.h */
	PARAMETERS_AUTH_MAX = 500,	/* RFC 4954 section 3, as it is written */
	PARAMETERS_ORCPT_MAX = 500,	/* RFC 3461 section 4.2, as it is written */
	PARAMETERS_TEXT_MAX = 1000,	/* what the queue takes for one address */
};

enum parameters_result {
	PARAMETERS_OK,
	PARAMETERS_MALFORMED,	/* 501 */
	PARAMETERS_UNKNOWN,	/* 555: a keyword or value that is not offered */
};

struct parameters {
	int has_size, is_8bit, is_smtputf8;
	uint64_t size;		/* octets; what is larger than 2^63 is 2^63 */
	char text[PARAMETERS_TEXT_MAX + 1];	/* what goes into the queue, in the form of queue/client.h, NUL-terminated; without
						 * SIZE and AUTH, which say nothing about the message */
	size_t len;
};

enum parameters_command { PARAMETERS_MAIL, PARAMETERS_RCPT };

/* Parses the len octets of s: nothing, or blanks and parameters parted by blanks. */
enum parameters_result parameters_parse(struct parameters *p, const char *s, size_t len, enum parameters_command command);

#endif
