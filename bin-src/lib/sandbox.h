/* sandbox: a program shuts itself in before it reads the first octet of somebody else's.
 * What it does    no_new_privs; a seccomp filter of the system calls that the program needs, all others kill the process
 *                 (SIGSYS: to the parent a crash, so a temporary failure); Landlock, which leaves only the named paths,
 *                 nothing to execute, no TCP unless network is set, no abstract socket and no signal to a process outside;
 *                 resource limits
 * Not restricted  descriptors that are open already; whether a path exists (stat); connecting to a Unix socket that has
 *                 a name, which the modes of its directory decide
 * For ever        it cannot be undone and passes on to children. So what is shut in starts nobody's programs: no filter
 *                 allows execve. What has to run a program that the administrator or a user chose does not enter
 * Where it fails  on a kernel or in a container without Landlock or without seccomp the program runs without, and a
 *                 daemon says so once (sandbox_warn); qmail-showctl says what this machine has. A program built with
 *                 ASan gets no filter, because the sanitizer needs calls of its own, and says so the same way
 * Before          what libc reads at the first call of something: tzset() where a date is computed (gmtime, too), name
 *                 service, locale
 * Which libc      glibc 2.36 and 2.41, static and dynamic; what a libc tries first and can do without gets ENOSYS
 * Cost            0.1 ms, half of it the kernel's for the smallest filter there can be: a server that forks for each
 *                 connection enters in the child, a kept worker once */
#ifndef SANDBOX_H
#define SANDBOX_H
#include <stdint.h>

enum { SANDBOX_PATHS_MAX = 4 };

struct sock_filter;
struct sandbox_filter {
	unsigned short len;
	const struct sock_filter *code;
};

/* The filters. All allow: read and write on open descriptors, and closing them; waiting (poll), the clock, sleeping,
 * alarms; memory, but never executable; random numbers; signal handlers; one's own ids; exit. sandbox-calls.c is the
 * list; a program links only the filter that it names. */
extern const struct sandbox_filter
	sandbox_client,		/* Unix sockets: make, connect, talk (qmail-queue, qmail-inject, qmail-qread, splogger) */
	sandbox_reader,		/* files: open for reading, list */
	sandbox_lookup,		/* the same, and accept, talk, epoll (qmail-rcptd) */
	sandbox_scheduler,	/* files to read, Unix sockets, and fork, pipes, wait, epoll (qmail-send) */
	sandbox_session,	/* the same as sandbox_client, time limits of open sockets, and pairs of sockets (qmail-smtpd) */
	sandbox_login,		/* the same, and sending by TCP without delay (qmail-popup) */
	sandbox_maildrop,	/* files: open for reading, list, move and remove; time limits of open sockets (qmail-pop3d) */
	sandbox_signer,		/* accept, talk, epoll (qmail-keyd) */
	sandbox_tunnel,		/* connected sockets: talk, by TCP without delay (qmail-tlsd) */
	sandbox_remote,		/* internet sockets: make, bind, connect, talk; files: open for reading (qmail-remote, qmail-route) */
	sandbox_policies,	/* files as the next; accept, talk, and pairs of sockets (qmail-mtastsd) */
	sandbox_fetcher,	/* internet sockets, as libcurl uses them (qmail-mtastsfetch) */
	sandbox_keeper;		/* files: make, change, rename, remove, flush; accept, talk, epoll; fork (qmail-queued) */

struct sandbox {
	const struct sandbox_filter *calls;
	/* Paths, relative to the current directory or absolute; NULL ends a list. What does not exist at the call stays out
	 * of reach. Below a directory everything counts. */
	const char *read[SANDBOX_PATHS_MAX];	/* to read; of a directory's entries, symbolic links are followed */
	const char *write[SANDBOX_PATHS_MAX];	/* to read, make, change and remove */
	const char *move[SANDBOX_PATHS_MAX];	/* directories: files to read and remove, and to rename and link from one to another */
	const char *remove[SANDBOX_PATHS_MAX];	/* directories: to list, files to remove */
	int network;	/* 1: Landlock lets it connect by TCP; the filter has to as well */
	unsigned int files;	/* limit of descriptors, 0: as it is */
	uint64_t memory;	/* limit of address space in octets, 0: as it is */
	uint64_t file_size;	/* limit of the size of a file written, in octets, 0: as it is */
};

/* For memory: no limit in a build with ASan, which reserves address space by the terabyte. */
#ifdef __SANITIZE_ADDRESS__
#define SANDBOX_MEMORY(octets) 0
#else
#define SANDBOX_MEMORY(octets) (octets)
#endif

/* What sandbox_enter could not do. */
enum sandbox_lack { SANDBOX_NO_FILTER = 1 << 0, SANDBOX_NO_LANDLOCK = 1 << 1 };

/* Shuts the process in; it has one thread. Returns 0, or the bits of enum sandbox_lack that this machine does not have;
 * -1 with errno set on trouble such as ENOMEM or EMFILE: nothing may be relied upon, the caller ends with EXIT_TEMP. */
int sandbox_enter(const struct sandbox *s);

/* Says on descriptor 2 in one line, through strerr and so with PROG, what lacks; nothing if lack is 0 or -1. */
void sandbox_warn(int lack);

/* The version of Landlock's interface in this kernel, 0 if there is none or it is switched off. */
int sandbox_landlock_abi(void);

/* 1 if this kernel takes seccomp filters that kill the process. */
int sandbox_has_seccomp(void);

#endif
