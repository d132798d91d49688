/* condition: a program whose exit status is an answer, for the helpers of dot-qmail files that ask one. */
#ifndef CONDITION_H
#define CONDITION_H

enum condition {
	CONDITION_TRUE,		/* it exited 0 */
	CONDITION_FALSE,	/* any other status; also: there is no such program, or it may not be executed */
	CONDITION_UNKNOWN,	/* it exited 111, crashed, or could not be run for now */
};

/* Runs argv, found along PATH, with our descriptors and descriptor 0 at its start, and waits for it. */
enum condition condition_ask(const char *const *argv);

#endif
