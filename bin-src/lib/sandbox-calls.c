/* sandbox-calls: prints the filters that bin-src/lib/sandbox.h names, as C. It runs while tambo is built: libseccomp needs
 * 0.5 ms to compile a filter in a process that just started, more than qmail-queue needs for all its work.
 * To see what a filter says: build/sandbox-calls NAME prints it as libseccomp's pseudo code. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sets of system calls. */
enum {
	FILES_READ = 1 << 0,	/* open for reading, list directories, change directory */
	FILES_WRITE = 1 << 1,	/* the same, and make, change, flush, rename, remove, lock files */
	SOCKET_IO = 1 << 2,	/* messages and descriptors over connected sockets */
	CONNECT = 1 << 3,	/* the same, and make a Unix socket and connect it */
	ACCEPT = 1 << 4,	/* the same as SOCKET_IO, and accept on a socket that listens already */
	CHILDREN = 1 << 5,	/* fork (into no new namespace), pipes, wait, signals */
	EPOLL = 1 << 6,		/* wait by epoll */
	INTERNET = 1 << 7,	/* the same as SOCKET_IO, and make an internet socket and connect it */
	SESSION = 1 << 8,	/* time limits of sockets that are open; pairs of Unix sockets */
	MAILDROP = 1 << 9,	/* open for reading, list, move and remove files; a connection that is open */
	NODELAY = 1 << 10,	/* sending by TCP without delay */
	FETCH = 1 << 11,	/* what libcurl takes beside connections */
};

/* The filters, by the kind of program; sandbox.h says who uses which. */
static const struct filter {
	const char *name;
	unsigned int sets;
} filters[] = {
	{ "sandbox_client", CONNECT },
	{ "sandbox_reader", FILES_READ },
	{ "sandbox_scheduler", FILES_READ | CONNECT | CHILDREN | EPOLL },
	{ "sandbox_keeper", FILES_WRITE | ACCEPT | CHILDREN | EPOLL },
	{ "sandbox_lookup", FILES_READ | ACCEPT | EPOLL },
	{ "sandbox_remote", FILES_READ | INTERNET },
	{ "sandbox_session", CONNECT | SESSION },
	{ "sandbox_login", CONNECT | SESSION | NODELAY },
	{ "sandbox_maildrop", MAILDROP },
	{ "sandbox_signer", ACCEPT | EPOLL },
	{ "sandbox_tunnel", SOCKET_IO | NODELAY },
	{ "sandbox_policies", FILES_WRITE | ACCEPT | SESSION },
	{ "sandbox_fetcher", INTERNET | FETCH },
};

#define ALWAYS (~0u)
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define CALL(name) SCMP_SYS(name)
#define END INT_MIN	/* of a list: system calls that a machine does not have are negative numbers as well */

/* Calls that are allowed whatever their arguments, by the sets that need them. */
static const struct allowed {
	unsigned int sets;	/* in any of these */
	int calls[24];
} allowed[] = {
	/* descriptors that are open */
	{ ALWAYS, { CALL(read), CALL(readv), CALL(pread64), CALL(write), CALL(writev), CALL(close), CALL(lseek), CALL(fstat),
	    END } },
	/* waiting and the clock */
	{ ALWAYS, { CALL(poll), CALL(ppoll), CALL(clock_gettime), CALL(gettimeofday), CALL(time), CALL(nanosleep),
	    CALL(clock_nanosleep), CALL(alarm), CALL(setitimer), CALL(restart_syscall), END } },
	/* lib/lingering.h */
	{ ALWAYS, { CALL(timer_create), CALL(timer_settime), END } },
	/* memory; qsort of glibc 2.36 asks sysinfo how much there is */
	{ ALWAYS, { CALL(brk), CALL(munmap), CALL(mremap), CALL(madvise), CALL(futex), CALL(getrandom), CALL(sysinfo), END } },
	/* the process itself */
	{ ALWAYS, { CALL(getpid), CALL(gettid), CALL(getppid), CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid),
	    CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(exit), CALL(exit_group), END } },

	{ FILES_READ | FILES_WRITE, { CALL(stat), CALL(lstat), CALL(newfstatat), CALL(access), CALL(faccessat),
	    CALL(readlink), CALL(readlinkat), CALL(getdents64), CALL(fadvise64), CALL(chdir), CALL(fchdir), CALL(getcwd),
	    CALL(preadv), END } },
	{ FILES_WRITE, { CALL(open), CALL(openat), CALL(pwrite64), CALL(pwritev), CALL(ftruncate), CALL(fallocate),
	    CALL(fsync), CALL(fdatasync), CALL(syncfs), CALL(fchmod), CALL(umask), CALL(flock), END } },
	{ FILES_WRITE, { CALL(mkdir), CALL(mkdirat), CALL(rmdir), CALL(unlink), CALL(unlinkat), CALL(rename),
	    CALL(renameat), CALL(renameat2), CALL(link), CALL(linkat), END } },

	{ MAILDROP, { CALL(newfstatat), CALL(getdents64), CALL(unlinkat), CALL(renameat), CALL(renameat2), CALL(linkat),
	    CALL(shutdown), END } },

	{ SOCKET_IO | CONNECT | ACCEPT | INTERNET, { CALL(sendmsg), CALL(recvmsg), CALL(sendto), CALL(recvfrom),
	    CALL(shutdown), CALL(getsockopt), END } },
	{ CONNECT | INTERNET, { CALL(connect), END } },
	/* an own address to connect from; c-ares of Debian 13 sets options and asks for its own address */
	{ INTERNET, { CALL(bind), CALL(setsockopt), CALL(getsockname), CALL(getpeername), END } },
	{ ACCEPT, { CALL(accept), CALL(accept4), END } },

	/* how libcurl wakes itself up, in Debian 13 */
	{ FETCH, { CALL(eventfd2), END } },

	{ EPOLL, { CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_ctl), END } },

	/* set_robust_list: glibc, in the child of a fork */
	{ CHILDREN, { CALL(fork), CALL(vfork), CALL(set_robust_list), CALL(wait4), CALL(waitid), CALL(kill), CALL(pipe),
	    CALL(pipe2), CALL(dup), CALL(dup2), CALL(dup3), END } },
};

/* Calls that are allowed if an argument, masked, has a value. */
static const struct limited {
	unsigned int sets;
	int call;
	unsigned int argument;
	uint64_t mask, value;
} limited[] = {
	{ ALWAYS, CALL(mmap), 2, PROT_EXEC, 0 },
	/* not F_SETOWN and F_SETSIG, by which a socket sends any signal to every process of the user, nor leases */
	{ ALWAYS, CALL(fcntl), 1, UINT32_MAX, F_DUPFD },
	{ ALWAYS, CALL(fcntl), 1, UINT32_MAX, F_DUPFD_CLOEXEC },
	{ ALWAYS, CALL(fcntl), 1, UINT32_MAX, F_GETFD },
	{ ALWAYS, CALL(fcntl), 1, UINT32_MAX, F_SETFD },
	{ ALWAYS, CALL(fcntl), 1, UINT32_MAX, F_GETFL },
	{ ALWAYS, CALL(fcntl), 1, UINT32_MAX, F_SETFL },
	{ ALWAYS, CALL(newfstatat), 3, AT_EMPTY_PATH, AT_EMPTY_PATH },	/* fstat of glibc 2.36 */
	{ ALWAYS, CALL(ioctl), 1, UINT32_MAX, TCGETS },	/* isatty */
	{ ALWAYS, CALL(ioctl), 1, UINT32_MAX, TCGETS2 },	/* isatty of a newer glibc */
	{ ALWAYS, CALL(prlimit64), 2, UINT64_MAX, 0 },	/* asking, not changing */
	{ FILES_READ, CALL(open), 1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY },
	{ FILES_READ | MAILDROP, CALL(openat), 2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY },
	{ MAILDROP, CALL(setsockopt), 1, UINT32_MAX, SOL_SOCKET },
	{ MAILDROP, CALL(setsockopt), 1, UINT32_MAX, IPPROTO_TCP },
	{ CONNECT, CALL(socket), 0, UINT32_MAX, AF_UNIX },
	{ INTERNET, CALL(socket), 0, UINT32_MAX, AF_INET },
	{ INTERNET, CALL(socket), 0, UINT32_MAX, AF_INET6 },
	{ SESSION, CALL(setsockopt), 1, UINT32_MAX, SOL_SOCKET },
	{ NODELAY, CALL(setsockopt), 2, UINT32_MAX, TCP_NODELAY },
	{ SESSION, CALL(socketpair), 0, UINT32_MAX, AF_UNIX },
	{ CHILDREN, CALL(clone), 0, NAMESPACES, 0 },
	{ CHILDREN | FETCH, CALL(socketpair), 0, UINT32_MAX, AF_UNIX },
	{ CHILDREN, CALL(prctl), 0, UINT32_MAX, PR_SET_PDEATHSIG },
};

/* What a libc tries first and does without where the kernel does not have it. */
static const int absent[] = {
	CALL(clone3), CALL(rseq), CALL(statx), CALL(openat2), CALL(close_range), CALL(faccessat2),
};

static int
is_in(unsigned int sets, unsigned int wanted)
{
	return sets == ALWAYS || sets & wanted;
}

static void
die(const char *what, int error)
{
	fprintf(stderr, "sandbox-calls: %s: %s\n", what, strerror(error));
	exit(111);
}

static void
add(scmp_filter_ctx context, uint32_t action, int call, unsigned int conditions, const struct scmp_arg_cmp *condition)
{
	int r = seccomp_rule_add_array(context, action, call, conditions, condition);

	if (r < 0)
		die("unable to add a rule", -r);
}

/* The filter that allows the sets. */
static scmp_filter_ctx
compile(unsigned int sets)
{
	scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);

	/* a tree: the kernel runs the filter for each of its 450 calls when it is loaded (0.05 ms less) */
	if (!context || seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		die("unable to make a filter", ENOMEM);
	for (const struct allowed *a = allowed; a < allowed + sizeof allowed / sizeof *allowed; a++)
		for (const int *call = a->calls; is_in(a->sets, sets) && *call != END; call++)
			add(context, SCMP_ACT_ALLOW, *call, 0, NULL);
	for (const struct limited *l = limited; l < limited + sizeof limited / sizeof *limited; l++) {
		struct scmp_arg_cmp condition = { l->argument, SCMP_CMP_MASKED_EQ, l->mask, l->value };

		if (is_in(l->sets, sets))
			add(context, SCMP_ACT_ALLOW, l->call, 1, &condition);
	}
	for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
		add(context, SCMP_ACT_ERRNO(ENOSYS), absent[i], 0, NULL);
	return context;
}

/* Prints a filter as a definition of struct sandbox_filter. */
static void
print(const struct filter *filter)
{
	scmp_filter_ctx context = compile(filter->sets);
	FILE *file = tmpfile();
	struct sock_filter code;
	int r;

	if (!file)
		die("unable to make a temporary file", errno);
	r = seccomp_export_bpf(context, fileno(file));
	if (r < 0)
		die("unable to export a filter", -r);
	seccomp_release(context);
	rewind(file);
	printf("static const struct sock_filter code_%s[] = {\n", filter->name);
	while (fread(&code, sizeof code, 1, file) == 1)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", code.code, code.jt, code.jf, code.k);
	printf("};\nconst struct sandbox_filter %s = { sizeof code_%s / sizeof *code_%s, code_%s };\n",
	    filter->name, filter->name, filter->name, filter->name);
	if (ferror(file) || fclose(file) != 0)
		die("unable to read a temporary file", errno);
}

int
main(int argc, char **argv)
{
	for (const struct filter *f = filters; f < filters + sizeof filters / sizeof *filters; f++)
		if (argc < 2)
			print(f);
		else if (strcmp(argv[1], f->name) == 0)
			seccomp_export_pfc(compile(f->sets), STDOUT_FILENO);
	if (fflush(stdout) != 0)
		die("unable to write", errno);
	return 0;
}
