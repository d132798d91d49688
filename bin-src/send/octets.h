/* octets: the octets of a message, checked against their digest before any is sent. */
#ifndef OCTETS_H
#define OCTETS_H
#include "send.h"

enum { OCTETS_SLICE = 1 << 20 };	/* of a large message, checked in one turn of the loop */

void octets_init(struct send *s);

enum octets_result {
	OCTETS_OK,
	OCTETS_LATER,	/* the keeper was asked where they are, or this system is in trouble (which is logged) */
	OCTETS_BAD,	/* they were not where the keeper said, several times in a row: an attempt fails, for now */
};

/* The whole message, at most JOB_INLINE_MAX octets: *octets is valid until the next call. */
enum octets_result octets_whole(struct send *s, struct message *m, const char **octets, size_t *len);

/* Opens the file of a larger one that was checked; *fd is the caller's, at offset 0. */
enum octets_result octets_open(struct send *s, struct message *m, int *fd);

/* Has a large message checked in the turns that follow; pass_checked is called in the end. */
void octets_check_later(struct send *s, struct message *m);

/* Checks the next slice. Returns 1 if there is more to do. */
int octets_check(struct send *s);

/* The octets of m are not where they should be: asks the keeper, or gives up for now. */
enum octets_result octets_missing(struct send *s, struct message *m);

#endif
