/* exitcode: the exit statuses that qmail's programs and the programs of a dot-qmail file agree on.
 * Permanent (100) needs certainty, because it loses mail; all else is temporary. */
#ifndef EXITCODE_H
#define EXITCODE_H

enum exitcode {
	EXIT_OK = 0,	/* done, and on disk where the manual promises it */
	EXIT_STOP = 99,	/* done; qmail-local skips the remaining lines of the dot-qmail file */
	EXIT_PERM = 100,	/* fails the same way every time: usage, refused mail */
	EXIT_TEMP = 111,	/* may work later: memory, disk, network, configuration */
};

#endif
