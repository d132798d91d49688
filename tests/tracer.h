/* tracer: a program and all that it starts, stopped before some of its system calls (ptrace, with a filter that lets all other
 * calls pass at full speed). It works beneath the filters by which programs shut themselves in: a call that theirs refuses or
 * kills for does not come here. What the tracer traces dies with it.
 * Errors    what cannot go on ends the tracer with exit code 111 and a line on descriptor 2 */
#ifndef TESTS_TRACER_H
#define TESTS_TRACER_H
#include <stddef.h>
#include <sys/types.h>

enum { TRACER_TROUBLE = 111, TRACER_CALLS_MAX = 120 };

struct tracer_call {
	pid_t pid;
	long nr;
	unsigned long long args[6];
};

void __attribute__((noreturn)) tracer_trouble(const char *what);

/* Starts a program, traced from before its first instruction; each of the count calls stops it, a number below 0 is none.
 * options: of ptrace, besides those that are needed. Returns its pid. */
pid_t tracer_start(char **argv, const int *calls, size_t count, int options);

/* Lets a stopped process go on: PTRACE_CONT, or PTRACE_SYSCALL to see the end of the call before which it stands. */
void tracer_go_on(pid_t pid, int request, int sig);

/* What waitpid says of a stopped process: whether it stands before one of the calls, at the end of one, or elsewhere. */
enum tracer_stop { TRACER_BEFORE, TRACER_AFTER, TRACER_ELSEWHERE };
enum tracer_stop tracer_why(int status);

/* Lets a process that stands elsewhere go on as it would untraced: signals are delivered, SIGSTOP stops. */
void tracer_pass(pid_t pid, int status, int request);

/* The call before which a process stands. Returns 0 if it was killed meanwhile. */
int tracer_call(struct tracer_call *c, pid_t pid);

/* Octets of a process's memory; how many could be had. */
size_t tracer_read(pid_t pid, unsigned long long at, void *to, size_t len);

/* The name of the program that a process runs, as in /proc/PID/comm: its first 15 octets; "" if it is gone. */
enum { TRACER_NAME_MAX = 16 };
void tracer_name(char name[TRACER_NAME_MAX], pid_t pid);

#endif
