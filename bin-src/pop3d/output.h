/* output: what a POP3 client is told, gathered: input writes it before it waits, so that the replies to commands that came
 * together leave in one write, and no part of a reply waits for the acknowledgement of another.
 * A client that does not read for the time limit, or is gone, makes is_broken 1: nothing is written any more */
#ifndef OUTPUT_H
#define OUTPUT_H
#include <stddef.h>
#include <stdint.h>

enum { OUTPUT_SIZE = 64 * 1024, OUTPUT_ROOM = 4096 };

struct output {
	int fd;
	int is_broken;
	uint64_t timeout_ms;	/* to read what is in the buffer */
	uint64_t session_end;	/* monotonic_ms */
	size_t len;
	char s[OUTPUT_SIZE];
};

/* Prepares o->fd; fd and times are set by the caller. */
void output_start(struct output *o);

void output_put(struct output *o, const char *s, size_t len);
void output_text(struct output *o, const char *text);
void output_number(struct output *o, uint64_t number);

/* Where octets may be put without output_put, *room of them, at least OUTPUT_ROOM; output_filled says how many were. NULL: is_broken. */
char *output_room(struct output *o, size_t *room);
void output_filled(struct output *o, size_t len);

void output_flush(struct output *o);

#endif
