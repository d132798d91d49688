/* process: a part of a unit test in a process of its own, and the descriptors of this one. */
#ifndef UNIT_PROCESS_H
#define UNIT_PROCESS_H

enum { PROCESS_WENT_ON = 256 };

/* Runs it(data) in a child whose descriptor 2 is the file "errors" in the current directory. Returns the code with which it
 * exited, PROCESS_WENT_ON if it came back, or minus the signal that ended it. */
int process_run(void (*it)(void *data), void *data);

/* How a child ended that was started otherwise, in the same form. */
int process_wait(int pid);

/* How many descriptors are open here. */
unsigned int process_descriptors(void);

#endif
