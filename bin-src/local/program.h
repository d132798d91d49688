/* program: runs a program of a dot-qmail file (or bin/qmail-local) and keeps what it prints.
 * Trust    the program is the user's: it may print without end, not read its input, close what it likes, or leave
 *          processes behind that hold its descriptors. We read as long as it runs, drop what is too much, and do not wait
 *          for what it left behind
 * Time     it may run as long as it likes; who waits for it may have other things to do meanwhile */
#ifndef PROGRAM_H
#define PROGRAM_H
#include "report.h"

enum {
	PROGRAM_CRASHED = 256,	/* killed by a signal */
	PROGRAM_FAILED = 257,	/* it could not be started or waited for; errno */
};

/* call(data) each ms milliseconds that the program runs. */
struct program_wait {
	unsigned int ms;
	void (*call)(void *data);
	void *data;
};

/* Runs argv[0] (a path) with the environment envp, descriptor 0 = input, 1 and 2 = the report, the others as they are (ours
 * are close-on-exec), no signal blocked and those that matter at their default. directory: the current directory of the program, or -1: ours.
 * wait: NULL, or what is to be done meanwhile.
 * Returns its exit status or one of the above; where it cannot be executed, EXIT_TEMP with a line in the report. */
int program_run(const char *const *argv, char *const *envp, int input, int directory, const struct program_wait *wait,
    struct report *report);

#endif
