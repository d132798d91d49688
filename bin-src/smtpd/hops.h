/* hops: counts the lines of a header section that begin with "Received" or "Delivered", in any case, as qmail does. */
#ifndef HOPS_H
#define HOPS_H
#include <stddef.h>

struct hops {
	unsigned int count;
	int is_over;		/* the header section has ended */
	size_t column;		/* octets of the line so far, of which name holds the first */
	char name[9];
};

/* Takes the next len octets of a message whose lines end with LF. *h is all zero at the start of a message. */
void hops_watch(struct hops *h, const char *s, size_t len);

#endif
