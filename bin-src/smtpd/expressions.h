/* expressions: the lines of badmailfrom and its like that are regular expressions, and whom they refuse.
 * Grammar   A line that could stand for an address, "@domain" or, in a list of hosts, "host" or ".suffix", unquoted, is no
 *           expression: what a plain qmail file says, it says here. All others, and those with ".*" in them or '^' at their
 *           start, are POSIX extended regular expressions, found anywhere in the text, without ASCII case. With '!' before
 *           it an expression refuses what it is not found in
 * Trust     lists are the administrator's, texts the network's. glibc does not go back while it matches, except for back
 *           references, which are therefore not taken; with the limits below the worst that was found takes 70 ms for an
 *           address of 900 octets, usual expressions take microseconds
 * Memory    an automaton grows with the texts that it meets, so it is made anew after EXPRESSION_RENEW octets */
#ifndef EXPRESSIONS_H
#define EXPRESSIONS_H
#include <regex.h>
#include <stddef.h>

enum {
	EXPRESSIONS_MAX = 500,		/* of a list */
	EXPRESSION_LENGTH_MAX = 255,	/* octets, without '!' */
	EXPRESSION_ATOMS_MAX = 512,	/* with repetitions written out: "(ab){3}c" has 7 */
	EXPRESSION_TEXT_MAX = 1000,	/* octets of a text; no longer address comes, and one that did would be refused by none */
	EXPRESSION_RENEW = 4096,
};

enum expressions_kind { EXPRESSIONS_OF_ADDRESSES, EXPRESSIONS_OF_HOSTS };

struct expression {
	regex_t compiled;
	const char *text;	/* behind '!' */
	int is_negated;
	size_t met;		/* octets of texts since it was compiled */
};

/* {NULL} is a valid list of none. */
struct expressions {
	struct expression *list;
	size_t count;
};

/* Compiles the expressions among the entries, each ended by NUL, in their len octets, which must outlive *e. One that is wrong
 * or beyond a limit is told to bad, with why, and left out. Returns 1, or 0 with errno ENOMEM; *e is then empty. */
int expressions_read(struct expressions *e, const char *entries, size_t len, enum expressions_kind kind,
    void (*bad)(void *data, const char *entry, const char *why), void *data);

/* Whether one of them refuses the len octets of s, of which those before a NUL count. One that has no memory to find out,
 * does not. */
int expressions_refuse(const struct expressions *e, const char *s, size_t len);

/* Frees what the list owns and makes it empty. */
void expressions_free(struct expressions *e);

#endif
