/* report: what a delivery says to the sender of a bounce and to the log; qmail-local's output.
 * Bound    REPORT_MAX octets, of which the last REPORT_OWN are kept for qmail-local's own lines: a program that floods
 *          its output is cut, and the line "did F+W+P" is still there
 * Memory   if it is short the text is cut; what became of the delivery does not depend on it */
#ifndef REPORT_H
#define REPORT_H
#include <stddef.h>
#include <skalibs/stralloc.h>

enum {
	REPORT_MAX = 3000,	/* octets, as qmail-lspawn cuts it; interfaces section 7 */
	REPORT_OWN = 600,
};

struct report {
	stralloc text;
};

/* Adds the concatenation of the strings up to NULL. */
void report_parts(struct report *r, const char *const *strings);

/* report_line(r, "a", "b") adds one line. */
#define report_line(r, ...) report_parts((r), (const char *const[]){ __VA_ARGS__, "\n", NULL })

/* Adds a program's output: len octets up to the first NUL, as far as there is room. */
void report_output(struct report *r, const char *s, size_t len);

/* Octets of a program's output that still find room. */
size_t report_room(const struct report *r);

#endif
