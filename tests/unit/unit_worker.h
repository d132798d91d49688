/* unit_worker: a worker in a process of its own, to which this test is qmail-send. */
#ifndef UNIT_WORKER_H
#define UNIT_WORKER_H
#include <stdint.h>
#include <sys/types.h>

/* Starts it, one at a time: run has its socket on JOB_WORKER_FD and does not come back; what it says on descriptor 2 is lost. */
void worker_start(void (*run)(void));

/* Hands a job over. strings: parted and ended by '|'. message: NULL, it is the file fd of size octets, which is closed then. */
void worker_job(uint32_t id, const char *strings, const char *message, int fd, uint64_t size);

/* Sends octets as they are. */
void worker_octets(const char *s, size_t len);

/* The next answer has to begin so: "ID RECIPIENT LETTER text"; "end": the worker has ended. */
void worker_expect(const char *want);

/* The test's end of the socket closes. */
void worker_hang_up(void);

/* Its process id, and its exit status once it has ended; -1: it crashed. */
pid_t worker_pid(void);
int worker_exit(void);

/* For cmocka's teardown: hangs up, and waits for it to end. */
int worker_end(void **state);

#endif
