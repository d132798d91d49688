/* record: what a batch of the ring holds.
 *   message   type 'M' (1), number (8), birth (8), uid (4), recipients (4), octets of the envelope (4), the envelope as
 *             qmail-queue takes it, the message to the end of the record
 *   outcome   type 'D' (1), number (8), recipient (4), result (1: enum queue_outcome), text
 *   end       type 'X' (1), number (8)
 * Numbers are most significant octet first. */
#ifndef RECORD_H
#define RECORD_H
#include <stddef.h>
#include <stdint.h>

enum record_type { RECORD_MESSAGE = 'M', RECORD_OUTCOME = 'D', RECORD_END = 'X' };
enum { RECORD_MESSAGE_HEADER = 1 + 8 + 8 + 4 + 4 + 4, RECORD_OUTCOME_HEADER = 1 + 8 + 4 + 1, RECORD_END_SIZE = 1 + 8 };

struct record {
	enum record_type type;
	uint64_t number;
	/* message */
	uint64_t birth;		/* wall clock in seconds */
	uint32_t uid, recipients;
	const char *envelope;	/* into the record, complete */
	uint32_t envelope_len;
	const char *message;
	size_t message_len;
	/* outcome */
	uint32_t recipient;
	char result;		/* enum queue_outcome */
	const char *text;	/* not NUL-terminated */
	size_t text_len;
};

/* Reads the record of len octets at s. Returns 1, or 0 if it is malformed. Pointers are into s. */
int record_parse(struct record *r, const char *s, size_t len);

/* Writes the fixed octets of a record of its type; what follows them is appended by the caller. */
void record_message_header(char s[RECORD_MESSAGE_HEADER], const struct record *r);
void record_outcome_header(char s[RECORD_OUTCOME_HEADER], const struct record *r);
void record_end(char s[RECORD_END_SIZE], uint64_t number);

#endif
