/* address822: address lists of header fields and of command lines: reading, rewriting, folding.
 * Grammar   RFC 5322 sections 3.4 and 4.4 with what submitted mail needs besides: octets above 127 are part of an atom
 *           (RFC 6532); a comma missing between two addresses is put in; a semicolon outside a group counts as a comma;
 *           a group may lack its end; a display name may hold '.' and '@'; an address may hold several '@'
 * Trust     the text is hostile: any octet may occur, and it is not NUL-terminated
 * Memory    what is allocated is at most the text and the addresses that come out of it; no recursion */
#ifndef ADDRESS822_H
#define ADDRESS822_H
#include <stddef.h>
#include <skalibs/stralloc.h>

enum {
	ADDRESS822_MAX = 65536,	/* octets of one address; a longer one makes the text malformed */
	ADDRESS822_COLUMNS = 80,	/* a line is folded before it gets longer, where there is a blank to fold at */
};

/* An address in header form: words, '.' and '@' without comments and blanks around them, quoted strings as they are
 * written, but unfolded. "" for "<>". */

/* Is told each address of a text, in order, and may change it. Returns 1, or 0 to stop at once. */
typedef int address822_each(void *data, stralloc *address);

/* Writes the body of a field: pieces, a blank between them or a fold ("\n  "), best behind a comma. */
struct address822_printer {
	stralloc *out;
	size_t column;		/* octets in the current line */
	size_t indent;		/* column at which the current line holds no piece yet */
	size_t max;		/* octets that out may have; 0: as many as it takes */
	size_t blank_at;	/* where in out the blank before the current element is, or will be; 0: none in this line */
	int failed;		/* errno: ENOMEM, or EMSGSIZE above max; nothing is written any more */
};

/* Starts behind what is in out; column: octets of the current line already there. */
void address822_printer_init(struct address822_printer *p, stralloc *out, size_t column);

/* Writes s, with a blank (or fold) before it if blank is set. */
void address822_print(struct address822_printer *p, const char *s, size_t len, int blank);

/* Ends an element: writes a comma; the next piece should come with a blank. */
void address822_print_comma(struct address822_printer *p);

/* Reads a list of len octets at s. each (may be NULL) is told every address; printer (may be NULL) gets the list with
 * the addresses as each left them; display names, comments and group names are kept.
 * Returns 1; 0 if the list is malformed (each may have been called, and something printed); -1 if each said stop, or
 * with errno ENOMEM. */
int address822_read(const char *s, size_t len, address822_each *each, void *data, struct address822_printer *printer);

enum address822_default { ADDRESS822_DEFAULTHOST, ADDRESS822_PLUSDOMAIN, ADDRESS822_DEFAULTDOMAIN, ADDRESS822_DEFAULTS };

/* Where the defaults come from; asked only for what an address needs. get returns a string, or NULL with errno set. */
struct address822_defaults {
	const char *(*get)(void *data, enum address822_default which);
	void *data;
};

/* Completes an address in header form by qmail's rules, in this order: a dot at the end goes; then an '@' at the end
 * goes; without '@' the default host is added; a host that ends in '+' loses it and gets the plus domain; a host
 * without dot that is no literal gets the default domain. A default that is empty adds nothing. "" and an address that ends in "@[]" stay as they are.
 * Returns 1, or 0 with errno set: ENOMEM, or what get gave. */
int address822_complete(stralloc *address, const struct address822_defaults *defaults);

/* Offset of the last '@' of an address in header form that is not inside a quoted string or a literal; its length if
 * there is none. */
size_t address822_at(const char *s, size_t len);

/* Appends an address in header form in the form of envelopes: without quotes and backslashes.
 * Returns 1, or 0 with errno ENOMEM. */
int address822_unquote(stralloc *to, const char *s, size_t len);

/* Appends len octets at s as one local-part in header form: as they are, or as a quoted string where they need it.
 * Returns 1, or 0 with errno ENOMEM. */
int address822_quote(stralloc *to, const char *s, size_t len);

#endif
