/* smtp_command: the commands of a mail transaction, as a client writes them.
 * Injection   an address is a path of RFC 5321 section 4.1.2, its local-part quoted where it is no dot-atom; one with control
 *             octets, or a domain with blanks or brackets, is never written (smtp_command_can_carry). Nothing of an address or
 *             a parameter ends a line or begins another parameter
 * Parameters  only those that the server's extensions name. RET, ENVID (RFC 3461 section 4.3, 4.4), NOTIFY, ORCPT (4.1, 4.2)
 *             come from whoever submitted the message: one that makes no sense is left out, and counts as absent. ORCPT=utf-8;
 *             has its form in ASCII where the server has no SMTPUTF8 (RFC 6533 section 3) */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>

enum {
	SMTP_COMMAND_ADDRESS_MAX = 900,	/* octets of an address; longer ones are not carried */
	SMTP_COMMAND_ENVID_MAX = 100,	/* octets before they are encoded as xtext, three for each at most. RFC 3461 section 4.4 does not
					 * say whether its 100 characters are these; so nobody's is lost (section 5.2.1), for all
					 * ends here take as many: smtpd/parameters.h, sendmail -V */
	SMTP_COMMAND_ORCPT_MAX = 500,	/* as it is written, section 4.2 */
};

/* Whether SMTP can carry an address. The empty one is the null reverse-path. */
int smtp_command_can_carry(const char *address);

int smtp_command_is_ascii(const char *address);

/* Whether an address needs SMTPUTF8. One with a local-part in ASCII does not: a server that does not have the extension is
 * told its domain in the letters of the DNS, "xn--" (lib/domain.h). */
int smtp_command_needs_utf8(const char *address);

/* Whether a parameter is there, given with its '=' if it has a value. parameters may be NULL. */
int smtp_command_has(const char *parameters, const char *keyword);

struct smtp_command_mail {
	const char *sender, *parameters;	/* of queue/envelope.h; NULL or "" none */
	unsigned int extensions;		/* bits of enum session_extension */
	uint64_t size;				/* octets on the wire */
	int has_8bit, wants_utf8;
};

/* These append a command. Return 1, or 0 on lack of memory. */
int smtp_command_mail(stralloc *to, const struct smtp_command_mail *m);
int smtp_command_rcpt(stralloc *to, const char *address, const char *parameters, unsigned int extensions);
int smtp_command_bdat(stralloc *to, uint64_t size, int is_last);

#endif
