/* top: where the part of a message ends that the POP3 command TOP shows: RFC 1939 section 7. */
#ifndef TOP_H
#define TOP_H
#include <stdint.h>

/* The octets of a regular file of size octets up to the end of its header section, the empty line behind it and the first lines
 * lines of its body, with their line ends. It is read from its start, no farther than needed. Lines end with LF, and a CR before
 * it is part of the line end. Returns 1 and *end, or 0 with errno set. */
int top_end(int fd, uint64_t size, uint64_t lines, uint64_t *end);

#endif
