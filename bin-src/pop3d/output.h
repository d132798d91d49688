/* output: what a POP3 client is told, gathered: input writes it before it waits, so that the replies to commands that came
 * together leave in one write, and no part of a reply waits for the acknowledgement of another.
 * A client that does not read for the time limit, or is gone, makes is_broken 1: nothing is written any more */
#ifndef OUTPUT_H
#define OUTPUT_H
#include <stddef.h>
#include <stdint.h>
#include "mail_data.h"

enum { OUTPUT_SIZE = 64 * 1024 };

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

/* A whole message, as RFC 1939 section 3 has it, but for the line with a dot. Returns 1, or 0 with errno set: it cannot be read
 * to its end, and nothing that is sent can tell the client so. */
int output_message(struct output *o, struct mail_data *message);

void output_flush(struct output *o);

#endif
