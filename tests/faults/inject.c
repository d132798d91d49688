/* inject LOG FAULT PROGRAM ARGUMENT...: runs a program and makes system calls of it, or of what it starts, fail.
 *
 * FAULT is -, nothing fails and LOG gets a line "call NAME CALL" for each; or NAME CALLS FIRST LAST WHAT [NUMBER], one argument:
 * what the programs of that name do FIRST to LAST of these calls (a+b: counted together, from 1; LAST 0: all that come later) has.
 * A call on a descriptor is named with what that is: write:file (or a directory), write:other, write:packet (a socket that keeps
 * packets whole); epoll_ctl and fcntl with what they do: epoll_ctl:add, epoll_ctl:mod, epoll_ctl:del; fcntl:dup, fcntl:lock, fcntl:flags
 *
 *     error ERRNO    that error; nothing is done
 *     late ERRNO     that error, after it was done
 *     short          half of the octets that it wanted, where it wanted more than one
 *     kill           SIGKILL before it is done
 *     hold MS        so many milliseconds before it is done
 *
 * and LOG gets a line "struck NAME CALL COUNT WHERE", or "spared ..." where the call cannot have it. A crash of a program is "signal NAME NUMBER". SIGUSR1 ends the fault; SIGTERM, SIGALRM and SIGHUP are passed on to PROGRAM. Ends
 * when all have ended, with the exit code of PROGRAM, or 128 and its signal.
 *
 * $INJECT_CLOCK, a file: the seconds by which the wall clock of the programs is wrong. They are started without a vDSO, so that the
 * clock is a system call. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../tracer.h"

enum { HELD_MAX = 256, BUSY_MAX = 256, VECTOR_MAX = 64, STACK_MAX = 1 << 21, HOLD_TURN_US = 2000, LABEL_MAX = 32, EXIT_USAGE = 100, EXIT_SIGNAL = 128 };

#define CALL(name) { #name, SYS_##name }
static const struct { const char *name; int nr; } known[] = {
	CALL(read), CALL(readv), CALL(pread64), CALL(write), CALL(writev), CALL(pwrite64), CALL(close), CALL(openat), CALL(fsync), CALL(fdatasync),
	CALL(ftruncate), CALL(renameat), CALL(renameat2), CALL(linkat), CALL(unlinkat), CALL(mkdirat), CALL(getdents64),
	CALL(newfstatat), CALL(fstat), CALL(lseek), CALL(flock), CALL(fcntl), CALL(dup), CALL(dup3), CALL(pipe2), CALL(socket), CALL(socketpair), CALL(connect), CALL(bind),
	CALL(listen), CALL(accept), CALL(accept4), CALL(sendmsg), CALL(recvmsg), CALL(sendto), CALL(recvfrom), CALL(setsockopt), CALL(getsockopt), CALL(ppoll),
	CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_pwait), CALL(clone), CALL(execve), CALL(wait4), CALL(waitid), CALL(mmap), CALL(brk),
	CALL(fchdir), CALL(chdir), CALL(getrandom), CALL(signalfd4), CALL(mremap), CALL(setgroups), CALL(setresuid), CALL(setresgid), CALL(syncfs),
	CALL(timer_create), CALL(prctl), CALL(seccomp), CALL(memfd_create), CALL(pidfd_open), CALL(getcwd), CALL(readlinkat), CALL(faccessat),
	CALL(fchmod), CALL(fchmodat),
#ifdef SYS_landlock_create_ruleset
	CALL(landlock_create_ruleset), CALL(landlock_add_rule), CALL(landlock_restrict_self),
#endif
#ifdef SYS_open	/* calls that newer architectures do not have */
	CALL(open), CALL(rename), CALL(link), CALL(unlink), CALL(mkdir), CALL(stat), CALL(lstat), CALL(pipe), CALL(dup2), CALL(poll), CALL(epoll_wait),
	CALL(epoll_create), CALL(fork), CALL(vfork), CALL(readlink), CALL(access), CALL(chmod),
#endif
#ifdef SYS_clone3
	CALL(clone3),
#endif
};
enum { KNOWN = sizeof known / sizeof *known };

static struct {
	char program[64], calls[256], what[16];
	unsigned long first, last, number;
	int is_on;
} fault;

static FILE *log_file;
static const char *clock_path;
static pid_t first;
static unsigned long count;	/* of the calls that the fault is about */
static volatile sig_atomic_t is_over;

/* Calls that are held back. */
static struct { pid_t pid; uint64_t until; } held[HELD_MAX];
static size_t held_len;

/* Calls whose end is waited for: what has to be put back into memory or a register, or the result that they get. */
static struct busy {
	pid_t pid;
	long result;	/* 0: as it is */
	unsigned long long first;	/* argument; 0: as it is */
	unsigned long long at[2], value[2];
	int puts;
} busy[BUSY_MAX];
static size_t busy_len;

/* --- registers and memory ------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
static void
get_registers(pid_t pid, struct user_regs_struct *r)
{
	*r = (struct user_regs_struct){ .rax = 0 };
	if (ptrace(PTRACE_GETREGS, pid, 0, r) < 0 && errno != ESRCH)
		tracer_trouble("read registers");
}

static void
set_registers(pid_t pid, const struct user_regs_struct *r)
{
	if (ptrace(PTRACE_SETREGS, pid, 0, r) < 0 && errno != ESRCH)
		tracer_trouble("set registers");
}

static void
set_result(pid_t pid, long result)
{
	struct user_regs_struct r;

	get_registers(pid, &r);
	r.rax = (unsigned long long)result;
	set_registers(pid, &r);
}

/* The call is not done, and has this result. */
static void
answer(pid_t pid, long result)
{
	struct user_regs_struct r;

	get_registers(pid, &r);
	r.orig_rax = (unsigned long long)-1;
	r.rax = (unsigned long long)result;
	set_registers(pid, &r);
}

/* n: 1 or 3. */
static void
set_argument(pid_t pid, int n, unsigned long long value)
{
	struct user_regs_struct r;

	get_registers(pid, &r);
	*(n == 1 ? &r.rdi : &r.rdx) = value;
	set_registers(pid, &r);
}

static unsigned long long
stack_pointer(pid_t pid)
{
	struct user_regs_struct r;

	get_registers(pid, &r);
	return r.rsp;
}
#else	/* whose registers are not known here: test_faults.py skips */
#define set_result(pid, result) tracer_trouble("this architecture")
#define answer(pid, result) tracer_trouble("this architecture")
#define set_argument(pid, n, value) tracer_trouble("this architecture")
#define stack_pointer(pid) 0
#endif

static void
write_memory(pid_t pid, unsigned long long at, const void *s, size_t len)
{
	struct iovec local = { .iov_base = (void *)(uintptr_t)s, .iov_len = len }, remote = { .iov_base = (void *)(uintptr_t)at, .iov_len = len };

	process_vm_writev(pid, &local, 1, &remote, 1, 0);
}

/* --- the clock -------------------------------------------------------------------------------------------------------- */

/* A program has just been started: the entry of its auxiliary vector that says where the vDSO is becomes one that says nothing. */
static void
hide_vdso(pid_t pid)
{
	static unsigned long long words[STACK_MAX / 8];
	unsigned long long at = stack_pointer(pid), one = 1 /* AT_IGNORE */;
	size_t have = 0, i;

	while (have < sizeof words) {
		size_t got = tracer_read(pid, at + have, (char *)words + have, 4096 - (at + have) % 4096);

		if (!got)
			break;
		have += got;
	}
	have /= 8;
	i = have ? (size_t)words[0] + 2 : 0;	/* argc, argv, NULL */
	while (i < have && words[i])
		i++;
	for (i++; i + 1 < have && words[i] != AT_NULL; i += 2)
		if (words[i] == AT_SYSINFO_EHDR)
			write_memory(pid, at + i * 8, &one, sizeof one);
}

static long
clock_error(void)
{
	FILE *f = fopen(clock_path, "re");
	long seconds = 0;

	if (!f || fscanf(f, "%ld", &seconds) != 1)
		tracer_trouble(clock_path);
	fclose(f);
	return seconds;
}

static int
is_clock(const struct tracer_call *c)
{
#ifdef SYS_time
	if (c->nr == SYS_time)
		return 1;
#endif
	return c->nr == SYS_gettimeofday || (c->nr == SYS_clock_gettime && (c->args[0] == CLOCK_REALTIME || c->args[0] == CLOCK_REALTIME_COARSE));
}

static void
tell_time(const struct tracer_call *c)
{
	struct timespec now;
	struct timeval tv;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += clock_error();
	tv = (struct timeval){ .tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000 };
	if (c->nr == SYS_clock_gettime)
		write_memory(c->pid, c->args[1], &now, sizeof now);
	else if (c->nr == SYS_gettimeofday)
		write_memory(c->pid, c->args[0], &tv, sizeof tv);
	else if (c->args[0])
		write_memory(c->pid, c->args[0], &now.tv_sec, sizeof now.tv_sec);
	answer(c->pid, c->nr == SYS_clock_gettime || c->nr == SYS_gettimeofday ? 0 : (long)now.tv_sec);
}

/* --- faults ------------------------------------------------------------------------------------------------------------ */

static const char *
name_of(long nr)
{
	for (int i = 0; i < KNOWN; i++)
		if (known[i].nr == nr)
			return known[i].name;
	return "?";
}

/* Whether the fault is about a call; ends: octets that may follow its name. */
static int
is_meant(const char *name, const char *ends)
{
	size_t len = strlen(name);

	for (const char *s = fault.calls; s; s = strchr(s, '+') ? strchr(s, '+') + 1 : NULL)
		if (!strncmp(s, name, len) && (!s[len] || strchr(ends, s[len])))
			return 1;
	return 0;
}

/* A process's descriptor as one of ours, or -1. */
static int
borrow(pid_t pid, int fd)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0), copy;

	copy = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
	close(process);
	return copy;
}

static int
is_packet_socket(pid_t pid, int fd)
{
	int copy = borrow(pid, fd), type = 0;
	socklen_t len = sizeof type;

	if (copy >= 0 && getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		type = 0;
	close(copy);
	return type && type != SOCK_STREAM;
}

static int
is_open(const struct tracer_call *c)
{
#ifdef SYS_open
	if (c->nr == SYS_open)
		return 1;
#endif
	return c->nr == SYS_openat;
}

/* Whether an open may make a file. */
static int
makes_file(const struct tracer_call *c)
{
	return (c->args[c->nr == SYS_openat ? 2 : 1] & O_CREAT) != 0;
}

static const char *
fcntl_kind(int command)
{
	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return ":dup";
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return ":lock";
	default:
		return ":flags";
	}
}

/* What a call is named. */
static void
label(char out[LABEL_MAX], const struct tracer_call *c)
{
	static const long on_descriptors[] = {
		SYS_read, SYS_readv, SYS_pread64, SYS_write, SYS_writev, SYS_pwrite64, SYS_close, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fstat,
		SYS_lseek, SYS_sendmsg, SYS_recvmsg, SYS_sendto, SYS_recvfrom,
	};
	const char *kind = NULL;
	char link[64];
	struct stat st;

	snprintf(link, sizeof link, "/proc/%d/fd/%d", c->pid, (int)c->args[0]);
	for (size_t i = 0; i < sizeof on_descriptors / sizeof *on_descriptors; i++)
		if (on_descriptors[i] == c->nr)
			kind = stat(link, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) ? ":file" :
			    stat(link, &st) == 0 && S_ISSOCK(st.st_mode) && is_packet_socket(c->pid, (int)c->args[0]) ? ":packet" : ":other";
	if (c->nr == SYS_epoll_ctl)
		kind = c->args[1] == EPOLL_CTL_ADD ? ":add" : c->args[1] == EPOLL_CTL_DEL ? ":del" : ":mod";
	if (c->nr == SYS_fcntl)
		kind = fcntl_kind((int)c->args[1]);
	if (is_open(c) && makes_file(c))
		kind = ":new";
	snprintf(out, LABEL_MAX, "%s%s", name_of(c->nr), kind ? kind : "");
}

static void
say(const char *event, const char *name, const struct tracer_call *c)
{
	char link[64], called[LABEL_MAX], where[PATH_MAX] = "";
	ssize_t len;

	snprintf(link, sizeof link, "/proc/%d/fd/%d", c->pid, (int)c->args[0]);
	label(called, c);
	len = readlink(link, where, sizeof where - 1);
	if (len > 0)
		where[len] = '\0';
	if (*event == 'c')
		fprintf(log_file, "call %s %s\n", name, called);
	else
		fprintf(log_file, "%s %s %s %lu %s\n", event, name, called, count, where);
	if (fflush(log_file))
		tracer_trouble("log");
}

static struct busy *
wait_for_end(pid_t pid)
{
	if (busy_len == BUSY_MAX)
		tracer_trouble("too many calls");
	busy[busy_len] = (struct busy){ .pid = pid };
	return &busy[busy_len++];
}

/* Puts a value into memory until the call has ended. */
static void
lend(struct busy *b, unsigned long long at, unsigned long long value)
{
	tracer_read(b->pid, at, &b->value[b->puts], sizeof value);
	b->at[b->puts++] = at;
	write_memory(b->pid, at, &value, sizeof value);
}

/* A vector of len parts, whose length lies at len_at (0: it is the third argument), loses all but the first part that has octets, or
 * the half of that. Returns 0 if there is no more than one octet. */
static int
shorten_vector(pid_t pid, unsigned long long at, size_t len, unsigned long long len_at)
{
	struct iovec v[VECTOR_MAX];
	size_t i = 0, all = 0;

	len = len < VECTOR_MAX ? len : VECTOR_MAX;
	if (tracer_read(pid, at, v, len * sizeof *v) < len * sizeof *v)
		return 0;
	for (size_t j = 0; j < len; j++)
		all += v[j].iov_len;
	while (i < len && !v[i].iov_len)
		i++;
	if (all < 2)
		return 0;
	if (v[i].iov_len == all)
		lend(wait_for_end(pid), at + i * sizeof *v + offsetof(struct iovec, iov_len), all / 2);
	else if (len_at)
		lend(wait_for_end(pid), len_at, i + 1);
	else
		set_argument(pid, 3, i + 1);
	return 1;
}

/* Returns 0 if the call cannot be shorter. */
static int
shorten(const struct tracer_call *c)
{
	struct msghdr msg;

	switch (c->nr) {
	case SYS_readv:
	case SYS_writev:
		return shorten_vector(c->pid, c->args[1], c->args[2], 0);
	case SYS_sendmsg:
	case SYS_recvmsg:
		return tracer_read(c->pid, c->args[1], &msg, sizeof msg) == sizeof msg &&
		    shorten_vector(c->pid, (uintptr_t)msg.msg_iov, msg.msg_iovlen, c->args[1] + offsetof(struct msghdr, msg_iovlen));
	default:
		if (c->args[2] < 2)
			return 0;
		set_argument(c->pid, 3, c->args[2] / 2);
		return 1;
	}
}

static uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void
hold(pid_t pid)
{
	struct itimerval turn = { .it_interval.tv_usec = HOLD_TURN_US, .it_value.tv_usec = HOLD_TURN_US };

	if (held_len == HELD_MAX)
		tracer_trouble("too many calls are held");
	held[held_len].pid = pid;
	held[held_len++].until = now_ms() + fault.number;
	setitimer(ITIMER_REAL, &turn, NULL);
}

/* A connection of which a call says that it is gone is gone. */
static void
cut(const struct tracer_call *c)
{
	int copy = borrow(c->pid, (int)c->args[0]);

	shutdown(copy, SHUT_RDWR);
	close(copy);
}

/* The call fails. Of brk the kernel says so by the end of the memory as it was, as it does when it is asked for address 0. Returns how the
 * process goes on. */
static int
fail(const struct tracer_call *c)
{
	if (c->nr != SYS_brk) {
		answer(c->pid, -(long)fault.number);
		return PTRACE_CONT;
	}
	set_argument(c->pid, 1, 0);
	wait_for_end(c->pid)->first = c->args[0];
	return PTRACE_SYSCALL;
}

/* Where the pages end that brk has got; 0 if it has none. */
static unsigned long long
heap_end(pid_t pid)
{
	char path[64], line[PATH_MAX + 128];
	unsigned long long end, found = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "[heap]") && sscanf(line, "%*x-%llx", &end) == 1)
			found = end;
	if (f)
		fclose(f);
	return found;
}

/* EAGAIN is for descriptors that do not wait, a lack of room for an open that makes a file, of memory for a brk that takes a page more. */
static int
can_be(const struct tracer_call *c)
{
	int flags = c->nr == SYS_sendmsg || c->nr == SYS_recvmsg ? (int)c->args[2] : c->nr == SYS_sendto || c->nr == SYS_recvfrom ? (int)c->args[3] : 0;
	char path[64];
	unsigned int mode = 0;
	FILE *f;

	if (c->nr == SYS_brk)
		return c->args[0] > heap_end(c->pid);
	if (fault.number == ENOSPC || fault.number == EDQUOT)
		return !is_open(c) || makes_file(c);
	if (fault.number != EAGAIN || (c->nr != SYS_read && c->nr != SYS_write && c->nr != SYS_writev && c->nr != SYS_connect &&
	    c->nr != SYS_sendmsg && c->nr != SYS_recvmsg && c->nr != SYS_sendto && c->nr != SYS_recvfrom))
		return 1;
	snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", c->pid, (int)c->args[0]);
	f = fopen(path, "re");
	if (f && fscanf(f, "pos: %*s flags: %o", &mode) != 1)
		mode = 0;
	if (f)
		fclose(f);
	return mode & O_NONBLOCK || flags & MSG_DONTWAIT;
}

static void
spare(const char *name, const struct tracer_call *c)
{
	say("spared", name, c);
	tracer_go_on(c->pid, PTRACE_CONT, 0);
}

/* A process stands before a call. */
static void
strike(const char *name, const struct tracer_call *c)
{
	int request = PTRACE_CONT;

	if (!can_be(c)) {
		spare(name, c);
		return;
	}
	if (!strcmp(fault.what, "short")) {
		size_t before = busy_len;

		if (!shorten(c)) {
			spare(name, c);
			return;
		}
		request = busy_len > before ? PTRACE_SYSCALL : PTRACE_CONT;
	}
	say("struck", name, c);
	if (fault.number == EPIPE || fault.number == ECONNRESET)
		cut(c);
	if (!strcmp(fault.what, "error"))
		request = fail(c);
	else if (!strcmp(fault.what, "late")) {
		wait_for_end(c->pid)->result = -(long)fault.number;
		request = PTRACE_SYSCALL;
	} else if (!strcmp(fault.what, "kill"))
		kill(c->pid, SIGKILL);
	else if (!strcmp(fault.what, "hold")) {
		hold(c->pid);
		return;
	}
	tracer_go_on(c->pid, request, 0);
}

static void
begin(pid_t pid)
{
	char name[TRACER_NAME_MAX], called[LABEL_MAX];
	struct tracer_call c;

	if (!tracer_call(&c, pid))
		return;	/* it was killed */
	if (clock_path && is_clock(&c)) {
		tell_time(&c);
		tracer_go_on(pid, PTRACE_CONT, 0);
		return;
	}
	tracer_name(name, pid);
	if (!fault.program[0])
		say("call", name, &c);
	else if (fault.is_on && !is_over && !strcmp(name, fault.program)) {
		label(called, &c);
		count += is_meant(called, "+") ? 1 : 0;
		if (is_meant(called, "+") && count >= fault.first && (!fault.last || count <= fault.last)) {
			strike(name, &c);
			return;
		}
	}
	tracer_go_on(pid, PTRACE_CONT, 0);
}

static struct busy *
find_busy(pid_t pid)
{
	for (size_t i = 0; i < busy_len; i++)
		if (busy[i].pid == pid)
			return &busy[i];
	return NULL;
}

static void
finish(pid_t pid)
{
	struct busy *b = find_busy(pid);

	if (b) {
		for (int i = 0; i < b->puts; i++)
			write_memory(pid, b->at[i], &b->value[i], sizeof b->value[i]);
		if (b->result)
			set_result(pid, b->result);
		if (b->first)
			set_argument(pid, 1, b->first);
		*b = busy[--busy_len];
	}
	tracer_go_on(pid, PTRACE_CONT, 0);
}

static void
release(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < held_len; i++)
		if (is_over || held[i].until <= now_ms())
			tracer_go_on(held[i].pid, PTRACE_CONT, 0);
		else
			held[kept++] = held[i];
	held_len = kept;
	if (!held_len)
		setitimer(ITIMER_REAL, &(struct itimerval){ .it_value.tv_usec = 0 }, NULL);
}

static void
gone(pid_t pid)
{
	struct busy *b = find_busy(pid);

	if (b)
		*b = busy[--busy_len];
	for (size_t i = 0; i < held_len; i++)
		if (held[i].pid == pid)
			held[i] = held[--held_len];
}

static int
is_crash(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGABRT || sig == SIGSYS;
}

static void
say_crash(const char *name, int sig)
{
	fprintf(log_file, "signal %s %d\n", name, sig);
	fflush(log_file);
}

static void
stopped(pid_t pid, int status)
{
	char name[TRACER_NAME_MAX];

	if (status >> 16 == PTRACE_EVENT_EXEC && clock_path)
		hide_vdso(pid);
	if (!(status >> 16) && is_crash(WSTOPSIG(status))) {
		tracer_name(name, pid);
		say_crash(name, WSTOPSIG(status));
	}
	switch (tracer_why(status)) {
	case TRACER_BEFORE:
		begin(pid);
		break;
	case TRACER_AFTER:
		finish(pid);
		break;
	default:
		tracer_pass(pid, status, find_busy(pid) ? PTRACE_SYSCALL : PTRACE_CONT);
	}
}

/* --- the program --------------------------------------------------------------------------------------------------------- */

static void
over(int sig)
{
	(void)sig;
	is_over = 1;
}

/* SIGALRM comes also from hold's timer, which is for this process. */
static void
pass_on(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (first > 0 && info->si_code != SI_KERNEL)
		kill(first, sig);
}

static void
catch_signals(void)
{
	struct sigaction end = { .sa_handler = over }, pass = { .sa_sigaction = pass_on, .sa_flags = SA_SIGINFO };

	sigaction(SIGUSR1, &end, NULL);
	sigaction(SIGTERM, &pass, NULL);
	sigaction(SIGALRM, &pass, NULL);
	sigaction(SIGHUP, &pass, NULL);
}

/* The calls that stop a process: those of the fault, or all. */
static size_t
choose(int calls[TRACER_CALLS_MAX])
{
	size_t n = 0;

	for (int i = 0; i < KNOWN; i++)
		if (!fault.program[0] || is_meant(known[i].name, "+:"))
			calls[n++] = known[i].nr;
	if (fault.program[0] && !n)
		return 0;
	if (clock_path) {
		calls[n++] = SYS_clock_gettime;
		calls[n++] = SYS_gettimeofday;
#ifdef SYS_time
		calls[n++] = SYS_time;
#endif
	}
	return n;
}

int
main(int argc, char **argv)
{
	int calls[TRACER_CALLS_MAX], status, code = TRACER_TROUBLE;
	size_t n;
	pid_t pid;

	if (argc < 4 || (strcmp(argv[2], "-") &&
	    sscanf(argv[2], "%63s %255s %lu %lu %15s %lu", fault.program, fault.calls, &fault.first, &fault.last, fault.what, &fault.number) < 5))
		return EXIT_USAGE;
	fault.is_on = 1;
	clock_path = getenv("INJECT_CLOCK");
	n = choose(calls);
	if (!n)
		return EXIT_USAGE;
	log_file = fopen(argv[1], "ae");
	if (!log_file)
		tracer_trouble(argv[1]);
	catch_signals();
	first = tracer_start(argv + 3, calls, n, PTRACE_O_TRACEEXEC);
	for (;;) {
		pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno != EINTR)
			return code;
		release();
		if (pid < 0)
			continue;
		if (WIFSTOPPED(status)) {
			stopped(pid, status);
			continue;
		}
		gone(pid);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)	/* by a filter: no stop tells of it */
			say_crash("?", SIGSYS);
		if (pid == first)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL + WTERMSIG(status);
	}
}
