/* envelope: the envelope as qmail-queue reads it on descriptor 1: 'F' sender NUL ('T' recipient NUL)* NUL.
 * Extension    each address may be followed by one record 'P' parameters NUL: the ESMTP parameters with which it came,
 *              RFC 5321 section 4.1.2: upper-case keywords, one blank between two, each keyword once, at most
 *              QUEUE_PARAMETERS_MAX octets. After the sender RET=, ENVID= (RFC 3461), BODY= (RFC 6152), SMTPUTF8
 *              (RFC 6531); after a recipient NOTIFY=, ORCPT= (RFC 3461). Only this shape is checked here: what the values
 *              mean is for those who read them, and a value that makes no sense to them counts as absent
 * Trust        any octets; a check in pieces, so that nothing has to be whole in memory */
#ifndef ENVELOPE_H
#define ENVELOPE_H
#include <stddef.h>
#include <stdint.h>

enum envelope_state {
	ENVELOPE_START, ENVELOPE_ADDRESS, ENVELOPE_NEXT, ENVELOPE_KEYWORD, ENVELOPE_VALUE, ENVELOPE_COMPLETE,
};

enum { ENVELOPE_KEYWORD_MAX = 8 };	/* octets of the longest keyword */

/* {0} is a check that has seen nothing. */
struct envelope_check {
	enum envelope_state state;
	size_t address_len;	/* octets of the address, or of the parameters, that are being read */
	size_t total;		/* octets up to now, kinds and NULs included */
	uint32_t recipients;
	uint8_t takes_parameters;	/* the last record was an address */
	uint8_t seen;		/* keywords of this record, bits by their place in the table */
	uint8_t keyword_len, value_len;	/* octets of the parameter that is being read; value_len stops at 1 */
	char keyword[ENVELOPE_KEYWORD_MAX];
};

/* Goes on over len octets; *used says how many belong to the envelope (fewer than len once it is complete).
 * Returns QUEUE_OK, or what makes the envelope bad for good or for now: QUEUE_ENVELOPE (syntax),
 * QUEUE_ADDRESS_TOO_LONG, QUEUE_REFUSED (over QUEUE_ENVELOPE_MAX or QUEUE_PARAMETERS_MAX). */
unsigned int envelope_check(struct envelope_check *c, const char *s, size_t len, size_t *used);

/* The sender of a complete, checked envelope, NUL-terminated. */
const char *envelope_sender(const char *envelope);

/* The address after address (a result of envelope_sender or of this function), NULL after the last. */
const char *envelope_next(const char *address);

/* The parameters of address (a result of one of these two), NUL-terminated; NULL if it has none. */
const char *envelope_parameters(const char *address);

/* The value of a parameter in parameters (NULL: none), whose keyword is given with its '=': "RET=". *len: its octets, it
 * is not NUL-terminated. NULL: there is no such parameter. A keyword without '=' gives the empty value. */
const char *envelope_parameter(const char *parameters, const char *keyword, size_t *len);

#endif
