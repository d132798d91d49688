#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tracer.h"

void
tracer_trouble(const char *what)
{
	fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
	exit(TRACER_TROUBLE);	/* and all that is traced is killed */
}

/* The calls stop a process, all others pass. */
static void
install_filter(const int *calls, size_t count)
{
	struct sock_filter code[2 * TRACER_CALLS_MAX + 2];
	struct sock_fprog program = { .filter = code };
	unsigned short n = 0;

	if (count > TRACER_CALLS_MAX)
		tracer_trouble("too many calls");
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < count; i++) {
		if (calls[i] < 0)
			continue;
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)calls[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		tracer_trouble("install the filter");
}

pid_t
tracer_start(char **argv, const int *calls, size_t count, int options)
{
	int go[2];
	pid_t pid;
	char c;

	if (pipe2(go, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		tracer_trouble("fork");
	if (pid == 0) {
		close(go[1]);
		if (read(go[0], &c, 1) == 1) {
			install_filter(calls, count);
			execvp(argv[0], argv);
		}
		_exit(TRACER_TROUBLE);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
	    PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL | options) < 0)
		tracer_trouble("ptrace");
	if (write(go[1], "", 1) != 1)
		tracer_trouble("start");
	close(go[0]);
	close(go[1]);
	return pid;
}

void
tracer_go_on(pid_t pid, int request, int sig)
{
	if (ptrace(request, pid, 0, (void *)(uintptr_t)sig) < 0 && errno != ESRCH)
		tracer_trouble("ptrace");
}

enum tracer_stop
tracer_why(int status)
{
	if (status >> 16 == PTRACE_EVENT_SECCOMP)
		return TRACER_BEFORE;
	return WSTOPSIG(status) == (SIGTRAP | 0x80) ? TRACER_AFTER : TRACER_ELSEWHERE;
}

void
tracer_pass(pid_t pid, int status, int request)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (event == PTRACE_EVENT_STOP && (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU))
		tracer_go_on(pid, PTRACE_LISTEN, 0);
	else
		tracer_go_on(pid, request, event ? 0 : sig);
}

int
tracer_call(struct tracer_call *c, pid_t pid)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) < 0)
		return 0;
	c->pid = pid;
	c->nr = (long)info.seccomp.nr;
	for (int i = 0; i < 6; i++)
		c->args[i] = info.seccomp.args[i];
	return 1;
}

size_t
tracer_read(pid_t pid, unsigned long long at, void *to, size_t len)
{
	struct iovec local = { .iov_base = to, .iov_len = len }, remote = { .iov_base = (void *)(uintptr_t)at, .iov_len = len };
	ssize_t r = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	return r < 0 ? 0 : (size_t)r;
}

void
tracer_name(char name[TRACER_NAME_MAX], pid_t pid)
{
	char path[64];
	FILE *f;

	name[0] = '\0';
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fscanf(f, "%15s", name) != 1)
		name[0] = '\0';
	fclose(f);
}
