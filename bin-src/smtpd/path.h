/* path: the path argument of MAIL and RCPT.
 * Grammar   RFC 5321 sections 4.1.2 and 4.1.3, RFC 6531 section 3.3 for octets above 127. Beyond it, because clients do so and
 *           nothing depends on it: blanks before the path, a path without '<' and '>' (it ends at a blank), no domain, dots
 *           anywhere in a local-part, '_' in a domain
 * Trust     the input is hostile: any octet may occur, and it is not NUL-terminated
 * Not here  parameters, DNS, whose address it is */
#ifndef PATH_H
#define PATH_H
#include <stddef.h>
#include <skalibs/ip46.h>

enum {
	PATH_ADDRESS_MAX = 900,	/* octets of an address, as stored; stock qmail's limit, which lets long VERP senders pass */
	PATH_DOMAIN_MAX = 255,	/* RFC 5321 section 4.5.3.1.2 */
	PATH_LABEL_MAX = 63,
	PATH_ULABEL_MAX = 252,	/* of one that is not ASCII, RFC 5890 section 4.2 */
};

enum path_kind { PATH_REVERSE, PATH_FORWARD };	/* only a reverse-path may be "<>", or "<#@[]>" */

enum path_result {
	PATH_OK,
	PATH_MALFORMED,
	PATH_TOO_LONG,
};

struct path {
	char address[PATH_ADDRESS_MAX + 1];	/* quotes and backslashes removed, source route dropped; NUL-terminated,
						 * without NUL inside; "" for "<>" */
	size_t len;
	size_t at;		/* offset of the '@' before the domain; len if there is none */
	size_t end;		/* octets of the input that were used: parameters start here */
	int is_internationalized;	/* the path holds octets above 127 (a source route does, too): needs SMTPUTF8. They are valid UTF-8 */
	int has_literal;	/* the domain is an address literal, and literal is it */
	ip46 literal;
};

/* Parses the path at the start of the len octets of s. *path is defined after PATH_OK only. */
enum path_result path_parse(struct path *path, const char *s, size_t len, enum path_kind kind);

/* Octets of the well-formed UTF-8 sequence at the start of the len octets of s; 0 if it is none, or a control character. */
size_t path_utf8(const char *s, size_t len);

#endif
